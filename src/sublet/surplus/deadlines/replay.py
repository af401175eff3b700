"""Whether everything that is promised by a deadline ends in time on a path of idle accelerators, run as it will be run.

Least slack first, then the earlier deadline: slack is the hours until the deadline less the hours of service left. What
is open lies in a grid: `open_[slack, left - 1]` is how many accelerators still need `left` hours with so much slack. Adding
up hours by deadline is necessary and not sufficient, since an order runs on each of its accelerators for one hour per
hour; no order of service without knowledge of the future is best for every path (Hong and Leung, 1992). So admission is
proved by replay of the order that runs.

`last_admitted` is numpy; where numba is installed (the extra `fast`), loops that make the same decisions take its place.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from sublet.demand.model import Floats

Flags = NDArray[np.bool_]


def hour_of_service(open_: Floats, free: float) -> tuple[Floats, float, float, float]:
    """One hour passes with `free` accelerators idle: what is open after it, how many ended, how many are late, and how many of
    both had used half of their slack or more.

    What can't end in time any more is late and leaves the grid.
    """
    waiting = open_.ravel()
    served = np.minimum(np.maximum(free - (waiting.cumsum() - waiting), 0.0), waiting).reshape(open_.shape)
    rest = open_ - served
    after = np.zeros_like(open_)
    after[:, :-1] = served[:, 1:]
    after[:-1] += rest[1:]
    late = float(rest[0].sum())
    # Without any slack there is none to be used.
    near = float(served[: (len(open_) + 1) // 2, 0].sum()) if len(open_) > 1 else 0.0
    return after, float(served[:, 0].sum()), late, late + near


def kept(paths: Floats, open_: Floats, more: float) -> Flags:
    """For each of the paths (moments, hours) whether all that is open, and `more` new orders, end in time on it."""
    moments, hours = paths.shape
    slacks, lefts = open_.shape
    now = np.empty((moments, slacks, lefts))
    now[:] = open_
    now[:, -1, -1] += more
    in_time = np.ones(moments, dtype=np.bool_)
    for hour in range(hours):
        waiting = now.reshape(moments, slacks * lefts)
        ahead = waiting.cumsum(axis=1)
        if not ahead[:, -1].any():
            break
        served = paths[:, hour, None] - ahead
        served += waiting
        np.maximum(served, 0.0, out=served)
        np.minimum(served, waiting, out=served)
        waiting -= served
        in_time &= now[:, 0].sum(axis=1) == 0
        done = served.reshape(now.shape)
        after = np.zeros_like(now)
        after[:, :, :-1] = done[:, :, 1:]
        after[:, :-1] += now[:, 1:]
        now = after
    return in_time


def last_admitted(paths: Floats, open_: Floats, most: float) -> float:
    """The largest count of new orders, at most `most`, with which everything ends in time on every path.

    Path by path the count is lowered by halving until it is kept; 0 where what is open is late on a path already. At the
    end the paths that were asked about more are asked again, since fewer orders are not proved by more.
    """
    count = most
    asked = np.zeros(len(paths))
    while count > 0 and (asked != count).any():
        places = np.flatnonzero(asked != count)
        failing = np.flatnonzero(~kept(paths[places], open_, count))
        until = int(failing[0]) if failing.size else places.size
        asked[places[:until]] = count
        if failing.size:
            place = int(places[until])
            count = _halved(paths[place : place + 1], open_, count)
            asked[place] = count
    return count


def _halved(path: Floats, open_: Floats, most: float) -> float:
    if not kept(path, open_, 0.0)[0]:
        return 0.0
    low = 0.0
    while most - low > 1:
        middle = float(np.floor((low + most) / 2))
        if kept(path, open_, middle)[0]:
            low = middle
        else:
            most = middle
    return low


def _kept_loop(path: Floats, open_: Floats, more: float) -> bool:
    """`kept` of one path as loops, for the compiler."""
    slacks, lefts = open_.shape
    now = open_.copy()
    after = np.zeros_like(open_)
    now[slacks - 1, lefts - 1] += more
    waiting_in_all = now.sum()
    least = path.copy()
    for hour in range(path.size - 2, -1, -1):
        least[hour] = min(least[hour], least[hour + 1])
    # All that is open has so much slack at least, and at most.
    low, high = 0, slacks - 1
    for hour in range(path.size):
        # Where all that is open may run at once from now on, nothing can be late.
        if waiting_in_all <= least[hour]:
            return True
        free = path[hour]
        waiting_in_all = 0.0
        next_low, next_high = slacks, -1
        for slack in range(low, high + 1):
            for left in range(lefts):
                waiting = now[slack, left]
                if waiting == 0.0:
                    continue
                now[slack, left] = 0.0
                served = min(waiting, free)
                free -= served
                if left > 0 and served > 0.0:
                    after[slack, left - 1] += served
                    waiting_in_all += served
                    next_low, next_high = min(next_low, slack), max(next_high, slack)
                if waiting > served:
                    if slack == 0:
                        return False
                    after[slack - 1, left] += waiting - served
                    waiting_in_all += waiting - served
                    next_low, next_high = min(next_low, slack - 1), max(next_high, slack - 1)
        low, high = next_low, next_high
        now, after = after, now
    return True


def _last_admitted_loop(paths: Floats, open_: Floats, most: float, is_kept: Any) -> float:
    """`last_admitted` as loops, for the compiler."""
    count = most
    asked = np.zeros(paths.shape[0])
    moment = 0
    while count > 0 and moment < paths.shape[0]:
        path = paths[moment]
        if asked[moment] == count or is_kept(path, open_, count):
            asked[moment] = count
            moment += 1
            continue
        if not is_kept(path, open_, 0.0):
            return 0.0
        low, high = 0.0, count
        while high - low > 1:
            middle = np.floor((low + high) / 2)
            if is_kept(path, open_, middle):
                low = middle
            else:
                high = middle
        count = low
        asked[moment] = count
        # Those before it were asked about more.
        moment = 0
    return count


Admitted = Callable[[Floats, Floats, float], float]


@cache
def compiled() -> Admitted | None:
    """`last_admitted` compiled by numba, None where it is not installed."""
    try:
        from numba import njit
    except ImportError:
        return None
    is_kept, last = njit(cache=True)(_kept_loop), njit(_last_admitted_loop)

    # Known when it is compiled: a function that is given as an argument is looked up again in each call, which takes longer than
    # most replays.
    @njit  # type: ignore[untyped-decorator]
    def loop(paths: Floats, open_: Floats, most: float) -> float:
        return last(paths, open_, most, is_kept)  # type: ignore[no-any-return]

    return cast(Admitted, loop)


def fastest() -> Admitted:
    """The compiled `last_admitted` where there is one, else the one in numpy."""
    return compiled() or last_admitted
