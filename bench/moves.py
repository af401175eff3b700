"""How many broken windows a move to another pool of the same generation would have saved: a table of bench/promises.py."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sublet.surplus.backtest import promises
from sublet.surplus.backtest.promises import RISK
from sublet.surplus.backtest.scoring import Trace
from sublet.surplus.budget import Passed, Standing
from sublet.surplus.terms import SHADOW_HOURS_MIN, firm_pace

GROUPS: Mapping[str, tuple[str, ...]] = {
    "Earth's virtual clusters": ("earth_",),
    "Philly's clusters": ("philly_",),
    "venus and earth": ("venus", "earth"),
}
"""Pools that count as one generation: clusters of one fleet in the same months, for no trace names the accelerators of a cluster;
and two clusters of Helios, on the assumption that both have Volta accelerators. A100, A800 and the others of Alibaba are different
generations."""

FILLS = (1.0, 0.9, 0.75, 0.5)
"""Shares of what may be sold that is sold: a pool that is sold out has no room for anybody's windows."""


class _Pool:
    """A pool with the one shadow that all variants sell beside."""

    def __init__(self, trace: Trace, window: int) -> None:
        self.trace, self.window = trace, window
        self.depth = promises.depth_of(trace, window)
        self.shadow = promises.Living(trace, window)
        self.pace, self.standing = firm_pace(window, RISK), Standing()

    def slot(self, hour: int) -> int | None:
        """The slot of an hour of the group's clock; None where the pool has none, or no shadow yet."""
        t = hour - self.trace.first_hour
        return t if SHADOW_HOURS_MIN <= t < len(self.trace) else None

    def close(self, t: int) -> None:
        """What the shadow did in the hour is known."""
        found = self.shadow.found
        hour = self.trace.first_hour + t
        self.standing.pass_hour(self.pace, hour, Passed(found.started[t], found.broken[t], found.running[t]))


class _Shop:
    """What is sold of a pool where `fill` of what may be sold is."""

    def __init__(self, pool: _Pool, fill: float) -> None:
        self.pool, self.fill = pool, fill
        self.book, self.room, self.sold, self.broken = np.zeros(pool.window), 0.0, 0.0, 0.0

    def open(self, t: int) -> None:
        """Sell by what is known before slot `t`; what may still be sold then is room for others' windows."""
        pool, trace, self.room = self.pool, self.pool.trace, 0.0
        now, running = trace.capacity[t - 1] - trace.in_use[t - 1], float(self.book[0])
        left = math.floor(pool.standing.left(pool.pace, running))
        if left > 0 and now > 0 and t >= trace.warmup and t + pool.window <= len(trace):
            most = min(left, pool.depth(t, now - self.book, running))
            sold = max(0.0, min(most, math.floor(self.fill * (running + most)) - running))
            self.book += sold
            self.sold += sold
            self.room = most - sold

    def over(self, t: int) -> float:
        """How many windows its owner leaves no room for in slot `t`."""
        return max(0.0, float(self.book[0] - self.pool.shadow.idle[t]))

    def close(self, t: int) -> None:
        """What moved nowhere breaks, and the hour is over."""
        gone = self.over(t)
        self.broken += gone
        self.book -= np.minimum(self.book, gone)
        self.book[:-1] = self.book[1:]
        self.book[-1] = 0


class _Group:
    """The pools of one generation where `fill` of what may be sold is, with or without moves between them."""

    def __init__(self, pools: Sequence[_Pool], fill: float, *, moves: bool) -> None:
        self.shops, self.moves, self.moved = [_Shop(pool, fill) for pool in pools], moves, 0.0

    def pass_hour(self, slots: Mapping[str, int]) -> None:
        """`slots` are those of the pools that have this hour, by name."""
        here = [(shop, slots[shop.pool.trace.name]) for shop in self.shops if shop.pool.trace.name in slots]
        for shop, t in here:
            shop.open(t)
        for shop, t in here if self.moves else ():
            for other in sorted((one for one, _ in here if one is not shop), key=lambda one: -one.room):
                count = min(shop.over(t), math.floor(other.room))
                if count <= 0:
                    break
                # The youngest leave: they run longest, so every later hour has as many fewer.
                leaving = np.minimum(shop.book, count)
                shop.book -= leaving
                other.book += leaving
                other.room -= count
                self.moved += count
        for shop, t in here:
            shop.close(t)

    @property
    def sold(self) -> float:
        return sum(shop.sold for shop in self.shops)

    @property
    def broken(self) -> float:
        return sum(shop.broken for shop in self.shops)


def table(pools: Mapping[str, Trace], window: int = 4) -> dict[str, Any]:
    """By group and share that is sold: windows sold, broken without moves and with them, and the share that moves saved."""
    groups: dict[str, Any] = {}
    for name, starts in GROUPS.items():
        members = [trace for pool, trace in sorted(pools.items()) if _belongs(pool, starts)]
        if len(members) > 1:
            groups[name] = _cells(members, window)
    return {"groups": groups, "window_h": window}


def _belongs(pool: str, starts: Sequence[str]) -> bool:
    return any(pool == start or (start.endswith("_") and pool.startswith(start)) for start in starts)


def _cells(traces: Sequence[Trace], window: int) -> dict[str, str]:
    pools = [_Pool(trace, window) for trace in traces]
    pairs = {fill: [_Group(pools, fill, moves=moves) for moves in (False, True)] for fill in FILLS}
    first = min(trace.first_hour for trace in traces)
    last = max(trace.first_hour + len(trace) for trace in traces)
    for hour in range(first, last):
        slots = {pool.trace.name: t for pool in pools if (t := pool.slot(hour)) is not None}
        for pool in pools:
            if pool.trace.name in slots:
                pool.shadow.step(slots[pool.trace.name], pool.depth)
        for group in (group for pair in pairs.values() for group in pair):
            group.pass_hour(slots)
        for pool in pools:
            if pool.trace.name in slots:
                pool.close(slots[pool.trace.name])
    return {f"{fill:.0%} sold": _told(*pair) for fill, pair in pairs.items()}


def _told(without: _Group, moving: _Group) -> str:
    saved = (without.broken - moving.broken) / without.broken if without.broken else 0.0
    return (
        f"{saved:.0%} saved: {without.broken:.0f} of {without.sold:.0f} broken, "
        f"{moving.broken:.0f} of {moving.sold:.0f} with {moving.moved:.0f} moves"
    )
