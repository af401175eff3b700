"""Stores samples and claims, and returns them as a series."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

import numpy as np
from sqlalchemy import Connection

from sublet.demand import imports
from sublet.demand import store as sql
from sublet.demand.feeds.csv_series import series_of_body
from sublet.demand.imports import Import
from sublet.demand.jobs import Known, KnownJob
from sublet.demand.model import (
    ACCELERATORS_MAX,
    PATIENCE_MAX,
    REASON_CHARACTERS_MAX,
    Claim,
    Findings,
    Sample,
    Series,
    Tally,
    TeamUse,
    series_of,
)
from sublet.store import Store
from sublet.store.paging import Page, PageRequest
from sublet.values.clock import EPOCH, Clock, as_utc, format_time, from_micros, to_micros
from sublet.values.errors import ConflictError, InvalidInputError, NotFoundError
from sublet.values.ids import new_id
from sublet.values.text import checked_line
from sublet.values.windows import Window

SAMPLES_PER_WRITE_MAX = 100_000
SAMPLES_AT_ONCE = 10_000
PAUSE_S = 0.1
"""Between the parts of a long import: anyone who waits for the database asks for it again within this."""

CLAIMS_MAX = 1_000
AHEAD_OF_CLOCK_S_MAX = 300
CLAIM_AHEAD = timedelta(days=3660)


@dataclass(frozen=True, slots=True)
class Recorded:
    """The result of recording samples."""

    pool_id: str
    taken: int
    expired: int
    findings: Findings
    kept_from: datetime | None = None
    """Older samples than this are dropped."""

    def as_dict(self) -> dict[str, object]:
        return {
            "pool_id": self.pool_id,
            "taken": self.taken,
            "expired": self.expired,
            "kept_from": format_time(self.kept_from) if self.kept_from else None,
            "findings": self.findings.as_dict(),
            "notes": self.findings.sentences(),
        }


class Demand:
    """The use cases of demand. Samples older than `history_days` are dropped as new ones come in."""

    def __init__(
        self, store: Store, history_days: int = 400, pause: Callable[[], None] = lambda: time.sleep(PAUSE_S)
    ) -> None:
        """`pause` lets others write between two parts of a long import."""
        self._store = store
        self._history = timedelta(days=history_days)
        self._pause = pause

    @property
    def clock(self) -> Clock:
        """The clock."""
        return self._store.clock

    @property
    def kept(self) -> timedelta:
        """Samples up to this age, counted from the newest one, are never deleted."""
        return self._history

    def record_samples(self, pool_id: str, samples: Sequence[Sample]) -> Recorded:
        """Store samples of the pool. Storing the same ones again changes nothing.

        Raises InvalidInputError for a sample from the future (a clock that is ahead would hide real demand).
        """
        if len(samples) > SAMPLES_PER_WRITE_MAX:
            raise InvalidInputError(f"{len(samples)} samples were sent at once; send at most {SAMPLES_PER_WRITE_MAX}")
        series = series_of(pool_id, samples)
        self._refuse_future(series, "the sample")
        return self._keep(series)

    def record_team_use(self, pool_id: str, use: Sequence[TeamUse]) -> None:
        """Keep what internal teams used at the moments of samples; telling a moment again replaces it. Raises
        InvalidInputError for a moment in the future, more than SAMPLES_PER_WRITE_MAX numbers, and a team twice."""
        latest = self._store.clock.now() + timedelta(seconds=AHEAD_OF_CLOCK_S_MAX)
        if len(use) > SAMPLES_PER_WRITE_MAX:
            raise InvalidInputError(
                f"{len(use)} numbers of teams were sent at once; send at most {SAMPLES_PER_WRITE_MAX}"
            )
        if any(item.at > latest for item in use):
            raise InvalidInputError(
                "what a team used lies in the future; check the clock of the machine that reports it"
            )
        if len({(item.at, item.team) for item in use}) < len(use):
            raise InvalidInputError(
                "a team is named twice for the same moment; send one number for each team", field="teams"
            )
        self._store.write(lambda connection: sql.save_team_use(connection, pool_id, use))

    def record_jobs(self, pool_id: str, at: datetime, capacity: float, jobs: Sequence[KnownJob]) -> Known:
        """Keep what the jobs that a batch system knew at `at` will need of `capacity` accelerators. Of several in an hour the
        newest stays. Raises InvalidInputError, for a moment in the future, too."""
        if at > self._store.clock.now() + timedelta(seconds=AHEAD_OF_CLOCK_S_MAX):
            raise InvalidInputError(f"the jobs at {format_time(at)} are in the future; check the clock of the source")
        known = Known.of(jobs, at, capacity)
        self._store.write(lambda connection: sql.keep_known(connection, pool_id, known))
        return known

    def known_jobs(
        self, pool_id: str, since: datetime, until: datetime, connection: Connection | None = None
    ) -> list[Known]:
        """What was told of the pool's jobs in `[since, until]`, at most once an hour, the oldest first."""
        if connection is not None:
            return sql.known_between(connection, pool_id, as_utc(since), as_utc(until))
        with self._store.read() as reading:
            return sql.known_between(reading, pool_id, as_utc(since), as_utc(until))

    def import_history(
        self, pool_id: str, content: bytes, accelerators: int = 0, source: str = "", *, force: bool = False
    ) -> Recorded:
        """Keep the content of a CSV file (`time,capacity,in_use`), gzipped or not, as an import that can be undone; of a file with
        a mistake nothing is kept.

        A long one is written in parts, so that others can write meanwhile: one that is cut off is completed by importing it
        again. History may be older than `history_days`: what is imported counts from its own last sample.
        `accelerators` is how many the pool has; a file of a far larger pool is refused unless `force`.
        Raises BadSeriesError naming the line, InvalidInputError for a sample from the future.
        """
        series = series_of_body(content, pool_id)
        self._refuse_future(series, "the file: the row")
        if not force:
            imports.refuse_another_pools(series, accelerators)
        return self._keep(series, checked_line(source, "source", REASON_CHARACTERS_MAX))

    def import_page(self, pool_id: str, wanted: PageRequest) -> Page[Import]:
        """A page of the imports of a pool, newest first."""
        with self._store.read() as connection:
            return imports.page_of(connection, pool_id, wanted)

    def undo_import(self, import_id: str) -> Import:
        """Restore the samples that an import replaced, unless they were written again since. Idempotent.

        Raises NotFoundError.
        """

        def write(connection: Connection) -> Import:
            found = imports.one(connection, import_id)
            if found is None:
                raise NotFoundError(f"there is no import {import_id!r}; `sublet demand imports` lists them")
            if found.undone_at is None:
                imports.undo(connection, found, self._store.clock.now())
            return imports.one(connection, import_id) or found

        return self._store.write(write)

    def read(self) -> AbstractContextManager[Connection]:
        """A connection that sees demand at one moment, for a caller that asks several things of it."""
        return self._store.read()

    def history(self, pool_id: str, since: datetime, until: datetime, connection: Connection | None = None) -> Series:
        """The pool's samples in `[since, until)`, strictly the past of `until`."""
        if connection is not None:
            return sql.samples_between(connection, pool_id, as_utc(since), as_utc(until))
        with self._store.read() as reading:
            return sql.samples_between(reading, pool_id, as_utc(since), as_utc(until))

    def sample_page(
        self, pool_id: str, since: datetime, until: datetime, wanted: PageRequest
    ) -> tuple[Series, str | None]:
        """The newest samples in `[since, until)`, at most `wanted.limit`, and the cursor to those before them."""
        with self._store.read() as connection:
            return sql.sample_page(connection, pool_id, as_utc(since), as_utc(until), wanted)

    def first_sample_at(self, connection: Connection, pool_id: str) -> datetime | None:
        """When the pool's demand was first recorded, of what is kept."""
        return sql.first_sample_at(connection, pool_id)

    def imported(self, pool_id: str, connection: Connection | None = None) -> imports.Mark:
        """How far the imports of a pool have come. Anyone who remembers samples sees by it that others came in between, without
        counting them."""
        if connection is not None:
            return imports.mark(connection, pool_id)
        with self._store.read() as reading:
            return imports.mark(reading, pool_id)

    def tally(
        self,
        pool_id: str,
        first: datetime,
        last: datetime,
        valued_from: datetime | None = None,
        connection: Connection | None = None,
    ) -> Tally:
        """What the samples from `first` to `last` add up to, their values from `valued_from` on (by default, all).

        Anyone who remembers them sees by it whether others came in between, or one was corrected.
        """
        valued_from = as_utc(valued_from or first)
        if connection is not None:
            return sql.tally(connection, pool_id, as_utc(first), as_utc(last), valued_from)
        with self._store.read() as reading:
            return sql.tally(reading, pool_id, as_utc(first), as_utc(last), valued_from)

    def latest(self, pool_id: str) -> Sample | None:
        """The newest sample of the pool, if there is any."""
        with self._store.read() as connection:
            return sql.latest_sample(connection, pool_id)

    def pools(self) -> Sequence[str]:
        """Ids of the pools that have samples."""
        with self._store.read() as connection:
            return sql.pools_with_samples(connection)

    def add_claim(
        self,
        pool_id: str,
        count: int,
        window: Window,
        reason: str,
        connection: Connection | None = None,
        patience_s: int = 0,
        team: str = "",
    ) -> Claim:
        """Claim `count` accelerators for the owner over `window`, which ends within ten years. The claim may wait `patience_s`
        seconds for them. `team` is the id of the claiming organization.

        Raises InvalidInputError.
        """
        claim = self._new_claim((pool_id, team), count, window, reason, patience_s)

        def write(writing: Connection) -> Claim:
            self._insert_claim(writing, claim)
            return claim

        return write(connection) if connection is not None else self._store.write(write)

    def change_claim(self, claim_id: str, count: int, window: Window, reason: str, patience_s: int = 0) -> Claim:
        """Replace a claim with another of its pool and team, in one step: at no time do both count, or neither. Raises
        NotFoundError, ConflictError where it was withdrawn or changed before, InvalidInputError."""
        before = self.claim(claim_id)
        claim = self._new_claim((before.pool_id, before.team), count, window, reason, patience_s)

        def write(writing: Connection) -> Claim:
            if not sql.mark_withdrawn(writing, claim_id, claim.created_at):
                raise ConflictError("this claim was withdrawn or changed in the meantime; reload the list of claims")
            self._insert_claim(writing, claim)
            return claim

        return self._store.write(write)

    def _insert_claim(self, writing: Connection, claim: Claim) -> None:
        if len(sql.claims_between(writing, claim.pool_id, self._ahead(), True, CLAIMS_MAX)) >= CLAIMS_MAX:
            raise ConflictError(f"this pool has {CLAIMS_MAX} current claims, the maximum; withdraw some first")
        sql.insert_claim(writing, claim)

    def _new_claim(self, whose: tuple[str, str], count: int, window: Window, reason: str, patience_s: int) -> Claim:
        """A claim on a pool by a team. Raises InvalidInputError."""
        pool_id, team = whose
        if not 0 <= patience_s <= PATIENCE_MAX.total_seconds():
            raise InvalidInputError(
                f"patience_s is {patience_s}; write 0 to {PATIENCE_MAX.total_seconds():.0f} seconds: if the need can wait longer, "
                "make a later claim"
            )
        if not 1 <= count <= ACCELERATORS_MAX:
            raise InvalidInputError(f"count is {count}; claim from 1 to {ACCELERATORS_MAX} accelerators")
        reason = checked_line(reason, "reason", REASON_CHARACTERS_MAX)
        now = self._store.clock.now()
        if window.end <= now:
            raise InvalidInputError(
                f"the claim ends at {format_time(window.end)}, which is in the past; choose a later end"
            )
        if window.end > now + CLAIM_AHEAD:
            raise InvalidInputError(f"the claim ends at {format_time(window.end)}; claim at most ten years ahead")
        return Claim(new_id("clm"), pool_id, count, window, reason, now, patience_s=patience_s, team=team)

    def claims(
        self, pool_id: str | None = None, window: Window | None = None, connection: Connection | None = None
    ) -> list[Claim]:
        """Standing claims, oldest first, of one pool where it is given; those that overlap `window`, or are not over yet."""
        window = window or self._ahead()
        if connection is not None:
            return sql.claims_between(connection, pool_id, window, True, CLAIMS_MAX)
        with self._store.read() as reading:
            return sql.claims_between(reading, pool_id, window, True, CLAIMS_MAX)

    def claim_page(self, pool_id: str | None, wanted: PageRequest) -> Page[Claim]:
        """A page of the claims that are not over, oldest first, of one pool if it is given."""
        with self._store.read() as connection:
            return sql.claim_page(connection, pool_id, self._ahead(), wanted)

    def claim(self, claim_id: str) -> Claim:
        """Raises NotFoundError."""
        with self._store.read() as connection:
            found = sql.one_claim(connection, claim_id)
        if found is None:
            raise NotFoundError(f"there is no claim {claim_id!r}; `sublet demand claims` lists them")
        return found

    def withdraw_claim(self, claim_id: str) -> Claim:
        """Withdraw a claim. Idempotent. Raises NotFoundError."""
        self.claim(claim_id)
        now = self._store.clock.now()

        def write(connection: Connection) -> None:
            sql.mark_withdrawn(connection, claim_id, now)

        self._store.write(write)
        return self.claim(claim_id)

    def _refuse_future(self, series: Series, what: str) -> None:
        """Refuse samples from the future, which would hide real demand and expire everything that is known of it."""
        latest = from_micros(int(series.times_us[-1])) if len(series) else self._store.clock.now()
        if latest > self._store.clock.now() + timedelta(seconds=AHEAD_OF_CLOCK_S_MAX):
            raise InvalidInputError(
                f"{what} at {format_time(latest)} is in the future; check the times or the clock of the source"
            )

    def _ahead(self) -> Window:
        now = self._store.clock.now()
        return Window(now, now + 2 * CLAIM_AHEAD)

    def _keep(self, series: Series, source: str | None = None) -> Recorded:
        """Keep the samples; with `source` as an import that can be undone."""
        if len(series) == 0:
            return Recorded(series.pool, 0, 0, series.findings)

        latest = self.latest(series.pool)
        newest = max(from_micros(int(series.times_us[-1])), latest.time if latest else EPOCH)
        first = int(np.searchsorted(series.times_us, to_micros(newest - self._history), side="left"))
        expired = first
        as_import = self._new_import(series.part(first), source) if source is not None and first < len(series) else None

        def write(part: Series, connection: Connection) -> int:
            if as_import is not None:
                if int(part.times_us[0]) == int(series.times_us[first]):
                    imports.begin(connection, as_import)
                imports.note(connection, as_import.id, part)
            sql.insert_samples(connection, part)
            return sql.delete_before(connection, series.pool, newest - self._history)

        for begin in range(first, len(series), SAMPLES_AT_ONCE):
            if begin > first:
                self._pause()
            part = series.part(begin, begin + SAMPLES_AT_ONCE)
            expired += self._store.write(partial(write, part))
        return Recorded(series.pool, len(series), expired, series.findings, newest - self._history)

    def _new_import(self, series: Series, source: str) -> Import:
        now = self._store.clock.now()
        last = from_micros(int(series.times_us[-1]))
        return Import(new_id("imp"), series.pool, source, now, series.start, last, len(series))
