"""Who comes in: an organization's keys and people, and, for the operator, the organizations themselves."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from sublet.accounts.model import (
    SCOPES_BY_KIND,
    ApiKey,
    IssuedKey,
    Organization,
    checked_project,
    checked_role,
    refuse_foreign_key,
)
from sublet.accounts.people.model import IssuedInvitation
from sublet.accounts.people.service import People
from sublet.accounts.permissions import ROLES, ROLES_BY_KIND, SCOPES
from sublet.accounts.service import Accounts
from sublet.console.page import Act, Drawn, Go, Screen, Visit
from sublet.store.paging import Page, PageRequest
from sublet.values.errors import InvalidInputError

SHOWN_MAX = 100
NAMED_MAX = 200
"""Members whose names are shown beside their keys; of others, the id is."""
DAYS = (7, 30, 90, 365)
KEYS, PEOPLE, ORGANIZATIONS = "/keys", "/people", "/organizations"

Whose = Callable[[Visit], Organization]


class Running:
    """The screens of who comes in. Each is there twice: for one's own organization, and for the operator under `/organizations`."""

    def __init__(self, accounts: Accounts, people: People) -> None:
        self._accounts = accounts
        self._people = people

    def screens(self) -> tuple[Screen, ...]:
        """`/keys` and `/people`, `/organizations`, and both under `/organizations/{organization_id}`."""
        own, named = self._own, self._named
        return (
            self._keys(KEYS, "Keys", own, everywhere=False),
            self._members(PEOPLE, "People", own, everywhere=False),
            Screen(
                ORGANIZATIONS,
                "Organizations",
                "organizations:write",
                self._show_all,
                {"create": Act("organizations:write", self._create, once=Organization)},
                everywhere=True,
            ),
            Screen(
                f"{ORGANIZATIONS}/{{organization_id}}",
                "",
                "organizations:write",
                self._show_one,
                {
                    "suspend": Act("organizations:write", self._suspend, dangerous=True),
                    "resume": Act("organizations:write", self._resume),
                },
                everywhere=True,
            ),
            self._keys(f"{ORGANIZATIONS}/{{organization_id}}/keys", "", named, everywhere=True),
            self._members(f"{ORGANIZATIONS}/{{organization_id}}/people", "", named, everywhere=True),
        )

    def _own(self, visit: Visit) -> Organization:
        return visit.session.organization

    def _named(self, visit: Visit) -> Organization:
        return self._accounts.organization(visit.path["organization_id"])

    # -- keys

    def _keys(self, path: str, label: str, whose: Whose, *, everywhere: bool) -> Screen:
        def show(visit: Visit) -> Drawn:
            owner = whose(visit)
            page = self._accounts.key_page(owner.id, PageRequest(SHOWN_MAX, visit.query.get("after")))
            return self._drawn_keys(visit, owner, page, None)

        def create(visit: Visit) -> Drawn:
            owner, form = whose(visit), visit.form
            role = checked_role(owner.kind, form.text("role"))
            scopes = [form.text("scope")] if form.text("scope") else None
            refuse_foreign_key(visit.actor, checked_project(form.text("project")))
            days = form.number("days", "days") if form.text("days") else 0
            expires_at = visit.at + timedelta(days=days) if days else None
            mine = form.text("belongs_to") == "person" and owner.id == visit.session.organization.id
            key, secret = self._accounts.create_key(
                owner.id,
                form.text("name"),
                scopes,
                expires_at,
                form.text("project"),
                role,
                also=self._accounts.holds(visit.actor.person_id if mine else "", visit.actor.id),
            )
            page = self._accounts.key_page(owner.id, PageRequest(SHOWN_MAX))
            return self._drawn_keys(visit, owner, page, IssuedKey(key, secret))

        def revoke(visit: Visit) -> Go:
            owner = whose(visit)
            self._accounts.revoke_key(
                visit.form.text("key"), owner.id, lambda key: refuse_foreign_key(visit.actor, key.project)
            )
            return Go(path.format(organization_id=owner.id))

        acts = {
            "create": Act("keys:write", create, dangerous=True, once=IssuedKey),
            "revoke": Act("keys:write", revoke),
        }
        return Screen(path, label, "keys:read", show, acts, everywhere=everywhere)

    def _drawn_keys(self, visit: Visit, owner: Organization, page: Page[ApiKey], issued: IssuedKey | None) -> Drawn:
        own = owner.id == visit.session.organization.id
        members = self._people.member_page(owner.id, PageRequest(NAMED_MAX)).items
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
                "names": {member.person.id: member.person.name for member in members},
                "may_own": own and visit.session.person is not None,
                "may_write": bool(visit.actor.may("keys:write")),
                "at": visit.at,
            },
        )

    # -- people

    def _members(self, path: str, label: str, whose: Whose, *, everywhere: bool) -> Screen:
        def drawn(visit: Visit, issued: IssuedInvitation | None) -> Drawn:
            owner = whose(visit)
            invitations = self._people.invitation_page(owner.id, PageRequest(SHOWN_MAX)).items
            return Drawn(
                "people.html",
                {
                    "owner": owner,
                    "path": path.format(organization_id=owner.id),
                    "page": self._people.member_page(owner.id, PageRequest(SHOWN_MAX, visit.query.get("after"))),
                    "invitations": [item for item in invitations if item.state(visit.at) == "open"],
                    "roles": [(name, ROLES[name].meaning) for name in ROLES_BY_KIND[owner.kind]],
                    "issued": issued,
                    "link": _whole_link(visit, issued.link) if issued else "",
                    "may_write": bool(visit.actor.may("people:write")),
                    "at": visit.at,
                },
            )

        def invite(visit: Visit) -> Drawn:
            made = self._people.invite(whose(visit), visit.form.text("email"), visit.form.text("role"), visit.actor.id)
            return drawn(visit, made)

        def back(visit: Visit) -> Go:
            return Go(path.format(organization_id=whose(visit).id))

        def uninvite(visit: Visit) -> Go:
            self._people.revoke_invitation(visit.form.text("invitation"), whose(visit).id)
            return back(visit)

        def set_role(visit: Visit) -> Go:
            self._people.set_role(whose(visit), visit.form.text("person"), visit.form.text("role"))
            return back(visit)

        def remove(visit: Visit) -> Go:
            self._people.remove(whose(visit), visit.form.text("person"))
            return back(visit)

        write = "people:write"
        acts = {
            "invite": Act(write, invite, dangerous=True, once=IssuedInvitation),
            "uninvite": Act(write, uninvite),
            "role": Act(write, set_role, dangerous=True),
            "remove": Act(write, remove, dangerous=True),
        }
        return Screen(path, label, "people:read", lambda visit: drawn(visit, None), acts, everywhere=everywhere)

    # -- organizations

    def _show_all(self, visit: Visit) -> Drawn:
        page = self._accounts.organization_page(PageRequest(SHOWN_MAX, visit.query.get("after")))
        return Drawn("organizations.html", {"page": page, "kinds": list(SCOPES_BY_KIND), "at": visit.at})

    def _create(self, visit: Visit) -> Go:
        form = visit.form
        made = self._accounts.create_organization(
            form.text("name"), form.text("kind"), form.text("currency"), form.text("timezone")
        )
        return Go(f"{ORGANIZATIONS}/{made.id}")

    def _show_one(self, visit: Visit) -> Drawn:
        owner = self._named(visit)
        return Drawn("organization.html", {"owner": owner, "at": visit.at})

    def _suspend(self, visit: Visit) -> Go:
        if visit.form.text("sure") != "yes":
            raise InvalidInputError("select the checkbox to confirm that its people and keys lose access")
        return Go(f"{ORGANIZATIONS}/{self._accounts.suspend(visit.path['organization_id']).id}")

    def _resume(self, visit: Visit) -> Go:
        return Go(f"{ORGANIZATIONS}/{self._accounts.resume(visit.path['organization_id']).id}")


def _whole_link(visit: Visit, link: str) -> str:
    """Without control.public_url a link is a path: the browser already reached this page at an address that works."""
    return link if link.startswith("http") else visit.base_url + link
