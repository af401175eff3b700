"""Sublet's own policy in the benchmark: the very sellers by which the running service decides."""

from __future__ import annotations

from collections.abc import Callable

from sublet.surplus.benchmark.scoring import Book, Trace
from sublet.surplus.seller import Seller, agreed_depth, deepest, ladder_caution, phase_of, sellers

RISK = 0.01
SHADOW_START = 96


class Sublet:
    """Ladder of one or more window lengths, longest first, each at its own risk."""

    def __init__(self, trace: Trace, windows: tuple[int, ...], risk: float = RISK) -> None:
        self.windows = tuple(sorted(windows, reverse=True))
        self.risk = risk
        self._trace = trace
        start = max(SHADOW_START, trace.warmup // 3)
        self.sellers: dict[int, Seller] = sellers(
            trace.in_use, trace.first_hour, start, self.windows, phase_of(trace.name)
        )

    def starts(self, t: int, book: Book) -> dict[int, int]:
        demand, capacity = self._trace.in_use, self._trace.capacity
        room_now = capacity[t - 1] - demand[t - 1]
        started: dict[int, int] = {}
        if room_now <= 0 or t < 1:
            return started
        for window in self.windows:
            seller = self.sellers[window]
            seller.learn(demand, capacity, t)
            offered = sum(started.values())
            # What was just started is longer: it runs through all of this window.
            room = room_now - book.running(window) - offered
            limit = capacity[t - 1] - seller.level(demand, t) - book.total - offered
            risk = self.risk * (ladder_caution(window) if len(self.windows) > 1 else 1.0)
            count = agreed_depth(
                seller.voices(t),
                lambda voice, seller=seller, room=room, risk=risk, limit=limit: deepest(  # type: ignore[misc]
                    voice.futures, room, seller.tail(voice.futures, risk, voice.ratio), limit
                ),
            )
            started[window] = count if t + window <= len(self._trace) else 0
        return started

    def saw(self, t: int, finished: int, broken: int) -> None:
        pass


def single(window: int, risk: float = RISK) -> Callable[[Trace], Sublet]:
    """Sublet with one window length."""
    return lambda trace: Sublet(trace, (window,), risk)


def ladder(windows: tuple[int, ...] = (24, 12, 4, 1), risk: float = RISK) -> Callable[[Trace], Sublet]:
    """Sublet with all window lengths together."""
    return lambda trace: Sublet(trace, windows, risk)
