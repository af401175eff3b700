"""Tariffs against a naive calculation in fractions, and the rule by which events are posted."""

from __future__ import annotations

import random
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sublet.ledger.prices.book import book_from_dict
from sublet.ledger.prices.tariffs import Tariff
from sublet.ledger.prices.terms import Price
from sublet.values.money import NANO


def tariff(**fields: Any) -> Tariff:
    entry = {"id": "p", "meter": "images", "currency": "USD", "from": "2026-01-01T00:00:00Z"} | fields
    [price] = book_from_dict({"prices": [entry]}, "test").prices
    assert isinstance(price, Price)
    return price.tariff


TIERS = [{"up_to": 100, "amount": "3"}, {"up_to": 1000, "amount": "2", "flat": "5"}, {"amount": "0.5"}]


@pytest.mark.parametrize(
    ("fields", "steps", "expected"),
    [
        ({"kind": "per_unit", "amount": "0.01875", "per": 1_000_000}, 123, Fraction(123 * 1875, 100000 * 1_000_000)),
        ({"kind": "per_unit", "amount": "2", "free": 10}, 10, Fraction(0)),
        ({"kind": "per_unit", "amount": "2", "free": 10}, 11, Fraction(2)),
        ({"kind": "flat", "amount": "7"}, 0, Fraction(0)),
        ({"kind": "flat", "amount": "7"}, 99, Fraction(7)),
        ({"kind": "package", "amount": "3", "size": 10}, 1, Fraction(3)),
        ({"kind": "package", "amount": "3", "size": 10}, 10, Fraction(3)),
        ({"kind": "package", "amount": "3", "size": 10}, 11, Fraction(6)),
        ({"kind": "graduated", "tiers": TIERS}, 100, Fraction(300)),
        ({"kind": "graduated", "tiers": TIERS}, 101, Fraction(300 + 5 + 2)),
        ({"kind": "graduated", "tiers": TIERS}, 1002, Fraction(300 + 5 + 1800 + 1)),
        ({"kind": "volume", "tiers": TIERS}, 100, Fraction(300)),
        ({"kind": "volume", "tiers": TIERS}, 101, Fraction(5 + 202)),
        ({"kind": "volume", "tiers": TIERS}, 2000, Fraction(1000)),
    ],
)
def test_every_kind_of_price(fields: dict[str, Any], steps: int, expected: Fraction) -> None:
    assert tariff(**fields).exact(steps) == expected * NANO


def test_a_discount_takes_its_share_of_everything() -> None:
    found = tariff(kind="graduated", tiers=TIERS).discounted(Fraction(25, 2))
    assert found.exact(1002) == Fraction(2106) * NANO * Fraction(7, 8)


@given(
    quantities=st.lists(st.integers(0, 10**12), min_size=1, max_size=40),
    amount=st.decimals("0", "0.9", places=12),
    per=st.integers(1, 10**7),
    seed=st.integers(),
)
def test_postings_sum_to_the_floor_of_the_exact_total_in_any_order(
    quantities: list[int], amount: Any, per: int, seed: int
) -> None:
    found = tariff(kind="per_unit", amount=format(amount, "f"), per=per)
    random.Random(seed).shuffle(quantities)
    total = posted = 0
    for quantity in quantities:
        before = found.nano(total)
        total += quantity
        posted += found.nano(total) - before
    exact = Fraction(amount) * NANO * sum(quantities) / per
    assert posted == exact.numerator // exact.denominator
    assert 0 <= exact - posted < 1


@given(steps=st.integers(0, 5000), free=st.integers(0, 500))
def test_graduated_against_counting_unit_by_unit(steps: int, free: int) -> None:
    naive = Fraction(0)
    used = max(0, steps - free)
    for unit in range(1, used + 1):
        if unit == 101:
            naive += 5
        naive += 3 if unit <= 100 else 2 if unit <= 1000 else Fraction(1, 2)
    assert tariff(kind="graduated", tiers=TIERS, free=free).exact(steps) == naive * NANO


@st.composite
def any_tariff(draw: st.DrawFn) -> Tariff:
    """Any kind of price, dear and cheap tiers in any order."""
    amounts = st.decimals("0", "9", places=4).map(str)
    kind = draw(st.sampled_from(["flat", "per_unit", "graduated", "volume", "package"]))
    free = draw(st.integers(0, 50))
    if kind in ("flat", "per_unit"):
        return tariff(kind=kind, amount=draw(amounts), free=free)
    if kind == "package":
        return tariff(kind=kind, amount=draw(amounts), size=draw(st.integers(1, 60)), free=free)
    starts = sorted(draw(st.sets(st.integers(1, 400), max_size=4)))
    tiers: list[dict[str, Any]] = [{"up_to": start, "amount": draw(amounts), "flat": draw(amounts)} for start in starts]
    tiers.append({"amount": draw(amounts), "flat": draw(amounts)})
    return tariff(kind=kind, tiers=tiers, free=free)


@given(found=any_tariff(), before=st.integers(0, 600), steps=st.integers(1, 600))
def test_no_further_steps_cost_more_than_the_ceiling(found: Tariff, before: int, steps: int) -> None:
    once, unit = found.ceiling()
    posted = found.nano(before + steps) - found.nano(before)
    assert posted <= once + unit * steps + 1
