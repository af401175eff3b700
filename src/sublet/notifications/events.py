"""What notifications tell of themselves."""

from __future__ import annotations

from dataclasses import dataclass

from sublet.store.events import declare


@dataclass(frozen=True, slots=True)
class SubscriptionFact:
    """A subscription, and what happened to it in one sentence."""

    subscription: str
    name: str
    channel: str
    reason: str


DISABLED = declare(
    "subscription.disabled",
    SubscriptionFact,
    "A subscription of an organization was disabled because its receiver kept failing.",
    subject="subscription",
)
OPERATOR_DISABLED = declare(
    "subscription.operator_disabled",
    SubscriptionFact,
    "A subscription of the operator was disabled because its receiver kept failing.",
    subject="subscription",
    audience="operator",
)
CONFIRMATION = declare(
    "subscription.confirmation",
    SubscriptionFact,
    "An address was asked to confirm a subscription.",
    subject="subscription",
)
OPERATOR_CONFIRMATION = declare(
    "subscription.operator_confirmation",
    SubscriptionFact,
    "An address was asked to confirm a subscription of the operator.",
    subject="subscription",
    audience="operator",
)
TEST = declare("subscription.test", SubscriptionFact, "A test event for a subscription.", subject="subscription")
OPERATOR_TEST = declare(
    "subscription.operator_test",
    SubscriptionFact,
    "A test event for a subscription of the operator.",
    subject="subscription",
    audience="operator",
)
