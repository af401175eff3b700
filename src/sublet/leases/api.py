"""Routes of raw leases: quotes and leases for customers, reclaims for the owner, the next plan for the operator."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Request

from sublet.accounts.answers import AnswerRoute
from sublet.accounts.conditions import Tagged, changed, if_match, shown
from sublet.accounts.model import Actor, Require, acting_for
from sublet.leases import wire
from sublet.leases.changes import api as changes
from sublet.leases.jobs.wire import JobLog
from sublet.leases.model import OWNER_NEEDS, Lease, Quote
from sublet.leases.quotes.asked import quote_request
from sublet.leases.reclaim.orders import ReclaimOrder
from sublet.leases.redaction import told_to_tenant
from sublet.leases.service import Leases
from sublet.leases.wire import NewLease, NewQuote, NewReclaim, NewSshKeys, Release
from sublet.store.once import Effect
from sublet.store.paging import PageRequest, page_request
from sublet.values.etags import Condition
from sublet.values.windows import Window
from sublet.values.wire import as_answer

Offset = Annotated[int, Query(ge=0, le=1 << 53)]
IdempotencyKey = Annotated[str | None, Header(max_length=128)]


def router(leases: Leases, require: Require) -> APIRouter:
    """`/v1/classes`, `/v1/quotes` and `/v1/leases` for customers (the operator may see all of them); `/v1/reclaims` for internal
    teams."""
    routes = APIRouter(tags=["leases"], route_class=AnswerRoute)
    _add_quote_routes(routes, leases, require)
    _add_lease_routes(routes, leases, require)
    routes.include_router(changes.router(leases, require))
    _add_reclaim_routes(routes, leases, require)
    _add_operator_routes(routes, leases, require)
    return routes


def _add_quote_routes(routes: APIRouter, leases: Leases, require: Require) -> None:
    reader, writer = require("leases:read"), require("leases:write")

    @routes.get("/v1/classes", dependencies=[Depends(require("pools:read"))])
    def list_classes() -> wire.ClassList:
        """List the classes of service on sale, strictest first, with how each is reclaimed, its notice, credit and price."""
        return as_answer(
            wire.ClassList,
            {"classes": [item.as_dict() for item in leases.classes.on_sale], "default": leases.class_default},
        )

    @routes.get("/v1/networks")
    def list_networks(actor: Actor = Depends(reader)) -> wire.AllowLists:
        """List the allow lists that a lease can use, and whether your organization may use them. Without one, a lease has
        no network access."""
        return as_answer(wire.AllowLists, {"networks": leases.networks(actor.organization_id)})

    @routes.post("/v1/quotes", status_code=201)
    def quote(
        body: NewQuote,
        actor: Actor = Depends(require("leases:write", effect=Effect(Quote))),
        idempotency_key: IdempotencyKey = None,
    ) -> wire.Quote:
        """Request a price that is fixed for 60 seconds. The capacity is held until `held_until`. If that is null, the quote
        can be accepted while the capacity is available."""
        asked = quote_request(body, acting_for(actor))
        return as_answer(wire.Quote, leases.quote(actor.organization_id, asked, idempotency_key).as_dict())

    @routes.get("/v1/quotes")
    def list_quotes(actor: Actor = Depends(reader), page: PageRequest = Depends(page_request)) -> wire.QuoteList:
        """List your organization's quotes that can still be accepted, newest first."""
        return as_answer(
            wire.QuoteList,
            leases.quote_page(actor.organization_id, page).map(lambda item: item.as_dict()).as_dict("quotes"),
        )

    @routes.post("/v1/quotes/{quote_id}/cancel")
    def cancel_quote(quote_id: str, actor: Actor = Depends(writer)) -> wire.Quote:
        """Cancel a quote and release the capacity that it holds. Repeating this has no effect."""
        return as_answer(wire.Quote, leases.cancel_quote(actor.organization_id, quote_id, acting_for(actor)).as_dict())


def _add_lease_routes(routes: APIRouter, leases: Leases, require: Require) -> None:
    reader, writer = require("leases:read"), require("leases:write")

    @routes.post("/v1/leases", status_code=201)
    def accept(
        body: NewLease,
        actor: Actor = Depends(require("leases:write", effect=Effect(Lease))),
        idempotency_key: IdempotencyKey = None,
    ) -> wire.Lease:
        """Accept a quote. A quote creates only one lease, even if it is accepted repeatedly."""
        lease = leases.accept(
            actor.organization_id,
            body.quote_id,
            body.ssh_public_keys,
            idempotency_key,
            key_id=actor.key_id,
            project=actor.project,
        )
        return as_answer(wire.Lease, _told(lease, actor))

    @routes.get("/v1/leases")
    def list_leases(
        actor: Actor = Depends(reader),
        live: bool = False,
        page: PageRequest = Depends(page_request),
    ) -> wire.LeasePage:
        """List leases, newest first. The operator sees those of every organization. With `live`, leases that are over are
        left out."""
        found = leases.lease_page(_whose(actor), page, live_only=live)
        return as_answer(wire.LeasePage, found.map(lambda lease: _told(lease, actor)).as_dict("leases"))

    @routes.get("/v1/leases/{lease_id}")
    def show(lease_id: str, actor: Actor = Depends(reader)) -> wire.LeaseDetail:
        """Show a lease and every change of its state."""
        lease = leases.lease(lease_id, _whose(actor))
        history = [item.as_dict() for item in leases.history(lease_id)]
        if _whose(actor) is not None:
            history = [{**item, "reason": told_to_tenant(item["reason"])} for item in history]
        return as_answer(
            wire.LeaseDetail,
            {**_told(lease, actor), "ssh_public_keys": list(lease.ssh_public_keys), "history": history},
        )

    @routes.get("/v1/leases/{lease_id}/log")
    def log(lease_id: str, actor: Actor = Depends(reader), offset: Offset = 0) -> JobLog:
        """Read what the lease's drain hooks, and its job, printed, from byte `offset` on. The output is kept for 30 days after
        the lease ended."""
        part, complete = leases.log(lease_id, offset, _whose(actor))
        return as_answer(JobLog, {"text": part.text, "offset": part.offset, "next": part.next, "complete": complete})

    @routes.get("/v1/leases/{lease_id}/ssh-keys")
    def list_ssh_keys(request: Request, lease_id: str, actor: Actor = Depends(reader)) -> Tagged[wire.SshKeys]:
        """List the public keys that may log in to a lease."""
        return shown(request, wire.SshKeys, leases.lease(lease_id, _whose(actor)).keys_as_dict())

    @routes.put("/v1/leases/{lease_id}/ssh-keys")
    def set_ssh_keys(
        lease_id: str, body: NewSshKeys, actor: Actor = Depends(writer), seen: Condition = Depends(if_match)
    ) -> Tagged[wire.SshKeys]:
        """Replace the public keys that may log in. On a running lease, this takes effect within seconds. Open sessions stay
        open."""
        leases.permit(lease_id, _whose(actor), acting_for(actor))
        lease = leases.set_ssh_keys(lease_id, body.ssh_public_keys, _whose(actor), seen)
        return changed(wire.SshKeys, lease.keys_as_dict())

    @routes.post("/v1/leases/{lease_id}/end")
    def end(lease_id: str, actor: Actor = Depends(writer)) -> wire.Lease:
        """End a lease early, or cancel it before it starts. Repeating this has no effect."""
        leases.permit(lease_id, _whose(actor), acting_for(actor))
        return as_answer(wire.Lease, _told(leases.end(lease_id, _whose(actor)), actor))


def _add_reclaim_routes(routes: APIRouter, leases: Leases, require: Require) -> None:
    owner = require("reclaims:write")

    def order(body: NewReclaim, actor: Actor) -> ReclaimOrder:
        if body.force:
            actor.require("firm:write")
        window = Window.told(body.start or leases.now(), body.end, body.duration_s)
        return ReclaimOrder(body.pool, body.accelerators, window, body.reason, body.force)

    @routes.post("/v1/reclaims", status_code=201)
    def reclaim(
        body: NewReclaim,
        actor: Actor = Depends(require("reclaims:write", effect=Effect(dict, dict))),
        idempotency_key: IdempotencyKey = None,
    ) -> wire.ReclaimCarriedOut:
        """Reclaim capacity for the owner. The plan lists the affected leases with their deadlines and credits, and their
        tenants get notice."""
        return as_answer(
            wire.ReclaimCarriedOut,
            leases.reclaim(order(body, actor), f"owner {actor.organization_id}", idempotency_key),
        )

    @routes.post("/v1/reclaims/preview")
    def preview(body: NewReclaim, actor: Actor = Depends(require("reclaims:read"))) -> wire.ReclaimPreview:
        """Preview the plan of a reclaim. Nothing is changed."""
        return as_answer(wire.ReclaimPreview, leases.preview_reclaim(order(body, actor)).as_dict())

    @routes.get("/v1/reclaims", dependencies=[Depends(require("reclaims:read"))])
    def list_reclaims(page: PageRequest = Depends(page_request)) -> wire.ReclaimList:
        """List reclaims and their plans, newest first."""
        return as_answer(wire.ReclaimList, leases.reclaims(page).as_dict("reclaims"))

    @routes.get("/v1/reclaims/{reclaim_id}", dependencies=[Depends(require("reclaims:read"))])
    def show_reclaim(reclaim_id: str) -> wire.Reclaim:
        """Show a reclaim: its capacity, who requested it, the reason, and the plan."""
        return as_answer(wire.Reclaim, leases.reclaim_named(reclaim_id))

    @routes.get("/v1/owner-waits", dependencies=[Depends(require("reclaims:read"))])
    def list_owner_waits(
        pool: Annotated[str | None, Query(max_length=60)] = None, page: PageRequest = Depends(page_request)
    ) -> wire.OwnerWaitsPage:
        """List how long the owner's work waited so that leases could continue, by day, pool and team, newest day first."""
        return as_answer(
            wire.OwnerWaitsPage, leases.owner_waits(pool, page).map(lambda item: item.as_dict()).as_dict("owner_waits")
        )

    @routes.post("/v1/reclaims/{reclaim_id}/withdraw")
    def withdraw(reclaim_id: str, actor: Actor = Depends(owner)) -> wire.LeaseList:
        """Withdraw a reclaim. Notices that are not yet due are withdrawn, too."""
        found = leases.withdraw_reclaim(reclaim_id, f"owner {actor.organization_id}")
        return as_answer(wire.LeaseList, {"leases": [lease.as_dict() for lease in found]})


def _add_operator_routes(routes: APIRouter, leases: Leases, require: Require) -> None:
    @routes.get("/v1/lease-plan", dependencies=[Depends(require("plans:read"))])
    def next_plan() -> wire.Plan:
        """Show what the next round would do. Nothing is carried out."""
        return as_answer(wire.Plan, leases.plan().as_dict())

    @routes.get("/v1/quarantine", dependencies=[Depends(require("fleet:read"))])
    def list_quarantine(page: PageRequest = Depends(page_request)) -> wire.Quarantine:
        """List the accelerators in quarantine by id. They are not sold until they are proved clean."""
        found = leases.quarantine_page(page).map(
            lambda item: {"id": item.unit_id, "pool_id": item.pool_id, "lease_id": item.lease_id, "reason": item.reason}
        )
        return as_answer(wire.Quarantine, found.as_dict("accelerators"))

    @routes.post("/v1/quarantine/{unit_id}/release", status_code=204)
    def release(unit_id: str, body: Release, actor: Actor = Depends(require("fleet:write"))) -> None:
        """Release an accelerator from quarantine on the operator's word that it is clean."""
        leases.release_unit(unit_id, f"operator {actor.key_id}", body.reason)


def _whose(actor: Actor) -> str | None:
    """Whose leases a request may concern: its organization's, or everybody's."""
    return None if actor.everywhere else actor.organization_id


def _told(lease: Lease, actor: Actor) -> dict[str, Any]:
    """A lease as the asker may see it: what went wrong on the host, and for what it is taken back, is the operator's."""
    told = lease.as_dict()
    if _whose(actor) is None:
        return told
    if lease.last_error:
        told["last_error"] = told_to_tenant(lease.last_error)
    if lease.reclaim_reason:
        told["reclaim_reason"] = OWNER_NEEDS
    return told
