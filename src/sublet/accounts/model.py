"""The model of organizations, their keys, and permissions."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Protocol
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from sublet.accounts.permissions import ALL, OF_WHOLE_ORGANIZATION, OWN, ROLES_BY_KIND, reach, roles_with
from sublet.store.once import Effect
from sublet.values.clock import as_utc, format_time
from sublet.values.errors import ForbiddenError, InvalidInputError, NotFoundError
from sublet.values.ids import is_id
from sublet.values.money import currency_digits
from sublet.values.text import checked_line

KEY_PREFIX = "sublet_"
KEYS_PER_ORGANIZATION_MAX = 1_000
NAME_LENGTH_MAX = 120
PROJECT_LENGTH_MAX = 80

SCOPES_BY_KIND: dict[str, tuple[str, ...]] = {
    "operator": ("operate", "claims", "leases", "models", "billing"),
    "internal": ("claims", "notifications"),
    "customer": ("leases", "models", "billing", "notifications"),
}
"""The kinds of organization and the scopes a key of each may carry, the first set being the default."""


@dataclass(frozen=True, slots=True)
class Organization:
    """An account. `kind` is operator, internal or customer. Amounts are in its one `currency`."""

    id: str
    name: str
    kind: str
    currency: str
    timezone: str
    status: str
    created_at: datetime

    def as_dict(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "name": self.name,
            "kind": self.kind,
            "currency": self.currency,
            "timezone": self.timezone,
            "status": self.status,
            "created_at": format_time(self.created_at),
        }


@dataclass(frozen=True, slots=True)
class LiveKey:
    """A key that is valid now, with its hash, for processes that check keys without querying the database each time."""

    sha256: str
    id: str
    organization_id: str
    organization_name: str
    role: str
    scopes: Sequence[str]
    expires_at: datetime | None
    project: str
    signing_secret: str
    """Sealed; empty where the key can't sign."""


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as stored: only its SHA-256, and the last four characters as a hint. Usage with it counts for its `project`, if it
    has one. It belongs to a person, and ends with that membership, to a service account, and ends with that, or to the
    organization. `owner_name` is that of the person or the service account; `models`, if not None, are the only ones that it may
    call. `last_used_at` is exact to a minute."""

    id: str
    organization_id: str
    name: str
    hint: str
    scopes: tuple[str, ...]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    project: str = ""
    role: str = ""
    person_id: str = ""
    created_by: str = ""
    service_account_id: str = ""
    owner_name: str = ""
    models: tuple[str, ...] | None = None
    last_used_at: datetime | None = None

    @property
    def owner(self) -> str:
        """What kind of owner it has: `person`, `service_account` or `organization`."""
        return "person" if self.person_id else "service_account" if self.service_account_id else "organization"

    def usable(self, now: datetime) -> bool:
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)

    def as_dict(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "organization_id": self.organization_id,
            "name": self.name,
            "hint": f"…{self.hint}",
            "role": self.role,
            "scopes": list(self.scopes),
            "project": self.project,
            "models": list(self.models) if self.models is not None else None,
            "owner": self.owner,
            "owner_id": self.person_id or self.service_account_id or self.organization_id,
            "owner_name": self.owner_name,
            "created_by": self.created_by,
            "created_at": format_time(self.created_at),
            "expires_at": format_time(self.expires_at) if self.expires_at else None,
            "revoked_at": format_time(self.revoked_at) if self.revoked_at else None,
            "last_used_at": format_time(self.last_used_at) if self.last_used_at else None,
        }


@dataclass(frozen=True, slots=True)
class KeyOwner:
    """Whom a new key belongs to, the organization where neither is named, and who makes it (an id)."""

    person_id: str = ""
    service_account: str = ""
    """Its id or name."""
    created_by: str = ""


@dataclass(frozen=True, slots=True)
class IssuedKey:
    """A new key with its secret, which is shown only once."""

    key: ApiKey
    secret: str

    def as_dict(self) -> dict[str, Any]:
        return {**self.key.as_dict(), "secret": self.secret, "signing_secret": signing_secret_of(self.secret)}


def signing_secret_of(secret: str) -> str:
    """The secret that signs requests, for clients that don't send the key's secret. It is derived from the key's secret, which
    can't be computed from it."""
    found = hmac.digest(secret.encode(), b"sublet signing secret", "sha256")
    return base64.urlsafe_b64encode(found).decode()[:40]


class Require(Protocol):
    """Makes a FastAPI dependency that yields the Actor, and refuses keys without the permission. `effect` says what a POST
    creates."""

    def __call__(self, permission: str, *, effect: Effect | None = None) -> Callable[..., Any]: ...


@dataclass(frozen=True, slots=True)
class Actor:
    """The caller: a key of an organization, or a person in one (`person_id`, without a key), with the permissions. `reach` is
    how far the permission of this request goes."""

    key_id: str
    organization_id: str
    kind: str
    scopes: frozenset[str]
    project: str = ""
    role: str = ""
    reach: str = ""
    person_id: str = ""

    @property
    def id(self) -> str:
        """The id of the person or the key, for the records."""
        return self.person_id or self.key_id

    @property
    def is_operator(self) -> bool:
        return self.may("organizations:write") == ALL

    @property
    def everywhere(self) -> bool:
        """Whether the request may concern every organization, rather than only the caller's own."""
        return self.reach == ALL if self.reach else self.is_operator

    def may(self, permission: str) -> str:
        """How far a permission of the caller goes: `all`, `own`, or nothing."""
        found = reach(self.role, self.scopes, permission)
        return "" if found == OWN and self.project and permission in OF_WHOLE_ORGANIZATION else found

    def require(self, permission: str) -> Actor:
        """The actor for a request that needs `permission`. Raises ForbiddenError if the key does not have it."""
        found = self.may(permission)
        if not found:
            raise ForbiddenError(self._lacking(permission), permission=permission)
        return replace(self, reach=found)

    def _lacking(self, permission: str) -> str:
        """Why the key may not use `permission`, and which key may."""
        if self.project and reach(self.role, self.scopes, permission):
            return (
                f"this key acts for project {self.project!r} alone, and the permission {permission!r} concerns the whole "
                "organization; use a key without a project"
            )
        roles = roles_with(permission)
        if self.person_id:
            return (
                f"your role {self.role} lacks the permission {permission!r}; a person with one of these roles has it: "
                f"{', '.join(roles)}"
            )
        if self.role in roles:
            scopes = ", ".join(sorted(self.scopes))
            return (
                f"this key lacks the permission {permission!r}: its role {self.role} has it, but its scopes ({scopes}) do not; "
                "use a key with that role and no scopes"
            )
        return f"this key lacks the permission {permission!r}; a key with one of these roles has it: {', '.join(roles)}"

    def whose(self, organization_id: str) -> str:
        """The requested organization: the one named, or the caller's own. Raises NotFoundError for another one that the caller
        may not see, as if it did not exist."""
        wanted = organization_id or self.organization_id
        if wanted != self.organization_id and not self.everywhere:
            raise NotFoundError(f"there is no organization {wanted!r}")
        return wanted


def refuse_foreign_key(actor: Actor, project: str) -> None:
    """Raises ForbiddenError where a key with a project would make or revoke a key of another project, or of none: it would act for
    that project then."""
    mine = acting_for(actor)
    if mine and project != mine:
        raise ForbiddenError(
            f"this key acts for project {mine!r} alone, so it can create and revoke keys of that project only; use a key without "
            "a project"
        )


def acting_for(actor: Actor) -> str:
    """The project that a request acts for alone; empty where it may concern all of its organization, or every one."""
    return "" if actor.everywhere else actor.project


def new_secret() -> str:
    """A key with 256 random bits."""
    return KEY_PREFIX + secrets.token_urlsafe(32)


def secret_sha256(secret: str) -> str:
    """Hex SHA-256 of a key. A plain hash is enough where the secret itself has 256 bits."""
    return hashlib.sha256(secret.encode()).hexdigest()


def checked_name(name: str, what: str) -> str:
    """`name` after `checked_line`. Raises InvalidInputError if it is empty, too long, or has control characters."""
    return checked_line(name, what, NAME_LENGTH_MAX, 1)


def checked_project(project: str) -> str:
    """`project` after `checked_line`; empty for none. Raises InvalidInputError if it is too long or not printable."""
    return checked_line(project, "a project's name", PROJECT_LENGTH_MAX)


def checked_role(kind: str, role: str) -> str:
    """The role of a new key; by default, the first one of the kind. Raises InvalidInputError for a role of another kind."""
    allowed = ROLES_BY_KIND[kind]
    if role and role not in allowed:
        raise InvalidInputError(
            f"role {role!r} is not for an organization of kind {kind}; it may have {', '.join(allowed)}"
        )
    return role or allowed[0]


def checked_scopes(kind: str, scopes: Iterable[str] | None, role: str = "") -> tuple[str, ...]:
    """The scopes of a new key: where None is asked, the kind's own, or none where a role is asked. Raises InvalidInputError
    naming a wrong one."""
    allowed = SCOPES_BY_KIND[kind]
    if scopes is None:
        return () if role else allowed
    wanted = tuple(dict.fromkeys(scopes))
    for scope in wanted:
        if scope not in allowed:
            raise InvalidInputError(
                f"scope {scope!r} is not for an organization of kind {kind}; it may have {', '.join(allowed)}"
            )
    if not wanted:
        raise InvalidInputError(f"a key needs at least one scope of {', '.join(allowed)}")
    return wanted


def checked_expiry(expires_at: datetime | None, now: datetime) -> datetime | None:
    """`expires_at` in UTC. Raises InvalidInputError if it has no offset or is in the past."""
    if expires_at is None:
        return None
    try:
        moment = as_utc(expires_at)
    except ValueError as error:
        raise InvalidInputError(f"expires_at: {error}") from error
    if moment <= now:
        raise InvalidInputError("a key can't expire in the past; choose a later expires_at")
    return moment


def checked_organization(name: str, kind: str, currency: str, timezone: str) -> tuple[str, str, str, str]:
    """The four fields, checked. Raises InvalidInputError naming the wrong one."""
    if kind not in SCOPES_BY_KIND:
        raise InvalidInputError(f"kind {kind!r} is not one of {', '.join(SCOPES_BY_KIND)}")
    currency_digits(currency)
    try:
        ZoneInfo(timezone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise InvalidInputError(f"unknown timezone {timezone!r}; use a name such as UTC or Europe/Berlin") from error
    name = checked_name(name, "an organization's name")
    if name.startswith("org_") or is_id(name):
        raise InvalidInputError(
            f"{name!r} looks like an id, and organizations are looked up by id or name; choose a different name"
        )
    return name, kind, currency, timezone
