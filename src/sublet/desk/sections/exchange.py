"""`[exchange_rates]`: what a US dollar buys of a currency, on one date or on several."""

from __future__ import annotations

from datetime import date

from sublet.desk.case import Build, Source, day_text
from sublet.desk.documents import Table, at_line
from sublet.desk.sheet import Status, Value
from sublet.desk.units import parse_unit
from sublet.desk.vectors import Vector

RATES_MAX = 2000


def read(root: Table, build: Build, as_of: date) -> None:
    """`[exchange_rates.TWD]`: gives `fx.TWD`, the latest rate that is not after the case's date, and tells slips of currency.

    With `rates`, one for each date, `fx.TWD.rates` is the list of all, for lookup() by date.
    """
    for code, table in root.named_tables("exchange_rates"):
        with build.faults.gathered(f"fx.{code}"):
            _currency(code, table, build, as_of)
            table.finish()


def _currency(code: str, table: Table, build: Build, as_of: date) -> None:
    unit = f"{code}/USD"
    at_line(table, None, parse_unit, unit)
    if not table.has("rates"):
        source = build.source(table)
        dated = day_text(table, "date") if table.has("date") else source.date
        _give(table, build, f"fx.{code}", _rate(table, code), (source, dated))
        return
    entries = table.tables("rates")
    if not 0 < len(entries) <= RATES_MAX:
        raise table.fail("rates", f"there are {len(entries)} rates; give 1 to {RATES_MAX}, each with date and per_usd")
    standard = build.source(table) if table.has("source") else None
    found: dict[date, tuple[float, Source]] = {}
    for entry in entries:
        day = entry.day("date")
        if found and day <= max(found):
            raise entry.fail(
                "date", f"{day} does not come after {max(found)}; put the rates in the order of their dates"
            )
        found[day] = (_rate(entry, code), build.source(entry) if entry.has("source") or standard is None else standard)
        _give(entry, build, f"fx.{code}.{day}", found[day][0], (found[day][1], day.isoformat()))
        entry.finish()
    known = [day for day in found if day <= as_of]
    if not known:
        raise table.fail("rates", f"no rate is dated on or before {as_of}, the case's date; add one")
    rate, source = found[known[-1]]
    _give(table, build, f"fx.{code}", rate, (source, known[-1].isoformat()))
    names = [f"fx.{code}.{day}" for day in found]
    labels = tuple(day.isoformat() for day in found)
    text = f"fx.{code}.rates"
    build.lists[text] = Vector(tuple(build.ref(name) for name in names), labels, text, text, by_date=True)


def _rate(table: Table, code: str) -> float:
    rate = table.number("per_usd")
    if not rate > 0:
        raise table.fail("per_usd", f"per_usd is {rate:g}; write how much {code} a US dollar buys, above zero")
    return rate


def _give(table: Table, build: Build, name: str, rate: float, origin: tuple[Source, str]) -> None:
    source, dated = origin
    code = name.split(".")[1]
    value = Value(name, rate, f"{code}/USD", Status.EXTERNAL, source.title, dated, line=table.line())
    at_line(table, None, build.sheet.give, value)
    if name == f"fx.{code}":
        build.rates.append((f"{code} for USD", rate))
