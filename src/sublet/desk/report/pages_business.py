"""Sections on the owner's own business: bridge, capital, channels, customers."""

from __future__ import annotations

from sublet.desk.desk import Desk
from sublet.desk.report import charts
from sublet.desk.report.blocks import Block, Cell, Figure, Paragraph, Ref, Section, TableBlock, rows_of
from sublet.desk.report.drawing import short
from sublet.desk.sections.bridge import Bridge


def bridge(desk: Desk) -> list[Section]:
    """The bridge itself, and what it is sensitive to."""
    if desk.bridge is None:
        return []
    found = desk.bridge
    sheet = desk.sheet
    unit = sheet[found.result].unit
    steps = [
        (label, sheet[name].number, label in ("revenue", "pre-tax", "net income"))
        for label, name in found.waterfall
        if label != "EPS"
    ]
    power = sheet.number_in(found.power, "MW")
    price, cost = (sheet.number_in(name, "USD/W-yr") for name in (found.price, found.cost))
    blocks: list[Block] = [
        Paragraph(
            f"Letting {{{found.power}}} for one year at {{{found.price}}} gives {{{found.result}}}, at an incremental cost "
            f"of {{{found.cost}}}. Sunk reading: the capacity is there anyway, so depreciation is in the full-cost grid alone."
        ),
        Figure(
            charts.waterfall(steps, sheet[found.waterfall[0][1]].unit),
            _waterfall_caption(found, power, price, cost),
        ),
        _heat_maps(desk, found),
    ]
    if found.envelope:
        blocks.append(_envelope(desk, found))
    first = Section("bridge", "Earnings bridge", "From megawatts let to earnings, one cost at a time.", tuple(blocks))
    bars = [(desk.title(bar.input), f"{bar.low:g}", f"{bar.high:g}", bar.at_low, bar.at_high) for bar in found.tornado]
    more: list[Block] = []
    if bars:
        base = sheet[found.result].number
        caption = "Each input moved alone from its low to its high; the others stay, calculated ones included."
        more.append(Figure(charts.tornado(bars, base, unit), caption))
    rows: list[tuple[Cell, ...]] = [(title, Ref(name)) for title, name in found.break_evens]
    rows += [
        (name, Ref(name)) for name in (value.name for value in sheet) if name.startswith(("grid.slope_", "grid.price_"))
    ]
    rows += [
        (name, Ref(name))
        for name in (value.name for value in sheet)
        if name.startswith("bridge.") and "waterfall" not in name
    ]
    more.append(TableBlock(("break-evens, slopes and inversions", "value"), tuple(rows)))
    lead = "What moves the answer, and where it turns."
    return [first, Section("sensitivity", "Sensitivity and break-evens", lead, tuple(more))]


def _waterfall_caption(found: Bridge, power: float, price: float, cost: float) -> str:
    last = "the last step per share is EPS" if found.per_share else "the result is after tax"
    return f"{short(power)} MW at {short(price)} USD/W-yr and {short(cost)} USD/W-yr of cost; {last}."


def _heat_maps(desk: Desk, found: Bridge) -> Figure:
    rows = [f"{power:g}" for power in found.axis_power]
    columns = [f"{price:g}" for price in found.axis_price]
    marked = None
    if found.published is not None:
        cell = (desk.sheet.number_in(found.power, "MW"), desk.sheet.number_in(found.price, "USD/W-yr"))
        if cell[0] in found.axis_power and cell[1] in found.axis_price:
            marked = (found.axis_power.index(cell[0]), found.axis_price.index(cell[1]))
    variants = []
    for grid in found.grids:
        values = [[desk.sheet[name].number for name in row] for row in grid.names]
        percent = grid.mode.startswith("upside")
        svg = charts.heat_map(
            rows,
            columns,
            values,
            row_title="MW",
            column_title="price, USD/W-yr",
            marked=None if grid.mode == "full_cost" else marked,
            percent=percent,
        )
        variants.append((grid.title, svg))
    unit = desk.sheet[found.result].unit
    published = " The ringed cell is the published one; every other cell is derived." if marked else ""
    caption = f"{unit} by megawatts and price. The switch says which costs are inside.{published}"
    return Figure(variants[0][1], caption, "Which costs are inside", tuple(variants))


def _envelope(desk: Desk, found: Bridge) -> Figure:
    low = [desk.sheet[pair[0]].number for pair in found.envelope]
    high = [desk.sheet[pair[1]].number for pair in found.envelope]
    verticals = [(desk.sheet[name].number, title) for title, name in found.break_evens]
    svg = charts.envelope(
        list(found.axis_price), low, high, x_title="price, USD/W-yr", y_title=f"USD/share at {found.axis_power[0]:g} MW",
        published=(
            desk.sheet.number_in(found.price, "USD/W-yr"), desk.sheet.number_in(found.published or found.result, "USD/share")
        ),
        labels=("no cost (constant margin)", "highest cost that fits"), verticals=verticals,
    )  # fmt: skip
    caption = (
        "One published cell can't identify the cost per watt. Every cost from zero to the highest that fits passes "
        "through it, and the readings part on either side."
    )
    return Figure(svg, caption)


def capital(desk: Desk) -> Section | None:
    """The capex path, its scenarios, vintages, full-cost price and payback."""
    if desk.capital is None:
        return None
    found, sheet = desk.capital, desk.sheet
    series = [(title, [sheet[name].number for name in names]) for title, names in found.scenarios]
    vintages = sorted({vintage for _, parts, _ in found.depreciation for vintage, _ in parts})
    stacks = []
    for vintage in vintages:
        by_year = [dict(parts) for _, parts, _ in found.depreciation]
        stacks.append(
            (f"vintage {vintage}", [sheet[part[vintage]].number if vintage in part else 0.0 for part in by_year])
        )
    blocks: list[Block] = [
        Figure(
            charts.lines(found.years, series, "USD bn"),
            "Temporary leasing leaves the path as it is; capacity that is built to be let raises it.",
        ),
        Figure(
            charts.stacked([str(year) for year, _, _ in found.depreciation], stacks, "USD bn", "year"),
            "Depreciation of new vintages: straight line, half a year's charge in the first year.",
        ),
    ]
    if any(row for _, row in found.full_cost):
        rates = [f"{rate:.0%}" for rate, _ in found.full_cost[0][1]]
        blocks.append(
            TableBlock(
                ("capital cost, USD/W", *rates),
                _price_rows(found.full_cost),
                "Full-cost price by capital cost and rate.",
            )
        )
    if any(row for _, row in found.payback):
        prices = [f"{price:g} USD/W-yr" for price, _ in found.payback[0][1]]
        blocks.append(
            TableBlock(
                ("capital cost, USD/W", *prices), _price_rows(found.payback), "Payback, undiscounted: K / (p - c)."
            )
        )
    names = [value.name for value in sheet if value.name.startswith("capex.") and _is_summary(value.name)]
    blocks.append(TableBlock(("path and ratios", "value"), rows_of([(name, name) for name in names])))
    lead = "Leasing idle, sunk capacity moves revenue and not capex; dedicated capacity moves both."
    return Section("capex", "Capital", lead, tuple(blocks))


def _price_rows(table: tuple[tuple[str, tuple[tuple[float, str], ...]], ...]) -> tuple[tuple[Cell, ...], ...]:
    return tuple((label, *(Ref(name) for _, name in row)) for label, row in table)


def _is_summary(name: str) -> bool:
    return not any(part in name for part in (".full_cost_price.", ".payback_years.", ".vintage_"))


def channels(desk: Desk) -> Section | None:
    """Raw against managed, with the frontier where the two earn the same."""
    if desk.channels is None:
        return None
    found, sheet = desk.channels, desk.sheet
    values = [[sheet[name].number for name in row] for row in found.ratios]
    against = next(raw for raw in found.raw if raw.id == found.frontier_raw)
    svg = charts.heat_map(
        [f"{point:g}" for point in found.axis_throughput], [f"{share:.0%}" for share in found.axis_utilization], values,
        row_title="tok/s", column_title="utilization", middle=1.0, split=1.0,
    )  # fmt: skip
    rows: list[tuple[Cell, ...]] = []
    for raw in found.raw:
        rows.append(
            (
                raw.title,
                Ref(raw.price),
                Ref(raw.throughput),
                Ref(raw.token_price),
                *(Ref(name) for _, name in raw.utilizations),
            )
        )
    heads = (
        "raw price", "raw", f"tok/s needed at {found.utilization:.0%}", f"price needed at {found.throughput:g} tok/s",
        *(f"utilization needed at {point:g} tok/s" for point, _ in found.raw[0].utilizations),
    )  # fmt: skip
    blocks: list[Block] = [
        Figure(
            svg,
            f"Managed over raw revenue per installed accelerator-hour, against {against.title}, at {{{found.token_price}}}. "
            "The heavy line is the frontier: above 1 managed earns more.",
        ),
        TableBlock(
            heads, tuple(rows), "The three inversions. A utilization above 1 means that managed can't beat raw."
        ),
    ]
    lead = "What an installed accelerator-hour earns when it is let, and when it answers requests."
    return Section("channels", "Raw against managed", lead, tuple(blocks))


def customers(desk: Desk) -> Section | None:
    """Who the revenue hangs on."""
    if desk.customers is None:
        return None
    found = desk.customers
    names = sorted({customer for rung in found.ladder.values() for customer in rung})
    years = list(range(min(found.ladder), max(found.ladder) + 1))
    ladder = [(name, [found.ladder.get(year, {}).get(name, 0.0) for year in years]) for name in names]
    losses = list(found.loss)
    rows: list[tuple[Cell, ...]] = [
        (name, Ref(found.values[name]), Ref(found.shares[name]), "yes" if name in found.competitors else "no")
        for name in found.values
    ]
    four, obligation = found.backlogs, found.backlogs.performance_obligation
    effective = [
        ("effective customers, at least", found.effective[0]),
        ("effective customers, at most", found.effective[1]),
    ]
    loss = [("expected loss of yearly run-rate", list(found.loss.values()))]
    kinds: list[tuple[Cell, ...]] = [
        ("signing value of the contracts listed", four.signing),
        (f"remaining on {desk.heading.as_of}, straight line where not reported", round(four.remaining, 3)),
        ("revenue backlog, as reported by the seller", Ref(found.backlog)),
        ("remaining performance obligation (RPO)", "not reported" if obligation is None else obligation),
    ]
    stress = found.stress
    blocks: list[Block] = [
        TableBlock(("customer", "signing value", "share of backlog", "potential competitor"), tuple(rows)),
        TableBlock(
            ("concentration (HHI, 0 to 1)", "value"),
            rows_of([*found.hhi, *effective]),
            "An index over known customers is a range: the unknown rest may be atomized or one single customer.",
        ),
        Figure(
            charts.stacked([str(year) for year in years], ladder, "USD bn signed", "year of end"),
            f"Renewal ladder of {found.seller}: signing value by the year in which it ends; weighted remaining term "
            f"{found.remaining_years:.1f} years.",
        ),
        Figure(
            charts.stacked([str(year) for year in losses], loss, "USD bn a year", "year"),
            f"Stress by year: {stress.renew:.0%} renew ({stress.renew_competitor or stress.renew:.0%} of potential competitors) at "
            f"{stress.reprice:.0%} of the old price. Nothing is lost before a contract's end.",
        ),
        TableBlock(("backlog, four kinds", "USD bn"), tuple(kinds), "Four fields that are often taken for one another."),
    ]  # fmt: skip
    if found.competitor_share:
        blocks.insert(
            1,
            Paragraph(
                f"Potential competitors hold {{{found.competitor_share}}} of the backlog of {{{found.backlog}}}."
            ),
        )
    lead = f"How much of {found.seller}'s backlog hangs on how few, and when it must be renewed."
    return Section("customers", "Counterparties", lead, tuple(blocks))
