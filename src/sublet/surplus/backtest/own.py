"""Sublet's own policy in the benchmark: the very sellers by which the running service decides."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from sublet.demand.model import Floats
from sublet.surplus.backtest.scoring import Book, Trace
from sublet.surplus.rule.seller import Seller, agreed_depth, deepest, ladder_caution, long_limit, phase_of, sellers
from sublet.surplus.terms import SHADOW_HOURS_MIN
from sublet.values.service_classes import LONG_SHARE

RISK = 0.01


class Sublet:
    """Ladder of one or more window lengths, longest first, each at its own risk.

    At most `long_share` of what could be sold for the shortest is sold for longer ones.
    """

    def __init__(
        self, trace: Trace, windows: tuple[int, ...], risk: float = RISK, long_share: float = LONG_SHARE
    ) -> None:
        self.windows = tuple(sorted(windows, reverse=True))
        self.risk = risk
        self.long_share = long_share
        self._trace = trace
        self.sellers: dict[int, Seller] = sellers(
            trace.in_use, trace.first_hour, SHADOW_HOURS_MIN, self.windows, phase_of(trace.name)
        )

    def starts(self, t: int, book: Book) -> dict[int, int]:
        demand, capacity = self._trace.in_use, self._trace.capacity
        room_now = capacity[t - 1] - demand[t - 1]
        started: dict[int, int] = {}
        if room_now <= 0 or t < 1:
            return started
        shortest = self.windows[-1]
        longer = math.inf
        if len(self.windows) > 1 and self.long_share < 1:
            short = self._depth(shortest, t, np.full(shortest, room_now), math.inf)
            longer = long_limit(self.long_share, short) - (book.total - book.of(shortest))
        for window in self.windows:
            offered = sum(started.values())
            # What was just started is longer: it runs through all of this window.
            room = room_now - book.running(window) - offered
            limit = capacity[t - 1] - self.sellers[window].level(demand, t) - book.total - offered
            if window > shortest:
                limit = min(limit, longer - offered)
            count = self._depth(window, t, room, limit)
            started[window] = count if t + window <= len(self._trace) else 0
        return started

    def _depth(self, window: int, t: int, room: Floats, limit: float) -> int:
        seller = self.sellers[window]
        seller.learn(self._trace.in_use, self._trace.capacity, t)
        risk = self.risk * (ladder_caution(window, self.long_share) if len(self.windows) > 1 else 1.0)
        return agreed_depth(
            seller.voices(t),
            lambda voice: deepest(voice.futures, room, seller.tail(voice.futures, risk, voice.ratio), limit),
        )

    def saw(self, t: int, finished: int, broken: int) -> None:
        pass


def single(window: int, risk: float = RISK) -> Callable[[Trace], Sublet]:
    """Sublet with one window length."""
    return lambda trace: Sublet(trace, (window,), risk)


def ladder(
    windows: tuple[int, ...] = (24, 12, 4, 1), risk: float = RISK, long_share: float = LONG_SHARE
) -> Callable[[Trace], Sublet]:
    """Sublet with all window lengths together."""
    return lambda trace: Sublet(trace, windows, risk, long_share)
