"""The tree of errors: a stable code, an HTTP status, and one sentence that tells the reader what to do."""

from __future__ import annotations

from typing import Any, ClassVar


class SubletError(Exception):
    """An internal error occurred; see the log line with the same request id."""

    # Of an instance where a client got a code whose class its process has not loaded.
    code: str = "internal"
    status: ClassVar[int] = 500

    def __init__(self, message: str | None = None, **details: Any) -> None:
        """`message` replaces the docstring's sentence; `details` are machine-readable and shown to the caller."""
        self.message = message or " ".join((type(self).__doc__ or "").split())
        self.details = details
        super().__init__(self.message)

    def as_dict(self) -> dict[str, Any]:
        """The error as every JSON surface of Sublet's own shows it."""
        return {"error": {"code": self.code, "message": self.message, "details": self.details}}


class InvalidInputError(SubletError):
    """The input can't be used as it is; the message names the field and what to write instead."""

    code = "invalid_input"
    status = 400


class NotFoundError(SubletError):
    """There is no such object, or it belongs to another organization; check the id."""

    code = "not_found"
    status = 404


class ConflictError(SubletError):
    """The object has changed, or the same key was used for something else; read the object again and retry."""

    code = "conflict"
    status = 409


class UnauthenticatedError(SubletError):
    """The key is missing, unknown, expired or revoked; send a valid key as `Authorization: Bearer`."""

    code = "unauthenticated"
    status = 401


class ForbiddenError(SubletError):
    """This key may not do that; ask the operator for a key with the scope named in the message."""

    code = "forbidden"
    status = 403


class UnavailableError(SubletError):
    """The required part of Sublet is not running or is overloaded; try again after the stated time."""

    code = "unavailable"
    status = 503


class LimitExceededError(SubletError):
    """A limit was reached; the message names the limit and when to try again."""

    code = "limit_exceeded"
    status = 429


class StorageFullError(SubletError):
    """The disk with Sublet's data is full; free some space. Nothing was half-written."""

    code = "storage_full"
    status = 507


def all_error_types() -> dict[str, type[SubletError]]:
    """Every error class that is imported now, by code; the manual's test compares this with docs/errors.md."""
    found: dict[str, type[SubletError]] = {}
    pending: list[type[SubletError]] = [SubletError]
    while pending:
        kind = pending.pop()
        found[kind.code] = kind
        pending.extend(kind.__subclasses__())
    return found
