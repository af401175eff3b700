"""Amazon's event-stream framing: messages of headers and a payload, each with its checksums.

Format: https://docs.aws.amazon.com/AmazonS3/latest/API/RESTSelectObjectAppendix.html (all services have the same one).
"""

from __future__ import annotations

import struct
from zlib import crc32

import msgspec

_PRELUDE = struct.Struct(">II")
_CHECKSUM = struct.Struct(">I")
_LENGTH = struct.Struct(">H")
_STRING = 7
_MID_STREAM = {400: "validationException", 429: "throttlingException", 503: "serviceUnavailableException"}


def headers_of(**values: str) -> bytes:
    """The headers of a message, `_` for `-` in their names, which all begin with a colon."""
    return b"".join(_header(":" + name.replace("_", "-"), value) for name, value in values.items())


def framed(headers: bytes, payload: bytes) -> bytes:
    """A message."""
    prelude = _PRELUDE.pack(16 + len(headers) + len(payload), len(headers))
    message = prelude + _CHECKSUM.pack(crc32(prelude)) + headers + payload
    return message + _CHECKSUM.pack(crc32(message))


def exception(status: int, words: str) -> bytes:
    """The message that ends a stream with an error."""
    kind = _MID_STREAM.get(status, "modelStreamErrorException")
    headers = headers_of(exception_type=kind, content_type="application/json", message_type="exception")
    return framed(headers, msgspec.json.encode({"message": words}))


def _header(name: str, value: str) -> bytes:
    told, content = name.encode(), value.encode()
    return bytes((len(told),)) + told + bytes((_STRING,)) + _LENGTH.pack(len(content)) + content
