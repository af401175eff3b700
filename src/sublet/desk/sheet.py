"""The sheet: every number of a case under its name, with unit, status, source, date and the formula it came from."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import numpy as np

from sublet.desk.distributions import Distribution
from sublet.desk.errors import CalculationError, CaseError, FamilyError, UnknownNameError, nearest
from sublet.desk.intervals import Interval
from sublet.desk.lineage import Caveat, Lineage, of_given
from sublet.desk.terms import Term, evaluate, formula_text, is_finite, names_in, reference
from sublet.desk.units import Basis, Unit, parse_unit

RANGED_INPUTS_MAX = 10
"""Beyond so many ranged inputs, a result's range would take more than 1,024 recalculations and is not given."""


LIST_ITEMS_MAX = 50
"""So many items of a list get a name of their own."""


class Status(StrEnum):
    """How far a number can be trusted, and why."""

    PUBLISHED = "published"
    DERIVED = "derived"
    BOUND = "bound"
    ASSUMPTION = "assumption"
    EXTERNAL = "external"
    MODELED = "modeled"

    @classmethod
    def _missing_(cls, value: object) -> Status | None:
        """`modelled`, the British spelling, is read as well."""
        return cls.MODELED if value == "modelled" else None


STATUS_MEANINGS: Mapping[Status, str] = {
    Status.PUBLISHED: "said in a published source",
    Status.DERIVED: "arithmetic on published numbers",
    Status.BOUND: "a limit, not an estimate",
    Status.ASSUMPTION: "set by this case",
    Status.EXTERNAL: "from another public source",
    Status.MODELED: "depends on an assumption",
}


@dataclass(frozen=True, slots=True)
class Mark:
    """A reservation: the result uses the flagged value `name` as printed, or what its deal comes to, by the case's choice.

    `kind` is its slip.
    """

    name: str
    kind: str
    is_recomputed: bool = False

    def __str__(self) -> str:
        if self.is_recomputed:
            return f"uses what the deal comes to in place of {self.name} as printed, which is flagged: {self.kind}"
        return f"uses {self.name} as printed, though flagged: {self.kind}"


@dataclass(frozen=True, slots=True)
class Value:
    """A named number, list or text. `term` is its calculation, None for what was given; `line` is where the case says it.

    `file` and `file_line` are where it stands if another file gives it: a table's data file, or a scenario file.
    """

    name: str
    content: float | tuple[float, ...] | str
    unit: str
    status: Status
    source: str
    date: str
    formula: str = ""
    note: str = ""
    term: Term | None = None
    range: Interval | None = None
    family: str = ""
    distribution: Distribution | None = None
    line: int = 0
    made_of: Lineage | None = None
    basis: Basis | None = None
    marks: tuple[Mark | Caveat, ...] = ()
    file: str = ""
    file_line: int = 0

    @property
    def is_number(self) -> bool:
        return isinstance(self.content, float)

    @property
    def number(self) -> float:
        """The number. Raises CaseError for a list or a text."""
        if not isinstance(self.content, float):
            raise CaseError(f"{self.name!r} is {self.content!r}, not one number; name a value that is a number")
        return self.content

    @property
    def parsed_unit(self) -> Unit:
        """The unit; with the basis that its calculation gave it, where the label states none."""
        parsed = parse_unit(self.unit)
        return parsed if self.basis is None or parsed.basis is not None else replace(parsed, basis=self.basis)

    @property
    def lineage(self) -> Lineage:
        """What the value is made of: its family if it was given, all that its calculation used if not."""
        return self.made_of if self.made_of is not None else of_given(self.family, self.parsed_unit)

    def as_dict(self) -> dict[str, Any]:
        """The form of `sublet desk values --json`."""
        content = list(self.content) if isinstance(self.content, tuple) else self.content
        found: dict[str, Any] = {
            "value": content,
            "unit": self.unit,
            "status": str(self.status),
            "source": self.source,
            "formula": self.formula,
            "date": self.date,
        }
        if self.note:
            found["note"] = self.note
        if self.marks:
            found["marks"] = [str(mark) for mark in self.marks]
        if self.range is not None:
            ends = (self.range.low, self.range.high)
            found["low"], found["high"] = (end if np.isfinite(end) else None for end in ends)
        if self.distribution is not None:
            found["distribution"] = dict(self.distribution.as_dict())
        return found


@dataclass(frozen=True, slots=True)
class Explanation:
    """A value and the values that its formula uses, down to what was given."""

    value: Value
    parts: tuple[Explanation, ...]


class Sheet:
    """Named values in the order in which they were added."""

    def __init__(self) -> None:
        self._values: dict[str, Value] = {}
        self._definitions: dict[str, Term] = {}
        self._leaves: dict[str, tuple[str, ...]] = {}
        self.correlations: dict[frozenset[str], float] = {}
        """Rank correlations of pairs of inputs with a distribution, which a simulation keeps."""

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def __iter__(self) -> Iterator[Value]:
        return iter(self._values.values())

    def __len__(self) -> int:
        return len(self._values)

    def __getitem__(self, name: str) -> Value:
        """Raises UnknownNameError that gives the nearest name."""
        if name not in self._values:
            raise UnknownNameError(f"there is no value {name!r} in this case; {nearest(name, self._values)}")
        return self._values[name]

    @property
    def definitions(self) -> Mapping[str, Term]:
        """The calculation of each derived value."""
        return self._definitions

    def give(self, value: Value) -> None:
        """Add a value that was given.

        A range adds NAME.low and NAME.high, a list NAME.1, NAME.2, …, so that formulas can use them.
        """
        self._put(value)
        if isinstance(value.content, tuple):
            for position, item in enumerate(value.content[:LIST_ITEMS_MAX], start=1):
                self._put(replace(value, name=f"{value.name}.{position}", content=float(item), range=None))
        if value.range is not None and not value.range.is_point:
            ends = (("low", value.range.low), ("high", value.range.high))
            for end, number in ends:
                if np.isfinite(number):
                    note = f"{end} end of {value.name}"
                    status, name = Status.BOUND, f"{value.name}.{end}"
                    self._put(
                        replace(
                            value, name=name, content=number, status=status, note=note, range=None, distribution=None
                        )
                    )

    def number_in(self, name: str, unit: str) -> float:
        """The named number in `unit`, whatever its basis: for an axis or a sentence. Raises UnitError for another kind of unit."""
        value, wanted = self[name], parse_unit(unit)
        return value.number * float(replace(value.parsed_unit, basis=None).factor_to(replace(wanted, basis=None)))

    def ref(self, name: str) -> Term:
        """A Term that stands for a named number."""
        value = self[name]
        return reference(name, value.number, value.parsed_unit, lineage=value.lineage)

    def derive(
        self,
        name: str,
        term: Term,
        unit: str,
        status: Status | str | None = None,
        note: str = "",
        line: int = 0,
        family: str = "",
    ) -> Term:
        """Add a calculated value in `unit` and give a reference to it.

        Status, source and date follow from what the calculation uses, unless `status` says otherwise. Raises UnitError
        where the result can't be had in `unit`, and CaseError for a result that is not a finite number.
        """
        result = term.in_unit(parse_unit(unit))
        if not is_finite(result):
            raise CalculationError(
                f"{name!r} = {formula_text(result)} is not a finite number; check for a division by zero or a number too large"
            )
        used = names_in(result)
        lineage = _declared(name, family, result)
        leaves = tuple(dict.fromkeys(leaf for part in used for leaf in self.leaves(part)))
        given = [self._values[leaf] for leaf in leaves]
        value = Value(
            name, result.value, unit, Status(status) if status else _inferred(given), _sources(given, note),
            max((part.date for part in given if part.date), default=""), formula_text(result), note, result,
            family=lineage.family, line=line, made_of=lineage, basis=result.unit.basis if result.unit else None,
            marks=tuple(sorted(lineage.caveats)),
        )  # fmt: skip
        self._put(value)
        self._definitions[name] = Term(result.op, result.args, result.value, result.name)
        self._leaves[name] = leaves
        return self.ref(name)

    def mark(self, name: str, reservation: Mark | Caveat) -> None:
        """Put a reservation on a result: anyone who shows the number shows it too."""
        self._values[name] = replace(self[name], marks=(*self[name].marks, reservation))

    def leaves(self, name: str) -> tuple[str, ...]:
        """The given values that `name` hangs on; itself, if it was given."""
        return self._leaves.get(name, (name,))

    def explain(self, name: str) -> Explanation:
        """The tree of the calculation, down to what was given."""
        value = self[name]
        parts = names_in(value.term) if value.term is not None else []
        return Explanation(value, tuple(self.explain(part) for part in parts))

    def recalculate(self, names: Iterable[str], overrides: Mapping[str, Any]) -> dict[str, Any]:
        """The named results with other numbers (or arrays of one shape) for some values, given or calculated."""
        known: dict[str, Any] = dict(overrides)
        return {name: self._recalculated(name, known) for name in names}

    def recalculated(self, name: str, overrides: Mapping[str, float]) -> float:
        """One result for other numbers. Raises CaseError where it is not a finite number."""
        try:
            found = float(self.recalculate([name], overrides)[name])
        except (ZeroDivisionError, OverflowError):
            found = float("nan")
        if not np.isfinite(found):
            changed = ", ".join(f"{key} = {number:g}" for key, number in overrides.items())
            raise CalculationError(
                f"{name!r} is not a finite number for {changed}; choose numbers that it is defined for"
            )
        return found

    def _recalculated(self, name: str, known: dict[str, Any]) -> Any:
        value = self[name]
        return evaluate(reference(name, value.number, value.parsed_unit), known, self._definitions)

    def range_of(self, name: str) -> Interval | None:
        """The range of a result over the corners of its inputs' ranges; None where no input has one, or too many do.

        Exact where the formula is monotone in each input, as every formula of the desk is on its domain. A choice need not
        be, so a result that hangs on an `if` or a lookup by number has none.
        """
        value = self[name]
        if value.range is not None or value.term is None:
            return value.range
        ranged = [leaf for leaf in self.leaves(name) if self._values[leaf].range is not None]
        if not 0 < len(ranged) <= RANGED_INPUTS_MAX or self._has_choice(name):
            return None
        ends = [(self._values[leaf].range or Interval(0, 0)) for leaf in ranged]
        corners = np.array(list(itertools.product(*((end.low, end.high) for end in ends))))
        with np.errstate(all="ignore"):
            found = self.recalculate([name], {leaf: corners[:, column] for column, leaf in enumerate(ranged)})[name]
        low, high = float(np.min(found)), float(np.max(found))
        return Interval(low, high) if np.isfinite([low, high]).all() else None

    def _has_choice(self, name: str) -> bool:
        pending, met = [reference(name, 0.0, parse_unit("1"))], {name}
        while pending:
            term = pending.pop()
            if term.op in ("if", "lookup"):
                return True
            pending.extend(term.args)
            if term.op == "ref" and term.name in self._definitions and (term.name == name or term.name not in met):
                met.add(term.name)
                pending.append(self._definitions[term.name])
        return False

    def _put(self, value: Value) -> None:
        if value.name in self._values:
            earlier = self._values[value.name].line
            where = f" (line {earlier})" if earlier else ""
            raise CaseError(f"value {value.name!r} is there twice{where}; give one of them another name")
        self._values[value.name] = value


def _inferred(given: list[Value]) -> Status:
    """A number is as good as the worst it was made from: an assumption anywhere makes a model of it."""
    statuses = {value.status for value in given}
    if statuses & {Status.ASSUMPTION, Status.MODELED}:
        return Status.MODELED
    if Status.BOUND in statuses:
        return Status.BOUND
    return Status.EXTERNAL if Status.EXTERNAL in statuses else Status.DERIVED


def _declared(name: str, family: str, result: Term) -> Lineage:
    """What a result is made of. A family may be stated for what has none; it can't be used to rename another one."""
    found = result.lineage
    if not family or family in found.families:
        return found
    assert result.unit is not None
    stated = of_given(family, result.unit)
    if found.capacities and stated.capacities:
        raise FamilyError(
            f"{name!r} states the family {family}, but it is calculated from {', '.join(sorted(found.capacities))}; "
            "a calculation keeps the family of what it uses: leave `family` out",
            field="family",
        )
    return replace(found, families=found.families | stated.families, capacities=found.capacities | stated.capacities)


def _sources(given: list[Value], note: str) -> str:
    listed = list(dict.fromkeys(value.source for value in given if value.source))
    if not listed:
        return note or "arithmetic alone: no input of the case"
    shown = "; ".join(listed[:4])
    return shown if len(listed) <= 4 else f"{shown}; and {len(listed) - 4} more"
