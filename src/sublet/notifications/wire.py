"""Subscriptions, deliveries and events as they cross the API."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from annotated_types import MaxLen, MinLen

from sublet.values.moments import Moment
from sublet.values.wire import LINE, Flag, answer, body

PATTERNS_MAX = 50

Patterns = Annotated[list[Annotated[str, MinLen(1), MaxLen(60), LINE]], MinLen(1), MaxLen(PATTERNS_MAX)]
Name = Annotated[str, MaxLen(120), LINE]


@body
class NewSubscription:
    """Who is told of which events. `kinds` are names such as `lease.ready`, `lease.*`, or `*`; `subject` keeps to events about one
    thing, such as a lease. `format` is the form of a webhook's body. The operator may name an organization; without one the
    subscription is the operator's own."""

    channel: Annotated[str, MaxLen(16), LINE] = "webhook"
    address: Annotated[str, MinLen(1), MaxLen(2_000), LINE]
    kinds: Patterns
    name: Name = ""
    format: Annotated[str, MaxLen(16), LINE] = "standard"
    subject: Annotated[str, MaxLen(80), LINE] | None = None
    organization_id: Annotated[str, MaxLen(40), LINE] | None = None


@body
class SubscriptionChange:
    """What is left out stays. Enabling a subscription forgets its failures."""

    kinds: Patterns | None = None
    enabled: Flag | None = None
    name: Name | None = None


@body
class ConfirmAddress:
    """Code from the confirmation e-mail."""

    code: Annotated[str, MinLen(1), MaxLen(120), LINE]


@answer
class Subscription:
    """Who is told of which events, and how. Without an organization it is the operator's. While it fails, `failing_since` says
    since when. Until an e-mail address is `confirmed`, nothing is sent to it but the question."""

    id: str
    organization_id: str | None
    name: str
    channel: str
    address: str
    format: str
    kinds: list[str]
    subject: str | None
    enabled: bool
    disabled_reason: str | None
    confirmed: bool
    previous_secret_until: Moment | None
    failing_since: Moment | None
    created_by: str
    created_at: Moment


@answer
class SubscriptionSecret(Subscription):
    """A subscription with its new secret, which is shown this once; null where the channel has none."""

    secret: str | None


@answer
class SubscriptionPage:
    """A page of subscriptions, by id."""

    subscriptions: list[Subscription]
    next: str | None


@answer
class TestSent:
    """The id of the event that is sent as a test."""

    event_id: str


@answer
class Attempt:
    """One try to deliver a message: `status` is what the receiver answered, `excerpt` the beginning of its answer."""

    number: int
    at: Moment
    status: int | None
    took_ms: int
    error: str
    excerpt: str


@answer
class Delivery:
    """A message that tells of an event. Its state is `waiting`, `delivered` or `given_up`."""

    id: str
    subscription_id: str
    event_id: str
    type: str
    sequence: int
    state: str
    attempts: int
    next_at: Moment | None
    created_at: Moment
    delivered_at: Moment | None


@answer
class DeliveryLog(Delivery):
    """A message with every attempt, the oldest first."""

    log: list[Attempt]


@answer
class DeliveryPage:
    """A page of messages, the newest event first."""

    deliveries: list[DeliveryLog]
    next: str | None


@answer
class Event:
    """What happened. `data` has the fields of its kind (docs/events.md); `sequence` grows from event to event."""

    id: str
    type: str
    timestamp: Moment
    sequence: int
    schema: int
    organization: str | None
    subject: str
    data: dict[str, Any]


@answer
class EventList:
    """Events after a sequence number, the oldest first; `last` is the number to go on from."""

    events: list[Event]
    last: int


@answer
class EventKind:
    """A kind of event, whom it concerns, and the fields of its `data` with their types."""

    name: str
    audience: Literal["organization", "operator"]
    description: str
    subject: str
    schema: int
    fields: dict[str, str]


@answer
class EventKindList:
    """Every kind of event that the caller may be told of, by name."""

    kinds: list[EventKind]
