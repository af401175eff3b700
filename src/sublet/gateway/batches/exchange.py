"""A request of a batch on its way through the gateway: as any other, but that its usage is billed with its line, not by the journal.

The journal knows what is under way, so that a hold is released where the gateway is killed; but it says of each request that it
used nothing. What it did use is written in the transaction that writes its line, so that a line is never billed twice, and
never there without its bill.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Protocol

from sublet.gateway.front.client import Answered
from sublet.gateway.metering.records import closing
from sublet.gateway.metering.shipper import usage_of
from sublet.gateway.model import KeyGrant, Tokens, UsageRecord
from sublet.gateway.requests.exchange import Exchange
from sublet.gateway.requests.form import BATCH, CHAT
from sublet.gateway.requests.held import HeldExchange
from sublet.gateway.service import Gateway
from sublet.gateway.surfaces.surface import Surface
from sublet.values.errors import SubletError, UnavailableError


class Outcome:
    """A whole answer, and what it used."""

    __slots__ = ("body", "records", "request_id", "tokens")

    def __init__(self, request_id: str, body: bytes, tokens: Tokens, records: list[UsageRecord]) -> None:
        self.request_id = request_id
        self.body = body
        self.tokens = tokens
        self.records = records


class LineClient(Protocol):
    """Who asked; called on the event loop."""

    def save(self, outcome: Outcome) -> Future[None]:
        """Write the answer down, together with its bill. The future raises where that was not possible."""
        ...

    def over(self, error: SubletError | None, request_id: str) -> None:
        """The request is over: it was saved, or `error` says why there is no answer."""
        ...


class _Client:
    """What an exchange takes for the client's connection."""

    def __init__(self, line: LineClient) -> None:
        self.line = line
        self.request_id = ""

    def answer_whole(self, exchange: Answered, body: bytes) -> None:
        self.line.over(None, self.request_id)

    def answer_head(self, exchange: Answered) -> None:
        raise AssertionError("a request of a batch is never a stream")

    def answer_part(self, data: bytes) -> None:
        raise AssertionError("a request of a batch is never a stream")

    def answer_end(self, *, complete: bool) -> None:
        raise AssertionError("a request of a batch is never a stream")

    def refuse(self, error: SubletError, exchange: Answered) -> None:
        self.line.over(error, self.request_id)

    def cut(self) -> None:
        """The gateway ends."""
        self.line.over(UnavailableError(), self.request_id)


def _saved(exchange: LineExchange | HeldLineExchange, status: int, close: Callable[[], None]) -> None:
    """Have an answer written down, then `close`; one that can't be is asked for again."""
    gateway, meter = exchange.gateway, exchange.reply.meter
    client = exchange.client
    assert isinstance(client, _Client) and isinstance(gateway, Gateway)
    tokens = Tokens(meter.input, meter.input_cached, meter.output)
    replica = exchange.attempt.replica.route if exchange.attempt is not None else None
    records = usage_of(closing(exchange, replica, status, None))
    body = exchange.reply.whole
    outcome = Outcome(exchange.identity.request_id, body, tokens, records)

    def done(error: BaseException | None) -> None:
        if error is not None:
            exchange.refuse_unsaved()
        exchange.reply.forget()
        close()

    gateway.place_work(client.line.save, outcome, done)


class LineExchange(Exchange):
    """One that no hard budget covers."""

    __slots__ = ()

    def _close(self, status: int, *, delivered: bool) -> None:
        if status == 200:
            _saved(self, status, lambda: super(LineExchange, self)._close(status, delivered=False))
        else:
            self.reply.forget()
            super()._close(status, delivered=False)

    def refuse_unsaved(self) -> None:
        """The answer could not be written down."""
        self._error = UnavailableError()


class HeldLineExchange(HeldExchange):
    """One that a hard budget covers."""

    __slots__ = ()

    def _close(self, status: int, *, delivered: bool) -> None:
        if status == 200:
            _saved(self, status, lambda: super(HeldLineExchange, self)._close(status, delivered=False))
        else:
            self.reply.forget()
            super()._close(status, delivered=False)

    def refuse_unsaved(self) -> None:
        """The answer could not be written down."""
        self._error = UnavailableError()


def ask(gateway: Gateway, line: LineClient, surface: Surface, kind: str, grant: KeyGrant, body: bytes) -> Exchange:
    """Start a request of a batch. Raises the SubletError that refuses it; then it used nothing, and `line` is not told."""
    client = _Client(line)
    now = gateway.monotonic()
    # Beside the key's own count: its rate and concurrency in the settings are for what it asks itself.
    state = gateway.admission.admit(f"{grant.id}/{BATCH}", now, rate=False, concurrency=False)
    try:
        call, model = gateway.checked(surface, kind, body, grant)
        call.tier = BATCH
        if call.kind == CHAT:
            call.told = {**call.told, "service_tier": BATCH}
        kind_of = HeldLineExchange if grant.budgeted and gateway.holds_budgets else LineExchange
        exchange = kind_of(gateway, client, surface, call, model, grant, state, now, len(body))
        client.request_id = exchange.identity.request_id
        gateway.start(exchange, grant, model, call)
    except SubletError:
        gateway.admission.leave(state)
        raise
    return exchange
