"""The first screen: the answer in two sentences, three numbers, and what would change it, in people's words."""

from __future__ import annotations

from sublet.desk.briefing import Sentence, brief
from sublet.desk.desk import Desk
from sublet.desk.report.blocks import Answer, Tile
from sublet.desk.report.wording import Wording
from sublet.desk.signals import SignalState

TILES = 3
CHANGES = 3


def answer(desk: Desk, w: Wording) -> Answer:
    """What the case comes to; a case without claims, verdicts or signals answers with its results and their drivers."""
    found = brief(desk, w.language).sentences
    heading = desk.heading
    line = w(
        "As of {a}; {b}; case {c}, version {d}.",
        a=w.day(heading.as_of), b=w.called(heading.owner), c=heading.name, d=heading.version,
    )  # fmt: skip
    return Answer(_sentences(found), tuple(_tiles(desk, w)[:TILES]), tuple(_changes(desk, w)[:CHANGES]), line)


def _sentences(found: tuple[Sentence, ...]) -> tuple[str, ...]:
    claims = [item.text for item in found if item.part == "claim"]
    numbers = [item.text for item in found if item.part == "numbers"]
    if claims:
        return (claims[0], *numbers[1:2]) if len(claims[0]) < 240 else (claims[0],)
    return tuple(numbers[:2])


def _tiles(desk: Desk, w: Wording) -> list[Tile]:
    tiles = []
    used = set[str]()
    bridge = desk.bridge
    if bridge is not None:
        name = bridge.published or bridge.result
        used |= {bridge.result, *(name for _, name in bridge.break_evens)}
        label = w.name(bridge.result)
        tiles.append(Tile(w.quantity(desk.sheet[name]), label, w.status(desk.sheet[name].status)))
        cash = desk.sheet[bridge.break_evens[0][1]]
        words = w("the break-even rent on cash cost")
        if len(bridge.break_evens) > 1:
            full = w.quantity(desk.sheet[bridge.break_evens[1][1]])
            words = w("the break-even rent on cash cost; with depreciation {a}", a=full)
        tiles.append(Tile(w.quantity(cash), words, w.status(cash.status)))
    if desk.decision is not None and not desk.verdicts:
        value = desk.sheet[desk.decision.indifference]
        tiles.append(Tile(w.quantity(value), w.name(value.name), w.status(value.status)))
        used.add(value.name)
    for verdict in reversed(desk.verdicts):
        value, found = desk.sheet[verdict.probability], verdict.judgment
        tiles.append(Tile(w.quantity(value), w.called(found.question.text), w.verdict(str(found.word))))
    for name in desk.heading.results:
        if name not in used:
            tiles.append(Tile(w.quantity(desk.sheet[name]), w.name(name), w.status(desk.sheet[name].status)))
    return tiles


def _changes(desk: Desk, w: Wording) -> list[str]:
    board = desk.signals
    if board is not None:
        now = desk.sheet[board.now].number
        found = sorted(board.signals, key=lambda item: item.due)
        return [
            w(
                "{a} (by {b}): the probability that {e} goes from {c} to {d}.",
                a=_first_upper(w.signal(item.names, item.bear)), b=w.day(item.due), c=w.number(now, "prob"),
                d=w.number(updated(now, item.lr_bear), "prob"), e=w.called(board.claim),
            )
            for item in found
            if item.state_at(board.as_of) is not SignalState.OBSERVED
        ]  # fmt: skip
    if desk.bridge is None:
        return []
    unit = desk.sheet[desk.bridge.result].unit
    return [
        w(
            "{a}: from {b} to {c}, the result goes from {d} to {e}.",
            a=_first_upper(w.name(bar.input)), b=w.number(bar.low, desk.sheet[bar.input].unit),
            c=w.number(bar.high, desk.sheet[bar.input].unit), d=w.number(bar.at_low, unit), e=w.number(bar.at_high, unit),
        )
        for bar in desk.bridge.tornado
    ]  # fmt: skip


def updated(probability: float, ratio: float) -> float:
    """A probability after evidence with a likelihood ratio: Bayes' rule in odds."""
    odds = probability / (1 - probability) * ratio
    return odds / (1 + odds)


def _first_upper(words: str) -> str:
    return words[:1].upper() + words[1:]
