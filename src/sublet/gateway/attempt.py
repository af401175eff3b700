"""One replica asked for one request's answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sublet.gateway.admission import ReplicaState
from sublet.gateway.call import ENGINE_PATHS
from sublet.gateway.refusals import EngineFailedError
from sublet.gateway.upstream import EngineConnection
from sublet.values.errors import SubletError

if TYPE_CHECKING:
    from sublet.gateway.exchange import Exchange


class Attempt:
    """The sink of an engine's connection (gateway.upstream.Sink): passes what it says through the exchange's reply.

    An exchange has one attempt at a time. Once it is `over`, nothing that its engine still says matters.
    """

    __slots__ = ("_answering", "_ended", "_exchange", "connection", "over", "replica")

    def __init__(self, exchange: Exchange, replica: ReplicaState) -> None:
        self._exchange = exchange
        self.replica = replica
        self.connection: EngineConnection | None = None
        self.over = self._answering = self._ended = False

    def start(self) -> None:
        """Send the request to the replica."""
        exchange = self._exchange
        call, route, gateway = exchange.call, self.replica.route, exchange.gateway
        # The catalog may have changed while the request waited, and the replica may be of an entry before that.
        model = route.served_as or gateway.snapshot.models.get(exchange.model.name, exchange.model)
        exchange.reply.begin(model)
        pool = gateway.engines(route.endpoint, model)
        pool.request(self, ENGINE_PATHS[call.kind], call.for_engine(model), self._taken)

    def stop(self, *, at_once: bool) -> None:
        """Nothing more is wanted. Unless `at_once`, an engine that has said everything may end by itself until `close`."""
        self.over = True
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

    def engine_head(self, status: int) -> None:
        if self.over or self._answering:
            return
        self._answering = True
        exchange = self._exchange
        exchange.last_at = exchange.gateway.monotonic()
        exchange.reply.head(status)
        if exchange.reply.relayed:
            exchange.send_head()

    def engine_data(self, data: bytes) -> None:
        if self.over or not self._answering:
            return
        exchange = self._exchange
        exchange.last_at = exchange.gateway.monotonic()
        reply = exchange.reply
        if not reply.relayed:
            self._collect(data)
            return
        out, done, failure = reply.relay(data)
        if out:
            exchange.deliver(out)
        if failure is not None:
            exchange.fail(failure)
        elif done:
            exchange.settle(200)

    def engine_end(self) -> None:
        self._ended = True
        if self.over:
            return
        try:
            self._exchange.reply.complete()
        except SubletError as error:
            self._exchange.fail(error)
        else:
            self._exchange.answer()

    def engine_failed(self, reason: str, *, answered: bool) -> None:
        if self.over:
            return
        self.over = True
        exchange, connected = self._exchange, self.connection is not None
        stale = self.connection is not None and self.connection.reused
        self.connection = None
        gateway = exchange.gateway
        if not stale:
            # One that broke in mid-answer may be well for others; one that did not even answer is not.
            if not answered:
                gateway.admission.suspect(self.replica, gateway.monotonic())
            gateway.metrics.engine_failures[exchange.model.name] += 1
        if answered or (exchange.retried and connected):
            exchange.fail(EngineFailedError())
        else:
            exchange.ask_another(None if stale else self.replica.route.id)

    def _collect(self, data: bytes) -> None:
        exchange = self._exchange
        try:
            if exchange.reply.collect(data, exchange.settings.answer_bytes_max):
                exchange.answer()
        except SubletError as error:
            exchange.fail(error)
