"""The SQL of subscriptions and deliveries."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, delete, func, insert, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite

from sublet.notifications.model import Attempt, Delivery, DeliveryState, Subscription
from sublet.store.paging import Listing, Page, PageRequest
from sublet.store.tables.notifications import deliveries, delivery_attempts, subscriptions

IDS_AT_ONCE = 500


def insert_subscription(connection: Connection, made: Subscription) -> None:
    connection.execute(
        insert(subscriptions).values(
            id=made.id,
            organization_id=made.organization_id,
            name=made.name,
            channel=made.channel,
            address=made.address,
            format=made.format,
            kinds=list(made.kinds),
            subject=made.subject,
            secret=made.secret,
            previous_secret=made.previous_secret,
            previous_until=made.previous_until,
            enabled=made.enabled,
            disabled_reason=made.disabled_reason,
            internal=made.internal,
            from_position=made.from_position,
            created_by=made.created_by,
            created_at=made.created_at,
            paused_until=made.paused_until,
            failures=made.failures,
            failing_since=made.failing_since,
            confirmed_at=made.confirmed_at,
        )
    )


def update_subscription(connection: Connection, subscription_id: str, **values: Any) -> bool:
    changed = connection.execute(update(subscriptions).where(subscriptions.c.id == subscription_id).values(**values))
    return changed.rowcount == 1


def delete_subscription(connection: Connection, subscription_id: str) -> None:
    """With its deliveries and their log."""
    own = select(deliveries.c.id).where(deliveries.c.subscription_id == subscription_id)
    connection.execute(delete(delivery_attempts).where(delivery_attempts.c.delivery_id.in_(own)))
    connection.execute(delete(deliveries).where(deliveries.c.subscription_id == subscription_id))
    connection.execute(delete(subscriptions).where(subscriptions.c.id == subscription_id))


def subscription(connection: Connection, subscription_id: str) -> Subscription | None:
    row = connection.execute(select(subscriptions).where(subscriptions.c.id == subscription_id)).first()
    return _subscription(row) if row else None


def subscription_page(
    connection: Connection, organization_id: str | None, wanted: PageRequest, channel: str | None = None
) -> Page[Subscription]:
    """Of an organization, or the operator's own where it is None. Raises InvalidCursorError."""
    query = select(subscriptions).where(
        subscriptions.c.organization_id.is_(None)
        if organization_id is None
        else subscriptions.c.organization_id == organization_id
    )
    if channel is not None:
        query = query.where(subscriptions.c.channel == channel)
    return Listing("subscriptions", [subscriptions.c.id]).read(connection, query, wanted).map(_subscription)


def count_of(connection: Connection, organization_id: str | None) -> int:
    wanted = (
        subscriptions.c.organization_id.is_(None)
        if organization_id is None
        else subscriptions.c.organization_id == organization_id
    )
    return connection.execute(select(func.count()).select_from(subscriptions).where(wanted)).scalar_one()


def enabled_for(connection: Connection, organizations: Collection[str]) -> list[Subscription]:
    """Enabled ones of these organizations, and the operator's own."""
    wanted = select(subscriptions).where(
        subscriptions.c.enabled.is_(True),
        or_(subscriptions.c.organization_id.is_(None), subscriptions.c.organization_id.in_(list(organizations))),
    )
    return [_subscription(row) for row in connection.execute(wanted.order_by(subscriptions.c.id))]


def with_secrets(connection: Connection) -> list[Subscription]:
    wanted = or_(subscriptions.c.secret.is_not(None), subscriptions.c.previous_secret.is_not(None))
    return [_subscription(row) for row in connection.execute(select(subscriptions).where(wanted))]


def insert_deliveries(connection: Connection, made: Sequence[Delivery]) -> None:
    """Those that are there already stay as they are."""
    if not made:
        return
    rows = [
        {
            "id": item.id,
            "subscription_id": item.subscription_id,
            "event_id": item.event_id,
            "kind": item.kind,
            "position": item.position,
            "state": item.state.value,
            "attempts": item.attempts,
            "next_at": item.next_at,
            "created_at": item.created_at,
            "delivered_at": item.delivered_at,
        }
        for item in made
    ]
    if connection.dialect.name == "postgresql":
        connection.execute(postgresql.insert(deliveries).on_conflict_do_nothing(index_elements=["id"]), rows)
    else:
        connection.execute(sqlite.insert(deliveries).on_conflict_do_nothing(index_elements=["id"]), rows)


def due_subscriptions(
    connection: Connection, now: datetime, without: Collection[str], limit: int
) -> list[Subscription]:
    """Enabled ones that are not paused and have a message that is due, the longest due first."""
    oldest = (
        select(deliveries.c.subscription_id, func.min(deliveries.c.next_at).label("since"))
        .where(deliveries.c.state == DeliveryState.WAITING.value, deliveries.c.next_at <= now)
        .group_by(deliveries.c.subscription_id)
        .subquery()
    )
    wanted = (
        select(subscriptions)
        .join(oldest, oldest.c.subscription_id == subscriptions.c.id)
        .where(
            subscriptions.c.enabled.is_(True),
            or_(subscriptions.c.paused_until.is_(None), subscriptions.c.paused_until <= now),
            subscriptions.c.id.not_in(list(without)),
        )
        .order_by(oldest.c.since, subscriptions.c.id)
        .limit(limit)
    )
    return [_subscription(row) for row in connection.execute(wanted)]


def due_deliveries(connection: Connection, subscription_id: str, now: datetime, limit: int) -> list[Delivery]:
    """What waits of a subscription and is due, in the order of the events."""
    wanted = select(deliveries).where(
        deliveries.c.subscription_id == subscription_id,
        deliveries.c.state == DeliveryState.WAITING.value,
        deliveries.c.next_at <= now,
    )
    return [_delivery(row) for row in connection.execute(wanted.order_by(deliveries.c.position).limit(limit))]


def waiting_count(connection: Connection, subscription_id: str, most: int) -> int:
    """How many messages of a subscription wait, counted up to `most`."""
    some = (
        select(deliveries.c.id)
        .where(deliveries.c.subscription_id == subscription_id, deliveries.c.state == DeliveryState.WAITING.value)
        .limit(most)
        .subquery()
    )
    return connection.execute(select(func.count()).select_from(some)).scalar_one()


def oldest_due(connection: Connection, now: datetime) -> datetime | None:
    """Since when the longest waiting message is due of a subscription that is enabled and not paused."""
    wanted = (
        select(func.min(deliveries.c.next_at))
        .join(subscriptions, subscriptions.c.id == deliveries.c.subscription_id)
        .where(
            deliveries.c.state == DeliveryState.WAITING.value,
            deliveries.c.next_at <= now,
            subscriptions.c.enabled.is_(True),
            or_(subscriptions.c.paused_until.is_(None), subscriptions.c.paused_until <= now),
        )
    )
    return connection.execute(wanted).scalar()


def failing_count(connection: Connection) -> int:
    wanted = select(func.count()).select_from(subscriptions)
    return connection.execute(wanted.where(subscriptions.c.failing_since.is_not(None))).scalar_one()


def update_delivery(connection: Connection, delivery_id: str, **values: Any) -> bool:
    return connection.execute(update(deliveries).where(deliveries.c.id == delivery_id).values(**values)).rowcount == 1


def give_up_waiting(connection: Connection, subscription_id: str) -> None:
    connection.execute(
        update(deliveries)
        .where(deliveries.c.subscription_id == subscription_id, deliveries.c.state == DeliveryState.WAITING.value)
        .values(state=DeliveryState.GIVEN_UP.value)
    )


def insert_attempt(connection: Connection, delivery_id: str, attempt: Attempt) -> None:
    """Once per number: an attempt that a crash left unwritten takes its number again."""
    values = {
        "delivery_id": delivery_id,
        "number": attempt.number,
        "at": attempt.at,
        "status": attempt.status,
        "took_ms": attempt.took_ms,
        "error": attempt.error,
        "excerpt": attempt.excerpt,
    }
    keys = ["delivery_id", "number"]
    if connection.dialect.name == "postgresql":
        connection.execute(
            postgresql.insert(delivery_attempts).values(**values).on_conflict_do_nothing(index_elements=keys)
        )
    else:
        connection.execute(
            sqlite.insert(delivery_attempts).values(**values).on_conflict_do_nothing(index_elements=keys)
        )


def delivery(connection: Connection, delivery_id: str) -> Delivery | None:
    row = connection.execute(select(deliveries).where(deliveries.c.id == delivery_id)).first()
    return _delivery(row) if row else None


def delivery_page(
    connection: Connection, subscription_id: str, wanted: PageRequest, state: str | None = None
) -> Page[Delivery]:
    """The newest event first. Raises InvalidCursorError."""
    query = select(deliveries).where(deliveries.c.subscription_id == subscription_id)
    if state is not None:
        query = query.where(deliveries.c.state == state)
    listing = Listing("deliveries", [deliveries.c.position], descending=True)
    return listing.read(connection, query, wanted).map(_delivery)


def states_of_events(connection: Connection, event_ids: Collection[str]) -> dict[str, list[tuple[str, str, str]]]:
    """By event: the channel, the state and the last error of each of its messages."""
    found: dict[str, list[tuple[str, str, str]]] = {}
    ids = list(event_ids)
    for start in range(0, len(ids), IDS_AT_ONCE):
        wanted = (
            select(deliveries.c.event_id, subscriptions.c.channel, deliveries.c.state, delivery_attempts.c.error)
            .join(subscriptions, subscriptions.c.id == deliveries.c.subscription_id)
            .outerjoin(
                delivery_attempts,
                (delivery_attempts.c.delivery_id == deliveries.c.id)
                & (delivery_attempts.c.number == deliveries.c.attempts),
            )
            .where(deliveries.c.event_id.in_(ids[start : start + IDS_AT_ONCE]))
            .order_by(deliveries.c.id)
        )
        for row in connection.execute(wanted):
            found.setdefault(row.event_id, []).append((row.channel, row.state, row.error or ""))
    return found


def attempts_of(connection: Connection, delivery_ids: Collection[str]) -> dict[str, list[Attempt]]:
    wanted = select(delivery_attempts).where(delivery_attempts.c.delivery_id.in_(list(delivery_ids)))
    found: dict[str, list[Attempt]] = {}
    for row in connection.execute(wanted.order_by(delivery_attempts.c.number)):
        attempt = Attempt(row.number, row.at, row.status, row.took_ms, row.error, row.excerpt)
        found.setdefault(row.delivery_id, []).append(attempt)
    return found


def any_before(connection: Connection, moment: datetime) -> bool:
    return (
        connection.execute(select(deliveries.c.id).where(deliveries.c.created_at < moment).limit(1)).first() is not None
    )


def prune(connection: Connection, before: datetime, limit: int) -> int:
    """Forget messages made before that moment, delivered or not, with their log, at most `limit` of them."""
    ids = list(
        connection.execute(
            select(deliveries.c.id)
            .where(deliveries.c.created_at < before)
            .order_by(deliveries.c.created_at)
            .limit(limit)
        ).scalars()
    )
    for start in range(0, len(ids), IDS_AT_ONCE):
        part = ids[start : start + IDS_AT_ONCE]
        connection.execute(delete(delivery_attempts).where(delivery_attempts.c.delivery_id.in_(part)))
        connection.execute(delete(deliveries).where(deliveries.c.id.in_(part)))
    return len(ids)


def _subscription(row: Row[Any]) -> Subscription:
    return Subscription(
        row.id,
        row.organization_id,
        row.name,
        row.channel,
        row.address,
        row.format,
        tuple(row.kinds),
        row.subject,
        row.secret,
        row.previous_secret,
        row.previous_until,
        row.enabled,
        row.disabled_reason,
        row.internal,
        row.from_position,
        row.created_by,
        row.created_at,
        row.paused_until,
        row.failures,
        row.failing_since,
        row.confirmed_at,
    )


def _delivery(row: Row[Any]) -> Delivery:
    return Delivery(
        row.id,
        row.subscription_id,
        row.event_id,
        row.kind,
        row.position,
        DeliveryState(row.state),
        row.attempts,
        row.next_at,
        row.created_at,
        row.delivered_at,
    )
