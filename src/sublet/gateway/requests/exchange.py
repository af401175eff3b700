"""One request from its admission to its last byte: a small state machine between the client's and the engine's connection.

What the engine says comes through an `Attempt`, and becomes what the client gets in a `Reply`.
"""

from __future__ import annotations

from sublet.gateway.front.client import Client
from sublet.gateway.metering.journal import Record
from sublet.gateway.metering.meter import Meter
from sublet.gateway.metering.records import CLIENT_GONE, closing, opening
from sublet.gateway.model import KeyGrant, ModelRoute
from sublet.gateway.refusals import (
    EngineBusyError,
    EngineTimeoutError,
    EngineUnreachableError,
    JournalError,
    NoReplicaError,
    QueueTimeoutError,
)
from sublet.gateway.requests.admission import KeyState, ReplicaState
from sublet.gateway.requests.call import Call
from sublet.gateway.requests.fair import Seat
from sublet.gateway.requests.host import Host
from sublet.gateway.requests.reply import Reply
from sublet.gateway.surfaces.surface import Allowance, Identity, Surface
from sublet.gateway.upstream.attempt import Attempt
from sublet.values.errors import SubletError

HOLDING, QUEUED, ASKING, CLOSING, OVER = range(5)

ATTEMPTS_MAX = 3


class Exchange:
    """A request under way. Every way out goes through `settle`, once: it gives back the slot and the key's count, and
    writes the record that bills what the client got."""

    __slots__ = (
        "_attempt",
        "_head_sent",
        "_key_state",
        "_reserved",
        "_reserved_for",
        "_slot",
        "_status",
        "asked",
        "attempts",
        "body_bytes",
        "call",
        "client",
        "first_at",
        "gateway",
        "grant",
        "held",
        "identity",
        "last_at",
        "model",
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
        self.first_at = self.queue_s = self.stalled_at = 0.0
        self.state = QUEUED
        self._status = 0
        self._slot = -1
        self._reserved_for = ""
        self._attempt: Attempt | None = None
        self.seat: Seat | None = None
        self.attempts = 0
        self.tried: tuple[str, ...] = ()
        self.held = self.asked = self.retried = False
        self._head_sent = self._reserved = False

    @property
    def over(self) -> bool:
        """Whether the client's answer has ended."""
        return self.state == OVER

    def headers(self) -> bytes:
        """The headers of every answer to this request."""
        limit, remaining, reset_s = self.gateway.admission.allowance(self._key_state)
        allowance = Allowance(limit, remaining, reset_s, self.identity.created_s + reset_s)
        return self.surface.headers(self.identity.request_id, allowance)

    @property
    def waiting(self) -> bool:
        """Whether no engine has been asked yet, or none answers."""
        return self.state in (HOLDING, QUEUED)

    # Admission

    def start(self) -> None:
        """Take a slot or a place in the queue. Raises NoReplicaError or QueueFullError."""
        admission = self.gateway.admission
        # Anyone who comes now stands behind those who wait.
        waits = admission.waiting(self.model.name) > 0
        replica = None if waits else admission.pick(self.model, self.started_at)
        if replica is None:
            admission.enqueue(self.model, self)
        self.gateway.live.add(self)
        if replica is not None:
            self._ask(replica)

    def slot_free(self, replica: ReplicaState) -> None:
        self.queue_s = self.gateway.monotonic() - self.started_at
        self._ask(replica)

    def _ask(self, replica: ReplicaState) -> None:
        self.state = ASKING
        self.last_at = self.gateway.monotonic()
        self.gateway.admission.start(self.model, self)
        self._attempt = Attempt(self, replica)
        self._reserve(replica)
        self._attempt.start()

    def _reserve(self, replica: ReplicaState) -> None:
        if self._reserved_for == replica.route.id:
            return
        journal = self.gateway.journal
        if self._slot < 0:
            self._slot = journal.board.take(self.sequence)
        self._reserved = True
        self._reserved_for = replica.route.id
        journal.reserve(opening(self, replica.route, self._slot))

    # What the attempt says

    def send_head(self) -> None:
        """Begin the client's stream, unless it has begun."""
        if not self._head_sent:
            self._head_sent = True
            self.client.answer_head(self)

    def deliver(self, data: bytes) -> None:
        """Send a part of a stream, which begins with the first one: until then an error has a status, and another replica may
        be asked."""
        self.send_head()
        if self.first_at == 0.0:
            self.first_at = self.last_at
        meter = self.reply.meter
        # First counted, then sent: anyone who kills the gateway on seeing an event finds it counted.
        self.gateway.journal.board.put(self._slot, self.sequence, meter.input, meter.input_cached, meter.output)
        self.client.answer_part(data)

    def answer(self) -> None:
        """The whole answer is there."""
        self.first_at = self.last_at
        self.settle(200)

    def fail(self, error: SubletError) -> None:
        """End with an error; of an answer of which no token was delivered nothing is billed, the prompt included."""
        if not self._head_sent or not self.reply.meter.output:
            self.reply.meter = Meter()
        self.settle(error.status, error, queued=not self.asked)

    def refused(self, error: SubletError) -> None:
        """There is nothing to wait for any more."""
        self.fail(error)

    def ask_another(self, error: SubletError, failed: str | None) -> None:
        """The attempt came to nothing, and nothing of it reached the client: ask a replica other than those that failed it, as
        far as the model's allowance of retries goes; else answer with `error`.

        A request for an engine of our own that never left waits in turn like any other after the first time, so that two
        dead engines do not pass it to and fro until their host has restarted them.
        """
        admission = self.gateway.admission
        attempt, self._attempt = self._attempt, None
        assert attempt is not None
        admission.release(self.model, attempt.replica, self)
        self.attempts += 1
        if failed is not None:
            self.tried = (*self.tried, failed)
        # The snapshot may know of other replicas by now.
        model = self.gateway.snapshot.models.get(self.model.name, self.model)
        unsent = isinstance(error, EngineUnreachableError) and model.timings
        free = unsent or failed is None
        replica = None
        try:
            if (self.attempts < ATTEMPTS_MAX or not model.replicas) and (free or self._may_retry(model)):
                replica = admission.pick(model, self.gateway.monotonic(), self.tried)
        except (NoReplicaError, EngineBusyError) as refusal:
            self.fail(refusal if isinstance(error, EngineUnreachableError) else error)
            return
        if replica is not None:
            self._ask(replica)
        elif unsent or failed is None:
            self.state = QUEUED
            admission.queue(self.model).waiting.appendleft(self)
        else:
            self.fail(error)

    def _may_retry(self, model: ModelRoute) -> bool:
        others = any(route.id not in self.tried for route in model.replicas)
        return not others or self.gateway.admission.may_retry(model)

    # What the client does

    def client_gone(self) -> None:
        """The client closed its connection: the engine stops, and what was delivered is billed."""
        if self.state in (CLOSING, OVER):
            self.state = OVER
            return
        if self.reply.form is None:
            # Nothing of a whole answer was delivered.
            self.reply.meter = Meter()
        self._status = CLIENT_GONE
        self.settle(CLIENT_GONE)

    def client_stalled(self) -> None:
        self.stalled_at = self.gateway.monotonic()
        if self._attempt is not None:
            self._attempt.pause()

    def client_flows(self) -> None:
        self.stalled_at = 0.0
        self.last_at = self.gateway.monotonic()
        if self._attempt is not None:
            self._attempt.resume()

    # Time

    def tick(self, now: float) -> None:
        """Called about twice a second: deadlines, and a comment in a long silence."""
        settings = self.settings
        if self.state == QUEUED:
            if now - self.started_at > settings.queue_s_max:
                wait_s = self.gateway.admission.wait_s(self.model, self.grant)
                self.fail(
                    QueueTimeoutError(
                        f"no slot of {self.model.name} came free in {settings.queue_s_max:.0f} s; try again in "
                        f"{wait_s:.0f} s",
                        retry_after_s=wait_s,
                    )
                )
        elif self.state == ASKING:
            if self.stalled_at and now - self.stalled_at > settings.stalled_client_s_max:
                self.client.cut()
                self.client_gone()
            elif self._overdue(now):
                self._time_out(now)
            elif (
                self.reply.form is not None
                and now - self.last_at > settings.keep_alive_comment_s
                and not self.stalled_at
            ):
                self.last_comment(now)

    def last_comment(self, now: float) -> None:
        form = self.reply.form
        assert form is not None
        self.send_head()
        self.client.answer_part(form.keep_alive())

    def _overdue(self, now: float) -> bool:
        settings = self.settings
        if now - self.started_at > settings.answer_s_max:
            return True
        return not self.stalled_at and now - self.last_at > self._patience_s()

    def _patience_s(self) -> float:
        """Seconds of silence that are borne now: longer before the first token, or the first byte of a whole answer."""
        reply = self.reply
        begun = reply.meter.output or self.first_at if reply.streamed else reply.status
        return self.settings.silence_s_max if begun else self.settings.first_event_s_max

    def _time_out(self, now: float) -> None:
        attempt = self._attempt
        error = EngineTimeoutError()
        silent_s = now - self.last_at
        if attempt is not None and silent_s > min(self._patience_s(), self.settings.answer_s_max / 2):
            error.said = f"not a byte for {silent_s:.0f} s"
            attempt.failed(error)
        else:
            # It answered all the time, just not to the end.
            self.fail(error)

    def stop(self) -> None:
        """The gateway ends: what was delivered is billed, the client's connection is cut."""
        if self.state not in (CLOSING, OVER):
            self.client.cut()
            self.client_gone()

    # The end

    def settle(self, status: int, error: SubletError | None = None, *, queued: bool = False) -> None:
        """Give everything back, record what was delivered, and end the client's answer once that is durable."""
        gateway = self.gateway
        now = gateway.monotonic()
        if self.state == QUEUED:
            gateway.admission.forget(self.model, self)
        self.state = CLOSING
        gateway.live.discard(self)
        if queued and error is not None:
            gateway.admission.refund(self._key_state)
        else:
            gateway.admission.leave(self._key_state)
        attempt = self._attempt
        if attempt is not None:
            attempt.stop(at_once=status != 200)
            gateway.admission.release(self.model, attempt.replica, self)
            if status == 200:
                gateway.admission.queue(self.model).note_service(now - self.started_at - self.queue_s)
            gateway.admission.serve_queue(gateway.snapshot.models.get(self.model.name, self.model), now)
        if self.first_at and self.reply.form is not None and (error is None or self.reply.meter.output):
            self.reply.meter.finish(self.call, b"")
        gateway.metrics.ended(self, status, now)
        if not self._reserved:
            self._finish(error, ok=True)
            return
        delivered = status == CLIENT_GONE or self.reply.form is not None or error is not None
        record = closing(self, attempt.replica.route if attempt else None, status, error)
        self._close(record, error, delivered=delivered)

    def _close(self, record: Record, error: SubletError | None, *, delivered: bool) -> None:
        self.gateway.journal.settle(record, lambda ok: self._finish(error, ok=ok), keep=delivered)

    def _finish(self, error: SubletError | None, *, ok: bool) -> None:
        """The record is durable, or can't be made so (`ok` False): end the client's answer accordingly."""
        # Only now: until the record is written, the board is what a successor would bill from.
        self.gateway.journal.board.give_back(self._slot)
        if self._attempt is not None:
            self._attempt.close()
        if self.state == OVER or self._status == CLIENT_GONE:
            return
        self.state = OVER
        if not ok and error is None:
            error = JournalError()
        form = self.reply.form
        if error is None and form is not None:
            self.send_head()
            self.client.answer_part(form.end())
            self.client.answer_end(complete=True)
        elif error is None:
            self.client.answer_whole(self, self.reply.whole)
        elif self._head_sent:
            assert form is not None
            self.client.answer_part(form.failure(error))
            self.client.answer_end(complete=False)
        else:
            self.client.refuse(error, self)
