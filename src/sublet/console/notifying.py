"""Who is notified of events: webhooks and e-mail, with the log of every delivery."""

from __future__ import annotations

from sublet.console.page import Act, Drawn, Go, Screen, Visit
from sublet.notifications.kinds import all_kinds
from sublet.notifications.model import Delivery, DeliveryState, Subscription, SubscriptionMade
from sublet.notifications.service import NewSubscription, Notifications, Owner
from sublet.store.paging import PageRequest
from sublet.values.errors import InvalidInputError

PATH = "/notifications"
SHOWN_MAX = 50
CHANNELS = {
    "standard": "Webhook, signed JSON",
    "slack": "Slack",
    "teams": "Microsoft Teams",
    "email": "E-mail",
}
"""By what a form names it. The first three are formats of webhooks."""


class Notifying:
    """The screens of subscriptions: one's own organization's, and for the operator, the operator's."""

    def __init__(self, notifications: Notifications) -> None:
        self._notifications = notifications

    def screens(self) -> tuple[Screen, ...]:
        """`/notifications` and `/notifications/{subscription_id}`."""
        read, write = "subscriptions:read", "subscriptions:write"
        one = {
            "test": Act(write, self._test),
            "rotate": Act(write, self._rotate, dangerous=True, once=SubscriptionMade),
            "kinds": Act(write, self._change_kinds),
            "enable": Act(write, self._enable),
            "disable": Act(write, self._disable),
            "redeliver": Act(write, self._redeliver),
            "remove": Act(write, self._remove),
        }
        return (
            Screen(
                PATH,
                "Notifications",
                read,
                lambda visit: self._listed(visit, None),
                {"create": Act(write, self._create, dangerous=True, once=SubscriptionMade)},
            ),
            Screen(f"{PATH}/{{subscription_id}}", "", read, lambda visit: self._one(visit, None), one),
        )

    def _listed(self, visit: Visit, made: SubscriptionMade | None) -> Drawn:
        owner = _owner(visit)
        kinds = [kind for kind in all_kinds() if owner.organization_id is None or kind.audience == "organization"]
        return Drawn(
            "notifications.html",
            {
                "page": self._notifications.page(owner, PageRequest(SHOWN_MAX, visit.query.get("after"))),
                "kinds": kinds,
                "channels": CHANNELS,
                "channel_of": _channel_of,
                "made": made,
                **_about(visit),
            },
        )

    def _one(self, visit: Visit, made: SubscriptionMade | None) -> Drawn:
        owner, name = _owner(visit), visit.path["subscription_id"]
        state = visit.query.get("state") or None
        return Drawn(
            "notification.html",
            {
                "item": self._notifications.subscription(owner, name),
                "page": self._notifications.delivery_page(
                    owner, name, PageRequest(SHOWN_MAX, visit.query.get("after")), state
                ),
                "state": state or "",
                "states": [item.value for item in DeliveryState],
                "channels": CHANNELS,
                "channel_of": _channel_of,
                "made": made,
                "done": visit.query.get("done", ""),
                "here": "Notifications",
                **_about(visit),
            },
        )

    def _create(self, visit: Visit) -> Drawn:
        form, wanted = visit.form, visit.form.text("channel")
        if wanted not in CHANNELS:
            raise InvalidInputError("choose where the messages go", field="channel")
        is_mail = wanted == "email"
        new = NewSubscription(
            "email" if is_mail else "webhook",
            form.text("address").strip(),
            _kinds_in(visit),
            form.text("name").strip(),
            "standard" if is_mail else wanted,
        )
        return self._listed(visit, self._notifications.create(_owner(visit), new, visit.actor.id))

    def _test(self, visit: Visit) -> Go:
        self._notifications.test(_owner(visit), visit.path["subscription_id"], visit.actor.id)
        return self._back(visit, "?done=test")

    def _rotate(self, visit: Visit) -> Drawn:
        return self._one(visit, self._notifications.rotate(_owner(visit), visit.path["subscription_id"]))

    def _change_kinds(self, visit: Visit) -> Go:
        name, kinds = visit.path["subscription_id"], _kinds_in(visit)
        self._notifications.change(_owner(visit), name, kinds=kinds, name=visit.form.text("name").strip())
        return self._back(visit)

    def _enable(self, visit: Visit) -> Go:
        self._notifications.change(_owner(visit), visit.path["subscription_id"], enabled=True)
        return self._back(visit)

    def _disable(self, visit: Visit) -> Go:
        self._notifications.change(_owner(visit), visit.path["subscription_id"], enabled=False)
        return self._back(visit)

    def _redeliver(self, visit: Visit) -> Go:
        found: Delivery = self._notifications.redeliver(_owner(visit), visit.form.text("delivery")[:40])
        return Go(f"{PATH}/{found.subscription_id}?done=redelivered")

    def _remove(self, visit: Visit) -> Go:
        if visit.form.text("sure") != "yes":
            raise InvalidInputError("select the checkbox to confirm that its pending messages and its log are deleted")
        self._notifications.remove(_owner(visit), visit.path["subscription_id"])
        return Go(PATH)

    def _back(self, visit: Visit, query: str = "") -> Go:
        found = self._notifications.subscription(_owner(visit), visit.path["subscription_id"])
        return Go(f"{PATH}/{found.id}{query}")


def _owner(visit: Visit) -> Owner:
    organization_id = None if visit.actor.everywhere else visit.actor.organization_id
    return Owner(organization_id, internal=visit.actor.kind != "customer")


def _about(visit: Visit) -> dict[str, object]:
    return {"may_write": bool(visit.actor.may("subscriptions:write")), "at": visit.at}


def _kinds_in(visit: Visit) -> tuple[str, ...]:
    return tuple(part for part in visit.form.text("kinds").replace(",", " ").split() if part)


def _channel_of(item: Subscription) -> str:
    """What a form calls the channel of a subscription."""
    return CHANNELS.get(item.format if item.channel == "webhook" else item.channel, item.channel)
