"""Organizations and keys as they cross the API."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from annotated_types import Interval, MaxLen, MinLen

from sublet.values.moments import Moment
from sublet.values.wire import LINE, answer, body

Scope = Annotated[str, MaxLen(40), LINE]
PerMinute = Annotated[int, Interval(ge=1, le=10**12)]
ModelName = Annotated[str, MinLen(1), MaxLen(80), LINE]
AllowedModels = Annotated[list[ModelName], MaxLen(200)]


@body
class NewOrganization:
    """An organization to create. Its currency stays for life."""

    name: Annotated[str, MinLen(1), MaxLen(120), LINE]
    kind: Annotated[str, MaxLen(16), LINE] = "customer"
    currency: Annotated[str, MaxLen(3), LINE] = "USD"
    timezone: Annotated[str, MaxLen(64), LINE] = "UTC"


@body
class LimitValues:
    """What a limit allows of the model API; null does not limit that. `models` are the only ones that may be called."""

    requests_per_minute: PerMinute | None = None
    input_tokens_per_minute: PerMinute | None = None
    output_tokens_per_minute: PerMinute | None = None
    concurrency: PerMinute | None = None
    models: AllowedModels | None = None
    expires_at: Moment | None = None


@body
class NewRateLimit:
    """A limit to set: `scope` is organization, project, key or model. With `model`, only calls of that model count; scope model
    limits all organizations together."""

    organization_id: Annotated[str, MaxLen(40), LINE] = ""
    scope: Annotated[str, MaxLen(16), LINE] = "organization"
    scope_id: Annotated[str, MaxLen(80), LINE] = ""
    model: Annotated[str, MaxLen(80), LINE] = ""
    requests_per_minute: PerMinute | None = None
    input_tokens_per_minute: PerMinute | None = None
    output_tokens_per_minute: PerMinute | None = None
    concurrency: PerMinute | None = None
    models: AllowedModels | None = None
    expires_at: Moment | None = None


@answer
class RateLimit:
    """A limit of the model API; what is null is not limited. `by_operator` says that only the operator may change it."""

    id: str
    organization_id: str | None
    scope: str
    scope_id: str
    model: str
    requests_per_minute: int | None
    input_tokens_per_minute: int | None
    output_tokens_per_minute: int | None
    concurrency: int | None
    models: list[str] | None
    expires_at: Moment | None
    by_operator: bool
    created_at: Moment


@answer
class RateLimitList:
    """A page of limits, the oldest first."""

    limits: list[RateLimit]
    next: str | None


@body
class NewKey:
    """A key to create for an organization; `limits` is what the key may use of the model API."""

    name: Annotated[str, MinLen(1), MaxLen(120), LINE] = "default"
    role: Annotated[str, MaxLen(32), LINE] = ""
    scopes: Annotated[list[Scope], MaxLen(16)] | None = None
    expires_at: Moment | None = None
    project: Annotated[str, MaxLen(80), LINE] = ""
    limits: LimitValues | None = None


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
    """A key that was just made, with its secret: shown this once. `signing_secret` is the secret access key for clients that sign
    requests instead of sending the key, with `id` as the access key id."""

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
    signing_secret: str


@body
class NewInvitation:
    """Somebody to invite, and the role that they will have."""

    email: Annotated[str, MinLen(3), MaxLen(254), LINE]
    role: Annotated[str, MinLen(1), MaxLen(32), LINE]


@body
class NewRole:
    """The role that a person gets."""

    role: Annotated[str, MinLen(1), MaxLen(32), LINE]


@answer
class Person:
    """A person in an organization, with the role there. `email_verified_at` is when the address was proved."""

    person_id: str
    organization_id: str
    email: str
    name: str
    role: str
    email_verified_at: Moment | None
    since: Moment


@answer
class PersonList:
    """A page of the people of an organization, who came first before."""

    people: list[Person]
    next: str | None


@answer
class Invitation:
    """An invitation without its link; `state` is open, accepted, revoked or expired. `invited_by` is a person or a key."""

    id: str
    organization_id: str
    email: str
    role: str
    state: str
    invited_by: str
    created_at: Moment
    expires_at: Moment


@answer
class InvitationList:
    """A page of the invitations of an organization, the newest first."""

    invitations: list[Invitation]
    next: str | None


@answer
class IssuedInvitation(Invitation):
    """An invitation that was just made, with its link: shown this once. `mailed` says that another link goes out by mail.
    Where control.public_url is not set, the link is a path, `secret` being what it carries."""

    link: str
    secret: str
    mailed: bool


@answer
class AuditActor:
    """Who did it: a person or a key, or `admin` for a command on the machine itself."""

    id: str
    organization_id: str
    role: str


@answer
class AuditEntry:
    """One act: who, what, from where, and the rows that it changed, before and after. `more` counts rows that are not shown.
    `organization_id` is whom it concerns, where that is one."""

    seq: int
    at: Moment
    actor: AuditActor
    organization_id: str | None
    operation: str
    path: str
    source: str
    request_id: str
    changes: list[dict[str, Any]]
    more: int
    sha256: str


@answer
class AuditList:
    """A page of the audit log, the newest first."""

    entries: list[AuditEntry]
    next: str | None


@answer
class AuditVerified:
    """Whether every entry is what was written, from the first that is kept; `head` is the newest one's hash."""

    ok: bool
    entries: int
    first: int
    last: int
    head: str
    broken_at: int | None
    reason: str
