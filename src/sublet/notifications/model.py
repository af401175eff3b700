"""Subscriptions and deliveries, and the rules of when a message is tried again."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from sublet.values.clock import format_time
from sublet.values.errors import ConflictError, InvalidInputError

RETRY_S = (5, 30, 120, 600, 1_800, 3_600, 7_200, 14_400, 28_800, 43_200, 86_400)
"""Pauses between attempts; the last one repeats."""
GIVE_UP = timedelta(days=3)
"""How long after its first attempt a message is tried."""
PAUSE_S = (5, 10, 30, 60, 120, 300)
"""For how long a receiver that fails gets nothing at all, by its failures in a row."""
RETRY_AFTER_S_MAX = 24 * 3600
OVERLAP = timedelta(hours=24)
"""How long the secret before a rotation signs as well."""
EXCERPT_CHARS_MAX = 500
ERROR_CHARS_MAX = 500
NAME_MAX = 120
ADDRESS_MAX = 2_000


class SubscriptionDisabledError(ConflictError):
    """The subscription is disabled; enable it first."""

    code = "subscription_disabled"


class ConfirmationCodeError(InvalidInputError):
    """The code is wrong or has expired; `sublet notifications test ID` sends another one."""

    code = "confirmation_code"


class NoSecretError(InvalidInputError):
    """Only webhooks are signed, so only they have a secret."""

    code = "no_secret"


class DeliveryState(StrEnum):
    """The life of a message. One that was given up, or was delivered, can be sent again by hand."""

    WAITING = "waiting"
    DELIVERED = "delivered"
    GIVEN_UP = "given_up"


@dataclass(frozen=True, slots=True)
class Subscription:
    """Who is told of which events, and how. `organization_id` is None for the operator's own.

    `internal` subscriptions may name hosts of the operator's network. Nothing is tried before `paused_until`. `failing_since`
    is when the first of the failures in a row was. `confirmed_at` is None while an address that must confirm has not.
    """

    id: str
    organization_id: str | None
    name: str
    channel: str
    address: str
    format: str
    kinds: tuple[str, ...]
    subject: str | None
    secret: str | None
    previous_secret: str | None
    previous_until: datetime | None
    enabled: bool
    disabled_reason: str | None
    internal: bool
    from_position: int
    created_by: str
    created_at: datetime
    paused_until: datetime | None = None
    failures: int = 0
    failing_since: datetime | None = None
    confirmed_at: datetime | None = None

    @property
    def edited(self) -> dict[str, Any]:
        """What its owner may change: an ETag names this, whatever happens to messages meanwhile."""
        return {"id": self.id, "kinds": list(self.kinds), "name": self.name, "enabled": self.enabled}

    def as_dict(self) -> dict[str, Any]:
        """Without its secrets."""
        return {
            "id": self.id,
            "organization_id": self.organization_id,
            "name": self.name,
            "channel": self.channel,
            "address": self.address,
            "format": self.format,
            "kinds": list(self.kinds),
            "subject": self.subject,
            "enabled": self.enabled,
            "disabled_reason": self.disabled_reason,
            "confirmed": self.confirmed_at is not None,
            "previous_secret_until": format_time(self.previous_until) if self.previous_until else None,
            "failing_since": format_time(self.failing_since) if self.failing_since else None,
            "created_by": self.created_by,
            "created_at": format_time(self.created_at),
        }


@dataclass(frozen=True, slots=True)
class SubscriptionMade:
    """A new subscription, or one with a new secret, which is shown once. Empty where the channel has none."""

    subscription: Subscription
    secret: str

    def as_dict(self) -> dict[str, Any]:
        return {**self.subscription.as_dict(), "secret": self.secret or None}


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try to deliver a message: `status` is what the receiver answered, None where it did not."""

    number: int
    at: datetime
    status: int | None
    took_ms: int
    error: str
    excerpt: str

    def as_dict(self) -> dict[str, Any]:
        return {
            "number": self.number,
            "at": format_time(self.at),
            "status": self.status,
            "took_ms": self.took_ms,
            "error": self.error,
            "excerpt": self.excerpt,
        }


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message on its way to the receiver of a subscription."""

    id: str
    subscription_id: str
    event_id: str
    kind: str
    position: int
    state: DeliveryState
    attempts: int
    next_at: datetime
    created_at: datetime
    delivered_at: datetime | None

    def as_dict(self) -> dict[str, Any]:
        waits = self.state is DeliveryState.WAITING
        return {
            "id": self.id,
            "subscription_id": self.subscription_id,
            "event_id": self.event_id,
            "type": self.kind,
            "sequence": self.position,
            "state": self.state.value,
            "attempts": self.attempts,
            "next_at": format_time(self.next_at) if waits else None,
            "created_at": format_time(self.created_at),
            "delivered_at": format_time(self.delivered_at) if self.delivered_at else None,
        }


def retry_at(attempts: int, now: datetime, retry_after_s: float | None, chance: random.Random) -> datetime:
    """When a message that failed `attempts` times is tried again. A receiver's own word is obeyed, within a day."""
    pause_s = RETRY_S[min(max(attempts, 1), len(RETRY_S)) - 1] * chance.uniform(0.9, 1.1)
    if retry_after_s is not None:
        pause_s = max(pause_s, min(retry_after_s, RETRY_AFTER_S_MAX))
    return now + timedelta(seconds=pause_s)


def pause_until(failures: int, now: datetime, retry_after_s: float | None) -> datetime:
    """Until when a receiver that failed so often in a row gets nothing."""
    pause_s: float = PAUSE_S[min(max(failures, 1), len(PAUSE_S)) - 1]
    if retry_after_s is not None:
        pause_s = max(pause_s, min(retry_after_s, RETRY_AFTER_S_MAX))
    return now + timedelta(seconds=pause_s)
