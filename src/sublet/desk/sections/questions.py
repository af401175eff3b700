"""`[[verdicts]]` and `[[settled]]`: dated questions on dated evidence, and how good past answers were."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from sublet.desk.case import Build
from sublet.desk.documents import Table, at_line
from sublet.desk.errors import nearest
from sublet.desk.sheet import Status, Value
from sublet.desk.verdicts import CREDIBILITY, WEIGHTS, Evidence, Judgment, Question, Score, Settled, judge, score

EVIDENCE_MAX, SETTLED_MAX = 500, 5000


@dataclass(frozen=True, slots=True)
class Verdict:
    """A question as of the case's date; its numbers are values of the sheet: `verdict.ID.probability` and the like."""

    judgment: Judgment
    prior: str
    probability: str
    without: tuple[tuple[str, str], ...]

    @property
    def strongest(self) -> str:
        """The evidence without which the probability would be furthest from what it is; empty without evidence."""
        found = self.judgment
        moving = {id_: abs(other - found.probability) for id_, other in found.without.items()}
        return max(moving, key=lambda id_: moving[id_]) if moving else ""


def read_verdicts(root: Table, build: Build, as_of: date) -> tuple[Verdict, ...]:
    """All `[[verdicts]]`, as of a date."""
    found = []
    for table in root.tables("verdicts"):
        with build.faults.attempted("verdicts"):
            found.append(_verdict(table, build, as_of))
    return tuple(found)


def _verdict(table: Table, build: Build, as_of: date) -> Verdict:
    id_ = table.text("id")
    prior = build.named(table, "prior", "prob")
    entries = table.tables("evidence")
    if len(entries) > EVIDENCE_MAX:
        raise table.fail("evidence", f"there are {len(entries)} pieces of evidence; give at most {EVIDENCE_MAX}")
    evidence = tuple(_evidence(entry, build) for entry in entries)
    question = at_line(
        table, None, Question, id_, table.text("question"), table.day("settles_on"), prior.value,
        tuple(table.texts("gates", [])), evidence,
    )  # fmt: skip
    table.finish()
    judgment = judge(question, as_of)
    sources = f"{len(evidence)} pieces of evidence; weights are judgment"

    def give(name: str, number: float, unit: str, how: str) -> str:
        made = Value(f"verdict.{id_}.{name}", number, unit, Status.MODELED, sources, str(as_of), how, line=table.line())
        at_line(table, None, build.sheet.give, made)
        return made.name

    probability = give("probability", judgment.probability, "prob", f"{prior.name} and the evidence, in decibans")
    without = []
    for item in question.evidence:
        if item.id in judgment.moved:
            give(
                f"moved.{item.id}", judgment.moved[item.id], "decibans", "weight x credibility, halved every half-life"
            )
            without.append(
                (item.id, give(f"without.{item.id}", judgment.without[item.id], "prob", "all other evidence"))
            )
    return Verdict(judgment, prior.name, probability, tuple(without))


def _evidence(table: Table, build: Build) -> Evidence:
    """A statement of the case by its id, or words of its own with a source."""
    id_ = table.text("id")
    row = next((row for row in build.statements if row.id == id_), None)
    if row is None and not table.has("text"):
        known = [row.id for row in build.statements]
        raise table.fail(
            "id", f"{id_!r} is no statement of this case, {nearest(id_, known)} Or give it a text and a source"
        )
    if row is None:
        build.source(table)
    told = table.text("text") if table.has("text") or row is None else f"{row.speaker}, {row.subject}: {row.measures}"
    speaks = table.text("speaks", "for")
    if speaks not in ("for", "against"):
        raise table.fail("speaks", f"speaks is {speaks!r}; write for or against")
    weight = table.text("weight")
    if weight not in (*WEIGHTS, "none"):
        raise table.fail(
            "weight", f"weight {weight!r} is not one of {', '.join(WEIGHTS)} or none; {nearest(weight, WEIGHTS)}"
        )
    status = table.text("status")
    if status not in CREDIBILITY:
        raise table.fail("status", f"status {status!r} is not known for evidence; {nearest(status, CREDIBILITY)}")
    made = at_line(
        table, None, Evidence, id_, told, table.text("group"), table.day("observed_on"), status, 1 if speaks == "for" else -1,
        weight,
    )  # fmt: skip
    table.finish()
    return made


def read_settled(root: Table, build: Build, as_of: date) -> tuple[tuple[Settled, ...], Score | None]:
    """All `[[settled]]` that were settled by a date, and their score."""
    tables = root.tables("settled")
    if len(tables) > SETTLED_MAX:
        raise root.fail("settled", f"there are {len(tables)} settled questions; give at most {SETTLED_MAX}")
    found = []
    for table in tables:
        build.source(table)
        made = at_line(
            table, None, Settled, table.text("id"), table.text("question"), table.day("asked_on"), table.number("probability"),
            table.day("settled_on"), table.flag("came_true"),
        )  # fmt: skip
        table.finish()
        if made.settled_on <= as_of:
            found.append(made)
    return tuple(found), score(found)
