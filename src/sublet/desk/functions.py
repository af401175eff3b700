"""The functions of a case's own formulas that are not models of the desk: choices, lists, and what series need."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce

from sublet.desk import vectors
from sublet.desk.errors import CaseError
from sublet.desk.terms import Term, chosen, constant
from sublet.desk.units import NUMBER
from sublet.desk.vectors import Operand, Vector

Argument = Operand | str
Rows = Callable[[str, Sequence[str]], None]
"""Checks that named capacity rows may be put together; called with the function's name and the rows' names."""


@dataclass(frozen=True, slots=True)
class Function:
    """A function by name: its parameters as the manual writes them, and what it does with the arguments."""

    parameters: str
    act: Callable[..., Operand]

    @property
    def meaning(self) -> str:
        return inspect.cleandoc(self.act.__doc__ or "")

    @property
    def counts(self) -> tuple[int, int]:
        """The fewest and the most arguments."""
        names = self.parameters.split(", ")
        return len(names) - self.parameters.count("…"), 10_000 if "…" in self.parameters else len(names)


def _if(condition: Operand, then: Operand, otherwise: Operand) -> Operand:
    """One of two values by a comparison: if(a > b, x, y). The branch that isn't taken may divide by zero."""
    if not any(isinstance(operand, Vector) for operand in (condition, then, otherwise)):
        assert isinstance(condition, Term) and isinstance(then, Term) and isinstance(otherwise, Term)
        return _chosen(condition, then, otherwise)
    columns = vectors.spread(condition, then, otherwise)
    terms = [_chosen(*each) for each in zip(*columns, strict=True)]
    shape = next(operand for operand in (condition, then, otherwise) if isinstance(operand, Vector))
    texts = ", ".join(vectors.text_of(operand) for operand in (condition, then, otherwise))
    return shape.with_terms(terms, f"if({texts})")


def _chosen(condition: Term, then: Term, otherwise: Term) -> Term:
    first, second = _zeroed(then, otherwise)
    assert isinstance(first, Term) and isinstance(second, Term)
    return chosen(condition, first, second)


def _min(*operands: Operand) -> Operand:
    """The least of several values, or of a column or series."""
    return _extreme("min", operands)


def _max(*operands: Operand) -> Operand:
    """The greatest of several values, or of a column or series."""
    return _extreme("max", operands)


def _extreme(name: str, operands: Sequence[Operand]) -> Operand:
    if len(operands) == 1 and isinstance(operands[0], Vector):
        return vectors.extreme(name, operands[0].terms, operands[0].text)
    return reduce(lambda left, right: vectors.limited(name, *_zeroed(left, right)), operands)


def _sum(*operands: Operand) -> Operand:
    """The sum of several values, or of a column or series: sum(deals.power * deals.price)."""
    terms = [vectors.total(operand) if isinstance(operand, Vector) else operand for operand in operands]
    return reduce(lambda left, right: left + right, terms)


def _count(column: Vector) -> Operand:
    """How many rows a table or periods a calendar has."""
    return constant(float(len(column.terms)), NUMBER)


def _average(column: Vector) -> Operand:
    """The mean of a column or series whose elements add up; for prices, divide the sum of what was paid by the sum of quantities."""
    return vectors.total(column) / constant(float(len(column.terms)), NUMBER)


def _npv(rate: Operand, flows: Vector) -> Operand:
    """What flows are worth one period before the first of them. The rate is a year's for a series, a row's for a table."""
    if isinstance(rate, Vector):
        raise CaseError(f"npv(): the rate is {rate.text}, a list; give one number")
    return vectors.net_present_value(rate, flows)


def _irr(flows: Vector) -> Operand:
    """The rate at which flows, the first one now, are worth nothing: a year's for a series, a row's for a table."""
    return vectors.internal_rate_of_return(flows)


def _lookup(column: Vector, key: Operand | str) -> Operand:
    """A row's value by its name in quotes; for a table with numbers as keys, that of the last key not above a number."""
    if isinstance(key, Vector):
        raise CaseError(f"lookup(): the key is {key.text}, a list; give one number or a name in quotes")
    return vectors.looked_up(column, key)


FUNCTIONS: dict[str, Function] = {
    "if": Function("condition, then, otherwise", _if),
    "min": Function("value, …", _min),
    "max": Function("value, …", _max),
    "sum": Function("value, …", _sum),
    "count": Function("column", _count),
    "average": Function("column", _average),
    "npv": Function("rate, flows", _npv),
    "irr": Function("flows", _irr),
    "lookup": Function("column, key", _lookup),
}
"""By the name that a formula uses."""

_LISTS = {"count": 0, "average": 0, "npv": 1, "irr": 0, "lookup": 0}
"""Functions that take a list, and at which place."""


def call(name: str, arguments: Sequence[Argument]) -> Operand:
    """The function's result. Raises CaseError for arguments of the wrong number or kind."""
    function = FUNCTIONS[name]
    fewest, most = function.counts
    if not fewest <= len(arguments) <= most:
        raise CaseError(f"{name}() takes {name}({function.parameters}); {len(arguments)} given")
    for place, argument in enumerate(arguments):
        if isinstance(argument, str) and (name, place) != ("lookup", 1):
            raise CaseError(
                f"{name}() has the text {argument!r} where a number belongs; only lookup() takes one, as its key"
            )
    listed = _LISTS.get(name)
    if listed is not None and not isinstance(arguments[listed], Vector):
        raise CaseError(
            f"{name}() takes a column of a table or a series as its argument {listed + 1}, as in {_EXAMPLES[name]}"
        )
    return function.act(*arguments)


_EXAMPLES = {
    "count": "count(deals.power)",
    "average": "average(deals.power)",
    "npv": "npv(0.08, project.flow)",
    "irr": "irr(project.flow)",
    "lookup": 'lookup(deals.price, "H100")',
}


def _zeroed(left: Operand, right: Operand) -> tuple[Operand, Operand]:
    """A plain 0 is a zero of the other side's unit, and a written limit measures what it limits: max(margin, 0) needs no more."""
    return _as_limit_of(left, right), _as_limit_of(right, left)


def _as_limit_of(operand: Operand, other: Operand) -> Operand:
    like = other.terms[0] if isinstance(other, Vector) else other
    if not isinstance(operand, Term) or operand.op != "const" or like.unit is None:
        return operand
    if operand.value == 0 and (operand.unit is None or operand.unit.is_number):
        operand = constant(0.0, like.unit)
    return operand.with_lineage(like.lineage)


def comparable(left: Operand, right: Operand) -> tuple[Operand, Operand]:
    """Both sides of a comparison, a plain 0 in the unit of the other."""
    return _zeroed(left, right)
