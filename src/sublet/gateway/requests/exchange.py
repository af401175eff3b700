"""One request from its admission to its last byte: a small state machine between the client's and the engine's connection.

What the engine says comes through an `Attempt`, and becomes what the client gets in a `Reply`; what is billed stands in an
`Entry`. Who is asked after a failure is decided in another.py, what becomes of a request as time passes in deadlines.py.
"""

from __future__ import annotations

from typing import Protocol, cast

from sublet.gateway.front.client import Client
from sublet.gateway.limits.sharing import Claim
from sublet.gateway.limits.telling import told
from sublet.gateway.metering.estimate import BYTES_PER_TOKEN
from sublet.gateway.metering.records import CLIENT_GONE
from sublet.gateway.model import KeyGrant, ModelRoute
from sublet.gateway.refusals import InvalidApiKeyError, JournalError
from sublet.gateway.requests import another, deadlines
from sublet.gateway.requests.admission import KeyState, ReplicaState
from sublet.gateway.requests.affinity import prefix_of
from sublet.gateway.requests.allowances import BudgetAllowance
from sublet.gateway.requests.call import Call
from sublet.gateway.requests.deadlines import ASKING, CLOSING, HOLDING, OVER, QUEUED, State
from sublet.gateway.requests.entry import Entry
from sublet.gateway.requests.fair import Seat
from sublet.gateway.requests.host import Host
from sublet.gateway.requests.reply import Reply
from sublet.gateway.surfaces.surface import Allowance, Identity, StreamForm, Surface
from sublet.gateway.upstream.attempt import Attempt
from sublet.values.errors import SubletError

_KEPT, _NOT_KEPT = b'"store":true,"truncation":', b'"store":false,"truncation":'
ANSWER_TOKENS = 256
"""What an answer is taken to have that nobody bounded, when load is compared."""


class KeepingForm(Protocol):
    """A stream whose answer may be kept."""

    final: bytes
    """The whole answer, once `end` was called."""


class CountedSurface(Protocol):
    """A surface that tells the counts of a whole answer in its headers. A surface need not be one; one that has `counted_headers` is
    taken for one."""

    def counted_headers(self, call: Call) -> bytes:
        """The headers of an answer that is complete."""
        ...


class Exchange:
    """A request under way. Every way out goes through `settle`, once: it gives back the slot and the key's count, and
    writes the record that bills what the client got."""

    __slots__ = (
        "_entry",
        "_error",
        "_gone",
        "_head_sent",
        "_key_state",
        "_queue",
        "allowance",
        "asked",
        "attempt",
        "attempts",
        "body_bytes",
        "call",
        "claim",
        "client",
        "first_at",
        "gateway",
        "grant",
        "held",
        "hold",
        "identity",
        "last_at",
        "load",
        "model",
        "most_nano",
        "queue_s",
        "reply",
        "retried",
        "seat",
        "sequence",
        "settings",
        "stalled_at",
        "started_at",
        "started_us",
        "state",
        "surface",
        "tried",
    )

    def __init__(
        self,
        gateway: Host,
        client: Client,
        surface: Surface,
        call: Call,
        model: ModelRoute,
        grant: KeyGrant,
        key_state: KeyState,
        now: float,
        body_bytes: int = 0,
    ) -> None:
        self.gateway = gateway
        self.settings = gateway.limits_of(model.name)
        self.client = client
        self.surface = surface
        self.call = call
        self.model = model
        self.grant = grant
        self.body_bytes = body_bytes
        self._key_state = key_state
        self.started_at = self.last_at = now
        self.started_us = gateway.now_us()
        self.sequence, request_id = gateway.next_request_id()
        self.identity = Identity(request_id, model.name, self.started_us // 1_000_000)
        self.reply = Reply(surface, call, self.identity)
        self._entry = Entry(gateway)
        self.first_at = self.queue_s = self.stalled_at = 0.0
        self.state: State = QUEUED
        self.attempt: Attempt | None = None
        self.seat: Seat | None = None
        self.attempts = self.load = 0
        self.tried: tuple[str, ...] = ()
        self.held = self.asked = self.retried = False
        self._head_sent = self._gone = False
        self._error: SubletError | None = None
        self.allowance: BudgetAllowance | None = None
        self.claim: Claim | None = None
        self.most_nano = 0
        self.hold = ""

    def serve_from(self, allowance: BudgetAllowance, most_nano: int) -> None:
        """To be called before `start`: so much was taken of an allowance for this request."""
        self.allowance, self.most_nano, self.hold = allowance, most_nano, allowance.id

    @property
    def over(self) -> bool:
        """Whether the client's answer has ended."""
        return self.state is OVER

    @property
    def tier(self) -> str:
        """FLEX, BATCH or, for the usual one, empty."""
        return self.call.tier

    @property
    def queue_s_max(self) -> float:
        """Seconds that it may wait for a slot."""
        return self.settings.flex_queue_s_max if self.call.tier else self.settings.queue_s_max

    @property
    def waiting(self) -> bool:
        """Whether no engine has been asked yet, or none answers."""
        return self.state is HOLDING or self.state is QUEUED

    def headers(self) -> bytes:
        """The headers of every answer to this request."""
        gateway = self.gateway
        limit, remaining, reset_s = gateway.admission.allowance(self._key_state)
        allowance = Allowance(limit, remaining, reset_s, self.identity.created_s + reset_s)
        if self.claim is not None:
            allowance = told(gateway.limits.standing(self.grant, self.model), self.grant, allowance, gateway.now_us())
        found = self.surface.headers(self.identity.request_id, allowance)
        if self.reply.whole and hasattr(self.surface, "counted_headers"):
            return found + cast(CountedSurface, self.surface).counted_headers(self.call)
        return found

    # Its way to an engine

    def start(self) -> None:
        """Take a slot or a place in the queue. Raises NoReplicaError or QueueFullError."""
        admission = self.gateway.admission
        self._queue = admission.queue(self.model)
        # Anyone who comes now stands behind those who wait.
        replica = None
        if admission.may_start(self.model, self.grant, self.call.tier):
            prefix = prefix_of(self.call) if len(self.model.replicas) > 1 and self.model.affinity else 0
            replica = admission.pick(self.model, self.started_at, prefix=prefix)
        if replica is None:
            admission.enqueue(self.model, self)
        self.gateway.live.add(self)
        if replica is not None:
            self._ask(replica)

    def await_limits(self) -> None:
        """Start once the claim is granted."""
        self.state = HOLDING
        self.gateway.live.add(self)

    def cleared(self, error: SubletError | None) -> None:
        """The limits that cover it let it start, or `error` says why not."""
        if self.state is not HOLDING:
            return
        if error is not None:
            self.fail(error)
            return
        self.state = QUEUED
        try:
            self.start()
        except SubletError as refused:
            self.fail(refused)

    def slot_free(self, replica: ReplicaState) -> None:
        self.queue_s = self.gateway.monotonic() - self.started_at
        self._ask(replica)

    def refused(self, error: SubletError) -> None:
        """There is nothing to wait for any more."""
        self.fail(error)

    def ask_another(self, error: SubletError, failed: str | None) -> None:
        """The attempt came to nothing, and nothing of it reached the client: ask another replica, or wait for one, or answer
        with `error`. `failed` is the replica's id where it is at fault."""
        attempt, self.attempt = self.attempt, None
        assert attempt is not None
        self._release(attempt.replica)
        self.attempts += 1
        if failed is not None:
            self.tried = (*self.tried, failed)
        found = another.replica_for(self, error, failed)
        if isinstance(found, ReplicaState):
            self._ask(found)
        elif isinstance(found, SubletError):
            self.fail(found)
        else:
            self.state = QUEUED
            self._queue.waiting.appendleft(self)

    def _ask(self, replica: ReplicaState) -> None:
        """Ask a replica, whose slot is taken."""
        self.state = ASKING
        self.last_at = self.gateway.monotonic()
        if self.gateway.admission.is_reserved(self.model, self.grant, self.call.tier):
            self.surface.reserved(self.call)
        self._queue.waiting.started(self)
        self.load = (
            self.body_bytes // BYTES_PER_TOKEN + (self.call.output_tokens_max or ANSWER_TOKENS) * self.call.answers
        )
        replica.tokens += self.load
        self.attempt = attempt = Attempt(self, replica)
        self._entry.open(self, replica.route)
        attempt.start()

    def _release(self, replica: ReplicaState) -> None:
        replica.in_flight -= 1
        replica.tokens -= self.load
        self._queue.waiting.ended(self)

    # What the attempt says

    def send_head(self) -> None:
        """Begin the client's stream, unless it has begun."""
        if not self._head_sent:
            self._head_sent = True
            self.client.answer_head(self)

    def deliver(self, data: bytes) -> None:
        """Send a part of a stream, which begins with the first one: until then an error has a status, and another replica may
        be asked."""
        if not self._head_sent:
            self.send_head()
        if self.first_at == 0.0:
            self.first_at = self.last_at
        # First counted, then sent: anyone who kills the gateway on seeing an event finds it counted.
        self._entry.count(self, self.reply.meter)
        self.client.answer_part(data)

    def answer(self) -> None:
        """The whole answer is there."""
        self.first_at = self.last_at
        self.settle(200)

    def fail(self, error: SubletError) -> None:
        """End with an error; of an answer of which no token was delivered nothing is billed, the prompt included."""
        if not self._head_sent or not self.reply.meter.output:
            self.reply.forget()
        self.settle(error.status, error, queued=not self.asked)

    # What the client does

    def client_gone(self) -> None:
        """The client closed its connection: the engine stops, and what was delivered is billed."""
        if self.state is CLOSING or self.state is OVER:
            self.state = OVER
            return
        if self.reply.form is None:
            # Nothing of a whole answer was delivered.
            self.reply.forget()
        self._gone = True
        self.settle(CLIENT_GONE)

    def client_stalled(self) -> None:
        self.stalled_at = self.gateway.monotonic()
        if self.attempt is not None:
            self.attempt.pause()

    def client_flows(self) -> None:
        self.stalled_at = 0.0
        self.last_at = self.gateway.monotonic()
        if self.attempt is not None:
            self.attempt.resume()

    def tick(self, now: float) -> None:
        """Called about twice a second."""
        deadlines.check(self, now)

    def revoke(self) -> None:
        """Its key is no longer valid: the engine stops, what was delivered is billed, and the client is told."""
        if self.state is not CLOSING and self.state is not OVER:
            self.fail(InvalidApiKeyError("The API key was revoked or has expired while this answer was under way"))

    def stop(self) -> None:
        """The gateway ends: what was delivered is billed, the client's connection is cut."""
        if self.state is not CLOSING and self.state is not OVER:
            self.client.cut()
            self.client_gone()

    # The end

    def settle(self, status: int, error: SubletError | None = None, *, queued: bool = False) -> None:
        """Give everything back, record what was delivered, and end the client's answer once that is durable."""
        gateway = self.gateway
        now = gateway.monotonic()
        if self.state is QUEUED:
            self._queue.waiting.discard(self)
        self.state = CLOSING
        self._error = error
        gateway.live.discard(self)
        if queued and error is not None:
            gateway.admission.refund(self._key_state)
        else:
            gateway.admission.leave(self._key_state)
        attempt, reply = self.attempt, self.reply
        if attempt is not None:
            attempt.stop(at_once=status != 200)
            self._release(attempt.replica)
            if status == 200:
                self._queue.note_service(now - self.started_at - self.queue_s)
            if self._queue.waiting:
                gateway.admission.serve_queue(gateway.snapshot.models.get(self.model.name, self.model), now)
        if self.first_at and reply.form is not None and (error is None or reply.meter.output):
            reply.meter.finish(self.call)
        gateway.metrics.ended(self, status, now)
        if self._entry.opened:
            self._close(status, delivered=status == CLIENT_GONE or reply.form is not None or error is not None)
        if self.claim is not None:
            self._settle_claim(self.claim)
        if self.allowance is not None:
            # Behind its record: what closes an allowance comes after all that names it.
            self.allowance.back(self.most_nano, reply.meter if self._entry.opened else None)
        if not self._entry.opened:
            self._finish(ok=True)

    def _settle_claim(self, claim: Claim) -> None:
        meter = self.reply.meter
        if self.asked or meter.output:
            claim.settle(meter.input, meter.output)
            self.gateway.limits.note_answer(self.model.name, meter.output)
        else:
            claim.back()

    def _close(self, status: int, *, delivered: bool) -> None:
        """Write the record; `_finish` is told when it is durable."""
        self._entry.settle(self, status, self._error, self._finish, keep=delivered)

    def _finish(self, ok: bool) -> None:
        """The record is durable, or can't be made so (`ok` False): end the client's answer accordingly."""
        if self.attempt is not None:
            self.attempt.close()
        if self.state is OVER or self._gone:
            return
        error = self._error
        if not ok and error is None:
            error = JournalError()
        # One that is to be kept ends once it is.
        self.state = OVER if error is not None or self.call.kept is None else CLOSING
        form = self.reply.form
        if error is None:
            self._end(form)
        elif self._head_sent:
            assert form is not None
            self.client.answer_part(form.failure(error))
            self.client.answer_end(complete=False)
        else:
            self.client.refuse(error, self)

    def _end(self, form: StreamForm | None) -> None:
        """Tell the end of a complete answer; one that is to be kept once it is."""
        last = form.end() if form is not None else self.reply.whole
        if self.call.kept is None:
            self._tell_end(form, last)
            return
        body = last if form is None else cast(KeepingForm, form).final

        def kept(ok: bool) -> None:
            if self.state is CLOSING and not self._gone:
                self.state = OVER
                self._tell_end(form, last if ok else last.replace(_KEPT, _NOT_KEPT))

        self.gateway.keep(self, body, kept)

    def _tell_end(self, form: StreamForm | None, last: bytes) -> None:
        if form is None:
            self.reply.whole = last
            self.client.answer_whole(self, last)
            return
        self.send_head()
        self.client.answer_part(last)
        self.client.answer_end(complete=True)
