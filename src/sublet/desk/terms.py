"""A formula is written once, as a Python function, and read in four ways.

Called with floats it gives a number, with numpy arrays it gives an array, and with `Term`s it gives the tree of the
calculation: which the desk evaluates again for Monte Carlo and tornado, prints for `explain`, and writes into a
workbook as a live formula. So the number, its explanation and the spreadsheet can't disagree.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import reduce
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sublet.desk.errors import UnitError
from sublet.desk.lineage import NOTHING, Lineage, of_given, of_product, of_quotient, of_sum
from sublet.desk.lists import present_value, rate_of_return, row_of
from sublet.desk.units import NUMBER, Unit, check_basis, parse_unit
from sublet.values.errors import InvalidInputError

Number: TypeAlias = Any
"""A float, a numpy array of floats, or a Term: what every formula of the desk takes and gives."""

FloatArray: TypeAlias = NDArray[np.float64]

COMPARISONS = ("<", "<=", ">", ">=", "==", "!=")
_PRECEDENCE = {**dict.fromkeys(COMPARISONS, 0), "+": 1, "-": 1, "*": 2, "/": 2, "neg": 3, "**": 4}
_ATOM = 9
_CALLED_MAX = 60
"""A longer calculation isn't spelled out in a message."""


@dataclass(frozen=True, slots=True, eq=False)
class Term:
    """One step of a calculation. `unit` is None inside a formula's body, where its signature has settled the units."""

    op: str
    args: tuple[Term, ...] = ()
    value: float = math.nan
    name: str = ""
    unit: Unit | None = None
    lineage: Lineage = NOTHING

    def __add__(self, other: Number) -> Term:
        return _combine("+", self, as_term(other))

    def __radd__(self, other: Number) -> Term:
        return _combine("+", as_term(other), self)

    def __sub__(self, other: Number) -> Term:
        return _combine("-", self, as_term(other))

    def __rsub__(self, other: Number) -> Term:
        return _combine("-", as_term(other), self)

    def __mul__(self, other: Number) -> Term:
        return _combine("*", self, as_term(other))

    def __rmul__(self, other: Number) -> Term:
        return _combine("*", as_term(other), self)

    def __truediv__(self, other: Number) -> Term:
        return _combine("/", self, as_term(other))

    def __rtruediv__(self, other: Number) -> Term:
        return _combine("/", as_term(other), self)

    def __pow__(self, other: Number) -> Term:
        return _combine("**", self, as_term(other))

    def __rpow__(self, other: Number) -> Term:
        return _combine("**", as_term(other), self)

    def __neg__(self) -> Term:
        return Term("neg", (self,), -self.value, unit=self.unit, lineage=self.lineage)

    def bare(self, factor: Fraction = Fraction(1)) -> Term:
        """The same step times `factor`, without a unit: for use inside a formula's body."""
        return scaled(Term(self.op, self.args, self.value, self.name), factor)

    def in_unit(self, unit: Unit) -> Term:
        """Converted to `unit`; a basis that `unit` doesn't state is kept.

        Raises UnitError or BasisError where no conversion is defined.
        """
        if self.unit is None:
            return Term(self.op, self.args, self.value, self.name, unit, self.lineage)
        converted = self.bare(self.unit.factor_to(unit))
        kept = unit if unit.basis is not None else replace(unit, basis=self.unit.basis)
        return Term(converted.op, converted.args, converted.value, converted.name, kept, self.lineage)

    def with_lineage(self, lineage: Lineage) -> Term:
        """The same step, made of something else: what a formula's call knows of its arguments."""
        return replace(self, lineage=lineage)


def constant(value: float, unit: Unit | None = None) -> Term:
    """A number written in a formula."""
    return Term("const", (), float(value), unit=unit)


def on_axis_of(value: float, unit: str, like: Term) -> Term:
    """A number of an axis along which `like` is moved: in `unit`, at the basis of `like`."""
    return constant(value, replace(parse_unit(unit), basis=like.unit.basis if like.unit else None))


def reference(name: str, value: float, unit: Unit, family: str = "", lineage: Lineage | None = None) -> Term:
    """A named value of the case: of one `family`, or of the `lineage` that its calculation gave it."""
    return Term("ref", (), value, name, unit, lineage if lineage is not None else of_given(family, unit))


def as_term(value: Number) -> Term:
    """`value` itself, or the constant it is."""
    return value if isinstance(value, Term) else constant(float(value))


def scaled(term: Term, factor: Fraction) -> Term:
    """`term` times an exact factor, written the way a reader would: x * 1000 rather than x / 0.001."""
    if term.op in ("*", "/") and term.args[1].op == "const" and term.args[1].value.is_integer() and term.args[1].value:
        inner = Fraction(int(term.args[1].value))
        if (factor * (inner if term.op == "*" else 1 / inner)) == 1:
            return term.args[0]
    if factor == 1:
        return term
    if factor.numerator == 1:
        return term / float(factor.denominator)
    if factor.denominator == 1:
        return term * float(factor.numerator)
    return term * float(factor.numerator) / float(factor.denominator)


def least(left: Number, right: Number) -> Number:
    """The smaller of two, element by element."""
    return _two("min", left, right, np.minimum)


def greatest(left: Number, right: Number) -> Number:
    """The larger of two, element by element."""
    return _two("max", left, right, np.maximum)


def compared(sign: str, left: Term, right: Term) -> Term:
    """1 where `left sign right` holds, 0 where not. Raises UnitError, BasisError or FamilyError for unlike things."""
    unit, left, right = _units_of("-", left, right)
    met = _lineage_of("-", left, right, unit) if unit is not None else NOTHING
    value = float(_apply(sign, [left.value, right.value]))
    return Term(sign, (left, right), value, unit=NUMBER, lineage=NOTHING.with_caveats(*met.caveats))


def chosen(condition: Term, then: Term, otherwise: Term) -> Term:
    """`then` where the condition holds, else `otherwise`; both must be things that could be added to each other."""
    unit, then, otherwise = _units_of("max", then, otherwise)
    lineage = _lineage_of("max", then, otherwise, unit) if unit is not None else NOTHING
    lineage = lineage.with_caveats(*condition.lineage.caveats)
    value = then.value if condition.value else otherwise.value
    return Term("if", (condition, then, otherwise), value, unit=unit, lineage=lineage)


def undefined_quotient(left: Term, right: Term) -> Term:
    """A quotient whose divisor is zero: not a number, for the branch of an `if` that is not taken."""
    unit = (left.unit or NUMBER).times(right.unit or NUMBER, -1)
    return Term("/", (left, right), unit=unit, lineage=left.lineage.joined(right.lineage))


def listed(op: str, items: Sequence[Term], text: str, first: Term | None = None, keys: Sequence[Term] = ()) -> Term:
    """One step over a list: sum, min, max, npv, irr or lookup. `text` is how the list is named in the formula.

    `items` share a unit and a lineage. `first` is what stands before the list: npv's rate, and what lookup seeks in `keys`.
    """
    args = (*([first] if first is not None else []), *keys, *items)
    value = float(_apply(op, [arg.value for arg in args]))
    return Term(op, args, value, text, items[0].unit, items[0].lineage)


def normal_share_below(z: Number) -> Number:
    """Phi(z), the share of a normal distribution below z standard deviations; error below 1e-15 (math.erfc)."""
    if isinstance(z, Term):
        bare = z.bare()
        return Term("phi", (bare,), _phi(bare.value), unit=NUMBER if z.unit else None)
    return _phi_array(z) if isinstance(z, np.ndarray) else _phi(float(z))


def _two(op: str, left: Number, right: Number, plain: Callable[[Number, Number], Number]) -> Number:
    if isinstance(left, Term) or isinstance(right, Term):
        return _combine(op, as_term(left), as_term(right))
    return plain(left, right)


def _combine(op: str, left: Term, right: Term) -> Term:
    unit, left, right = _units_of(op, left, right)
    lineage = _lineage_of(op, left, right, unit) if unit is not None else NOTHING
    folded = _fold(op, left, right)
    if folded is not None:
        return Term(folded.op, folded.args, folded.value, folded.name, unit, lineage)
    return Term(op, (left, right), _number(op, left, right), unit=unit, lineage=lineage)


def _units_of(op: str, left: Term, right: Term) -> tuple[Unit | None, Term, Term]:
    if left.unit is None and right.unit is None:
        return None, left, right
    upper, lower = left.unit or NUMBER, right.unit or NUMBER
    if op in ("*", "/"):
        if op == "/" and upper.is_per_watt and lower.is_per_watt:
            check_basis(upper, lower)
        return upper.times(lower, 1 if op == "*" else -1), left, right
    if op == "**":
        if not (upper.is_number and lower.is_number):
            raise UnitError(
                f"a power needs plain numbers; {upper.label!r} to the power of {lower.label!r} has no meaning"
            )
        return NUMBER, left, right
    if upper.dimensions == lower.dimensions:
        if left.lineage.families and right.lineage.families and not (upper.basis and lower.basis):
            # Two families settle it; which basis the unknown one has would not make them one.
            of_sum(left.lineage, right.lineage, upper, (_called(left), _called(right)))
        check_basis(upper, lower)
    factor = lower.factor_to(upper)
    return upper, left, right if factor == 1 else Term(*_parts(right.bare(factor)), upper, right.lineage)


def _lineage_of(op: str, left: Term, right: Term, unit: Unit) -> Lineage:
    names = (_called(left), _called(right))
    if op == "*":
        return of_product(left.lineage, right.lineage, (left.unit or NUMBER, right.unit or NUMBER), names)
    if op == "/":
        below = "" if right.op == "const" or (right.unit or NUMBER).is_number else right.name or formula_text(right)
        units = (left.unit or NUMBER, right.unit or NUMBER)
        return of_quotient(left.lineage, right.lineage, units, names, below)
    if op == "**" or (unit.is_number and "const" in (left.op, right.op)):
        return left.lineage.joined(right.lineage)
    return of_sum(left.lineage, right.lineage, unit, names)


def _parts(term: Term) -> tuple[str, tuple[Term, ...], float, str]:
    return term.op, term.args, term.value, term.name


def _called(term: Term) -> str:
    if term.name:
        return repr(term.name)
    text = formula_text(term)
    return repr(text) if len(text) <= _CALLED_MAX else "the sum so far"


def _fold(op: str, left: Term, right: Term) -> Term | None:
    zero_left, zero_right = _is_constant(left, 0.0), _is_constant(right, 0.0)
    if op == "+" and (zero_left or zero_right):
        return right if zero_left else left
    if op == "-" and zero_right:
        return left
    if op == "*" and (_is_constant(left, 1.0) or _is_constant(right, 1.0)):
        return right if _is_constant(left, 1.0) else left
    if op == "/" and (_is_constant(right, 1.0) or zero_left):
        return left
    if left.op == right.op == "const":
        return constant(_number(op, left, right))
    return None


def _number(op: str, left: Term, right: Term) -> float:
    try:
        return float(_apply(op, [left.value, right.value]))
    except (ZeroDivisionError, OverflowError, TypeError) as error:
        what = right.name or formula_text(right)
        raise InvalidInputError(
            f"{left.name or formula_text(left)} {op} {what} can't be calculated, as {what} is {right.value:g}; "
            "write a number that is not zero and not out of range",
            value_name=right.name,
        ) from error


def _is_constant(term: Term, value: float) -> bool:
    return term.op == "const" and term.value == value


def _phi(z: float) -> float:
    return 0.5 * math.erfc(-z / math.sqrt(2.0))


_phi_array = np.vectorize(_phi, otypes=[np.float64])


def _apply(op: str, values: list[Any]) -> Any:
    if op in _BINARY:
        return _BINARY[op](values[0], values[1])
    match op:
        case "neg":
            return -values[0]
        case "min":
            return reduce(np.minimum, values)
        case "max":
            return reduce(np.maximum, values)
        case "phi":
            return normal_share_below(values[0])
        case "sum":
            return reduce(operator.add, values)
        case "npv":
            return present_value(values[0], values[1:])
        case "irr":
            return rate_of_return(values)
        case "lookup":
            half = len(values) // 2
            return row_of(values[0], values[1 : half + 1], values[half + 1 :])
    if op in _COMPARE:
        return np.where(_COMPARE[op](values[0], values[1]), 1.0, 0.0)
    raise UnitError(f"operation {op!r} is not one that the desk can calculate")


_BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv, "**": operator.pow,
}  # fmt: skip
_COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "==": operator.eq, "!=": operator.ne,
}  # fmt: skip


def evaluate(term: Term, known: dict[str, Any], definitions: Mapping[str, Term]) -> Any:
    """`term` with the names in `known` replaced by other numbers or arrays of one shape.

    `known` is filled with every named value met on the way, so that several outputs share their common parts.
    """
    if term.op == "const":
        return term.value
    if term.op == "ref":
        if term.name not in known:
            definition = definitions.get(term.name)
            known[term.name] = term.value if definition is None else evaluate(definition, known, definitions)
        return known[term.name]
    if term.op == "if":
        return _evaluated_if(term, known, definitions)
    return _apply(term.op, [evaluate(arg, known, definitions) for arg in term.args])


def _evaluated_if(term: Term, known: dict[str, Any], definitions: Mapping[str, Term]) -> Any:
    """One number takes one branch only; for an array, a branch that divides by zero gives no number where it isn't taken."""
    holds = np.asarray(evaluate(term.args[0], known, definitions))
    if holds.ndim == 0:
        return evaluate(term.args[1] if holds else term.args[2], known, definitions)
    branches = []
    for arg in term.args[1:]:
        try:
            with np.errstate(all="ignore"):
                branches.append(evaluate(arg, known, definitions))
        except ZeroDivisionError:
            branches.append(math.nan)
    return np.where(holds, branches[0], branches[1])


def names_in(term: Term) -> list[str]:
    """The named values that `term` uses directly, in order of first use."""
    found: dict[str, None] = {}
    pending = [term]
    while pending:
        current = pending.pop()
        if current.op == "ref":
            found[current.name] = None
        pending.extend(reversed(current.args))
    return list(found)


def is_finite(term: Term) -> bool:
    """Whether the result and each constant in it is finite: what was divided by an overflow ends as a plausible 0."""
    if not math.isfinite(term.value):
        return False
    pending = [term]
    while pending:
        current = pending.pop()
        if current.op == "const" and not math.isfinite(current.value):
            return False
        pending.extend(current.args)
    return True


def formula_text(term: Term) -> str:
    """The calculation as a person would write it."""
    return _render(term, lambda name: name, {"**": "^"})[0]


def spreadsheet_formula(
    term: Term, cell_of: Callable[[str], str], range_of: Callable[[Sequence[Term]], str] | None = None
) -> str:
    """The calculation as a spreadsheet formula without the equals sign.

    `cell_of` gives each name's cell, `range_of` the range of cells that holds a list. Raises UnitError for a list without it.
    """
    spelling = {"**": "^", "==": "=", "!=": "<>", "min": "MIN", "max": "MAX", "phi": "NORMSDIST", "if": "IF"}
    return _render(term, cell_of, spelling, spaced=False, range_of=range_of)[0]


def _over_list(term: Term, render: Callable[[Term], str], range_of: Callable[[Sequence[Term]], str] | None) -> str:
    if range_of is None:
        raise UnitError(f"{term.op}() needs a range of cells in a spreadsheet")
    match term.op:
        case "npv":
            return f"NPV({render(term.args[0])},{range_of(term.args[1:])})"
        case "lookup":
            half = len(term.args) // 2
            return (
                f"LOOKUP({render(term.args[0])},{range_of(term.args[1 : half + 1])},{range_of(term.args[half + 1 :])})"
            )
    return f"{term.op.upper()}({range_of(term.args)})"


def _render(
    term: Term,
    name_of: Callable[[str], str],
    spelling: Mapping[str, str],
    spaced: bool = True,
    range_of: Callable[[Sequence[Term]], str] | None = None,
) -> tuple[str, int]:
    if term.op == "const":
        return (_plain(term.value), _ATOM if term.value >= 0 else _PRECEDENCE["neg"])
    if term.op == "ref":
        return (name_of(term.name), _ATOM)
    if term.name and not spaced:
        return (_over_list(term, lambda arg: _render(arg, name_of, spelling, spaced, range_of)[0], range_of), _ATOM)
    if term.name:
        rest = [term.name]
        if term.op in ("npv", "lookup"):
            rest.insert(0 if term.op == "npv" else 1, _render(term.args[0], name_of, spelling)[0])
        return (f"{term.op}({', '.join(rest)})", _ATOM)
    parts = [_render(arg, name_of, spelling, spaced, range_of) for arg in term.args]
    if term.op not in _PRECEDENCE:
        return (f"{spelling.get(term.op, term.op)}({', '.join(text for text, _ in parts)})", _ATOM)
    rank = _PRECEDENCE[term.op]
    if term.op == "neg":
        # A spreadsheet reads -x^2 as (-x)^2, so even a power gets its brackets here.
        return (f"-{_bracket(parts[0], _ATOM)}", rank)
    right_rank = rank + 1 if term.op in ("-", "/", "**") else rank
    left_rank = rank + 1 if term.op == "**" else rank
    gap = " " if spaced and term.op != "**" else ""
    sign = spelling.get(term.op, term.op)
    return (f"{_bracket(parts[0], left_rank)}{gap}{sign}{gap}{_bracket(parts[1], right_rank)}", rank)


def _bracket(part: tuple[str, int], rank: int) -> str:
    text, own = part
    return text if own >= rank else f"({text})"


def _plain(value: float) -> str:
    if abs(value) < 1e15 and value == int(value):
        return str(int(value))
    return repr(value)
