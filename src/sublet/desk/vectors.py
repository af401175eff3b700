"""Columns of tables and series over time: lists of Terms with labels, on which a case's formulas work element by element."""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import reduce

from sublet.desk.errors import CalculationError, CaseError, FamilyError, UnitError, nearest
from sublet.desk.lineage import NOTHING, Lineage
from sublet.desk.terms import Term, as_term, greatest, least, listed, reference
from sublet.desk.units import NUMBER

_OPERATORS: dict[str, Callable[[Term, Term], Term]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "**": operator.pow,
}
_PER_UNIT = {"W": "watt", "accelerator": "accelerator", "token": "token"}
"""Prices per one of these don't add up: a sum of them has no meaning without the quantities."""


@dataclass(frozen=True, slots=True)
class Vector:
    """`terms` by `labels`. `of` is the table or calendar that the labels belong to; vectors of two of them don't combine.

    `text` is how a formula names it. `years` is the length of a period of a series, None for a table's column. `keys` are
    the numbers by which rows are looked up, in ascending order; None where the labels are names. `by_date`: the labels are dates.
    """

    terms: tuple[Term, ...]
    labels: tuple[str, ...]
    of: str
    text: str
    years: float | None = None
    keys: tuple[Term, ...] | None = None
    by_date: bool = False

    def with_terms(self, terms: Sequence[Term], text: str) -> Vector:
        """The same labels with other terms."""
        return Vector(tuple(terms), self.labels, self.of, text, self.years, self.keys, self.by_date)


Operand = Term | Vector


def combined(sign: str, left: Operand, right: Operand) -> Operand:
    """`left sign right`, element by element where one of them is a vector.

    Raises CaseError for vectors of two tables or calendars.
    """
    act = _OPERATORS[sign]
    if not isinstance(left, Vector) and not isinstance(right, Vector):
        return act(left, right)
    first, second = spread(left, right)
    shape = left if isinstance(left, Vector) else right
    assert isinstance(shape, Vector)
    text = f"{_within(left, sign)} {sign} {_within(right, sign)}"
    return shape.with_terms([act(one, other) for one, other in zip(first, second, strict=True)], text)


def spread(*operands: Operand) -> tuple[tuple[Term, ...], ...]:
    """The terms of each operand; a single one is repeated. Raises CaseError for vectors of two tables or calendars."""
    vectors = [operand for operand in operands if isinstance(operand, Vector)]
    for other in vectors[1:]:
        if other.of != vectors[0].of:
            raise CaseError(
                f"{vectors[0].text} is by {vectors[0].of} and {other.text} by {other.of}; "
                "bring both to one table or calendar before you combine them"
            )
    count = len(vectors[0].terms) if vectors else 1
    return tuple(
        operand.terms if isinstance(operand, Vector) else (operand,) * count  # a single number goes with each element
        for operand in operands
    )


def text_of(operand: Operand) -> str:
    """An operand as a formula would name it."""
    if isinstance(operand, Vector):
        return operand.text
    return operand.name or (f"{operand.value:g}" if operand.op == "const" else "(…)")


def total(vector: Vector) -> Term:
    """The sum of a vector. Raises FamilyError for prices per watt, accelerator or token, which don't add up."""
    first = vector.terms[0]
    for name, exponent in (first.unit or NUMBER).dimensions:
        if exponent < 0 and name in _PER_UNIT:
            raise FamilyError(
                f"{vector.text} is a price per {_PER_UNIT[name]}; a sum of prices has no meaning: multiply each by its "
                "quantity first, as in sum(TABLE.price * TABLE.power)",
                field="unit",
            )
    return listed("sum", same_kind(vector.terms), vector.text)


def extreme(name: str, terms: Sequence[Term], text: str) -> Term:
    """The least or the greatest of `terms`."""
    return listed(name, same_kind(terms), text)


def same_kind(terms: Sequence[Term]) -> list[Term]:
    """All in the unit of the first, each made of what all are made of.

    Raises UnitError, BasisError or FamilyError for two that may not be combined.
    """
    so_far = terms[0]
    unit = so_far.unit or NUMBER
    for position, term in enumerate(terms[1:], start=1):
        met = least(so_far, term)
        so_far = reference(f"the first {position + 1}", met.value, unit, lineage=met.lineage)
    lineage = reduce(Lineage.joined, (term.lineage for term in terms), NOTHING)
    return [(term if term.unit is None else term.in_unit(unit)).with_lineage(lineage) for term in terms]


def net_present_value(rate: Term, vector: Vector) -> Term:
    """The flows discounted at `rate`, the first by one period: as a spreadsheet's NPV does.

    The rate is a year's for a series, and a row's for a table. Raises UnitError for a rate that is not a plain number.
    """
    if rate.unit is not None and not rate.unit.is_number:
        raise UnitError(f"npv(): the rate must be a plain number, not {rate.unit.label!r}; write 8 % as 0.08")
    if not -1.0 < rate.value < 1.0:
        raise CalculationError(f"npv(): the rate is {rate.value:g}; write it as a fraction, 8 % as 0.08")
    each = rate.bare()
    if vector.years is not None and vector.years != 1.0:
        each = (each + 1.0) ** vector.years - 1.0
    flows = same_kind(vector.terms)
    return listed("npv", flows, vector.text, first=each)


def internal_rate_of_return(vector: Vector) -> Term:
    """The rate at which the flows are worth nothing: a year's for a series, a row's for a table.

    Raises CalculationError unless the flows change sign exactly once, as otherwise there is none or more than one.
    """
    signs = [term.value > 0 for term in vector.terms if term.value != 0]
    changes = sum(one != other for one, other in itertools.pairwise(signs))
    if changes != 1:
        raise CalculationError(
            f"irr(): {vector.text} changes its sign {changes} times, so there is "
            f"{'no rate of return' if changes == 0 else 'more than one rate of return'}; "
            "give an outlay below zero and what follows above zero, or use npv()"
        )
    found = listed("irr", same_kind(vector.terms), vector.text).bare()
    if not math.isfinite(found.value):
        raise CalculationError(
            f"irr(): {vector.text} has no rate of return above -99 % and below 1,000 %; check the flows"
        )
    if vector.years is not None and vector.years != 1.0:
        found = (found + 1.0) ** (1.0 / vector.years) - 1.0
    return replace(found, unit=NUMBER)


def looked_up(vector: Vector, key: Term | str) -> Term:
    """The element of a label, or of the last key that is not above a number.

    Raises CaseError with the nearest label, and CalculationError for a number below the first key.
    """
    if isinstance(key, str):
        if vector.by_date:
            return vector.terms[_place_of_day(vector, key)]
        if key not in vector.labels:
            raise CaseError(f"lookup(): {vector.text} has no row {key!r}; {nearest(key, vector.labels)}")
        return vector.terms[vector.labels.index(key)]
    if vector.keys is None:
        raise CaseError(
            f"lookup(): the rows of {vector.text} have names, not numbers; write one in quotes, as in "
            f"lookup({vector.text}, '{vector.labels[0]}')"
        )
    sought = key.in_unit(vector.keys[0].unit or NUMBER)
    if sought.value < vector.keys[0].value:
        raise CalculationError(
            f"lookup(): {key.name or 'the number'} is {sought.value:g}, below {vector.keys[0].value:g}, the first of {vector.text}; "
            "add a row for it"
        )
    values = same_kind(vector.terms)
    keys = [term.bare() for term in vector.keys]
    return listed("lookup", values, vector.text, first=sought.bare(), keys=keys)


def _place_of_day(vector: Vector, day: str) -> int:
    """The last row that is not after a day."""
    try:
        sought = date.fromisoformat(day).isoformat()
    except ValueError as error:
        raise CaseError(f"lookup(): {day!r} is no date; write one like 2027-03-31") from error
    known = [place for place, label in enumerate(vector.labels) if label <= sought]
    if not known:
        raise CaseError(
            f"lookup(): {day} lies before {vector.labels[0]}, the first date of {vector.text}; add a row for it"
        )
    return known[-1]


def _within(operand: Operand, sign: str) -> str:
    text = text_of(operand)
    return f"({text})" if isinstance(operand, Vector) and " " in text and sign not in ("+",) else text


def limited(name: str, left: Operand, right: Operand) -> Operand:
    """The least or greatest of two, element by element where one of them is a vector."""
    act = {"min": least, "max": greatest}[name]
    if not isinstance(left, Vector) and not isinstance(right, Vector):
        return as_term(act(left, right))
    first, second = spread(left, right)
    shape = left if isinstance(left, Vector) else right
    assert isinstance(shape, Vector)
    pairs = zip(first, second, strict=True)
    return shape.with_terms([act(one, other) for one, other in pairs], f"{name}({text_of(left)}, {text_of(right)})")
