"""Organizations and keys as they cross the API."""

from __future__ import annotations

from typing import Annotated, Literal

from annotated_types import MaxLen, MinLen

from sublet.values.moments import Moment
from sublet.values.wire import LINE, answer, body

Scope = Annotated[str, MaxLen(40), LINE]


@body
class NewOrganization:
    """An organization to create. Its currency stays for life."""

    name: Annotated[str, MinLen(1), MaxLen(120), LINE]
    kind: Annotated[str, MaxLen(16), LINE] = "customer"
    currency: Annotated[str, MaxLen(3), LINE] = "USD"
    timezone: Annotated[str, MaxLen(64), LINE] = "UTC"


@body
class NewKey:
    """A key to create for an organization."""

    name: Annotated[str, MinLen(1), MaxLen(120), LINE] = "default"
    role: Annotated[str, MaxLen(32), LINE] = ""
    scopes: Annotated[list[Scope], MaxLen(16)] | None = None
    expires_at: Moment | None = None
    project: Annotated[str, MaxLen(80), LINE] = ""


@answer
class Identity:
    """Who the key in use belongs to, and each permission that it gives with how far it goes: `own` or `all`."""

    key_id: str
    organization_id: str
    role: str
    scopes: list[str]
    permissions: dict[str, Literal["own", "all"]]


@answer
class Organization:
    """Somebody with an account; amounts are in its one currency."""

    id: str
    name: str
    kind: str
    currency: str
    timezone: str
    status: str
    created_at: Moment


@answer
class OrganizationList:
    """A page of organizations, the oldest first."""

    organizations: list[Organization]
    next: str | None


@answer
class Key:
    """A key without its secret; `hint` is how the secret ends."""

    id: str
    organization_id: str
    name: str
    hint: str
    role: str
    scopes: list[str]
    project: str
    created_at: Moment
    expires_at: Moment | None
    revoked_at: Moment | None


@answer
class KeyList:
    """A page of the keys of an organization, the oldest first, revoked ones too."""

    keys: list[Key]
    next: str | None


@answer
class IssuedKey:
    """A key that was just made, with its secret: shown this once."""

    id: str
    organization_id: str
    name: str
    hint: str
    role: str
    scopes: list[str]
    project: str
    created_at: Moment
    expires_at: Moment | None
    revoked_at: Moment | None
    secret: str
