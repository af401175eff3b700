"""A case, opened: its sheet and the results of every section that its file has."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from sublet.desk.capacity import CapacityRow
from sublet.desk.case import Build, Statement
from sublet.desk.documents import Document, Table, at_line
from sublet.desk.errors import CalculationError, CaseError, UnknownNameError, nearest
from sublet.desk.extending import read_case
from sublet.desk.faults import Problem
from sublet.desk.heading import Heading, read_heading
from sublet.desk.phrases import PARTS
from sublet.desk.sections import (
    bridge,
    capital,
    comparables,
    customers,
    decision,
    evidence,
    exchange,
    hardware,
    questions,
    raw_managed,
    sensitivity,
    tables,
    timeline,
    uncertainty,
)
from sublet.desk.sections.bridge import Bridge
from sublet.desk.sections.capital import Capital
from sublet.desk.sections.comparables import ComparableDeal
from sublet.desk.sections.customers import Customers
from sublet.desk.sections.decision import Decision
from sublet.desk.sections.evidence import Positioning, SignalBoard, SurplusExample
from sublet.desk.sections.questions import Verdict
from sublet.desk.sections.raw_managed import Channels
from sublet.desk.sections.sensitivity import Sensitivity
from sublet.desk.sections.timeline import Series
from sublet.desk.sections.uncertainty import Scenario, SimulationPlan
from sublet.desk.sheet import Sheet
from sublet.desk.verdicts import Score, Settled
from sublet.values.errors import SubletError

_P = ParamSpec("_P")
_T = TypeVar("_T")

LANGUAGES = ("en", "zh-Hant", "zh-Hans")
PLACEHOLDER = re.compile(r"\{([^{}]+)\}")


@dataclass(frozen=True, slots=True)
class Claim:
    """A sentence of the case's own in one language, and the part of the briefing it belongs to.

    `{name}` stands for a value of the case; there is at least one, so that the sentence is backed by a number. `{name|size}` is
    the number without its sign, `{name|points}` a share in percentage points.
    """

    language: str
    text: str
    part: str = "claim"


@dataclass(frozen=True, slots=True)
class Desk:
    """Everything that a case says and everything that follows from it."""

    heading: Heading
    digest: str
    path: str
    sheet: Sheet
    statements: tuple[Statement, ...]
    capacity: tuple[CapacityRow, ...]
    refused_sums: tuple[tuple[str, ...], ...]
    claims: tuple[Claim, ...]
    comparables: tuple[ComparableDeal, ...]
    bridge: Bridge | None
    decision: Decision | None
    capital: Capital | None
    channels: Channels | None
    customers: Customers | None
    signals: SignalBoard | None
    positioning: Positioning | None
    surplus: tuple[SurplusExample, ...]
    verdicts: tuple[Verdict, ...]
    settled: tuple[Settled, ...]
    score: Score | None
    simulation: SimulationPlan | None
    scenarios: tuple[Scenario, ...]
    timeline: tuple[Series, ...]
    sensitivities: tuple[Sensitivity, ...]
    cells: tuple[str, ...]
    inputs: tuple[str, ...]
    problems: tuple[Problem, ...]
    files: tuple[str, ...] = ()
    """Every file that the case was read from: its own, scenario files and data files."""

    def called(self, text: str, language: str) -> str:
        """What one of the case's own titles or names is called in a language: its entry under [case.words.LANGUAGE], or itself."""
        return self.heading.words.get(language, {}).get(text, text)

    def problems_of(self, part: str) -> tuple[Problem, ...]:
        """What a part of the case lacks, in the order of the calculation."""
        return tuple(problem for problem in self.problems if problem.part == part)

    def title(self, name: str) -> str:
        """What people call a value: its entry under [case.titles], or its name."""
        template, filled = self.template(name)
        return template.replace("*", filled) if template else name

    def template(self, name: str) -> tuple[str, str]:
        """The entry under [case.titles] that fits a name, and what its `*` stands for; two empty texts where none fits."""
        titles = self.heading.titles
        if name in titles:
            return titles[name], ""
        for pattern, words in titles.items():
            start, star, end = pattern.partition("*")
            if star and len(name) > len(start) + len(end) and name.startswith(start) and name.endswith(end):
                return words, name[len(start) : len(name) - len(end)]
        return "", ""

    def values(self) -> dict[str, dict[str, Any]]:
        """Every value by name, as `sublet desk values --json` prints it."""
        found = {}
        for value in self.sheet:
            entry = value.as_dict()
            extent = self.sheet.range_of(value.name) if value.term is not None else None
            if extent is not None:
                entry["low"], entry["high"] = extent.low, extent.high
            found[value.name] = entry
        return found


_TABLES = (
    "case", "sources", "rows", "capacity_checks", "inputs", "exchange_rates", "hardware", "tables", "calendars", "series",
    "correlations", "sensitivity", "formulas",
    "comparables", "bridge", "decision",
    "capex", "channels", "counterparties", "contracts", "signals", "positioning", "surplus", "verdicts",
    "settled", "monte_carlo", "scenarios",
)  # fmt: skip


def open_case(path: Path) -> Desk:
    """Read a case, or a scenario file that extends one, and calculate it.

    Raises CaseError with file and line for whatever can't be used. What only the numbers of a scenario file break names that file.
    """
    document, files = read_case(path)
    try:
        return build_case(document)
    except CaseError as error:
        if not files:
            raise
        build_case(read_case(Path(document.name))[0])
        raise CaseError(f"{files[0].name}: with the numbers that it sets, {error.message}", **error.details) from error


def build_case(document: Document) -> Desk:
    """Calculate a parsed case. Raises CaseError with all faults of the file, each with its line.

    What can't be calculated from sound inputs is among the desk's `problems`, and the rest stands.
    """
    build = Build(document)
    try:
        return _built(document, build)
    except SubletError as error:
        if error.details.get("file"):
            raise
        culprit = error.details.get("value_name")
        line = build.sheet[culprit].line if culprit and culprit in build.sheet else 1
        raise CaseError(f"{document.name}:{line}: {error.message}", file=document.name, line=line) from error


def _built(document: Document, build: Build) -> Desk:
    root = document.root()
    root.known(_TABLES)
    heading = read_heading(root)
    build.read_sources(root)
    build.read_statements(root)
    build.read_inputs(root)
    exchange.read(root, build, heading.as_of)
    hardware.read(root, build)
    tables.read(root, build)
    series = timeline.read_series(root, build, timeline.read_calendars(root, build, heading.as_of))
    build.read_formulas(root)
    deals = comparables.read(root, build)
    bridged = _part(build, "bridge", bridge.read, root, build)
    decided = _part(build, "decision", decision.read, root, build)
    capital_found = _part(build, "capex", capital.read, root, build)
    channels = _part(build, "channels", raw_managed.read, root, build)
    customers_found = _part(build, "counterparties", customers.read, root, build, heading.as_of)
    signals = _part(build, "signals", evidence.read_signals, root, build, heading.as_of)
    build.finish()
    over_time = timeline.calculate_series(build, series)
    verdicts = questions.read_verdicts(root, build, heading.as_of)
    settled, found_score = questions.read_settled(root, build, heading.as_of)
    positioning = _part(build, "positioning", evidence.read_positioning, root, build)
    surplus = evidence.read_surplus(root, build)
    build.faults.raise_all()
    build.mark_flagged()
    build.mark_kept_apart()
    results = tuple(name for name in heading.results if _has(root, build, "results", name))
    for name in heading.titles:
        start, star, end = name.partition("*")
        fits = star and any(value.name.startswith(start) and value.name.endswith(end) for value in build.sheet)
        known = name in build.sheet or name in build.lists or fits
        if not known and not build.faults.problems:
            _has(root, build, "titles", name)
    uncertainty.read_correlations(root, build)
    plan = _part(build, "monte_carlo", uncertainty.read_simulation, root, build)
    scenarios = uncertainty.read_scenarios(root, build, results)
    sensitivities = sensitivity.read(root, build)
    refused = _refused_sums(root, build)
    claims = _claims(root, build)
    build.faults.raise_all()
    root.finish()
    return Desk(
        replace(heading, results=results), _digest(document, build), document.name, build.sheet, tuple(build.statements),
        tuple(build.capacity.values()), refused, claims, deals, bridged, decided, capital_found, channels, customers_found, signals,
        positioning, surplus, verdicts, settled, found_score, plan, scenarios, over_time, sensitivities, tuple(build.cells),
        tuple(build.inputs),
        tuple(build.faults.problems), (document.name, *document.files, *build.files),
    )  # fmt: skip


def _digest(document: Document, build: Build) -> str:
    """The hash of the case: of its file, and of the files that it reads."""
    if not build.imported:
        return document.digest
    return hashlib.sha256(" ".join([document.digest, *build.imported]).encode()).hexdigest()


def _part(build: Build, part: str, read: Callable[_P, _T | None], *args: _P.args, **kwargs: _P.kwargs) -> _T | None:
    """What a table of the case gives; None, with the reason among the problems, where it can't be calculated."""
    with build.faults.attempted(part):
        return read(*args, **kwargs)
    return None


_PART_OF = {
    "bridge": "bridge", "grid": "bridge", "decision": "decision", "capex": "capex", "mgd": "channels", "cp": "counterparties",
    "sig": "signals", "verdict": "verdicts", "glut": "surplus", "pos": "positioning", "comp": "comparables",
}  # fmt: skip
"""Which table of a case makes the values of a name's first part."""


def _has(root: Table, build: Build, key: str, name: str) -> bool:
    """Whether `[case]` names a value that is there. Raises CaseError for one that is nowhere."""
    if name in build.sheet:
        return True
    with build.faults.attempted(key, name):
        try:
            build.faults.check(name)
        except CalculationError as error:
            raise root.table("case").cannot(key, f"{name!r} can't be calculated") from error
        part = _PART_OF.get(name.partition(".")[0])
        if part is not None and any(problem.part == part for problem in build.faults.problems):
            raise root.table("case").cannot(key, f"{name!r} can't be calculated, as [{part}] can't")
        known = [value.name for value in build.sheet]
        unknown = UnknownNameError(f"{name!r} is not a value of this case; {nearest(name, known)}")
        raise root.table("case").fail(key, unknown.message) from unknown
    return False


def _refused_sums(root: Table, build: Build) -> tuple[tuple[str, ...], ...]:
    """`[[capacity_checks]]`: sums that people make and that the ledger refuses; the page shows why."""
    found = []
    for table in root.tables("capacity_checks"):
        names = tuple(table.texts("rows"))
        missing = [name for name in names if name not in build.capacity]
        if missing and any(problem.part == "capacity" for problem in build.faults.problems):
            continue
        if missing:
            raise table.fail(
                "rows", f"{missing[0]!r} is not a row of the capacity ledger; give it a capacity = {{…}} first"
            )
        table.finish()
        found.append(names)
    return tuple(found)


def _claims(root: Table, build: Build) -> tuple[Claim, ...]:
    """`[case.claims]` and `[[case.remarks]]`: texts in up to three languages, each backed by values of the case."""
    case = root.table("case")
    claims = _texts(case.table("claims"), build, "claim")
    for table in case.tables("remarks"):
        part = table.text("part")
        if part not in PARTS:
            raise table.fail("part", f"part {part!r} is not one of the briefing's; {nearest(part, PARTS)}")
        claims += _texts(table, build, part)
    return tuple(claims)


def _texts(table: Table, build: Build, part: str) -> list[Claim]:
    found = []
    for language in LANGUAGES:
        if table.has(language):
            text = table.text(language)
            names = [found.partition("|")[0] for found in PLACEHOLDER.findall(text)]
            if not names:
                raise table.fail(
                    language, "the sentence names no value; put at least one as {NAME} so that a number backs it"
                )
            if "{" in PLACEHOLDER.sub("", text) or "}" in PLACEHOLDER.sub("", text):
                raise table.fail(language, "a brace stands alone; write a value as {NAME}, with both")
            with build.faults.attempted("claims", f"{part} in {language}"):
                for name in names:
                    at_line(table, language, build.ref, name)
                found.append(Claim(language, text, part))
    table.finish()
    return found
