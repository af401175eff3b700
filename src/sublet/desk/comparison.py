"""Two cases side by side: which assumptions changed, and how much of each result's change each of them explains."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sublet.desk.desk import Desk
from sublet.desk.sheet import Sheet
from sublet.desk.terms import FloatArray, formula_text

EXACT_CHANGES_MAX = 12
"""Up to so many changed inputs the attribution is exact (4,096 recalculations); beyond, it is sampled."""

SAMPLED_ORDERS = 2000
FORMULAS = "changed formulas"
"""The part of a change that no input explains, because the calculation itself is another."""


@dataclass(frozen=True, slots=True)
class ChangedValue:
    """A given value that differs; None where one case does not have it."""

    name: str
    unit: str
    before: float | None
    after: float | None


@dataclass(frozen=True, slots=True)
class ChangedResult:
    """A result that differs, and the part of the difference that each changed input explains: the parts sum to it."""

    name: str
    unit: str
    before: float
    after: float
    parts: Mapping[str, float]
    is_exact: bool

    @property
    def change(self) -> float:
        return self.after - self.before


@dataclass(frozen=True, slots=True)
class Comparison:
    """What differs between two cases."""

    inputs: tuple[ChangedValue, ...]
    formulas: tuple[tuple[str, str, str], ...]
    results: tuple[ChangedResult, ...]


def compare(before: Desk, after: Desk, names: Sequence[str] = ()) -> Comparison:
    """Compare two cases; `names` are the results to explain, by default the headline results that both have."""
    wanted = names or [name for name in before.heading.results if name in after.sheet]
    for name in wanted:
        _ = before.sheet[name], after.sheet[name]
    inputs = _changed_inputs(before.sheet, after.sheet)
    results = []
    for name in wanted:
        old, new = before.sheet[name], after.sheet[name]
        if old.number != new.number:
            parts, is_exact = _attribute(before.sheet, after.sheet, name, inputs)
            results.append(ChangedResult(name, new.unit, old.number, new.number, parts, is_exact))
    return Comparison(tuple(inputs), tuple(_changed_formulas(before.sheet, after.sheet)), tuple(results))


def _changed_inputs(before: Sheet, after: Sheet) -> list[ChangedValue]:
    found = []
    names = dict.fromkeys(
        value.name for sheet in (before, after) for value in sheet if value.term is None and value.is_number
    )
    for name in names:
        old = before[name].number if name in before and before[name].is_number else None
        new = after[name].number if name in after and after[name].is_number else None
        if old != new:
            unit = (after if name in after else before)[name].unit
            found.append(ChangedValue(name, unit, old, new))
    return found


def _changed_formulas(before: Sheet, after: Sheet) -> Iterable[tuple[str, str, str]]:
    for value in after:
        old, new = before.definitions.get(value.name), after.definitions.get(value.name)
        if old is not None and new is not None and formula_text(old) != formula_text(new):
            yield value.name, formula_text(old), formula_text(new)


def _attribute(before: Sheet, after: Sheet, name: str, inputs: Sequence[ChangedValue]) -> tuple[dict[str, float], bool]:
    """Shapley values: each input's effect averaged over all orders in which the inputs could have changed.

    Calculated with the new case's formulas; what the old case's formulas gave otherwise is listed on its own.
    """
    leaves = set(after.leaves(name))
    moved = [
        change for change in inputs if change.name in leaves and change.before is not None and change.after is not None
    ]
    old_ends = {change.name: float(change.before or 0.0) for change in moved}
    start = float(after.recalculate([name], old_ends)[name]) if moved else after[name].number
    structure = start - before[name].number
    exact = len(moved) <= EXACT_CHANGES_MAX
    parts = _exact(after, name, moved) if exact else _sampled(after, name, moved)
    if not math.isclose(structure, 0.0, abs_tol=1e-12 * max(1.0, abs(start))):
        parts[FORMULAS] = structure
    return dict(sorted(parts.items(), key=lambda item: -abs(item[1]))), exact


def _exact(sheet: Sheet, name: str, moved: Sequence[ChangedValue]) -> dict[str, float]:
    count = len(moved)
    if not count:
        return {}
    switches = np.array(list(itertools.product((0, 1), repeat=count)), dtype=bool)
    outcomes = _outcomes(sheet, name, moved, switches)
    sizes = switches.sum(axis=1)
    places = 2 ** np.arange(count)[::-1]
    parts = {}
    for position, change in enumerate(moved):
        without = np.flatnonzero(~switches[:, position])
        with_it = without + places[position]
        weights = np.array([1.0 / (count * math.comb(count - 1, int(size))) for size in sizes[without]])
        parts[change.name] = float(((outcomes[with_it] - outcomes[without]) * weights).sum())
    return parts


def _sampled(sheet: Sheet, name: str, moved: Sequence[ChangedValue]) -> dict[str, float]:
    """Antithetic random orders from a fixed seed: the parts still sum to the change exactly."""
    count = len(moved)
    generator = np.random.default_rng(1)
    totals = np.zeros(count)
    orders = [generator.permutation(count) for _ in range(SAMPLED_ORDERS // 2)]
    orders += [order[::-1] for order in orders]
    for order in orders:
        switches = np.zeros((count + 1, count), dtype=bool)
        for step, position in enumerate(order):
            switches[step + 1 :, position] = True
        totals[order] += np.diff(_outcomes(sheet, name, moved, switches))
    return {change.name: float(total) / len(orders) for change, total in zip(moved, totals, strict=True)}


def _outcomes(sheet: Sheet, name: str, moved: Sequence[ChangedValue], switches: NDArray[np.bool_]) -> FloatArray:
    overrides = {
        change.name: np.where(switches[:, position], float(change.after or 0.0), float(change.before or 0.0))
        for position, change in enumerate(moved)
    }
    found = sheet.recalculate([name], overrides)[name]
    return np.broadcast_to(np.asarray(found, dtype=float), (switches.shape[0],))
