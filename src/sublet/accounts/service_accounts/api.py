"""Routes of service accounts."""

from __future__ import annotations

from fastapi import APIRouter, Depends

from sublet.accounts import wire
from sublet.accounts.answers import AnswerRoute
from sublet.accounts.model import Actor, Require, checked_project, refuse_foreign_key
from sublet.accounts.people.api import owned
from sublet.accounts.service import Accounts
from sublet.accounts.service_accounts.model import ServiceAccount
from sublet.accounts.service_accounts.service import ServiceAccounts
from sublet.accounts.wire import NewServiceAccount
from sublet.store.once import Effect
from sublet.store.paging import PageRequest, page_request
from sublet.values.wire import as_answer


def router(accounts: Accounts, require: Require) -> APIRouter:
    """`/v1/organizations/{organization}/service-accounts` and `/v1/service-accounts`."""
    routes = APIRouter(tags=["accounts"], route_class=AnswerRoute)
    service = ServiceAccounts(accounts.store)

    @routes.get("/v1/organizations/{organization}/service-accounts")
    def list_service_accounts(
        organization: str, actor: Actor = Depends(require("keys:read")), page: PageRequest = Depends(page_request)
    ) -> wire.ServiceAccountList:
        """List an organization's service accounts, oldest first."""
        found = service.page(owned(accounts, actor, organization).id, page)
        return as_answer(wire.ServiceAccountList, found.map(lambda item: item.as_dict()).as_dict("service_accounts"))

    @routes.post("/v1/organizations/{organization}/service-accounts", status_code=201)
    def create_service_account(
        organization: str,
        body: NewServiceAccount,
        actor: Actor = Depends(require("keys:write", effect=Effect(ServiceAccount))),
    ) -> wire.ServiceAccount:
        """Create a service account: a program that calls Sublet. Its keys do not end when a person leaves."""
        owner = owned(accounts, actor, organization)
        refuse_foreign_key(actor, checked_project(body.project))
        made = service.create(owner, body.name, body.role, body.project, actor.id)
        return as_answer(wire.ServiceAccount, made.as_dict())

    @routes.delete("/v1/service-accounts/{service_account_id}", status_code=204)
    def remove_service_account(service_account_id: str, actor: Actor = Depends(require("keys:write"))) -> None:
        """Remove a service account and revoke its keys, effective immediately."""
        owner = None if actor.everywhere else actor.organization_id
        service.remove(service_account_id, owner, lambda found: refuse_foreign_key(actor, found.project))

    return routes
