"""Sections on the world outside: other deals, signals, positioning, surplus and glut."""

from __future__ import annotations

from math import log10

from sublet.desk.phrases import slip_kind
from sublet.desk.report import charts
from sublet.desk.report.blocks import Block, Cell, Figure, Paragraph, Ref, Section, TableBlock, rows_of
from sublet.desk.report.calibration import calibration
from sublet.desk.report.charts import Dot
from sublet.desk.report.wording import Wording
from sublet.desk.sections.comparables import ComparableDeal
from sublet.desk.sections.questions import Verdict
from sublet.desk.slips import MATCH, SMALL
from sublet.desk.units import Basis
from sublet.desk.verdicts import CALIBRATION_MIN, GROUP_CAP_DB, HALF_LIFE_DAYS, NOT_SHOWN_TO, SHOWN_FROM, Score

PUE_RANGE = (1.08, 1.54)
"""From hyperscale liquid cooling to the industry's average (Uptime Institute 2025), for prices of unknown basis."""

BASES = {
    Basis.IT: "IT level", Basis.FACILITY: "facility level", Basis.UTILITY: "utility level", Basis.UNKNOWN: "not stated",
}  # fmt: skip


def comparables(w: Wording) -> Section | None:
    """Other people's prices at one basis, with slips."""
    desk = w.desk
    if desk is None or not desk.comparables:
        return None
    sheet = desk.sheet
    watts = sorted((deal for deal in desk.comparables if deal.is_per_watt), key=lambda deal: sheet[deal.price].number)
    rows: list[tuple[Cell, ...]] = [
        (
            w.called(deal.title), Ref(deal.price), w(BASES[deal.basis]), w.called(deal.term), w.called(deal.cancellable),
            w.called(sheet[deal.price].note),
        )
        for deal in desk.comparables
    ]  # fmt: skip
    marker = None
    if desk.bridge is not None:
        price = sheet.number_in(desk.bridge.price, "USD/W-yr")
        marker = (price, w("this case: {a}", a=w.number(price, "USD/W-yr")))
    drawn = [_dot(w, deal) for deal in watts]
    unit = w("{a}, at IT level", a=w.axis("USD/W-yr")[1])
    blocks: list[Block] = [
        Figure(
            lambda width: charts.dots(width, drawn, unit, marker=marker),
            w(
                "Where a price is not stated at IT level, the line shows what a PUE of up to {a} would make of it. Filled dots are "
                "stated at IT level.",
                a=str(PUE_RANGE[1]),
            ),
            is_wide=True,
        ),
        *(Paragraph(_slip_words(w, deal), "" if deal.slip.kind == MATCH else "warn")
          for deal in desk.comparables if deal.slip is not None),
        TableBlock((w("deal"), w("rent"), w("basis"), w("term"), w("exit"), w("note")), tuple(rows), folded=w("Every deal")),
    ]  # fmt: skip
    hourly = [(w.name(value.name), value.name) for value in sheet if value.name.startswith(("wyr.", "gpuh."))]
    if hourly:
        words = w("The same prices per accelerator-hour and per watt-year")
        blocks.append(TableBlock((w("what"), w("value")), rows_of(hourly), folded=words))
    lead = w("USD/W-yr, USD bn/GW-yr and USD m/MW-yr are the same number. Each price is checked against its own deal.")
    return Section("comparables", w("Comparable deals"), lead, tuple(blocks))


def _dot(w: Wording, deal: ComparableDeal) -> Dot:
    assert w.desk is not None
    number = w.desk.sheet.number_in(deal.price, "USD/W-yr")
    extent = deal.watt_price(number).at_it_level(*PUE_RANGE)
    return Dot(w.called(deal.title), extent.low, number, extent.high, deal.basis is Basis.IT, w.called(deal.term))


def _slip_words(w: Wording, deal: ComparableDeal) -> str:
    assert w.desk is not None and deal.slip is not None
    unit, slip, title = w.desk.sheet[deal.printed].unit, deal.slip, w.called(deal.title)
    printed, terms = w.number(slip.printed, unit), w.number(slip.calculated, unit)
    if slip.kind == MATCH:
        return w("{a}: printed {b}, which its own terms confirm.", a=title, b=printed)
    factor = f"{slip.factor:.3g}"
    if slip.kind == SMALL:
        return w("{a}: printed {b}; its own terms give {c}, a small mismatch.", a=title, b=printed, c=terms)
    if not slip.is_slip:
        return w(
            "{a}: printed {b}; its own terms give {c}. No known slip explains a factor of {d}.",
            a=title, b=printed, c=terms, d=factor,
        )  # fmt: skip
    kind = slip_kind(slip.kind, w.language)
    return w(
        "{a}: printed {b}; its own terms give {c}, a factor of {d}: {e}.", a=title, b=printed, c=terms, d=factor, e=kind
    )


def signals(w: Wording) -> Section | None:
    """What would change the answer."""
    desk = w.desk
    if desk is None or desk.signals is None:
        return None
    board, sheet = desk.signals, desk.sheet
    bars: list[tuple[str, float, str]] = []
    for signal in board.signals:
        name = w.signal(signal.names, signal.bear)
        bars.append((w("{a}: yes", a=name), 10 * log10(signal.lr_bear), w.day(signal.due)))
        bars.append((w("{a}: no", a=name), 10 * log10(signal.lr_bull), w(str(signal.state_at(board.as_of)))))
    ends = (w("against the claim"), w("for the claim"))
    details: list[tuple[Cell, ...]] = [
        (
            w.signal(signal.names, signal.bear), w.called(signal.bull), w.called(signal.bear), w.called(signal.test),
            w.called(signal.falsifier), w.day(signal.due),
        )
        for signal in board.signals
    ]  # fmt: skip
    prior, now = sheet[board.prior].number, sheet[board.now].number
    words = w(
        "The claim is that {a}. As of {b} its probability is {c}, from {d} before any signal. A signal that has not been "
        "observed changes nothing.",
        a=w.called(board.claim), b=w.day(board.as_of), c=f"{now:.1%}", d=f"{prior:.0%}",
    )  # fmt: skip
    unit = w.axis("decibans")[1]
    blocks: list[Block] = [
        Paragraph(words),
        Figure(
            lambda width: charts.diverging(width, bars, unit, ends),
            w("How far each reading of a signal would move the odds: ten decibans are a factor of ten."),
            is_wide=True,
        ),
        TableBlock(
            (w("if …"), w("probability of the claim")),
            rows_of([(w.name(name), name) for _, name in board.outcomes]), folded=w("What each signal would make of it"),
        ),
        TableBlock(
            (w("signal"), w("bull reading"), w("bear reading"), w("test"), w("falsifier"), w("due")), tuple(details),
            w("Likelihood ratios are judgment and are multiplied as if independent; signals of one correlated group count "
              "once, with the strongest of them."),
            folded=w("Tests and falsifiers"),
        ),
    ]  # fmt: skip
    if board.score is not None:
        words = w("Replayed on past questions, each with what had been observed on the day it was asked:")
        blocks += [Paragraph(words), *_scored(w, board.score)]
    return Section(
        "signals", w("Signals"), w("Measurable, dated, and each with what would prove it wrong."), tuple(blocks)
    )


def positioning(w: Wording) -> Section | None:
    """What part of a price move could be positioning."""
    desk = w.desk
    if desk is None or desk.positioning is None:
        return None
    found, blocks = desk.positioning, list[Block]()
    scores = [(title, desk.sheet[name].number) for title, name in found.rows if _is_score(desk.sheet[name].unit)]
    if scores:
        drawn = [Dot(w.called(title), number, number, number) for title, number in scores]
        blocks.append(
            Figure(
                lambda width: charts.dots(width, drawn, w.axis("z")[1]),
                w("Additions and seasonal deleveraging are two variables; they are drawn on one axis, not added."),
                is_wide=True,
            )
        )
    if found.rows:
        caption = w("Percentiles are from a normal distribution where no history was published, and say so.")
        pairs = [(w.called(title), name) for title, name in found.rows]
        blocks.append(TableBlock((w("positioning"), w("value")), rows_of(pairs), caption, w("Readings")))
    if found.attribution:
        caption = w(
            "What is left after market and fundamentals is at most positioning: an upper bound, not a measurement."
        )
        pairs = [(w.called(title), name) for title, name in found.attribution]
        blocks.append(
            TableBlock((w("attribution of a move"), w("value")), rows_of(pairs), caption, w("Attribution of the move"))
        )
    lead = w("A price move is part fundamentals, part crowded positions.")
    return Section("positioning", w("Positioning"), lead, tuple(blocks))


def _is_score(unit: str) -> bool:
    return unit == "z" or unit.startswith("z ")


def verdicts(w: Wording) -> Section | None:
    """Dated questions on dated evidence, each with what it would be without, and how past answers turned out."""
    desk = w.desk
    if desk is None or (not desk.verdicts and desk.score is None):
        return None
    blocks: list[Block] = []
    for verdict in desk.verdicts:
        blocks += _verdict(w, verdict)
    if desk.verdicts:
        words = w(
            "Four weights only; what is reported or said of oneself counts half, an assumption of the case nothing; evidence is "
            "halved every {a} to {b} days by its group, and a group moves the odds by {c} dB at most. Shown from {d}, not "
            "shown up to {e}.",
            a=str(min(HALF_LIFE_DAYS.values())), b=str(max(HALF_LIFE_DAYS.values())), c=f"{GROUP_CAP_DB:g}",
            d=f"{SHOWN_FROM:.0%}", e=f"{NOT_SHOWN_TO:.0%}",
        )  # fmt: skip
        blocks.append(Paragraph(words, "fine"))
    if desk.score is not None:
        blocks += _scored(w, desk.score)
    lead = w("A verdict is a question that a date will settle, so that it can be scored.")
    return Section("verdicts", w("Verdicts on evidence"), lead, tuple(blocks))


def _verdict(w: Wording, verdict: Verdict) -> list[Block]:
    found = verdict.judgment
    words = w(
        "{a} The evidence puts it at {b}, from {c} before: {d}. To be settled by {e}.",
        a=w.called(found.question.text), b=f"{{{verdict.probability}}}", c=f"{{{verdict.prior}}}", d=w.verdict(str(found.word)),
        e=w.day(found.question.settles_on),
    )  # fmt: skip
    listed = sorted(
        (item for item in found.question.evidence if item.id in found.moved), key=lambda item: -found.moved[item.id]
    )
    bars = [
        (w.called(item.text), found.moved[item.id], _age(w, (found.as_of - item.observed_on).days)) for item in listed
    ]
    without = dict(verdict.without)
    rows: list[tuple[Cell, ...]] = [
        (
            w.called(item.text), w("for") if item.direction > 0 else w("against"), w(item.weight), w(item.group),
            w(item.status), w.day(item.observed_on), f"{found.moved[item.id]:+.2f}", Ref(without[item.id], 3),
        )
        for item in listed
    ]  # fmt: skip
    heads = (
        w("evidence"), w("speaks"), w("weight"), w("group"), w("status"), w("observed on"), w("moves, dB"), w("without it"),
    )  # fmt: skip
    blocks: list[Block] = [Paragraph(words, "verdict")]
    if bars:
        ends, unit = (w("against"), w("for")), w.axis("decibans")[1]
        caption = w("What each piece of evidence moves the odds by, faded by its age.")
        blocks.append(Figure(lambda width: charts.diverging(width, bars, unit, ends), caption, is_wide=True))
        blocks.append(TableBlock(heads, tuple(rows), folded=w("Every piece of evidence")))
    if found.closed_gates:
        missing = w.joined([w(gate) for gate in found.closed_gates])
        blocks.append(Paragraph(w("It can't be called shown without evidence for it on: {a}.", a=missing)))
    return blocks


def _age(w: Wording, days: int) -> str:
    return w("1 day") if days == 1 else w("{a} days", a=str(days))


def _scored(w: Wording, found: Score) -> list[Block]:
    skill = w("not defined: all came out alike") if found.skill is None else f"{found.skill:.3f}"
    rows: list[tuple[Cell, ...]] = [
        (w("settled questions"), float(found.questions)),
        (w("Brier score (0 is perfect, 0.25 is a coin)"), round(found.brier, 4)),
        (w("reliability (0 is perfect)"), round(found.reliability, 4)), (w("resolution"), round(found.resolution, 4)),
        (w("uncertainty of the questions"), round(found.uncertainty, 4)), (w("skill over the base rate"), skill),
    ]  # fmt: skip
    blocks: list[Block] = [TableBlock((w("past verdicts"), w("value")), tuple(rows))]
    if found.questions < CALIBRATION_MIN:
        words = w("No table of calibration yet: it takes {a} settled questions.", a=str(CALIBRATION_MIN))
        return [*blocks, Paragraph(words)]
    bins: list[tuple[Cell, ...]] = [
        (f"{one.said:.0%}", float(one.questions), f"{one.came_true:.0%}", f"{one.low:.0%}-{one.high:.0%}")
        for one in found.bins
    ]
    titles = (w("said, %"), w("came true, %"))
    caption = w("What came true over what was said, with 95% intervals; on the dashed line, both agree.")
    drawn = Figure(lambda width: calibration(width, found.bins, titles), caption)
    return [*blocks, drawn, TableBlock((w("said"), w("questions"), w("came true"), w("95% interval")), tuple(bins))]


def surplus(w: Wording) -> Section | None:
    """Two verdicts, never one."""
    desk = w.desk
    if desk is None or not desk.surplus:
        return None
    blocks: list[Block] = []
    for example in desk.surplus:
        judged = example.verdicts
        parts = ("idle_mw", "bought_mw", "net_mw", "capacity_mw", "demand_mw", "slack")
        rows: list[tuple[Cell, ...]] = [
            (w.period(label), *(Ref(f"glut.{example.id}.{part}.{label}") for part in parts))
            for label in example.windows
        ]
        heads = (
            w("window"), w("idle"), w("bought"), w("net"), w("industry capacity"), w("industry demand"), w("slack"),
        )  # fmt: skip
        caption = w(
            "Contract price falling: {a}; next-year capex guidance cut: {b}; target utilization {c}.",
            a=w("yes") if example.contract_price_falling else w("no"),
            b=w("yes") if example.capex_guidance_cut else w("no"), c=f"{example.target_utilization:.0%}",
        )  # fmt: skip
        title = w.called(example.title)
        owner = w("The owner has no surplus in any window.")
        if judged.owner_surplus:
            share = f"{judged.largest_share_of_industry:.2%}"
            owner = w("The owner has surplus; at most {a} of the industry's capacity.", a=share)
            if judged.reallocation:
                owner = w(
                    "The owner has surplus and buys capacity in the same window: it reallocates; at most {a} of the industry's "
                    "capacity.",
                    a=share,
                )  # fmt: skip
        run = str(judged.longest_slack_run)
        industry = w("No industry glut is shown: capacity exceeds demand in {a} windows running at most.", a=run)
        if judged.longest_slack_run == 0:
            industry = w("No industry glut is shown: capacity exceeds demand in no window.")
        elif judged.longest_slack_run == 1:
            industry = w("No industry glut is shown: capacity never exceeds demand in two windows running.")
        if judged.industry_glut:
            industry = w(
                "The industry has a glut: {a} windows running with capacity above demand, contract prices falling and next-year "
                "capex guidance revised down.",
                a=run,
            )  # fmt: skip
        blocks.append(Paragraph(w.together(f"{title[:1].upper()}{title[1:]}{w(': ')}{owner}", industry), "verdict"))
        blocks.append(TableBlock(heads, tuple(rows), caption, w("Windows: {a}", a=title)))
    lead = w(
        "What would follow if the case's assumptions held. Surplus is a property of a pool and a window, a glut of an "
        "industry; neither implies the other."
    )
    return Section("surplus", w("Surplus and glut"), lead, tuple(blocks))
