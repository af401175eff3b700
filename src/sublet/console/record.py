"""The record as drawings: promised against happened as ranges on one scale, and survival as curves."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sublet.console.chart import UNITS, Mark
from sublet.console.model import RecordView
from sublet.console.page import NAME_LENGTH_MAX, Page
from sublet.surplus.model import Stood
from sublet.surplus.record.calibration import Figures, PoolRecord, Tuning, Verdict
from sublet.surplus.rule.earned import as_dict

RATE_MIN = 0.1
RATE_MAX = 1000.0
"""The scale of rates per 1,000 is logarithmic; what is less than RATE_MIN stands at its left end."""

CURVES_MAX = 6
_STEPS = {0.0: 4, 0.5: 5, 0.8: 4, 0.9: 5, 0.95: 5, 0.98: 4, 0.99: 5}
"""Where an axis of shares may begin, and into how many round steps it is then divided."""

_TONES = {Verdict.WITHIN: "good", Verdict.ABOVE: "bad", Verdict.OPEN: "busy"}
_WORDS = {
    Verdict.WITHIN: "kept",
    Verdict.ABOVE: "above",
    Verdict.OPEN: "can’t tell yet",
    Verdict.RECALLABLE: "recallable",
    Verdict.NOTHING: "nothing yet",
}

REFRESH_S = 60


@dataclass(frozen=True, slots=True)
class Range:
    """What happened on the scale of rates, in percent of its width: the interval, the point, and what was accepted."""

    low: float
    width: float
    happened: float
    accepted: float | None
    words: str


@dataclass(frozen=True, slots=True)
class Line:
    """One class and window of a source, for the table."""

    figures: Figures
    window: str
    range: Range | None
    tone: str
    verdict: str
    says: str


@dataclass(frozen=True, slots=True)
class Curve:
    """One window length's survival. `name` is for the style sheet; `left` is the share that is held to the end, in percent."""

    name: str
    label: str
    path: str
    left: str


@dataclass(frozen=True, slots=True)
class Curves:
    """The survival of all windows of one class in one source. `y` are shares in percent, `x` parts of the window."""

    title: str
    description: str
    curves: tuple[Curve, ...]
    x: tuple[Mark, ...]
    y: tuple[Mark, ...]


@dataclass(frozen=True, slots=True)
class Source:
    """One of the two sources. `silent` names the classes and windows of which nothing was sold."""

    lines: tuple[Line, ...]
    silent: str


@dataclass(frozen=True, slots=True)
class Told:
    """One length's tightening or loosening, with the family of its color."""

    tuning: Tuning
    tone: str
    word: str


@dataclass(frozen=True, slots=True)
class Earned:
    """What one kind of promise may put at risk, with the family of its color."""

    tone: str
    word: str
    sentence: str
    rate: str


@dataclass(frozen=True, slots=True)
class RecordPage:
    """All that the template draws of a pool's record. `survival` pairs, per class, the leases' chart and the shadow's;
    `both` says that there is some chart of either."""

    leases: Source
    shadow: Source
    survival: tuple[tuple[str, Curves | None, Curves | None], ...]
    both: bool
    told: tuple[Told, ...]
    promises: tuple[Earned, ...]
    scale: tuple[Mark, ...]


def record_page(gather: Callable[[str | None], RecordView]) -> Page:
    """What was promised against what happened, for one pool, which the address names."""

    def drawn(query: Mapping[str, str]) -> Mapping[str, object]:
        pool = query.get("pool")
        view = gather(pool and pool[:NAME_LENGTH_MAX])
        return {"view": view, "page": draw_record(view.record) if view.record is not None else None}

    return Page("/record", "Record", "record.html", REFRESH_S, drawn, "surplus:read")


def draw_record(record: PoolRecord) -> RecordPage:
    """The page of one pool's record."""
    classes = list(dict.fromkeys(item.class_name for item in (*record.shadow, *record.leases)))
    lengths = sorted({item.window_s for item in (*record.shadow, *record.leases)})
    pairs: list[tuple[str, Curves | None, Curves | None]] = []
    for name in classes:
        sold, paper = _of(record.leases, name), _of(record.shadow, name)
        floor = _floor([share for item in (*sold, *paper) for share in item.survival])
        shown = _curves(name, "the shadow’s windows", paper, floor, lengths)
        pairs.append((name, _curves(name, "leases", sold, floor, lengths), shown))
    return RecordPage(
        leases=_source(record.leases),
        shadow=_source(record.shadow),
        survival=tuple(pair for pair in pairs if pair[1] or pair[2]),
        both=any(pair[1] for pair in pairs) and any(pair[2] for pair in pairs),
        told=tuple(_told(item) for item in record.tunings),
        promises=tuple(_earned(item, record.at) for item in record.promises),
        scale=tuple(Mark(_place(rate), f"{rate:,.10g}", _anchor(rate)) for rate in (0.1, 1, 10, 100, 1000)),
    )


def _earned(stood: Stood, at: datetime) -> Earned:
    told = as_dict(stood, at)
    rate = ""
    if told["broken_per_1000"] is not None:
        rate = f"{told['broken']:,} of {told['sold']:,} broken in simulation; the limit is {told['promised_per_1000']:g} per 1,000"
    tone = {"stopped": "bad", "earning": "busy", "open": "busy", "full": "good"}[told["state"]]
    return Earned(tone, told["state"], told["sentence"], rate)


def _of(items: Sequence[Figures], name: str) -> list[Figures]:
    return [item for item in items if item.class_name == name and item.survival]


def _source(items: Sequence[Figures]) -> Source:
    lines = tuple(_line(item) for item in items if item.windows or item.running or item.failed)
    silent = [f"{item.class_name} {window_text(item.window_s)}" for item in items if not (item.windows or item.running)]
    return Source(lines, ", ".join(silent))


def _line(item: Figures) -> Line:
    found = None
    if item.windows:
        low, high = _place(item.known.low), _place(item.known.high)
        found = Range(
            low,
            round(max(0.5, high - low), 2),
            _place(item.broken_per_1000 or 0.0),
            _place(item.accepted_per_1000) if item.accepted_per_1000 is not None else None,
            item.sentence,
        )
    said = item.sentence.removeprefix("can't tell yet: ")
    return Line(item, window_text(item.window_s), found, _TONES.get(item.verdict, "quiet"), _WORDS[item.verdict], said)


def _told(item: Tuning) -> Told:
    if item.regime_since is not None:
        return Told(item, "bad", "demand changed")
    if item.since is None:
        return Told(item, "quiet", "as forecast")
    return Told(item, "busy", "tightened") if item.factor < 1 else Told(item, "good", "loosened")


def _curves(
    class_name: str, source: str, items: Sequence[Figures], floor: float, lengths: Sequence[int]
) -> Curves | None:
    """A length looks the same in every chart of the page: by its place among `lengths`."""
    if not items:
        return None
    curves = tuple(
        Curve(
            f"curve-{lengths.index(item.window_s) % CURVES_MAX + 1}",
            window_text(item.window_s),
            _path(item.survival, floor),
            _percent(item.survival[-1]),
        )
        for item in sorted(items, key=lambda item: item.window_s)
    )
    said = "; ".join(f"windows of {curve.label}: {curve.left} held to the end" for curve in curves)
    return Curves(
        title=f"Survival of {source}, {class_name}",
        description=f"Share still held after each part of the window. {said}.",
        curves=curves,
        x=tuple(Mark(part, f"{part} %", _end(part)) for part in (0, 25, 50, 75, 100)),
        y=tuple(
            Mark(
                round(100 * (1 - step / _STEPS[floor]), 2), _percent(floor + (1 - floor) * step / _STEPS[floor]), "end"
            )
            for step in range(_STEPS[floor] + 1)
        ),
    )


def _path(shares: Sequence[float], floor: float) -> str:
    points = [(0.0, 1.0), *(((part + 1) / len(shares), share) for part, share in enumerate(shares))]
    return "M" + "L".join(f"{UNITS * x:.0f} {UNITS * (1 - (share - floor) / (1 - floor)):.1f}" for x, share in points)


def _floor(shares: Sequence[float]) -> float:
    """Where the axis of shares begins: the less is lost, the closer it is looked at. Both sources of a class share it."""
    lowest = min(shares, default=1.0)
    return max(floor for floor in _STEPS if floor == 0 or floor < lowest)


def window_text(window_s: int) -> str:
    """A window length in a word: `4 h`; leases longer than all on offer are `longer`."""
    return "longer" if window_s >= 30 * 86_400 else f"{window_s / 3600:g} h"


def _percent(share: float) -> str:
    return f"{100 * share:.2f}".rstrip("0").rstrip(".") + " %"


def _place(rate: float) -> float:
    if rate <= RATE_MIN:
        return 0.0
    return round(100 * math.log10(min(rate, RATE_MAX) / RATE_MIN) / math.log10(RATE_MAX / RATE_MIN), 2)


def _anchor(rate: float) -> str:
    return "start" if rate == RATE_MIN else "end" if rate == RATE_MAX else "middle"


def _end(percent: float) -> str:
    return "start" if percent == 0 else "end" if percent == 100 else "middle"
