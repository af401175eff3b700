"""Shadow mode over whole histories: what is asked of it, and what it says of several pools."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sublet.demand.model import Series
from sublet.surplus.backtest.backtest import prepare
from sublet.surplus.backtest.scoring import Trace
from sublet.surplus.backtest.shadow import Terms, shadow
from sublet.values.errors import InvalidInputError
from sublet.values.money import Money
from sublet.values.service_classes import LONG_SHARE

WINDOW_HOURS_MAX = 168
WINDOWS_MAX = 20


@dataclass(frozen=True, slots=True)
class Trial:
    """Window lengths in hours, the terms, and days of history to learn from before selling (None: as much as is usual).

    Raises InvalidInputError for what can't be meant.
    """

    windows: tuple[int, ...]
    terms: Terms
    warmup_days: int | None = None

    def __post_init__(self) -> None:
        checked_windows(self.windows)


def trial(
    windows: Sequence[int], per_1000: float, long_share: float, price: Money, warmup_days: int | None = None
) -> Trial:
    """A trial at so many broken promises per 1,000. Raises InvalidInputError."""
    checked_shares(per_1000, long_share)
    return Trial(tuple(sorted(set(windows))), Terms(per_1000 / 1000, price, long_share=long_share), warmup_days)


def checked_windows(windows: Sequence[int]) -> None:
    """Raises InvalidInputError."""
    if not windows or len(windows) > WINDOWS_MAX or min(windows) < 1 or max(windows) > WINDOW_HOURS_MAX:
        told = ",".join(map(str, windows))
        raise InvalidInputError(
            f"windows are {told!r}; use at most {WINDOWS_MAX} lengths from 1 to {WINDOW_HOURS_MAX} hours"
        )


def checked_shares(per_1000: float, long_share: float = LONG_SHARE) -> None:
    """Raises InvalidInputError."""
    if not 0 < per_1000 <= 1000:
        raise InvalidInputError(f"broken per 1,000 is {per_1000}; it must be above 0 and at most 1000")
    if not 0 <= long_share <= 1:
        raise InvalidInputError(f"long share is {long_share}; it must be from 0 to 1")


def tried(
    found: Sequence[Series],
    asked: Trial,
    kept: Mapping[str, int],
    advance: Callable[[int, int], None] = lambda done, of: None,
    *,
    or_refuse: bool,
) -> dict[str, Any]:
    """What the shadow would have sold of each series, and which were left out because they have too little history.

    `kept` says by name how many accelerators were kept in reserve and are not in the series. With `or_refuse` the first series
    that can't be tried is refused; without, only where none can. Raises InvalidInputError.
    """
    prepared, left_out = _prepared(found, asked.warmup_days, or_refuse=or_refuse)
    reports = []
    for done, (trace, notes) in enumerate(prepared):
        advance(done, len(prepared))
        if kept.get(trace.name):
            notes.append(f"{trace.name}: {kept[trace.name]} accelerators are kept in reserve and were not sold")
        reports.append(replace(shadow(trace, asked.windows, asked.terms), notes=tuple(notes)).as_dict())
    return {"pools": reports, "left_out": left_out}


def _prepared(
    found: Sequence[Series], warmup_days: int | None, *, or_refuse: bool
) -> tuple[list[tuple[Trace, list[str]]], list[dict[str, str]]]:
    prepared, left_out = [], []
    for series in found:
        try:
            prepared.append(prepare(series, warmup_days))
        except InvalidInputError as error:
            if or_refuse:
                raise
            left_out.append({"pool": series.pool, "why": error.message})
    if not prepared:
        raise InvalidInputError(f"no pool has enough history: {'; '.join(item['why'] for item in left_out)}")
    return prepared, left_out
