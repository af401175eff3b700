"""Building a case: sources, statements, inputs, hardware and formulas of a TOML file become a sheet."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from enum import StrEnum
from typing import TypeVar

from sublet.desk.capacity import CapacityRow, RowKind, Tenure, stock_gw, total_gw
from sublet.desk.checks import check_fraction, check_inside, check_limit, distribution_of
from sublet.desk.documents import Document, Table, at_line, plain_number
from sublet.desk.errors import CalculationError, CaseError, FamilyError, UnknownNameError, is_of_numbers, nearest
from sublet.desk.expressions import calculate
from sublet.desk.faults import Faults
from sublet.desk.intervals import Interval, of_phrase
from sublet.desk.kept_apart import KeptApart, named_in
from sublet.desk.lineage import KEPT_APART, Caveat
from sublet.desk.sheet import Mark, Sheet, Status, Value
from sublet.desk.terms import Term, names_in
from sublet.desk.units import Basis, Unit, parse_unit
from sublet.desk.vectors import Vector
from sublet.values.errors import InvalidInputError

_Choice = TypeVar("_Choice", bound=StrEnum)
_T = TypeVar("_T")

GIVEN = (Status.PUBLISHED, Status.EXTERNAL, Status.ASSUMPTION, Status.BOUND)
"""What a given number may be; the other statuses are of calculated ones."""
ROWS_MAX = 2000
PRINTED, RECOMPUTED = "printed", "recomputed"
"""What a case may say of a flagged price: that formulas use it as printed, or what the deal comes to in its place."""

FORMULAS_MAX = 5000


@dataclass(frozen=True, slots=True)
class Source:
    """Where a number was found, and of when it is."""

    id: str
    title: str
    date: str
    language: str = ""


@dataclass(frozen=True, slots=True)
class Flag:
    """Why a printed number is doubted, and what the case says about its use: nothing, `printed`, or `recomputed`.

    `recomputed` is the name of what the deal comes to, in the unit that was printed.
    """

    kind: str
    use: str
    line: int
    recomputed: str


@dataclass(frozen=True, slots=True)
class Statement:
    """One published statement: who said it where, what it measures, and what it must not be combined with."""

    id: str
    speaker: str
    subject: str
    metric: str
    content: float | tuple[float, ...] | str
    unit: str
    period: str
    measures: str
    not_with: tuple[str, ...]
    where: str
    qualifier: str
    flag: str
    family: str
    source: Source
    range: Interval | None


class Build:
    """A case being put together. Sections ask it for values by name; formulas are calculated when first asked for."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.sheet = Sheet()
        self.faults = Faults(document.name, self._line_of)
        self.capacity: dict[str, CapacityRow] = {}
        self.statements: list[Statement] = []
        self.inputs: list[str] = []
        self.rates: list[tuple[str, float]] = []
        self.flagged: dict[str, Flag] = {}
        self.lists: dict[str, Vector] = {}
        self.pending_lists: dict[str, Callable[[], None]] = {}
        self.cells: list[str] = []
        self.imported: list[str] = []
        """Digests of the files that tables were read from."""
        self.files: list[str] = []
        """The names of those files."""
        self.kept_apart = KeptApart()
        self._sources: dict[str, Source] = {}
        self._pending: dict[str, Table] = {}
        self._open: list[str] = []

    def source(self, table: Table, key: str = "source") -> Source:
        """The source that `table` names. Raises CaseError where it names none, or one that is not listed."""
        if not table.has(key):
            raise table.fail(None, f'no source is given; write {key} = "ID" of one under [sources]')
        return self.source_named(table.text(key), table, table.line(key))

    def source_named(self, name: str, table: Table, line: int) -> Source:
        """The source of an id. Raises CaseError at `line` where it is not listed."""
        if name not in self._sources:
            raise table.document.refuse_line(
                line, f"source {name!r} is not under [sources]; {nearest(name, self._sources)}"
            )
        return self._sources[name]

    def ref(self, name: str) -> Term:
        """A named number. Raises UnknownNameError with the nearest name, CalculationError where it can't be calculated or used."""
        self.faults.check(name)
        name = self._check_flagged(name)
        if name not in self.sheet and name in self._pending:
            self._calculate(name)
        if name not in self.sheet:
            if name in self.lists or name in self.pending_lists:
                raise CaseError(
                    f"{name!r} is a list, not one number; make one of it in a formula, as in sum({name}), or name an element of it"
                )
            known = [value.name for value in self.sheet] + [*self._pending, *self.lists, *self.pending_lists]
            raise UnknownNameError(f"there is no value {name!r} in this case; {nearest(name, known)}")
        return self.sheet.ref(name)

    def list_of(self, name: str) -> Vector | None:
        """The column or series of a name, calculated when first asked for; None where the name is not one.

        Raises CaseError for a series that hangs on itself.
        """
        self.faults.check(name)
        if name in self.pending_lists and name not in self.lists:
            self.within(name, self.pending_lists[name])
        return self.lists.get(name)

    def within(self, name: str, calculate: Callable[[], object]) -> None:
        """Calculate a value or a list. Raises CaseError where it hangs on itself."""
        if name in self._open:
            raise CaseError(f"{' -> '.join([*self._open, name])} goes round in a circle; break it")
        self._open.append(name)
        try:
            calculate()
        finally:
            self._open.pop()

    def named(self, table: Table, key: str, unit: str) -> Term:
        """The value that `table` names under `key`, in `unit`. Raises CaseError with file and line."""
        given = table.data.get(key)
        if isinstance(given, (int, float)) and not isinstance(given, bool):
            raise table.fail(
                key,
                f"{key!r} is the number {given}; a number has a source, so give it under [inputs] and write its name here in quotes",
            )
        name = table.text(key)

        def act() -> Term:
            term = self.ref(name)
            (term.unit or parse_unit("1")).factor_to(without_basis(unit))
            return term

        return at_line(table, key, act)

    def optional(self, table: Table, key: str, unit: str) -> Term | None:
        """Like `named`, None where the key is not there."""
        return self.named(table, key, unit) if table.has(key) else None

    def derive(
        self,
        table: Table,
        name: str,
        term: Term,
        unit: str,
        status: str | None = None,
        note: str = "",
        family: str = "",
    ) -> Term:
        """Add a calculated value that a section makes; errors name the section's line."""
        return at_line(table, None, self.sheet.derive, name, term, unit, status, note, table.line(), family)

    def finish(self) -> None:
        """Calculate the formulas that nothing has asked for yet."""
        for name in list(self._pending):
            if name not in self.sheet:
                with self.faults.attempted("formulas", name):
                    self._calculate(name)

    def mark_flagged(self) -> None:
        """Mark results that use a flagged number by the case's choice. Raises CaseError for one that used it before it was flagged."""
        for name, flag in self.flagged.items():
            used = {flag.recomputed if flag.use == RECOMPUTED else name}
            for value in list(self.sheet):  # in the order of calculation: what a value uses stands before it
                if value.term is None or not used & set(names_in(value.term)):
                    continue
                if not flag.use:
                    raise self.document.refuse_line(value.line, f"{value.name!r}: {_contradicted(name, flag)}")
                used.add(value.name)
                self.sheet.mark(value.name, Mark(name, flag.kind, flag.use == RECOMPUTED))

    def mark_kept_apart(self) -> None:
        """Mark results that use two statements, or parts of them, one of which says not to combine it with the other.

        A sum of the two is refused; a ratio or a swing of them may be what a case wants, and says what it is.
        """
        for value in list(self.sheet):
            met = self.kept_apart.within(self.sheet.leaves(value.name)) if value.term is not None else None
            if met is not None:
                self.sheet.mark(value.name, Caveat(KEPT_APART, met))

    def _check_flagged(self, name: str) -> str:
        """What is used where `name` is asked for. Raises CalculationError for a flagged number without the case's choice."""
        flag = self.flagged.get(name)
        if flag is None or flag.use == PRINTED:
            return name
        if flag.use == RECOMPUTED:
            return flag.recomputed
        raise CalculationError(_contradicted(name, flag))

    def _line_of(self, name: str) -> int:
        return (self.sheet[name].line if name in self.sheet else 0) or 1

    # What the file gives

    def read_sources(self, root: Table) -> None:
        for name, table in root.named_tables("sources"):
            self._sources[name] = Source(name, table.text("title"), day_text(table, "date"), table.text("language", ""))
            table.finish()

    def read_statements(self, root: Table) -> None:
        tables = root.tables("rows")
        if len(tables) > ROWS_MAX:
            raise root.fail("rows", f"the case has {len(tables)} rows; split it at {ROWS_MAX}")
        for table in tables:
            with self.faults.gathered(str(table.data.get("id", ""))):
                self._read_statement(table)
        self._check_scopes(tables)

    def _check_scopes(self, tables: Sequence[Table]) -> None:
        """A scope names a statement. Raises CaseError with the nearest id."""
        known = [statement.id for statement in self.statements]
        for table in tables:
            row = self.capacity.get(str(table.data.get("id", "")))
            if row is not None and row.scope and row.scope not in known:
                with self.faults.gathered(row.id):
                    raise table.fail(
                        "capacity", f"scope {row.scope!r} is no statement of this case; {nearest(row.scope, known)}"
                    )

    def _read_statement(self, table: Table) -> None:
        statement = self._statement(table)
        self.statements.append(statement)
        self.kept_apart.add(statement.id, statement.not_with)
        status = status_of(table, Status.PUBLISHED)
        source = f"{statement.speaker}, {statement.where}: {statement.source.title}"
        note = "; ".join(part for part in (statement.measures, statement.flag) if part)
        if table.has("capacity"):
            with self.faults.attempted("capacity", _capacity_of(statement.id)):
                self._capacity_row(table.table("capacity"), statement)
        table.finish()
        value = Value(
            statement.id, statement.content, statement.unit, status, source, statement.source.date, note=note,
            range=statement.range, family=statement.family, line=table.line(),
        )  # fmt: skip
        at_line(table, "id", self.sheet.give, self._marked_once(value))

    def _statement(self, table: Table) -> Statement:
        content = content_of(table)
        unit = table.text("unit")
        if not isinstance(content, str):
            at_line(table, "unit", parse_unit, unit)
        source = self.source(table)
        qualifier = table.text("qualifier", "")
        statement = Statement(
            table.text("id"), table.text("speaker"), table.text("subject"), table.text("metric"), content, unit,
            table.text("period"), table.text("measures"), tuple(table.texts("not_with", [])), table.text("where", ""),
            qualifier, table.text("flag", ""), table.text("family"), source, _phrase_range(content, qualifier, unit),
        )  # fmt: skip
        return statement

    def _capacity_row(self, table: Table, statement: Statement) -> None:
        def act() -> CapacityRow:
            unit = parse_unit(statement.unit)
            factor = float(unit.factor_to(without_basis("GW")))
            extent = None if statement.range is None else statement.range.scaled(factor)
            return CapacityRow(
                statement.id, table.text("owner"), table.text("source"), statement.family,
                _choice(table, "basis", Basis), _choice(table, "kind", RowKind), factor * _single(statement), table.day("at"),
                statement.period, _choice(table, "tenure", Tenure, Tenure.UNKNOWN), table.text("generation", ""),
                extent, named_in(statement.not_with), table.text("scope", ""),
            )  # fmt: skip

        self.capacity[statement.id] = at_line(table, None, act)
        table.finish()

    def read_inputs(self, root: Table) -> None:
        for name, table in root.named_tables("inputs"):
            self.inputs.append(name)
            with self.faults.gathered(name):
                self._input(name, table)
                table.finish()

    def _input(self, name: str, table: Table) -> None:
        content = content_of(table)
        unit = table.text("unit")
        source = self.source(table)
        status = status_of(table, None)
        how, note = table.text("how", ""), table.text("note", "")
        dated = day_text(table, "date") if table.has("date") else source.date
        parsed = at_line(table, "unit", parse_unit, unit)
        if isinstance(content, str) and re.fullmatch(r"[-+]?[\d.,_]+(e[-+]?\d+)?", content.strip(), re.IGNORECASE):
            raise table.fail(
                "value",
                f"value is the text {content!r}; write the number without quotes: value = {plain_number(content.strip())}",
            )
        check_fraction(table, name, content, unit)
        check_limit(table, name, content, parsed)
        distribution = distribution_of(table)
        check_inside(table, content, distribution)
        file, file_line = self.document.inputs_in.get(name, ("", 0))
        value = Value(
            name, content, unit, status, source.title, dated, how, note, file=file, file_line=file_line,
            range=self._range(table, content, unit, parsed),
            family=table.text("family", ""), distribution=distribution, line=table.line(),
        )  # fmt: skip
        at_line(table, None, self.sheet.give, self._marked_once(value))

    def _marked_once(self, value: Value) -> Value:
        """The published result of a lease of a year is income that comes once, as a calculated one is."""
        bridge = self.document.data.get("bridge")
        if not isinstance(bridge, dict) or bridge.get("increment") != value.name or not value.is_number:
            return value
        return replace(value, made_of=replace(value.lineage, comes_once=True))

    def _range(
        self, table: Table, content: float | tuple[float, ...] | str, unit: str, parsed: Unit
    ) -> Interval | None:
        if table.has("low") or table.has("high"):
            low, high = table.number("low"), table.number("high")
            if not low <= high:
                raise table.fail("low", f"low {low:g} is above high {high:g}; swap the two")
            if isinstance(content, float) and not low <= content <= high:
                raise table.fail(
                    "value", f"value {content:g} is outside low {low:g} to high {high:g}; correct one of them"
                )
            return Interval(low, high)
        phrase = table.text("qualifier", "")
        return at_line(table, "qualifier", _phrase_range, content, phrase, unit) if phrase else None

    def read_formulas(self, root: Table) -> None:
        """`[formulas.NAME]`, or the short form NAME = "…" is refused: every result states its unit."""
        for name, table in root.named_tables("formulas"):
            self._pending[name] = table
        if len(self._pending) > FORMULAS_MAX:
            raise root.fail("formulas", f"the case has more than {FORMULAS_MAX} formulas; split it")

    def _calculate(self, name: str) -> None:
        table = self._pending[name]

        def act() -> None:
            unit, note = table.text("unit"), table.text("note", "")
            status = status_of(table, None, given=False) if table.has("status") else None
            term = at_line(table, "formula", self._traced, table)
            family = table.text("family", "")
            at_line(table, "formula", self.sheet.derive, name, term, unit, status, note, table.line(), family)
            table.finish()

        at_line(table, "formula", self.within, name, act)

    def _traced(self, table: Table) -> Term:
        return self.traced(lambda: calculate(table.text("formula"), self.ref, self.check_rows, self.list_of))

    def traced(self, act: Callable[[], _T]) -> _T:
        """What a formula gives; a limit that a value breaks is reported at the value's own line."""
        try:
            return act()
        except InvalidInputError as error:
            culprit = error.details.get("value_name")
            if culprit and culprit in self.sheet and self.sheet[culprit].line:
                line = self.sheet[culprit].line
                message = f"{self.document.name}:{line}: {error.message}"
                kind = CalculationError if is_of_numbers(error) else CaseError
                raise kind(message, file=self.document.name, line=line) from error
            raise

    def check_rows(self, function: str, names: Sequence[str]) -> None:
        if function == "+":
            self._check_pair(*names)
            return
        missing = [name for name in names if name not in self.capacity]
        for name in missing:
            self.faults.check(_capacity_of(name))
        if missing:
            raise CaseError(
                f"{function}() adds rows of the capacity ledger; {missing[0] or 'a calculated number'!r} is not one: "
                f"{nearest(missing[0], self.capacity)}"
            )
        rows = [self.capacity[name] for name in names]
        if function == "total":
            total_gw(rows)
        else:
            stock_gw(rows, max(row.at for row in rows))

    def _check_pair(self, first: str, second: str) -> None:
        """Neither these two nor any row that they were calculated from may be banned from the other's sum."""
        met = self.kept_apart.between(self.sheet.leaves(first), self.sheet.leaves(second))
        if met is not None:
            raise FamilyError(f"{met[0]!r} must not be combined with {met[1]!r}: its own row says so", field="not_with")


def content_of(table: Table) -> float | tuple[float, ...] | str:
    table.asked.add("value")
    if "value" not in table.data:
        raise table.fail(None, "'value' is missing here; write value = a number, a list of numbers, or a text")
    found = table.data["value"]
    if isinstance(found, str):
        return found
    if isinstance(found, list):
        return tuple(table.numbers("value"))
    number = table.number("value")
    if number != number or number in (float("inf"), float("-inf")):
        raise table.fail("value", f"value is {number}; write a finite number")
    return number


def _single(statement: Statement) -> float:
    if not isinstance(statement.content, float):
        raise CaseError(f"row {statement.id!r} must have one number to be in the capacity ledger")
    return statement.content


def _capacity_of(row: str) -> str:
    """What the entry of a row in the capacity ledger is called where it can't be made."""
    return f"capacity of {row}"


def _contradicted(name: str, flag: Flag) -> str:
    return (
        f'it uses {name!r}, which its own deal contradicts ({flag.kind}); write use = "recomputed" in the comparable of line '
        f'{flag.line} for what the deal comes to, or use = "printed" for the number as it is printed'
    )


def _phrase_range(content: float | tuple[float, ...] | str, qualifier: str, unit: str) -> Interval | None:
    """The range of a qualified number; a phrase that is not a range ("if true") stays a phrase and gives none."""
    if not isinstance(content, float) or not qualifier:
        return None
    ceiling = 1.0 if unit.startswith(("share", "prob")) else float("inf")
    try:
        return of_phrase(qualifier, content, ceiling)
    except InvalidInputError:
        return None


def status_of(table: Table, default: Status | None, given: bool = True) -> Status:
    if default is not None and not table.has("status"):
        return default
    text = table.text("status")
    allowed = GIVEN if given else tuple(Status)
    if text not in [str(status) for status in allowed]:
        raise table.fail(
            "status", f"status {text!r} is not known here; {nearest(text, [str(item) for item in allowed])}"
        )
    return Status(text)


def _choice(table: Table, key: str, kind: type[_Choice], default: _Choice | None = None) -> _Choice:
    text = table.text(key, None if default is None else str(default))
    valid = {str(member): member for member in kind}
    if text not in valid:
        raise table.fail(key, f"{key} {text!r} is not known; {nearest(text, valid)}")
    return valid[text]


def day_text(table: Table, key: str) -> str:
    """A date, with or without quotes, as text."""
    found = table.data.get(key)
    if isinstance(found, date):
        table.has(key)
        return found.isoformat()
    return table.text(key)


def without_basis(unit: str) -> Unit:
    parsed = parse_unit(unit)
    return Unit(parsed.label, parsed.scale, parsed.dimensions)
