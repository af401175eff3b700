"""Wire types of subscriptions, deliveries and events."""

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
    """A subscription to events. `kinds` are kinds of events such as `lease.ready`, `lease.*` or `*`. With `subject`, only events
    about that resource, such as a lease, are sent. `format` is the format of a webhook's body. The operator can name an
    organization; without one, the subscription is the operator's own."""

    channel: Annotated[str, MaxLen(16), LINE] = "webhook"
    address: Annotated[str, MinLen(1), MaxLen(2_000), LINE]
    kinds: Patterns
    name: Name = ""
    format: Annotated[str, MaxLen(16), LINE] = "standard"
    subject: Annotated[str, MaxLen(80), LINE] | None = None
    organization_id: Annotated[str, MaxLen(40), LINE] | None = None


@body
class SubscriptionChange:
    """A change of a subscription. Fields that are left out stay the same. Enabling a subscription resets its failures."""

    kinds: Patterns | None = None
    enabled: Flag | None = None
    name: Name | None = None


@body
class ConfirmAddress:
    """The code from the confirmation email."""

    code: Annotated[str, MinLen(1), MaxLen(120), LINE]


@answer
class Subscription:
    """A subscription to events. Without an organization, it is the operator's. `failing_since` is set while deliveries fail.
    Until an e-mail address is `confirmed`, it is sent only the confirmation."""

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
    """A subscription with its new secret, which is shown only once. It is null if the channel has no secret."""

    secret: str | None


@answer
class SubscriptionPage:
    """A page of subscriptions, by id."""

    subscriptions: list[Subscription]
    next: str | None


@answer
class TestSent:
    """The id of the test event."""

    event_id: str


@answer
class Attempt:
    """An attempt to deliver a message. `status` is the HTTP status of the response, and `excerpt` is the beginning of its
    body."""

    number: int
    at: Moment
    status: int | None
    took_ms: int
    error: str
    excerpt: str


@answer
class Delivery:
    """A message about an event. `state` is `waiting`, `delivered` or `given_up`."""

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
    """A message with every attempt, oldest first."""

    log: list[Attempt]


@answer
class DeliveryPage:
    """A page of messages, newest event first."""

    deliveries: list[DeliveryLog]
    next: str | None


@answer
class Event:
    """An event. `data` has the fields of its type (docs/events.md). `sequence` increases from event to event."""

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
    """Events after a sequence number, oldest first. Use `last` to request the next ones."""

    events: list[Event]
    last: int


@answer
class EventKind:
    """A kind of event, its audience, and the fields of its `data` with their types."""

    name: str
    audience: Literal["organization", "operator"]
    description: str
    subject: str
    schema: int
    fields: dict[str, str]


@answer
class EventKindList:
    """The kinds of events that the caller can subscribe to, by name."""

    kinds: list[EventKind]
