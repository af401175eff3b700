"""What the database's failures mean, as typed errors with a known cure."""

from __future__ import annotations

from sqlalchemy.exc import DatabaseError, DataError, DBAPIError, OperationalError

from sublet.values.errors import InvalidInputError, StorageFullError, UnavailableError

REPEATABLE = {"40001", "40P01"}
"""SQLSTATEs after which the same transaction may succeed: a serialization failure, a deadlock."""


def translate(error: DBAPIError) -> Exception:
    """The typed error for a database failure that has a known cure; otherwise `error` itself."""
    words = str(error.orig).lower()
    if type(error) is DatabaseError and ("malformed" in words or "not a database" in words):
        return UnavailableError("the database file is damaged; restore it from a backup, or set another data_dir")
    if isinstance(error, DataError) and "nul (0x00)" in words:
        return InvalidInputError("text can't have a zero byte; leave it out")
    if not isinstance(error, OperationalError):
        return error
    if "disk is full" in words or "no space left" in words or getattr(error.orig, "sqlstate", "") == "53100":
        return StorageFullError()
    if "disk i/o error" in words:
        return StorageFullError(
            "the disk that holds Sublet's data fails or is full; check it, nothing was half-written"
        )
    if getattr(error.orig, "sqlstate", "") in REPEATABLE:
        return UnavailableError("too many writes met on the same rows; nothing was written, try again")
    if "readonly" in words:
        return UnavailableError("the database file can't be written; check its owner, its permissions and its disk")
    if any(sign in words for sign in ("locked", "connection", "unable to open")):
        return UnavailableError(
            f"the database can't be reached ({str(error.orig).splitlines()[0]}); check [database] url"
        )
    return error
