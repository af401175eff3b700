"""Promises as the service keeps them: a shadow by the forecast, what it has earned, and what is sold for real within that.

Each class runs by itself or after another, on hourly demand and for endless buyers; `firm` is sold by the sellers of the
running service, deadlines by its admission, and both stand on the same budget and monitor.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from sublet.demand.model import Floats
from sublet.surplus.backtest.scoring import Trace, bound
from sublet.surplus.budget import Pace, Passed, Standing
from sublet.surplus.deadlines.kinds import Idle, Kind, OpenOrders, used
from sublet.surplus.deadlines.paths import MOMENTS_MIN, comparable_idle
from sublet.surplus.deadlines.replay import Admitted
from sublet.surplus.rule.seller import Seller, agreed_depth, deepest, phase_of, sellers
from sublet.surplus.terms import SHADOW_HOURS_MIN, Shortage, firm_pace

RISK = 0.01
Depth = Callable[[int, Floats, float], int]
"""(slot, room by slot, limit) to the most that the forecast would start."""


@dataclass
class Shadow:
    """What the forecast alone sells, by slot: running before the slot's breaks, started, broken."""

    running: Floats
    started: Floats
    broken: Floats


@dataclass
class Verdict:
    """What became of one kind of promise on one pool, over the hours that are scored.

    `worst` is the most that broke in one hour. `bound_hours` is what the share is of. `alarms` are the slots at which the
    monitor spoke. `held` is what ran for real in each slot after its breaks, `sold` and `lost` are by slot.
    """

    pool: str
    kind: str
    kept_hours: float
    bound_hours: float
    promised: float
    broken: float
    worst: float
    alarms: list[int] = field(default_factory=list)
    delayed_hours: float = 0.0
    held: Floats = field(default_factory=lambda: np.empty(0))
    sold: Floats = field(default_factory=lambda: np.empty(0))
    lost: Floats = field(default_factory=lambda: np.empty(0))
    standing: Standing = field(default_factory=Standing)

    @property
    def share(self) -> float:
        return self.kept_hours / self.bound_hours if self.bound_hours else 0.0

    @property
    def per_1000(self) -> float:
        return 1000 * self.broken / self.promised if self.promised else 0.0

    def above(self, per_1000: float) -> bool:
        """Whether more broke than that, by more than what broke in the worst hour alone."""
        return self.per_1000 > per_1000 and self.broken > self.worst


def depth_of(
    trace: Trace, window: int, risk: float = RISK, *, patient: bool = False, seller: Seller | None = None
) -> Depth:
    """How deep the service's own seller would sell windows of one length."""
    found = (
        seller
        or sellers(trace.in_use, trace.first_hour, SHADOW_HOURS_MIN, (window,), phase_of(trace.name), patient=patient)[
            window
        ]
    )

    def depth(t: int, room: Floats, booked: float) -> int:
        # As the service: an hour is learned from once its last samples had time to come in, after the next one has begun.
        found.learn(trace.in_use, trace.capacity, t - 1)
        limit = float(trace.capacity[t - 1]) - found.level(trace.in_use, t) - booked
        need = trace.need(t)[:window]
        if need.size:
            limit = min(limit, float((room + trace.in_use[t - 1] - need).min()))
        return agreed_depth(
            found.voices(t),
            lambda voice: deepest(voice.futures, room, found.tail(voice.futures, risk, voice.ratio), limit),
        )

    return depth


class Living:
    """A shadow on its way through a trace. `patient`: a shortage breaks what is sold if it stood in the hour before, too."""

    def __init__(self, trace: Trace, window: int, *, patient: bool = False) -> None:
        size = len(trace)
        self.found = Shadow(np.zeros(size), np.zeros(size), np.zeros(size))
        self.trace, self.window, self.patient, self.idle = trace, window, patient, trace.idle
        self._book, self._shortage = np.zeros(window), Shortage(int(patient))

    def step(self, t: int, depth: Depth) -> None:
        """Slot `t`: sell by what was known before it, and break what its demand leaves no room for."""
        trace, book, found = self.trace, self._book, self.found
        now = trace.capacity[t - 1] - trace.in_use[t - 1]
        if now > 0:
            found.started[t] = depth(t, now - book, float(book[0]))
            book += found.started[t]
        found.running[t] = book[0]
        found.broken[t] = self._shortage.breaks(max(0.0, book[0] - self.idle[t]))
        _end_hour(book, found.broken[t])


def live(trace: Trace, window: int, depth: Depth, *, patient: bool = False, begin: int = SHADOW_HOURS_MIN) -> Shadow:
    """Let the shadow live through the trace from slot `begin` on."""
    living = Living(trace, window, patient=patient)
    for t in range(begin, len(trace)):
        living.step(t, depth)
    return living.found


class Selling:
    """What is sold for real beside a shadow, on its way through a trace: as deep as the forecast allows beside what runs, and
    never more at once than the shadow has earned, by the lines that the running service decides with."""

    def __init__(self, living: Living, pace: Pace) -> None:
        size = living.found.started.size
        self.standing, self.alarms = Standing(), list[int]()
        self.sold, self.lost, self.held = np.zeros(size), np.zeros(size), np.zeros(size)
        self.delayed = 0.0
        self._living, self._pace = living, pace
        self._book, self._shortage = np.zeros(living.window), Shortage(int(living.patient))

    def step(self, t: int, depth: Depth) -> None:
        """Slot `t`, after the shadow has lived through it."""
        trace, shadow, book = self._living.trace, self._living.found, self._book
        now = trace.capacity[t - 1] - trace.in_use[t - 1]
        left = math.floor(self.standing.left(self._pace, float(book[0])))
        if left and now > 0 and t >= trace.warmup and t + self._living.window <= len(trace):
            self.sold[t] = min(left, depth(t, now - book, float(book[0])))
            book += self.sold[t]
        over = max(0.0, float(book[0] - self._living.idle[t]))
        self.lost[t] = self._shortage.breaks(over)
        self.delayed += over - self.lost[t]
        self.held[t] = book[0] - self.lost[t]
        _end_hour(book, self.lost[t])
        hour = trace.first_hour + t
        if self.standing.pass_hour(self._pace, hour, Passed(shadow.started[t], shadow.broken[t], shadow.running[t])):
            self.alarms.append(t)

    @property
    def verdict(self) -> Verdict:
        trace, window, total, lost = self._living.trace, self._living.window, float(self.sold.sum()), self.lost
        kind = f"{window} h" + (", an hour of patience" if self._living.patient else "")
        kept = (total - float(lost.sum())) * window
        return Verdict(
            trace.name, kind, kept, bound(trace, window), total, float(lost.sum()), float(lost.max(initial=0)), self.alarms,
            self.delayed, self.held, self.sold, lost, self.standing,
        )  # fmt: skip


def sell(
    trace: Trace, window: int, depth: Depth, pace: Pace, *, patient: bool = False, begin: int = SHADOW_HOURS_MIN
) -> tuple[Verdict, Shadow]:
    """Let the shadow live through the trace from slot `begin` on, and sell for real beside it once the warm-up is over."""
    living = Living(trace, window, patient=patient)
    real = Selling(living, pace)
    for t in range(begin, len(trace)):
        living.step(t, depth)
        real.step(t, depth)
    return real.verdict, living.found


def firm(trace: Trace, window: int, risk: float = RISK, *, patient: bool = False) -> Verdict:
    """Uninterrupted windows of one length by themselves."""
    depth = depth_of(trace, window, risk, patient=patient)
    return sell(trace, window, depth, firm_pace(window, risk), patient=patient)[0]


def unguarded(trace: Trace, window: int, shadow: Shadow) -> Verdict:
    """What the forecast alone would have done, without budget and monitor."""
    started, broken = shadow.started[trace.warmup : len(trace) - window + 1], shadow.broken[trace.warmup :]
    kept = float(started.sum() - broken.sum()) * window
    return Verdict(
        trace.name, f"{window} h, forecast alone", kept, bound(trace, window), float(started.sum()), float(broken.sum()),
        float(broken.max(initial=0)),
    )  # fmt: skip


def deadlines(
    trace: Trace, kind: Kind, risk: float = RISK, taken: Floats | None = None, admitted: Admitted | None = None
) -> Verdict:
    """Orders of one kind; `taken` is what firmer promises run in each slot, which is not idle for orders."""
    size, pace = len(trace), kind.pace(risk)
    idle = trace.idle if taken is None else np.maximum(trace.idle - taken, 0)
    in_use = trace.in_use if taken is None else trace.capacity - idle
    shadow, real, standing = OpenOrders(kind), OpenOrders(kind), Standing()
    sold, lost, held = np.zeros(size), np.zeros(size), np.zeros(size)
    done, alarms = 0.0, []
    steady = bool((trace.capacity == trace.capacity[0]).all())
    for t in range(kind.within + MOMENTS_MIN, size):
        hourly = idle[:t] if steady else comparable_idle(trace.capacity[:t], in_use[:t])
        known = Idle(hourly, float(idle[t - 1]), float(trace.capacity[t - 1]), trace.need(t))
        unused = kind.long and not used(trace.capacity[:t], trace.in_use[:t])
        shadow.add(shadow.room(known, admitted))
        if t >= trace.warmup and t + kind.within <= size:
            sold[t] = max(0.0, min(real.room(known, admitted), np.floor(standing.left(pace, real.count))))
            real.add(sold[t])
        running = shadow.count
        ended, late, near = shadow.pass_hour(float(idle[t]))
        if standing.pass_hour(pace, trace.first_hour + t, Passed(ended, late, running, near, unused)):
            alarms.append(t)
        held[t] = min(real.count, idle[t])
        ended, lost[t], _ = real.pass_hour(float(idle[t]))
        done += ended
    return Verdict(
        trace.name, str(kind), done * kind.hours, bound(trace, kind.hours), float(sold.sum()), float(lost.sum()),
        float(lost.max(initial=0)), alarms, 0.0, held, sold, lost, standing,
    )  # fmt: skip


def everything(
    trace: Trace, window: int, kind: Kind, risk: float = RISK, first: tuple[Verdict, Shadow] | None = None
) -> tuple[Verdict, Verdict]:
    """Uninterrupted windows first (`first` is what `sell` found of them), then deadlines on what they leave. Both shares are of
    all idle hours, of both."""
    found, shadow = first or sell(trace, window, depth_of(trace, window, risk), firm_pace(window, risk))
    one = replace(found)
    # Before anything is sold for real, deadlines learn from what the shadow would have left.
    taken = np.where(np.arange(len(trace)) < trace.warmup, shadow.running - shadow.broken, one.held)
    two = deadlines(trace, kind, risk, taken)
    hours = float(trace.idle[trace.warmup :].sum())
    kept = one.kept_hours + two.kept_hours
    for verdict in (one, two):
        verdict.kept_hours, verdict.bound_hours = kept, hours
    return one, two


def _end_hour(book: Floats, broken: float) -> None:
    """Youngest first: they run longest, so every later hour loses as many."""
    np.maximum(book - broken, 0, out=book)
    book[:-1] = book[1:]
    book[-1] = 0
