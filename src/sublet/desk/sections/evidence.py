"""`[signals]`, `[positioning]` and `[surplus]`: what would change the answer, what the price says, and two verdicts."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from sublet.desk.case import Build
from sublet.desk.documents import Table, at_line
from sublet.desk.errors import nearest
from sublet.desk.glut import IndustryWindow, OwnerWindow, Verdicts, judge, slack
from sublet.desk.positioning import standing
from sublet.desk.sections.register import read_past
from sublet.desk.sections.returns import read_returns
from sublet.desk.sheet import Status, Value
from sublet.desk.signals import Reading, Signal, capped, posterior
from sublet.desk.terms import Number, Term, constant
from sublet.desk.units import NUMBER
from sublet.desk.verdicts import Score, Settled, score


@dataclass(frozen=True, slots=True)
class SignalBoard:
    """The signals as of a date. `outcomes` are named values of the sheet; `now` is the one for what is known today."""

    claim: str
    prior: str
    signals: tuple[Signal, ...]
    as_of: date
    now: str
    outcomes: tuple[tuple[str, str], ...]
    past: tuple[Settled, ...] = ()
    score: Score | None = None


def read_signals(root: Table, build: Build, as_of: date) -> SignalBoard | None:
    """The `[signals]` table; None where the case has none."""
    if not root.has("signals"):
        return None
    table = root.table("signals")
    prior = build.named(table, "prior", "prob")
    signals = tuple(_signal(entry) for entry in table.tables("items"))
    ratios = [_ratios(entry, build, signal) for entry, signal in zip(table.tables("items"), signals, strict=True)]
    outcomes: list[tuple[str, str]] = []

    def put(name: str, title: str, readings: dict[str, Reading]) -> None:
        chosen: list[Number] = []
        for signal, terms, ratio in zip(signals, ratios, capped(signals, readings), strict=True):
            reading = readings.get(signal.id, Reading.OPEN)
            if reading is not Reading.OPEN and ratio != 1.0:
                chosen.append(terms[reading].bare())
        term = at_line(table, "prior", posterior, prior.in_unit(NUMBER).bare(), chosen)
        build.derive(table, f"sig.post.{name}", term, "prob", "modeled", title)
        outcomes.append((title, f"sig.post.{name}"))

    put("none", "no signal observed: the prior", {})
    put("all_bull", "every signal read bull", {signal.id: Reading.BULL for signal in signals})
    put("all_bear", "every signal read bear", {signal.id: Reading.BEAR for signal in signals})
    for signal in signals:
        others = {other.id: Reading.BULL for other in signals} | {signal.id: Reading.BEAR}
        put(f"{signal.short}_bear_rest_bull", f"{signal.id} bear, the rest bull", others)
    put("as_of", f"as observed on {as_of}", {signal.id: signal.reading_at(as_of) for signal in signals})
    past = read_past(table, build, signals, as_of)
    board = SignalBoard(
        table.text("claim"), prior.name, signals, as_of, "sig.post.as_of", tuple(outcomes), past, score(past)
    )  # fmt: skip
    table.finish()
    return board


def _signal(table: Table) -> Signal:
    reading = table.text("reading", "open")
    if reading not in [str(member) for member in Reading]:
        raise table.fail(
            "reading", f"reading {reading!r} is not known; {nearest(reading, [str(item) for item in Reading])}"
        )
    observed = table.day("observed_on") if table.has("observed_on") else None
    made = at_line(
        table, None, Signal, table.text("id"), table.text("short", table.text("id")), table.text("bull"),
        table.text("bear"), table.number("lr_bull"), table.number("lr_bear"), table.text("test"),
        table.text("falsifier", ""), table.day("due"), Reading(reading), observed, table.text("group", ""),
        _names(table.table("names")),
    )  # fmt: skip
    table.has("source")
    table.finish()
    return made


def _names(table: Table) -> dict[str, str]:
    """A signal's name by language, for the briefing."""
    names = {language: table.text(language) for language in ("en", "zh-Hant", "zh-Hans") if table.has(language)}
    table.finish()
    return names


def _ratios(table: Table, build: Build, signal: Signal) -> dict[Reading, Term]:
    source = build.source(table)
    found = {}
    for reading, ratio in ((Reading.BULL, signal.lr_bull), (Reading.BEAR, signal.lr_bear)):
        name = f"sig.lr.{signal.short}.{reading}"
        note = "likelihood ratio, set by judgment"
        value = Value(name, ratio, "x", Status.ASSUMPTION, source.title, source.date, note=note, line=table.line())
        at_line(table, None, build.sheet.give, value)
        found[reading] = build.ref(name)
    return found


@dataclass(frozen=True, slots=True)
class Positioning:
    """Rows of the positioning page: a sentence of what each number is, and its name in the sheet."""

    rows: tuple[tuple[str, str], ...]
    attribution: tuple[tuple[str, str], ...]


def read_positioning(root: Table, build: Build) -> Positioning | None:
    """The `[positioning]` table, which says which of the case's values the page shows; None where there is none."""
    if not root.has("positioning"):
        return None
    table = root.table("positioning")
    found = []
    measured = [row for entry in table.tables("readings") for row in _reading(entry, build)]
    measured += [row for entry in table.tables("returns") for row in read_returns(entry, build)]
    for key in ("show", "attribution"):
        rows = []
        for entry in table.tables(key):
            name = entry.text("value")
            at_line(entry, "value", build.ref, name)
            rows.append((entry.text("title"), name))
            entry.finish()
        found.append(tuple(rows))
    table.finish()
    return Positioning((*measured, *found[0]), found[1])


HISTORY_MAX = 10_000


def _reading(table: Table, build: Build) -> list[tuple[str, str]]:
    """`[[positioning.readings]]`: a reading in its own history gives `pos.ID.z` and the empirical `pos.ID.percentile`."""
    id_, title, window = table.text("id"), table.text("title"), table.text("window")
    reading = build.named(table, "reading", build.sheet[table.text("reading")].unit)
    source, history = build.source(table), table.numbers("history")
    if len(history) > HISTORY_MAX:
        raise table.fail("history", f"the history has {len(history)} observations; give at most {HISTORY_MAX}")
    found = at_line(table, "history", standing, reading.value, history, window)
    unit, name = build.sheet[reading.name].unit, f"pos.{id_}"
    over = f"{found.observations} observations, {window}"
    given = (
        (f"{name}.mean", found.mean, unit, f"mean of {over}"),
        (f"{name}.sd", found.sd, unit, f"sample standard deviation of {over}"),
        (f"{name}.percentile", found.percentile, "prob", f"empirical: share of {over}, that lie below"),
    )
    for key, number, of, how in given:
        value = Value(key, number, of, Status.DERIVED, source.title, source.date, how, line=table.line("history"))
        at_line(table, "id", build.sheet.give, value)
    score = (reading - build.ref(f"{name}.mean")) / build.ref(f"{name}.sd")
    build.derive(table, f"{name}.z", score, "z", note=over)
    table.finish()
    return [(f"{title}, z over {over}", f"{name}.z"), (f"{title}, empirical percentile", f"{name}.percentile")]


@dataclass(frozen=True, slots=True)
class SurplusExample:
    """One set of windows and its two verdicts."""

    id: str
    title: str
    windows: tuple[str, ...]
    owner: tuple[OwnerWindow, ...]
    industry: tuple[IndustryWindow, ...]
    target_utilization: float
    contract_price_falling: bool
    capex_guidance_cut: bool
    verdicts: Verdicts
    source: str


def read_surplus(root: Table, build: Build) -> tuple[SurplusExample, ...]:
    """All `[[surplus]]`; gives slack and net megawatts by window, and both verdicts."""
    found = []
    for table in root.tables("surplus"):
        with build.faults.attempted("surplus"):
            found.append(_example(table, build))
    return tuple(found)


def _example(table: Table, build: Build) -> SurplusExample:
    id_, source = table.text("id"), build.source(table)
    rows = table.tables("windows")
    target = table.number("target_utilization")
    owner, industry = [], []
    for row in rows:
        label = row.text("window")
        idle, bought = row.number("idle_mw"), row.number("bought_mw")
        owner.append(at_line(row, None, OwnerWindow, label, idle, bought))
        capacity, demand = row.number("capacity_mw"), row.number("demand_mw")
        industry.append(at_line(row, None, IndustryWindow, label, capacity, demand))
        row.finish()
    falling, cut = table.flag("contract_price_falling"), table.flag("capex_guidance_cut")
    verdicts = at_line(
        table, None, judge, owner, industry, target_utilization=target, contract_price_falling=falling,
        capex_guidance_cut=cut,
    )  # fmt: skip
    for mine, whole in zip(owner, industry, strict=True):
        given = {
            "idle": mine.idle_mw,
            "bought": mine.bought_mw,
            "capacity": whole.capacity_mw,
            "demand": whole.demand_mw,
        }
        for key, number in given.items():
            name = f"glut.{id_}.{key}_mw.{mine.window}"
            value = Value(name, number, "MW", Status.ASSUMPTION, source.title, source.date, line=table.line())
            at_line(table, None, build.sheet.give, value)
        part = {key: build.ref(f"glut.{id_}.{key}_mw.{mine.window}") for key in given}
        build.derive(table, f"glut.{id_}.net_mw.{mine.window}", part["idle"] - part["bought"], "MW")
        spare = slack(part["capacity"], part["demand"], constant(target))
        build.derive(table, f"glut.{id_}.slack.{mine.window}", spare, "share")
    made = SurplusExample(
        id_, table.text("title"), tuple(row.window for row in owner), tuple(owner), tuple(industry), target, falling, cut,
        verdicts, source.title,
    )  # fmt: skip
    table.finish()
    return made
