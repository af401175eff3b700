"""People, the organizations they are in, and the invitations by which they come in."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sublet.accounts.model import NAME_LENGTH_MAX, Actor, Organization
from sublet.accounts.permissions import ROLES_BY_KIND
from sublet.values.clock import format_time
from sublet.values.errors import (
    ConflictError,
    ForbiddenError,
    InvalidInputError,
    LimitExceededError,
    UnauthenticatedError,
)
from sublet.values.text import checked_line

INVITATION_LIFE = timedelta(days=7)
RESET_LIFE = timedelta(hours=1)
INVITATIONS_OPEN_MAX = 200
PEOPLE_MAX = 1_000
"""Per organization."""


class WrongPasswordError(UnauthenticatedError):
    """The e-mail address or the password is wrong; check both, or reset the password."""

    code = "wrong_password"


class InvitationOverError(ConflictError):
    """This invitation was used, has expired or was revoked; ask the person who invited you for a new one."""

    code = "invitation_over"


class ResetOverError(ConflictError):
    """This link was used or has expired; ask for a new one under "Forgot your password?"."""

    code = "reset_over"


class LastPersonError(ConflictError):
    """This is the organization's last person who may manage its people; give somebody else that role first."""

    code = "last_person"


class VerificationNeededError(ForbiddenError):
    """This act needs your password again, because you gave it more than 10 minutes ago; sign in again to confirm it."""

    code = "verification_needed"


class SecondStepError(UnauthenticatedError):
    """Your password was right; now confirm the sign-in with one of your passkeys."""

    code = "second_step"

    def __init__(self, person_id: str) -> None:
        super().__init__()
        self.person_id = person_id


class SignInLimitError(LimitExceededError):
    """Too many failed attempts came from this address; wait a minute and try again."""

    code = "sign_in_limit"


LANGUAGES = {"en": "English", "zh-Hans": "简体中文", "zh-Hant": "繁體中文"}
"""Tags of the languages that people may choose, each with its own name."""


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who can sign in. `has_password` is false for those who sign in elsewhere."""

    id: str
    email: str
    name: str
    created_at: datetime
    email_verified_at: datetime | None
    has_password: bool
    language: str = ""
    """One of LANGUAGES; empty: the one that the browser asks for."""


@dataclass(frozen=True, slots=True)
class Member:
    """A person in an organization, with a role there."""

    person: Person
    organization_id: str
    role: str
    since: datetime

    def as_dict(self) -> dict[str, Any]:
        verified = self.person.email_verified_at
        return {
            "person_id": self.person.id,
            "organization_id": self.organization_id,
            "email": self.person.email,
            "name": self.person.name,
            "role": self.role,
            "email_verified_at": format_time(verified) if verified else None,
            "since": format_time(self.since),
        }


@dataclass(frozen=True, slots=True)
class Invitation:
    """An offer to join an organization. It is open until it is accepted, revoked or expired."""

    id: str
    organization_id: str
    email: str
    role: str
    invited_by: str
    created_at: datetime
    expires_at: datetime
    accepted_at: datetime | None = None
    revoked_at: datetime | None = None

    def state(self, now: datetime) -> str:
        """`accepted`, `revoked`, `expired` or `open`."""
        if self.accepted_at is not None:
            return "accepted"
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if now >= self.expires_at else "open"

    def as_dict(self, now: datetime) -> dict[str, Any]:
        return {
            "id": self.id,
            "organization_id": self.organization_id,
            "email": self.email,
            "role": self.role,
            "state": self.state(now),
            "invited_by": self.invited_by,
            "created_at": format_time(self.created_at),
            "expires_at": format_time(self.expires_at),
        }


@dataclass(frozen=True, slots=True)
class IssuedInvitation:
    """An invitation that was just made, with the secret of its link, which is shown this once."""

    invitation: Invitation
    secret: str
    link: str
    mailed: bool

    def as_dict(self) -> dict[str, Any]:
        made = self.invitation
        return {
            **made.as_dict(made.created_at),
            "link": self.link,
            "secret": self.secret,
            "mailed": self.mailed,
        }


@dataclass(frozen=True, slots=True)
class Offer:
    """What an invitation offers, for the page behind its link. `mailed` says that the link came by mail to that address."""

    invitation: Invitation
    organization: Organization
    known: bool
    mailed: bool


@dataclass(frozen=True, slots=True)
class Session:
    """Somebody who is signed in: as a person, or with a key, where `person` is None. `form_token` must come back with every
    form; `fresh_token` replaces the cookie where it is set."""

    id: str
    actor: Actor
    person: Person | None
    organization: Organization
    form_token: str
    verified_at: datetime
    fresh_token: str | None = None


@dataclass(frozen=True, slots=True)
class SessionRecord:
    """A session as its owner sees it in the list."""

    id: str
    organization_id: str
    created_at: datetime
    seen_at: datetime
    expires_at: datetime
    user_agent: str
    address: str


def new_link_secret() -> str:
    """256 random bits for a link."""
    return secrets.token_urlsafe(32)


def checked_language(language: str) -> str:
    """Raises InvalidInputError."""
    if language and language not in LANGUAGES:
        raise InvalidInputError(f"language {language[:20]!r} must be one of {', '.join(LANGUAGES)}, or empty")
    return language


def checked_person_name(name: str) -> str:
    """Raises InvalidInputError."""
    return checked_line(name, "your name", NAME_LENGTH_MAX, 1)


def checked_member_role(kind: str, role: str) -> str:
    """A role that people of an organization of that kind may have. Raises InvalidInputError."""
    allowed = ROLES_BY_KIND[kind]
    if role not in allowed:
        raise InvalidInputError(
            f"role {role[:40]!r} is not for an organization of kind {kind}; it may have {', '.join(allowed)}"
        )
    return role
