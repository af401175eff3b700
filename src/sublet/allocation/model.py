"""Rounds of yield: what was known, what was decided, and what is done about it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from sublet.allocation.mix.model import Mix, Pair, State
from sublet.values.clock import format_time

ROUND_HOURS = 1
FRESH = timedelta(hours=2)
"""A round older than this limits nothing any more: what it knew is gone."""
ROUNDS_KEPT = timedelta(days=400)
PRIOR_QUOTES = 1.0
"""Quotes accepted and refused that an estimate begins with, each: without data, half of them are accepted."""


class Mode(StrEnum):
    """What yield does on a pool."""

    OFF = "off"
    ADVISE = "advise"
    ACT = "act"


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with the interval that holds it nine times in ten, and its source."""

    value: float
    low: float
    high: float
    source: str

    def as_dict(self) -> dict[str, Any]:
        return {
            "value": round(self.value, 6),
            "low": round(self.low, 6),
            "high": round(self.high, 6),
            "source": self.source,
        }


def rate_of(count: float, hours: float, size: float, source: str) -> Estimate:
    """`count` orders of `size` on average in `hours`, as a rate an hour. Orders are taken as Poisson; none seen still leaves room
    for one."""
    spread = 1.645 * math.sqrt(count + 1)
    return Estimate(
        count * size / hours,
        max(0.0, count - spread) * size / hours,
        (count + 1 + spread) * max(size, 1.0) / hours,
        source,
    )


def share_of(accepted: float, asked: float, source: str) -> Estimate:
    """The share of quotes that are accepted: a beta distribution, by its normal approximation."""
    yes, no = accepted + PRIOR_QUOTES, asked - accepted + PRIOR_QUOTES
    mean = yes / (yes + no)
    spread = 1.645 * math.sqrt(mean * (1 - mean) / (yes + no + 1))
    return Estimate(mean, max(0.0, mean - spread), min(1.0, mean + spread), source)


@dataclass(frozen=True, slots=True)
class Product:
    """What is known of a raw product: orders an hour (accelerators), the share of quotes accepted, and where its price is from."""

    pool: str
    class_name: str
    hours: float
    asked: Estimate
    accepted: Estimate
    price_source: str
    reference: float = 0.0
    """What the settings state for the class: advice stays near it."""


@dataclass(frozen=True, slots=True)
class Load:
    """What is known of a model: its load this hour (tokens a second), where its speed and its value come from."""

    model: str
    load: Estimate
    speed_source: str
    value_source: str


@dataclass(frozen=True, slots=True)
class Facts:
    """The state that a round decides from, with its sources. `modes` is by pool name. `pinned` are models whose replicas were
    set by hand. `pool_ids` are the ids by name."""

    state: State
    modes: Mapping[str, Mode]
    pool_ids: Mapping[str, str] = field(default_factory=dict)
    products: Sequence[Product] = ()
    loads: Sequence[Load] = ()
    pinned: frozenset[str] = frozenset()
    notes: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """What a round limits on a pool that is acted on: accelerators for replicas, and quotas by class and length (hours), each with
    its `count` and the `bid` from which on a price sells beyond it."""

    pool_id: str
    at: datetime
    room: int
    quotas: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Round:
    """One decision and its basis."""

    facts: Facts
    mix: Mix

    def as_dict(self) -> dict[str, Any]:
        """What `sublet yield plan` shows, and what is stored."""
        mix, facts = self.mix, self.facts
        return {
            "at": format_time(mix.at),
            "currency": mix.currency,
            "method": mix.method,
            "note": mix.note,
            "value_per_hour": round(mix.value, 6),
            "pools": [self._pool(name) for name in sorted(facts.modes)],
            "moves": [
                {
                    "model": item.model,
                    "pool": item.pool,
                    "before": item.before,
                    "after": item.after,
                    "gain_per_hour": round(item.gain, 6),
                    "sentence": item.said(mix.currency),
                }
                for item in mix.moves
            ],
            "broken_limits": [str(item) for item in mix.broken],
            "left_out": [{"what": item.what, "why": item.why} for item in mix.left_out],
            "notes": list(facts.notes),
        }

    def _pool(self, name: str) -> dict[str, Any]:
        state, mix = self.facts.state, self.mix
        known = {item.name: item for item in state.pools}
        replicas = sorted((pair, count) for pair, count in mix.replicas.items() if pair[1] == name)
        running = {item.pair: item.running for item in state.fits}
        sizes = {item.pair: item.accelerators for item in state.fits}
        return {
            "pool": name,
            "pool_id": self.facts.pool_ids.get(name, ""),
            "mode": self.facts.modes[name].value,
            "idle": math.floor(known[name].idle[0]) if name in known else 0,
            "replicas": [
                {
                    "model": pair[0],
                    "running": running[pair],
                    "wanted": count,
                    "accelerators": sizes[pair],
                }
                for pair, count in replicas
            ],
            "quotas": [
                {
                    "class": key[1],
                    "hours": key[2],
                    "count": count,
                    "bid": round(mix.bid(name, min(key[2], sum(state.steps)), state.steps), 6),
                }
                for key, count in sorted(mix.quotas.items())
                if key[0] == name
            ],
            "bids": [round(item, 6) for item in mix.bids.get(name, ())],
        }

    def limits(self) -> list[PoolLimits]:
        """What the round limits, of each pool that is acted on."""
        return [
            PoolLimits(
                self.facts.pool_ids[name], self.mix.at, self.accelerators_for_models(name), self._pool(name)["quotas"]
            )
            for name, mode in sorted(self.facts.modes.items())
            if mode is Mode.ACT
        ]

    def accelerators_for_models(self, pool: str) -> int:
        """What replicas may occupy of a pool: as decided, and what runs of models that were left out."""
        total = 0
        for fit in self.facts.state.fits:
            if fit.pool == pool:
                total += self.mix.replicas.get(fit.pair, fit.running) * fit.accelerators
        return total

    def wanted(self) -> dict[str, int]:
        """Replicas by model, of those whose pools are all acted on and whose figures are known."""
        acting = {name for name, mode in self.facts.modes.items() if mode is Mode.ACT}
        pairs: dict[str, list[Pair]] = {}
        for fit in self.facts.state.fits:
            pairs.setdefault(fit.model, []).append(fit.pair)
        return {
            model: sum(self.mix.replicas[pair] for pair in own)
            for model, own in sorted(pairs.items())
            if model not in self.facts.pinned and all(pair in self.mix.replicas and pair[1] in acting for pair in own)
        }


def nearest(lengths: Sequence[float], hours: float) -> float:
    """The length of the ladder that a window counts as: the shortest that is not shorter, or else the longest."""
    longer = [item for item in lengths if item >= hours - 1e-9]
    return min(longer) if longer else max(lengths, default=hours)
