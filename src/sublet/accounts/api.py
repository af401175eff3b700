"""Routes of organizations and keys."""

from __future__ import annotations

from dataclasses import replace

from fastapi import APIRouter, Depends
from sqlalchemy import Connection

from sublet.accounts import wire
from sublet.accounts.answers import AnswerRoute
from sublet.accounts.limits.api import allowed_of
from sublet.accounts.limits.service import Limits
from sublet.accounts.model import (
    Actor,
    ApiKey,
    IssuedKey,
    KeyOwner,
    Organization,
    Require,
    checked_project,
    refuse_foreign_key,
)
from sublet.accounts.people.api import owned
from sublet.accounts.permissions import PERMISSIONS
from sublet.accounts.service import Accounts
from sublet.accounts.service_accounts import api as service_accounts
from sublet.accounts.wire import NewKey, NewOrganization
from sublet.store.once import Effect
from sublet.store.paging import PageRequest, page_request
from sublet.values.wire import as_answer


def router(accounts: Accounts, require: Require) -> APIRouter:
    """`/v1/organizations`, for the operator, and `/v1/whoami`, for anybody with a key."""
    routes = APIRouter(tags=["accounts"], route_class=AnswerRoute)
    makes = Depends(require("organizations:write", effect=Effect(Organization)))

    @routes.get("/v1/whoami")
    def whoami(actor: Actor = Depends(require("identity:read"))) -> wire.Identity:
        """Show the organization, role and permissions of the key in use."""
        return as_answer(
            wire.Identity,
            {
                "key_id": actor.key_id,
                "organization_id": actor.organization_id,
                "role": actor.role,
                "scopes": sorted(actor.scopes),
                "permissions": {name: found for name in PERMISSIONS if (found := actor.may(name))},
            },
        )

    @routes.get("/v1/organizations")
    def list_organizations(
        actor: Actor = Depends(require("organizations:read")), page: PageRequest = Depends(page_request)
    ) -> wire.OrganizationList:
        """List every organization, oldest first. A customer sees only its own."""
        found = accounts.organization_page(page, None if actor.everywhere else actor.organization_id)
        return as_answer(wire.OrganizationList, found.map(lambda item: item.as_dict()).as_dict("organizations"))

    @routes.post("/v1/organizations", status_code=201, dependencies=[makes])
    def create_organization(body: NewOrganization) -> wire.Organization:
        """Create an organization. Its currency can't be changed later."""
        return as_answer(
            wire.Organization,
            accounts.create_organization(body.name, body.kind, body.currency, body.timezone).as_dict(),
        )

    @routes.post("/v1/organizations/{organization}/suspend", dependencies=[Depends(require("organizations:write"))])
    def suspend(organization: str) -> wire.Organization:
        """Suspend an organization: its keys and people are refused from now on, but its leases and jobs keep running.
        Repeating this has no effect."""
        return as_answer(wire.Organization, accounts.suspend(organization).as_dict())

    @routes.post("/v1/organizations/{organization}/resume", dependencies=[Depends(require("organizations:write"))])
    def resume(organization: str) -> wire.Organization:
        """Resume a suspended organization. Repeating this has no effect."""
        return as_answer(wire.Organization, accounts.resume(organization).as_dict())

    _key_routes(routes, accounts, require)
    routes.include_router(service_accounts.router(accounts, require))
    return routes


def _key_routes(routes: APIRouter, accounts: Accounts, require: Require) -> None:
    limits = Limits(accounts.store)

    @routes.get("/v1/organizations/{organization}/keys")
    def list_keys(
        organization: str,
        actor: Actor = Depends(require("keys:read")),
        page: PageRequest = Depends(page_request),
    ) -> wire.KeyList:
        """List the keys of an organization, oldest first, without their secrets."""
        found = accounts.key_page(owned(accounts, actor, organization).id, page)
        return as_answer(wire.KeyList, found.map(lambda key: key.as_dict()).as_dict("keys"))

    @routes.post("/v1/organizations/{organization}/keys", status_code=201)
    def create_key(
        organization: str,
        body: NewKey,
        actor: Actor = Depends(require("keys:write", effect=Effect(IssuedKey, secret=True))),
    ) -> wire.IssuedKey:
        """Create a key. Only this response contains its secret."""
        owner = owned(accounts, actor, organization)
        project = checked_project(body.project)
        if body.service_account:
            project = accounts.service_account(owner, body.service_account).project or project
        refuse_foreign_key(actor, project)
        allowed = allowed_of(body.limits) if body.limits is not None else None

        def limit(connection: Connection, key: ApiKey) -> ApiKey:
            if allowed is None:
                return key
            limits.create_for(connection, actor.require("limits:write"), key, allowed)
            return replace(key, models=allowed.models)

        belongs = KeyOwner(service_account=body.service_account, created_by=actor.id)
        key, secret = accounts.create_key(
            *(owner.id, body.name, body.scopes, body.expires_at, project, body.role), belongs=belongs, also=limit
        )
        return as_answer(wire.IssuedKey, IssuedKey(key, secret).as_dict())

    @routes.delete("/v1/keys/{key_id}", status_code=204)
    def revoke_key(key_id: str, actor: Actor = Depends(require("keys:write"))) -> None:
        """Revoke a key, effective immediately."""
        owner = None if actor.everywhere else actor.organization_id
        accounts.revoke_key(key_id, owner, lambda key: refuse_foreign_key(actor, key.project))
