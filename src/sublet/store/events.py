"""Kinds of events: each has a name, a typed payload with a version, and one sentence; a domain declares its own, one line each."""

from __future__ import annotations

import dataclasses
import types
import typing
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import Connection

from sublet.store import outbox
from sublet.values.clock import format_time
from sublet.values.ids import derived_id, new_id

Audience = Literal["organization", "operator"]
"""Whom an event concerns. Operators may subscribe to both."""

PAYLOAD_TEXT_MAX = 2_000


@dataclass(frozen=True, slots=True)
class EventKind:
    """A kind of event. `payload` is a frozen dataclass of texts, numbers, truth values, times and tuples of texts; `subject`
    names the field that says what the event is about, such as the lease."""

    name: str
    payload: type
    description: str
    subject: str
    audience: Audience = "organization"
    version: int = 1

    def record(
        self,
        connection: Connection,
        payload: Any,
        at: datetime,
        *,
        organization_id: str | None = None,
        key: tuple[str, ...] = (),
    ) -> str:
        """Write one event in the caller's transaction; its id. The same `key` is the same event, recorded once.

        Raises TypeError for a payload of another type, ValueError where the organization does not fit the audience.
        """
        if type(payload) is not self.payload:
            raise TypeError(f"{self.name} takes a {self.payload.__name__}, not a {type(payload).__name__}")
        if (organization_id is None) != (self.audience == "operator"):
            raise ValueError(f"{self.name} concerns the {self.audience}")
        event_id = self.id_of(key) if key else new_id("oev")
        event = outbox.NewEvent(
            event_id,
            self.name,
            organization_id,
            str(getattr(payload, self.subject)),
            at,
            self.version,
            encoded(payload),
        )
        outbox.append(connection, event)
        return event_id

    def id_of(self, key: tuple[str, ...]) -> str:
        """The id of the event of this kind with that key."""
        return derived_id("oev", self.name, *key)

    def fields(self) -> dict[str, str]:
        """The payload's fields with their types, in JSON's words."""
        hints = typing.get_type_hints(self.payload)
        return {item.name: _json_type(hints[item.name]) for item in dataclasses.fields(self.payload)}


KINDS: dict[str, EventKind] = {}
"""Every kind that was declared so far, by name: all of them once each domain's `events` module is imported."""


def declare(
    name: str, payload: type, description: str, *, subject: str, audience: Audience = "organization"
) -> EventKind:
    """A new kind. Raises ValueError for a name that is taken or a payload without the subject's field."""
    if name in KINDS:
        raise ValueError(f"the event kind {name} is declared twice")
    if subject not in {item.name for item in dataclasses.fields(payload)}:
        raise ValueError(f"{name}: its payload has no field {subject}")
    kind = EventKind(name, payload, description, subject, audience)
    kind.fields()
    KINDS[name] = kind
    return kind


def encoded(payload: Any) -> dict[str, Any]:
    """The payload as JSON has it: times in RFC 3339, texts cut to PAYLOAD_TEXT_MAX characters."""
    return {item.name: _value(getattr(payload, item.name)) for item in dataclasses.fields(payload)}


def _value(value: Any) -> Any:
    if isinstance(value, datetime):
        return format_time(value)
    if isinstance(value, str):
        return value[:PAYLOAD_TEXT_MAX]
    if isinstance(value, tuple):
        return [_value(item) for item in value]
    return value


_JSON_TYPES: dict[Any, str] = {str: "string", int: "integer", bool: "boolean", datetime: "time"}


def _json_type(hint: Any) -> str:
    if hint in _JSON_TYPES:
        return _JSON_TYPES[hint]
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is tuple and len(inner) == 2 and inner[1] is Ellipsis:
        return f"array of {_json_type(inner[0])}"
    if origin in (types.UnionType, typing.Union) and type(None) in inner and len(inner) == 2:
        [present] = [item for item in inner if item is not type(None)]
        return f"{_json_type(present)} or null"
    raise ValueError(f"an event's payload can't hold {hint}")
