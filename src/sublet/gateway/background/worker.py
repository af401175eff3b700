"""Works on background responses: the gateway that took a request, or another one where that one is gone."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from functools import partial
from typing import TypeVar

import structlog
from sqlalchemy import Connection

from sublet.gateway.background import store as sql
from sublet.gateway.background.exchange import End, ask
from sublet.gateway.background.store import Background, LostResponseError
from sublet.gateway.batches.model import wait_before_retry
from sublet.gateway.batches.worker import Bill, Pace
from sublet.gateway.model import KeyGrant
from sublet.gateway.off_loop import OffLoop
from sublet.gateway.refusals import InvalidApiKeyError, ResponseCanceledError
from sublet.gateway.requests.exchange import Exchange
from sublet.gateway.requests.form import CHAT
from sublet.gateway.rounds import Sights, rounds_for_ever
from sublet.gateway.service import Gateway
from sublet.gateway.stored import Responses, StoredResponse, items_json
from sublet.gateway.surfaces.responses_background import BackgroundSurface, unfinished
from sublet.gateway.surfaces.stream_form import Identity
from sublet.store import Store
from sublet.values.errors import LimitExceededError, SubletError, UnavailableError

log = structlog.get_logger(__name__)

FLUSH_S = 0.25
BEAT_S = 3.0
AGAIN_S = 5.0
TIDY_S = 60.0
ENDING_ROUNDS = 40
PART_BYTES_MAX = 256 * 1024
FOLLOWERS_PER_ORGANIZATION_MAX = 64
"""Streams of events at once: each looks into the database several times a second."""
THREADS = 4

T = TypeVar("T")


class BackgroundWorker:
    """For the event loop's thread; what blocks runs on threads of its own."""

    def __init__(self, gateway: Gateway, responses: Responses, store: Store, bill: Bill, pace: Pace) -> None:
        self._gateway = gateway
        self._responses = responses
        self._store = store
        self._bill = bill
        self._pace = pace
        self._aside = OffLoop(self._store, THREADS, "background")
        self._runs: dict[str, asyncio.Task[None]] = {}
        self._sights = Sights()
        self.canceled: set[str] = set()
        """Those of this gateway's that are to end."""
        self._followers: Counter[str] = Counter()
        self._beaten_at = self._tidied_at = -TIDY_S

    async def accept(self, grant: KeyGrant, body: bytes) -> Background:
        """Check a request, write it down, and begin it. Raises the SubletError that refuses it."""
        surface = await self.surface_for(grant.organization_id, body)
        gateway = self._gateway
        call, model = gateway.checked(surface, CHAT, body, grant)
        now = self._store.clock.now()
        response_id = "resp_" + gateway.next_request_id()[1].removeprefix("req_")
        name = identity_of(response_id, model.name, int(now.timestamp()))
        item = Background(
            response_id,
            grant.organization_id,
            grant.id,
            surface.streamed(body),
            body,
            unfinished(name, call, sql.QUEUED),
            sql.QUEUED,
            False,
            now,
            now + sql.WINDOW,
            gateway.run,
            0,
        )
        most = gateway.settings.responses_mib_per_organization_max * sql.MIB
        await self._aside.write(lambda connection: sql.add(self._store, connection, item, most))
        self._begin(item)
        return item

    async def surface_for(self, organization_id: str, body: bytes) -> BackgroundSurface:
        """With the items of the stored response that it goes on from. Raises as Responses.conversation."""
        surface = BackgroundSurface()
        previous = surface.continues(body)
        if not previous:
            return surface
        earlier = await asyncio.wrap_future(self._responses.conversation(organization_id, previous))
        return BackgroundSurface(earlier)

    async def find(self, organization_id: str, response_id: str) -> Background | None:
        """See store.one."""
        return await self._aside.read(lambda connection: sql.one(connection, organization_id, response_id))

    async def cancel(self, organization_id: str, response_id: str) -> bool:
        """Have one end early; whether it has not ended before. Raises ResponseNotFoundError."""
        item = await self._aside.write(lambda connection: sql.cancel(connection, organization_id, response_id))
        if item is None or item.status == sql.OVER:
            return False
        self.canceled.add(item.id)
        return True

    async def ended(self, organization_id: str, response_id: str) -> Background | None:
        """One that was canceled, once it is over, or after some seconds."""
        for _ in range(ENDING_ROUNDS):
            if await self._status(organization_id, response_id) in (None, sql.OVER):
                break
            await asyncio.sleep(min(FLUSH_S, self._pace.poll_s))
        return await self.find(organization_id, response_id)

    async def _status(self, organization_id: str, response_id: str) -> str | None:
        return await self._aside.read(lambda connection: sql.status_of(connection, organization_id, response_id))

    def follow(self, item: Background, after: int) -> AsyncIterator[bytes]:
        """The events behind number `after`, until the last one. Raises LimitExceededError, at once."""
        if self._followers[item.organization_id] >= FOLLOWERS_PER_ORGANIZATION_MAX:
            raise LimitExceededError(
                f"this organization follows {FOLLOWERS_PER_ORGANIZATION_MAX} background responses, the maximum; close a stream, or "
                f"ask for response {item.id} without stream",
                retry_after_s=5.0,
            )
        return self._events(item, after)

    async def _events(self, item: Background, after: int) -> AsyncIterator[bytes]:
        whose = item.organization_id
        self._followers[whose] += 1
        try:
            async for event in self._told(item, after):
                yield event
        finally:
            self._followers[whose] -= 1
            if not self._followers[whose]:
                del self._followers[whose]

    async def _told(self, item: Background, after: int) -> AsyncIterator[bytes]:
        number = 0
        while True:
            status = await self._status(item.organization_id, item.id)
            some = await self._aside.read(partial(sql.parts, response_id=item.id, number=number))
            for at, content in some:
                number = at + 1
                for event in sql.events_after(content, after):
                    yield event.encode()
            if not some:
                if status in (None, sql.OVER):
                    return
                await asyncio.sleep(min(FLUSH_S, self._pace.poll_s))

    # Rounds

    async def work_for_ever(self) -> None:
        await rounds_for_ever(self.round, self._pace.poll_s, "background responses")

    async def round(self) -> None:
        """Take up what nobody works on, and end what is canceled."""
        items = await self._aside.read(sql.active)
        now, run = self._gateway.monotonic(), self._gateway.run
        mine = {item.id for item in items if item.worker == run}
        self.canceled = {item.id for item in items if item.status == sql.CANCELING and item.id in mine}
        if mine and now - self._beaten_at >= BEAT_S:
            self._beaten_at = now
            await self._aside.write(lambda connection: sql.beat(connection, run))
        self._sights.look(items, now)
        for item in items:
            if item.id in self._runs or (item.worker and self._sights.silent_s(item, now) < self._pace.stale_s):
                continue
            if (taken := await self._aside.write(partial(sql.claim, item=item, worker=run))) is not None:
                self._begin(taken)
        if now - self._tidied_at >= TIDY_S:
            self._tidied_at = now
            await self._aside.write(lambda connection: sql.expire(connection, self._store.clock.now()))

    async def stop(self) -> None:
        """End what is under way, and let others go on with it."""
        runs = list(self._runs.values())
        for task in runs:
            task.cancel()
        await asyncio.gather(*runs, return_exceptions=True)
        with contextlib.suppress(Exception):
            await self._aside.write(lambda connection: sql.give_up(connection, self._gateway.run))
        self._aside.close()

    def _begin(self, item: Background) -> None:
        self._runs[item.id] = asyncio.get_running_loop().create_task(self._run(item))

    async def _run(self, item: Background) -> None:
        try:
            await Run(self._gateway, self, item).carry_out()
        except LostResponseError:
            log.info("another gateway goes on with a background response, or it is over", response=item.id)
        except Exception as error:
            log.warning("a background response rests", response=item.id, error=f"{type(error).__name__}: {error}"[:300])
            await asyncio.sleep(AGAIN_S)
        finally:
            del self._runs[item.id]

    # What a run needs

    def stored(self, item: Background, end: End, number: int, surface: BackgroundSurface) -> Future[None]:
        """Store how it ended, with its bill."""
        kept = surface.kept(item.request)
        now = self._store.clock.now()
        row = StoredResponse(
            item.id,
            item.organization_id,
            kept.previous_id,
            kept.model,
            item.created_at,
            items_json(item.id, kept.items),
            end.body,
        )

        def write(connection: Connection) -> None:
            if item.stream and end.last:
                sql.tell(connection, item, number, end.last)
            sql.end(connection, item, now)
            self._responses.insert(connection, row)
            if end.records:
                self._bill(connection, end.records)

        return self._aside.submit(lambda: self._store.write(write))

    async def write(self, write: Callable[[Connection], T]) -> T:
        """In a transaction, off the loop."""
        return await self._aside.write(write)

    def past(self, item: Background) -> bool:
        """Whether the time of one is over."""
        return self._store.clock.now() >= item.expires_at

    async def next_of(self, item: Background) -> tuple[int, int]:
        """The number of the next part of its events, and of the next event."""
        return await self._aside.read(lambda connection: sql.next_of(connection, item.id))


def identity_of(response_id: str, model: str, created_s: int) -> Identity:
    """What a response is called in its events."""
    return Identity("req_" + response_id.removeprefix("resp_"), model, created_s)


class Run:
    """One response, from where it is to its end."""

    def __init__(self, gateway: Gateway, worker: BackgroundWorker, item: Background) -> None:
        self._gateway = gateway
        self._worker = worker
        self._item = item
        self._surface = BackgroundSurface()
        self._number = 0
        self._pending: list[bytes] = []
        self._heard = item.told
        self._asked: asyncio.Future[SubletError | None] | None = None
        self._saving: Future[None] | None = None

    async def carry_out(self) -> None:
        """Raises LostResponseError, and what the database raises. When it is canceled, its request ends."""
        item, worker = self._item, self._worker
        if item.told:
            # Its events are known to those who followed; another answer would not fit them.
            await self._fail(
                UnavailableError("The gateway was restarted while this response was made; send the request again")
            )
            return
        failures = 0
        while True:
            try:
                self._surface = await worker.surface_for(item.organization_id, item.request)
                error = await self._ask()
            except SubletError as refused:
                error = refused
            if error is None:
                return
            failures += error.code not in ("queue_timeout", "no_replica")
            wait_s = wait_before_retry(error, failures)
            over = self._over()
            if over is not None or wait_s is None or self._heard:
                await self._fail(over or error)
                return
            await self._wait(wait_s)

    async def _ask(self) -> SubletError | None:
        item, gateway = self._item, self._gateway
        if (over := self._over()) is not None:
            return over
        grant = next((found for found in gateway.snapshot.keys.values() if found.id == item.key_id), None)
        expired = grant is not None and grant.expires_at is not None and gateway.clock.now() >= grant.expires_at
        if grant is None or not grant.may_call or expired:
            return InvalidApiKeyError("The API key that asked for this response was revoked or has expired")
        call, model = gateway.checked(self._surface, CHAT, item.request, grant)
        name = identity_of(item.id, model.name, int(item.created_at.timestamp()))
        body = unfinished(name, call, sql.IN_PROGRESS)
        await self._worker.write(lambda connection: sql.begin(connection, item, body))
        self._asked = asyncio.get_running_loop().create_future()
        self._saving = None
        exchange = ask(gateway, self, self._surface, CHAT, grant, item.request, name)
        try:
            return await self._until_over(exchange) or self._unsaved()
        except BaseException:
            exchange.client_gone()
            raise

    async def _until_over(self, exchange: Exchange) -> SubletError | None:
        """Write events down while they come."""
        asked = self._asked
        assert asked is not None
        while not asked.done():
            await asyncio.wait({asked}, timeout=FLUSH_S)
            if (over := self._over()) is not None and not exchange.over:
                exchange.fail(over)
            await self._flush()
        return asked.result()

    async def _flush(self) -> None:
        item, pending = self._item, self._pending
        if not item.stream or not pending or self._saving is not None:
            return
        data, pending[:] = b"".join(pending), []
        number, self._number = self._number, self._number + 1
        self._heard = True
        await self._worker.write(lambda connection: sql.tell(connection, item, number, data))

    def _over(self) -> SubletError | None:
        if self._item.id in self._worker.canceled:
            return ResponseCanceledError()
        if self._worker.past(self._item):
            return UnavailableError("No engine answered within an hour; send the request again")
        return None

    async def _wait(self, seconds: float) -> None:
        until = self._gateway.monotonic() + seconds
        while self._gateway.monotonic() < until and self._over() is None:
            await asyncio.sleep(min(0.5, seconds))

    def _unsaved(self) -> SubletError | None:
        """Nothing, where the response was stored. Raises what kept it from that."""
        error = self._saving.exception() if self._saving is not None else None
        if error is not None:
            raise error
        return None

    async def _fail(self, error: SubletError) -> None:
        """It ends without anything that was made."""
        surface, item = self._surface, self._item
        name = identity_of(item.id, surface.kept(item.request).model, int(item.created_at.timestamp()))
        number, sequence = await self._worker.next_of(item) if self._heard else (0, 0)
        body, last = surface.failed(name, item.request, error, sequence)
        await asyncio.wrap_future(self._worker.stored(item, End(body, last, []), number, surface))

    # As background.exchange.Listener

    def events(self, data: bytes) -> None:
        self._pending.append(data)

    def save(self, end: End) -> Future[None]:
        pending, self._pending = self._pending, []
        end.last = b"".join(pending) + end.last
        self._saving = self._worker.stored(self._item, end, self._number, self._surface)
        return self._saving

    def over(self, error: SubletError | None) -> None:
        if self._asked is not None and not self._asked.done():
            self._asked.set_result(error)
