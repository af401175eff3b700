"""The record of each pool: lets its shadow live through the hours that were recorded, and shows what came of it."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import numpy as np
import structlog
from sqlalchemy import Connection

from sublet.demand.jobs import Known
from sublet.demand.model import Claim, Series, Tally
from sublet.demand.service import Demand
from sublet.store import Store
from sublet.surplus.blocks.model import without
from sublet.surplus.kept import promised
from sublet.surplus.model import HOUR_S, PoolFacts
from sublet.surplus.ports import Promises
from sublet.surplus.record import store as sql
from sublet.surplus.record.calibration import (
    RECENT_DAYS,
    Day,
    PoolRecord,
    Shadowed,
    Tuning,
    by_cell,
    figures,
    figures_of_leases,
)
from sublet.surplus.record.shadow_book import ShadowBook, hour_of, moment_of
from sublet.surplus.rule.memory import (
    LATE,
    POOLS_MAX,
    Hours,
    KeptOff,
    Reach,
    chained,
    hours_of,
    nothing_kept,
    thinned,
)
from sublet.surplus.service import JOBS_BACK, view_of
from sublet.values.clock import to_micros
from sublet.values.errors import InvalidInputError
from sublet.values.service_classes import ServiceClass
from sublet.values.windows import Window

DAYS_DEFAULT = 90
DAYS_MAX = 400
STEP_US = 300 * 1_000_000
READ_AT_ONCE = timedelta(days=30)
CLAIMS_AHEAD = timedelta(days=90)
LEASES_MAX = 20_000
KEPT_S = 15.0
_log = structlog.get_logger("sublet.surplus")


@dataclass(frozen=True)
class _Read:
    """What was read of a pool's samples in `[since, until)`: at most one in five minutes, and the tally of all of them."""

    series: Series
    since: datetime
    until: datetime
    tally: Tally


@dataclass
class _Life:
    """A pool's shadow with the samples and hours that its next decision needs. `saved` is where the database has it, `kept` what
    blocks kept off the owner in those hours."""

    book: ShadowBook
    saved: datetime | None
    read: _Read | None = None
    hours: Hours | None = None
    kept: Sequence[tuple[Window, int]] = ()


class Record:
    """`facts` tells about a pool by its id, `leases` what became of what was sold of it, `kept_off` what blocks kept off its
    owner: the shadow sells what they left, and demand beyond the rest of the pool was the owner's to queue."""

    def __init__(
        self,
        store: Store,
        demand: Demand,
        facts: Callable[[str], PoolFacts],
        leases: Promises,
        classes: Iterable[ServiceClass],
        kept_off: KeptOff = nothing_kept,
    ) -> None:
        self._store = store
        self._demand = demand
        self._facts = facts
        self._leases = leases
        self._kept_off = kept_off
        self._classes = {policy.name: policy for policy in classes}
        self._lives: dict[str, _Life] = {}
        self._shown: dict[tuple[str, int], PoolRecord] = {}
        self._showing = threading.Lock()
        self._lock = threading.Lock()

    def advance(self, pool_ids: Sequence[str], budget_s: float = math.inf, hours_max: int | None = None) -> int:
        """Let the shadows of the pools live through what has been recorded since; returns how many hours they lived.

        Stops between two hours once `budget_s` seconds are spent or a pool has lived `hours_max`, and goes on from there the
        next time. What fails on one pool does not keep the others; the last such failure is raised at the end.
        """
        with self._lock:
            until = time.monotonic() + budget_s
            lived = 0
            failure: Exception | None = None
            for pool_id in pool_ids:
                if time.monotonic() >= until:
                    break
                try:
                    lived += self._live(pool_id, until, hours_max)
                except Exception as error:
                    _log.warning("shadow_failed", pool=pool_id, exc_info=error)
                    self._lives.pop(pool_id, None)
                    failure = error
            if failure is not None:
                raise failure
            return lived

    def forget(self, pool_id: str) -> None:
        """Rebuild the pool's record from what is stored now: history that it stands on was taken out."""
        with self._lock:
            self._lives.pop(pool_id, None)
            self._store.write(lambda connection: sql.forget(connection, pool_id))

    def of(self, pool_id: str, name: str, days: int = DAYS_DEFAULT) -> PoolRecord:
        """What was promised against what happened over the last `days` days. Raises InvalidInputError."""
        if not 1 <= days <= DAYS_MAX:
            raise InvalidInputError(f"days is {days}; it must be 1 to {DAYS_MAX}")
        shown = self._shown.get((pool_id, days))
        if shown is not None and 0 <= (self._store.clock.now() - shown.at).total_seconds() < KEPT_S:
            return shown
        record = self._of(pool_id, name, days)
        with self._showing:
            if len(self._shown) >= POOLS_MAX:
                self._shown.clear()
            self._shown[pool_id, days] = record
        return record

    def _of(self, pool_id: str, name: str, days: int) -> PoolRecord:
        now, hours = self._store.clock.now(), self._facts(pool_id).patience_hours
        with self._store.read() as connection:
            book = sql.shadow(connection, pool_id)
            today = hour_of(now) // 24
            rows = sql.days_since(connection, pool_id, today - max(days, RECENT_DAYS) + 1)
            stood = sql.standings(connection, pool_id, self._classes.values(), hours)
        cells = by_cell(row for row in rows if row[2].day > today - days)
        latest = by_cell(row for row in rows if row[2].day > today - RECENT_DAYS)
        shadow = [
            figures(
                policy,
                window_s,
                cells.get((policy.name, window_s), []),
                window_s // HOUR_S,
                book.running(policy.name, window_s // HOUR_S),
            )
            for policy in self._classes.values()
            for window_s in policy.windows_s
            if book is not None and (policy.name, window_s // HOUR_S) in book.cells
        ]
        since = now - timedelta(days=days)
        promises = self._leases(pool_id, since, LEASES_MAX)
        if len(promises) == LEASES_MAX:
            since = promises[-1].over_at
        return PoolRecord(
            pool_id=pool_id,
            pool=name,
            at=now,
            days=days,
            leases=figures_of_leases(self._classes.values(), promises),
            leases_since=since,
            shadow=tuple(shadow),
            lived=_lived(book, now),
            tunings=tuple(self._tunings(book, latest)),
            promises=tuple(item for _, item in sorted(stood.items())),
        )

    def _tunings(self, book: ShadowBook | None, latest: Mapping[tuple[str, int], list[Day]]) -> Iterable[Tuning]:
        for window, turn in sorted(book.turns.items(), reverse=True) if book is not None else ():
            window_s = window * HOUR_S
            lately = [
                figures(policy, window_s, latest[policy.name, window_s], window)
                for policy in self._classes.values()
                if not policy.reclaimable and (policy.name, window_s) in latest
            ]
            yield Tuning(
                window_s,
                turn.ratio,
                turn.factor,
                moment_of(turn.since_hour) if turn.since_hour is not None else None,
                moment_of(turn.regime_hour) if turn.regime_hour is not None else None,
                lately[0] if lately else None,
            )

    def _live(self, pool_id: str, until: float, hours_max: int | None) -> int:
        now = self._store.clock.now()
        present = hour_of(now - LATE)
        facts = self._facts(pool_id)
        life = self._life(pool_id, now, facts.patience_hours)
        if life is None or life.book.next_hour >= present:
            return 0
        series = self._read(pool_id, life, moment_of(present))
        last = present if hours_max is None else min(present, life.book.next_hour + hours_max)
        slots = series.slots(HOUR_S)
        first = slots.start_s // HOUR_S
        with self._store.read() as connection:
            life.kept = self._kept_off(pool_id, moment_of(first), connection)
        capacity = without(slots.capacity, first, life.kept)
        claims = self._demand.claims(pool_id, Window(moment_of(life.book.next_hour), now + CLAIMS_AHEAD))
        jobs = self._demand.known_jobs(pool_id, moment_of(life.book.next_hour) - JOBS_BACK, moment_of(last))
        lived = 0
        while life.book.next_hour < last and (time.monotonic() < until or not lived):
            place = life.book.next_hour - first
            self._decide(life, series, claims, jobs, _facts_then(facts, capacity, place - 1))
            idle = None
            if 0 <= place < len(slots) and math.isfinite(slots.in_use[place]):
                idle = max(0, math.floor(capacity[place] - slots.in_use[place]))
            life.book.happen(idle, facts.capacity)
            lived += 1
        self._save(pool_id, life, facts.patience_hours)
        return lived

    def _life(self, pool_id: str, now: datetime, patience_hours: int) -> _Life | None:
        """The pool's shadow where it stands; a new one from the first sample on, also where older ones came in since, or the
        record of a kind of promise is of another rule, risk or patience."""
        with self._store.read() as connection:
            first = self._demand.first_sample_at(connection, pool_id)
            life = self._lives.get(pool_id)
            if life is None and first is not None:
                book = sql.shadow(connection, pool_id)
                if book is not None:
                    kept = sql.standings(connection, pool_id, self._classes.values(), patience_hours)
                    book.standings = {key: stood.standing for key, stood in kept.items()}
                    book.paces = {key: stood.pace for key, stood in kept.items()}
                life = _Life(book, moment_of(book.next_hour)) if book is not None else None
        if first is None:
            return None
        begin = max(hour_of(first), hour_of(now - timedelta(days=DAYS_MAX))) + 1
        wanted = {key for policy in self._classes.values() for key in promised(policy)}
        other = life is not None and life.saved is not None and not wanted <= set(life.book.standings)
        if life is None or begin < life.book.since_hour or other:
            if life is not None:
                self._store.write(lambda connection: sql.forget(connection, pool_id))
            life = _Life(ShadowBook(begin, begin), None)
        if len(self._lives) >= POOLS_MAX and pool_id not in self._lives:
            self._lives.pop(next(iter(self._lives)))
        self._lives[pool_id] = life
        return life

    def _read(self, pool_id: str, life: _Life, until: datetime) -> Series:
        """The samples that the shadow's next hour looks at, up to `until`; all of them again where others came or changed."""
        since = self._begin(pool_id, life.book.next_hour)
        read = life.read
        if read is None or read.since != since or not self._current(pool_id, read):
            read = _Read(self._demand.history(pool_id, since, since), since, since, Tally())
        pieces, tally, start = [read.series], read.tally, read.until
        while start < until:
            end = min(until, start + READ_AT_ONCE)
            piece = self._demand.history(pool_id, start, end)
            tally += Tally.of(piece, since)
            pieces.append(thinned(piece, STEP_US))
            start = end
        life.read = _Read(chained(*pieces), since, start, tally)
        return life.read.series

    def _begin(self, pool_id: str, hour: int) -> datetime:
        return moment_of(Reach.of(self._demand.kept).begin(hour, pool_id))

    def _current(self, pool_id: str, read: _Read) -> bool:
        last = read.until - timedelta(microseconds=1)
        return self._demand.tally(pool_id, read.since, last) == read.tally

    def _decide(
        self, life: _Life, series: Series, claims: Sequence[Claim], jobs: Sequence[Known], facts: PoolFacts
    ) -> None:
        at = moment_of(life.book.next_hour)
        known = _from(series.until(at), self._begin(series.pool, life.book.next_hour))
        hours = hours_of(known, at, Reach.of(self._demand.kept).marked, life.kept)
        life.hours = hours if life.hours is None else life.hours.extended(hours)
        if not life.hours.sellers and life.hours.learned is None:
            life.hours.resume(life.book.learned)
        # What was told at the full hour itself came after the hour began.
        told = [item for item in jobs if item.at < at]
        life.book.sell(view_of(known, life.hours, facts, claims, at, told[-1:]), self._classes)
        life.book.note_sellers(life.hours)

    def _save(self, pool_id: str, life: _Life, patience_hours: int) -> None:
        days = life.book.take_days()
        if life.hours is not None:
            life.book.learned = life.hours.as_state()
        oldest = life.book.next_hour // 24 - DAYS_MAX

        def write(connection: Connection) -> bool:
            if not sql.save(connection, pool_id, life.saved, life.book, days, oldest):
                return False
            sql.save_standings(connection, pool_id, life.book.stood(), self._classes, patience_hours)
            return True

        try:
            saved = self._store.write(write)
        except Exception:
            self._lives.pop(pool_id, None)
            raise
        with self._showing:
            for key in [key for key in self._shown if key[0] == pool_id]:
                del self._shown[key]
        if saved:
            life.saved = moment_of(life.book.next_hour)
        else:
            self._lives.pop(pool_id, None)


def _lived(book: ShadowBook | None, now: datetime) -> Shadowed:
    if book is None:
        return Shadowed(None, None, 0, 0, 0)
    behind = max(0, hour_of(now - LATE) - book.next_hour)
    return Shadowed(moment_of(book.since_hour), moment_of(book.next_hour), book.hours, book.unseen, behind)


def _facts_then(facts: PoolFacts, capacity: np.ndarray[tuple[int], np.dtype[np.float64]], place: int) -> PoolFacts:
    """The pool as it was in that hour, as far as samples tell, but for its blocks: what the settings keep back is as it is now."""
    known = 0 <= place < capacity.size and math.isfinite(capacity[place])
    then = int(capacity[place]) if known else facts.capacity
    return replace(facts, capacity=then, absences=(), quarantined=0, reclaims=(), back_off=None, blocks=())


def _from(series: Series, moment: datetime) -> Series:
    return series.part(int(np.searchsorted(series.times_us, to_micros(moment), side="left")))
