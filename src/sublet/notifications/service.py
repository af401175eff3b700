"""Subscriptions: who is told of which events. Each belongs to an organization, or is the operator's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection

from sublet.notifications import store as sql
from sublet.notifications.channels.base import Channel
from sublet.notifications.events import CONFIRMATION, OPERATOR_CONFIRMATION, OPERATOR_TEST, TEST, SubscriptionFact
from sublet.notifications.kinds import checked_patterns
from sublet.notifications.links import Links
from sublet.notifications.model import (
    ADDRESS_MAX,
    NAME_MAX,
    OVERLAP,
    Attempt,
    ConfirmationCodeError,
    Delivery,
    DeliveryState,
    NoSecretError,
    Subscription,
    SubscriptionDisabledError,
    SubscriptionMade,
)
from sublet.notifications.signing import new_secret
from sublet.store import Store, outbox
from sublet.store.paging import Page, PageRequest
from sublet.store.sealing import Sealing
from sublet.values.errors import InvalidInputError, LimitExceededError, NotFoundError
from sublet.values.etags import ANY_STATE, Condition
from sublet.values.ids import new_id
from sublet.values.text import checked_line

SUBSCRIPTIONS_MAX = 50
CONFIRMATIONS_PER_DAY = 20
"""Mails that ask an address to confirm, by owner: anyone who subscribes strangers is soon stopped."""


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose subscription it is: an organization's, or, without one, the operator's. `internal` owners may name hosts of the
    operator's network."""

    organization_id: str | None
    internal: bool = False


@dataclass(frozen=True, slots=True)
class NewSubscription:
    """What somebody subscribes to, how and where to. `subject` keeps to events about one thing, such as a lease."""

    channel: str
    address: str
    kinds: tuple[str, ...]
    name: str = ""
    format: str = "standard"
    subject: str | None = None


class Notifications:
    """The use cases of subscriptions. Every call names the owner: another's subscription is not found."""

    def __init__(
        self,
        store: Store,
        channels: Mapping[str, Channel],
        sealing: Sealing,
        subscriptions_max: int = SUBSCRIPTIONS_MAX,
        public_url: str = "",
    ) -> None:
        self._store = store
        self._channels = channels
        self._sealing = sealing
        self._subscriptions_max = subscriptions_max
        self.links = Links(sealing, public_url)

    @property
    def store(self) -> Store:
        return self._store

    def create(self, owner: Owner, wanted: NewSubscription, created_by: str) -> SubscriptionMade:
        """Subscribe; events from now on are told, once an address that must be confirmed is. Raises InvalidInputError,
        DestinationRefusedError, LimitExceededError."""
        channel = self._channel(wanted.channel, owner)
        if wanted.format not in channel.formats:
            raise InvalidInputError(f"the format of a {channel.name} must be one of {', '.join(channel.formats)}")
        if not 0 < len(wanted.address) <= ADDRESS_MAX:
            raise InvalidInputError(f"address must have 1 to {ADDRESS_MAX} characters")
        secret = new_secret() if channel.signed else ""
        now = self._store.clock.now()
        made = Subscription(
            id=new_id("sub"),
            organization_id=owner.organization_id,
            name=checked_line(wanted.name, "name", NAME_MAX, 1) if wanted.name else "",
            channel=channel.name,
            address=channel.checked_address(wanted.address, internal=owner.internal),
            format=wanted.format,
            kinds=checked_patterns(wanted.kinds, operator=owner.organization_id is None),
            subject=checked_line(wanted.subject, "subject", 80, 1) if wanted.subject else None,
            secret=None,
            previous_secret=None,
            previous_until=None,
            enabled=True,
            disabled_reason=None,
            internal=owner.internal,
            from_position=0,
            created_by=created_by,
            created_at=now,
            confirmed_at=None if channel.confirmed else now,
        )
        sealed = self._sealing.seal(secret, made.id) if secret else None

        def write(connection: Connection) -> SubscriptionMade:
            self._store.lock(connection, f"subscriptions:{owner.organization_id or ''}")
            if sql.count_of(connection, owner.organization_id) >= self._subscriptions_max:
                raise LimitExceededError(
                    f"there are already {self._subscriptions_max} subscriptions, the maximum; remove one first"
                )
            first = replace(made, secret=sealed, from_position=outbox.last_position(connection))
            sql.insert_subscription(connection, first)
            if first.confirmed_at is None:
                self._ask(connection, first, created_by)
            return SubscriptionMade(first, secret)

        return self._store.write(write)

    def page(self, owner: Owner, wanted: PageRequest = PageRequest(), channel: str | None = None) -> Page[Subscription]:
        """By id. Raises InvalidCursorError."""
        with self._store.read() as connection:
            return sql.subscription_page(connection, owner.organization_id, wanted, channel)

    def subscription(self, owner: Owner, subscription_id: str) -> Subscription:
        """Raises NotFoundError."""
        with self._store.read() as connection:
            return _owned(connection, owner, subscription_id)

    def change(
        self,
        owner: Owner,
        subscription_id: str,
        *,
        kinds: Sequence[str] | None = None,
        enabled: bool | None = None,
        name: str | None = None,
        seen: Condition = ANY_STATE,
    ) -> Subscription:
        """What is None stays. Enabling forgets the failures. Raises NotFoundError, InvalidInputError, PreconditionFailedError."""
        values: dict[str, Any] = {}
        if kinds is not None:
            values["kinds"] = list(checked_patterns(kinds, operator=owner.organization_id is None))
        if name is not None:
            values["name"] = checked_line(name, "name", NAME_MAX, 1) if name else ""
        if enabled is not None:
            values |= {"enabled": enabled, "disabled_reason": None if enabled else "disabled by its owner"}
        if enabled:
            values |= {"failures": 0, "failing_since": None, "paused_until": None}

        def write(connection: Connection) -> Subscription:
            self._store.lock(connection, f"subscription:{subscription_id}")
            found = _owned(connection, owner, subscription_id)
            seen.require(found.edited)
            if values:
                if enabled and not found.enabled:
                    # Nothing of the time in which it was disabled is told.
                    values["from_position"] = outbox.last_position(connection)
                sql.update_subscription(connection, found.id, **values)
            return _owned(connection, owner, subscription_id)

        return self._store.write(write)

    def rotate(self, owner: Owner, subscription_id: str) -> SubscriptionMade:
        """A new secret; the one before signs as well for OVERLAP. Raises NotFoundError, NoSecretError."""
        secret = new_secret()

        def write(connection: Connection) -> SubscriptionMade:
            found = _owned(connection, owner, subscription_id)
            if found.secret is None:
                raise NoSecretError()
            sql.update_subscription(
                connection,
                found.id,
                secret=self._sealing.seal(secret, found.id),
                previous_secret=found.secret,
                previous_until=self._store.clock.now() + OVERLAP,
            )
            return SubscriptionMade(_owned(connection, owner, subscription_id), secret)

        return self._store.write(write)

    def remove(self, owner: Owner, subscription_id: str, seen: Condition = ANY_STATE) -> None:
        """End it, with what waits and its log. Raises NotFoundError, PreconditionFailedError."""

        def write(connection: Connection) -> None:
            self._store.lock(connection, f"subscription:{subscription_id}")
            found = _owned(connection, owner, subscription_id)
            seen.require(found.edited)
            sql.delete_subscription(connection, found.id)

        self._store.write(write)

    def test(self, owner: Owner, subscription_id: str, actor: str) -> str:
        """Send an event that says it is a test to this subscription alone, or ask an address once more that has not confirmed; the
        event's id. Raises NotFoundError, SubscriptionDisabledError, LimitExceededError."""

        def write(connection: Connection) -> str:
            found = _owned(connection, owner, subscription_id)
            if not found.enabled:
                raise SubscriptionDisabledError()
            if found.confirmed_at is None:
                self._store.lock(connection, f"subscriptions:{owner.organization_id or ''}")
                return self._ask(connection, found, actor)
            kind = OPERATOR_TEST if found.organization_id is None else TEST
            fact = SubscriptionFact(found.id, found.name, found.channel, f"asked for by {actor}")
            return kind.record(connection, fact, self._store.clock.now(), organization_id=found.organization_id)

        return self._store.write(write)

    def delivery_page(
        self, owner: Owner, subscription_id: str, wanted: PageRequest = PageRequest(), state: str | None = None
    ) -> Page[tuple[Delivery, list[Attempt]]]:
        """The log, the newest event first, each message with its attempts. Raises NotFoundError, InvalidInputError,
        InvalidCursorError."""
        if state is not None and state not in set(DeliveryState):
            raise InvalidInputError(f"state must be one of {', '.join(DeliveryState)}", field="state")
        with self._store.read() as connection:
            _owned(connection, owner, subscription_id)
            found = sql.delivery_page(connection, subscription_id, wanted, state)
            attempts = sql.attempts_of(connection, [item.id for item in found.items])
        return found.map(lambda item: (item, attempts.get(item.id, [])))

    def redeliver(self, owner: Owner, delivery_id: str) -> Delivery:
        """Send a message again, with the same id. Raises NotFoundError, SubscriptionDisabledError."""

        def write(connection: Connection) -> Delivery:
            found = sql.delivery(connection, delivery_id)
            if found is None:
                raise NotFoundError(f"there is no delivery {delivery_id[:40]!r}")
            subscription = _owned(connection, owner, found.subscription_id)
            if not subscription.enabled:
                raise SubscriptionDisabledError()
            now = self._store.clock.now()
            if not outbox.by_ids(connection, [found.event_id]):
                raise NotFoundError("this event is no longer stored; see notifications.retention_days")
            sql.update_delivery(connection, found.id, state=DeliveryState.WAITING.value, next_at=now, created_at=now)
            sql.update_subscription(connection, subscription.id, paused_until=None)
            again = sql.delivery(connection, delivery_id)
            assert again is not None
            return again

        return self._store.write(write)

    # -- what the readers of mail say

    def confirm(self, subscription_id: str, code: str, owner: Owner | None = None) -> Subscription:
        """The address is confirmed: it is notified of events from now on. Without an `owner`, for anyone who has the link.

        Raises NotFoundError, ConfirmationCodeError.
        """

        def write(connection: Connection) -> Subscription:
            found = sql.subscription(connection, subscription_id) if owner is None else None
            if owner is not None:
                found = _owned(connection, owner, subscription_id)
            now = self._store.clock.now()
            if found is None or not self.links.confirms(found, code, now):
                raise ConfirmationCodeError()
            if found.confirmed_at is not None:
                return found
            # A mail that was just sent holds up nothing of what comes now.
            values = {"from_position": outbox.last_position(connection), "paused_until": None}
            sql.update_subscription(connection, found.id, confirmed_at=now, **values)
            return sql.subscription(connection, found.id) or found

        return self._store.write(write)

    def leave(self, subscription_id: str, token: str) -> Subscription:
        """Disable the subscription that a link names. Raises NotFoundError for any link that Sublet has not made."""

        def write(connection: Connection) -> Subscription:
            found = sql.subscription(connection, subscription_id)
            if found is None or not self.links.leaves(found, token):
                raise NotFoundError("this link is no longer valid")
            sql.update_subscription(
                connection, found.id, enabled=False, disabled_reason="unsubscribed by a link in a mail"
            )
            return found

        return self._store.write(write)

    def _ask(self, connection: Connection, subscription: Subscription, actor: str) -> str:
        """Have the address asked whether it wants messages; the event's id. To be called under the lock of the owner's subscriptions.
        Raises LimitExceededError."""
        now, owner = self._store.clock.now(), subscription.organization_id
        kind = OPERATOR_CONFIRMATION if owner is None else CONFIRMATION
        if outbox.count_since(connection, kind.name, owner, now - timedelta(days=1)) >= CONFIRMATIONS_PER_DAY:
            raise LimitExceededError(
                f"{CONFIRMATIONS_PER_DAY} addresses were asked to confirm within a day; try again tomorrow"
            )
        fact = SubscriptionFact(subscription.id, subscription.name, subscription.channel, f"asked for by {actor}")
        return kind.record(connection, fact, now, organization_id=owner)

    def _channel(self, name: str, owner: Owner) -> Channel:
        channel = self._channels.get(name)
        if channel is None or (channel.operator_only and owner.organization_id is not None):
            known = [
                item.name for item in self._channels.values() if owner.organization_id is None or not item.operator_only
            ]
            raise InvalidInputError(f"channel must be one of {', '.join(known)}")
        return channel


def reseal(store: Store, sealing: Sealing) -> int:
    """Seal every stored secret with the present key; how many were not. Raises SealingKeyError where one can't be opened."""

    def write(connection: Connection) -> int:
        changed = 0
        for item in sql.with_secrets(connection):
            values = {
                name: sealing.seal(sealing.open(sealed, item.id), item.id)
                for name, sealed in (("secret", item.secret), ("previous_secret", item.previous_secret))
                if sealed is not None and not sealing.is_current(sealed)
            }
            if values:
                sql.update_subscription(connection, item.id, **values)
                changed += 1
        return changed

    return store.write(write)


def _owned(connection: Connection, owner: Owner, subscription_id: str) -> Subscription:
    found = sql.subscription(connection, subscription_id)
    if found is None or found.organization_id != owner.organization_id:
        raise NotFoundError(f"there is no subscription {subscription_id[:40]!r}; `sublet notifications ls` lists yours")
    return found
