"""One replica asked for one request's answer."""

from __future__ import annotations

from typing import Any, Protocol

import msgspec

from sublet.gateway.model import GatewaySettings, ModelRoute
from sublet.gateway.refusals import EngineError, EngineFailedError, EngineTimeoutError, EngineUnreachableError
from sublet.gateway.requests.admission import ReplicaState
from sublet.gateway.requests.call import Call
from sublet.gateway.requests.host import Host
from sublet.gateway.requests.reply import Reply
from sublet.gateway.surfaces.surface import Identity
from sublet.gateway.upstream.engine_error import retry_after_s
from sublet.gateway.upstream.openai_body import ENGINE_PATHS
from sublet.gateway.upstream.pool import EngineConnection
from sublet.gateway.upstream.scripts import Script, Step, script_of
from sublet.gateway.upstream.writer import for_engine
from sublet.values.errors import SubletError


class Asking(Protocol):
    """The request that an attempt is made for."""

    @property
    def gateway(self) -> Host: ...

    call: Call
    identity: Identity
    model: ModelRoute
    reply: Reply
    settings: GatewaySettings
    first_at: float
    last_at: float
    asked: bool
    retried: bool

    def deliver(self, data: bytes) -> None: ...

    def settle(self, status: int) -> None: ...

    def answer(self) -> None: ...

    def fail(self, error: SubletError) -> None: ...

    def ask_another(self, error: SubletError, failed: str | None) -> None: ...


class Attempt:
    """The sink of an engine's connection (gateway.upstream.Sink): passes what it says through the exchange's reply.

    An exchange has one attempt at a time. Once it is `over`, nothing that its engine still says matters.
    """

    __slots__ = ("_answering", "_ended", "_exchange", "_model", "_script", "connection", "over", "replica")

    def __init__(self, exchange: Asking, replica: ReplicaState) -> None:
        self._exchange = exchange
        self.replica = replica
        self.connection: EngineConnection | None = None
        self.over = self._answering = self._ended = False
        self._script: Script | None = None

    def start(self) -> None:
        """Send the request to the replica."""
        exchange = self._exchange
        call, route, gateway = exchange.call, self.replica.route, exchange.gateway
        # The catalog may have changed while the request waited, and the replica may be of an entry before that.
        model = route.served_as or gateway.snapshot.models.get(exchange.model.name, exchange.model)
        self._model = model
        self._script = script_of(call, model)
        exchange.reply.begin(model)
        if self._script is not None:
            self._next_step(self._script)
            return
        pool = gateway.engines(route.endpoint, model)
        pool.request(self, ENGINE_PATHS[call.kind], for_engine(call, model), self._taken)

    def _ask(self, step: Step) -> None:
        """Send the next request of a script, on a connection of its own."""
        self._answering = self._ended = False
        self.connection = None
        exchange = self._exchange
        exchange.last_at = exchange.gateway.monotonic()
        exchange.reply.begin_step(streamed=step.streamed)
        pool = exchange.gateway.engines(self.replica.route.endpoint, self._model)
        pool.request(self, step.path, step.body, self._taken)

    def _next_step(self, script: Script) -> None:
        """Begin the script, or go on with it: the answer of a step is there."""
        exchange = self._exchange
        begun = self._answering
        if begun and not self._ended:
            # An engine's stream that said everything may not have ended yet; nothing more of it is wanted.
            self.close()
        try:
            step = script.send(exchange.reply.whole) if begun else next(script)
        except StopIteration as ended:
            self._script = None
            self._finish(ended.value)
        except (KeyError, IndexError, TypeError, ValueError, msgspec.MsgspecError):
            self.failed(EngineFailedError())
        else:
            self._ask(step)

    def _finish(self, answer: dict[str, Any]) -> None:
        exchange = self._exchange
        try:
            out = exchange.reply.finish_script(answer)
        except SubletError as error:
            self.failed(error)
            return
        if not out:
            self._answer()
            return
        if self.replica.health.failures:
            exchange.gateway.watch.answered(self.replica)
        exchange.deliver(out)
        exchange.settle(200)

    def stop(self, *, at_once: bool) -> None:
        """Nothing more is wanted. Unless `at_once`, an engine that has said everything may end by itself until `close`."""
        self.over = True
        # Whatever became of a probe, the next request may be one.
        self.replica.health.probing = False
        if at_once:
            self.close()

    def close(self) -> None:
        """End the connection, unless the engine ended its answer: then it serves others by now."""
        if self.connection is not None and not self._ended:
            self.connection.abort()

    def pause(self) -> None:
        """The client reads more slowly than the engine writes."""
        if self.connection is not None and not self._ended:
            self.connection.transport.pause_reading()

    def resume(self) -> None:
        if self.connection is not None and not self._ended:
            self.connection.transport.resume_reading()

    def _taken(self, connection: EngineConnection) -> bool:
        if self.over:
            return False
        self.connection = connection
        self._exchange.asked = True
        return True

    # What the engine says

    def engine_head(self, status: int, retry_after: bytes) -> None:
        if self.over or self._answering:
            return
        self._answering = True
        exchange = self._exchange
        exchange.last_at = exchange.gateway.monotonic()
        exchange.reply.head(status, retry_after_s(retry_after, exchange.gateway.clock) if retry_after else None)

    def engine_data(self, data: bytes) -> None:
        if self.over or not self._answering:
            return
        exchange = self._exchange
        exchange.last_at = exchange.gateway.monotonic()
        reply = exchange.reply
        if not reply.relayed:
            self._collect(data)
            return
        if exchange.first_at and (out := reply.ordinary(data)):
            exchange.deliver(out)
            return
        out, done, failure = reply.relay(data)
        if out:
            if self.replica.health.failures:
                exchange.gateway.watch.answered(self.replica)
            exchange.deliver(out)
        if failure is not None:
            self.failed(failure)
        elif done:
            exchange.settle(200)

    def engine_end(self) -> None:
        self._ended = True
        if self.over:
            return
        try:
            self._exchange.reply.complete()
        except SubletError as error:
            self.failed(error)
        else:
            self._collected()

    def engine_failed(self, reason: str, *, answered: bool) -> None:
        if self.over:
            return
        self.over = True
        exchange, connection = self._exchange, self.connection
        self.connection = None
        if connection is not None and connection.reused and not answered and not exchange.retried:
            # The engine had closed a connection that was used again: nobody's fault.
            exchange.retried = True
            exchange.ask_another(EngineFailedError(), None)
            return
        error: EngineError = EngineFailedError() if connection is not None else EngineUnreachableError()
        error.said = reason
        self.failed(error)

    def failed(self, error: SubletError) -> None:
        """The attempt came to nothing. What is the engine's fault is noted, and tried elsewhere while the client has nothing."""
        exchange = self._exchange
        gateway = exchange.gateway
        if not isinstance(error, EngineError):
            exchange.fail(error)
            return
        gateway.watch.failed(self.replica, exchange.model.name, exchange.identity.request_id, error)
        if exchange.first_at or isinstance(error, EngineTimeoutError):
            exchange.fail(error)
            return
        self.stop(at_once=True)
        exchange.ask_another(error, self.replica.route.id)

    def _collect(self, data: bytes) -> None:
        exchange = self._exchange
        try:
            complete = exchange.reply.collect(data, exchange.settings.answer_bytes_max)
        except SubletError as error:
            self.failed(error)
            return
        if complete:
            self._collected()

    def _collected(self) -> None:
        if self._script is not None:
            self._next_step(self._script)
        else:
            self._answer()

    def _answer(self) -> None:
        if self.replica.health.failures:
            self._exchange.gateway.watch.answered(self.replica)
        self._exchange.answer()
