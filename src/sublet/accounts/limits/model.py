"""A limit: whom it is for, what it allows, and who may set it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sublet.accounts.model import Actor
from sublet.values.clock import format_time
from sublet.values.errors import ForbiddenError, InvalidInputError
from sublet.values.text import checked_line

ORGANIZATION, PROJECT, KEY, MODEL = SCOPES = ("organization", "project", "key", "model")
LIMITS_PER_ORGANIZATION_MAX = 2_000
VALUE_MAX = 10**12
PLACE_LENGTH_MAX = 80
COUNTS = ("requests_per_minute", "input_tokens_per_minute", "output_tokens_per_minute", "concurrency")


@dataclass(frozen=True, slots=True)
class Allowed:
    """What a limit allows; None where it does not limit that. `models` are the only ones that may be called, and after
    `expires_at` none may be."""

    requests_per_minute: int | None = None
    input_tokens_per_minute: int | None = None
    output_tokens_per_minute: int | None = None
    concurrency: int | None = None
    models: tuple[str, ...] | None = None
    expires_at: datetime | None = None

    @property
    def empty(self) -> bool:
        return self == Allowed()

    def within(self, other: Allowed) -> str:
        """Empty where nothing here is more than `other` allows; else what is, in words."""
        for name in COUNTS:
            own, most = getattr(self, name), getattr(other, name)
            if own is not None and most is not None and own > most:
                return f"{name} may be {most} at most, as for the whole organization"
        if self.models is not None and other.models is not None and (more := sorted({*self.models} - {*other.models})):
            return f"the organization may not call {', '.join(more)}"
        if self.expires_at is not None and other.expires_at is not None and self.expires_at > other.expires_at:
            return f"expires_at may be {format_time(other.expires_at)} at the latest, as for the whole organization"
        return ""

    def as_dict(self) -> dict[str, Any]:
        return {
            **{name: getattr(self, name) for name in COUNTS},
            "models": list(self.models) if self.models is not None else None,
            "expires_at": format_time(self.expires_at) if self.expires_at else None,
        }


@dataclass(frozen=True, slots=True)
class Limit:
    """What all keys of an organization, those of a project, one key, or everybody who calls a model may use together.

    `organization_id` is empty for the scope `model`, whose limit all organizations share; `scope_id` is the project's name or the
    key's id. With `model`, only calls of that model count. `by_operator` says that only the operator may change it.
    """

    id: str
    organization_id: str
    scope: str
    scope_id: str
    model: str
    allowed: Allowed
    by_operator: bool
    created_at: datetime

    @property
    def place(self) -> tuple[str, str, str, str]:
        """What no other limit has: whom it is for."""
        return self.organization_id, self.scope, self.scope_id, self.model

    def covers(self, organization_id: str, project: str, key_id: str) -> bool:
        """Whether it is for all that this key calls, or for some of it."""
        if self.scope == MODEL:
            return True
        if self.organization_id != organization_id:
            return False
        return self.scope == ORGANIZATION or self.scope_id == (project if self.scope == PROJECT else key_id)

    def as_dict(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "organization_id": self.organization_id or None,
            "scope": self.scope,
            "scope_id": self.scope_id,
            "model": self.model,
            **self.allowed.as_dict(),
            "by_operator": self.by_operator,
            "created_at": format_time(self.created_at),
        }


def checked_place(place: tuple[str, str, str, str]) -> tuple[str, str, str, str]:
    """`place` with its names in the form in which keys and models have theirs: a limit for another spelling would limit nobody.
    Raises InvalidInputError naming what is wrong."""
    organization_id, scope, scope_id, model = place
    scope_id = checked_line(scope_id, "scope_id", PLACE_LENGTH_MAX)
    model = checked_line(model, "model", PLACE_LENGTH_MAX)
    if scope not in SCOPES:
        raise InvalidInputError(f"scope {scope!r} is not one of {', '.join(SCOPES)}")
    if scope in (PROJECT, KEY) and not scope_id:
        what = "the project's name" if scope == PROJECT else "the key's id"
        raise InvalidInputError(f"a limit of scope {scope} needs {what} as scope_id")
    if scope in (ORGANIZATION, MODEL) and scope_id:
        raise InvalidInputError(f"a limit of scope {scope} has no scope_id; leave it out")
    if scope == MODEL and not model:
        raise InvalidInputError("a limit of scope model needs the name of a model")
    return organization_id if scope != MODEL else "", scope, scope_id, model


def check_allowed(allowed: Allowed, model: str, now: datetime) -> None:
    """Raises InvalidInputError where it limits nothing, names models twice over, or has expired already."""
    if allowed.empty:
        raise InvalidInputError(f"a limit needs at least one of {', '.join(COUNTS)}, models and expires_at")
    if model and (allowed.models is not None or allowed.expires_at is not None):
        raise InvalidInputError("models and expires_at are for all models together; leave them or the model out")
    if allowed.models is not None and not allowed.models:
        raise InvalidInputError("models needs at least one name; revoke the key to allow none")
    if allowed.expires_at is not None and allowed.expires_at <= now:
        raise InvalidInputError("expires_at is in the past; choose a later time")


def check_may_set(actor: Actor, limit: Limit, others: Sequence[Limit]) -> None:
    """Raises ForbiddenError where `actor` may not set this. Outside the operator, an organization's own limits its projects and
    keys, within what the operator allows the organization (`others` are its limits)."""
    if actor.everywhere:
        return
    if limit.scope not in (PROJECT, KEY) or limit.by_operator:
        raise ForbiddenError(
            "this limit is the operator's; set one for a project or a key of your own, or ask the operator"
        )
    for other in others:
        if (
            other.scope == ORGANIZATION
            and other.model in ("", limit.model)
            and (why := limit.allowed.within(other.allowed))
        ):
            raise ForbiddenError(f"{why}; ask the operator for more")
