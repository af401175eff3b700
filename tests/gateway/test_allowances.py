"""Parts of budgets that a gateway holds for many requests at once: served from memory, given back, exact."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select
from tests.gateway.harness import ScriptedEngine, ask, post, until
from tests.gateway.test_budgets import INPUT_NANO, OUTPUT_NANO, UNIT, Money
from tests.gateway.test_budgets import money as money  # a fixture

from sublet.gateway.metering.journal import ALLOWANCE, CLOSE, Record
from sublet.gateway.metering.meter import Meter
from sublet.gateway.model import KeyGrant, ModelRoute
from sublet.gateway.requests.allowances import (
    FIRST_TIMES,
    IDLE_S,
    PERIOD_US,
    REQUESTS_MIN,
    SERVES_S,
    SHRINKS_BY,
    SPARE,
    AllowanceRequest,
    Allowances,
    BudgetAllowance,
    Granted,
    Moment,
)
from sublet.store.tables.ledger import holds

NOON_US = 1_700_000_100_000_000 // PERIOD_US * PERIOD_US + 1
GRANT = KeyGrant("key_1", "org_1", budgeted=True, budgets=(("bud_1", 1000),))
MODEL = ModelRoute("m", "m", frozenset(), 100, 1)


class Host:
    """A gateway whose allowances are placed when the test says so."""

    def __init__(self) -> None:
        self.lines: list[Record] = []
        self.asked: list[tuple[AllowanceRequest, Callable[[Granted | None], None]]] = []
        self.count = 0

    def next_request_id(self) -> tuple[int, str]:
        self.count += 1
        return self.count, f"req_{self.count:08x}"

    def write_allowance(self, record: Record) -> None:
        self.lines.append(record)

    def allow(self, wanted: AllowanceRequest, placed: Callable[[Granted | None], None]) -> None:
        self.asked.append((wanted, placed))

    def place(self) -> AllowanceRequest:
        """Grant what was asked for, at 1 nano a token of prompt, 2 of answer, and 3 for a request."""
        wanted, placed = self.asked.pop()
        placed(Granted(wanted.times * (3 + wanted.input_max + 2 * wanted.output_max), 3, 1, 2))
        return wanted

    def open(self) -> set[str]:
        return {line.request for line in self.lines if line.kind == ALLOWANCE} - {
            line.request for line in self.lines if line.kind == CLOSE
        }


def used(input: int, output: int) -> Meter:
    meter = Meter()
    meter.input, meter.output = input, output
    return meter


def running(host: Host, now_us: int = NOON_US) -> tuple[Allowances, BudgetAllowance]:
    """Allowances of a key that asks often, and its first one."""
    made = Allowances(host)
    for _ in range(REQUESTS_MIN):
        assert made.take(GRANT, MODEL, (10, 10), Moment(now_us, 0)) is None
    host.place()
    taken = made.take(GRANT, MODEL, (10, 10), Moment(now_us, 0))
    assert taken is not None
    taken[0].back(taken[1], None)
    return made, taken[0]


def test_a_key_that_asks_rarely_has_none() -> None:
    host = Host()
    made = Allowances(host)
    for second in range(20):
        assert made.take(GRANT, MODEL, (10, 10), Moment(NOON_US + second * 1_000_000, second)) is None
    assert host.asked == [] and host.lines == []


def test_the_journal_knows_of_it_before_the_database_does() -> None:
    host = Host()
    made = Allowances(host)
    for _ in range(REQUESTS_MIN):
        made.take(GRANT, MODEL, (10, 10), Moment(NOON_US, 0))
    ((wanted, placed),) = host.asked
    assert [(line.kind, line.request) for line in host.lines] == [(ALLOWANCE, wanted.id)]
    assert (wanted.times, wanted.spare) == (FIRST_TIMES, SPARE)
    placed(None)
    assert host.open() == set() and host.lines[-1].nano == 0


def test_one_that_does_not_fit_is_tried_smaller_and_then_not_for_a_second() -> None:
    host = Host()
    made = Allowances(host)
    for _ in range(REQUESTS_MIN):
        made.take(GRANT, MODEL, (10, 10), Moment(NOON_US, 0))
    times = []
    while host.asked:
        wanted, placed = host.asked.pop()
        times.append(wanted.times)
        placed(None)
        assert made.take(GRANT, MODEL, (10, 10), Moment(NOON_US, 0)) is None
    assert times == [FIRST_TIMES, FIRST_TIMES // SHRINKS_BY]
    for _ in range(REQUESTS_MIN):
        made.take(GRANT, MODEL, (10, 10), Moment(NOON_US, IDLE_S + 0.1))
    assert [wanted.times for wanted, _ in host.asked] == [FIRST_TIMES]
    assert host.open() == {wanted.id for wanted, _ in host.asked}


def test_what_was_not_used_comes_back_and_what_was_is_told_at_the_end() -> None:
    host = Host()
    made, allowance = running(host)
    before = allowance.free_nano
    taken = made.take(GRANT, MODEL, (10, 10), Moment(NOON_US, 0))
    assert taken == (allowance, 33) and allowance.free_nano == before - 33
    allowance.back(33, used(4, 5))
    assert allowance.free_nano == before - 3 - 4 - 10
    made.stop()
    assert host.open() == set()
    assert host.lines[-1].nano == 17


@pytest.mark.parametrize("why", ["old", "period", "changed", "idle", "stopped"])
def test_it_ends_and_is_closed_behind_its_last_request(why: str) -> None:
    host = Host()
    start = NOON_US + PERIOD_US - 2_000_000 if why == "period" else NOON_US
    made, allowance = running(host, start)
    taken = made.take(GRANT, MODEL, (10, 10), Moment(start, 0))
    assert taken is not None
    if why == "stopped":
        made.stop()
    elif why == "idle":
        made.sweep(IDLE_S + 0.1)
    else:
        grant = replace(GRANT, budgets=(("bud_1", 500),)) if why == "changed" else GRANT
        passed_s = {"old": SERVES_S, "period": 2.0, "changed": 0.0}[why]
        assert made.take(grant, MODEL, (10, 10), Moment(start + int(passed_s * 1e6), passed_s)) is None
    assert allowance.closing and allowance.id in host.open()
    allowance.back(taken[1], used(1, 1))
    assert allowance.id not in host.open()


def test_one_that_is_placed_after_the_end_is_given_back() -> None:
    host = Host()
    made = Allowances(host)
    for _ in range(REQUESTS_MIN):
        made.take(GRANT, MODEL, (10, 10), Moment(NOON_US, 0))
    made.stop()
    host.place()
    assert host.open() == set()


def test_nothing_is_kept_of_keys_that_do_not_ask_any_more() -> None:
    host = Host()
    made, _ = running(host)
    made.sweep(20 * IDLE_S)
    made.sweep(20 * IDLE_S)
    assert made._demands == {} and host.open() == set()


@settings(max_examples=60)
@given(st.data())
def test_b12_b13_no_more_is_out_than_was_granted_and_all_comes_back(data: st.DataObject) -> None:
    host = Host()
    made, _ = running(host)
    granted: dict[str, int] = {}
    out: list[tuple[BudgetAllowance, int]] = []
    spent: dict[str, int] = {}
    now = 0.0
    for _ in range(data.draw(st.integers(1, 60))):
        step = data.draw(st.sampled_from(["take", "take", "take", "back", "place", "refuse", "pass"]))
        if step == "take":
            tokens = (data.draw(st.integers(0, 30)), data.draw(st.integers(0, 30)))
            if (taken := made.take(GRANT, MODEL, tokens, Moment(NOON_US + int(now * 1e6), now))) is not None:
                out.append(taken)
                granted.setdefault(taken[0].id, taken[0]._granted.nano)
        elif step == "back" and out:
            allowance, most = out.pop(data.draw(st.integers(0, len(out) - 1)))
            meter = used(min(most // 4, data.draw(st.integers(0, 3))), 0)
            allowance.back(most, meter)
            cost = 3 + meter.input if meter.input else 0
            spent[allowance.id] = spent.get(allowance.id, 0) + cost
        elif step == "place" and host.asked:
            host.place()
        elif step == "refuse" and host.asked:
            host.asked.pop()[1](None)
        elif step == "pass":
            now += data.draw(st.floats(0, SERVES_S))
            made.sweep(now)
        for identifier, nano in granted.items():
            assert sum(most for allowance, most in out if allowance.id == identifier) <= nano
    made.stop()
    while host.asked:
        host.place()
    for allowance, most in out:
        allowance.back(most, None)
    assert host.open() == set()
    closed = {line.request: line.nano for line in host.lines if line.kind == CLOSE}
    assert {name: nano for name, nano in closed.items() if nano} == {name: nano for name, nano in spent.items() if nano}


# Through a gateway, into the ledger


def allowances(money: Money) -> list[Any]:
    with money.ledger.store.read() as connection:
        return list(connection.execute(select(holds).where(holds.c.id.startswith("alw_"))))


@pytest.fixture
def often(money: Money) -> Iterator[Money]:
    money.limit(10_000 * UNIT, period="ever")
    for _ in range(REQUESTS_MIN):
        assert money.gateway.post(ask(max_tokens=10)).status == 200
    until(lambda: allowances(money))
    yield money


def test_a_key_that_asks_often_is_served_from_an_allowance_to_the_last_unit(
    often: Money, engine: ScriptedEngine
) -> None:
    for _ in range(40):
        assert often.gateway.post(ask(max_tokens=10)).status == 200
    count = len(engine.asked)
    spent, held = often.rated()
    # As `_plain` of the harness answers: 5 tokens of prompt and 3 of answer.
    assert (spent, held) == (count * (5 * INPUT_NANO + 3 * OUTPUT_NANO), 0)
    until(lambda: often.rated() and often.holds_open() == 0)
    named = [line for line in often.gateway.journal("settle") if line.get("hold", "").startswith("alw_")]
    assert len(named) > 20
    assert {line["hold"] for line in named} <= {row.id for row in allowances(often)}


def test_b13_whatever_ends_a_request_its_part_comes_back(often: Money, engine: ScriptedEngine) -> None:
    plain = engine.script

    async def broken(answering: Any) -> None:
        await answering.answer({"error": {"message": "no", "type": "server_error"}}, status=500)

    async def silent(answering: Any) -> None:
        await answering.gone()

    for script in (broken, silent, plain):
        engine.script = script
        for _ in range(3):
            wire = often.gateway.wire()
            wire.send(_post(often, max_tokens=10))
            if script is not silent:
                wire.answer()
            wire.close()
    assert often.rated()[1] == 0
    until(lambda: often.rated() and often.holds_open() == 0)


def test_b15_a_budget_that_is_lowered_ends_the_allowance_within_a_second(often: Money) -> None:
    often.ledger.change_budget(often.ledger.budgets(often.organization)[0].budget.id, 1)
    until(lambda: often.gateway.post(ask(max_tokens=10)).status == 429)
    until(lambda: often.rated() and often.holds_open() == 0)


def _post(money: Money, **fields: Any) -> bytes:
    return post(ask(**fields), money.gateway.key)
