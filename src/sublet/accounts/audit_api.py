"""Routes of the audit log. Reading it is an entry of its own."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from sqlalchemy import Connection

from sublet.accounts import wire
from sublet.accounts.answers import AnswerRoute
from sublet.accounts.model import Actor, Require
from sublet.store import Store, audit
from sublet.store.paging import PageRequest, page_request
from sublet.values.errors import ForbiddenError
from sublet.values.wire import as_answer

RETENTION = timedelta(days=731)
Text = Annotated[str, Query(max_length=80)]


def router(store: Store, require: Require) -> APIRouter:
    """`/v1/audit`, for the operator and for what concerns one's own organization; `/v1/audit/verify` for the operator."""
    routes = APIRouter(tags=["accounts"], route_class=AnswerRoute)
    reader = require("audit:read")

    def note(actor: Actor, operation: str, concerned: str | None) -> None:
        who = audit.Acting(actor.id, actor.organization_id, actor.role, operation)

        def write(connection: Connection) -> None:
            audit.append(connection, who, store.clock.now(), store.lock, [], concerned)

        store.write(write)

    @routes.get("/v1/audit")
    def list_audit(
        actor: Actor = Depends(reader),
        page: PageRequest = Depends(page_request),
        organization_id: Text = "",
        actor_id: Text = "",
        operation: Text = "",
        subject: Text = "",
    ) -> wire.AuditList:
        """Who did what, the newest first: by whom, what, and what it concerns. `operation` is how its name begins."""
        whose = organization_id if actor.everywhere else actor.whose(organization_id)
        wanted = audit.Wanted(whose, actor_id, operation, subject)
        with store.read() as connection:
            found = audit.page(connection, wanted, page)
        note(actor, "accounts.list_audit", whose or None)
        return as_answer(wire.AuditList, found.as_dict("entries"))

    @routes.get("/v1/audit/verify")
    def verify_audit(actor: Actor = Depends(reader)) -> wire.AuditVerified:
        """Compute the hash of every entry again. `head` is the newest one: keep it elsewhere to find out a rewritten log."""
        if not actor.everywhere:
            raise ForbiddenError(
                "only the operator or an auditor can verify the log, because it is verified as a whole"
            )
        with store.read() as connection:
            found = audit.verify(connection, store.clock.now() - RETENTION)
        note(actor, "accounts.verify_audit", None)
        return as_answer(wire.AuditVerified, found.as_dict())

    return routes
