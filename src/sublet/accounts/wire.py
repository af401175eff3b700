"""Wire types of organizations, keys, limits, people and the audit log."""

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
    """An organization to create. Its currency can't be changed later."""

    name: Annotated[str, MinLen(1), MaxLen(120), LINE]
    kind: Annotated[str, MaxLen(16), LINE] = "customer"
    currency: Annotated[str, MaxLen(3), LINE] = "USD"
    timezone: Annotated[str, MaxLen(64), LINE] = "UTC"


@body
class LimitValues:
    """The limits of model API use. Null means no limit. If `models` is set, only those models can be called."""

    requests_per_minute: PerMinute | None = None
    input_tokens_per_minute: PerMinute | None = None
    output_tokens_per_minute: PerMinute | None = None
    concurrency: PerMinute | None = None
    models: AllowedModels | None = None
    expires_at: Moment | None = None


@body
class NewRateLimit:
    """A rate limit to create. `scope` is `organization`, `project`, `key` or `model`. If `model` is set, only calls of that
    model count. The scope `model` limits all organizations together."""

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
    """A rate limit of the model API. Null means no limit. If `by_operator` is true, only the operator can change it."""

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
    """A page of rate limits, oldest first."""

    limits: list[RateLimit]
    next: str | None


@body
class NewKey:
    """A key to create for an organization. `limits` restricts its use of the model API. With `service_account` (an id or a
    name), the key belongs to that service account, has its role and project, and ends with it."""

    name: Annotated[str, MinLen(1), MaxLen(120), LINE] = "default"
    role: Annotated[str, MaxLen(32), LINE] = ""
    scopes: Annotated[list[Scope], MaxLen(16)] | None = None
    expires_at: Moment | None = None
    project: Annotated[str, MaxLen(80), LINE] = ""
    limits: LimitValues | None = None
    service_account: Annotated[str, MaxLen(120), LINE] = ""


@body
class NewServiceAccount:
    """A service account to create: a program that calls Sublet. Its keys have its `role`, and its `project` if it has one."""

    name: Annotated[str, MinLen(1), MaxLen(120), LINE]
    role: Annotated[str, MinLen(1), MaxLen(32), LINE]
    project: Annotated[str, MaxLen(80), LINE] = ""


@answer
class ServiceAccount:
    """A program that calls Sublet. `live_keys` are those that are neither revoked nor expired; `last_used_at` is the latest use
    of any of its keys, to the minute."""

    id: str
    organization_id: str
    name: str
    role: str
    project: str
    created_by: str
    created_at: Moment
    live_keys: int
    last_used_at: Moment | None


@answer
class ServiceAccountList:
    """A page of an organization's service accounts, oldest first."""

    service_accounts: list[ServiceAccount]
    next: str | None


@answer
class Identity:
    """The owner of the key in use, and its permissions. Each permission applies to `own` resources or to `all`."""

    key_id: str
    organization_id: str
    role: str
    scopes: list[str]
    permissions: dict[str, Literal["own", "all"]]


@answer
class Organization:
    """An account. Its amounts are in its one currency."""

    id: str
    name: str
    kind: str
    currency: str
    timezone: str
    status: str
    created_at: Moment


@answer
class OrganizationList:
    """A page of organizations, oldest first."""

    organizations: list[Organization]
    next: str | None


@answer
class Key:
    """A key without its secret. `hint` is the end of the secret. It belongs to a person and ends with the membership, to a
    service account and ends with that, or to the organization. `models`, if not null, are the only models that it may call.
    `last_used_at` is exact to a minute; null means never."""

    id: str
    organization_id: str
    name: str
    hint: str
    role: str
    scopes: list[str]
    project: str
    models: list[str] | None
    owner: Literal["person", "service_account", "organization"]
    owner_id: str
    owner_name: str
    created_by: str
    created_at: Moment
    expires_at: Moment | None
    revoked_at: Moment | None
    last_used_at: Moment | None


@answer
class KeyList:
    """A page of an organization's keys, oldest first, including revoked ones."""

    keys: list[Key]
    next: str | None


@answer
class IssuedKey:
    """A new key with its secret, which is shown only once. Clients that sign requests use `id` as the access key id and
    `signing_secret` as the secret access key."""

    id: str
    organization_id: str
    name: str
    hint: str
    role: str
    scopes: list[str]
    project: str
    models: list[str] | None
    owner: Literal["person", "service_account", "organization"]
    owner_id: str
    owner_name: str
    created_by: str
    created_at: Moment
    expires_at: Moment | None
    revoked_at: Moment | None
    last_used_at: Moment | None
    secret: str
    signing_secret: str


@body
class NewInvitation:
    """The e-mail address and role of a person to invite."""

    email: Annotated[str, MinLen(3), MaxLen(254), LINE]
    role: Annotated[str, MinLen(1), MaxLen(32), LINE]


@body
class NewRole:
    """The new role of a person."""

    role: Annotated[str, MinLen(1), MaxLen(32), LINE]


@answer
class Person:
    """A person in an organization, with their role there. `email_verified_at` is when the address was verified."""

    person_id: str
    organization_id: str
    email: str
    name: str
    role: str
    email_verified_at: Moment | None
    since: Moment


@answer
class PersonList:
    """A page of an organization's people, in the order in which they joined."""

    people: list[Person]
    next: str | None


@answer
class Invitation:
    """An invitation without its link. `state` is `open`, `accepted`, `revoked` or `expired`. `invited_by` is a person or a
    key."""

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
    """A page of an organization's invitations, newest first."""

    invitations: list[Invitation]
    next: str | None


@answer
class IssuedInvitation(Invitation):
    """A new invitation with its link, which is shown only once. If `mailed` is true, another link is sent by email. If
    control.public_url is not set, the link is only a path. `secret` is the token in the link."""

    link: str
    secret: str
    mailed: bool


@answer
class AuditActor:
    """Who acted: a person, a key, or `admin` for a command on the machine itself."""

    id: str
    organization_id: str
    role: str


@answer
class AuditEntry:
    """One operation: who, what, from where, and the rows that it changed, before and after. `more` counts the rows that are
    not shown. `organization_id` is the affected organization, if there is one."""

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
    """A page of the audit log, newest first."""

    entries: list[AuditEntry]
    next: str | None


@answer
class AuditVerified:
    """The result of verifying the audit log from the oldest stored entry. `head` is the hash of the newest entry."""

    ok: bool
    entries: int
    first: int
    last: int
    head: str
    broken_at: int | None
    reason: str
