"""What blocks guarantee: the owner has decided to sell a part of the pool, so no forecast stands behind it. Pure.

Within a block the owner may use what the block leaves of the pool. So, of what works, less what is sold, at every moment

    on sale = max(what the rule finds, what the block keeps off the owner less everything that is sold)

which is the rule for a demand that never rises above the rest of the pool, moment by moment. What the ladder sold counts
against the unsold hours of a block first: those hours are the ladder's as long as nobody has bought them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta

import numpy as np

from sublet.demand.model import Integers
from sublet.surplus.model import REASONS, PoolFacts, Sellable, Sold, StandingBlock, Withheld
from sublet.surplus.rule.holding import hold
from sublet.surplus.rule.ladder import most_at_once
from sublet.surplus.rule.ladder import sellable as by_forecast
from sublet.surplus.rule.view import View
from sublet.values.clock import to_micros
from sublet.values.service_classes import ServiceClass
from sublet.values.windows import Window

Counted = tuple[Window, int]


def kept_for_tenants(facts: PoolFacts, working: float, window: Window) -> int:
    """Accelerators that blocks keep for tenants at every moment of `window`, of `working` ones, whatever the owner needs.

    What does not work, is away or was taken back by an order of the owner is not there to be kept.
    """
    if not facts.blocks:
        return 0
    return max(0, _lowest(facts, working, [], window))


def guaranteed(
    view: View, policy: ServiceClass, window: Window, sold: Sequence[Sold], policies: Mapping[str, ServiceClass]
) -> int:
    """How many accelerators of a class blocks let be sold over `window` on top of `sold`, without any forecast.

    A class that can be taken back needs blocks for as long as that takes, and one that can't a single block that covers all of
    `window`: such a lease is sold from one block or by the forecast, never from both.
    """
    start = max(window.start, view.at)
    if window.end <= start or not any(block.window.overlaps(window) for block in view.facts.blocks):
        return 0
    if policy.notice_s is None:
        return max(rooms(view, window, sold, policies).values(), default=0)
    if not policy.sell:
        return 0
    promised = Window.starting(start, policy.horizon_s((window.end - start).total_seconds()))
    return max(0, _lowest(view.facts, view.working, _held(view, sold, policies), promised))


def rooms(view: View, window: Window, sold: Sequence[Sold], policies: Mapping[str, ServiceClass]) -> dict[str, int]:
    """By block that covers all of `window`, how many accelerators a lease over it that is never taken back may have of it."""
    span = Window(max(window.start, view.at), window.end)
    covering = [item for item in view.facts.blocks if item.window.start <= span.start and span.end <= item.window.end]
    if not covering:
        return {}
    lasting = [item for item in sold if not _recallable(item, policies)]
    most = _lowest(view.facts, view.working, _held(view, lasting, policies), span)
    if most > 0:
        most = min(most, _before_recall(view, span, sold, policies))
    found: dict[str, int] = {}
    for block in covering:
        mine = [(item.window, float(item.count)) for item in sold if item.block_id == block.id]
        found[block.id] = max(0, min(most, block.count - int(most_at_once(mine, span))))
    return found


def chosen(blocks: Sequence[StandingBlock], rooms_of: Mapping[str, int], count: int) -> StandingBlock | None:
    """The block that a lease of `count` accelerators is sold from: of those with room the cheapest, then the fullest."""
    able = [block for block in blocks if rooms_of.get(block.id, 0) >= count]
    return min(able, key=lambda block: (block.min_price_nano or 0, rooms_of[block.id], block.id), default=None)


def at_least(found: Sellable, count: int) -> Sellable:
    """`found`, or `count` of it where that is more; what is withheld becomes less by as many, the last reason first."""
    more = count - found.count
    if more <= 0:
        return found
    kept: list[Withheld] = []
    for item in reversed(found.withheld):
        taken = min(more, item.count)
        more -= taken
        if taken == 0:
            kept.append(item)
        elif taken < item.count:
            left = item.count - taken
            kept.append(Withheld(left, item.reason_code, f"{left} {REASONS[item.reason_code]}"))
    return Sellable(found.pool_id, found.class_name, found.window_s, count - more, tuple(reversed(kept)))


def beyond_forecasts(facts: PoolFacts, class_name: str, window: Window, count: int) -> Sellable:
    """What is on sale over a window that no forecast reaches: `count`, from blocks."""
    rest = facts.capacity - count
    why = f"{rest} because nothing is known so far ahead: only blocks are sold"
    withheld = (Withheld(rest, "too_far", why),) if rest else ()
    return Sellable(facts.pool_id, class_name, int(window.seconds), count, withheld)


def _before_recall(view: View, window: Window, sold: Sequence[Sold], policies: Mapping[str, ServiceClass]) -> int:
    """How many may be sold for the first minutes of `window`, in which what can be taken back may still be there."""
    recalled = [policy for policy in policies.values() if policy.notice_s is not None and policy.by_window]
    last = max(recalled, key=lambda policy: policy.patience_s, default=None)
    if last is None:
        return view.facts.capacity
    end = min(window.end, window.start + timedelta(seconds=last.patience_s))
    soon = Window(window.start, end)
    sure = _lowest(view.facts, view.working, _held(view, sold, policies), soon)
    return max(sure, by_forecast(view, last, soon, sold, policies).count)


def _recallable(item: Sold, policies: Mapping[str, ServiceClass]) -> bool:
    policy = policies.get(item.class_name)
    return policy is not None and policy.notice_s is not None


def _held(view: View, sold: Sequence[Sold], policies: Mapping[str, ServiceClass]) -> list[Counted]:
    spans = [hold(item, policies, view.at) for item in sold]
    return [(window, int(count)) for window, count in spans]


def _lowest(facts: PoolFacts, working: float, held: Sequence[Counted], window: Window) -> int:
    """The least, over `window`, of what blocks keep off the owner and still works, less what is `held`."""
    blocks = [(block.window, block.count) for block in facts.blocks]
    away = [(absence.window, absence.count) for absence in facts.absences]
    away += [(claim.window, claim.count) for claim in facts.reclaims if claim.withdrawn_at is None]
    moments = _moments([*blocks, *away, *held], window)
    works = int(min(facts.capacity - facts.quarantined, working)) - facts.never_sell
    kept = np.minimum(_sums(blocks, moments), works - _sums(away, moments))
    return int((kept - _sums(held, moments)).min())


def _moments(items: Sequence[Counted], window: Window) -> Integers:
    """When in `window` a sum of `items` may change, its start among them; microseconds since the epoch."""
    start, end = to_micros(window.start), to_micros(window.end)
    edges = {to_micros(edge) for item, _ in items for edge in (item.start, item.end)}
    return np.array(sorted({start, *(edge for edge in edges if start < edge < end)}), dtype=np.int64)


def _sums(items: Sequence[Counted], moments: Integers) -> Integers:
    """The sum of the items that hold at each of `moments`."""
    if not items:
        return np.zeros(moments.size, dtype=np.int64)
    counts = np.array([count for _, count in items], dtype=np.int64)
    found = np.zeros(moments.size, dtype=np.int64)
    for edges, sign in (([item.start for item, _ in items], 1), ([item.end for item, _ in items], -1)):
        at = np.array([to_micros(edge) for edge in edges], dtype=np.int64)
        order = np.argsort(at, kind="stable")
        summed = np.concatenate([[0], np.cumsum(counts[order])])
        found += sign * summed[np.searchsorted(at[order], moments, side="right")]
    return found
