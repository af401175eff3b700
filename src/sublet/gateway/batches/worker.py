"""Works on batches: every gateway may, one does. What is in the database says how far each is, so that another one can go on."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

import structlog
from sqlalchemy import Connection

from sublet.gateway.batches import store as sql
from sublet.gateway.batches.exchange import Outcome
from sublet.gateway.batches.failing import FailedLines
from sublet.gateway.batches.line import KeyGoneError, LineJob
from sublet.gateway.batches.lines import check_lines, lines_in
from sublet.gateway.batches.model import (
    CANCELED,
    CANCELING,
    COMPLETED,
    EXPIRED,
    FINALIZING,
    VALIDATING,
    Batch,
    Problem,
    line_of,
    unanswered,
)
from sublet.gateway.batches.output import make_files
from sublet.gateway.batches.store import LostBatchError
from sublet.gateway.files.store import Files, expire_files
from sublet.gateway.model import KeyGrant, Snapshot, UsageRecord
from sublet.gateway.off_loop import OffLoop
from sublet.gateway.rounds import Sights, rounds_for_ever
from sublet.gateway.service import Gateway
from sublet.store import Store

log = structlog.get_logger(__name__)

POLL_S = 1.0
BEAT_S = 3.0
STALE_S = 15.0
"""A worker whose batch has not moved for so long is taken for dead."""
AGAIN_S = 5.0
"""After a failure of the database a batch rests for so long."""
TIDY_S = 60.0
BATCHES_MAX, BATCHES_PER_ORGANIZATION_MAX = 64, 4
"""Batches that a gateway works on at once."""
LINES_AT_ONCE = 32
"""Requests of a batch that are under way or in a queue."""
BYTES_AT_ONCE = 64 * 1024 * 1024
READ_AT_ONCE = 64
UNANSWERED_AT_ONCE = 500
THREADS = 4

T = TypeVar("T")

WORDS = {
    EXPIRED: (
        "batch_expired",
        "This request was not carried out before the completion window ended; send it in another batch.",
    ),
    CANCELED: ("batch_cancelled", "This request was not carried out because its batch was canceled."),
}


class Bill(Protocol):
    """Takes usage to the ledger within the caller's transaction."""

    def __call__(self, connection: Connection, records: Sequence[UsageRecord]) -> None:
        """Idempotent. Raises InvalidInputError where the ledger does not take it."""
        ...


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds between rounds, and until a worker that does not move is taken for dead."""

    poll_s: float = POLL_S
    stale_s: float = STALE_S


class BatchWorker:
    """For the event loop's thread; what blocks runs on threads of its own."""

    def __init__(self, gateway: Gateway, files: Files, bill: Bill, pace: Pace | None = None) -> None:
        self._gateway = gateway
        self._files = files
        self._store: Store = files.store
        self._bill = bill
        self._pace = pace or Pace()
        self._aside = OffLoop(self._store, THREADS, "batches")
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._whose: dict[str, str] = {}
        self._failing: dict[str, FailedLines] = {}
        self._sights = Sights()
        self._states: dict[str, str] = {}
        self._rests: dict[str, float] = {}
        self._bytes = 0
        self._room = asyncio.Event()
        self._beaten_at = self._tidied_at = -TIDY_S
        self._keys: tuple[Snapshot | None, dict[str, KeyGrant]] = (None, {})

    async def work_for_ever(self) -> None:
        await rounds_for_ever(self.round, self._pace.poll_s, "batches")

    async def round(self) -> None:
        """Take up what nobody works on, and drop what somebody else does."""
        batches = await self._aside.read(sql.active_batches)
        now = self._gateway.monotonic()
        run = self._gateway.run
        self._states = {batch.id: batch.status for batch in batches if batch.worker == run}
        for batch_id in [name for name in self._tasks if name not in self._states]:
            self._tasks[batch_id].cancel()
        if self._states and now - self._beaten_at >= BEAT_S:
            self._beaten_at = now
            await self._aside.write(lambda connection: sql.beat(connection, run))
        self._sights.look(batches, now)
        busy = Counter(self._whose[name] for name in self._tasks)
        for batch in sorted(batches, key=lambda batch: (busy[batch.organization_id], batch.created_at, batch.id)):
            if len(self._tasks) >= BATCHES_MAX or busy[batch.organization_id] >= BATCHES_PER_ORGANIZATION_MAX:
                continue
            if await self._take_up(batch, now):
                busy[batch.organization_id] += 1
        if now - self._tidied_at >= TIDY_S:
            self._tidied_at = now
            present = self._store.clock.now()
            await self._aside.write(
                lambda connection: expire_files(connection, present) + sql.expire_batches(connection, present)
            )

    async def stop(self) -> None:
        """End what is under way, and let others go on with it."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        with contextlib.suppress(Exception):
            await self._aside.write(lambda connection: sql.give_up(connection, self._gateway.run))
        self._aside.close()

    async def _take_up(self, batch: Batch, now: float) -> bool:
        if batch.id in self._tasks or self._rests.get(batch.id, 0.0) > now:
            return False
        run = self._gateway.run
        if batch.worker and batch.worker != run and self._sights.silent_s(batch, now) < self._pace.stale_s:
            return False
        if not await self._aside.write(lambda connection: sql.claim(connection, batch, run)):
            return False
        self._whose[batch.id] = batch.organization_id
        self._states[batch.id] = batch.status
        self._tasks[batch.id] = asyncio.get_running_loop().create_task(self._work(replace(batch, worker=run)))
        return True

    async def _work(self, batch: Batch) -> None:
        try:
            await self._advance(batch)
        except LostBatchError:
            log.info("another gateway goes on with a batch, or it is over", batch=batch.id)
        except Exception as error:
            log.warning("a batch rests", batch=batch.id, error=f"{type(error).__name__}: {error}"[:300])
            self._rests[batch.id] = self._gateway.monotonic() + AGAIN_S
        else:
            self._rests.pop(batch.id, None)
        finally:
            del self._tasks[batch.id], self._whose[batch.id]
            self._failing.pop(batch.id, None)

    async def _advance(self, batch: Batch) -> None:
        """From the state that it is in to its end."""
        if batch.status == VALIDATING:
            total, model, problems = await self._aside.run(lambda: self._checked(batch))
            now = self._store.clock.now()
            if problems:
                await self._aside.write(lambda connection: sql.refuse(connection, batch, problems, now))
                return
            await self._aside.write(lambda connection: sql.begin(connection, batch, total, model, now))
        if batch.status != FINALIZING:
            reason, words = (CANCELED, WORDS[CANCELED]) if batch.status == CANCELING else await self._answer(batch)
            if reason != COMPLETED:
                await self._aside.run(lambda: self._leave_unanswered(batch, words))
            now = self._store.clock.now()
            await self._aside.write(lambda connection: sql.finalize(connection, batch, reason, now))
        await self._aside.run(lambda: make_files(self._store, self._files.limits, batch))

    def _checked(self, batch: Batch) -> tuple[int, str, list[Problem]]:
        snapshot = self._gateway.snapshot
        grant = self._grant_of(batch.key_id)
        allowed = grant.models if grant is not None else None

        def problem_with(model: str) -> str:
            if model in snapshot.models and (allowed is None or model in allowed):
                return ""
            return f"The model {model[:80]!r} does not exist here; GET /v1/models lists those that do"

        return check_lines(self._files.text(batch.input_file_id), batch.endpoint, problem_with)

    # Its lines

    async def _answer(self, batch: Batch) -> tuple[str, tuple[str, str]]:
        """Ask every line that has no answer; how the batch ends, and what is said of lines that were not carried out."""
        done = await self._aside.read(lambda connection: sql.done_lines(connection, batch.id))
        jobs: set[asyncio.Task[None]] = set()
        lines = lines_in(self._files.text(batch.input_file_id))
        try:
            while some := await self._aside.run(
                lambda: [line for _, line in zip(range(READ_AT_ONCE), lines, strict=False)]
            ):
                for number, text in some:
                    if number in done:
                        continue
                    while len(jobs) >= LINES_AT_ONCE or (self._bytes and self._bytes + len(text) > BYTES_AT_ONCE):
                        if (reason := self._over(batch)) is not None:
                            return reason
                        jobs = await self._turn(jobs)
                    self._bytes += len(text)
                    jobs.add(asyncio.get_running_loop().create_task(self._line(batch, number, text)))
            while jobs:
                if (reason := self._over(batch)) is not None:
                    return reason
                jobs = await self._turn(jobs)
        except KeyGoneError:
            return CANCELED, ("invalid_api_key", "The API key that made the batch was revoked or has expired.")
        finally:
            for job in jobs:
                job.cancel()
            await asyncio.gather(*jobs, return_exceptions=True)
        return COMPLETED, ("", "")

    async def _turn(self, jobs: set[asyncio.Task[None]]) -> set[asyncio.Task[None]]:
        """Wait until a job is done, or bytes are free again, at most for a round. Raises what a job raises."""
        self._room.clear()
        waking = asyncio.get_running_loop().create_task(self._room.wait())
        try:
            await asyncio.wait({*jobs, waking}, timeout=self._pace.poll_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waking.cancel()
        left = {job for job in jobs if not job.done()}
        for job in jobs - left:
            if not job.cancelled() and (error := job.exception()) is not None:
                for other in left:
                    other.cancel()
                raise error
        return left

    async def _line(self, batch: Batch, number: int, text: str) -> None:
        try:
            await LineJob(self._gateway, self, batch, number, text, lambda: self._grant_of(batch.key_id)).run()
        finally:
            self._bytes -= len(text)
            self._room.set()

    def _over(self, batch: Batch) -> tuple[str, tuple[str, str]] | None:
        """Why a batch ends before all its lines are answered."""
        if self._states.get(batch.id) == CANCELING:
            return CANCELED, WORDS[CANCELED]
        if self._store.clock.now() >= batch.expires_at:
            return EXPIRED, WORDS[EXPIRED]
        return None

    def _grant_of(self, key_id: str) -> KeyGrant | None:
        """The key that made a batch, where it may still call models."""
        snapshot, grants = self._keys
        if snapshot is not self._gateway.snapshot:
            snapshot = self._gateway.snapshot
            grants = {grant.id: grant for grant in snapshot.keys.values() if grant.may_call}
            self._keys = (snapshot, grants)
        grant = grants.get(key_id)
        if grant is None or (grant.expires_at is not None and self._gateway.clock.now() >= grant.expires_at):
            return None
        return grant

    def _leave_unanswered(self, batch: Batch, words: tuple[str, str]) -> None:
        some: list[tuple[int, str]] = []

        def put() -> None:
            told, some[:] = list(some), []
            self._store.write(lambda connection: sql.put_failed(connection, batch, told))

        for number, text in lines_in(self._files.text(batch.input_file_id)):
            line, _ = line_of(text, batch.endpoint)
            some.append((number, unanswered(batch.id, number, line.custom_id, *words)))
            if len(some) >= UNANSWERED_AT_ONCE:
                put()
        put()

    # As batches.line.Desk

    def answered(self, batch: Batch, number: int, content: str, outcome: Outcome) -> Future[None]:
        def write(connection: Connection) -> None:
            sql.put_line(connection, batch, number, content, outcome.tokens)
            self._bill(connection, outcome.records)

        return self._aside.submit(lambda: self._store.write(write))

    async def failed(self, batch: Batch, number: int, content: str) -> None:
        if batch.id not in self._failing:
            self._failing[batch.id] = FailedLines(
                lambda some: self._aside.write(lambda connection: sql.put_failed(connection, batch, some))
            )
        await self._failing[batch.id].put(number, content)
