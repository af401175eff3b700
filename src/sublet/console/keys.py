"""An organization's API keys and the service accounts that they belong to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

from sqlalchemy import Connection

from sublet.accounts.limits.model import Allowed
from sublet.accounts.limits.service import Limits
from sublet.accounts.model import (
    SCOPES_BY_KIND,
    ApiKey,
    IssuedKey,
    KeyOwner,
    Organization,
    checked_project,
    checked_role,
    refuse_foreign_key,
)
from sublet.accounts.people.service import People
from sublet.accounts.permissions import ROLES, ROLES_BY_KIND, SCOPES
from sublet.accounts.service import Accounts
from sublet.accounts.service_accounts.model import PER_ORGANIZATION_MAX, ServiceAccount
from sublet.accounts.service_accounts.service import ServiceAccounts
from sublet.console.page import Act, Drawn, Go, Screen, Visit
from sublet.store.paging import Page, PageRequest

KEYS, ORGANIZATIONS = "/keys", "/organizations"
SHOWN_MAX = 100
NAMED_MAX = 200
"""Members whose names are shown as those who made a key; of others, the id is."""
DAYS = (7, 30, 90, 365)

Whose = Callable[[Visit], Organization]


class KeyScreens:
    """The screen of keys, for one's own organization or, for the operator, for any."""

    def __init__(self, accounts: Accounts, people: People) -> None:
        self._accounts = accounts
        self._people = people
        self._limits = Limits(accounts.store)
        self._services = ServiceAccounts(accounts.store)

    def screen(self, path: str, label: str, whose: Whose, *, everywhere: bool) -> Screen:
        """The screen at `path`."""

        def show(visit: Visit) -> Drawn:
            owner = whose(visit)
            page = self._accounts.key_page(owner.id, PageRequest(SHOWN_MAX, visit.query.get("after")))
            return self._drawn(visit, owner, page, None)

        def create(visit: Visit) -> Drawn:
            owner = whose(visit)
            issued = self._issue(visit, owner)
            return self._drawn(visit, owner, self._accounts.key_page(owner.id, PageRequest(SHOWN_MAX)), issued)

        def revoke(visit: Visit) -> Go:
            owner = whose(visit)
            self._accounts.revoke_key(
                visit.form.text("key"), owner.id, lambda key: refuse_foreign_key(visit.actor, key.project)
            )
            return Go(path.format(organization_id=owner.id))

        def add_service(visit: Visit) -> Go:
            owner, form = whose(visit), visit.form
            project = checked_project(form.text("project"))
            refuse_foreign_key(visit.actor, project)
            self._services.create(owner, form.text("name"), form.text("role"), project, visit.actor.id)
            return Go(path.format(organization_id=owner.id))

        def remove_service(visit: Visit) -> Go:
            owner = whose(visit)
            self._services.remove(
                visit.form.text("service"), owner.id, lambda found: refuse_foreign_key(visit.actor, found.project)
            )
            return Go(path.format(organization_id=owner.id))

        acts = {
            "create": Act("keys:write", create, dangerous=True, once=IssuedKey),
            "revoke": Act("keys:write", revoke),
            "add-service": Act("keys:write", add_service, once=ServiceAccount),
            "remove-service": Act("keys:write", remove_service, dangerous=True),
        }
        return Screen(path, label, "keys:read", show, acts, everywhere=everywhere)

    def _issue(self, visit: Visit, owner: Organization) -> IssuedKey:
        form, belongs = visit.form, visit.form.text("belongs_to")
        scopes = [form.text("scope")] if form.text("scope") else None
        days = form.number("days", "days") if form.text("days") else 0
        expires_at = visit.at + timedelta(days=days) if days else None
        named = [name.strip() for name in form.text("models").split(",") if name.strip()]
        allowed = Allowed(models=tuple(dict.fromkeys(named))) if named else None
        project = checked_project(form.text("project"))
        service, person = "", ""
        if belongs.startswith("sva_"):
            service = belongs
            role, project = "", self._accounts.service_account(owner, service).project or project
        else:
            role = checked_role(owner.kind, form.text("role"))
            mine = belongs == "person" and owner.id == visit.session.organization.id
            person = visit.actor.person_id if mine else ""
        refuse_foreign_key(visit.actor, project)

        def limit(connection: Connection, key: ApiKey) -> ApiKey:
            if allowed is None:
                return key
            self._limits.create_for(connection, visit.actor.require("limits:write"), key, allowed)
            return replace(key, models=allowed.models)

        made = self._accounts.create_key(
            *(owner.id, form.text("name"), scopes, expires_at, project, role),
            belongs=KeyOwner(person, service, visit.actor.id),
            also=limit,
        )
        return IssuedKey(*made)

    def _drawn(self, visit: Visit, owner: Organization, page: Page[ApiKey], issued: IssuedKey | None) -> Drawn:
        own = owner.id == visit.session.organization.id
        members = self._people.member_page(owner.id, PageRequest(NAMED_MAX)).items
        services = self._services.page(owner.id, PageRequest(PER_ORGANIZATION_MAX)).items
        return Drawn(
            "keys.html",
            {
                "owner": owner,
                "keys": page.items,
                "next": page.next,
                "path": KEYS if own else f"{ORGANIZATIONS}/{owner.id}/keys",
                "roles": [(name, ROLES[name].meaning) for name in ROLES_BY_KIND[owner.kind]],
                "scopes": [(name, SCOPES[name].meaning) for name in SCOPES_BY_KIND[owner.kind]],
                "days": DAYS,
                "issued": issued,
                "services": services,
                "names": {member.person.id: member.person.name for member in members},
                "may_own": own and visit.session.person is not None,
                "may_write": bool(visit.actor.may("keys:write")),
                "at": visit.at,
            },
        )
