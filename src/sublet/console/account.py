"""One's own account: who one is, where one is signed in, one's password, and for which organization one acts."""

from __future__ import annotations

from sublet.accounts.people.model import LANGUAGES, Person, WrongPasswordError
from sublet.console.doors import Doors
from sublet.console.page import Act, Drawn, Go, Screen, Visit
from sublet.console.signing import TWO_PASSWORDS
from sublet.values.errors import InvalidInputError

PATH = "/account"
_ANYBODY = "identity:read"


def account_screen(doors: Doors) -> Screen:
    """`/account`. Somebody who signed in with a key sees and ends the sessions of that key."""
    sessions, people = doors.sessions, doors.people

    def show(visit: Visit) -> Drawn:
        person = visit.session.person
        members = people.memberships(person.id) if person else []
        return Drawn(
            "account.html",
            {
                "person": person,
                "actor": visit.actor,
                "memberships": members,
                "current": visit.session.organization.id,
                "languages": list(LANGUAGES.items()),
                "passkeys": doors.passkeys.listed(person.id) if person else [],
                "sessions": sessions.listed(visit.session),
                "session_id": visit.session.id,
                "at": visit.at,
                "done": visit.query.get("done", ""),
            },
        )

    def change_password(visit: Visit) -> Go:
        person = _person(visit)
        new = visit.form.text("new_password")
        if new != visit.form.text("again_password"):
            raise InvalidInputError(TWO_PASSWORDS)
        sessions.verify(visit.session, visit.form.text("password"), visit.address)
        people.change_password(person, new)
        return Go("/login?done=password")

    def revoke(visit: Visit) -> Go:
        sessions.revoke(visit.session, visit.form.text("session"))
        return Go(PATH)

    def revoke_others(visit: Visit) -> Go:
        sessions.revoke_others(visit.session)
        return Go(PATH)

    def switch(visit: Visit) -> Go:
        sessions.switch(visit.session, visit.form.text("organization"))
        return Go("/")

    def language(visit: Visit) -> Go:
        people.set_language(_person(visit), visit.form.text("language"))
        return Go(PATH)

    acts = {
        "language": Act(_ANYBODY, language),
        "password": Act(_ANYBODY, change_password),
        "revoke": Act(_ANYBODY, revoke),
        "revoke-others": Act(_ANYBODY, revoke_others),
        "switch": Act(_ANYBODY, switch),
    }
    return Screen(PATH, "Account", _ANYBODY, show, acts)


def _person(visit: Visit) -> Person:
    if visit.session.person is None:
        raise WrongPasswordError("you signed in with a key, and keys have no password")
    return visit.session.person
