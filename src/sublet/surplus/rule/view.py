"""What is known about a pool at one moment, and what demand may do from then on."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property, partial
from typing import Any

import numpy as np

from sublet.demand.forecast.forecaster import Futures, PlainRises, Recent
from sublet.demand.forecast.lookback import last_seen
from sublet.demand.model import Claim, Floats
from sublet.surplus.model import HOUR_S, PoolFacts, Standings
from sublet.surplus.rule.memory import Hours, length_of, lived_length
from sublet.surplus.rule.seller import Seller, Voice, ladder_caution
from sublet.values.clock import to_micros
from sublet.values.service_classes import ServiceClass

FINE_HORIZON_S = HOUR_S
MOMENTS_MIN = 20


@dataclass(frozen=True)
class View:
    """All that is known about a pool at one moment.

    `hours` is demand by whole hours, for an hour ahead and more; `fine` has shorter slots where samples allow. `working` is
    how many accelerators the latest sample counted, infinite without one. `claims_met` says of claims and reclaims how much
    the present demand shows already, `before` how high it was just before they began. `settled` is the demand that the pool
    is sold by after it took capacity back lately. `standings` say What each kind of promise has earned; None where nothing but
    the forecast is asked, as the shadow does that earns it. `known` is what running and waiting jobs will need by hour, the present
    one first; empty where no jobs are known.
    """

    at: datetime
    facts: PoolFacts
    in_use: float
    working: float
    stale: bool
    sample_age_s: float | None
    history_s: float
    hours: Hours
    fine: Recent | None
    claims: tuple[Claim, ...]
    claims_met: Mapping[str, float]
    before: Mapping[str, float]
    settled: float = 0.0
    standings: Standings | None = None
    known: Floats = field(default_factory=lambda: np.empty(0))

    @cached_property
    def works(self) -> float:
        """How many accelerators may be used or sold at all; the failure reserve is there for those that don't work."""
        facts = self.facts
        clean = min(self.working, facts.capacity - facts.quarantined)
        return min(facts.capacity - facts.never_sell - facts.failure_reserve, clean - facts.never_sell)

    @cached_property
    def kept(self) -> dict[Hashable, Any]:
        """What a decision finds out that the next one about the same moment needs again, by name."""
        return {}

    @cached_property
    def passed_s(self) -> float:
        """How much of the present hour has passed."""
        return to_micros(self.at) / 1e6 - self.hours.next_hour * HOUR_S

    def outlook(self, until_s: float, *, firm: bool) -> Outlook:
        """What demand may do until `until_s` seconds from now.

        A `firm` promise stands on whole hours, where its kind has a record; what can be taken back soon on shorter slots,
        where samples allow.
        """
        fine = self.fine if until_s <= FINE_HORIZON_S and not firm else None
        # The present hour has begun already: what ends in the middle of an hour needs all of that hour.
        ends = until_s / fine.slot_s if fine else (self.passed_s + until_s) / HOUR_S - 1e-9
        slots = max(1, math.ceil(ends))
        lasts = slots if fine else max(1, math.ceil(until_s / HOUR_S - 1e-9))
        known = self._outlooks.get((fine is None, slots, lasts))
        if known is None:
            known = self._outlooks[fine is None, slots, lasts] = (
                self._fine_outlook(fine, slots) if fine else self._hourly(slots, lasts)
            )
        return known

    def asked(self) -> list[tuple[int, Seller]]:
        """The sellers with a record that decisions about this moment asked, with their lengths in hours, shortest first."""
        lengths = {
            lived_length(found.told_slots) for found in self._outlooks.values() if vars(found).get("seller") is not None
        }
        return [(length, seller) for length, seller in self.hours.lived() if length in lengths]

    @cached_property
    def _outlooks(self) -> dict[tuple[bool, int, int], Outlook]:
        return {}

    def _fine_outlook(self, fine: Recent, slots: int) -> Outlook:
        above = max(0.0, _or_zero(fine.newest - self.in_use))
        return Outlook(fine.slot_s, 0.0, slots, slots, slots, above, tell=partial(_plain_voice, fine, slots))

    def _hourly(self, slots: int, lasts: int) -> Outlook:
        patient = self.facts.patience_hours > 0
        find = partial(self.hours.seller, slots, self.passed_s, patient=patient)
        above = max(0.0, _or_zero(last_seen(self.hours.in_use) - self.in_use))
        return Outlook(HOUR_S, self.passed_s, slots, lasts, length_of(slots), above, t=self.hours.t, find=find)


@dataclass(frozen=True)
class Outlook:
    """Possible futures on a grid of `slot_s` that began `passed_s` ago; `slots` of it matter, and from now on it is `lasts`.
    `told_slots` are forecast: those of the next longer length that has a seller.

    `above` is how much higher than now demand stood in the slot that the futures rise from. Without a seller, which `find` looks
    up, the risk is taken as it is and `tell` forecasts; with one the risk is corrected by the record. What demand may do, and the
    seller, are found when they are asked for: a pool without room needs neither.
    """

    slot_s: int
    passed_s: float
    slots: int
    lasts: int
    told_slots: int
    above: float
    t: int = 0
    tell: Callable[[], tuple[Voice, ...]] | None = None
    find: Callable[[], Seller] | None = None

    @cached_property
    def seller(self) -> Seller | None:
        """The seller of promises so long; None for slots shorter than an hour."""
        return self.find() if self.find is not None else None

    @cached_property
    def voices(self) -> tuple[Voice, ...]:
        """The forecasts that decide, the leading one first."""
        if self.seller is not None:
            return self.seller.voices(self.t)
        return self.tell() if self.tell is not None else ()

    @property
    def futures(self) -> Futures:
        """The futures of the method that leads."""
        return self.voices[0].futures

    def rise(self, quantile: float) -> float | None:
        """By how much demand may rise above the present one at any time of these slots, at that quantile; None where too few
        past moments are known. What the rule sells by, what the chart draws and what `demand forecast` tells is this."""
        if any(voice.futures.weights.size < MOMENTS_MIN for voice in self.voices):
            return None
        rises = [
            voice.share * max(0.0, float(voice.futures.peaks.reached((1 - quantile) * voice.futures.weight)))
            for voice in self.voices
        ]
        return self.above + math.fsum(rises)

    def tail(self, policy: ServiceClass, voice: Voice) -> float:
        """The weight of futures that the class may ignore. A class that can be taken back may always be sold shallowly."""
        if self.seller is None:
            return policy.risk * voice.futures.weight if policy.risk < 1 else math.inf
        # Lengths that have no seller of their own are taken for the next longer one, as ever.
        lasts = self.lasts if self.lasts < self.slots else self.seller.slots
        risk = policy.risk
        if policy.laddered:
            risk *= ladder_caution(lasts, policy.long_share_max)
        tail = self.seller.tail(voice.futures, risk, voice.ratio, lasts)
        return max(0.0, tail) if policy.reclaimable else tail


def unmet(view: View, claims: Sequence[Claim], until: datetime) -> list[tuple[Claim, float]]:
    """The part of each claim (or reclaim) that observed demand does not show yet, of those that begin before `until`."""
    found = []
    for claim in claims:
        if claim.withdrawn_at is None and claim.needed.start < until and claim.needed.end > view.at:
            rest = claim.count - view.claims_met.get(claim.id, 0.0)
            if rest > 0:
                found.append((claim, rest))
    return found


def claims_met(claims: Sequence[Claim], at: datetime, in_use: float, before: Mapping[str, float]) -> dict[str, float]:
    """How much of each running claim the present demand shows already.

    `before` gives, by claim, the demand just before it began. A rise since then is counted towards claims in the order
    in which they were announced, and only once, so that a new claim never loosens an older one.
    """
    met: dict[str, float] = {}
    counted = 0.0
    for claim in sorted(claims, key=lambda item: (item.created_at, item.id)):
        if claim.window.start <= at < claim.needed.end and claim.id in before:
            met[claim.id] = min(float(claim.count), max(0.0, in_use - before[claim.id] - counted))
            counted += met[claim.id]
    return met


def _plain_voice(fine: Recent, slots: int) -> tuple[Voice, ...]:
    rises = fine.rises(slots)
    futures = Futures(rises, np.ones(rises.shape[0], dtype=np.float32), PlainRises.method)
    return (Voice(1.0, futures, 1.0),)


def _or_zero(number: float) -> float:
    return number if math.isfinite(number) else 0.0
