"""Plans as data: what a plan's file may say, what a coupon may take off, and which changes a subscription takes."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from sublet.ledger.plans.model import (
    ADD_ONS_MAX,
    PLAN_BYTES_MAX,
    STATES_MAX,
    TRIAL_DAYS_MAX,
    USAGE_MAX,
    Coupon,
    State,
    Subscription,
    plan_from_dict,
    plan_from_toml,
)
from sublet.values.errors import ConflictError, InvalidInputError

START = datetime(2026, 1, 1, tzinfo=UTC)
USAGE: dict[str, Any] = {"meter": "requests", "kind": "per_unit", "amount": "0.02", "included": 10}
PLAN: dict[str, Any] = {
    "id": "team",
    "currency": "EUR",
    "amount": "31",
    "usage": [USAGE],
    "add_ons": [{"id": "support", "amount": "62"}],
}


def days(count: float) -> timedelta:
    return timedelta(days=count)


def test_a_plan_reads_the_same_from_its_file() -> None:
    text = 'id = "team"\ncurrency = "EUR"\namount = "31"\nfor_sale = false\n'
    plan = plan_from_toml(text, "plan.toml")
    assert (plan.id, plan.name, plan.every, plan.begins, plan.amount) == ("team", "team", "month", "anniversary", 31)
    assert not plan.for_sale and plan.as_dict()["seat_amount"] is None
    assert (
        plan.sha256 == plan_from_dict({"id": "team", "currency": "EUR", "amount": "31", "for_sale": False}, "x").sha256
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("id = ", "plan.toml is not TOML"),
        ("# " + "x" * PLAN_BYTES_MAX, f"larger than {PLAN_BYTES_MAX} bytes"),
        ('id = "team"\ncurency = "EUR"', "currency"),
    ],
)
def test_a_file_that_is_no_plan_is_named(text: str, words: str) -> None:
    with pytest.raises(InvalidInputError, match=words):
        plan_from_toml(text, "plan.toml")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"every": "week"}, "'week' must be month or year"),
        ({"begins": "friday"}, "'friday' must be anniversary or calendar"),
        ({"trial_days": TRIAL_DAYS_MAX + 1}, f"at most {TRIAL_DAYS_MAX}"),
        ({"amount": "0.0000000001"}, "nine decimals"),
        ({"usage": [USAGE] * (USAGE_MAX + 1)}, f"at most {USAGE_MAX} tables"),
        ({"usage": ["requests"]}, "is not a table"),
        ({"usage": [USAGE | {"free": 10}]}, "write included"),
        ({"usage": [USAGE | {"organization": "acme"}]}, "not a field of a plan's usage"),
        ({"usage": [{"kind": "flat", "amount": "5"}]}, "meter is missing"),
        ({"add_ons": [{"id": "a", "amount": "1"}] * 2}, "not used twice"),
        ({"add_ons": [{"id": "a" * 31, "amount": "1"}]}, "at most 30 characters"),
        ({"add_ons": [{"id": f"a{number}", "amount": "1"} for number in range(ADD_ONS_MAX + 1)]}, "tables"),
    ],
)
def test_what_a_plan_may_not_say_is_refused_by_its_field(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInputError, match=words):
        plan_from_dict(PLAN | changes, "test")


def test_an_add_on_that_the_plan_does_not_have_is_refused_with_those_it_has() -> None:
    plan = plan_from_dict(PLAN, "test")
    assert plan.add_on("support").amount == 62
    with pytest.raises(InvalidInputError, match="it has support"):
        plan.add_on("suport")
    with pytest.raises(InvalidInputError, match="it has none"):
        plan_from_dict(PLAN | {"add_ons": []}, "test").add_on("support")


@pytest.mark.parametrize(
    ("terms", "words"),
    [
        ({}, "either a percentage or an amount"),
        ({"percent": Decimal(5), "amount": Decimal(5)}, "either a percentage or an amount"),
        ({"percent": Decimal(101)}, "0 to 100 %"),
        ({"amount": Decimal(-1)}, "a positive amount"),
        ({"amount": Decimal(5), "covers_usage": True}, "only a percentage"),
    ],
)
def test_a_coupon_that_makes_no_sense_is_refused(terms: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInputError, match=words):
        Coupon("welcome", **terms)


def test_a_coupon_is_read_as_it_was_written() -> None:
    for coupon in (
        Coupon("welcome", Decimal("12.5"), until=START, covers_usage=True),
        Coupon("five", amount=Decimal(5)),
    ):
        assert Coupon.of(coupon.as_dict()) == coupon


def subscription(**changes: Any) -> Subscription:
    first = State(1, START, "team", 1, seats=2, add_ons=(("support", 1),))
    made = Subscription("pls_1", "org_1", START, START + days(14), START + days(14), None, START - days(2), (first,))
    return replace(made, **changes)


def test_a_subscription_tells_where_it_is_in_its_life() -> None:
    found = subscription(ends_at=START + days(60))
    told = [found.status(START + days(day)) for day in (-1, 1, 60)]
    assert told == ["scheduled", "ending", "ended"]
    assert [subscription().status(START + days(day)) for day in (1, 20)] == ["trial", "active"]
    assert found.at(START - days(1)).seats == 2 and State.of(found.states[0].as_dict()) == found.states[0]


def test_a_change_replaces_what_was_scheduled_for_later_and_none_goes_back() -> None:
    later = State(0, START + days(20), "team", 1, seats=5)
    found = subscription().changed(later, START).changed(replace(later, at=START + days(10), seats=3), START)
    assert [(state.seats, state.withdrawn) for state in found.states] == [(2, False), (5, True), (3, False)]
    assert [state.number for state in found.states] == [1, 2, 3] and len(found.live) == 2
    with pytest.raises(ConflictError, match="can't be before that"):
        found.changed(replace(later, at=START + days(5)), START + days(11))
    with pytest.raises(ConflictError, match="start a new one"):
        subscription(ends_at=START + days(15)).changed(later, START)
    full = subscription(states=tuple(State(n, START, "team", 1) for n in range(1, STATES_MAX + 1)))
    with pytest.raises(ConflictError, match=f"at most {STATES_MAX} times"):
        full.changed(later, START)
