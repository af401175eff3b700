"""Amazon's event-stream framing: messages of headers and a payload, each with its checksums.

Format: https://docs.aws.amazon.com/AmazonS3/latest/API/RESTSelectObjectAppendix.html (all services have the same one).
"""

from __future__ import annotations

import struct
from zlib import crc32

_PRELUDE = struct.Struct(">II")
_CHECKSUM = struct.Struct(">I")
_LENGTH = struct.Struct(">H")
_STRING = 7


def headers_of(**values: str) -> bytes:
    """The headers of a message, `_` for `-` in their names, which all begin with a colon."""
    return b"".join(_header(":" + name.replace("_", "-"), value) for name, value in values.items())


def framed(headers: bytes, payload: bytes) -> bytes:
    """A message."""
    prelude = _PRELUDE.pack(16 + len(headers) + len(payload), len(headers))
    message = prelude + _CHECKSUM.pack(crc32(prelude)) + headers + payload
    return message + _CHECKSUM.pack(crc32(message))


def _header(name: str, value: str) -> bytes:
    told, content = name.encode(), value.encode()
    return bytes((len(told),)) + told + bytes((_STRING,)) + _LENGTH.pack(len(content)) + content
