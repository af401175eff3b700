"""Sections on the owner's own business: bridge, capital, channels, customers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from sublet.desk.report import charts, grids
from sublet.desk.report.blocks import Block, Cell, Draw, Figure, Paragraph, Ref, Section, TableBlock, rows_of
from sublet.desk.report.wording import Wording
from sublet.desk.sections.bridge import Bridge

GRIDS = {
    "proportional": "Constant margin: the published cell scaled",
    "affine": "Cash cost: constant cost per watt",
    "full_cost": "Full cost: cash cost and straight-line depreciation",
    "upside_proportional": "Increase on base EPS, constant margin",
}
"""What each grid of results counts as cost."""

STEPS = {
    "revenue": "revenue", "power": "electricity", "support and other": "support and other", "pre-tax": "pre-tax profit",
    "tax": "tax", "net income": "net income",
}  # fmt: skip


def bridge(w: Wording) -> list[Section]:
    """The bridge itself, and what it is sensitive to."""
    desk = w.desk
    if desk is None or desk.bridge is None:
        return []
    found, sheet = desk.bridge, desk.sheet
    blocks: list[Block] = [
        Paragraph(
            w(
                "Leasing {power} for one year at {price} gives {result}, at an incremental cost of {cost}. The capacity counts "
                "as already paid for; depreciation is in the full-cost grid alone.",
                power=f"{{{found.power}}}", price=f"{{{found.price}}}", result=f"{{{found.result}}}", cost=f"{{{found.cost}}}",
            )
        ),
        _waterfall(w, found),
        *([_envelope(w, found)] if found.envelope else []),
        _heat_maps(w, found),
    ]  # fmt: skip
    first = Section("bridge", w("Earnings"), w("From megawatts leased to earnings, one cost at a time."), tuple(blocks))
    more: list[Block] = []
    if found.tornado:
        unit = sheet[found.result].unit
        factor, axis = w.axis(unit)
        bars = [
            (
                _first_upper(w.name(bar.input)),
                w("{a} to {b}", a=_plain(w, bar.low, bar.input), b=_plain(w, bar.high, bar.input)),
                bar.at_low * factor, bar.at_high * factor,
            )
            for bar in found.tornado
        ]  # fmt: skip
        base = sheet[found.result].number * factor
        foot = w("as given: {a}", a=w.number(sheet[found.result].number, unit))
        caption = w("Each input moved alone from its low to its high; the others stay, calculated ones included.")
        more.append(Figure(partial(_tornado, bars, base, axis, foot), caption, is_wide=True))
    rows: list[tuple[Cell, ...]] = [(w.name(name), Ref(name)) for _, name in found.break_evens]
    more.append(TableBlock((w("break-even"), w("value")), tuple(rows)))
    shown = [
        value.name
        for value in sheet
        if value.name.startswith(("grid.slope_", "grid.price_"))
        or (value.name.startswith("bridge.") and "waterfall" not in value.name)
    ]
    more.append(
        TableBlock(
            (w("what"), w("value")),
            rows_of([(w.name(name), name) for name in shown]),
            folded=w("Slopes and inversions"),
        )
    )
    lead = w("What moves the answer, and where it turns.")
    return [first, Section("sensitivity", w("Sensitivity and break-evens"), lead, tuple(more))]


def _tornado(bars: Sequence[tuple[str, str, float, float]], base: float, unit: str, foot: str, width: int) -> str:
    return charts.tornado(width, bars, base, unit, foot)


def _plain(w: Wording, number: float, name: str) -> str:
    assert w.desk is not None
    return w.number(number, w.desk.sheet[name].unit)


def _first_upper(words: str) -> str:
    return words[:1].upper() + words[1:]


def _waterfall(w: Wording, found: Bridge) -> Figure:
    assert w.desk is not None
    sheet = w.desk.sheet
    factor, unit = w.axis(sheet[found.waterfall[0][1]].unit)
    steps = [
        (w(STEPS.get(label, label)), sheet[name].number * factor, label in ("revenue", "pre-tax", "net income"))
        for label, name in found.waterfall
        if label != "EPS"
    ]
    last = ""
    if found.per_share:
        last = w("over the diluted shares: {a}", a=w.quantity(sheet[found.result]))
    caption = w(
        "{a} at {b}, with {c} of incremental cost.",
        a=w.quantity(sheet[found.power]), b=w.quantity(sheet[found.price]), c=w.quantity(sheet[found.cost]),
    )  # fmt: skip

    def draw(width: int) -> str:
        return charts.waterfall(width, steps, unit, last)

    return Figure(draw, caption)


def _heat_maps(w: Wording, found: Bridge) -> Figure:
    assert w.desk is not None
    sheet = w.desk.sheet
    rows, columns = [f"{power:g}" for power in found.axis_power], [f"{price:g}" for price in found.axis_price]
    marked = None
    if found.published is not None:
        cell = (sheet.number_in(found.power, "MW"), sheet.number_in(found.price, "USD/W-yr"))
        if cell[0] in found.axis_power and cell[1] in found.axis_price:
            marked = (found.axis_power.index(cell[0]), found.axis_price.index(cell[1]))
    factor, unit = w.axis(sheet[found.result].unit)
    titles = (w.axis("MW")[1], w("rent, {a}", a=w.axis("USD/W-yr")[1]))
    variants: list[tuple[str, Draw]] = []
    for grid in found.grids:
        percent = grid.mode.startswith("upside")
        values = [[sheet[name].number * (1 if percent else factor) for name in row] for row in grid.names]

        def draw(width: int, values: list[list[float]] = values, mode: str = grid.mode, percent: bool = percent) -> str:
            ringed = None if mode == "full_cost" else marked
            return grids.heat_map(width, rows, columns, values, titles=titles, marked=ringed, percent=percent)

        variants.append((w(GRIDS[grid.mode]), draw))
    caption = w("The result in {a}, by power and rent. The switch says which costs are inside.", a=unit)
    if marked:
        caption = w.together(caption, w("The ringed cell is the published one; every other cell is derived."))
    return Figure(variants[0][1], caption, w("Which costs are inside"), tuple(variants), is_wide=True)


def _envelope(w: Wording, found: Bridge) -> Figure:
    assert w.desk is not None
    sheet = w.desk.sheet
    low = [sheet[pair[0]].number for pair in found.envelope]
    high = [sheet[pair[1]].number for pair in found.envelope]
    published = (
        sheet.number_in(found.price, "USD/W-yr"), sheet.number_in(found.published or found.result, "USD/share"), w("published"),
    )  # fmt: skip
    verticals = [(sheet[name].number, w.name(name)) for _, name in found.break_evens]
    titles = (
        w("rent, {a}", a=w.axis("USD/W-yr")[1]),
        w("{a}, at {b}", a=w.axis("USD/share")[1], b=w.number(found.axis_power[0], "MW")),
    )
    labels = (w("no cost (constant margin)"), w("highest cost that fits"))

    def draw(width: int) -> str:
        return charts.envelope(
            width, list(found.axis_price), low, high, titles=titles, published=published, labels=labels, verticals=verticals
        )  # fmt: skip

    caption = w(
        "One published cell can't identify the cost per watt. Every cost from zero to the highest that fits passes "
        "through it, and the readings part on either side."
    )
    return Figure(draw, caption)


def capital(w: Wording) -> Section | None:
    """The capex path, its scenarios, vintages, full-cost price and payback."""
    desk = w.desk
    if desk is None or desk.capital is None:
        return None
    found, sheet = desk.capital, desk.sheet
    factor, unit = w.axis("USD bn")
    series = [
        (_scenario(w, title), [sheet[name].number * factor for name in names]) for title, names in found.scenarios
    ]
    vintages = sorted({vintage for _, parts, _ in found.depreciation for vintage, _ in parts})
    stacks = []
    for vintage in vintages:
        by_year = [dict(parts) for _, parts, _ in found.depreciation]
        numbers = [sheet[part[vintage]].number * factor if vintage in part else 0.0 for part in by_year]
        stacks.append((w("bought in {a}", a=str(vintage)), numbers))
    years = [str(year) for year, _, _ in found.depreciation]
    blocks: list[Block] = [
        Figure(
            lambda width: charts.lines(width, found.years, series, unit),
            w("Temporary leasing leaves the path as it is; capacity that is built to be let raises it."),
        ),
        Figure(
            lambda width: charts.stacked(width, years, stacks, unit, w("year")),
            w("Depreciation of what is bought from now on: straight line, half a year's charge in the first year."),
        ),
    ]
    if any(row for _, row in found.full_cost):
        rates = [f"{rate:.0%}" for rate, _ in found.full_cost[0][1]]
        blocks.append(
            TableBlock(
                (w("capital cost"), *rates), _price_rows(w, found.full_cost), w("Full-cost price by capital cost and rate."),
                folded=w("Full-cost price by capital cost and rate"),
            )
        )  # fmt: skip
    if any(row for _, row in found.payback):
        prices = [w.number(price, "USD/W-yr") for price, _ in found.payback[0][1]]
        caption = w("Payback, undiscounted: capital cost over rent less cash cost.")
        blocks.append(
            TableBlock((w("capital cost"), *prices), _price_rows(w, found.payback), caption, w("Payback by rent"))
        )
    names = [value.name for value in sheet if value.name.startswith("capex.") and _is_summary(value.name)]
    blocks.append(
        TableBlock(
            (w("what"), w("value")), rows_of([(w.name(name), name) for name in names]),
            folded=w("Capex paths and ratios"),
        )
    )  # fmt: skip
    lead = w(
        "Leasing idle capacity that is already paid for moves revenue and not capex; dedicated capacity moves both."
    )
    return Section("capex", w("Capital"), lead, tuple(blocks))


def _scenario(w: Wording, title: str) -> str:
    """The desk's own scenarios have words with a number in them; others are the case's."""
    if title.startswith("cut by "):
        return w("cut by {a}", a=title.removeprefix("cut by "))
    if title.endswith(" a year later"):
        return w("{a} a year later", a=title.removesuffix(" a year later"))
    return w(title) if title == "temporary leasing" else w.called(title)


def _price_rows(
    w: Wording, table: tuple[tuple[str, tuple[tuple[float, str], ...]], ...]
) -> tuple[tuple[Cell, ...], ...]:
    return tuple(
        (w.number(float(label.removeprefix("K")), "USD/W"), *(Ref(name) for _, name in row)) for label, row in table
    )


def _is_summary(name: str) -> bool:
    return not any(part in name for part in (".full_cost_price.", ".payback_years.", ".vintage_"))


def channels(w: Wording) -> Section | None:
    """Raw against managed, with the frontier where the two earn the same."""
    desk = w.desk
    if desk is None or desk.channels is None:
        return None
    found, sheet = desk.channels, desk.sheet
    values = [[sheet[name].number for name in row] for row in found.ratios]
    against = next(raw for raw in found.raw if raw.id == found.frontier_raw)
    own = None
    if found.throughput in found.axis_throughput and found.utilization in found.axis_utilization:
        own = (found.axis_throughput.index(found.throughput), found.axis_utilization.index(found.utilization))
    titles = (w("tokens a second per GPU"), w("utilization"))
    rows = [f"{point:g}" for point in found.axis_throughput]
    columns = [f"{share:.0%}" for share in found.axis_utilization]

    def draw(width: int) -> str:
        return grids.heat_map(width, rows, columns, values, titles=titles, middle=1.0, split=1.0, marked=own)

    table: list[tuple[Cell, ...]] = [
        (
            w.called(raw.title), Ref(raw.price), Ref(raw.throughput), Ref(raw.token_price),
            *(Ref(name) for _, name in raw.utilizations),
        )
        for raw in found.raw
    ]  # fmt: skip
    heads = (
        w("raw lease"), w("rent"), w("throughput needed at {a}", a=f"{found.utilization:.0%}"),
        w("token price needed at {a}", a=w.number(found.throughput, "tok/s/GPU")),
        *(w("utilization needed at {a}", a=w.number(point, "tok/s/GPU")) for point, _ in found.raw[0].utilizations),
    )  # fmt: skip
    caption = w(
        "Managed over raw revenue per installed accelerator-hour, against {a}, at {b}. "
        "The heavy line is the frontier: above 1 managed earns more.",
        a=w.called(against.title), b=f"{{{found.token_price}}}",
    )  # fmt: skip
    blocks: list[Block] = [
        Figure(draw, caption, is_wide=True),
        TableBlock(
            heads, tuple(table), w("A utilization above 100% means that a managed service can't beat the lease.")
        ),
    ]
    lead = w("What an installed accelerator-hour earns when it is leased, and when it answers requests.")
    return Section("channels", w("Raw against managed"), lead, tuple(blocks))


def customers(w: Wording) -> Section | None:
    """Who the revenue hangs on."""
    desk = w.desk
    if desk is None or desk.customers is None:
        return None
    found = desk.customers
    seller = w.called(found.seller)
    rows: list[tuple[Cell, ...]] = [
        (
            w.called(name), Ref(found.values[name]), Ref(found.shares[name]),
            w("yes") if name in found.competitors else w("no"),
        )
        for name in found.values
    ]  # fmt: skip
    blocks: list[Block] = [
        TableBlock((w("customer"), w("signing value"), w("share of backlog"), w("potential competitor")), tuple(rows)),
        *_ladder(w),
        TableBlock(
            (w("concentration (HHI, 0 to 1)"), w("value")),
            rows_of([(w.name(name), name) for name in (*(name for _, name in found.hhi), *found.effective)]),
            w("An index over known customers is a range: the unknown rest may be atomized or one single customer."),
            folded=w("Concentration"),
        ),
        _backlogs(w),
    ]
    if found.competitor_share:
        words = w(
            "Potential competitors hold {a} of the backlog of {b}.",
            a=f"{{{found.competitor_share}}}", b=f"{{{found.backlog}}}",
        )  # fmt: skip
        blocks.insert(0, Paragraph(words))
    lead = w("How much of {a}'s backlog hangs on how few, and when it must be renewed.", a=seller)
    return Section("customers", w("Customers"), lead, tuple(blocks))


def _ladder(w: Wording) -> list[Block]:
    assert w.desk is not None and w.desk.customers is not None
    found, stress = w.desk.customers, w.desk.customers.stress
    factor, unit = w.axis("USD bn")
    names = sorted({customer for rung in found.ladder.values() for customer in rung})
    years = list(range(min(found.ladder), max(found.ladder) + 1))
    ladder = [
        (w.called(name), [found.ladder.get(year, {}).get(name, 0.0) * factor for year in years]) for name in names
    ]
    loss = [("", [value * factor for value in found.loss.values()])]
    renew = w(
        "Expected loss of yearly revenue: {a} renew ({b} of potential competitors) at {c} of the old price. Nothing is lost "
        "before a contract's end.",
        a=f"{stress.renew:.0%}", b=f"{stress.renew_competitor or stress.renew:.0%}", c=f"{stress.reprice:.0%}",
    )  # fmt: skip
    term = w(
        "{a}: signing value by the year in which it ends; weighted remaining term {b}.",
        a=w.called(found.seller), b=w.number(found.remaining_years, "years"),
    )  # fmt: skip
    return [
        Figure(
            lambda width: charts.stacked(
                width, [str(year) for year in years], ladder, w("{a}, signed", a=unit), w("year of end")
            ),
            term,
        ),
        Figure(
            lambda width: charts.stacked(
                width, [str(year) for year in found.loss], loss, w("{a} a year", a=unit), w("year")
            ),
            renew,
        ),
    ]


def _backlogs(w: Wording) -> TableBlock:
    assert w.desk is not None and w.desk.customers is not None
    found = w.desk.customers
    four, obligation = found.backlogs, found.backlogs.performance_obligation
    owed: Cell = w("not reported") if obligation is None else w.number(obligation, "USD bn")
    rows: list[tuple[Cell, ...]] = [
        (w("signing value of the contracts listed"), w.number(four.signing, "USD bn")),
        (
            w("remaining on {a}, straight line where not reported", a=w.day(w.desk.heading.as_of)),
            w.number(four.remaining, "USD bn"),
        ),
        (w("revenue backlog, as reported by the seller"), Ref(found.backlog)),
        (w("remaining performance obligation (RPO)"), owed),
    ]
    caption = w("Four fields that are often taken for one another.")
    return TableBlock((w("backlog, four kinds"), w("value")), tuple(rows), caption, folded=w("Four kinds of backlog"))
