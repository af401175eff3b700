"""Routes of organizations and keys."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Depends

from sublet.accounts.model import Actor, IssuedKey, Organization, Require
from sublet.accounts.service import Accounts
from sublet.accounts.wire import NewKey, NewOrganization
from sublet.store.once import Effect


def router(accounts: Accounts, require: Require) -> APIRouter:
    """`/v1/organizations`, for the operator, and `/v1/whoami`, for anybody with a key."""
    routes = APIRouter(tags=["accounts"])
    operate = Depends(require("operate"))
    makes = Depends(require("operate", effect=Effect(Organization)))
    issues = Depends(require("operate", effect=Effect(IssuedKey, secret=True)))

    @routes.get("/v1/whoami")
    def whoami(actor: Actor = Depends(require(""))) -> dict[str, Any]:
        """The organization and the scopes of the key in use."""
        return {"key_id": actor.key_id, "organization_id": actor.organization_id, "scopes": sorted(actor.scopes)}

    @routes.get("/v1/organizations", dependencies=[operate])
    def list_organizations() -> dict[str, Any]:
        return {"organizations": [item.as_dict() for item in accounts.organizations()]}

    @routes.post("/v1/organizations", status_code=201, dependencies=[makes])
    def create_organization(body: NewOrganization) -> dict[str, Any]:
        return accounts.create_organization(body.name, body.kind, body.currency, body.timezone).as_dict()

    @routes.get("/v1/organizations/{organization}/keys", dependencies=[operate])
    def list_keys(organization: str) -> dict[str, Any]:
        return {"keys": [key.as_dict() for key in accounts.keys(accounts.organization(organization).id)]}

    @routes.post(
        "/v1/organizations/{organization}/keys",
        status_code=201,
        dependencies=[issues],
    )
    def create_key(organization: str, body: NewKey) -> dict[str, Any]:
        """The answer holds the secret, this once."""
        owner = accounts.organization(organization)
        key, secret = accounts.create_key(owner.id, body.name, body.scopes, body.expires_at, body.project)
        return {**key.as_dict(), "secret": secret}

    @routes.delete("/v1/keys/{key_id}", status_code=204, dependencies=[operate])
    def revoke_key(key_id: str) -> None:
        accounts.revoke_key(key_id)

    return routes
