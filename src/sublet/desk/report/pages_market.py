"""Sections on the world outside: other deals, signals, positioning, surplus and glut."""

from __future__ import annotations

from sublet.desk.desk import Desk
from sublet.desk.report import charts
from sublet.desk.report.blocks import Block, Cell, Figure, Paragraph, Ref, Section, TableBlock, rows_of
from sublet.desk.slips import MATCH
from sublet.desk.units import Basis

PUE_RANGE = (1.08, 1.54)
"""From hyperscale liquid cooling to the industry's average (Uptime Institute 2025), for prices of unknown basis."""


def comparables(desk: Desk) -> Section | None:
    """Other people's prices at one basis, with slips."""
    if not desk.comparables:
        return None
    sheet = desk.sheet
    bars = []
    rows: list[tuple[Cell, ...]] = []
    for deal in desk.comparables:
        if deal.is_per_watt:
            extent = deal.watt_price(sheet[deal.price].number).at_it_level(*PUE_RANGE)
            label = deal.title if len(deal.title) <= 27 else deal.title.partition(",")[0][:27]
            bars.append((label, extent.low, extent.high, deal.basis is Basis.IT))
        note = sheet[deal.price].note
        rows.append((deal.title, Ref(deal.price), str(deal.basis), deal.term, deal.cancellable, note))
    marker = None
    if desk.bridge is not None:
        price = sheet.number_in(desk.bridge.price, "USD/W-yr")
        marker = (price, f"this case: {price:g}")
    blocks: list[Block] = [
        Figure(
            charts.ranges(bars, "USD/W-yr at IT level", marker),
            f"Prices per IT watt. Where the basis is unknown or the facility's, the pale part shows what a PUE of up to "
            f"{PUE_RANGE[1]} would make of it.",
        ),
        TableBlock(("deal", "price", "basis", "term", "exit", "note"), tuple(rows)),
    ]
    for deal in desk.comparables:
        if deal.slip is not None:
            tone = "" if deal.slip.kind == MATCH else "warn"
            blocks.append(Paragraph(f"{deal.title}: {deal.slip.sentence}.", tone))
    hourly = [(value.name, value.name) for value in sheet if value.name.startswith(("wyr.", "gpuh."))]
    if hourly:
        blocks.append(TableBlock(("the same prices per accelerator-hour and per watt-year", "value"), rows_of(hourly)))
    lead = "USD/W-yr, USD bn/GW-yr and USD m/MW-yr are one number. Each price is checked against its own deal."
    return Section("comparables", "Comparable deals", lead, tuple(blocks))


def signals(desk: Desk) -> Section | None:
    """What would change the answer."""
    if desk.signals is None:
        return None
    board, sheet = desk.signals, desk.sheet
    rows = [
        (
            signal.id.replace("_", " "),
            signal.lr_bull,
            signal.lr_bear,
            str(signal.state_at(board.as_of)),
            signal.due.isoformat(),
        )
        for signal in board.signals
    ]
    details: list[tuple[Cell, ...]] = [
        (
            signal.id,
            signal.bull,
            signal.bear,
            signal.test,
            signal.falsifier,
            signal.due.isoformat(),
            signal.group or "none",
        )
        for signal in board.signals
    ]
    blocks: list[Block] = [
        Figure(
            charts.signal_board(rows, sheet[board.prior].number, sheet[board.now].number),
            f"As of {board.as_of}: the claim is that {board.claim}. A signal that has not been observed changes nothing.",
        ),
        TableBlock(
            ("signal", "bull reading", "bear reading", "test", "falsifier", "due", "correlated group"), tuple(details)
        ),
        TableBlock(("if …", "probability of the claim"), rows_of(board.outcomes)),
        Paragraph(
            "Likelihood ratios are judgment and are multiplied as if independent; signals of one correlated group count "
            "once, with the strongest of them.",
        ),
    ]
    return Section("signals", "Signals", "Measurable, dated, and each with what would prove it wrong.", tuple(blocks))


def positioning(desk: Desk) -> Section | None:
    """What part of a price move could be positioning."""
    if desk.positioning is None:
        return None
    found = desk.positioning
    blocks: list[Block] = []
    if found.rows:
        caption = "Percentiles are from a normal distribution where no history was published, and say so."
        blocks.append(TableBlock(("positioning", "value"), rows_of(found.rows), caption))
    if found.attribution:
        caption = (
            "What is left after market and fundamentals is at most positioning: an upper bound, not a measurement."
        )
        blocks.append(TableBlock(("attribution of a move", "value"), rows_of(found.attribution), caption))
    return Section(
        "positioning", "Positioning", "A price move is part fundamentals, part crowded positions.", tuple(blocks)
    )


def surplus(desk: Desk) -> Section | None:
    """Two verdicts, never one."""
    if not desk.surplus:
        return None
    blocks: list[Block] = []
    for example in desk.surplus:
        verdicts = example.verdicts
        rows: list[tuple[Cell, ...]] = []
        for label in example.windows:
            parts = ("idle_mw", "bought_mw", "net_mw", "capacity_mw", "demand_mw", "slack")
            rows.append((label, *(Ref(f"glut.{example.id}.{part}.{label}") for part in parts)))
        heads = ("window", "idle", "bought", "net", "industry capacity", "industry demand", "slack")
        conditions = (
            f"contract price falling: {'yes' if example.contract_price_falling else 'no'}; next-year capex guidance cut: "
            f"{'yes' if example.capex_guidance_cut else 'no'}; target utilization {example.target_utilization:.0%}."
        )
        blocks.append(TableBlock(heads, tuple(rows), f"{example.title.capitalize()} ({conditions})"))
        blocks.append(Paragraph(f"Owner: {verdicts.owner_sentence}", "verdict"))
        blocks.append(Paragraph(f"Industry: {verdicts.industry_sentence}", "verdict"))
    lead = (
        "Surplus is a property of a pool and a window; a glut is a property of an industry. Neither implies the other."
    )
    return Section("surplus", "Surplus and glut", lead, tuple(blocks))
