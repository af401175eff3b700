"""Ranges for numbers that were published as phrases: "over one third", "about 40", "nearly half"."""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal

from sublet.values.errors import InvalidInputError

_ABOUT_MIN = 0.05
"""How far "about x" reaches at least where x is a whole number ending in zero, as a share of x: "about 20" is 19 to 21."""

_NEAR = 0.1
"""How far below `x` "nearly x" may lie, as a share of x: a convention of the desk, not a fact of language."""

_LOWER_BOUNDS = ("over", "more than", "above", "at least", "+", "or higher", "around, or higher")
_UPPER_BOUNDS = ("under", "less than", "below", "at most", "up to")
_NEARLY = ("nearly", "almost", "near", "close to")
ABOUT = ("about", "approximately", "roughly", "around", "circa", "on the order of", "order of magnitude")


@dataclass(frozen=True, slots=True)
class Interval:
    """All numbers from `low` to `high`."""

    low: float
    high: float

    def __post_init__(self) -> None:
        if math.isnan(self.low) or math.isnan(self.high) or self.low > self.high:
            raise InvalidInputError(f"a range runs from low to high; {self.low:g} to {self.high:g} does not")

    @property
    def is_point(self) -> bool:
        return self.low == self.high

    def __add__(self, other: Interval) -> Interval:
        return Interval(self.low + other.low, self.high + other.high)

    def __sub__(self, other: Interval) -> Interval:
        return Interval(self.low - other.high, self.high - other.low)

    def __mul__(self, other: Interval) -> Interval:
        corners = [a * b for a in (self.low, self.high) for b in (other.low, other.high)]
        return Interval(min(corners), max(corners))

    def __truediv__(self, other: Interval) -> Interval:
        if other.low <= 0.0 <= other.high:
            raise InvalidInputError("a range that contains zero can't be divided by; narrow it first")
        return self * Interval(1.0 / other.high, 1.0 / other.low)

    def scaled(self, factor: float) -> Interval:
        """The same range in another unit: both ends times a `factor` above zero."""
        return Interval(self.low * factor, self.high * factor)

    def contains(self, value: float) -> bool:
        return self.low <= value <= self.high

    def __str__(self) -> str:
        return f"{self.low:g}" if self.is_point else f"{self.low:g} to {self.high:g}"


def printed_to(value: float, digits_of: str | None = None) -> Interval:
    """What `value` may have been before it was rounded to the digits that were printed: half a unit of the last one.

    `digits_of` is the number as printed where that differs from Python's shortest form ("3.0").
    """
    number = Decimal(digits_of if digits_of is not None else f"{value:.15g}")
    exponent = min(0, int(number.as_tuple().exponent)) if digits_of is None else number.as_tuple().exponent
    half = float(Decimal(5).scaleb(int(exponent) - 1))
    return Interval(value - half, value + half)


def of_phrase(phrase: str, value: float, ceiling: float = math.inf, floor: float = 0.0) -> Interval:
    """The range that a qualifier and a number stand for.

    over x: [x, ceiling]; under x: [floor, x]; nearly x: [0.9 x, x]; about x: half a unit of the last printed digit
    either side, and at least 5 % for a whole number that ends in zero; no phrase: the number itself. Raises
    InvalidInputError for a phrase that the desk does not know.
    """
    words = phrase.strip().lower()
    if not words:
        return Interval(value, value)
    if words in _LOWER_BOUNDS:
        return Interval(value, max(ceiling, value))
    if words in _UPPER_BOUNDS:
        return Interval(min(floor, value), value)
    if words in _NEARLY:
        return Interval(min(value * (1 - _NEAR), value), max(value * (1 - _NEAR), value))
    if words in ABOUT:
        round_number = value == int(value) and int(value) % 10 == 0
        half = max(printed_to(value).high - value, _ABOUT_MIN * abs(value) if round_number else 0.0)
        return Interval(value - half, value + half)
    known = ", ".join((*_LOWER_BOUNDS[:3], *_UPPER_BOUNDS[:2], *_NEARLY[:2], *ABOUT[:3]))
    raise InvalidInputError(f"qualifier {phrase!r} is not one that the desk can read as a range; use one of: {known}")
