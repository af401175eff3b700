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
    "A subscription of an organization was disabled, since its receiver kept failing.",
    subject="subscription",
)
OPERATOR_DISABLED = declare(
    "subscription.operator_disabled",
    SubscriptionFact,
    "A subscription of the operator was disabled, since its receiver kept failing.",
    subject="subscription",
    audience="operator",
)
CONFIRMATION = declare(
    "subscription.confirmation",
    SubscriptionFact,
    "An address was asked to confirm that it wants the messages of a subscription.",
    subject="subscription",
)
OPERATOR_CONFIRMATION = declare(
    "subscription.operator_confirmation",
    SubscriptionFact,
    "An address was asked to confirm that it wants the messages of a subscription of the operator.",
    subject="subscription",
    audience="operator",
)
TEST = declare(
    "subscription.test", SubscriptionFact, "A test of a subscription; nothing happened.", subject="subscription"
)
OPERATOR_TEST = declare(
    "subscription.operator_test",
    SubscriptionFact,
    "A test of a subscription of the operator; nothing happened.",
    subject="subscription",
    audience="operator",
)
