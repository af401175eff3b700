"""Messages to their receivers. What happens to a message is written down before the next step, so that a crash between any two
steps sends a message once more, with the same id, and never loses one."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from datetime import datetime, timedelta

import structlog
from sqlalchemy import Connection

from sublet.notifications import store as sql
from sublet.notifications.channels.base import Channel, Message, NotDeliveredError, Receipt
from sublet.notifications.events import DISABLED, OPERATOR_DISABLED, SubscriptionFact
from sublet.notifications.fanout import CONFIRMATIONS
from sublet.notifications.links import Links
from sublet.notifications.model import (
    ERROR_CHARS_MAX,
    GIVE_UP,
    Attempt,
    Delivery,
    DeliveryState,
    Subscription,
    pause_until,
    retry_at,
)
from sublet.store import Store, outbox
from sublet.store.outbox import Event
from sublet.store.sealing import Sealing
from sublet.values.errors import SubletError

log = structlog.get_logger(__name__)

WORKERS = 16
PER_OWNER = 4
PER_RECEIVER = 2
BATCH = 20
TURN_S = 20.0
"""For how long one subscription may keep a worker before others have their turn."""
LOOKED_AT_MAX = 2_000
SERVED_MAX = 20_000

Timezone = Callable[[Connection, str], str]


class Delivering:
    """Hands messages to channels: a subscription's one after the other in the order of the events, subscriptions side by side.

    At most PER_RECEIVER at once go to one receiver and PER_OWNER for one organization, so that slow receivers keep nobody
    else waiting.
    """

    def __init__(
        self,
        store: Store,
        channels: Mapping[str, Channel],
        sealing: Sealing,
        *,
        disable_after: timedelta = timedelta(days=5),
        links: Links | None = None,
        timezone: Timezone = lambda connection, organization_id: "UTC",
    ) -> None:
        self._store = store
        self._channels = channels
        self._sealing = sealing
        self._disable_after = disable_after
        self._links = links or Links(sealing)
        self._timezone = timezone
        self._chance = random.Random()
        self._lock = threading.Lock()
        self._working: dict[str, tuple[str, str, Future[None]]] = {}
        self._served: dict[str, float] = {}
        self._pool: ThreadPoolExecutor | None = None
        self._stopping = threading.Event()

    def round(self, still_leads: Callable[[], bool] = lambda: True) -> int:
        """Give work to those who have none; how many subscriptions that were. Does not wait for receivers."""
        now = self._store.clock.now()
        with self._lock:
            for name in [name for name, (_, _, done) in self._working.items() if done.done()]:
                del self._working[name]
            busy = set(self._working)
            owners = Counter(owner for owner, _, _ in self._working.values())
            receivers = Counter(receiver for _, receiver, _ in self._working.values())
        free = WORKERS - len(busy)
        if free <= 0:
            return 0
        with self._store.read() as connection:
            found = sql.due_subscriptions(connection, now, busy, LOOKED_AT_MAX)
        # The receiver that was served the longest ago comes first, so that slow receivers with much to take leave others their turn.
        found.sort(key=lambda item: self._served.get(item.id, 0.0))
        begun = 0
        for subscription in found:
            channel = self._channels.get(subscription.channel)
            if begun == free or channel is None:
                continue
            owner = subscription.organization_id or ""
            receiver = f"{channel.name} {channel.receiver(subscription.address)}"
            if owners[owner] >= PER_OWNER or receivers[receiver] >= PER_RECEIVER:
                continue
            owners[owner] += 1
            receivers[receiver] += 1
            self._begin(subscription, channel, owner, receiver, still_leads)
            begun += 1
        return begun

    def settle(self, timeout_s: float = 30.0) -> None:
        """Wait for what is under way."""
        with self._lock:
            waiting = [done for _, _, done in self._working.values()]
        wait(waiting, timeout_s)

    def stop(self, timeout_s: float = 15.0) -> None:
        """Begin nothing more, and wait for what is under way."""
        self._stopping.set()
        self.settle(timeout_s)
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)

    def _begin(
        self, subscription: Subscription, channel: Channel, owner: str, receiver: str, still_leads: Callable[[], bool]
    ) -> None:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(WORKERS, "deliver")

        def work() -> None:
            try:
                self._serve(subscription, channel, still_leads)
            except Exception as error:
                log.warning("deliveries_stopped", subscription=subscription.id, exc_info=error)

        if len(self._served) > SERVED_MAX:
            self._served.clear()
        self._served[subscription.id] = time.monotonic()
        with self._lock:
            self._working[subscription.id] = (owner, receiver, self._pool.submit(work))

    def _serve(self, subscription: Subscription, channel: Channel, still_leads: Callable[[], bool]) -> None:
        """Deliver what is due, until there is nothing more, something fails, or the turn is over."""
        begun = time.monotonic()
        while time.monotonic() - begun < TURN_S and not self._stopping.is_set():
            with self._store.read() as connection:
                due = sql.due_deliveries(
                    connection, subscription.id, self._store.clock.now(), max(BATCH, channel.events_max)
                )
                events = outbox.by_ids(connection, [item.event_id for item in due])
                timezone = self._zone(connection, subscription)
                present = sql.subscription(connection, subscription.id)
            if not due or present is None or not present.enabled:
                return
            # What was asked of an address that has answered meanwhile is not asked again.
            answered = CONFIRMATIONS if present.confirmed_at is not None else ()
            gone = [item for item in due if item.event_id not in events or item.kind in answered]
            if gone:
                self._store.write(lambda connection, items=gone: _give_up(connection, items))  # type: ignore[misc]
            due = [item for item in due if item not in gone]
            for start in range(0, len(due), channel.events_max):
                # A process that was frozen may have lost its place meanwhile; another one delivers then.
                if self._stopping.is_set() or not still_leads():
                    return
                part = due[start : start + channel.events_max]
                if not self._deliver(subscription, channel, part, [events[item.event_id] for item in part], timezone):
                    return
                if channel.gather_s:
                    return

    def _zone(self, connection: Connection, subscription: Subscription) -> str:
        owner = subscription.organization_id
        return "UTC" if owner is None else self._timezone(connection, owner)

    def _deliver(
        self,
        subscription: Subscription,
        channel: Channel,
        due: Sequence[Delivery],
        events: Sequence[Event],
        timezone: str,
    ) -> bool:
        """One message; whether the receiver took it. Raises what the database raises: the message is then sent again."""
        now, begun = self._store.clock.now(), time.monotonic()
        failure: NotDeliveredError | None = None
        receipt = Receipt()
        try:
            message = Message(
                subscription.id,
                subscription.name,
                subscription.address,
                subscription.format,
                subscription.internal,
                tuple(events),
                now,
                self._signers(subscription, now) if channel.signed else (),
                timezone,
                self._links.leave_url(subscription),
                self._links.confirmation(subscription, now) if events[0].kind in CONFIRMATIONS else None,
            )
            receipt = channel.send(message)
        except NotDeliveredError as error:
            failure, receipt = error, error.receipt
        except SubletError as error:
            failure = NotDeliveredError(error.message)
        except Exception as error:
            log.warning("channel_broke", channel=channel.name, subscription=subscription.id, exc_info=error)
            failure = NotDeliveredError(f"the message could not be sent ({type(error).__name__})")
        took_ms = int((time.monotonic() - begun) * 1000)
        words = str(failure)[:ERROR_CHARS_MAX] if failure is not None else ""

        def write(connection: Connection) -> bool:
            if sql.subscription(connection, subscription.id) is None:
                return False
            for item in due:
                attempt = Attempt(item.attempts + 1, now, receipt.status, took_ms, words, receipt.excerpt)
                sql.insert_attempt(connection, item.id, attempt)
            if failure is None:
                return self._taken(connection, subscription, channel, due)
            return self._failed(connection, subscription, due, failure)

        return self._store.write(write)

    def _signers(self, subscription: Subscription, now: datetime) -> tuple[str, ...]:
        """Read again for each message: the secret may have been rotated meanwhile."""
        with self._store.read() as connection:
            found = sql.subscription(connection, subscription.id) or subscription
        sealed = [found.secret]
        if found.previous_until is not None and found.previous_until > now:
            sealed.append(found.previous_secret)
        return tuple(self._sealing.open(item, subscription.id) for item in sealed if item is not None)

    def _taken(
        self, connection: Connection, subscription: Subscription, channel: Channel, due: Sequence[Delivery]
    ) -> bool:
        now = self._store.clock.now()
        for item in due:
            sql.update_delivery(
                connection,
                item.id,
                state=DeliveryState.DELIVERED.value,
                attempts=item.attempts + 1,
                delivered_at=now,
            )
        pause = now + timedelta(seconds=channel.gather_s) if channel.gather_s else None
        sql.update_subscription(connection, subscription.id, failures=0, failing_since=None, paused_until=pause)
        return True

    def _failed(
        self,
        connection: Connection,
        subscription: Subscription,
        due: Sequence[Delivery],
        failure: NotDeliveredError,
    ) -> bool:
        now = self._store.clock.now()
        for item in due:
            attempts = item.attempts + 1
            values: dict[str, object] = {"attempts": attempts}
            if failure.final or now - item.created_at >= GIVE_UP:
                values["state"] = DeliveryState.GIVEN_UP.value
            else:
                values["next_at"] = retry_at(attempts, now, failure.retry_after_s, self._chance)
            sql.update_delivery(connection, item.id, **values)
        current = sql.subscription(connection, subscription.id)
        if current is None:
            return False
        since = current.failing_since or now
        failures = current.failures + 1
        sql.update_subscription(
            connection,
            current.id,
            failures=failures,
            failing_since=since,
            paused_until=pause_until(failures, now, failure.retry_after_s),
        )
        if failure.gone:
            _disable(connection, current, "its receiver answered that it wants no more (410)", now)
        elif now - since >= self._disable_after:
            days = self._disable_after.days
            _disable(connection, current, f"every delivery failed for {days} days; the last time: {failure}", now)
        return False


def _disable(connection: Connection, subscription: Subscription, reason: str, now: datetime) -> None:
    """Nothing more goes there; its owner is told by whatever else they subscribed with."""
    words = reason[:ERROR_CHARS_MAX]
    sql.update_subscription(connection, subscription.id, enabled=False, disabled_reason=words)
    sql.give_up_waiting(connection, subscription.id)
    kind = OPERATOR_DISABLED if subscription.organization_id is None else DISABLED
    fact = SubscriptionFact(subscription.id, subscription.name, subscription.channel, words)
    kind.record(connection, fact, now, organization_id=subscription.organization_id)


def _give_up(connection: Connection, items: Sequence[Delivery]) -> None:
    for item in items:
        sql.update_delivery(connection, item.id, state=DeliveryState.GIVEN_UP.value)


def prune(store: Store, now: datetime, retention: timedelta, limit: int = 5_000) -> int:
    """Forget messages older than `retention`, with their log; how many."""
    before = now - retention
    with store.read() as connection:
        if not sql.any_before(connection, before):
            return 0
    return store.write(lambda connection: sql.prune(connection, before, limit))
