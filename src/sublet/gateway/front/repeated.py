"""A request whose head is the connection's last one again, byte for byte but for the digits of its length.

Clients that keep a connection open mostly send the same head each time, and parsing it costs more than all else that is
done with a small request. A head is only learned after the HTTP parser has read it and the gateway has let it pass, and
says nothing on who may call what: the key is looked up and counted each time.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection

from sublet.gateway.front.connections import SMALL_BODY_BYTES
from sublet.gateway.front.routes import Route

HEAD_BYTES_MAX = 4096
MISSES_MAX = 4
"""So many heads in a row that differ from the one before, and the connection is believed to vary them."""

_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,9})\r\n(?![ \t])", re.IGNORECASE)
# What these say must be read again each time, or frames the body in another way.
_NEVER = (b"transfer-encoding", b"content-encoding", b"expect")


class Heads:
    """What one connection's heads were like."""

    __slots__ = ("_misses", "last")

    def __init__(self) -> None:
        self.last: RepeatedHead | None = None
        self._misses = 0

    def hit(self) -> None:
        """The last head came again."""
        self._misses = 0

    def learn(
        self, data: bytes, body: bytes, names: Collection[bytes], route: Route, secret: bytes, cors: bytes
    ) -> None:
        """Remember the head of the request that was parsed from `data`, unless this client's differ each time."""
        self._misses += 1
        self.last = learned(data, body, names, route, secret, cors) if self._misses <= MISSES_MAX else None


class RepeatedHead:
    """A head that may come again: what stands before and after the length, and what the gateway made of it."""

    __slots__ = ("cors", "digest", "prefix", "route", "secret", "suffix")

    def __init__(self, prefix: bytes, suffix: bytes, route: Route, secret: bytes, cors: bytes) -> None:
        self.prefix = prefix
        self.suffix = suffix
        self.route = route
        self.secret = secret
        self.digest = hashlib.sha256(secret).digest()
        self.cors = cors

    def body(self, data: bytes, bytes_max: int) -> bytes | None:
        """The body of a request that is whole in `data`, has nothing behind it and has this head; else None."""
        at = len(self.prefix)
        end = data.find(b"\r", at, at + 10)
        if end <= at or not data.startswith(self.suffix, end):
            return None
        digits = data[at:end]
        begin = end + len(self.suffix)
        length = len(data) - begin
        if length > bytes_max or length > SMALL_BODY_BYTES or not digits.isdigit() or int(digits) != length:
            return None
        return data[begin:]


def learned(
    data: bytes, body: bytes, names: Collection[bytes], route: Route, secret: bytes, cors: bytes
) -> RepeatedHead | None:
    """The head of the request that came whole in `data`, and has the headers `names`; None where it is not to be repeated.

    To be called for a request that was parsed, is HTTP/1.1 and leaves its connection open.
    """
    ends = len(data) - len(body)
    if not 4 <= ends <= HEAD_BYTES_MAX or data.find(b"\r\n\r\n") != ends - 4 or not data.endswith(body):
        return None
    head = data[:ends]
    found = _LENGTH.search(head)
    if found is None or head.lower().count(b"content-length") != 1 or any(name in names for name in _NEVER):
        return None
    return RepeatedHead(head[: found.start(1)], head[found.end(1) :], route, secret, cors)
