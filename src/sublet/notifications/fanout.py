"""Events into messages: one for each subscription that an event concerns, in the transaction that moves the reader's position."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection

from sublet.notifications import store as sql
from sublet.notifications.events import CONFIRMATION, OPERATOR_CONFIRMATION, OPERATOR_TEST, TEST
from sublet.notifications.kinds import selected
from sublet.notifications.model import Delivery, DeliveryState, Subscription
from sublet.store import Store, outbox
from sublet.store.outbox import Event
from sublet.values.ids import derived_id

CONSUMER = "deliveries"
EVENTS_MAX = 200
WAITING_MAX = 10_000
"""Messages that may wait for one receiver; what comes beyond is given up at once."""
_TESTS = (TEST.name, OPERATOR_TEST.name)
CONFIRMATIONS = (CONFIRMATION.name, OPERATOR_CONFIRMATION.name)


def begin(store: Store) -> None:
    """Make the reader known, so that nothing is pruned that it has not seen."""
    store.write(lambda connection: outbox.advance(connection, CONSUMER, 0))


def fan_out(store: Store) -> int:
    """Make messages of events that were numbered since, at most EVENTS_MAX; how many events that were. Harmless when repeated."""
    with store.read() as connection:
        if outbox.position_of(connection, CONSUMER) >= outbox.last_position(connection):
            return 0

    def write(connection: Connection) -> int:
        store.lock(connection, "outbox:deliveries")
        events = outbox.read_after(connection, outbox.position_of(connection, CONSUMER), EVENTS_MAX)
        if not events:
            return 0
        organizations = {event.organization_id for event in events if event.organization_id is not None}
        now = store.clock.now()
        made: list[Delivery] = []
        for subscription in sql.enabled_for(connection, organizations):
            mine = [event for event in events if concerns(subscription, event)]
            made += _messages(connection, subscription, mine, now)
        sql.insert_deliveries(connection, made)
        outbox.advance(connection, CONSUMER, events[-1].position)
        return len(events)

    return store.write(write)


def concerns(subscription: Subscription, event: Event) -> bool:
    """Whether the subscription is told of the event: it came after it, it is the organization's (the operator is told of all),
    and it is of a kind and about a subject that was asked for. A test is for its own subscription alone, and nothing but the
    question whether it wants anything goes to an address that is not confirmed."""
    if event.position <= subscription.from_position:
        return False
    if event.kind in CONFIRMATIONS:
        return event.subject == subscription.id and subscription.confirmed_at is None
    if subscription.confirmed_at is None:
        return False
    if event.kind in _TESTS:
        return event.subject == subscription.id
    if subscription.organization_id is not None and subscription.organization_id != event.organization_id:
        return False
    if subscription.subject is not None and subscription.subject != event.subject:
        return False
    return selected(subscription.kinds, event.kind)


def _messages(
    connection: Connection, subscription: Subscription, events: Sequence[Event], now: datetime
) -> list[Delivery]:
    if not events:
        return []
    room = WAITING_MAX
    if subscription.failing_since is not None:
        room -= sql.waiting_count(connection, subscription.id, WAITING_MAX)
    return [
        Delivery(
            derived_id("whk", subscription.id, event.id),
            subscription.id,
            event.id,
            event.kind,
            event.position,
            DeliveryState.WAITING if place < room else DeliveryState.GIVEN_UP,
            0,
            now,
            now,
            None,
        )
        for place, event in enumerate(events)
    ]
