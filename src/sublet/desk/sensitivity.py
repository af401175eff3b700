"""How any result follows any input: each moved alone, and two together on a grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from sublet.desk.errors import CalculationError
from sublet.desk.sheet import Sheet
from sublet.desk.terms import Term, reference
from sublet.values.errors import InvalidInputError

AROUND = 0.1
"""How far an input is moved, as a share of it, where the case says nothing of its range."""
POINTS_MAX = 25


@dataclass(frozen=True, slots=True)
class Swing:
    """A result at the low and the high of one input. `ends` says where these come from: stated, distribution, range or around."""

    input: str
    low: float
    high: float
    at_low: float
    at_high: float
    ends: str

    @property
    def size(self) -> float:
        return abs(self.at_high - self.at_low)


def ends_of(sheet: Sheet, name: str) -> tuple[float, float, str]:
    """The low and the high to move an input between: nine in ten of its draws, its range, or 10 % to both sides."""
    value = sheet[name]
    if value.distribution is not None:
        return value.distribution.quantile(0.05), value.distribution.quantile(0.95), "distribution"
    if value.range is not None and np.isfinite([value.range.low, value.range.high]).all() and not value.range.is_point:
        return value.range.low, value.range.high, "range"
    number = value.number
    return (
        min(number * (1 - AROUND), number * (1 + AROUND)),
        max(number * (1 - AROUND), number * (1 + AROUND)),
        "around",
    )


def swings(
    sheet: Sheet, result: str, inputs: Sequence[str] = (), stated: dict[str, tuple[float, float]] | None = None
) -> list[Swing]:
    """Each input's swing, the widest first; by default of all given numbers on which the result hangs and that move it.

    An input may be a calculated number too. `stated` gives some their own ends. Raises UnknownNameError for a name that is not
    there, and InvalidInputError for one that the result doesn't hang on.
    """
    chosen = list(inputs) or [leaf for leaf in sheet.leaves(result) if sheet[leaf].is_number and leaf != result]
    found = []
    for name in chosen:
        if inputs and not hangs_on(sheet, result, name):
            raise InvalidInputError(
                f"{result!r} doesn't depend on {name!r}; name one of its inputs, as `explain` lists them"
            )
        low, high, ends = (*stated[name], "stated") if stated and name in stated else ends_of(sheet, name)
        try:
            at = [sheet.recalculated(result, {name: end}) for end in (low, high)]
        except CalculationError:
            if inputs:
                raise
            continue
        if inputs or at[0] != at[1]:
            found.append(Swing(name, low, high, at[0], at[1], ends))
    return sorted(found, key=lambda swing: -swing.size)


def grid(
    sheet: Sheet, result: str, rows: tuple[str, Sequence[float]], columns: tuple[str, Sequence[float]]
) -> list[list[float]]:
    """The result for each pair of values of two inputs. Raises InvalidInputError for one input twice or too many values."""
    if rows[0] == columns[0]:
        raise InvalidInputError(f"rows and columns are both {rows[0]!r}; name two inputs")
    for name, values in (rows, columns):
        if not hangs_on(sheet, result, name):
            raise InvalidInputError(
                f"{result!r} doesn't depend on {name!r}; name one of its inputs, as `explain` lists them"
            )
        if not 2 <= len(values) <= POINTS_MAX:
            raise InvalidInputError(f"{name!r} has {len(values)} values; give 2 to {POINTS_MAX}")
    down, across = np.meshgrid(np.array(rows[1], dtype=float), np.array(columns[1], dtype=float), indexing="ij")
    with np.errstate(all="ignore"):
        found = sheet.recalculate([result], {rows[0]: down.ravel(), columns[0]: across.ravel()})[result]
    cells = np.broadcast_to(np.asarray(found, dtype=float), (down.size,)).reshape(down.shape)
    if not np.isfinite(cells).all():
        raise CalculationError(f"{result!r} is not a finite number for some of these values; narrow them")
    return [[float(cell) for cell in row] for row in cells]


def points(low: float, high: float, count: int) -> list[float]:
    """Evenly spaced values from low to high."""
    return [float(value) for value in np.linspace(low, high, count)]


def hangs_on(sheet: Sheet, result: str, name: str) -> bool:
    """Whether a result uses a value, itself or further down."""
    _ = sheet[name]
    return name != result and _uses(sheet, sheet[result].term, frozenset((name,)), {})


def inlined(sheet: Sheet, result: str, moved: frozenset[str]) -> Term:
    """The result's calculation with everything between it and the `moved` values written out, so that they can be replaced."""
    known: dict[str, bool] = {}

    def written(term: Term) -> Term:
        if term.op == "ref":
            inner = sheet.definitions.get(term.name)
            if term.name in moved or inner is None or not _uses(sheet, inner, moved, known):
                return term
            return written(inner)
        return replace(term, args=tuple(written(arg) for arg in term.args)) if term.args else term

    definition = sheet.definitions.get(result)
    return (
        reference(result, sheet[result].number, sheet[result].parsed_unit)
        if definition is None
        else written(definition)
    )


def _uses(sheet: Sheet, term: Term | None, moved: frozenset[str], known: dict[str, bool]) -> bool:
    if term is None:
        return False
    if term.op == "ref":
        if term.name in moved:
            return True
        if term.name not in known:
            known[term.name] = _uses(sheet, sheet.definitions.get(term.name), moved, known)
        return known[term.name]
    return any(_uses(sheet, arg, moved, known) for arg in term.args)
