"""Pools that are made to break promises: growth, jumps, level shifts, regimes, gangs, outages, weekends, resizing, and all of it.

Everything follows from the seed, so that a pool that breaks a promise can be made again.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from sublet.demand.model import Floats
from sublet.surplus.backtest.scoring import Trace

DAYS = 120
WARMUP_HOURS = 28 * 24
ACCELERATORS = (16, 4000)

Random = np.random.Generator
Change = Callable[[Random, Floats], Floats]
"""A change of demand, which is a share of the capacity by hour."""


def hostile(seed: int, days: int = DAYS, warmup: int = WARMUP_HOURS) -> Trace:
    """The pool of one seed; its kind is in its name."""
    random = np.random.default_rng(seed)
    kinds = list(CHANGES)
    kind = [*kinds, "mixed"][seed % (len(kinds) + 1)]
    hours = days * 24
    size = float(round(np.exp(random.uniform(*np.log(ACCELERATORS)))))
    share = random.uniform(0.35, 0.65) + _wandering(random, hours)
    share += 0.06 * np.sin(2 * np.pi * np.arange(hours) / 24 + random.uniform(0, 2 * np.pi))
    for name in kinds:
        if name == kind or (kind == "mixed" and random.random() < 0.5):
            share = CHANGES[name](random, share)
    capacity = np.full(hours, size)
    in_use = np.round(np.clip(share, 0, 1.1) * size)
    if kind == "resized":
        at, factor = int(random.integers(hours // 3, hours)), float(random.choice([0.5, 0.75, 1.5]))
        capacity[at:] = np.round(size * factor)
    return Trace(f"{kind}-{seed}", 0, capacity, in_use, warmup)


def _wandering(random: Random, hours: int) -> Floats:
    steps = random.normal(0, 0.012, hours)
    level, found = 0.0, np.empty(hours)
    for hour in range(hours):
        level = 0.97 * level + steps[hour]
        found[hour] = level
    return found


def _growth(random: Random, share: Floats) -> Floats:
    """Demand grows within weeks until nothing is idle."""
    begin, lasts = random.uniform(20, 50) * 24, random.uniform(20, 60) * 24
    grown: Floats = share + (1.05 - share.mean()) * np.clip((np.arange(share.size) - begin) / lasts, 0, 1)
    return grown


def _jumps(random: Random, share: Floats) -> Floats:
    """Now and then a fifth to two thirds of the pool is needed at once, for hours to days."""
    every = random.uniform(4, 25) * 24
    for begin in random.integers(0, share.size, random.poisson(share.size / every)):
        share[begin : begin + int(random.integers(3, 72))] += random.uniform(0.2, 0.7)
    return share


def _shift(random: Random, share: Floats) -> Floats:
    """One day the level is another one and stays so."""
    share[int(random.integers(share.size // 3, share.size * 3 // 4)) :] += random.uniform(0.2, 0.6)
    return share


def _regimes(random: Random, share: Floats) -> Floats:
    """Calm weeks, then weeks in which every six hours bring another level."""
    begin, calm = 0, True
    while begin < share.size:
        lasts = int(random.exponential(15 * 24)) + 24
        if not calm:
            part = share[begin : begin + lasts]
            part += np.repeat(random.uniform(0, 0.5, lasts // 6 + 1), 6)[: part.size]
        begin, calm = begin + lasts, not calm
    return share


def _gangs(random: Random, share: Floats) -> Floats:
    """Jobs of a twentieth to half of the pool make up most of demand."""
    share *= 0.4
    for begin in random.integers(0, share.size, share.size // 10):
        size = random.choice([0.05, 0.125, 0.25, 0.5], p=[0.55, 0.25, 0.15, 0.05])
        share[begin : begin + int(random.exponential(18)) + 1] += size
    return share


def _outages(random: Random, share: Floats) -> Floats:
    """The whole pool is away for hours: an outage is not idle time."""
    for begin in random.integers(0, share.size, random.poisson(share.size / (20 * 24))):
        share[begin : begin + int(random.integers(2, 30))] = 1.0
    return share


def _weekly(random: Random, share: Floats) -> Floats:
    """Working hours of weekdays need a quarter of the pool more."""
    hours = np.arange(share.size) + int(random.integers(0, 7)) * 24
    return share + 0.25 * ((hours // 24) % 7 < 5) * (np.abs(hours % 24 - 13) < 6)


def _gaps(random: Random, share: Floats) -> Floats:
    """Hours that were not seen repeat the last that was: jumps in them come without a warning."""
    share = _jumps(random, share)
    for begin in random.integers(1, share.size - 24, share.size // (24 * 7)):
        share[begin : begin + int(random.integers(1, 12))] = share[begin - 1]
    return share


def _resized(random: Random, share: Floats) -> Floats:
    """The capacity changes once, see `hostile`; demand stays as it is."""
    return share


CHANGES: dict[str, Change] = {
    "growth": _growth,
    "jumps": _jumps,
    "shift": _shift,
    "regimes": _regimes,
    "gangs": _gangs,
    "outages": _outages,
    "weekly": _weekly,
    "gaps": _gaps,
    "resized": _resized,
}
