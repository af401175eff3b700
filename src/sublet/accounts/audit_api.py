"""Routes of the audit log. Reading it is an entry of its own."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from sublet.accounts import wire
from sublet.accounts.answers import AnswerRoute
from sublet.accounts.auditing import AuditLog
from sublet.accounts.model import Actor, Require
from sublet.store import Store
from sublet.store.audit import Wanted
from sublet.store.paging import PageRequest, page_request
from sublet.values.moments import Moment
from sublet.values.wire import as_answer

Text = Annotated[str, Query(max_length=80)]


def router(store: Store, require: Require) -> APIRouter:
    """`/v1/audit`, for the operator and for what concerns one's own organization; `/v1/audit/verify` for the operator."""
    routes = APIRouter(tags=["accounts"], route_class=AnswerRoute)
    reader = require("audit:read")

    log = AuditLog(store)

    @routes.get("/v1/audit")
    def list_audit(
        actor: Actor = Depends(reader),
        page: PageRequest = Depends(page_request),
        organization_id: Text = "",
        actor_id: Text = "",
        operation: Text = "",
        subject: Text = "",
        since: Moment | None = None,
        until: Moment | None = None,
    ) -> wire.AuditList:
        """List audit entries, newest first: who did what, to which resource, and when. `operation` matches the beginning of an
        operation's name."""
        whose = organization_id if actor.everywhere else actor.whose(organization_id)
        found = log.read(actor, Wanted(whose, actor_id, operation, subject, since, until), page)
        return as_answer(wire.AuditList, found.as_dict("entries"))

    @routes.get("/v1/audit/verify")
    def verify_audit(actor: Actor = Depends(reader)) -> wire.AuditVerified:
        """Verify the hash chain of the audit log. Store `head`, the newest hash, elsewhere to detect a rewritten log."""
        return as_answer(wire.AuditVerified, log.verify(actor).as_dict())

    return routes
