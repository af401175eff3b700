"""Formulas with units in their signature: a call converts its arguments to these units, or refuses."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

import numpy as np

from sublet.desk.errors import BasisError, CaseError, UnitError, nearest
from sublet.desk.lineage import NOTHING, Caveat, Lineage, readings, unlike_deals
from sublet.desk.terms import Number, Term, as_term
from sublet.desk.units import NUMBER, Unit, parse_unit, shared_basis
from sublet.values.errors import InvalidInputError


@dataclass(frozen=True, slots=True)
class Limit:
    """What a parameter of a certain name may be. `low` and `high` count as inside unless `open_low` or `open_high`."""

    low: float
    high: float
    advice: str
    open_low: bool = False
    open_high: bool = False

    def check(self, name: str, value: Number, value_name: str = "") -> None:
        """Raises InvalidInputError for a value outside, and for one that is not a number.

        `value_name` goes into the error's details, so that a case can point at the line where the value was given.
        """
        low, high = (value.value, value.value) if isinstance(value, Term) else (np.min(value), np.max(value))
        inside = low > self.low if self.open_low else low >= self.low
        inside = bool(inside and (high < self.high if self.open_high else high <= self.high))
        if not inside:
            shown = low if not (low >= self.low and not (self.open_low and low == self.low)) else high
            raise InvalidInputError(f"{name} is {shown:g}; {self.advice}", field=name, value_name=value_name)


_INF = float("inf")
LIMITS: dict[str, Limit] = {
    "tax": Limit(0.0, 1.0, "write the tax rate as a fraction, 35 % as 0.35", open_high=True),
    "shares": Limit(0.0, _INF, "write the number of diluted shares, above zero", open_low=True),
    "power": Limit(0.0, _INF, "write the capacity as a number above zero", open_low=True),
    "capacity": Limit(0.0, _INF, "write the capacity as a number above zero", open_low=True),
    "watts": Limit(0.0, _INF, "write the watts per accelerator as a number above zero", open_low=True),
    "life": Limit(0.0, _INF, "write the useful life in years, above zero", open_low=True),
    "pue": Limit(1.0, _INF, "PUE is facility power over IT power and can't be below 1; write it like 1.25"),
    "used": Limit(0.0, 1.0, "write the billed share as a fraction between 0 and 1"),
    "displaced_share": Limit(0.0, 1.0, "write the displaced share as a fraction between 0 and 1"),
    "utilization": Limit(0.0, _INF, "write the utilization as a fraction, 60 % as 0.6", open_low=True),
    "rate": Limit(-1.0, 1.0, "write the rate as a fraction, 8 % as 0.08", open_low=True, open_high=True),
    "prior": Limit(0.0, 1.0, "write the probability as a fraction above 0 and below 1", open_low=True, open_high=True),
    "years": Limit(0.0, _INF, "write the length of the term in years, above zero", open_low=True),
    "throughput": Limit(0.0, _INF, "write the tokens per second as a number above zero", open_low=True),
    "backlog": Limit(0.0, _INF, "write the backlog as a number above zero", open_low=True),
}
"""Limits by parameter name: a name means the same in every formula."""


@dataclass(frozen=True, slots=True)
class Formula:
    """A pure function and the units of its parameters and of its result."""

    name: str
    function: Callable[..., Number]
    unit: str
    units: dict[str, str]
    signature: inspect.Signature

    @property
    def meaning(self) -> str:
        """The function's docstring, as one paragraph."""
        return inspect.cleandoc(self.function.__doc__ or "")

    def __call__(self, *args: Number, **kwargs: Number) -> Number:
        """The result for numbers or arrays in the units of `units`, or for Terms in any unit that converts to them."""
        try:
            bound = self.signature.bind(*args, **kwargs)
        except TypeError as error:
            wanted = ", ".join(f"{name} in {unit}" for name, unit in self.units.items())
            unknown = next((name for name in kwargs if name not in self.units), None)
            if unknown is not None:
                near = nearest(unknown, self.units)
                raise CaseError(f"{self.name}() has no parameter {unknown!r}; {near}") from error
            raise CaseError(f"{self.name}(): {error}; it takes {wanted}") from error
        if any(isinstance(value, Term) for value in bound.arguments.values()):
            return self._trace(bound)
        for name, value in bound.arguments.items():
            if name in LIMITS:
                LIMITS[name].check(name, value)
        return self.function(*bound.args, **bound.kwargs)

    def _trace(self, bound: inspect.BoundArguments) -> Term:
        arguments: dict[str, Any] = {}
        for name, value in bound.arguments.items():
            term = self._converted(name, as_term(value))
            if name in LIMITS:
                called = getattr(value, "name", "")
                LIMITS[name].check(called or f"{self.name}(): {name}", term, called)
            arguments[name] = term
        result: Term = as_term(self.function(**arguments))
        return self._stated(result, {name: as_term(value) for name, value in bound.arguments.items()})

    def _stated(self, result: Term, arguments: Mapping[str, Term]) -> Term:
        """The result with its unit, and with the basis and the lineage of what went in."""
        unit, given = parse_unit(self.unit), [*arguments.values()]
        units = [term.unit for term in given if term.unit is not None]
        if unit.basis is not None:
            units = []
        try:
            basis = shared_basis(units)
        except BasisError as error:
            raise BasisError(f"{self.name}(): {error.message}", field="basis") from error
        if unit.basis is None and dict(unit.dimensions).get("W"):
            unit = replace(unit, basis=basis)
        lineage = reduce(Lineage.joined, (term.lineage for term in given), NOTHING).with_caveats(
            *self._caveats(arguments)
        )
        whole = lineage.whole if unit.is_number else ""
        once = self.name in ONE_YEAR_INCOME or lineage.comes_once
        return result.in_unit(unit).with_lineage(replace(lineage, whole=whole, comes_once=once))

    def _caveats(self, arguments: Mapping[str, Term]) -> list[Caveat | None]:
        """What the call takes for granted of its arguments. A typed number is in the parameter's unit, of no stated basis."""
        names = [term.name or f"{self.name}(): {name}" for name, term in arguments.items()]
        typed = {
            name: term.unit is None or (term.op == "const" and term.unit.is_number) for name, term in arguments.items()
        }
        units = [
            parse_unit(self.units[name]) if typed[name] else term.unit or NUMBER for name, term in arguments.items()
        ]
        return [unlike_deals([term.lineage for term in arguments.values()], names), *readings(units, names)]

    def _converted(self, name: str, term: Term) -> Term:
        wanted: Unit = parse_unit(self.units[name])
        if term.unit is None or (term.op == "const" and term.unit.is_number):
            return term.bare()
        try:
            return term.bare(term.unit.factor_to(wanted))
        except UnitError as error:
            called = f" ({term.name})" if term.name else ""
            raise UnitError(f"{self.name}(): {name}{called} must be in {self.units[name]}: {error.message}") from error


ONE_YEAR_INCOME = frozenset(
    {"eps_increment", "net_contribution", "lease_revenue", "proportional_eps", "through_published_cell"}
)
"""Formulas whose result is the income of one year's lease: no valuation multiple may be put on it."""

FORMULAS: dict[str, Formula] = {}
"""Every formula of the desk by name; a case's own formulas may call any of them."""


def formula(unit: str, **units: str) -> Callable[[Callable[..., Number]], Formula]:
    """Declare a function's result unit and its parameters' units, and offer it to cases under its own name."""

    def declare(function: Callable[..., Number]) -> Formula:
        signature = inspect.signature(function)
        if set(signature.parameters) != set(units):
            raise TypeError(f"{function.__name__}: units are declared for other parameters than it has")
        made = Formula(function.__name__, function, unit, units, signature)
        FORMULAS[function.__name__] = made
        return made

    return declare
