"""What a file is, and what is asked of one that is uploaded."""

from __future__ import annotations

import codecs
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, BinaryIO, NamedTuple

from sublet.gateway.model import KeyGrant
from sublet.gateway.refusals import InvalidRequestError

BATCH, BATCH_OUTPUT = PURPOSES = ("batch", "batch_output")
FILENAME_MAX = 255
PART_CHARACTERS = 256 * 1024
EXPIRY_S_MIN, EXPIRY_S_MAX = 3600, 2_592_000
"""As at OpenAI: an hour to 30 days."""
LIST_DEFAULT, LIST_MAX = 1000, 1000


class Owner(NamedTuple):
    """Whose files are asked about: a key with a project has that project's, a key without one all of its organization's."""

    organization_id: str
    project: str = ""

    @classmethod
    def of(cls, grant: KeyGrant) -> Owner:
        return cls(grant.organization_id, grant.project)


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file, without its content."""

    id: str
    organization_id: str
    project: str
    filename: str
    purpose: str
    bytes: int
    created_at: datetime
    expires_at: datetime

    def as_dict(self) -> dict[str, Any]:
        """As OpenAI's clients expect it."""
        return {
            "id": self.id,
            "object": "file",
            "bytes": self.bytes,
            "created_at": int(self.created_at.timestamp()),
            "expires_at": int(self.expires_at.timestamp()),
            "filename": self.filename,
            "purpose": self.purpose,
            "status": "processed",
            "status_details": None,
        }


@dataclass(frozen=True, slots=True)
class FileLimits:
    """What an organization may keep, and for how long."""

    file_bytes_max: int
    bytes_max: int
    count_max: int
    keep_s: int


class Asked(NamedTuple):
    """The fields of an upload."""

    filename: str
    purpose: str
    keep_s: int | None = None


def asked_of(filename: str | None, fields: Mapping[str, Any]) -> Asked:
    """Raises InvalidRequestError naming the field."""
    known = ("file", "purpose", "expires_after[anchor]", "expires_after[seconds]")
    for name in fields:
        if name not in known:
            raise InvalidRequestError(f"{name[:80]} is not supported here; leave it out", param=name[:80])
    purpose = fields.get("purpose")
    if purpose != BATCH:
        raise InvalidRequestError("purpose must be batch: files are used for batches only", param="purpose")
    name = (filename or "file").replace("\x00", "")
    if len(name) > FILENAME_MAX:
        raise InvalidRequestError(f"the name of a file may have at most {FILENAME_MAX} characters", param="file")
    return Asked(name, BATCH, _seconds(fields))


def _seconds(fields: Mapping[str, Any]) -> int | None:
    anchor, text = fields.get("expires_after[anchor]"), fields.get("expires_after[seconds]")
    if anchor is None and text is None:
        return None
    if anchor != "created_at":
        raise InvalidRequestError("expires_after.anchor must be created_at", param="expires_after")
    if not isinstance(text, str) or not text.isdecimal() or len(text) > 9:
        raise InvalidRequestError("expires_after.seconds must be a whole number", param="expires_after")
    return checked_seconds(int(text), "expires_after")


def checked_seconds(seconds: int, param: str) -> int:
    """Raises InvalidRequestError where a file may not be kept for so long, or not for so short a time."""
    if not EXPIRY_S_MIN <= seconds <= EXPIRY_S_MAX:
        raise InvalidRequestError(f"{param}.seconds must be {EXPIRY_S_MIN} to {EXPIRY_S_MAX}", param=param)
    return seconds


def parts_of(file: BinaryIO) -> Iterator[str]:
    """The file's text in parts. Raises InvalidRequestError where it is not UTF-8 text."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        while data := file.read(PART_CHARACTERS):
            if b"\x00" in data:
                raise InvalidRequestError("the file has a zero byte; upload JSON Lines as UTF-8 text", param="file")
            if text := decoder.decode(data):
                yield text
        if text := decoder.decode(b"", final=True):
            yield text
    except UnicodeDecodeError as error:
        raise InvalidRequestError("the file is not UTF-8; upload JSON Lines as UTF-8 text", param="file") from error
