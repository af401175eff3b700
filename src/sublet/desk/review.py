"""What an analyst would ask of a case before it goes out: implausible numbers, old sources, inputs that nothing uses."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from itertools import combinations

from sublet.desk.case import Statement
from sublet.desk.desk import Desk
from sublet.desk.plausible import doubts
from sublet.desk.sheet import Status, Value

STALE_DAYS = 365
"""A source older than this, as of the case's date, is named: markets for compute have moved by half within a year."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing to look at: its kind, the value or part that it is about, the line (0 where none is known), and what it is."""

    kind: str
    name: str
    line: int
    message: str


def review(desk: Desk) -> list[Finding]:
    """All findings by kind: `problem`, `implausible`, `contradictory`, `unsourced`, `stale`, `unused`, `due`,
    `untranslated`."""
    return [
        *(Finding("problem", item.name or item.part, _line(item.message), item.reason) for item in desk.problems),
        *(
            Finding("implausible", item.name, item.line, f"{item.place}: {item.message}" if item.file else item.message)
            for item in doubts(desk.sheet)
        ),
        *_contradictory(desk),
        *_unsourced(desk),
        *_stale(desk),
        *_unused(desk),
        *_due(desk),
        *_untranslated(desk),
    ]


def _untranslated(desk: Desk) -> Iterator[Finding]:
    """Titles that a briefing in another language would print in English; a single word is taken for a name."""
    told = [desk.heading.title, desk.heading.owner, *(deal.title for deal in desk.comparables)]
    told += (
        []
        if desk.channels is None
        else [raw.title for raw in desk.channels.raw if raw.id == desk.channels.frontier_raw]
    )
    told += [] if desk.customers is None else [desk.customers.seller]
    told += [] if desk.bridge is None else [desk.title(bar.input) for bar in desk.bridge.tornado[:1]]
    for language in sorted({claim.language for claim in desk.claims} - {"en"}):
        for text in dict.fromkeys(told):
            if " " in text and desk.called(text, language) == text:
                yield Finding("untranslated", text, 0, f"has no entry under [case.words.{language}]")


def _line(message: str) -> int:
    place = message.partition(": ")[0].rpartition(":")[2]
    return int(place) if place.isdigit() else 0


def _contradictory(desk: Desk) -> Iterator[Finding]:
    """Two statements of one subject, metric, period and unit that give other numbers, and two inputs that say the same thing."""
    yield from _contradictory_inputs(desk)
    for one, other in combinations(desk.statements, 2):
        if _about(one) == _about(other) and isinstance(one.content, float) and one.content != other.content:
            line = desk.sheet[other.id].line if other.id in desk.sheet else 0
            words = f"{other.speaker} says {other.content}, {one.speaker} ({one.id}) says {one.content} {one.unit} of the same"
            yield Finding("contradictory", other.id, line, words)


def _contradictory_inputs(desk: Desk) -> Iterator[Finding]:
    """Two given numbers with one title, or one and the same note, of one unit and family, that are not the same."""
    told: dict[tuple[str, str, str], Value] = {}
    for value in _inputs(desk):
        title = desk.title(value.name)
        words = title if title != value.name else value.note
        if not words or not value.is_number or value.distribution is not None or value.name in desk.cells:
            continue
        first = told.setdefault((words, value.unit, value.family), value)
        if first.number != value.number:
            other = f"{first.name} (line {first.line}) says {first.number:g}"
            said = f"it is {value.number:g} {value.unit}, and {other} of what is called the same: {words}"
            yield Finding("contradictory", value.name, value.line, said)


def _about(row: Statement) -> tuple[str, str, str, str, str]:
    return row.subject, row.metric, row.measures, row.period, row.unit


def _unsourced(desk: Desk) -> Iterator[Finding]:
    for value in _inputs(desk):
        if value.status is Status.ASSUMPTION and not value.note and not value.formula:
            yield Finding("unsourced", value.name, value.line, "an assumption without a word on why; write how or note")


def _stale(desk: Desk) -> Iterator[Finding]:
    for value in _inputs(desk):
        day = _day(value.date)
        if value.status is not Status.ASSUMPTION and day is not None and (desk.heading.as_of - day).days > STALE_DAYS:
            yield Finding(
                "stale", value.name, value.line, f"its source is of {value.date}, the case of {desk.heading.as_of}"
            )


def _unused(desk: Desk) -> Iterator[Finding]:
    used = {leaf for value in desk.sheet if value.term is not None for leaf in desk.sheet.leaves(value.name)}
    used |= (
        set(desk.heading.results) | {row.id for row in desk.statements} | {verdict.prior for verdict in desk.verdicts}
    )
    columns = {name: name.rpartition(".")[2] for name in desk.cells}
    tables = {(name.partition(".")[0], columns[name]) for name in used if name in columns}
    used |= {name for name in desk.cells if (name.partition(".")[0], columns[name]) in tables}
    stems = {name.rpartition(".")[0] for name in used}
    for value in _inputs(desk):
        if value.is_number and value.name not in used | stems:
            yield Finding("unused", value.name, value.line, "no result hangs on it")


def _due(desk: Desk) -> Iterator[Finding]:
    """A verdict is a question with a date: on that day it has an outcome, which the case has not been told."""
    known = {item.id for item in desk.settled}
    for verdict in desk.verdicts:
        question = verdict.judgment.question
        if question.settles_on <= desk.heading.as_of and question.id not in known:
            line = desk.sheet[verdict.probability].line
            words = (
                f"it was to be settled by {question.settles_on}; give its outcome under [[settled]], or a later date"
            )
            yield Finding("due", f"verdict.{question.id}", line, words)


def _inputs(desk: Desk) -> Iterator[Value]:
    """What the case gives under [inputs] and in tables."""
    for name in (*desk.inputs, *desk.cells):
        yield desk.sheet[name]


def _day(text: str) -> date | None:
    try:
        return date.fromisoformat(text if len(text) > len("2026-07") else f"{text}-28")
    except ValueError:
        return None
