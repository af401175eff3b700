"""`sublet webhook`, `sublet notifications`: who is told of events, and what was sent."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from sublet.client.remote import connect
from sublet.output import JsonFlag, note, print_fields, print_json, print_rows, say
from sublet.values.errors import InvalidInputError

WAIT_S = 25
_READ_S = 60.0

webhook = typer.Typer(no_args_is_help=True, help="Webhooks: signed messages to a URL when something happens.")
notifications = typer.Typer(
    no_args_is_help=True, help="Who is notified of events, by which channel, and what was sent."
)

SubscriptionId = Annotated[str, typer.Argument(help="Id of a subscription (sub_…).")]
DeliveryId = Annotated[str, typer.Argument(help="Id of a delivery, as shown by `deliveries`.")]
Kinds = Annotated[
    list[str] | None,
    typer.Option("--kind", help="Kind of event, such as lease.ready or lease.*; can be repeated. By default all."),
]
Organization = Annotated[
    str | None, typer.Option(help="For operators: the organization, by id or name; by default the operator's own.")
]
Subject = Annotated[str | None, typer.Option(help="Only events about this subject, such as a lease id.")]
Name = Annotated[str, typer.Option(help="What it is for.")]

_COLUMNS = {"id": "subscription", "channel": "channel", "address": "address", "kinds": "kinds", "state": "state"}
_LOG = {
    "id": "delivery",
    "type": "event",
    "sequence": "number",
    "state": "state",
    "attempts": "attempts",
    "last": "last",
}


@webhook.command("add")
def add_webhook(
    url: Annotated[str, typer.Argument(help="HTTPS URL to which messages are posted.")],
    kind: Kinds = None,
    form: Annotated[str, typer.Option("--format", help="standard, slack or teams.")] = "standard",
    name: Name = "",
    subject: Subject = None,
    organization: Organization = None,
    as_json: JsonFlag = False,
) -> None:
    """Post events to a URL from now on. The signing secret is shown only this time."""
    _subscribe({"channel": "webhook", "address": url, "format": form}, kind, name, subject, organization, as_json)


@notifications.command("add")
def add_subscription(
    channel: Annotated[str, typer.Argument(help="email, file (operator only), or webhook.")],
    address: Annotated[str, typer.Argument(help="An e-mail address, the name of a file, or a URL.")],
    kind: Kinds = None,
    name: Name = "",
    subject: Subject = None,
    organization: Organization = None,
    as_json: JsonFlag = False,
) -> None:
    """Notify somebody of events from now on."""
    _subscribe({"channel": channel, "address": address}, kind, name, subject, organization, as_json)


@webhook.command("ls")
def list_webhooks(organization: Organization = None, as_json: JsonFlag = False) -> None:
    """List webhooks."""
    _list("webhook", organization, as_json)


@notifications.command("ls")
def list_subscriptions(organization: Organization = None, as_json: JsonFlag = False) -> None:
    """List subscriptions of every channel."""
    _list(None, organization, as_json)


@webhook.command("show")
@notifications.command("show")
def show(subscription_id: SubscriptionId, organization: Organization = None, as_json: JsonFlag = False) -> None:
    """Show a subscription."""
    query = {"organization_id": organization}
    found = connect().document("notifications.show_subscription", subscription_id, query=query)
    if as_json:
        print_json(found)
    else:
        print_fields({**found, "kinds": ", ".join(found["kinds"]), "state": _state(found)})


@webhook.command("rotate")
def rotate(subscription_id: SubscriptionId, organization: Organization = None, as_json: JsonFlag = False) -> None:
    """Create a new secret. For 24 hours, messages are also signed with the previous one."""
    query = {"organization_id": organization}
    made = connect().document("notifications.rotate", subscription_id, query=query)
    if as_json:
        print_json(made)
        return
    say(made["secret"])
    note("It is shown only once. For 24 hours, messages are also signed with the previous secret.")


@webhook.command("test")
@notifications.command("test")
def send_test(subscription_id: SubscriptionId, organization: Organization = None, as_json: JsonFlag = False) -> None:
    """Send a test event, or send another confirmation request to an unconfirmed address."""
    query = {"organization_id": organization}
    sent = connect().document("notifications.send_test", subscription_id, query=query)
    if as_json:
        print_json(sent)
    else:
        say(f"{sent['event_id']} was queued; to see the result, use `deliveries`")


@notifications.command("confirm")
def confirm(
    subscription_id: SubscriptionId,
    code: Annotated[str, typer.Argument(help="Code from the confirmation e-mail.")],
    organization: Organization = None,
    as_json: JsonFlag = False,
) -> None:
    """Confirm an e-mail address; from then on it receives events."""
    query = {"organization_id": organization}
    found = connect().document("notifications.confirm", subscription_id, body={"code": code}, query=query)
    if as_json:
        print_json(found)
    else:
        say(f"{found['address']} is confirmed")


@webhook.command("deliveries")
@notifications.command("deliveries")
def list_deliveries(
    subscription_id: SubscriptionId,
    state: Annotated[str | None, typer.Option(help="waiting, delivered or given_up.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=200, help="Maximum number of entries, newest first.")] = 20,
    organization: Organization = None,
    as_json: JsonFlag = False,
) -> None:
    """Show what was sent, what is waiting, and how receivers responded."""
    query = {"state": state, "limit": limit, "organization_id": organization}
    found = connect().document("notifications.list_deliveries", subscription_id, query=query)
    if as_json:
        print_json(found)
        return
    rows = [{**item, "last": _last(item["log"])} for item in found["deliveries"]]
    print_rows(rows, _LOG, "nothing has been sent yet; send a test with `test`")


@webhook.command("redeliver")
@notifications.command("redeliver")
def redeliver(delivery_id: DeliveryId, organization: Organization = None, as_json: JsonFlag = False) -> None:
    """Send a message again, with the same id."""
    query = {"organization_id": organization}
    found = connect().document("notifications.redeliver", delivery_id, query=query)
    if as_json:
        print_json(found)
    else:
        say(f"{found['id']} is {found['state']}")


@webhook.command("rm")
@notifications.command("rm")
def remove(subscription_id: SubscriptionId, organization: Organization = None) -> None:
    """Remove a subscription, its pending messages and its log."""
    connect().document("notifications.unsubscribe", subscription_id, query={"organization_id": organization})
    say(f"{subscription_id} ended")


@webhook.command("enable")
@notifications.command("enable")
def enable(subscription_id: SubscriptionId, organization: Organization = None) -> None:
    """Enable a disabled subscription; it receives events from now on."""
    _change(subscription_id, {"enabled": True}, organization)
    say(f"{subscription_id} is enabled")


@webhook.command("disable")
@notifications.command("disable")
def disable(subscription_id: SubscriptionId, organization: Organization = None) -> None:
    """Send nothing more until it is enabled again."""
    _change(subscription_id, {"enabled": False}, organization)
    say(f"{subscription_id} is disabled")


@notifications.command("kinds")
def list_kinds(as_json: JsonFlag = False) -> None:
    """List the kinds of events that you can subscribe to."""
    found = connect().document("notifications.list_event_kinds")
    if as_json:
        print_json(found)
    else:
        print_rows(found["kinds"], {"name": "kind", "description": "what it says"}, "no kinds")


@notifications.command("watch")
def watch(
    since: Annotated[int | None, typer.Option(min=0, help="Begin after this event number; now if omitted.")] = None,
    organization: Organization = None,
    as_json: JsonFlag = False,
) -> None:
    """Print events as they happen, until Ctrl-C."""
    follow("notifications.list_events", (), since, {"organization_id": organization}, as_json)


def follow(operation: str, arguments: tuple[str, ...], since: int | None, query: dict[str, Any], as_json: bool) -> None:
    """Print events as they come, one line each, until Ctrl-C or, for a lease, its end."""
    client = connect(_READ_S)
    if since is None:
        # A wait of nothing says where the list ends.
        since = _end(client, operation, arguments, query)
    while True:
        found = client.document(operation, *arguments, query={**query, "since": since, "wait_s": WAIT_S, "limit": 200})
        for event in found["events"]:
            if as_json:
                print_json(event)
            else:
                data = event["data"]
                what = data.get("deadline") or data.get("reason") or ""
                say(f"{event['timestamp']}  {event['type']}  {event['subject']}  {what}")
        since = found["last"]
        if any(event["type"] in _OVER for event in found["events"]) and arguments:
            return


_OVER = ("lease.ended", "lease.canceled", "lease.failed")


def _end(client: Any, operation: str, arguments: tuple[str, ...], query: dict[str, Any]) -> int:
    since = 0
    while True:
        found = client.document(operation, *arguments, query={**query, "since": since, "limit": 200})
        if not found["events"]:
            return int(found["last"])
        since = found["last"]


def _subscribe(
    wanted: dict[str, Any],
    kinds: list[str] | None,
    name: str,
    subject: str | None,
    organization: str | None,
    as_json: bool,
) -> None:
    if not wanted["address"].strip():
        raise InvalidInputError("the address is empty")
    body = {**wanted, "kinds": kinds or ["*"], "name": name}
    if subject:
        body["subject"] = subject
    if organization:
        body["organization_id"] = organization
    made = connect().document("notifications.subscribe", body=body)
    if as_json:
        print_json(made)
        return
    say(f"{made['id']}  {made['channel']} {made['address']}")
    if not made["confirmed"]:
        note(
            "A confirmation e-mail was sent; until the address is confirmed, nothing else is sent to it. To send it again, use `test`."
        )
    if made["secret"]:
        say(made["secret"])
        note("This secret is shown only once. Use it to verify the signatures of the messages.")


def _list(channel: str | None, organization: str | None, as_json: bool) -> None:
    query = {"channel": channel, "organization_id": organization}
    found = connect().collected("notifications.list_subscriptions", query=query)
    if as_json:
        print_json(found)
        return
    rows = [{**item, "kinds": ", ".join(item["kinds"]), "state": _state(item)} for item in found["subscriptions"]]
    add = "`sublet webhook add URL`" if channel == "webhook" else "`sublet notifications add`"
    print_rows(rows, _COLUMNS, f"there are no subscriptions; add one with {add}")


def _change(subscription_id: str, change: dict[str, Any], organization: str | None) -> None:
    query = {"organization_id": organization}
    connect().document("notifications.change_subscription", subscription_id, body=change, query=query)


def _state(item: dict[str, Any]) -> str:
    if not item["enabled"]:
        return f"disabled: {item['disabled_reason']}"
    if not item["confirmed"]:
        return "waits for the address to be confirmed"
    return "failing" if item["failing_since"] else "ok"


def _last(log: list[dict[str, Any]]) -> str:
    if not log:
        return "–"
    attempt = log[-1]
    return attempt["error"] or (str(attempt["status"]) if attempt["status"] else "taken")
