"""Sections on the world outside: other deals, signals, positioning, surplus and glut."""

from __future__ import annotations

from sublet.desk.desk import Desk
from sublet.desk.report import charts
from sublet.desk.report.blocks import Block, Cell, Figure, Paragraph, Ref, Section, TableBlock, rows_of
from sublet.desk.slips import MATCH
from sublet.desk.units import Basis
from sublet.desk.verdicts import CALIBRATION_MIN, GROUP_CAP_DB, HALF_LIFE_DAYS, NOT_SHOWN_TO, SHOWN_FROM

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


def verdicts(desk: Desk) -> Section | None:
    """Dated questions on dated evidence, each with what it would be without, and how past answers turned out."""
    if not desk.verdicts and desk.score is None:
        return None
    blocks: list[Block] = []
    for verdict in desk.verdicts:
        found = verdict.judgment
        blocks.append(
            Paragraph(
                f"{found.question.text} Put at {{{verdict.probability}}}, from {{{verdict.prior}}} before the evidence: "
                f"{found.word}. To be settled by {found.question.settles_on}.",
                "verdict",
            )
        )
        without = dict(verdict.without)
        rows: list[tuple[Cell, ...]] = [
            (
                item.text, "for" if item.direction > 0 else "against", item.weight, item.group, item.status,
                item.observed_on.isoformat(), float((found.as_of - item.observed_on).days),
                round(found.moved[item.id], 2), Ref(without[item.id], 3),
            )
            for item in sorted(found.question.evidence, key=lambda item: -abs(found.moved.get(item.id, 0.0)))
            if item.id in found.moved
        ]  # fmt: skip
        heads = ("evidence", "speaks", "weight", "group", "status", "observed", "age, days", "moves, dB", "without it")
        blocks.append(TableBlock(heads, tuple(rows)))
        if found.closed_gates:
            missing = ", ".join(found.closed_gates)
            blocks.append(Paragraph(f"It can't be called shown without evidence for it on: {missing}."))
    blocks.append(
        Paragraph(
            "Four weights only; what is reported or said of oneself counts half, an assumption of the case nothing; evidence is "
            f"halved every {min(HALF_LIFE_DAYS.values())} to {max(HALF_LIFE_DAYS.values())} days by its group, and a group moves "
            f"the odds by {GROUP_CAP_DB:g} dB at most. Shown from {SHOWN_FROM:.0%}, not shown up to {NOT_SHOWN_TO:.0%}."
        )
    )
    blocks += _scored(desk)
    lead = "A verdict is a question that a date will settle, so that it can be scored."
    return Section("verdicts", "Verdicts on evidence", lead, tuple(blocks))


def _scored(desk: Desk) -> list[Block]:
    found = desk.score
    if found is None:
        return []
    skill = "not defined: all came out alike" if found.skill is None else f"{found.skill:.3f}"
    rows: list[tuple[Cell, ...]] = [
        ("settled questions", float(found.questions)), ("Brier score (0 is perfect, 0.25 is a coin)", round(found.brier, 4)),
        ("reliability (0 is perfect)", round(found.reliability, 4)), ("resolution", round(found.resolution, 4)),
        ("uncertainty of the questions", round(found.uncertainty, 4)), ("skill over the base rate", skill),
    ]  # fmt: skip
    blocks: list[Block] = [TableBlock(("past verdicts", "value"), tuple(rows))]
    if found.questions < CALIBRATION_MIN:
        words = f"No table of calibration yet: it takes {CALIBRATION_MIN} settled questions."
        return [*blocks, Paragraph(words)]
    bins: list[tuple[Cell, ...]] = [
        (f"{one.said:.0%}", float(one.questions), f"{one.came_true:.0%}", f"{one.low:.0%} to {one.high:.0%}")
        for one in found.bins
    ]
    return [*blocks, TableBlock(("said", "questions", "came true", "95 % interval"), tuple(bins))]


def surplus(desk: Desk) -> Section | None:
    """Two verdicts, never one."""
    if not desk.surplus:
        return None
    blocks: list[Block] = []
    for example in desk.surplus:
        judged = example.verdicts
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
        blocks.append(Paragraph(f"Owner, in these windows: {judged.owner_sentence}", "verdict"))
        blocks.append(Paragraph(f"Industry, in these windows: {judged.industry_sentence}", "verdict"))
    lead = (
        "What would follow from windows that the case assumes. Surplus is a property of a pool and a window, a glut of an "
        "industry; neither implies the other."
    )
    return Section("surplus", "Surplus and glut", lead, tuple(blocks))
