"""The rule: capacity less the (1 - risk) quantile of the peak of demand until the promise can be taken back.

Everything here is pure, so that the running service, the shadow and the backtest decide with the same lines.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from sublet.demand.forecast import Grid, Recent
from sublet.demand.model import Claim, Floats
from sublet.surplus.model import HOUR_S, Absence, ClassPolicy, PoolFacts, Sellable, Sold, Withheld
from sublet.values.clock import format_time
from sublet.values.windows import Window

FINE_HORIZON_S = HOUR_S
COLD_S = 24 * HOUR_S
COLD_FIRM_S = 7 * 24 * HOUR_S
COLD_HORIZONS = 7
PATHS_MIN = 20


@dataclass(frozen=True)
class View:
    """All that is known about a pool at one moment. `coarse` is hourly; `fine` has shorter slots where samples allow."""

    at: datetime
    facts: PoolFacts
    in_use: float
    stale: bool
    sample_age_s: float | None
    history_s: float
    coarse: Recent
    fine: Recent | None
    claims: tuple[Claim, ...]
    claims_met: Mapping[str, float]

    def recent(self, horizon_s: float) -> Recent:
        """The grid on which a horizon is looked at: the fine one for less than an hour ahead."""
        return self.fine if self.fine is not None and horizon_s <= FINE_HORIZON_S else self.coarse


def deepest(paths: Grid, room: Floats, risk: float) -> float:
    """The largest count that still fits under `room` on all but a share `risk` of the past paths.

    `paths` is (moments, slots) rises of demand, `room` (slots) what is left for them and the count together. The
    result is the order statistic of min over slots of (room - rise) with at most floor(risk * moments) paths below
    it: never less for more risk, never more for less room.
    """
    moments = paths.shape[0]
    allowed = math.floor(risk * moments + 1e-9)
    if moments == 0 or allowed >= moments:
        return float(room.min(initial=math.inf))
    slack = (room.astype(np.float32)[None, :] - paths).min(axis=1)
    return float(np.partition(slack, allowed)[allowed])


def unmet_claims(view: View, until: datetime) -> list[tuple[Claim, float]]:
    """The part of each claim that observed demand does not show yet, for claims that begin before `until`."""
    unmet = []
    for claim in view.claims:
        if claim.withdrawn_at is None and claim.window.start < until and claim.window.end > view.at:
            rest = claim.count - view.claims_met.get(claim.id, 0.0)
            if rest > 0:
                unmet.append((claim, rest))
    return unmet


def claims_met(claims: Sequence[Claim], at: datetime, in_use: float, before: Mapping[str, float]) -> dict[str, float]:
    """How much of each running claim the present demand shows already.

    `before` gives, by claim, the demand just before it began. A rise since then is counted towards claims in the order
    in which they were announced, and only once, so that a new claim never loosens an older one.
    """
    met: dict[str, float] = {}
    counted = 0.0
    for claim in sorted(claims, key=lambda item: (item.created_at, item.id)):
        if claim.window.contains(at) and claim.id in before:
            met[claim.id] = min(float(claim.count), max(0.0, in_use - before[claim.id] - counted))
            counted += met[claim.id]
    return met


def sellable(
    view: View, policy: ClassPolicy, window: Window, sold: Sequence[Sold], policies: Mapping[str, ClassPolicy]
) -> Sellable:
    """How many accelerators of a class may be sold over `window`, and by which reason each other one is withheld."""
    start = max(window.start, view.at)
    until_s = (start - view.at).total_seconds() + policy.horizon_s((window.end - start).total_seconds())
    grid = view.recent(until_s)
    slots = max(1, math.ceil(until_s / grid.slot_s))
    first = min(slots - 1, int((start - view.at).total_seconds() // grid.slot_s))
    span = Window(start, Window.starting(view.at, slots * grid.slot_s).end)
    rows = grid.rises(slots)[:, first:]

    def over(items: Sequence[tuple[Window, float]]) -> Floats:
        return _held(items, view.at, grid.slot_s, first, slots)

    facts = view.facts
    held = over([_hold(item, policies, view.at) for item in sold])
    away = over([(absence.window, absence.count) for absence in facts.absences])
    needs = unmet_claims(view, span.end)
    needed = over([(claim.window, rest) for claim, rest in needs])
    keep = facts.never_sell + facts.failure_reserve
    steps: list[tuple[float, str, str]] = []
    steps.append((facts.capacity - facts.never_sell, "never_sell", "the operator's setting never sells {}"))
    steps.append((facts.capacity - keep, "failure_reserve", "{} kept for accelerators that fail"))
    room = facts.capacity - keep - away
    steps.append((room.min(), "maintenance", "{} away within the window: " + _absences(facts.absences, span)))
    room = room - view.in_use
    now = facts.capacity - keep - view.in_use
    # On a grid the newest demand is the highest of its slot: rises are counted from there.
    steps.append((min(now, room.min()), "in_use", f"the owner uses {view.in_use:g} now, which takes {{}}"))
    idle = max(0.0, now)
    room = room - held
    steps.append((room.min(), "already_sold", "{} sold already for part of the window"))
    room = room - needed
    steps.append((room.min(), "claim", "{} claimed: " + _claims(needs)))
    steps.append(
        (
            deepest(rows, room - _above(grid, view.in_use), policy.risk),
            "demand_quantile",
            f"{{}} because demand rose that far within {_hours(until_s)} after more than "
            f"{policy.broken_per_1000_max:g} in 1,000 of {rows.shape[0]} past moments",
        )
    )
    steps += _doubts(view, policy, until_s, rows.shape[0], idle, float(held.max(initial=0.0)))
    count, withheld = _waterfall(facts.capacity, steps)
    return Sellable(facts.pool_id, policy.name, int(window.seconds), count, withheld)


def _above(grid: Recent, in_use: float) -> float:
    newest = grid.newest
    return max(0.0, newest - in_use) if math.isfinite(newest) else 0.0


def _doubts(
    view: View, policy: ClassPolicy, until_s: float, paths: int, idle: float, held: float
) -> list[tuple[float, str, str]]:
    steps: list[tuple[float, str, str]] = []
    firm = policy.notice_s is None
    wanted_s = max(COLD_FIRM_S if firm else COLD_S, COLD_HORIZONS * until_s)
    if view.history_s < wanted_s or paths < PATHS_MIN:
        least = 0.0 if firm else (idle + 1) // 2 - held
        had, wanted = _hours(view.history_s), _hours(wanted_s)
        share = "a class that can't be taken back is not sold" if firm else "at most half of what is idle is sold"
        steps.append((least, "cold_start", f"{{}} because {had} of history is less than {wanted}: {share}"))
    if view.stale:
        age = (
            "there is no sample" if view.sample_age_s is None else f"the last sample is {_hours(view.sample_age_s)} old"
        )
        steps.append((0.0, "stale_demand", f"{{}} because {age}"))
    if not policy.sell:
        steps.append((0.0, "not_on_sale", f"{{}} because the settings don't sell {policy.name}"))
    return steps


def _waterfall(capacity: int, steps: Sequence[tuple[float, str, str]]) -> tuple[int, tuple[Withheld, ...]]:
    """Each step may lower the count; what it lowers is withheld by its reason. Counts and the rest sum to `capacity`."""
    left = capacity
    withheld = []
    for most, code, sentence in steps:
        floor = max(0, min(left, math.floor(most + 1e-6)))
        if floor < left:
            withheld.append(Withheld(left - floor, code, sentence.replace("{}", str(left - floor), 1)))
        left = floor
    return left, tuple(withheld)


def _hold(item: Sold, policies: Mapping[str, ClassPolicy], at: datetime) -> tuple[Window, float]:
    """A sold window for as long as it could not be taken back if notice were given now."""
    policy = policies.get(item.class_name)
    if policy is None or item.window.end <= at:
        return item.window, float(item.count)
    start = max(item.window.start, at)
    horizon_s = policy.horizon_s((item.window.end - start).total_seconds())
    return Window.starting(start, horizon_s), float(item.count)


def _held(items: Sequence[tuple[Window, float]], at: datetime, slot_s: int, first: int, slots: int) -> Floats:
    """Accelerators held per slot; a slot that is held for a moment is held."""
    held = np.zeros(slots)
    for window, count in items:
        begin = max(0, math.floor((window.start - at).total_seconds() / slot_s))
        end = min(slots, math.ceil((window.end - at).total_seconds() / slot_s))
        if end > begin:
            held[begin:end] += count
    return held[first:]


def _absences(absences: Sequence[Absence], span: Window) -> str:
    return "; ".join(
        f"{absence.count} by {absence.reason} from {format_time(absence.window.start)}"
        for absence in absences
        if absence.window.overlaps(span)
    )


def _claims(needs: Sequence[tuple[Claim, float]]) -> str:
    return "; ".join(
        f"{claim.count} from {format_time(claim.window.start)} ({claim.reason or 'no reason given'})"
        for claim, _ in needs[:5]
    )


def _hours(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 2 * HOUR_S:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / HOUR_S:.0f} h"
