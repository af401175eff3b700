"""Backtest of one class of service: what the budget and the monitor would have sold of it and kept, and where it would stand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sublet.surplus.backtest.promises import Verdict, deadlines, firm
from sublet.surplus.backtest.scoring import Outcome, Trace
from sublet.surplus.deadlines.kinds import WITHIN_HOURS_MAX, Kind
from sublet.surplus.model import HOUR_S, Stood
from sublet.surplus.rule.earned import opens, state_of
from sublet.surplus.terms import firm_pace
from sublet.values.clock import from_micros
from sublet.values.errors import InvalidInputError

FIRM, DEADLINE = "firm", "deadline"
HOURS_MAX = 24


@dataclass(frozen=True, slots=True)
class Asked:
    """Which class, of which lengths in hours, at which risk (a share); `within` is the deadline of orders in hours, and
    `patient` says that the owner's work may wait an hour. Raises InvalidInputError."""

    class_name: str
    hours: tuple[int, ...]
    risk: float
    within: int = 24
    patient: bool = False

    def __post_init__(self) -> None:
        if self.class_name not in (FIRM, DEADLINE):
            raise InvalidInputError(f"--class is {self.class_name!r}; write {FIRM} or {DEADLINE}")
        if not 0 < self.risk < 1:
            raise InvalidInputError(
                "a class without a promise has no record; accept fewer than 1,000 broken promises per 1,000"
            )
        if self.class_name == FIRM and self.within != 24:
            raise InvalidInputError(f"--within is for --class {DEADLINE}")
        if self.class_name == DEADLINE and self.patient:
            raise InvalidInputError(f"--patience is for --class {FIRM}; orders with a deadline wait anyway")
        if not 1 <= self.within <= WITHIN_HOURS_MAX:
            raise InvalidInputError(f"--within is {self.within} h; write 1 to {WITHIN_HOURS_MAX} hours")
        if not self.kept_hours:
            raise InvalidInputError(
                f"none of the window lengths {self.hours} fit; use --windows of 1 to {HOURS_MAX} hours"
            )

    @property
    def kept_hours(self) -> tuple[int, ...]:
        """The lengths that can be tried: up to a day, and orders no longer than their deadline."""
        most = self.within if self.class_name == DEADLINE else HOURS_MAX
        return tuple(hours for hours in self.hours if 1 <= hours <= min(most, HOURS_MAX))


@dataclass(frozen=True)
class Tried:
    """What became of one length on one pool."""

    trace: Trace
    verdict: Verdict
    stood: Stood

    def as_dict(self) -> dict[str, Any]:
        one = self.verdict
        hours = float(self.trace.idle[self.trace.warmup :].sum())
        return {
            "pool": one.pool,
            "kind": one.kind,
            "share": one.share,
            "sold_share_of_idle": one.kept_hours / hours if hours else 0.0,
            "promised": int(one.promised),
            "broken": int(one.broken),
            "broken_per_1000": one.per_1000,
            "worst_hour": int(one.worst),
            "alarms": len(one.alarms),
            "state": state_of(self.stood, self._at),
            "verdict": opens(self.stood, self._at),
        }

    @property
    def _at(self) -> datetime:
        """The end of the trace, which the record has lived through."""
        return from_micros((self.stood.hour + 1) * HOUR_S * 1_000_000)

    @property
    def outcome(self) -> Outcome:
        """The run as the charts draw it."""
        first = self.trace.warmup
        held = [int(count) for count in self.verdict.held[first:]]
        broken = [int(count) for count in self.verdict.lost[first:]]
        return Outcome({}, sold=held, sold_by_window={self.stood.hours: held}, broken=broken)


def try_class(traces: Sequence[Trace], asked: Asked, advance: Callable[[], None] = lambda: None) -> list[Tried]:
    """Each length on each trace; `advance` is called after each of them."""
    found = []
    for trace in traces:
        for hours in asked.kept_hours:
            last = trace.first_hour + len(trace) - 1
            if asked.class_name == DEADLINE:
                kind = Kind(hours, asked.within)
                verdict, pace = deadlines(trace, kind, asked.risk), kind.pace(asked.risk)
            else:
                verdict, pace = firm(trace, hours, asked.risk, patient=asked.patient), firm_pace(hours, asked.risk)
            within = asked.within if asked.class_name == DEADLINE else 0
            stood = Stood(asked.class_name, hours, within, last, pace, verdict.standing)
            found.append(Tried(trace, verdict, stood))
            advance()
    return found
