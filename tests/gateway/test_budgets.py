"""Requests of a key that a hard budget or prepaid credit covers: held before they begin, settled whatever ends them."""

from __future__ import annotations

import asyncio
import threading
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from sqlalchemy import Connection, select
from tests.gateway.harness import (
    MODEL,
    Answering,
    Running,
    ScriptedEngine,
    Wire,
    ask,
    chunk,
    event,
    post,
    set_replica,
    timings,
    until,
    usage,
    whole,
)
from tests.ledger.prepaid import prepay

from sublet.accounts.service import Accounts
from sublet.gateway import server
from sublet.gateway.metering.journal import Record, _parsed, line_of
from sublet.gateway.model import ModelRoute, UsageRecord
from sublet.gateway.requests import held as held_requests
from sublet.gateway.requests.allowances import AllowanceRequest, Granted
from sublet.gateway.requests.call import Call
from sublet.gateway.requests.form import CHAT, EMBEDDING, ChatRequest, EmbeddingRequest, Role, Text, Turn
from sublet.gateway.requests.held import BudgetHold, HeldExchange, tokens_max
from sublet.ledger.budgets.desk import HoldDesk
from sublet.ledger.prices.book import book_from_dict
from sublet.ledger.service import Ledger, new_budget
from sublet.store import Store
from sublet.store.tables.ledger import budget_states, events, holds
from sublet.store.tables.models import replicas
from sublet.values.clock import SimulatedClock
from sublet.values.errors import InvalidInputError, UnavailableError
from sublet.wiring.requests import DeskHolds, take_usage

UNIT = 10**8
PRICES = {
    "prices": [
        {
            "id": meter.replace(".", "-"),
            "meter": meter,
            "kind": "per_unit",
            "currency": "USD",
            "amount": amount,
            "per": 10_000,
            "from": "2020-01-01T00:00:00Z",
        }
        # In tenths of a dollar: a thousandth for a token of prompt, a hundredth for a token of answer.
        for meter, amount in (("tokens.input", "1"), ("tokens.input_cached", "0.1"), ("tokens.output", "10"))
    ]
}
INPUT_NANO, OUTPUT_NANO = UNIT // 1000, UNIT // 100


class Gated:
    """Holds that are placed when the test says so, or not at all."""

    def __init__(self, holds: DeskHolds) -> None:
        self._holds = holds
        self.wanted: list[tuple[BudgetHold, Future[None]]] = []
        self.open = True
        self.error: Exception | None = None

    def place(self, wanted: BudgetHold) -> Future[None]:
        if self.error is not None:
            raise self.error
        if self.open:
            return self._holds.place(wanted)
        answered: Future[None] = Future()
        self.wanted.append((wanted, answered))
        return answered

    def allow(self, wanted: AllowanceRequest) -> Future[Granted]:
        if self.error is not None:
            raise self.error
        return self._holds.allow(wanted)

    def let(self) -> None:
        """Place what waits; they stand when this returns."""
        for wanted, answered in self.wanted:
            self._holds.place(wanted).result(20)
            answered.set_result(None)
        self.wanted.clear()


@dataclass
class Money:
    """The gateway's ledger, and the organization whose key it serves."""

    ledger: Ledger
    desk: HoldDesk
    holds: Gated
    organization: str
    gateway: Running

    def state(self) -> tuple[int, int]:
        """What is spent and held of the only budget, over all periods."""
        with self.ledger.store.read() as connection:
            rows = connection.execute(select(budget_states)).all()
        return sum(row.spent_nano for row in rows), sum(row.held_nano for row in rows)

    def limit(self, nano: int, **fields: Any) -> str:
        """A budget that the gateway knows of from its start."""
        budget = self.ledger.create_budget(new_budget(self.organization, nano, **{"thresholds": ()} | fields)).id
        self.gateway.start()
        return budget

    def rated(self) -> tuple[int, int]:
        """The state once all that was used is rated and no hold is open."""

        def settled() -> bool:
            self.ledger.rate()
            return self.state()[1] == 0

        until(settled)
        assert self.ledger.prove().ok
        return self.state()

    def holds_open(self) -> int:
        with self.ledger.store.read() as connection:
            return len(connection.execute(select(holds.c.id).where(holds.c.state.in_(("open", "settled")))).all())


@pytest.fixture
def money(make_gateway: Callable[..., Running], store: Store) -> Iterator[Money]:
    ledger = Ledger(store)
    ledger.publish_prices(book_from_dict(PRICES, "prices"))
    gateway = make_gateway(start=False, llamacpp=True)
    desk = HoldDesk(store, ledger.spending)
    gated = Gated(DeskHolds(desk))
    organization = Accounts(store).authenticate(gateway.key).organization_id

    def take(records: list[UsageRecord]) -> None:
        def write(connection: Connection) -> None:
            take_usage(connection, ledger, "gateway", records, store.clock.now())

        store.write(write)

    gateway.holds, gateway.ledger = gated, take
    yield Money(ledger, desk, gated, organization, gateway)
    gateway.stop()
    desk.close()


def test_a_request_is_held_then_settled_for_what_it_used(money: Money) -> None:
    money.limit(1000 * UNIT)
    assert money.gateway.post(ask(max_tokens=100)).status == 200
    # Five tokens of prompt and three of answer.
    assert money.rated() == (5 * INPUT_NANO + 3 * OUTPUT_NANO, 0)
    with money.ledger.store.read() as connection:
        [hold] = connection.execute(select(holds).where(holds.c.nano > 0)).all()
    body = len(post(ask(max_tokens=100), money.gateway.key).partition(b"\r\n\r\n")[2])
    assert hold.nano == (body + held_requests.TEMPLATE_TOKENS_MAX) * INPUT_NANO + 100 * OUTPUT_NANO + 3


def test_what_does_not_fit_is_refused_in_openais_form_and_uses_nothing_up(money: Money, engine: ScriptedEngine) -> None:
    budget = money.limit(3 * UNIT)
    before = money.gateway.post(ask(max_tokens=1)).headers["x-ratelimit-remaining-requests"]
    engine.asked.clear()
    answer = money.gateway.post(ask(max_tokens=1000))
    assert answer.status == 429
    error = answer.json["error"]
    assert (error["type"], error["code"], error["param"]) == ("insufficient_quota", "insufficient_quota", None)
    assert budget in error["message"] and "max_tokens" in error["message"] and "left" in error["message"]
    # What the request before it took comes back with time.
    assert int(answer.headers["x-ratelimit-remaining-requests"]) >= int(before)
    assert not engine.asked
    assert money.rated() == (5 * INPUT_NANO + 3 * OUTPUT_NANO, 0)
    assert money.gateway.metric("sublet_gateway_requests_total") == 1
    assert money.gateway.metric("sublet_gateway_refused_total") == 1
    assert money.gateway.post(ask(max_tokens=100)).status == 200


def test_what_would_fit_but_for_requests_under_way_is_worth_another_try(money: Money, engine: ScriptedEngine) -> None:
    async def script(answering: Answering) -> None:
        await answering.gone()

    engine.script = script
    money.limit(3 * UNIT)
    wire = money.gateway.wire()
    wire.send(post(ask(max_tokens=100), money.gateway.key))
    until(lambda: engine.asked)
    answer = money.gateway.post(ask(max_tokens=100))
    assert (answer.status, answer.headers["retry-after"]) == (429, "1")
    assert "is held for work under way" in answer.json["error"]["message"]
    wire.close()
    assert money.rated() == (0, 0)
    never = money.gateway.post(ask(max_tokens=1000))
    assert never.status == 429 and "retry-after" not in never.headers


def test_without_a_hard_budget_nothing_is_held(money: Money, store: Store) -> None:
    money.ledger.create_budget(new_budget(money.organization, 1, hard=False))
    another, _ = Accounts(store).create_key(money.organization)
    money.ledger.create_budget(new_budget(money.organization, 1, scope="key", scope_id=another.id))
    other = Accounts(store).create_organization("other")
    money.ledger.create_budget(new_budget(other.id, 1))
    money.gateway.start()
    money.holds.error = AssertionError("nothing is to be held")
    assert money.gateway.post(ask()).status == 200
    assert money.holds_open() == 0


def test_a_keys_own_budget_covers_that_key_alone(money: Money, store: Store) -> None:
    other, secret = Accounts(store).create_key(money.organization)
    money.limit(0, scope="key", scope_id=money.gateway.key_id)
    assert money.gateway.post(ask(max_tokens=1)).status == 429
    assert money.gateway.post(ask(max_tokens=1), key=secret).status == 200
    assert other.id != money.gateway.key_id


def test_a_projects_budget_covers_the_keys_of_that_project(money: Money, store: Store) -> None:
    _, secret = Accounts(store).create_key(money.organization, project="search")
    budget = money.limit(0, scope="project", scope_id="search")
    refused = money.gateway.post(ask(max_tokens=1), key=secret)
    assert refused.status == 429 and "project search" in refused.json["error"]["message"]
    assert money.gateway.post(ask(max_tokens=1)).status == 200
    assert money.rated() == (0, 0)
    money.ledger.change_budget(budget, 100 * UNIT)
    assert money.gateway.post(ask(max_tokens=10), key=secret).status == 200
    assert money.rated() == (5 * INPUT_NANO + 3 * OUTPUT_NANO, 0)
    with money.ledger.store.read() as connection:
        assert set(connection.execute(select(events.c.project)).scalars()) == {"", "search"}


def test_prepaid_credit_is_used_up_to_the_last_that_fits_and_goes_on_once_more_is_paid(money: Money) -> None:
    prepay(money.ledger, money.organization, 3 * UNIT, "bank-1")
    money.gateway.start()
    fits = 0
    while money.gateway.post(ask(max_tokens=100)).status == 200:
        fits += 1
        money.rated()
    assert fits > 0
    spent, _ = money.rated()
    assert spent == fits * (5 * INPUT_NANO + 3 * OUTPUT_NANO)
    answer = money.gateway.post(ask(max_tokens=100))
    assert answer.status == 429 and "prepaid credit" in answer.json["error"]["message"]
    prepay(money.ledger, money.organization, 3 * UNIT, "bank-2")
    assert money.gateway.post(ask(max_tokens=100)).status == 200


def test_requests_that_arrive_together_pass_no_limit(money: Money, engine: ScriptedEngine) -> None:
    """Each may cost a little over two units: of forty, four fit into ten at a time."""
    money.limit(10 * UNIT)
    most = []
    counted = threading.Lock()

    async def script(answering: Answering) -> None:
        spent, held = money.state()
        with counted:
            most.append(spent + held)
        await answering.stream(
            chunk("x", timings=timings(5, 1)),
            {**chunk(finish="length"), "usage": usage(5, 100), "timings": timings(5, 100)},
        )

    engine.script = script
    answers: list[int] = []

    def client() -> None:
        answers.append(money.gateway.post(ask(max_tokens=100)).status)

    clients = [threading.Thread(target=client) for _ in range(40)]
    for thread in clients:
        thread.start()
    for thread in clients:
        thread.join()
    spent, held = money.rated()
    assert set(answers) == {200, 429}
    assert spent == answers.count(200) * (5 * INPUT_NANO + 100 * OUTPUT_NANO) and held == 0
    assert max(most) <= 10 * UNIT and spent <= 10 * UNIT
    # What is left is too little for one more, though not for a smaller one.
    while money.gateway.post(ask(max_tokens=100)).status == 200:
        money.rated()
    assert money.gateway.post(ask(max_tokens=1)).status == 200
    assert money.rated()[0] <= 10 * UNIT


def test_b13_a_client_that_leaves_before_its_hold_stands_leaves_nothing_held(
    money: Money, engine: ScriptedEngine
) -> None:
    money.limit(1000 * UNIT)
    engine.asked.clear()
    money.holds.open = False
    wire = money.gateway.wire()
    wire.send(post(ask(), money.gateway.key))
    until(lambda: money.holds.wanted)
    assert money.gateway.metric("sublet_gateway_holding") == 1
    wire.close()
    until(lambda: money.gateway.metric("sublet_gateway_in_flight") == 0)
    money.holds.let()
    assert money.rated() == (0, 0)
    assert not engine.asked


@pytest.mark.parametrize("delivered", [0, 2])
def test_b13_a_client_that_leaves_pays_what_it_got_and_leaves_nothing_held(
    money: Money, engine: ScriptedEngine, delivered: int
) -> None:
    async def script(answering: Answering) -> None:
        await answering.head()
        for number in range(delivered):
            await answering.part(event(chunk(f"t{number};", timings=timings(9, number + 1, cached=4))))
        await answering.gone()

    engine.script = script
    money.limit(1000 * UNIT)
    wire = money.gateway.wire()
    wire.send(post(ask(stream=True), money.gateway.key))
    if delivered:
        wire.read_until(f"t{delivered - 1};".encode())
    else:
        until(lambda: engine.asked)
    wire.close()
    cost = (5 * INPUT_NANO + 4 * INPUT_NANO // 10 + delivered * OUTPUT_NANO) if delivered else 0
    assert money.rated() == (cost, 0)


@pytest.mark.parametrize("how", ["dies", "refuses", "is silent about usage"])
def test_b13_an_engine_that_fails_leaves_nothing_held(money: Money, engine: ScriptedEngine, how: str) -> None:
    async def script(answering: Answering) -> None:
        if how == "dies":
            answering.writer.close()
        elif how == "refuses":
            await answering.answer({"error": {"message": "no"}}, 400)
        else:
            await answering.stream(chunk(finish="stop"))

    engine.script = script
    money.limit(1000 * UNIT)
    expected = {"dies": {502, 503}, "refuses": {400}, "is silent about usage": {200}}
    assert money.gateway.post(ask()).status in expected[how]
    # What nobody counted is estimated: a token of text and four of the template.
    assert money.rated() == (5 * INPUT_NANO if how == "is silent about usage" else 0, 0)
    assert money.holds_open() == 0


def test_b13_without_a_replica_nothing_stays_held_or_is_used_up(money: Money, store: Store) -> None:
    money.limit(1000 * UNIT)
    with store.read() as connection:
        replica = connection.execute(select(replicas.c.id)).scalar_one()
    set_replica(store, replica, state="lost")
    until(lambda: money.gateway.post(ask()).status == 503)
    left = money.gateway.post(ask()).headers["x-ratelimit-remaining-requests"]
    refused = money.gateway.post(ask())
    assert (refused.status, refused.json["error"]["code"]) == (503, "no_replica")
    assert int(refused.headers["x-ratelimit-remaining-requests"]) >= int(left)
    assert money.rated()[1] == 0


def test_a_gateway_that_ends_lets_go_of_what_it_has_under_way(
    money: Money, engine: ScriptedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "HOLDS_S_MAX", 12.0)

    async def script(answering: Answering) -> None:
        await answering.gone()

    engine.script = script
    money.limit(1000 * UNIT)
    wires: list[Wire] = [money.gateway.wire() for _ in range(8)]
    for wire in wires[:6]:
        wire.send(post(ask(), money.gateway.key))
    # Four have a slot, two wait for one; the holds of the last two are still being placed when the gateway ends.
    until(lambda: len(engine.asked) == 4 and money.holds_open() == 6)
    money.holds.open = False
    for wire in wires[6:]:
        wire.send(post(ask(), money.gateway.key))
    until(lambda: len(money.holds.wanted) == 2)
    ending = threading.Thread(target=money.gateway.stop)
    ending.start()
    for wire in wires:
        wire.read_all()
    money.holds.let()
    ending.join()
    assert money.holds_open() == 0
    assert money.rated() == (0, 0)


def test_b14_with_the_budget_out_of_reach_what_it_covers_waits_and_the_rest_goes_on(money: Money, store: Store) -> None:
    _, secret = Accounts(store).create_key(Accounts(store).create_organization("free").id)
    money.limit(1000 * UNIT)
    money.holds.error = UnavailableError("the database can't be reached")
    refused = money.gateway.post(ask())
    assert (refused.status, refused.json["error"]["code"]) == (503, "budget_unreachable")
    assert refused.headers["retry-after"] == "2"
    assert money.gateway.post(ask(), key=secret).status == 200
    money.holds.error = None
    assert money.gateway.post(ask()).status == 200


def test_a_hold_that_takes_too_long_is_given_up(money: Money, monkeypatch: pytest.MonkeyPatch) -> None:
    money.limit(1000 * UNIT)
    money.holds.open = False
    monkeypatch.setattr(held_requests, "PLACING_S_MAX", 0.0)
    refused = money.gateway.post(ask())
    assert (refused.status, refused.json["error"]["code"]) == (503, "budget_unreachable")
    money.holds.let()
    assert money.rated() == (0, 0)


def test_b15_a_budget_that_is_made_while_the_gateway_runs_is_known_within_a_second(money: Money) -> None:
    money.gateway.start()
    assert money.gateway.post(ask(max_tokens=1)).status == 200
    money.ledger.create_budget(new_budget(money.organization, 0))
    until(lambda: money.gateway.post(ask(max_tokens=1)).status == 429)


def test_b15_a_budget_that_is_raised_or_ended_is_so_at_once(money: Money) -> None:
    budget = money.limit(0)
    assert money.gateway.post(ask(max_tokens=1)).status == 429
    money.ledger.change_budget(budget, 1000 * UNIT)
    assert money.gateway.post(ask(max_tokens=1)).status == 200
    money.ledger.change_budget(budget, 0)
    assert money.gateway.post(ask(max_tokens=1)).status == 429
    money.ledger.end_budget(budget)
    assert money.gateway.post(ask(max_tokens=1)).status == 200


def test_a_request_counts_in_the_period_in_which_it_was_held(
    money: Money, engine: ScriptedEngine, clock: SimulatedClock
) -> None:
    """The clock passes midnight under it: the day that promised it pays for it."""
    day = clock.now().replace(hour=0, minute=0, second=0, microsecond=0)
    clock.set(day + timedelta(hours=23, minutes=59, seconds=59))
    money.limit(1000 * UNIT, period="day")
    going = asyncio.Event()

    async def script(answering: Answering) -> None:
        await answering.head()
        await answering.part(event(chunk("x", timings=timings(9, 1))))
        await asyncio.wait_for(going.wait(), 20)
        await answering.part(event("[DONE]"))
        await answering.end()

    engine.script = script
    wire = money.gateway.wire()
    wire.send(post(ask(stream=True), money.gateway.key, extra="connection: close\r\n"))
    wire.read_until(b'"content":"x"')
    clock.set(day + timedelta(days=1, seconds=1))
    engine.loop.call_soon_threadsafe(going.set)
    assert b"[DONE]" in wire.read_all()
    money.rated()
    with money.ledger.store.read() as connection:
        rows = {row.period_start: row.spent_nano for row in connection.execute(select(budget_states))}
    assert rows[day] == 9 * INPUT_NANO + OUTPUT_NANO and not rows.get(day + timedelta(days=1))


def test_events_that_the_ledger_refuses_are_set_aside_and_hold_up_no_other(money: Money) -> None:
    money.limit(1000 * UNIT)
    refuse = money.gateway.ledger
    assert refuse is not None
    asked: list[list[tuple[str, bool]]] = []

    def take(records: list[UsageRecord]) -> None:
        asked.append([(record.meter, record.held) for record in records])
        if any(record.meter == "tokens.output" for record in records):
            raise InvalidInputError("not this one")
        refuse(records)

    money.gateway.ledger = take
    assert money.gateway.post(ask()).status == 200
    until(lambda: (money.gateway.settings.journal_dir / "refused.jsonl").exists())
    assert asked[-2:] == [[("tokens.input", False)], [("tokens.output", False)]]
    # Its hold stays, and expires.
    assert money.holds_open() == 1
    clock = money.ledger.store.clock
    assert isinstance(clock, SimulatedClock)
    clock.advance(6 * 3600)
    money.ledger.expire()
    assert money.holds_open() == 0


def test_a_journal_of_before_is_read() -> None:
    line = b'{"kind":"settle","request":"req_1","organization":"org","key":"k","model":"m","output":3}'
    old = _parsed(b"%08x %b\n" % (zlib.crc32(line), line))
    assert old is not None and not old.held and old.project == ""
    assert b"held" not in line_of(old) and b"project" not in line_of(old)
    assert msgspec.json.decode(line_of(Record(kind="settle", request="r", held=True))[9:])["held"] is True


ASKED = ChatRequest(MODEL, (Turn(Role.USER, (Text("x"),)),))


@pytest.mark.parametrize(
    ("call", "body_bytes", "expected"),
    [
        (Call(CHAT, MODEL, ASKED, output_tokens_max=10), 100, (100 + 1024, 10)),
        (Call(CHAT, MODEL, ASKED), 100, (100 + 1024, 8000)),
        (Call(CHAT, MODEL, ASKED, output_tokens_max=10**6), 10**6, (8000, 8000)),
        (Call(CHAT, MODEL, ASKED, output_tokens_max=1, needs=("chat", "tools")), 100, (8000, 1)),
        (Call(CHAT, MODEL, ASKED, output_tokens_max=1, needs=("chat", "images")), 100, (8000, 1)),
        (Call(EMBEDDING, MODEL, EmbeddingRequest(MODEL, ("x",))), 10**6, (10**6 + 1024, 0)),
    ],
)
def test_the_most_tokens_that_a_request_can_use(call: Call, body_bytes: int, expected: tuple[int, int]) -> None:
    assert tokens_max(call, body_bytes, ModelRoute(MODEL, MODEL, frozenset(), 8000, 0)) == expected
    assert HeldExchange.__slots__


def test_llamacpp_is_told_to_stop_at_its_context(money: Money, engine: ScriptedEngine) -> None:
    money.limit(1000 * UNIT)
    assert money.gateway.post(ask()).status == 200
    assert engine.asked[-1].body["max_tokens"] == 2048
    assert money.gateway.post(ask(max_tokens=7)).status == 200
    assert engine.asked[-1].body["max_tokens"] == 7
    assert whole()["usage"]["completion_tokens"] == 3
