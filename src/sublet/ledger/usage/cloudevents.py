"""CloudEvents 1.0 over HTTP: structured, batched and binary mode, read into usage events.

https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/http-protocol-binding.md
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any
from urllib.parse import unquote

import msgspec

from sublet.ledger.model import CANCELLATION, CORRECTION, USAGE, Refusal, UsageEvent
from sublet.ledger.usage.intake import BATCH_MAX
from sublet.values.clock import parse_time
from sublet.values.errors import InvalidInputError, LimitExceededError, SubletError

STRUCTURED = "application/cloudevents+json"
BATCHED = "application/cloudevents-batch+json"
TYPES = {
    "sublet.usage.v1": USAGE,
    "sublet.usage.correction.v1": CORRECTION,
    "sublet.usage.cancellation.v1": CANCELLATION,
}


class _Corrects(msgspec.Struct, forbid_unknown_fields=True):
    source: str
    id: str


class _Data(msgspec.Struct, forbid_unknown_fields=True):
    organization: str
    meter: str
    quantity: int | Decimal = 0
    resource: str = ""
    project: str = ""
    key: str = ""
    dimensions: dict[str, str] = {}
    corrects: _Corrects | None = None
    hold: str | None = None


class _Event(msgspec.Struct):
    """The envelope; extension attributes that Sublet does not know are passed over, as the specification wants."""

    specversion: str
    id: str
    source: str
    type: str
    time: str
    data: msgspec.Raw = msgspec.Raw()
    data_base64: str = ""
    datacontenttype: str = "application/json"


_batch = msgspec.json.Decoder(list[msgspec.Raw])
_event = msgspec.json.Decoder(_Event)
_data = msgspec.json.Decoder(_Data)


def read_request(content_type: str, headers: Mapping[str, str], body: bytes) -> tuple[list[UsageEvent], list[Refusal]]:
    """The events of one request, in order, and what could not be read as one. Names in `headers` are lower-case.

    Raises InvalidInputError where the body as a whole is unreadable, LimitExceededError for too many events.
    """
    kind = content_type.partition(";")[0].strip().lower()
    encoding = headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise InvalidInputError(f"content-encoding {encoding!r} is not supported; send the body uncompressed")
    if kind == BATCHED:
        return _read_batch(body)
    if kind == STRUCTURED:
        return read_each([body])
    if "ce-specversion" in headers:
        return _read_binary(kind, headers, body)
    raise InvalidInputError(
        f"content type {content_type or '(none)'!r} is not a CloudEvent; send {STRUCTURED}, {BATCHED}, or ce- headers"
    )


def split_batch(body: bytes) -> list[bytes]:
    """The events of a JSON array, each as it was written. Raises InvalidInputError where it is none."""
    try:
        parts = _batch.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInputError(f"the batch is not a JSON array ({error})") from error
    return [bytes(part) for part in parts]


def _read_batch(body: bytes) -> tuple[list[UsageEvent], list[Refusal]]:
    parts = split_batch(body)
    if len(parts) > BATCH_MAX:
        raise LimitExceededError(f"a batch holds at most {BATCH_MAX} events, not {len(parts)}; send several")
    return read_each(parts)


def read_each(parts: Sequence[bytes]) -> tuple[list[UsageEvent], list[Refusal]]:
    """The events in `parts`, in structured mode each, and what could not be read as one."""
    events: list[UsageEvent] = []
    refused: list[Refusal] = []
    for index, part in enumerate(parts):
        try:
            events.append(_structured(part))
        except SubletError as error:
            source, identifier = _identity(part)
            refused.append(Refusal(index, source, identifier, error.code, error.message))
    return events, refused


def _structured(part: bytes) -> UsageEvent:
    try:
        envelope = _event.decode(part)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInputError(f"this is not a CloudEvent: {error}") from error
    raw: bytes | msgspec.Raw = envelope.data
    if envelope.data_base64:
        if envelope.data:
            raise InvalidInputError("the event has both data and data_base64; send one of the two")
        try:
            raw = base64.b64decode(envelope.data_base64, validate=True)
        except (binascii.Error, ValueError) as error:
            raise InvalidInputError("data_base64 is not base64") from error
    return _usage(envelope, raw)


def _read_binary(kind: str, headers: Mapping[str, str], body: bytes) -> tuple[list[UsageEvent], list[Refusal]]:
    attributes = {
        name: unquote(headers.get(f"ce-{name}", "")) for name in ("specversion", "id", "source", "type", "time")
    }
    try:
        for name in ("id", "source", "type", "time"):
            if not attributes[name]:
                raise InvalidInputError(f"the header ce-{name} is missing")
        envelope = _Event(
            specversion=attributes["specversion"],
            id=attributes["id"],
            source=attributes["source"],
            type=attributes["type"],
            time=attributes["time"],
            datacontenttype=kind or "application/json",
        )
        return [_usage(envelope, body)], []
    except SubletError as error:
        return [], [Refusal(0, attributes["source"], attributes["id"], error.code, error.message)]


def _usage(envelope: _Event, raw: bytes | msgspec.Raw) -> UsageEvent:
    if envelope.specversion != "1.0":
        raise InvalidInputError(f"specversion {envelope.specversion!r} is not 1.0")
    kind = TYPES.get(envelope.type)
    if kind is None:
        raise InvalidInputError(f"type {envelope.type!r} must be one of {', '.join(TYPES)}")
    if "json" not in envelope.datacontenttype:
        raise InvalidInputError(f"datacontenttype {envelope.datacontenttype!r} must be application/json")
    if not raw:
        raise InvalidInputError("the event has no data; send organization, meter and quantity in it")
    try:
        data = _data.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInputError(f"data: {error}") from error
    return UsageEvent(
        envelope.source,
        envelope.id,
        data.organization,
        data.meter,
        data.quantity,
        _moment(envelope.time),
        data.resource,
        data.project,
        data.key,
        data.dimensions,
        kind,
        (data.corrects.source, data.corrects.id) if data.corrects else None,
        data.hold,
    )


def _moment(text: str) -> datetime:
    try:
        return parse_time(text)
    except ValueError as error:
        raise InvalidInputError(f"time: {error}") from error


def _identity(part: bytes) -> tuple[str, str]:
    """Source and id of an event that is otherwise unreadable, as far as it has them."""
    try:
        found: Any = msgspec.json.decode(part)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return "", ""
    if not isinstance(found, dict):
        return "", ""
    return str(found.get("source", ""))[:512], str(found.get("id", ""))[:256]


def renumbered(refused: list[Refusal], unreadable: list[Refusal]) -> tuple[Refusal, ...]:
    """Refusals by their place in the request: events that could not be read had no place in what was taken."""
    gone = sorted(refusal.index for refusal in unreadable)
    placed = list(unreadable)
    for refusal in refused:
        index = refusal.index
        for missing in gone:
            if missing <= index:
                index += 1
        placed.append(Refusal(index, refusal.source, refusal.id, refusal.code, refusal.message, refusal.details))
    return tuple(sorted(placed, key=lambda refusal: refusal.index))
