"""Who of the owner's side waits for accelerators that tenants hold, for how long that may go on, and what stays until then. Pure.

A shortage that a pool's own demand, or a claim, is patient about delays internal work instead of ending leases. Patience is
bounded: on one day a pool's demand, or a team with its claims, waits for at most a stated multiple of one patience.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from sublet.demand.model import Claim
from sublet.surplus.rule.blocks import kept_for_tenants
from sublet.surplus.rule.ladder import staying
from sublet.surplus.rule.view import View
from sublet.values.clock import format_time
from sublet.values.windows import Window

OWN = ""
"""Stands for the pool's own demand where a claim has its id, and a claim's team the id of its organization."""


@dataclass(frozen=True, slots=True)
class Begun:
    """A wait as it was last written down: since when it lasts, and that `accelerators` are waited for since `counted_until`, at
    most until `until`. With none it is remembered alone: its patience is spent, or the need is gone for a moment."""

    pool_id: str
    claim_id: str
    team: str
    since: datetime
    counted_until: datetime
    until: datetime
    accelerators: int

    def uncounted_s(self, now: datetime) -> float:
        """Seconds waited that are in no day's sum yet."""
        if self.accelerators == 0:
            return 0.0
        return max(0.0, (min(now, self.until) - self.counted_until).total_seconds())


@dataclass(frozen=True, slots=True)
class PatienceTerms:
    """How long a pool's own demand may wait, how many times that on one day, what has `begun`, and what each team waited today, in
    seconds; each wait counts by itself, also where two of a team overlap."""

    patience_s: int
    times_a_day: int
    begun: Mapping[str, Begun] = field(default_factory=dict)
    waited_s: Mapping[str, float] = field(default_factory=dict)

    def left_today_s(self, team: str, patience_s: int) -> float:
        """Seconds that a team with so much patience may wait for today."""
        return max(0.0, self.times_a_day * patience_s - self.waited_s.get(team, 0.0))


@dataclass(frozen=True, slots=True)
class Wait:
    """The owner waits for `accelerators` that tenants hold, since `since` and until `until` at the latest."""

    pool_id: str
    claim_id: str
    team: str
    accelerators: int
    since: datetime
    until: datetime
    waited_s: float
    limit_s: float

    @property
    def subject(self) -> str:
        """What the plan shows it under."""
        return self.claim_id or self.pool_id

    @property
    def sentence(self) -> str:
        who = f"claim {self.claim_id} of {self.team or 'the owner'}" if self.claim_id else "the pool's own demand"
        return (
            f"the owner waits: {who} is short of {self.accelerators} since {format_time(self.since)}; no lease gets notice for it "
            f"before {format_time(self.until)} ({self.waited_s / 60:.0f} of {self.limit_s / 60:.0f} minutes of today's patience used)"
        )

    def as_dict(self) -> dict[str, object]:
        return {
            "pool_id": self.pool_id,
            "claim_id": self.claim_id or None,
            "team": self.team or None,
            "accelerators": self.accelerators,
            "since": format_time(self.since),
            "until": format_time(self.until),
        }


@dataclass(frozen=True, slots=True)
class Waiting:
    """Everything that waits on a pool now. `own_left_s` is for how long its own demand still may; `over` are waits that were
    written down and are none now, each with whether it is to be remembered."""

    own_left_s: float = 0.0
    waits: tuple[Wait, ...] = ()
    begun: Mapping[str, Begun] = field(default_factory=dict)
    over: tuple[tuple[Begun, bool], ...] = ()


def room_for_tenants(view: View, window: Window, needed: float, working: float) -> int:
    """Accelerators that tenants may go on holding over `window` where the owner needs `needed` of `working` ones and every claim is
    as patient as `view` says."""
    return max(staying(view, window, needed, working, patient=True), kept_for_tenants(view.facts, working, window))


def with_patience_left(view: View, terms: PatienceTerms) -> View:
    """`view` with every claim as patient as its team's patience of today still lets it be."""
    return replace(view, claims=tuple(_as_patient(claim, terms, view.at) for claim in view.claims))


def find_waiting(view: View, terms: PatienceTerms, held: int, needed: float, working: float, calm_room: int) -> Waiting:
    """Who waits on a pool where tenants hold `held` now, of `calm_room` that they could without any patience if the need of the
    last minute stood at its highest."""
    now = Window.starting(view.at, 1)
    left = with_patience_left(view, terms)
    short = max(0, held - room_for_tenants(left, now, needed, working))
    own_left_s = _own_left_s(terms, view.at)
    waits: list[Wait] = []
    without_need = max(0, held - room_for_tenants(left, now, 0.0, working))
    caused = short - without_need
    if caused > 0 and own_left_s > 0:
        waits.append(_own_wait(view, terms, caused, own_left_s))
    waits += _claim_waits(left, terms, held, needed, working, short)
    found = {wait.claim_id for wait in waits}
    over = []
    for key, begun in terms.begun.items():
        if key not in found:
            # A need that is gone for a moment has no new patience when it is back.
            over.append((begun, key == OWN and calm_room < held))
    return Waiting(own_left_s, tuple(waits), terms.begun, tuple(over))


def _own_left_s(terms: PatienceTerms, now: datetime) -> float:
    if not terms.patience_s:
        return 0.0
    begun = terms.begun.get(OWN)
    passed_s = (now - begun.since).total_seconds() if begun is not None else 0.0
    return max(0.0, min(terms.patience_s - passed_s, terms.left_today_s(OWN, terms.patience_s)))


def _own_wait(view: View, terms: PatienceTerms, count: int, left_s: float) -> Wait:
    begun = terms.begun.get(OWN)
    return Wait(
        view.facts.pool_id,
        OWN,
        OWN,
        count,
        begun.since if begun is not None else view.at,
        view.at + timedelta(seconds=left_s),
        terms.waited_s.get(OWN, 0.0),
        terms.times_a_day * terms.patience_s,
    )


def _claim_waits(view: View, terms: PatienceTerms, held: int, needed: float, working: float, short: int) -> list[Wait]:
    """By claim, how many more accelerators would be missing now if it, and those before it, did not wait."""
    now = Window.starting(view.at, 1)
    waits = []
    claims = list(view.claims)
    for index, claim in enumerate(claims):
        if claim.withdrawn_at is not None or not claim.window.start <= view.at < claim.needed.start:
            continue
        claims[index] = replace(claim, patience_s=0)
        without = max(0, held - room_for_tenants(replace(view, claims=tuple(claims)), now, needed, working))
        if without > short:
            begun = terms.begun.get(claim.id)
            waits.append(
                Wait(
                    view.facts.pool_id,
                    claim.id,
                    claim.team,
                    without - short,
                    begun.since if begun is not None else view.at,
                    claim.needed.start,
                    terms.waited_s.get(claim.team, 0.0),
                    terms.times_a_day * claim.patience_s,
                )
            )
        short = max(short, without)
    return waits


def _as_patient(claim: Claim, terms: PatienceTerms, now: datetime) -> Claim:
    tomorrow = now.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
    if not claim.patience_s or claim.window.start >= tomorrow:
        return claim
    passed_s = max(0.0, (now - claim.window.start).total_seconds())
    left_s = passed_s + terms.left_today_s(claim.team, claim.patience_s)
    return replace(claim, patience_s=int(left_s)) if left_s < claim.patience_s else claim
