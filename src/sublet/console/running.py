"""Who comes in: an organization's people, and, for the operator, the organizations themselves. `keys.py` has their keys."""

from __future__ import annotations

from sublet.accounts.model import SCOPES_BY_KIND, Organization
from sublet.accounts.people.model import IssuedInvitation
from sublet.accounts.people.service import People
from sublet.accounts.permissions import ROLES, ROLES_BY_KIND
from sublet.accounts.service import Accounts
from sublet.console.keys import KEYS, ORGANIZATIONS, KeyScreens, Whose
from sublet.console.page import Act, Drawn, Go, Screen, Visit
from sublet.store.paging import PageRequest
from sublet.values.errors import InvalidInputError

SHOWN_MAX = 100
PEOPLE = "/people"


class Running:
    """The screens of who comes in. Each is there twice: for one's own organization, and for the operator under `/organizations`."""

    def __init__(self, accounts: Accounts, people: People) -> None:
        self._accounts = accounts
        self._people = people
        self._keys = KeyScreens(accounts, people)

    def screens(self) -> tuple[Screen, ...]:
        """`/keys` and `/people`, `/organizations`, and both under `/organizations/{organization_id}`."""
        own, named = self._own, self._named
        return (
            self._keys.screen(KEYS, "Keys", own, everywhere=False),
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
            self._keys.screen(f"{ORGANIZATIONS}/{{organization_id}}/keys", "", named, everywhere=True),
            self._members(f"{ORGANIZATIONS}/{{organization_id}}/people", "", named, everywhere=True),
        )

    def _own(self, visit: Visit) -> Organization:
        return visit.session.organization

    def _named(self, visit: Visit) -> Organization:
        return self._accounts.organization(visit.path["organization_id"])

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
