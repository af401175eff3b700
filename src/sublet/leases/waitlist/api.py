"""Routes of the waiting list: customers join and leave it, the operator sees what demand is unmet."""

from __future__ import annotations

from fastapi import APIRouter, Depends

from sublet.accounts.answers import AnswerRoute
from sublet.accounts.model import Actor, Require, acting_for
from sublet.leases.quotes.asked import quote_request
from sublet.leases.waitlist import wire
from sublet.leases.waitlist.model import Entry, NewEntry
from sublet.leases.waitlist.service import Waitlist
from sublet.leases.waitlist.wire import NewWaitlistEntry
from sublet.store.once import Effect
from sublet.store.paging import PageRequest, page_request
from sublet.values.money import nano_from_decimal
from sublet.values.wire import as_answer


def router(waitlist: Waitlist, require: Require) -> APIRouter:
    """`/v1/waitlist` and `/v1/unmet-demand`."""
    routes = APIRouter(tags=["waitlist"], route_class=AnswerRoute)
    reader, writer = require("leases:read"), require("leases:write")

    @routes.post("/v1/waitlist", status_code=201)
    def join(
        body: NewWaitlistEntry, actor: Actor = Depends(require("leases:write", effect=Effect(Entry)))
    ) -> wire.WaitlistEntry:
        """Keep a request that can't be met now. When capacity appears, it is held by a quote and you are notified
        (`waitlist.offered`). The operator sees the request, and nobody else does."""
        limit = body.max_price_per_accelerator_hour
        wanted = NewEntry(
            quote_request(body.quote, acting_for(actor)),
            None if limit is None else nano_from_decimal(limit),
            expires_at=body.expires_at,
            ssh_public_keys=tuple(body.accept_with_ssh_public_keys or ()),
        )
        made = waitlist.join(actor.organization_id, wanted, actor.key_id, acting_for(actor))
        return as_answer(wire.WaitlistEntry, made.as_dict())

    @routes.get("/v1/waitlist")
    def list_entries(actor: Actor = Depends(reader), page: PageRequest = Depends(page_request)) -> wire.WaitlistPage:
        """List requests on the waiting list and those of the last month that left it, newest first. The operator sees those
        of every organization."""
        found = waitlist.page(_whose(actor), page)
        return as_answer(wire.WaitlistPage, found.map(lambda item: item.as_dict()).as_dict("entries"))

    @routes.get("/v1/waitlist/{entry_id}")
    def show(entry_id: str, actor: Actor = Depends(reader)) -> wire.WaitlistEntry:
        """Show a request on the waiting list, why it waits, and its offer."""
        return as_answer(wire.WaitlistEntry, waitlist.entry(entry_id, _whose(actor)).as_dict())

    @routes.delete("/v1/waitlist/{entry_id}")
    def leave(entry_id: str, actor: Actor = Depends(writer)) -> wire.WaitlistEntry:
        """Take a request off the waiting list, and cancel its open offer. Repeating this has no effect."""
        return as_answer(wire.WaitlistEntry, waitlist.leave(entry_id, _whose(actor), acting_for(actor)).as_dict())

    @routes.get("/v1/unmet-demand", dependencies=[Depends(require("demand:read"))])
    def unmet_demand() -> wire.UnmetDemandList:
        """List what the waiting list asks for, by generation or pool and class."""
        return as_answer(wire.UnmetDemandList, {"unmet": [item.as_dict() for item in waitlist.unmet()]})

    return routes


def _whose(actor: Actor) -> str | None:
    return None if actor.everywhere else actor.organization_id
