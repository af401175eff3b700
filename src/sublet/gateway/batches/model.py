"""What a batch is, what may be asked of one, and what a line of its files says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec
from msgspec import Raw, Struct

from sublet.gateway.files.model import checked_seconds
from sublet.gateway.model import Tokens
from sublet.gateway.refusals import InvalidRequestError
from sublet.gateway.requests.form import CHAT, COMPLETION, EMBEDDING
from sublet.gateway.surfaces.openai import OpenAISurface
from sublet.gateway.surfaces.reading import read
from sublet.gateway.surfaces.responses import ResponsesSurface
from sublet.gateway.surfaces.surface import Surface
from sublet.values.errors import SubletError

VALIDATING, IN_PROGRESS, FINALIZING, CANCELING = ACTIVE = ("validating", "in_progress", "finalizing", "cancelling")
COMPLETED, FAILED, EXPIRED, CANCELED = OVER = ("completed", "failed", "expired", "cancelled")
"""As OpenAI spells them."""
WINDOW = "24h"
WINDOW_S = 24 * 3600
LINES_MAX = 50_000
LINE_BYTES_MAX = 8 * 1024 * 1024
CUSTOM_ID_MAX = 512
ERRORS_MAX = 50
"""Faults of an input file that are told."""
ENDPOINTS: dict[str, tuple[Surface, str]] = {
    "/v1/chat/completions": (OpenAISurface(), CHAT),
    "/v1/completions": (OpenAISurface(), COMPLETION),
    "/v1/embeddings": (OpenAISurface(), EMBEDDING),
    "/v1/responses": (ResponsesSurface(), CHAT),
}
_encode = msgspec.json.Encoder().encode


class OutputExpiry(Struct, forbid_unknown_fields=True):
    """`output_expires_after`."""

    anchor: str
    seconds: int


class NewBatch(Struct, forbid_unknown_fields=True):
    """What a client asks for."""

    input_file_id: str
    endpoint: str
    completion_window: str
    metadata: dict[str, str] | None = None
    output_expires_after: OutputExpiry | None = None


_new = msgspec.json.Decoder(NewBatch)


def new_batch(body: bytes) -> NewBatch:
    """Raises InvalidRequestError naming the field."""
    asked = read(_new, body)
    if asked.endpoint not in ENDPOINTS:
        raise InvalidRequestError(f"endpoint must be one of {', '.join(ENDPOINTS)}", param="endpoint")
    if asked.completion_window != WINDOW:
        raise InvalidRequestError(f"completion_window must be {WINDOW}", param="completion_window")
    metadata = asked.metadata or {}
    if len(metadata) > 16 or any(len(name) > 64 or len(value) > 512 for name, value in metadata.items()):
        raise InvalidRequestError(
            "metadata may have 16 entries, with names of 64 and values of 512 characters", param="metadata"
        )
    if (expiry := asked.output_expires_after) is not None:
        if expiry.anchor != "created_at":
            raise InvalidRequestError("output_expires_after.anchor must be created_at", param="output_expires_after")
        checked_seconds(expiry.seconds, "output_expires_after")
    return asked


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch as its row has it. `times` are seconds since the epoch, by the state that began then; `reason` is the state that
    finalizing leads to. `output_keep_s` is how long its output is kept, 0: as long as other files."""

    id: str
    organization_id: str
    project: str
    key_id: str
    endpoint: str
    input_file_id: str
    output_file_id: str
    error_file_id: str
    status: str
    reason: str
    model: str
    metadata: Mapping[str, Any]
    errors: tuple[Mapping[str, Any], ...]
    total: int
    completed: int
    failed: int
    tokens: Tokens
    created_at: datetime
    expires_at: datetime
    output_keep_s: int
    times: Mapping[str, int]
    worker: str
    beat: int

    def as_dict(self) -> dict[str, Any]:
        """As OpenAI's clients expect it."""
        shown = self.status in OVER
        return {
            "id": self.id,
            "object": "batch",
            "endpoint": self.endpoint,
            "model": self.model or None,
            "errors": {"object": "list", "data": list(self.errors)} if self.errors else None,
            "input_file_id": self.input_file_id,
            "completion_window": WINDOW,
            "status": self.status,
            "output_file_id": self.output_file_id or None if shown else None,
            "error_file_id": self.error_file_id or None if shown else None,
            "created_at": int(self.created_at.timestamp()),
            "in_progress_at": self.times.get(IN_PROGRESS),
            "expires_at": int(self.expires_at.timestamp()),
            "finalizing_at": self.times.get(FINALIZING),
            "completed_at": self.times.get(COMPLETED),
            "failed_at": self.times.get(FAILED),
            "expired_at": self.times.get(EXPIRED),
            "cancelling_at": self.times.get(CANCELING),
            "cancelled_at": self.times.get(CANCELED),
            "request_counts": {"total": self.total, "completed": self.completed, "failed": self.failed},
            "usage": {
                "input_tokens": self.tokens.input,
                "input_tokens_details": {"cached_tokens": self.tokens.input_cached},
                "output_tokens": self.tokens.output,
                "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": self.tokens.input + self.tokens.output,
            },
            "metadata": dict(self.metadata) or None,
        }


class Line(Struct):
    """A line of an input file."""

    custom_id: str
    method: str
    url: str
    body: Raw


class _Body(Struct):
    model: str
    stream: bool | None = None
    store: bool | None = None
    background: bool | None = None


_line = msgspec.json.Decoder(Line)
_body = msgspec.json.Decoder(_Body)


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a line can't be used."""

    code: str
    message: str
    line: int | None = None
    param: str | None = None

    def as_dict(self) -> dict[str, Any]:
        return {"code": self.code, "message": self.message, "line": self.line, "param": self.param}


def line_of(text: str, endpoint: str) -> tuple[Line, str]:
    """A line, and the model that it asks for. Raises InvalidRequestError naming the field."""
    line = read(_line, text.encode())
    if not 0 < len(line.custom_id) <= CUSTOM_ID_MAX:
        raise InvalidRequestError(f"custom_id must have 1 to {CUSTOM_ID_MAX} characters", param="custom_id")
    if line.method != "POST":
        raise InvalidRequestError("method must be POST", param="method")
    if line.url != endpoint:
        raise InvalidRequestError(f"url must be the batch's endpoint, {endpoint}", param="url")
    body = read(_body, bytes(line.body), "body")
    if body.stream:
        raise InvalidRequestError("body.stream must be false in a batch", param="body.stream")
    if body.store and endpoint == "/v1/responses":
        raise InvalidRequestError("body.store must be false in a batch", param="body.store")
    if body.background:
        raise InvalidRequestError("body.background must be false in a batch", param="body.background")
    return line, body.model


def answered(batch_id: str, number: int, custom_id: str, status: int, request_id: str, body: bytes) -> str:
    """The line of the output, or of the error file, for a request that got an answer."""
    response = {"status_code": status, "request_id": request_id, "body": Raw(body)}
    return _told(batch_id, number, custom_id, response, None)


def unanswered(batch_id: str, number: int, custom_id: str, code: str, message: str) -> str:
    """The line of the error file for a request that was not carried out."""
    return _told(batch_id, number, custom_id, None, {"code": code, "message": message})


def _told(batch_id: str, number: int, custom_id: str, response: Any, error: Any) -> str:
    told = {
        "id": f"batch_req_{batch_id.removeprefix('batch_')}_{number}",
        "custom_id": custom_id,
        "response": response,
        "error": error,
    }
    return _encode(told).decode() + "\n"


WAITS_FOR_CAPACITY = frozenset(
    "rate_limit_exceeded limit_unreachable budget_unreachable queue_full queue_timeout no_replica engine_down engine_busy "
    "engine_overloaded engine_unreachable server_full stopping journal_unwritable unavailable".split()
)
"""Refusals after which a request of a batch waits and is asked again until its window is over."""
FAILURES_MAX = 4
"""Failures of an engine after which a request is not asked again."""
RETRY_S_MIN, RETRY_S_MAX = 1.0, 30.0


def wait_before_retry(error: SubletError, failures: int) -> float | None:
    """Seconds until a request that got `error`, as one of so many failures, is asked again; None where it is not."""
    told = error.details.get("retry_after_s")
    if error.code in WAITS_FOR_CAPACITY or (error.code == "insufficient_quota" and told is not None):
        return float(min(RETRY_S_MAX, max(RETRY_S_MIN, told or RETRY_S_MIN)))
    if error.status >= 500 and failures < FAILURES_MAX:
        return float(min(RETRY_S_MAX, RETRY_S_MIN * 2**failures))
    return None
