"""`[calendars]` and `[series]`: numbers over months, quarters or fiscal years, each a value of the case."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import reduce

from sublet.desk.calendars import Period, Step, YearEnd, overlap_days, periods, ramped_share
from sublet.desk.case import Build, status_of
from sublet.desk.documents import Table, at_line
from sublet.desk.errors import nearest
from sublet.desk.expressions import calculate_list
from sublet.desk.sheet import Status, Value
from sublet.desk.terms import Term, constant, greatest, least, listed
from sublet.desk.units import NUMBER, parse_unit
from sublet.desk.vectors import Vector, same_kind

CALENDARS_MAX = 10
SERIES_MAX = 100
PARTS_MAX = 200
_KINDS = ("formula", "values", "start", "steps", "spread", "depreciation", "column")
_YEARLY = ("sum", "average", "last", "none")


@dataclass(frozen=True, slots=True)
class Calendar:
    """Periods in order, and how long each is in name: a quarter is a quarter of a year, whatever its days."""

    name: str
    step: Step
    periods: tuple[Period, ...]
    year_end: YearEnd

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(period.label for period in self.periods)

    @property
    def whole_years(self) -> dict[str, list[int]]:
        """Fiscal years that the calendar has in full, by the places of their periods; none where a period is a year."""
        count = 12 // self.step.months
        found: dict[str, list[int]] = {}
        for place, period in enumerate(self.periods):
            found.setdefault(period.year, []).append(place)
        return {year: places for year, places in found.items() if len(places) == count and count > 1}

    def vector(self, terms: Sequence[Term], text: str) -> Vector:
        return Vector(tuple(terms), self.labels, self.name, text, self.step.months / 12)


@dataclass(frozen=True, slots=True)
class Series:
    """A series as the report shows it: `names` are its values by period, `years` those of whole fiscal years by label."""

    name: str
    unit: str
    calendar: Calendar
    names: tuple[str, ...]
    years: tuple[tuple[str, str], ...]
    is_shown: bool


def read_calendars(root: Table, build: Build, as_of: date) -> dict[str, Calendar]:
    """All `[calendars.NAME]`; gives `NAME.PERIOD.days` and `NAME.PERIOD.years`, and the lists `NAME.days` and `NAME.years`."""
    found: dict[str, Calendar] = {}
    for name, table in root.named_tables("calendars"):
        with build.faults.gathered(name):
            if len(found) >= CALENDARS_MAX:
                raise root.fail("calendars", f"the case has more than {CALENDARS_MAX} calendars")
            found[name] = _calendar(name, table, build, as_of)
    return found


def _calendar(name: str, table: Table, build: Build, as_of: date) -> Calendar:
    words = table.text("step")
    if words not in [str(step) for step in Step]:
        raise table.fail("step", f"step {words!r} is not known; {nearest(words, [str(step) for step in Step])}")
    year_end = at_line(table, "year_end", YearEnd.of, table.text("year_end", "12-31"))
    first, count = table.day("first"), table.whole("periods")
    table.finish()
    made = Calendar(
        name, Step(words), tuple(at_line(table, "first", periods, first, Step(words), count, year_end)), year_end
    )
    for unit, title in (("day", "days"), ("yr", "years")):
        names = []
        for period in made.periods:
            number = float(period.days) if title == "days" else period.years
            names.append(f"{name}.{period.label}.{title}")
            how = f"{period.start} to {period.until}"
            at_line(table, None, build.sheet.give, Value(
                names[-1], number, unit, Status.DERIVED, "the calendar", as_of.isoformat(), how, line=table.line(),
            ))  # fmt: skip
        build.lists[f"{name}.{title}"] = made.vector([build.ref(each) for each in names], f"{name}.{title}")
    return made


def read_series(root: Table, build: Build, calendars: dict[str, Calendar]) -> list[Series]:
    """All `[series.NAME]`, each calculated when a formula or another series asks for it, or by `calculate_series`."""
    found: list[Series] = []
    for name, table in root.named_tables("series"):
        with build.faults.gathered(name):
            if len(found) >= SERIES_MAX:
                raise root.fail("series", f"the case has more than {SERIES_MAX} series; split it")
            found.append(_series(name, table, build, calendars))
    return found


def calculate_series(build: Build, series: Sequence[Series]) -> tuple[Series, ...]:
    """Calculate what nothing has asked for yet; a series that can't be calculated is a problem of the case and left out."""
    for each in series:
        with build.faults.attempted("series", each.name):
            build.list_of(each.name)
    return tuple(each for each in series if each.name in build.lists)


def _series(name: str, table: Table, build: Build, calendars: dict[str, Calendar]) -> Series:
    called = table.text("calendar")
    if called not in calendars:
        raise table.fail("calendar", f"calendar {called!r} is not under [calendars]; {nearest(called, calendars)}")
    calendar, unit = calendars[called], table.text("unit")
    at_line(table, "unit", parse_unit, unit)
    kinds = [kind for kind in _KINDS if table.has(kind)]
    if len(kinds) != 1:
        raise table.fail(None, f"a series has exactly one of {', '.join(_KINDS)}; this one has {len(kinds)}")
    yearly = table.text("yearly", "none")
    if yearly not in _YEARLY:
        raise table.fail("yearly", f"yearly {yearly!r} is not known; {nearest(yearly, _YEARLY)}")
    shown, note, family = table.flag("show", True), table.text("note", ""), table.text("family", "")
    status = status_of(table, None, given=False) if table.has("status") and kinds[0] != "values" else None
    terms = _READERS[kinds[0]](name, table, build, calendar)
    table.finish()
    names = tuple(f"{name}.{label}" for label in calendar.labels)
    whole = calendar.whole_years if yearly != "none" else {}
    years = tuple((year, f"{name}.{year}") for year in whole)

    def calculate() -> None:
        for each, term in zip(names, at_line(table, kinds[0], terms), strict=True):
            if each not in build.sheet:
                at_line(table, kinds[0], build.sheet.derive, each, term, unit, status, note, table.line(), family)
        vector = calendar.vector([build.ref(each) for each in names], name)
        for year, places in whole.items():
            chosen = [vector.terms[place] for place in places]
            at_line(table, "yearly", build.sheet.derive, f"{name}.{year}", _year_of(yearly, chosen, calendar, places),
                    unit, status, f"{yearly} of {name} over {year}", table.line(), family)  # fmt: skip
        build.lists[name] = vector

    build.pending_lists[name] = calculate
    return Series(name, unit, calendar, names, years, shown)


def _year_of(yearly: str, terms: Sequence[Term], calendar: Calendar, places: Sequence[int]) -> Term:
    if yearly == "last":
        return terms[-1]
    if yearly == "sum":
        return reduce(lambda left, right: left + right, terms)
    parts = [calendar.periods[place].years for place in places]
    return reduce(
        lambda left, right: left + right, (term * (part / sum(parts)) for term, part in zip(terms, parts, strict=True))
    )


Terms = Callable[[], Sequence[Term]]


def _formula(name: str, table: Table, build: Build, calendar: Calendar) -> Terms:
    text = table.text("formula")

    def terms() -> Sequence[Term]:
        found = build.traced(lambda: calculate_list(text, build.ref, build.check_rows, build.list_of))
        if not isinstance(found, Vector):
            return [found] * len(calendar.periods)
        if found.of != calendar.name:
            raise table.fail("formula", f"the formula gives a list by {found.of}, but the series is by {calendar.name}")
        return found.terms

    return terms


def _values(name: str, table: Table, build: Build, calendar: Calendar) -> Terms:
    """Numbers that were given, one for each period."""
    numbers, unit = table.numbers("values"), table.text("unit")
    if len(numbers) != len(calendar.periods):
        raise table.fail(
            "values", f"there are {len(numbers)} values for {len(calendar.periods)} periods; give one for each"
        )
    source, status = build.source(table), status_of(table, None)
    for period, number in zip(calendar.periods, numbers, strict=True):
        value = Value(
            f"{name}.{period.label}", number, unit, status, source.title, source.date, family=table.text("family", ""),
            line=table.line("values"),
        )  # fmt: skip
        at_line(table, "values", build.sheet.give, value)
    return lambda: [build.ref(f"{name}.{label}") for label in calendar.labels]


def _growth(name: str, table: Table, build: Build, calendar: Calendar) -> Terms:
    """A first value that grows by a year's rate, compounded over the periods."""
    start, growth = table.text("start"), table.text("growth")

    def terms() -> Sequence[Term]:
        first, rate = build.ref(start), build.named(table, "growth", "1")
        step = calendar.step.months / 12
        factors = [(rate.bare() + 1.0) ** (step * place) for place in range(len(calendar.periods))]
        return [first * Term(each.op, each.args, each.value, each.name, NUMBER) for each in factors]

    at_line(table, "growth", lambda: growth)
    return terms


@dataclass(frozen=True, slots=True)
class _Part:
    value: str
    start: date
    end: date
    full: date
    life: str
    table: Table


def _parts(table: Table, key: str, value: str, is_dated: bool) -> list[_Part]:
    found = []
    entries = table.tables(key)
    if not 0 < len(entries) <= PARTS_MAX:
        raise table.fail(key, f"{key} has {len(entries)} entries; give 1 to {PARTS_MAX}")
    for entry in entries:
        start = entry.day("from")
        until = entry.day("until") if is_dated or entry.has("until") else date(9998, 12, 31)
        full = entry.day("full", start) if key == "steps" else start
        if not start <= until:
            raise entry.fail("until", f"until {until} lies before from {start}; until is the last day")
        if not start <= full <= until:
            raise entry.fail("full", f"full {full} is the day on which all of it is there: between {start} and {until}")
        life = entry.text("life") if key == "depreciation" else ""
        found.append(_Part(entry.text(value), start, until + timedelta(days=1), full, life, entry))
        entry.finish()
    return found


def _weighted(build: Build, parts: Sequence[_Part], key: str, shares: Sequence[Sequence[float]]) -> Sequence[Term]:
    """The sum over parts of each value times its share of a period."""
    values = [at_line(part.table, key, build.ref, part.value) for part in parts]
    return [
        reduce(lambda left, right: left + right, (value * share for value, share in zip(values, by_part, strict=True)))
        for by_part in shares
    ]


def _steps(name: str, table: Table, build: Build, calendar: Calendar) -> Terms:
    """Levels that start and end on dates, as their mean over each period's days."""
    parts = _parts(table, "steps", "value", is_dated=False)
    shares = [[ramped_share(period, part.start, part.full, part.end) for part in parts] for period in calendar.periods]
    return lambda: _weighted(build, parts, "value", shares)


def _spread(name: str, table: Table, build: Build, calendar: Calendar) -> Terms:
    """Amounts that are earned evenly from day to day, each period its exact days."""
    parts = _parts(table, "spread", "value", is_dated=True)
    shares = [
        [overlap_days(period, part.start, part.end) / (part.end - part.start).days for part in parts]
        for period in calendar.periods
    ]
    return lambda: _weighted(build, parts, "value", shares)


def _depreciation(name: str, table: Table, build: Build, calendar: Calendar) -> Terms:
    """Cost over useful life, straight line from the day in service; the life may be a number that a simulation draws."""
    parts = _parts(table, "depreciation", "cost", is_dated=False)

    def terms() -> Sequence[Term]:
        costs = [at_line(part.table, "cost", build.ref, part.value) for part in parts]
        lives = [at_line(part.table, "life", build.named, part.table, "life", "yr") for part in parts]
        found = []
        for period in calendar.periods:
            charges = []
            for part, cost, life in zip(parts, costs, lives, strict=True):
                end = min(period.end, part.end)
                if end <= part.start:
                    continue
                before = max(0.0, calendar.year_end.years_between(part.start, period.start))
                in_years = life.in_unit(parse_unit("yr")).bare()
                used = (
                    greatest(least(in_years, calendar.year_end.years_between(part.start, end)) - before, 0.0) / in_years
                )
                charges.append(cost * Term(used.op, used.args, used.value, used.name, NUMBER))
            zero = costs[0] * constant(0.0, NUMBER)
            found.append(
                listed("sum", same_kind(charges), name)
                if len(charges) > 2
                else sum(charges[1:], charges[0])
                if charges
                else zero
            )
        return found

    return terms


def _column(name: str, table: Table, build: Build, calendar: Calendar) -> Terms:
    """A dated table's column: for each period the last row that is not after its first day."""
    text = table.text("column")

    def terms() -> Sequence[Term]:
        column = build.list_of(text)
        if column is None or not column.by_date:
            dated = [each for each, vector in build.lists.items() if vector.by_date]
            raise table.fail("column", f"{text!r} is not a column of a table by date; {nearest(text, dated)}")
        found = []
        for period in calendar.periods:
            known = [
                term
                for term, label in zip(column.terms, column.labels, strict=True)
                if label <= period.start.isoformat()
            ]
            if not known:
                raise table.fail(
                    "column", f"{text} begins on {column.labels[0]}, after {period.label} starts; add an earlier row"
                )
            found.append(known[-1])
        return found

    return terms


_READERS: dict[str, Callable[[str, Table, Build, Calendar], Terms]] = {
    "formula": _formula, "values": _values, "start": _growth, "steps": _steps, "spread": _spread,
    "depreciation": _depreciation, "column": _column,
}  # fmt: skip
