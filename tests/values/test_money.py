"""Money is exact, rounds once and half to even, and refuses what it can't hold."""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Decimal, localcontext

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sublet.values.errors import InvalidInputError
from sublet.values.money import (
    AMOUNT_DIGITS_MAX,
    NANO,
    POSTING_NANO_MAX,
    CurrencyMismatchError,
    Money,
    currency_digits,
    decimal_from_nano,
    nano_from_decimal,
    price_from_nano,
)

nanos = st.integers(min_value=-(10**38), max_value=10**38)
currencies = st.sampled_from(["USD", "EUR", "JPY", "KWD"])


@given(nanos)
def test_nano_and_decimal_are_each_others_inverse(nano: int) -> None:
    assert nano_from_decimal(decimal_from_nano(nano)) == nano
    assert nano_from_decimal(str(decimal_from_nano(nano))) == nano


@given(nanos, nanos, nanos)
def test_sums_are_exact_in_any_order(a: int, b: int, c: int) -> None:
    one, two, three = Money(a), Money(b), Money(c)
    assert (one + two) + three == one + (two + three) == Money(a + b + c)
    assert one + two - two == one
    assert one + -one == Money(0)


def test_totals_far_beyond_what_a_posting_holds_stay_exact() -> None:
    largest = Money(POSTING_NANO_MAX)
    total = sum((largest for _ in range(1000)), Money(0))
    assert total.nano == POSTING_NANO_MAX * 1000
    assert (total + Money(1)).amount - total.amount == Decimal("0.000000001")


def test_a_millionth_of_a_cent_next_to_a_trillion_is_not_lost() -> None:
    assert str(Money.of("1000000000000") + Money.of("0.00000001")) == "1000000000000.00000001 USD"


@given(nanos, currencies)
@example(5_000_000, "USD")
@example(15_000_000, "USD")
@example(-5_000_000, "USD")
@example(-15_000_000, "USD")
@example(500_000_000, "JPY")
def test_rounding_is_half_to_even_in_the_currencys_digits(nano: int, currency: str) -> None:
    with localcontext() as context:
        context.prec = 80
        expected = decimal_from_nano(nano).quantize(Decimal(1).scaleb(-currency_digits(currency)), ROUND_HALF_EVEN)
    rounded = Money(nano, currency).rounded()
    assert rounded.amount == expected
    assert rounded.rounded() == rounded


@given(st.decimals(allow_nan=False, allow_infinity=False, places=12, min_value=-(10**12), max_value=10**12))
def test_more_than_nine_decimals_are_refused_and_never_rounded(amount: Decimal) -> None:
    nano_exact = amount.as_integer_ratio()[0] * NANO % amount.as_integer_ratio()[1] == 0
    if nano_exact:
        assert decimal_from_nano(nano_from_decimal(amount)) == amount
    else:
        with pytest.raises(InvalidInputError, match="more than nine decimals"):
            nano_from_decimal(amount)


@pytest.mark.parametrize("zeros", [0, 20, 60, 400])
def test_a_tenth_decimal_is_seen_however_far_out_it_stands(zeros: int) -> None:
    with pytest.raises(InvalidInputError, match="more than nine decimals"):
        nano_from_decimal("1.000000000" + "0" * zeros + "1")


def test_trailing_zeros_are_not_decimals() -> None:
    assert nano_from_decimal("1.5" + "0" * 400) == 1_500_000_000
    assert nano_from_decimal("1e3") == 1000 * NANO
    assert nano_from_decimal("0e-50") == 0


@pytest.mark.parametrize("text", ["", "abc", "1,5", "1.2.3", "0x10", "$5"])
def test_what_is_no_amount_is_refused_with_the_way_to_write_it(text: str) -> None:
    with pytest.raises(InvalidInputError, match=r"not an amount; use the form 1\.25"):
        nano_from_decimal(text)


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "sNaN"])
def test_what_is_not_finite_is_refused(text: str) -> None:
    with pytest.raises(InvalidInputError, match="finite"):
        nano_from_decimal(text)


def test_an_amount_of_absurd_size_is_refused_at_once() -> None:
    with pytest.raises(InvalidInputError, match=f"more than {AMOUNT_DIGITS_MAX} digits"):
        nano_from_decimal("1e999999")
    assert nano_from_decimal("9" * AMOUNT_DIGITS_MAX) == int("9" * AMOUNT_DIGITS_MAX) * NANO


def test_a_float_is_refused() -> None:
    with pytest.raises(TypeError, match="float"):
        nano_from_decimal(1.5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="int"):
        Money(1.0)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="int"):
        Money(True)


def test_currencies_never_mix() -> None:
    dollars, euros = Money(1, "USD"), Money(1, "EUR")
    for mix in (lambda: dollars + euros, lambda: dollars - euros, lambda: dollars < euros):
        with pytest.raises(CurrencyMismatchError, match="USD and EUR"):
            mix()
    assert dollars != euros


def test_unknown_currency_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="ISO 4217"):
        currency_digits("QQQ")


def test_every_currency_has_the_digits_of_iso_4217() -> None:
    assert [currency_digits(code) for code in ("USD", "JPY", "XOF", "KWD", "IQD", "UGX", "IDR")] == [
        2,
        0,
        0,
        3,
        3,
        0,
        2,
    ]
    with pytest.raises(InvalidInputError, match="ISO 4217"):
        Money(1, "usd").rounded()


@pytest.mark.parametrize(
    ("money", "text"),
    [
        (Money.of(1), "1.00 USD"),
        (Money.of("1.5"), "1.50 USD"),
        (Money.of("-0.000000001"), "-0.000000001 USD"),
        (Money.of("1200", "JPY"), "1200 JPY"),
        (Money.of("0.5", "JPY"), "0.5 JPY"),
        (Money.of("3", "KWD"), "3.000 KWD"),
    ],
)
def test_people_read_at_least_the_currencys_digits(money: Money, text: str) -> None:
    assert str(money) == text


@pytest.mark.parametrize(
    ("nano", "text"), [(0, "0.00"), (20_000_000, "0.02"), (1_100_000_000, "1.10"), (-325, "-0.000000325")]
)
def test_a_price_for_people_has_no_idle_zeros(nano: int, text: str) -> None:
    assert price_from_nano(nano) == text
