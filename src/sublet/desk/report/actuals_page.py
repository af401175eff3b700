"""The page of actuals: what was really earned, by pool, channel and customer, and how it compares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from typing import Any

from sublet import __version__
from sublet.desk.actuals import (
    Actuals,
    concentration,
    contract_book,
    forecast_scores,
    pool_lines,
    raw_against_managed,
    worth,
)
from sublet.desk.counterparties import RenewalStress
from sublet.desk.digits import figure
from sublet.desk.report import charts
from sublet.desk.report.blocks import Block, Cell, Figure, Paragraph, Section, TableBlock
from sublet.desk.report.charts import Dot
from sublet.desk.report.page import Paper, render_page
from sublet.desk.report.wording import Wording
from sublet.desk.sheet import Sheet
from sublet.desk.units import Basis
from sublet.values.clock import format_time
from sublet.values.money import NANO

CUSTOMERS_SHOWN_MAX = 50
DEFAULT_STRESS = RenewalStress(renew=0.8, reprice=0.8)
"""An assumption of the desk where the owner sets none: four in five renew, at four fifths of the price."""


def render_actuals(
    actuals: Actuals,
    as_of: date,
    stress: RenewalStress = DEFAULT_STRESS,
    others: Sequence[Actuals] = (),
    added: Sequence[Section] = (),
) -> str:
    """The page as self-contained HTML. `others` are the same window in other currencies, `added` sections that follow."""
    meta = {
        "Owner": actuals.owner,
        "Window": f"{format_time(actuals.window.start)} to {format_time(actuals.window.end)}",
        "As of": as_of.isoformat(),
        "Usage rows": f"{actuals.usage_rows:,}",
        "Sublet": __version__,
    }
    title = f"What {actuals.owner} earned with its surplus"
    sections = actuals_sections(actuals, as_of, stress)
    for other in others:
        for section in actuals_sections(replace(other, forecasts=()), as_of, stress):
            name = f"{section.id}-{other.currency.lower()}"
            sections.append(replace(section, id=name, title=f"{section.title}, {other.currency}"))
    return render_page(title, meta, [*sections, *added], Paper(Sheet(), Wording(None)))


def actuals_sections(actuals: Actuals, as_of: date, stress: RenewalStress = DEFAULT_STRESS) -> list[Section]:
    """The page's sections; the same blocks as a case's report."""
    found = [
        _worth(actuals),
        _statement(actuals),
        _pools(actuals),
        _customers(actuals),
        _contracts(actuals, as_of, stress),
        _forecast(actuals),
    ]
    return [section for section in found if section is not None]


def actuals_json(actuals: Actuals, as_of: date, stress: RenewalStress = DEFAULT_STRESS) -> dict[str, Any]:
    """The page's numbers, each with unit, status and source. Money is in major units of the currency."""
    line, spread, book = worth(actuals), concentration(actuals), contract_book(actuals, as_of, stress)
    currency = actuals.currency

    def number(value: float | None, unit: str, status: str = "derived") -> dict[str, Any]:
        return {
            "value": value,
            "unit": unit,
            "status": status,
            "source": f"ledger of {actuals.owner}",
            "date": as_of.isoformat(),
        }

    return {
        "owner": actuals.owner,
        "currency": currency,
        "statement": None if actuals.statement is None else actuals.statement.as_dict(),
        "window": {"start": format_time(actuals.window.start), "end": format_time(actuals.window.end)},
        "worth": {
            "revenue": number(line.revenue, currency),
            "other": number(line.other, currency),
            "credits": number(line.credits, currency),
            "earned": number(line.earned, currency),
            "accelerator_hours": number(line.accelerator_hours, "GPU-h"),
            "per_accelerator_hour": number(line.per_accelerator_hour, f"{currency}/GPU-h"),
            "per_watt_year": number(line.per_watt_year_it, f"{currency}/W-yr, IT"),
            "earned_per_watt_year": number(line.earned_per_watt_year_it, f"{currency}/W-yr, IT"),
            "comparables": [
                {"name": other.name, "value": other.usd_per_watt_year, "unit": "USD/W-yr", "basis": str(other.basis),
                 "status": "external", "source": other.source, "date": other.date}
                for other in line.comparables
            ],
        },
        "pools": [
            {"pool": row.pool, "generation": row.generation, "channel": row.channel, "revenue": number(row.revenue, currency),
             "credits": number(row.credits, currency), "earned": number(row.earned, currency),
             "per_accelerator_hour": number(row.per_accelerator_hour, f"{currency}/GPU-h"),
             "per_watt_year": number(row.per_watt_year, f"{currency}/W-yr, IT"),
             "per_offered_watt_year": number(row.per_offered_watt_year, f"{currency}/W-yr, IT"),
             "utilization": number(row.utilization, "share")}
            for row in pool_lines(actuals)
        ],
        "others": {name: number(nano / NANO, currency) for name, nano in actuals.others.items()},
        "customers": {name: number(revenue, currency) for name, revenue in spread.revenue.items()},
        "hhi": number(spread.hhi, "0..1"),
        "effective_customers": number(spread.effective_customers, "customers"),
        "backlog": {
            "signing": number(book.backlogs.signing, currency), "remaining": number(book.backlogs.remaining, currency),
            "revenue_backlog": number(book.backlogs.revenue_backlog, currency),
            "rpo": number(book.backlogs.performance_obligation, currency),
        },
        "renewal_ladder": {str(year): dict(rungs) for year, rungs in book.ladder.items()},
        "stress_by_year": {str(year): number(loss, f"{currency}/yr", "modeled") for year, loss in book.stress.items()},
        "forecast": [
            {"pool": row.pool, "windows": row.windows, "bias": row.bias, "absolute_error": row.absolute_error,
             "coverage": row.coverage}
            for row in forecast_scores(actuals)
        ],
    }  # fmt: skip


def _worth(actuals: Actuals) -> Section:
    line = worth(actuals)
    blocks: list[Block] = [Paragraph(line.sentence, "claim")]
    if line.per_watt_year_it is not None:
        realized = line.per_watt_year_it
        drawn = [Dot(f"{actuals.owner}, realized", realized, realized, realized)]
        drawn += [_comparable_dot(other.name, other.usd_per_watt_year, other.basis) for other in actuals.comparables]
        caption = "Realized price per IT watt and year of use, next to other people's. Each comparable's source and date are above."
        unit = f"{actuals.currency} a watt a year"
        blocks.append(Figure(lambda width: charts.dots(width, drawn, unit), caption, is_wide=True))
    return Section(
        "worth",
        "What it is worth",
        "Realized, not quoted: what customers were billed, over what they used, and what credits for broken promises leave of it.",
        tuple(blocks),
    )


def _statement(actuals: Actuals) -> Section | None:
    statement = actuals.statement
    if statement is None:
        return None
    rows: list[tuple[Cell, ...]] = list(statement.rows())
    blocks: list[Block] = [
        TableBlock(
            ("what", statement.currency),
            tuple(rows),
            "Usage counts when it was used; everything else, and the journal, when it was booked.",
        ),
        Paragraph(statement.sentence),
    ]
    return Section(
        "statement", "Everything earned", "Every product, fees and credits, against the journal.", tuple(blocks)
    )


def _comparable_dot(name: str, price: float, basis: Basis) -> Dot:
    return Dot(name.partition(",")[0], price, price, price, basis is Basis.IT, f"{basis} basis")


def _pools(actuals: Actuals) -> Section | None:
    lines = pool_lines(actuals)
    if not lines:
        return None
    unit = actuals.currency
    rows: list[tuple[Cell, ...]] = [
        (
            f"{row.pool} ({row.generation})", row.channel, f"{row.revenue:,.2f}", f"{row.credits:,.2f}",
            f"{row.accelerator_hours:,.2f}", _shown(row.per_accelerator_hour), _shown(row.per_watt_year),
            _shown(row.per_offered_watt_year),
            "not offered" if row.utilization is None else f"{row.utilization:.1%}",
        )
        for row in lines
    ]  # fmt: skip
    heads = (
        "pool", "channel", f"revenue, {unit}", f"credits, {unit}", "accelerator-hours", f"{unit} per accelerator-hour",
        f"{unit}/W-yr in use", f"{unit}/W-yr offered", "surplus sold",
    )  # fmt: skip
    pairs: list[tuple[Cell, ...]] = [
        (item.pool, _shown(item.raw), _shown(item.managed), item.verdict) for item in raw_against_managed(actuals)
    ]
    blocks: list[Block] = [
        TableBlock(
            heads,
            tuple(rows),
            "The share sold is of the hours that the owner left idle, over both channels. Prices are of the revenue, "
            "before the credits for broken promises.",
        ),
        TableBlock(("pool", "raw", "managed", "per accelerator-hour"), tuple(pairs), "Raw against managed by pool."),
    ]
    return Section("pools", "By pool and channel", "Where the surplus was, and what it brought.", tuple(blocks))


def _customers(actuals: Actuals) -> Section | None:
    spread = concentration(actuals)
    if spread.hhi is None or spread.effective_customers is None:
        return None
    shown = list(spread.revenue.items())[:CUSTOMERS_SHOWN_MAX]
    rows: list[tuple[Cell, ...]] = [(name, f"{revenue:,.2f}", f"{spread.shares[name]:.1%}") for name, revenue in shown]
    more = len(spread.revenue) - len(shown)
    caption = f"and {more} more customers." if more else ""
    blocks: list[Block] = [
        Paragraph(
            f"{len(spread.revenue)} customers, an HHI of {spread.hhi:.3f}: as concentrated as {spread.effective_customers:.1f} "
            "customers of equal size."
        ),
        TableBlock(("customer", f"revenue, {actuals.currency}", "share"), tuple(rows), caption),
    ]
    return Section("customers", "Customers", "How much hangs on how few.", tuple(blocks))


def _contracts(actuals: Actuals, as_of: date, stress: RenewalStress) -> Section | None:
    if not actuals.contracts:
        return None
    book = contract_book(actuals, as_of, stress)
    four, unit = book.backlogs, actuals.currency
    rows: list[tuple[Cell, ...]] = [
        ("signing value of open contracts", f"{four.signing:,.2f}"),
        ("remaining", f"{four.remaining:,.2f}"),
        ("remaining performance obligation", "not recorded" if four.performance_obligation is None else four.performance_obligation),
        ("weighted remaining term, years", f"{book.remaining_years:.2f}"),
    ]  # fmt: skip
    blocks: list[Block] = [TableBlock(("backlog", unit), tuple(rows))]
    years, loss = [str(year) for year in book.stress], [("", list(book.stress.values()))]
    if book.ladder:
        customers = sorted({name for rung in book.ladder.values() for name in rung})
        ladder = [(name, [rung.get(name, 0.0) for rung in book.ladder.values()]) for name in customers]
        ends = [str(year) for year in book.ladder]
        blocks.append(
            Figure(
                lambda width: charts.stacked(width, ends, ladder, f"{unit}, signed", "year of end"),
                "Renewal ladder: signing value by the year in which it ends.",
            )
        )
    if book.stress:
        blocks.append(
            Figure(
                lambda width: charts.stacked(width, years, loss, f"{unit} a year", "year"),
                f"Stress of contracts of 30 days or more: {stress.renew:.0%} renew at {stress.reprice:.0%} of the price; nothing is "
                "lost before an end.",
            )
        )
    return Section("contracts", "Contracts", "Backlog and renewal of what is signed.", tuple(blocks))


def _forecast(actuals: Actuals) -> Section | None:
    scores = forecast_scores(actuals)
    if not scores:
        return None
    rows: list[tuple[Cell, ...]] = [
        (row.pool, str(row.windows), f"{row.bias:+.2f}", f"{row.absolute_error:.2f}", f"{row.coverage:.0%}")
        for row in scores
    ]
    heads = ("pool", "windows", "bias", "mean absolute error", "inside the range")
    caption = "In accelerators. A bias above zero means that the forecast promised more surplus than there was."
    return Section(
        "forecast",
        "Forecast against actual",
        "Whether the surplus came as forecast.",
        (TableBlock(heads, tuple(rows), caption),),
    )


def _shown(value: float | None) -> str:
    return "none" if value is None else figure(value)
