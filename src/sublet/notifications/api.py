"""Routes of notifications: subscriptions with their deliveries, and events as they happen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from fastapi.responses import HTMLResponse, StreamingResponse
from starlette.concurrency import run_in_threadpool

from sublet.accounts.answers import AnswerRoute
from sublet.accounts.conditions import Tagged, changed, if_match, shown
from sublet.accounts.model import Actor, Organization, Require
from sublet.notifications import wire
from sublet.notifications.kinds import all_kinds
from sublet.notifications.model import Attempt, Delivery, SubscriptionMade
from sublet.notifications.service import NewSubscription as Wanted
from sublet.notifications.service import Notifications, Owner
from sublet.notifications.tailing import EVENTS_MAX, Tailing
from sublet.notifications.wire import ConfirmAddress, NewSubscription, SubscriptionChange
from sublet.store.once import Effect
from sublet.store.outbox import Selection
from sublet.store.paging import PageRequest, page_request
from sublet.values.errors import ForbiddenError, InvalidInputError
from sublet.values.etags import Condition
from sublet.values.wire import as_answer

WAIT_S_MAX = 30.0
EVENT_STREAM = "text/event-stream"
SEQUENCE_MAX = 2**62
Since = Annotated[int | None, Query(ge=0, le=SEQUENCE_MAX)]
WaitS = Annotated[float, Query(ge=0, le=WAIT_S_MAX, allow_inf_nan=False)]
OneOrganization = Annotated[str | None, Query(max_length=40)]
OneChannel = Annotated[str | None, Query(max_length=16)]

FindOrganization = Callable[[str], Organization]
"""By id or name; raises NotFoundError."""
FindLease = Callable[[str, str | None], object]
"""(lease, organization or None for all): raises NotFoundError where there is no such lease for them."""


def router(
    notifications: Notifications, find_organization: FindOrganization, find_lease: FindLease, require: Require
) -> APIRouter:
    """`/v1/subscriptions`, `/v1/deliveries`, `/v1/events`, and the events of a lease."""
    routes = APIRouter(tags=["notifications"], route_class=AnswerRoute)

    def owner_of(actor: Actor, organization_id: str | None) -> Owner:
        if not actor.everywhere:
            if organization_id not in (None, actor.organization_id):
                raise ForbiddenError("this key may only manage the subscriptions of its own organization")
            return Owner(actor.organization_id, internal=actor.kind != "customer")
        if organization_id is None:
            return Owner(None, internal=True)
        found = find_organization(organization_id)
        return Owner(found.id, internal=found.kind != "customer")

    _add_subscription_routes(routes, notifications, owner_of, require)
    _add_delivery_routes(routes, notifications, owner_of, require)
    _add_event_routes(routes, Tailing(notifications.store), find_lease, require)
    return routes


OwnerOf = Callable[[Actor, str | None], Owner]


def _add_subscription_routes(
    routes: APIRouter, notifications: Notifications, owner_of: OwnerOf, require: Require
) -> None:
    reader, writer = require("subscriptions:read"), require("subscriptions:write")
    secret_shown = Effect(SubscriptionMade, secret=True)

    @routes.get("/v1/subscriptions")
    def list_subscriptions(
        actor: Actor = Depends(reader),
        channel: OneChannel = None,
        organization_id: OneOrganization = None,
        page: PageRequest = Depends(page_request),
    ) -> wire.SubscriptionPage:
        """List subscriptions by id. The operator sees its own, or those of the organization that is named."""
        found = notifications.page(owner_of(actor, organization_id), page, channel)
        return as_answer(wire.SubscriptionPage, found.map(lambda item: item.as_dict()).as_dict("subscriptions"))

    @routes.post("/v1/subscriptions", status_code=201)
    def subscribe(
        body: NewSubscription, actor: Actor = Depends(require("subscriptions:write", effect=secret_shown))
    ) -> wire.SubscriptionSecret:
        """Subscribe to events from now on. Only this response contains a webhook's secret. An e-mail address must be
        confirmed first."""
        wanted = Wanted(body.channel, body.address, tuple(body.kinds), body.name, body.format, body.subject)
        return as_answer(
            wire.SubscriptionSecret,
            notifications.create(owner_of(actor, body.organization_id), wanted, actor.key_id).as_dict(),
        )

    @routes.get("/v1/subscriptions/{subscription_id}")
    def show_subscription(
        request: Request, subscription_id: str, actor: Actor = Depends(reader), organization_id: OneOrganization = None
    ) -> Tagged[wire.Subscription]:
        """Show a subscription, without its secret."""
        found = notifications.subscription(owner_of(actor, organization_id), subscription_id)
        return shown(request, wire.Subscription, found.as_dict(), found.edited)

    @routes.patch("/v1/subscriptions/{subscription_id}")
    def change_subscription(
        subscription_id: str,
        body: SubscriptionChange,
        actor: Actor = Depends(writer),
        organization_id: OneOrganization = None,
        seen: Condition = Depends(if_match),
    ) -> Tagged[wire.Subscription]:
        """Change the kinds of events or the name of a subscription, or disable or enable it."""
        found = notifications.change(
            owner_of(actor, organization_id),
            subscription_id,
            kinds=body.kinds,
            enabled=body.enabled,
            name=body.name,
            seen=seen,
        )
        return changed(wire.Subscription, found.as_dict(), found.edited)

    @routes.delete("/v1/subscriptions/{subscription_id}", status_code=204)
    def unsubscribe(
        subscription_id: str,
        actor: Actor = Depends(writer),
        organization_id: OneOrganization = None,
        seen: Condition = Depends(if_match),
    ) -> None:
        """Remove a subscription with its pending messages and its log."""
        notifications.remove(owner_of(actor, organization_id), subscription_id, seen)

    _add_use_routes(routes, notifications, owner_of, require, secret_shown)


def _add_use_routes(
    routes: APIRouter, notifications: Notifications, owner_of: OwnerOf, require: Require, secret_shown: Effect
) -> None:
    writer = require("subscriptions:write")

    @routes.post("/v1/subscriptions/{subscription_id}/confirm")
    def confirm(
        subscription_id: str,
        body: ConfirmAddress,
        actor: Actor = Depends(writer),
        organization_id: OneOrganization = None,
    ) -> wire.Subscription:
        """Confirm an e-mail address with the code that was sent to it. Its events are sent from then on."""
        return as_answer(
            wire.Subscription,
            notifications.confirm(subscription_id, body.code, owner_of(actor, organization_id)).as_dict(),
        )

    @routes.post("/v1/subscriptions/{subscription_id}/rotate")
    def rotate(
        subscription_id: str,
        actor: Actor = Depends(require("subscriptions:write", effect=secret_shown)),
        organization_id: OneOrganization = None,
    ) -> wire.SubscriptionSecret:
        """Create a new secret. Only this response contains it. For 24 hours, messages are also signed with the previous secret."""
        return as_answer(
            wire.SubscriptionSecret, notifications.rotate(owner_of(actor, organization_id), subscription_id).as_dict()
        )

    @routes.post("/v1/subscriptions/{subscription_id}/test", status_code=202)
    def send_test(
        subscription_id: str, actor: Actor = Depends(writer), organization_id: OneOrganization = None
    ) -> wire.TestSent:
        """Send a test event to this subscription only. If the address is not confirmed yet, the confirmation is sent again."""
        event_id = notifications.test(owner_of(actor, organization_id), subscription_id, actor.key_id)
        return as_answer(wire.TestSent, {"event_id": event_id})


def _add_delivery_routes(routes: APIRouter, notifications: Notifications, owner_of: OwnerOf, require: Require) -> None:
    @routes.get("/v1/subscriptions/{subscription_id}/deliveries")
    def list_deliveries(
        subscription_id: str,
        actor: Actor = Depends(require("subscriptions:read")),
        state: Annotated[str | None, Query(max_length=12)] = None,
        organization_id: OneOrganization = None,
        page: PageRequest = Depends(page_request),
    ) -> wire.DeliveryPage:
        """List messages with every delivery attempt, newest event first. `state` is `waiting`, `delivered` or `given_up`."""
        owner = owner_of(actor, organization_id)
        return as_answer(
            wire.DeliveryPage,
            notifications.delivery_page(owner, subscription_id, page, state).map(_log).as_dict("deliveries"),
        )

    @routes.post("/v1/deliveries/{delivery_id}/redeliver", status_code=202)
    def redeliver(
        delivery_id: str,
        actor: Actor = Depends(require("subscriptions:write")),
        organization_id: OneOrganization = None,
    ) -> wire.Delivery:
        """Send a message again with the same id, even if it was delivered."""
        return as_answer(
            wire.Delivery, notifications.redeliver(owner_of(actor, organization_id), delivery_id).as_dict()
        )


def _add_event_routes(routes: APIRouter, tailing: Tailing, find_lease: FindLease, require: Require) -> None:
    @routes.get("/v1/event-kinds")
    def list_event_kinds(actor: Actor = Depends(require("subscriptions:read"))) -> wire.EventKindList:
        """List the kinds of events that the caller can subscribe to."""
        found = [kind for kind in all_kinds() if actor.everywhere or kind.audience == "organization"]
        return as_answer(
            wire.EventKindList,
            {
                "kinds": [
                    {
                        "name": kind.name,
                        "audience": kind.audience,
                        "description": kind.description,
                        "subject": kind.subject,
                        "schema": kind.version,
                        "fields": kind.fields(),
                    }
                    for kind in found
                ]
            },
        )

    @routes.get("/v1/events")
    async def list_events(
        request: Request,
        actor: Actor = Depends(require("events:read")),
        since: Since = None,
        limit: Annotated[int, Query(ge=1, le=EVENTS_MAX)] = 50,
        wait_s: WaitS = 0.0,
        organization_id: OneOrganization = None,
        last_event_id: Annotated[str | None, Header(max_length=20)] = None,
    ) -> wire.EventList | Response:
        """List the events of your organization after the sequence number `since`. The operator sees those of all
        organizations, or of one. If there are none, the response waits up to `wait_s` seconds. With `Accept:
        text/event-stream`, it is a stream of server-sent events that begins after `Last-Event-ID` or `since`, or now."""
        if not actor.everywhere and organization_id not in (None, actor.organization_id):
            raise ForbiddenError("this key may only read the events of its own organization")
        whose = organization_id if actor.everywhere else actor.organization_id
        return await _answered(
            tailing, request, actor, Selection(organization_id=whose), (since, limit, wait_s, last_event_id)
        )

    @routes.get("/v1/leases/{lease_id}/events")
    async def list_lease_events(
        request: Request,
        lease_id: str,
        actor: Actor = Depends(require("leases:read")),
        since: Since = None,
        limit: Annotated[int, Query(ge=1, le=EVENTS_MAX)] = 50,
        wait_s: WaitS = 0.0,
        last_event_id: Annotated[str | None, Header(max_length=20)] = None,
    ) -> wire.EventList | Response:
        """List the events of a lease in the same way: when it is ready for login, notices, and its end."""
        whose = None if actor.everywhere else actor.organization_id
        await run_in_threadpool(find_lease, lease_id, whose)
        selection = Selection(organization_id=whose, subject=lease_id)
        return await _answered(tailing, request, actor, selection, (since, limit, wait_s, last_event_id))


async def _answered(
    tailing: Tailing,
    request: Request,
    actor: Actor,
    selection: Selection,
    asked: tuple[int | None, int, float, str | None],
) -> wire.EventList | Response:
    since, limit, wait_s, last_event_id = asked
    if EVENT_STREAM in request.headers.get("accept", ""):
        begin = since
        if last_event_id is not None:
            whole = last_event_id.isascii() and last_event_id.isdigit() and len(last_event_id) <= len(str(SEQUENCE_MAX))
            if not whole or int(last_event_id) > SEQUENCE_MAX:
                raise InvalidInputError(
                    "Last-Event-ID must be the id of an event of this stream", field="last-event-id"
                )
            begin = int(last_event_id)
        if begin is None:
            begin = await run_in_threadpool(tailing.last)
        stream = tailing.stream(begin, selection, actor.organization_id)
        # The first piece comes before the answer begins, so that a limit is an answer of its own.
        first = await anext(stream)

        async def pieces() -> Any:
            try:
                yield first
                async for piece in stream:
                    yield piece
            finally:
                await stream.aclose()  # type: ignore[attr-defined]

        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        return StreamingResponse(pieces(), media_type=EVENT_STREAM, headers=headers)
    if wait_s:
        with tailing.place(actor.organization_id):
            found, last = await tailing.wait(since or 0, selection, limit, wait_s)
    else:
        found, last = await tailing.wait(since or 0, selection, limit, 0)
    return as_answer(wire.EventList, {"events": [event.as_dict() for event in found], "last": last})


def leave_router(notifications: Notifications) -> APIRouter:
    """The pages behind the links in a mail, which need no key: a link itself proves that it came in one."""
    routes = APIRouter()
    headers = {
        "content-security-policy": "default-src 'none'; form-action 'self'; frame-ancestors 'none'",
        "referrer-policy": "no-referrer",
        "cache-control": "no-store",
    }

    def page(text: str, title: str = "Unsubscribe") -> HTMLResponse:
        html = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><body>{text}</body></html>'
        return HTMLResponse(html, headers=headers)

    @routes.get("/unsubscribe/{subscription_id}/{token}", include_in_schema=False)
    def ask(subscription_id: str, token: str) -> Response:
        """A look changes nothing: programs that check mail follow its links."""
        return page(
            '<form method="post"><p>No more mail from this subscription?</p><button>Unsubscribe</button></form>'
        )

    @routes.post("/unsubscribe/{subscription_id}/{token}", include_in_schema=False)
    def leave(subscription_id: str, token: str) -> Response:
        notifications.leave(subscription_id, token)
        return page("<p>You are unsubscribed. Your administrator can enable the subscription again.</p>")

    @routes.get("/confirm/{subscription_id}/{code}", include_in_schema=False)
    def ask_to_confirm(subscription_id: str, code: str) -> Response:
        return page(
            '<form method="post"><p>Send notifications from Sublet to your address?</p><button>Confirm</button></form>',
            "Confirm your address",
        )

    @routes.post("/confirm/{subscription_id}/{code}", include_in_schema=False)
    def confirmed(subscription_id: str, code: str) -> Response:
        notifications.confirm(subscription_id, code)
        return page("<p>Your address is confirmed.</p>", "Confirm your address")

    return routes


def _log(row: tuple[Delivery, list[Attempt]]) -> dict[str, Any]:
    delivery, attempts = row
    return {**delivery.as_dict(), "log": [attempt.as_dict() for attempt in attempts]}
