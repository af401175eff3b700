"""Decides what may be sold now, from samples, claims, settings and the book."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Hashable, Iterable, Sequence
from copy import copy
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cache
from typing import Protocol

import numpy as np
from sqlalchemy import Connection

from sublet.demand.forecast.forecaster import recent
from sublet.demand.jobs import FRESH_HOURS, Known, latest_known
from sublet.demand.model import Claim, Series
from sublet.demand.service import Demand
from sublet.surplus.deadlines import book as deadlines
from sublet.surplus.deadlines.kinds import Idle
from sublet.surplus.model import (
    HOUR_S,
    IN_BLOCK,
    BackOff,
    BeyondForecastError,
    Evidence,
    Ladder,
    PoolFacts,
    Promised,
    Sellable,
    Sold,
    StandingBlock,
    Standings,
    Withheld,
)
from sublet.surplus.ports import Book, Earned, Facts, Free, Orders, Quota, Unchanged
from sublet.surplus.rule import ladder as rule
from sublet.surplus.rule.blocks import at_least, beyond_forecasts, chosen, guaranteed, rooms
from sublet.surplus.rule.earned import as_dict
from sublet.surplus.rule.holding import standing as standing_at
from sublet.surplus.rule.memory import LIVED_LENGTHS, Hours, KeptOff, Learned, Memory, nothing_kept
from sublet.surplus.rule.seller import REGIME_RATIO
from sublet.surplus.rule.view import View, claims_met
from sublet.values.clock import Clock, as_utc, format_time, from_micros, to_micros
from sublet.values.errors import InvalidInputError
from sublet.values.service_classes import WINDOW_S_MAX, ServiceClass, UnknownClassError
from sublet.values.windows import Window

VIEW_S_MAX = 1.0
"""Seconds for which a view stands if nothing changes but the time."""
POOLS_MAX = 1_000
WARM_HOURS = 24
"""Hours that are learned at once: anyone who asks meanwhile waits for no more."""

FINE_STEP_S_MAX = 300
FINE_HISTORY = timedelta(days=7)
STALE_STEPS = 4
STALE_S_MIN = 120
LATEST_SAMPLES = 32
JOBS_BACK = timedelta(hours=FRESH_HOURS + 1)
AHEAD_MAX = timedelta(seconds=WINDOW_S_MAX)
_NEEDED = "{} needed by what is promised by a deadline"


class Beside(Protocol):
    def __call__(self, found: Sellable, window: Window, above: int = 0, /) -> Sellable:
        """How many of `found` may be sold over `window` if `above` is sold at the same time."""
        ...


def _no_orders(pool_id: str, connection: Connection) -> Sequence[Promised]:
    return ()


def _any(pool_id: str, window: Window, connection: Connection) -> int:
    return sys.maxsize


def _no_quota(pool_id: str, class_name: str, window: Window, connection: Connection) -> int | None:
    return None


@dataclass(frozen=True, slots=True)
class _Known:
    """The basis of a decision about a pool: its facts, what is sold, and what is promised by a deadline."""

    view: View
    booked: Sequence[Sold]
    promised: Sequence[Promised]


class Surplus:
    """The use cases of the surplus.

    `facts` returns the facts of a pool by its id or name, `book` what is sold of it, `learned` the learned state of its record,
    `free` how many accelerators nobody holds, `kept_off` the owner's work that blocks displaced, `orders` what is promised by a
    deadline, `quota` what a better use leaves, and `unchanged` a value that is the same while nothing that a view rests on
    changes. Each reads through the given connection.
    """

    def __init__(
        self,
        demand: Demand,
        facts: Facts,
        book: Book,
        classes: Iterable[ServiceClass],
        clock: Clock,
        learned: Learned = lambda pool_id, connection: None,
        free: Free = _any,
        standings: Earned | None = None,
        kept_off: KeptOff = nothing_kept,
        orders: Orders = _no_orders,
        quota: Quota = _no_quota,
        unchanged: Unchanged = lambda pool_id, connection: None,
    ) -> None:
        self._orders = orders
        self._quota = quota
        self._unchanged = unchanged
        self._views: dict[str, tuple[Hashable, View]] = {}
        self._remembered: dict[str, _Known] | None = None
        self._standings = standings
        self._demand = demand
        self._facts = facts
        self._book = book
        self._clock = clock
        self._free = free
        self._memory = Memory(demand, learned, kept_off)
        # The strictest class is decided first: it needs the deepest units.
        strictest_first = sorted(classes, key=lambda policy: -policy.strictness)
        self._classes = {policy.name: policy for policy in strictest_first}

    @property
    def classes(self) -> tuple[ServiceClass, ...]:
        """The classes of service, strictest first."""
        return tuple(self._classes.values())

    @property
    def ladder_classes(self) -> tuple[ServiceClass, ...]:
        """The classes that are sold by windows, strictest first."""
        return tuple(policy for policy in self._classes.values() if policy.by_window)

    def ladder(self, pool_id: str, at: datetime | None = None, sold: Sequence[Sold] | None = None) -> Ladder:
        """Everything that the pool has on sale at `at` (now by default), and why the rest is withheld."""
        with self._demand.read() as connection:
            view = self.view(pool_id, at, connection)
            pool_id = view.facts.pool_id
            booked = list(self._book(pool_id, connection) if sold is None else sold)
            lengths = {window_s for policy in self.ladder_classes for window_s in policy.windows_s}
            free = {
                window_s: self._free(pool_id, Window.starting(view.at, window_s), connection)
                for window_s in lengths
                if sold is None
            }
            promised = self._orders(pool_id, connection) if sold is None else ()
            quotas = {
                (policy.name, window_s): self._quota(
                    pool_id, policy.name, Window.starting(view.at, window_s), connection
                )
                for policy in self.ladder_classes
                for window_s in policy.windows_s
                if sold is None
            }
        beside = self._beside(view, booked, promised)
        standing = [item for item in booked if item.window.end > view.at]
        rungs: list[Sellable] = []
        alone: list[Sellable] = []
        offered: list[Sold] = []
        for policy in self.ladder_classes:
            short = rule.short_count(view, policy, self._classes)
            singles = [
                at_least(
                    item,
                    guaranteed(view, policy, Window.starting(view.at, item.window_s), standing, self._classes),
                )
                for item in rule.offers(view, policy, standing, self._classes, short)
            ]
            for window_s, single in zip(policy.windows_s, singles, strict=True):
                window = Window.starting(view.at, window_s)
                before = [*standing, *offered]
                both = rule.sellable(view, policy, window, before, self._classes, short)
                both = at_least(both, guaranteed(view, policy, window, before, self._classes))
                rung = _split_already_sold(both, single)
                if window_s in free:
                    above = sum(item.count for item in offered)
                    single = beside(_of_free(single, free[window_s], view, window), window)
                    rung = beside(_of_free(rung, max(0, free[window_s] - above), view, window), window, above)
                    kept = guaranteed(view, policy, window, standing, self._classes)
                    single, rung = (_for_better(each, quotas[policy.name, window_s], kept) for each in (single, rung))
                alone.append(single)
                rungs.append(rung)
                if rung.count:
                    offered.append(self._as_sold(view, policy, rung.count, window, before))
        evidence = Evidence(view.in_use, view.sample_age_s, view.history_s, view.hours.t, _methods(view))
        now_sold = sum(item.count for item in standing if item.window.contains(view.at))
        notes = tuple(_notes(view))
        told = tuple(as_dict(stood, view.at) for _, stood in sorted((view.standings or {}).items()))
        return Ladder(
            pool_id, view.at, view.facts.capacity, now_sold, tuple(rungs), tuple(alone), evidence, notes, told
        )

    def sellable(
        self,
        pool_id: str,
        class_name: str,
        window: Window,
        at: datetime | None = None,
        sold: Sequence[Sold] | None = None,
        connection: Connection | None = None,
        notice_s: int | None = None,
    ) -> Sellable:
        """How many of `class_name`, with `notice_s` if it is longer, may be sold over `window` beside `sold` (or the book).

        With `connection`, everything is read inside the caller's transaction. If `sold` is given, the caller must check whether
        single accelerators are free for the whole window. Raises UnknownClassError, and InvalidInputError for a window that is
        over or reaches beyond AHEAD_MAX, or for a class that is not sold by windows.
        """
        if class_name not in self._classes:
            raise UnknownClassError(f"there is no class {class_name!r}; use one of {', '.join(self._classes)}")
        if not self._classes[class_name].by_window:
            raise InvalidInputError(f"class {class_name} is sold as accelerator-hours by a deadline, not as a window")
        if connection is None:
            with self._demand.read() as reading:
                return self.sellable(pool_id, class_name, window, at, sold, reading, notice_s)
        view = (known := self._known(pool_id, at, connection)).view
        policy = self._classes[class_name].with_notice(notice_s)
        if window.end <= view.at:
            raise InvalidInputError(
                f"the window ends at {format_time(window.end)}, which is in the past; choose a later one"
            )
        booked = known.booked if sold is None else sold
        standing = standing_at(booked, view.at)
        kept = guaranteed(view, policy, window, standing, self._classes)
        if max(window.start + timedelta(days=1), window.end - timedelta(days=1)) <= view.at + AHEAD_MAX:
            found = at_least(rule.sellable(view, policy, window, standing, self._classes), kept)
        elif kept:
            found = beyond_forecasts(view.facts, class_name, window, kept)
        else:
            raise BeyondForecastError(
                f"the window from {format_time(window.start)} to {format_time(window.end)} reaches further than "
                f"{AHEAD_MAX.days} days ahead, beyond the forecast; request an earlier one, or a block"
            )
        if sold is not None or not found.count:
            return found
        found = _of_free(found, self._free(view.facts.pool_id, window, connection), view, window)
        found = self._beside(view, booked, known.promised)(found, window)
        return _for_better(found, self._quota(view.facts.pool_id, class_name, window, connection), kept)

    def offer(
        self, pool_id: str, class_name: str, wanted: Promised, connection: Connection, without: str = ""
    ) -> deadlines.Offer:
        """Whether `wanted` can be promised by its deadline in addition to everything that is sold or held of the pool, except
        the order `without`. Raises UnknownClassError, and InvalidInputError for an order that no pool could promise."""
        if class_name not in self._classes:
            raise UnknownClassError(f"there is no class {class_name!r}; use one of {', '.join(self._classes)}")
        known = self._known(pool_id, None, connection)
        view = known.view
        promised = [item for item in known.promised if item.id != without]
        idle = deadlines.idle_of(view, known.booked, self._classes)
        return deadlines.offer(view, idle, self._classes[class_name], wanted, promised)

    def orders_on_sale(self, pool_id: str) -> list[deadlines.OnSale]:
        """How many accelerators could be promised now for each kind of deadline order."""
        sold = [policy for policy in self._classes.values() if policy.sell and not policy.by_window]
        if not sold:
            return []
        with self._demand.read() as connection:
            known = self._known(pool_id, None, connection)
            view, booked, promised = known.view, known.booked, known.promised
        if not view.facts.pauses:
            return []
        idle = deadlines.idle_of(view, booked, self._classes)
        return [item for policy in sold for item in deadlines.on_sale(view, idle, policy, promised)]

    def _beside(self, view: View, booked: Sequence[Sold], promised: Sequence[Promised]) -> Beside:
        """How many of a count over a window may be sold next to deadline orders, if `above` is sold with it."""

        @cache
        def idle() -> Idle:
            return deadlines.idle_of(view, booked, self._classes)

        def limited(found: Sellable, window: Window, above: int = 0) -> Sellable:
            if not promised or not found.count:
                return found
            most, kept = deadlines.beside(view, idle, window, found.count + above, promised)
            return found if kept is None else _at_most(found, max(0, most - above), kept.reason_code, _NEEDED)

        return limited

    def block_rooms(self, pool_id: str, window: Window, connection: Connection) -> list[tuple[StandingBlock, int]]:
        """The pool's blocks that cover all of `window`, and how many accelerators a lease over it may have from each."""
        known = self._known(pool_id, None, connection)
        view, booked = known.view, known.booked
        if not view.facts.blocks or window.end <= view.at:
            return []
        standing = [item for item in booked if item.window.end > view.at]
        found = rooms(view, window, standing, self._classes)
        if promised := known.promised:
            # Deadline orders may use the unsold part of blocks.
            idle = cache(lambda: deadlines.idle_of(view, booked, self._classes))
            found = {
                block_id: deadlines.beside(view, idle, window, count, promised)[0] for block_id, count in found.items()
            }
        return [(block, found[block.id]) for block in view.facts.blocks if block.id in found]

    def _as_sold(self, view: View, policy: ServiceClass, count: int, window: Window, before: Sequence[Sold]) -> Sold:
        """A rung's offer as the next rung counts it: from a block if it fits one, as admission would sell it."""
        if policy.notice_s is None and view.facts.blocks:
            left = rooms(view, window, before, self._classes)
            block = chosen(view.facts.blocks, left, count)
            if block is not None:
                return Sold(count, IN_BLOCK, window, block.id)
        return Sold(count, policy.name, window)

    def warm(self, pool_id: str, budget_s: float) -> bool:
        """Learn in `budget_s` seconds what the next promise of the pool would have to learn first; whether nothing is left. No answer
        depends on it, only how soon it comes."""
        until = time.monotonic() + budget_s
        with self._demand.read() as connection:
            facts = self._facts(pool_id, connection)
            hours = self._memory.recall(facts.pool_id, self._clock.now(), connection).hours
        windows = [window for policy in self.ladder_classes if policy.sell for window in policy.windows_s]
        for length in LIVED_LENGTHS:
            # A window that begins within an hour reaches one hour further.
            if length * HOUR_S > max(windows, default=0) + HOUR_S:
                break
            while hours.catch_up(length, WARM_HOURS):
                if time.monotonic() >= until:
                    return False
        return True

    def remembering(self) -> Surplus:
        """The same surplus for many questions inside one transaction that sells nothing. It reads each pool only once."""
        found = copy(self)
        found._remembered = {}
        return found

    def _known(self, pool_id: str, at: datetime | None, connection: Connection) -> _Known:
        if self._remembered is None or at is not None:
            return self._read(pool_id, at, connection)
        if pool_id not in self._remembered:
            self._remembered[pool_id] = self._read(pool_id, at, connection)
        return self._remembered[pool_id]

    def _read(self, pool_id: str, at: datetime | None, connection: Connection) -> _Known:
        view = self.view(pool_id, at, connection)
        return _Known(view, self._book(view.facts.pool_id, connection), self._orders(view.facts.pool_id, connection))

    def view(self, pool_id: str, at: datetime | None = None, connection: Connection | None = None) -> View:
        """What was known about the pool at `at`, and nothing later. Without `at`, a view of less than VIEW_S_MAX seconds ago if
        nothing that it rests on has changed since: one sale after another need not look again."""
        if connection is None:
            with self._demand.read() as reading:
                return self.view(pool_id, at, reading)
        moment = as_utc(at) if at else self._clock.now()
        state = self._unchanged(pool_id, connection) if at is None else None
        if state is None:
            return self._look(pool_id, moment, connection)
        known = self._views.get(pool_id)
        if known is None or known[0] != state or not 0 <= (moment - known[1].at).total_seconds() < VIEW_S_MAX:
            if len(self._views) >= POOLS_MAX:
                self._views.clear()
            known = self._views[pool_id] = (state, self._look(pool_id, moment, connection))
        return known[1]

    def _look(self, pool_id: str, moment: datetime, connection: Connection) -> View:
        facts = self._facts(pool_id, connection)
        known = self._memory.recall(facts.pool_id, moment, connection)
        claims = self._demand.claims(facts.pool_id, Window(moment, moment + 2 * AHEAD_MAX), connection)
        told = self._demand.known_jobs(facts.pool_id, moment - JOBS_BACK, moment, connection)
        view = view_of(known.series, known.hours, facts, claims, moment, told)
        if self._standings is None:
            return view
        return replace(view, standings=self.standings(facts, connection))

    def standings(self, facts: PoolFacts, connection: Connection) -> Standings:
        """The standing of each kind of promise on a pool; empty if none is stored."""
        if self._standings is None:
            return {}
        return self._standings(facts.pool_id, self.classes, facts.patience_hours, connection)


def view_of(
    history: Series,
    hours: Hours,
    facts: PoolFacts,
    claims: Sequence[Claim],
    at: datetime,
    jobs: Sequence[Known] = (),
) -> View:
    """The view of a pool from `history` (all of it at or before `at`), its whole hours, and reported jobs."""
    at_us = to_micros(at)
    fine = None
    step_s = _latest_step_s(history)
    if len(history) and step_s <= FINE_STEP_S_MAX:
        slot_s = max(60, math.ceil(step_s))
        fine = recent(history, at_us, slot_s, int(FINE_HISTORY.total_seconds()) // slot_s)
    age_s = (at_us - int(history.times_us[-1])) / 1e6 if len(history) else None
    stale = age_s is None or age_s > max(STALE_S_MIN, STALE_STEPS * step_s)
    in_use = float(history.in_use[-1]) if len(history) else 0.0
    seen_s = _seen_s(history, hours, at_us)
    known = tuple(claim for claim in claims if claim.created_at <= at)
    begun = (claim for claim in (*known, *facts.reclaims) if claim.window.start <= at < claim.needed.end)
    running = list(begun) if len(history) else []
    before = {claim.id: _before(history, claim) for claim in running}
    met = claims_met((*known, *facts.reclaims), at, in_use, before)
    working = float(history.capacity[-1]) if len(history) else math.inf
    settled = _settled(history, facts.back_off, at_us)
    need = latest_known(jobs, at, at_us // (HOUR_S * 1_000_000))
    return View(at, facts, in_use, working, stale, age_s, seen_s, hours, fine, known, met, before, settled, known=need)


def _settled(history: Series, back_off: BackOff | None, at_us: int) -> float:
    """The demand that counts for sales after demand reclaimed capacity: the highest during the back-off, at most the level at
    the reclaim."""
    if back_off is None or len(history) == 0:
        return 0.0
    lately = history.times_us >= at_us - back_off.hold_s * 1_000_000
    return min(back_off.level, float(history.in_use[lately].max(initial=float(history.in_use[-1]))))


def _seen_s(history: Series, hours: Hours, at_us: int) -> float:
    if len(history) == 0:
        return 0.0
    whole_hours = int(np.isfinite(hours.in_use).sum())
    return float(min((whole_hours + 1) * HOUR_S, (at_us - int(history.times_us[0])) / 1e6))


def _latest_step_s(history: Series) -> float:
    """The current interval between samples. An imported history may be hourly although samples now come every few seconds."""
    latest = history.times_us[-LATEST_SAMPLES:]
    return float(np.median(np.diff(latest))) / 1e6 if latest.size > 1 else float(history.step_s)


def _methods(view: View) -> str:
    """The forecasting method for each length, such as `hours: 1 h; day_high, levels: 4 h; day_high: 24 h`."""
    lengths: dict[str, list[str]] = {}
    for slots, seller in view.asked():
        lengths.setdefault(", ".join(seller.shares(view.hours.t)), []).append(f"{slots} h")
    return "; ".join(f"{method}: {', '.join(found)}" for method, found in lengths.items()) or "none"


def _notes(view: View) -> Iterable[str]:
    for slots, seller in view.asked():
        if seller.since is not None and list(seller.shares(view.hours.t)) == [seller.method]:
            since = format_time(from_micros((view.hours.first_hour + seller.since) * HOUR_S * 1_000_000))
            yield f"promises of {slots} h are forecast by {seller.method} since {since}: its record was the best"
        if seller.ratio >= REGIME_RATIO:
            yield (
                f"demand broke promises of {slots} h {seller.ratio:.1f} times as often as forecast in the fading record "
                "of the last weeks: less of them is sold until it calms"
            )


def _before(history: Series, claim: Claim) -> float:
    index = int(np.searchsorted(history.times_us, to_micros(claim.window.start), side="left")) - 1
    return float(history.in_use[index]) if index >= 0 else float(history.in_use.max())


def _of_free(found: Sellable, free: int, view: View, window: Window) -> Sellable:
    """Limit the count to accelerators that are free for the whole window and that no reclaim within it holds. Capacity that is
    known to be reclaimed during the window is not sold, whatever the notice of the class."""
    kept = math.ceil(rule.most_at_once([(item.window, float(item.count)) for item in view.facts.reclaims], window))
    why = "{} free for parts of the window only, so that no accelerator is free for all of it"
    found = _at_most(found, free, "fragmented", why)
    return _at_most(found, max(0, free - kept), "reclaimed", "{} kept for the owner, who takes them back in the window")


def _for_better(found: Sellable, quota: int | None, kept: int) -> Sellable:
    """Limit the count to a quota, but not below what blocks guarantee."""
    if quota is None:
        return found
    return _at_most(found, max(quota, min(kept, found.count)), "better_use", "{} kept for uses that earn more")


def _at_most(found: Sellable, most: int, code: str, why: str) -> Sellable:
    spare = found.count - most
    if spare <= 0:
        return found
    more = spare + sum(item.count for item in found.withheld if item.reason_code == code)
    others = [item for item in found.withheld if item.reason_code != code]
    withheld = (*others, Withheld(more, code, why.format(more)))
    return Sellable(found.pool_id, found.class_name, found.window_s, most, withheld)


def _split_already_sold(both: Sellable, single: Sellable) -> Sellable:
    """Separate what is already sold from what the ladder offers above this rung."""
    before = sum(item.count for item in single.withheld if item.reason_code == "already_sold")
    withheld = []
    for item in both.withheld:
        deeper = item.count - before if item.reason_code == "already_sold" else 0
        if deeper > 0:
            if before:
                withheld.append(Withheld(before, "already_sold", f"{before} sold already for part of the window"))
            withheld.append(Withheld(deeper, "sold_deeper", f"{deeper} on sale above as longer or firmer windows"))
        else:
            withheld.append(item)
    return Sellable(both.pool_id, both.class_name, both.window_s, both.count, tuple(withheld))
