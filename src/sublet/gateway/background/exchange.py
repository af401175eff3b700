"""The request of a background response on its way through the gateway. Its usage is billed in the transaction that stores it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Protocol, cast

from sublet.gateway.front.client import Answered
from sublet.gateway.metering.records import closing
from sublet.gateway.metering.shipper import usage_of
from sublet.gateway.model import KeyGrant, UsageRecord
from sublet.gateway.requests.exchange import Exchange, KeepingForm
from sublet.gateway.requests.held import HeldExchange
from sublet.gateway.requests.reply import Reply
from sublet.gateway.service import Gateway
from sublet.gateway.surfaces.surface import Identity, StreamForm, Surface
from sublet.values.errors import SubletError, UnavailableError


class End:
    """How a response ended: what is stored, its last events, and what it used."""

    __slots__ = ("body", "last", "records")

    def __init__(self, body: bytes, last: bytes, records: list[UsageRecord]) -> None:
        self.body = body
        self.last = last
        self.records = records


class Listener(Protocol):
    """Who follows it; called on the event loop."""

    def events(self, data: bytes) -> None:
        """More events."""
        ...

    def save(self, end: End) -> Future[None]:
        """Store it together with its bill. The future raises where that was not possible."""
        ...

    def over(self, error: SubletError | None) -> None:
        """It is stored, or `error` says why there is nothing to store."""
        ...


class _Client:
    """What an exchange takes for the client's connection."""

    def __init__(self, listener: Listener) -> None:
        self.listener = listener
        self.error: SubletError | None = None
        self.saved = self.closing = False

    def answer_whole(self, exchange: Answered, body: bytes) -> None:
        self.listener.over(None)

    def answer_head(self, exchange: Answered) -> None:
        return

    def answer_part(self, data: bytes) -> None:
        # Signs of life are for connections, and the last events are stored with the response.
        if not self.closing and not data.startswith(b":"):
            self.listener.events(data)

    def answer_end(self, *, complete: bool) -> None:
        self.listener.over(None if self.saved else self.error or UnavailableError())

    def refuse(self, error: SubletError, exchange: Answered) -> None:
        self.listener.over(error)

    def cut(self) -> None:
        """The gateway ends."""
        self.listener.over(UnavailableError())


def _stored(exchange: BackgroundExchange | HeldBackgroundExchange, status: int, close: Callable[[], None]) -> None:
    """Have what was made stored, if there is anything, then `close`."""
    gateway, reply = exchange.gateway, exchange.reply
    client = exchange.client
    assert isinstance(client, _Client) and isinstance(gateway, Gateway)
    error, form = exchange.failure, reply.form
    client.error, client.closing = error, True
    if form is None or (status != 200 and (error is None or not reply.meter.output)):
        reply.forget()
        close()
        return
    replica = exchange.attempt.replica.route if exchange.attempt is not None else None
    records = usage_of(closing(exchange, replica, status, error))
    last = form.end() if error is None else form.failure(error)
    end = End(cast(KeepingForm, form).final, last, records)

    def done(problem: BaseException | None) -> None:
        client.saved = problem is None
        if problem is not None:
            exchange.refuse_unsaved()
        reply.forget()
        close()

    gateway.place_work(client.listener.save, end, done)


class BackgroundExchange(Exchange):
    """One that no hard budget covers."""

    __slots__ = ()

    @property
    def failure(self) -> SubletError | None:
        """Why it ends early, if it does."""
        return self._error

    def deliver(self, data: bytes) -> None:
        deliver(self, data)

    def _close(self, status: int, *, delivered: bool) -> None:
        _stored(self, status, lambda: super(BackgroundExchange, self)._close(status, delivered=False))

    def _end(self, form: StreamForm | None) -> None:
        over(self)

    def refuse_unsaved(self) -> None:
        """It could not be stored."""
        self._error = UnavailableError()


class HeldBackgroundExchange(HeldExchange):
    """One that a hard budget covers."""

    __slots__ = ()

    @property
    def failure(self) -> SubletError | None:
        """Why it ends early, if it does."""
        return self._error

    def deliver(self, data: bytes) -> None:
        deliver(self, data)

    def _close(self, status: int, *, delivered: bool) -> None:
        if self._placing:
            super()._close(status, delivered=delivered)
        else:
            _stored(self, status, lambda: super(HeldBackgroundExchange, self)._close(status, delivered=False))

    def _end(self, form: StreamForm | None) -> None:
        over(self)

    def refuse_unsaved(self) -> None:
        """It could not be stored."""
        self._error = UnavailableError()


def deliver(exchange: Exchange, data: bytes) -> None:
    """Pass events on. The progress board does not count them: what is billed is what is stored."""
    exchange.send_head()
    if exchange.first_at == 0.0:
        exchange.first_at = exchange.last_at
    exchange.client.answer_part(data)


def over(exchange: Exchange) -> None:
    """The record is durable, and the response was stored before it."""
    exchange.client.answer_end(complete=True)


def ask(
    gateway: Gateway, listener: Listener, surface: Surface, kind: str, grant: KeyGrant, body: bytes, name: Identity
) -> Exchange:
    """Start it under a name of its own. Raises the SubletError that refuses it; then it used nothing, and nobody is told."""
    client = _Client(listener)
    now = gateway.monotonic()
    state = gateway.admission.admit(f"{grant.id}/background", now, rate=False, concurrency=False)
    try:
        call, model = gateway.checked(surface, kind, body, grant)
        call.stream = True
        call.include_usage = True
        held = grant.budgeted and gateway.holds_budgets
        kind_of = HeldBackgroundExchange if held else BackgroundExchange
        exchange = kind_of(gateway, client, surface, call, model, grant, state, now, len(body) + call.earlier_bytes)
        exchange.reply = Reply(surface, call, name)
        gateway.start(exchange, grant, model, call)
    except SubletError:
        gateway.admission.leave(state)
        raise
    return exchange
