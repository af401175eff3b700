"""Units, basis, intervals: what converts, what is refused, and which field the refusal names."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sublet.desk.errors import BasisError, UnitError
from sublet.desk.intervals import Interval, of_phrase, printed_to
from sublet.desk.prices import WattPrice
from sublet.desk.units import Basis, parse_unit
from sublet.values.errors import InvalidInputError


@pytest.mark.parametrize(
    "other", ["USD bn/GW-yr", "USD m/MW-yr", "USD/W-yr", "USD/W, one-year term", "USD bn / GW / year (as printed)"]
)
def test_the_three_ways_of_quoting_a_watt_year_are_one_number(other: str) -> None:
    assert parse_unit("USD/W-yr").factor_to(parse_unit(other)) == 1


@pytest.mark.parametrize(
    ("unit", "other", "factor"),
    [
        ("GW", "MW", 1000),
        ("USD bn", "USD m", 1000),
        ("USD/W-yr", "USD/kW-month", Fraction(1000, 12)),
        ("USD/MWh", "USD/W-yr", Fraction(8760, 10**6)),
        ("bn shares", "bn diluted shares", 1),
        ("%", "share", Fraction(1, 100)),
        ("months", "yr", Fraction(1, 12)),
        ("USD/share per GW", "USD/share per MW", Fraction(1, 1000)),
        ("Mtok", "tok", 10**6),
    ],
)
def test_conversions_that_are_defined(unit: str, other: str, factor: Fraction) -> None:
    assert parse_unit(unit).factor_to(parse_unit(other)) == factor


def test_a_watt_price_is_not_an_hourly_price() -> None:
    with pytest.raises(UnitError, match="can't be turned into 'USD/GPU-h'"):
        parse_unit("USD/W-yr").factor_to(parse_unit("USD/GPU-h"))


def test_it_power_is_not_facility_power() -> None:
    with pytest.raises(BasisError, match="multiply the IT figure by the PUE"):
        parse_unit("GW IT").factor_to(parse_unit("GW footprint"))


def test_a_unit_nobody_knows_is_refused_with_the_nearest() -> None:
    with pytest.raises(UnitError, match="did you mean 'MW'"):
        parse_unit("USD/MWx")


def test_basis_is_read_from_the_words_after_the_unit() -> None:
    assert parse_unit("GW, self-operated IT").basis is Basis.IT
    assert parse_unit("W per accelerator, all-in utility").basis is Basis.UTILITY
    assert parse_unit("GW").basis is None


@given(
    st.sampled_from(["USD/W-yr", "USD bn", "MW", "USD/MWh", "tok/s/GPU", "bn shares"]),
    st.integers(min_value=-3, max_value=3),
)
def test_dividing_a_unit_by_itself_gives_a_plain_number(label: str, power: int) -> None:
    unit = parse_unit(label)
    assert unit.times(unit, -1).is_number
    assert unit.times(unit, -1).scale == 1


@pytest.mark.parametrize(
    ("phrase", "value", "low", "high"),
    [
        ("over", 1 / 3, 1 / 3, 1.0),
        ("nearly", 0.5, 0.45, 0.5),
        ("about", 2.97, 2.965, 2.975),
        ("roughly", 8.0, 7.5, 8.5),
        ("about", 20.0, 19.0, 21.0),
        ("", 3.0, 3.0, 3.0),
    ],
)
def test_phrases_are_ranges(phrase: str, value: float, low: float, high: float) -> None:
    found = of_phrase(phrase, value, ceiling=1.0 if value < 1 else math.inf)
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))


def test_a_phrase_the_desk_cannot_read_is_refused_with_ones_it_can() -> None:
    with pytest.raises(InvalidInputError, match="use one of: over"):
        of_phrase("abuot", 3.0)


@given(
    st.floats(min_value=-1e6, max_value=1e6),
    st.floats(min_value=0, max_value=1e3),
    st.floats(min_value=1e-3, max_value=1e3),
)
def test_interval_arithmetic_contains_every_outcome(middle: float, spread: float, divisor: float) -> None:
    one, other = Interval(middle - spread, middle + spread), Interval(divisor, divisor * 2)
    for a in (one.low, middle, one.high):
        for b in (other.low, other.high):
            slack = 1e-9 * (abs(a) + abs(b) + abs(a * b) + abs(a / b))
            for whole, part in ((one + other, a + b), (one - other, a - b), (one * other, a * b), (one / other, a / b)):
                assert whole.low - slack <= part <= whole.high + slack


def test_a_range_over_zero_can_not_be_divided_by() -> None:
    with pytest.raises(InvalidInputError, match="contains zero"):
        Interval(1, 2) / Interval(-1, 1)


def test_a_backwards_range_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="runs from low to high"):
        Interval(2, 1)


def test_printed_digits_decide_the_range() -> None:
    found = printed_to(35.2)
    assert (found.low, found.high) == (pytest.approx(35.15), pytest.approx(35.25))


def test_an_unknown_basis_gives_a_range_and_not_a_number() -> None:
    price = WattPrice(30.0, Basis.UNKNOWN)
    assert price.at_it_level(1.1, 1.5) == Interval(30.0, 45.0)
    with pytest.raises(BasisError, match="bring the price to IT level first"):
        price.per_accelerator_hour(1275.0, Basis.IT)
    assert WattPrice(30.0, Basis.IT).at_it_level(1.1, 1.5).is_point
    facility = WattPrice(30.0, Basis.FACILITY).at_it_level(1.1, 1.5)
    assert (facility.low, facility.high) == (pytest.approx(33.0), pytest.approx(45.0))
