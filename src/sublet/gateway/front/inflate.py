"""Bodies that come compressed with gzip, unpacked as they arrive and never beyond what a body may have."""

from __future__ import annotations

import zlib

from sublet.gateway.refusals import InvalidRequestError, UnsupportedEncodingError, too_large

_GZIP = 31
"""zlib's window bits for a gzip header and trailer."""
_PLAIN = (b"", b"identity")
MEMBERS_MAX = 256
"""Members that a body may consist of. Each costs time however little it holds, and all other customers wait for that."""


def inflater(encoding: bytes, bytes_max: int) -> Inflater | None:
    """What unpacks a body of this `Content-Encoding`; None where it is plain. Raises UnsupportedEncodingError."""
    encoding = encoding.strip().lower()
    if encoding in _PLAIN:
        return None
    if encoding in (b"gzip", b"x-gzip"):
        return Inflater(bytes_max)
    raise UnsupportedEncodingError


class Inflater:
    """A gzip stream (RFC 1952), of one member or several."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._packed = self._unpacked = 0
        self._members = 1
        self._member = zlib.decompressobj(_GZIP)

    def feed(self, data: bytes) -> bytes:
        """What `data` unpacks to. Raises BodyTooLargeError before it unpacks more than it may, InvalidRequestError."""
        self._packed += len(data)
        found: list[bytes] = []
        while data:
            if self._member.eof:
                self._members += 1
                if self._members > MEMBERS_MAX:
                    raise InvalidRequestError(f"The request's body has more than {MEMBERS_MAX} gzip members; send one")
                self._member = zlib.decompressobj(_GZIP)
            try:
                part = self._member.decompress(data, self._bytes_max - self._unpacked + 1)
            except zlib.error as error:
                raise InvalidRequestError("The request's body is not gzip, as its Content-Encoding says") from error
            self._unpacked += len(part)
            if self._unpacked > self._bytes_max or self._packed > self._bytes_max:
                raise too_large(self._bytes_max)
            found.append(part)
            data = self._member.unused_data
        return b"".join(found)

    def end(self) -> None:
        """The body has ended. Raises InvalidRequestError where the stream has not."""
        if not self._member.eof:
            raise InvalidRequestError("The request's body ends in the middle of its gzip stream; send it whole")
