"""One request from its admission to its last byte: a small state machine between the client's and the engine's connection."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sublet.gateway.admission import KeyState, ReplicaState
from sublet.gateway.assembly import Assembler
from sublet.gateway.call import EMBEDDING, ENGINE_PATHS, Call
from sublet.gateway.client import Client
from sublet.gateway.engine_error import engine_error
from sublet.gateway.journal import Record
from sublet.gateway.meter import Meter
from sublet.gateway.model import KeyGrant, ModelRoute
from sublet.gateway.refusals import (
    EngineAnswerTooLargeError,
    EngineFailedError,
    EngineTimeoutError,
    JournalError,
    NoReplicaError,
    QueueTimeoutError,
)
from sublet.gateway.sse import EventCutter
from sublet.gateway.surface import Identity, StreamForm, Surface
from sublet.gateway.upstream import EngineConnection
from sublet.values.errors import SubletError

if TYPE_CHECKING:
    from sublet.gateway.service import Gateway

QUEUED, ASKING, ANSWERING, CLOSING, OVER, HOLDING = range(6)

CLIENT_GONE = 499


class Exchange:
    """A request under way. Every way out goes through `_settle`, once: it gives back the slot and the key's count, and
    writes the record that bills what the client got."""

    __slots__ = (
        "_answer_bytes",
        "_asked",
        "_assembler",
        "_connection",
        "_cutter",
        "_engine_ended",
        "_form",
        "_head_sent",
        "_key_state",
        "_replica",
        "_reserved",
        "_reserved_for",
        "_retried",
        "_slot",
        "_status",
        "body_bytes",
        "call",
        "client",
        "first_at",
        "gateway",
        "grant",
        "held",
        "identity",
        "last_at",
        "meter",
        "model",
        "parts",
        "queue_s",
        "sequence",
        "stalled_at",
        "started_at",
        "started_us",
        "state",
        "surface",
    )

    def __init__(
        self,
        gateway: Gateway,
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
        self.meter = Meter()
        self.parts: list[bytes] = []
        self.first_at = self.queue_s = self.stalled_at = 0.0
        self.state = QUEUED
        self._status = 0
        self._slot = -1
        self._reserved_for = ""
        self._answer_bytes = 0
        self._replica: ReplicaState | None = None
        self._connection: EngineConnection | None = None
        self._cutter: EventCutter | None = None
        self._form: StreamForm | None = None
        self._assembler: Assembler | None = None
        self.held = self._asked = False
        self._head_sent = self._retried = self._reserved = self._engine_ended = False

    @property
    def over(self) -> bool:
        """Whether the client's answer has ended."""
        return self.state == OVER

    def headers(self) -> bytes:
        """The headers of every answer to this request."""
        limit, remaining, reset_s = self.gateway.admission.allowance(self._key_state)
        return (
            b"x-request-id: %b\r\nx-ratelimit-limit-requests: %d\r\nx-ratelimit-remaining-requests: %d\r\n"
            b"x-ratelimit-reset-requests: %ds\r\n" % (self.identity.request_id.encode(), limit, remaining, reset_s)
        )

    # Admission

    def start(self) -> None:
        """Take a slot or a place in the queue. Raises NoReplicaError or QueueFullError; then nothing was used up."""
        try:
            self._enter()
        except SubletError:
            self.gateway.admission.refund(self._key_state)
            raise

    def _enter(self) -> None:
        admission = self.gateway.admission
        # Whoever comes now stands behind those who wait.
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
        self._replica = replica
        self._reserve(replica)
        if self.call.stream:
            self._form = self._form or self.surface.stream(self.call, self.identity)
        elif self.model.stream_only and self.call.kind != EMBEDDING:
            self._assembler = Assembler(self.call.kind)
        pool = self.gateway.engines(replica.route.endpoint, self.model)
        pool.request(self, ENGINE_PATHS[self.call.kind], self.call.for_engine(self.model), self._taken)

    def _reserve(self, replica: ReplicaState) -> None:
        if self._reserved_for == replica.route.id:
            return
        journal = self.gateway.journal
        if self._slot < 0:
            self._slot = journal.board.take(self.sequence)
        self._reserved = True
        self._reserved_for = replica.route.id
        journal.reserve(
            Record(
                kind="reserve",
                request=self.identity.request_id,
                slot=self._slot,
                sequence=self.sequence,
                organisation=self.grant.organisation_id,
                key=self.grant.id,
                project=self.grant.project,
                model=self.model.name,
                pool=replica.route.pool_id,
                replica=replica.route.id,
                started_us=self.started_us,
                held=self.held,
            )
        )

    def _taken(self, connection: EngineConnection) -> bool:
        if self.state != ASKING:
            return False
        self._asked = True
        self._connection = connection
        return True

    # What the engine says

    def engine_head(self, status: int) -> None:
        if self.state != ASKING:
            return
        self.state = ANSWERING
        self._status = status
        self.last_at = self.gateway.monotonic()
        if status == 200 and self._form is not None:
            self._cutter = EventCutter()
            self._send_head()
        elif status == 200 and self._assembler is not None:
            self._cutter = EventCutter()

    def engine_data(self, data: bytes) -> None:
        if self.state != ANSWERING:
            return
        self.last_at = self.gateway.monotonic()
        if self._form is not None and self._cutter is not None:
            self._relay(data)
            return
        self._answer_bytes += len(data)
        if self._answer_bytes > self.gateway.settings.answer_bytes_max:
            self._fail(EngineAnswerTooLargeError())
        elif self._assembler is not None and self._cutter is not None:
            self._assemble(self._assembler, self._cutter, data)
        else:
            self.parts.append(data)

    def _assemble(self, assembler: Assembler, cutter: EventCutter, data: bytes) -> None:
        try:
            for payload in cutter.feed(data):
                if payload == b"[DONE]":
                    self._answer(assembler.body())
                    return
                assembler.take(self.meter.chunk(payload))
        except EngineFailedError as error:
            self._fail(error)

    def _relay(self, data: bytes) -> None:
        cutter, form, meter = self._cutter, self._form, self.meter
        assert cutter is not None and form is not None
        out: list[bytes] = []
        failure: SubletError | None = None
        done = False
        before = meter.state()
        payloads: list[bytes] = []
        passed = 0
        try:
            payloads = cutter.feed(data)
            for payload in payloads:
                if payload == b"[DONE]":
                    done = True
                    break
                if payload.startswith(b'{"error"'):
                    raise EngineFailedError
                form_bytes = form.event(meter.chunk(payload))
                if form_bytes:
                    out.append(form_bytes)
                passed += 1
        except EngineFailedError as error:
            failure = error
            # The chunk that can't be passed on may have been counted: count again what is delivered.
            meter.restore(before)
            for payload in payloads[:passed]:
                meter.chunk(payload)
        if out:
            if self.first_at == 0.0:
                self.first_at = self.last_at
            # First counted, then sent: whoever kills the gateway on seeing an event finds it counted.
            self.gateway.journal.board.put(self._slot, self.sequence, meter.input, meter.input_cached, meter.output)
            self.client.answer_part(out[0] if len(out) == 1 else b"".join(out))
        if failure is not None:
            self._fail(failure)
        elif done:
            self._settle(200)

    def engine_end(self) -> None:
        self._engine_ended = True
        if self.state not in (ASKING, ANSWERING):
            return
        if self._cutter is not None:
            # No [DONE] came: the engine ended in mid-answer.
            self._fail(EngineFailedError())
            return
        body = self.parts[0] if len(self.parts) == 1 else b"".join(self.parts)
        if self._status != 200:
            self._fail(engine_error(self._status, body))
            return
        self.meter.whole(body)
        self._answer(body)

    def _answer(self, body: bytes) -> None:
        """A whole answer is there."""
        try:
            answer = self.surface.answer(self.call, self.identity, body)
        except SubletError as error:
            self._fail(error)
            return
        self.parts = [answer]
        self.first_at = self.last_at
        self._settle(200)

    def engine_failed(self, reason: str, *, answered: bool) -> None:
        if self.state not in (ASKING, ANSWERING):
            return
        connection, self._connection = self._connection, None
        stale = connection is not None and connection.reused
        now = self.gateway.monotonic()
        failed = self._replica
        assert failed is not None
        if not stale:
            # One that broke in mid-answer may be well for others; one that did not even answer is not.
            if not answered:
                self.gateway.admission.suspect(failed, now)
            self.gateway.metrics.engine_failures[self.model.name] += 1
        if answered or (self._retried and connection is not None):
            self._fail(EngineFailedError())
            return
        self._replica = None
        self.gateway.admission.release(failed)
        self._ask_another(now, None if stale else failed.route.id)

    def _ask_another(self, now: float, besides: str | None) -> None:
        """Once at once; after that, what never left waits for its turn like any other, so that two dead engines do not pass
        a request to and fro."""
        admission = self.gateway.admission
        # The snapshot may know of other replicas by now.
        model = self.gateway.snapshot.models.get(self.model.name, self.model)
        first, self._retried = not self._retried, True
        try:
            replica = admission.pick(model, now, besides) if first or not model.replicas else None
        except NoReplicaError as error:
            self._fail(error)
            return
        if replica is None:
            self.state = QUEUED
            admission.queue(self.model).waiting.appendleft(self)
        else:
            self._ask(replica)

    # What the client does

    def client_gone(self) -> None:
        """The client closed its connection: the engine stops, and what was delivered is billed."""
        if self.state in (CLOSING, OVER):
            self.state = OVER
            return
        if self._form is None:
            # Nothing of a whole answer was delivered.
            self.meter = Meter()
        self._status = CLIENT_GONE
        self._settle(CLIENT_GONE)

    def client_stalled(self) -> None:
        self.stalled_at = self.gateway.monotonic()
        if self._connection is not None and not self._engine_ended:
            self._connection.transport.pause_reading()

    def client_flows(self) -> None:
        self.stalled_at = 0.0
        self.last_at = self.gateway.monotonic()
        if self._connection is not None and not self._engine_ended:
            self._connection.transport.resume_reading()

    # Time

    def tick(self, now: float) -> None:
        """Called about twice a second: deadlines, and a comment in a long silence."""
        settings = self.gateway.settings
        if self.state == QUEUED:
            if now - self.started_at > settings.queue_s_max:
                wait_s = self.gateway.admission.wait_s(self.model)
                self._fail(
                    QueueTimeoutError(
                        f"no slot of {self.model.name} came free in {settings.queue_s_max:.0f} s; try again in "
                        f"{wait_s:.0f} s",
                        retry_after_s=wait_s,
                    )
                )
        elif self.state in (ASKING, ANSWERING):
            if self.stalled_at and now - self.stalled_at > settings.stalled_client_s_max:
                self.client.cut()
                self.client_gone()
            elif self._overdue(now):
                self._fail(EngineTimeoutError())
            elif self._form is not None and now - self.last_at > settings.keep_alive_comment_s and not self.stalled_at:
                self.last_comment(now)

    def last_comment(self, now: float) -> None:
        form = self._form
        assert form is not None
        self._send_head()
        self.client.answer_part(form.keep_alive())

    def _overdue(self, now: float) -> bool:
        settings = self.gateway.settings
        if now - self.started_at > settings.answer_s_max:
            return True
        if (self._form is None and self._assembler is None) or self.stalled_at:
            return False
        patience_s = settings.silence_s_max if self.meter.output else settings.first_event_s_max
        return now - self.last_at > patience_s

    def stop(self) -> None:
        """The gateway ends: what was delivered is billed, the client's connection is cut."""
        if self.state in (HOLDING, QUEUED, ASKING, ANSWERING):
            self.client.cut()
            self.client_gone()

    # The end

    def _fail(self, error: SubletError) -> None:
        in_stream = self._head_sent
        if not in_stream:
            self.meter = Meter()
        queued = self.state in (HOLDING, QUEUED) and not self._asked
        self._settle(error.status, error, queued=queued)

    def _settle(self, status: int, error: SubletError | None = None, *, queued: bool = False) -> None:
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
        if self._connection is not None and not self._engine_ended and status != 200:
            self._connection.abort()
        if self._replica is not None:
            gateway.admission.release(self._replica)
            if status == 200:
                gateway.admission.queue(self.model).note_service(now - self.started_at - self.queue_s)
            gateway.admission.serve_queue(gateway.snapshot.models.get(self.model.name, self.model), now)
        gateway.metrics.ended(self, status, now)
        if not self._reserved:
            self._finish(error, ok=True)
            return
        delivered = status == CLIENT_GONE or self._form is not None or error is not None
        self._close(self._record(status, error, now), error, delivered=delivered)

    def _close(self, record: Record, error: SubletError | None, *, delivered: bool) -> None:
        self.gateway.journal.settle(record, lambda ok: self._finish(error, ok=ok), keep=delivered)

    def _record(self, status: int, error: SubletError | None, now: float) -> Record:
        replica = self._replica
        return Record(
            kind="settle",
            request=self.identity.request_id,
            organisation=self.grant.organisation_id,
            key=self.grant.id,
            project=self.grant.project,
            model=self.model.name,
            pool=replica.route.pool_id if replica else "",
            replica=replica.route.id if replica else "",
            started_us=self.started_us,
            ended_us=self.gateway.now_us(),
            status=status,
            input=self.meter.input,
            input_cached=self.meter.input_cached,
            output=self.meter.output,
            incomplete=status != 200,
            reason=error.code if error is not None else "client_gone" if status == CLIENT_GONE else "",
            queue_us=int(self.queue_s * 1e6),
            first_us=int((self.first_at - self.started_at) * 1e6) if self.first_at else 0,
            total_us=int((now - self.started_at) * 1e6),
            held=self.held,
        )

    def _finish(self, error: SubletError | None, *, ok: bool) -> None:
        """The record is durable, or can't be made so (`ok` False): end the client's answer accordingly."""
        # Only now: until the record is written, the board is what a successor would bill from.
        self.gateway.journal.board.give_back(self._slot)
        connection = self._connection
        if connection is not None and not self._engine_ended:
            connection.abort()
        if self.state == OVER or self._status == CLIENT_GONE:
            return
        self.state = OVER
        if not ok and error is None:
            error = JournalError()
        if error is None and self._form is not None:
            self.client.answer_part(self._form.end())
            self.client.answer_end(complete=True)
        elif error is None:
            self.client.answer_whole(self, self.parts[0])
        elif self._head_sent:
            assert self._form is not None
            self.client.answer_part(self._form.failure(error))
            self.client.answer_end(complete=False)
        else:
            self.client.refuse(error, self)

    def _send_head(self) -> None:
        if not self._head_sent:
            self._head_sent = True
            self.client.answer_head(self)
