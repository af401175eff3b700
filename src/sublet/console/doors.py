"""The ways into the console: what its sign-in pages need."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import Request

from sublet.accounts.oidc.service import SignInElsewhere
from sublet.accounts.passkeys.model import Place, place_of
from sublet.accounts.passkeys.service import Passkeys
from sublet.accounts.people.model import Session
from sublet.accounts.people.service import People
from sublet.accounts.people.sessions import Sessions
from sublet.console.page import Visit
from sublet.store.audit import Acting

SIGN_IN, SIGN_OUT, VERIFY, JOIN, RESET = (
    "console.sign_in",
    "console.sign_out",
    "console.verify",
    "console.join",
    "console.reset_password",
)
"""What the audit log calls it; a refused one ends with `_refused`."""


@dataclass(frozen=True, slots=True)
class Doors:
    """Sessions, and by what they begin; `public_url` is where people reach the console, empty where nobody said."""

    sessions: Sessions
    people: People
    elsewhere: SignInElsewhere
    passkeys: Passkeys
    public_url: str = ""

    def place(self, request: Request) -> Place:
        """Where passkeys of this console belong. Raises PasskeyPlaceError."""
        return place_of(self.public_url, f"{request.url.scheme}://{request.headers.get('host', '')}")

    def place_at(self, visit: Visit) -> Place:
        """The same, of a screen's visit."""
        return place_of(self.public_url, visit.base_url)


def entering(request: Request, operation: str, session: Session | None = None) -> Acting:
    """The audit log's entry of somebody at the door; who it is, the sign-in itself says, unless a session does."""
    source = request.client.host if request.client else ""
    if session is None:
        return Acting("", "", "", operation, request.url.path, source)
    actor = session.actor
    return Acting(actor.id, actor.organization_id, actor.role, operation, request.url.path, source)
