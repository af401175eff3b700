"""Uploads in parts that are durable as soon as they are received, so that an interrupted one continues."""

from __future__ import annotations

import os
from pathlib import Path

from sublet.values.errors import ConflictError


class UploadOffsetError(ConflictError):
    """The part does not begin where the last one ended; continue at `received_bytes`."""

    code = "upload_offset"


def append_part(path: Path, offset: int, content: bytes) -> int:
    """Append a part durably, and return the number of bytes received. A part that was received already changes nothing.
    Raises UploadOffsetError."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        here = os.fstat(descriptor).st_size
        if offset + len(content) <= here and os.pread(descriptor, len(content), offset) == content:
            return here
        if offset != here:
            raise UploadOffsetError(
                f"the part begins at byte {offset}, and {here} bytes are here; continue at {here}", received_bytes=here
            )
        done = 0
        while done < len(content):
            done += os.pwrite(descriptor, content[done:], offset + done)
        os.fsync(descriptor)
        return offset + done
    finally:
        os.close(descriptor)
