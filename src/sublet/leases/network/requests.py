"""What a tenant's program says to the proxy: the head of an HTTP request, and the first message of TLS. Pure, and strict: what
two programs could read in two ways is refused.

HTTP: RFC 9110, section 9.3.6 (CONNECT), and RFC 9112, section 3.2.2 (absolute form). TLS: RFC 8446, section 4.1.2; server_name:
RFC 6066, section 3; Encrypted Client Hello is extension 0xfe0d.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from sublet.values.egress import host_name

HEAD_BYTES_MAX = 16_384
HELLO_BYTES_MAX = 65_536
RECORD_BYTES_MAX = 1 << 14
_HANDSHAKE, _CLIENT_HELLO = 22, 1
_SERVER_NAME, _ENCRYPTED_HELLO = 0, 0xFE0D
_LINE = re.compile(rb"([A-Z]{3,10}) ([\x21-\x7e]{1,8192}) HTTP/1\.[01]")
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}):[ \t]*([\x20-\x7e\x80-\xff\t]*)")
_PLAIN = re.compile(r"http://([^/?#@]*)([/?].*)?", re.IGNORECASE)
_DROPPED = frozenset(
    {
        b"host",
        b"connection",
        b"keep-alive",
        b"te",
        b"trailer",
        b"upgrade",
        b"proxy-connection",
        b"proxy-authorization",
        b"expect",
    }
)
_BODY = frozenset({b"content-length", b"transfer-encoding"})


class RefusedError(Exception):
    """The request is not carried out; the text tells the tenant why."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A host and a port to connect. `head` is what to send there first, None for a tunnel."""

    host: str
    port: int
    head: bytes | None


def read_request(head: bytes) -> Wanted:
    """The request whose head, to its empty line, is `head`. Raises RefusedError."""
    lines = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
    first = _LINE.fullmatch(lines[0])
    if first is None:
        raise RefusedError("this is not an HTTP proxy request")
    headers = []
    for line in lines[1:]:
        found = _HEADER.fullmatch(line)
        if found is None:
            raise RefusedError("a header of the request is malformed")
        headers.append((found[1].lower(), line))
    method, target = first[1], first[2].decode("ascii")
    if method == b"CONNECT":
        host, port = _authority(target, None)
        return Wanted(host, port, None)
    plain = _PLAIN.fullmatch(target)
    if plain is None:
        raise RefusedError("the proxy accepts only CONNECT and plain requests that begin with http://")
    if method not in (b"GET", b"HEAD") or any(name in _BODY for name, _ in headers):
        raise RefusedError("without TLS, only GET and HEAD without a body are allowed; use https")
    host, port = _authority(plain[1], 80)
    kept = [line for name, line in headers if name not in _DROPPED]
    path = plain[2] or "/"
    path = path if path.startswith("/") else f"/{path}"
    named = host if port == 80 else f"{host}:{port}"
    # One request a connection: the next one could name another host.
    sent = [method + b" " + path.encode() + b" HTTP/1.1", f"Host: {named}".encode(), *kept, b"Connection: close"]
    return Wanted(host, port, b"\r\n".join(sent) + b"\r\n\r\n")


def _authority(text: str, port: int | None) -> tuple[str, int]:
    name, colon, digits = text.rpartition(":") if ":" in text else (text, "", "")
    if colon:
        if not re.fullmatch(r"[0-9]{1,5}", digits):
            raise RefusedError(f"{text[:100]!r} has no port")
        port = int(digits)
    host = host_name(name)
    if host is None:
        raise RefusedError(f"{name[:100]!r} is not a host name; IP addresses are not allowed")
    if port is None or not 0 < port < 65536:
        raise RefusedError(f"{text[:100]!r} has no port")
    return host, port


class ClientHello:
    """The first message of TLS, taken in as it comes; it may be cut into any number of records."""

    def __init__(self) -> None:
        self.raw = b""
        self._seen = 0
        self._message = b""

    def feed(self, chunk: bytes) -> bool:
        """Take in `chunk`; True once the message is whole. Raises RefusedError for what is no ClientHello."""
        self.raw += chunk
        if len(self.raw) > HELLO_BYTES_MAX:
            raise RefusedError("the TLS ClientHello is too long")
        while len(self.raw) >= self._seen + 5:
            head = self.raw[self._seen : self._seen + 5]
            size = int.from_bytes(head[3:5], "big")
            if head[0] != _HANDSHAKE or head[1] != 3 or not 0 < size <= RECORD_BYTES_MAX:
                raise RefusedError("a tunnel can only carry TLS")
            if len(self.raw) < self._seen + 5 + size:
                break
            self._message += self.raw[self._seen + 5 : self._seen + 5 + size]
            self._seen += 5 + size
            if self._whole():
                return True
        if self.raw and self.raw[0] != _HANDSHAKE:
            raise RefusedError("a tunnel can only carry TLS")
        return False

    def _whole(self) -> bool:
        if self._message and self._message[0] != _CLIENT_HELLO:
            raise RefusedError("the TLS connection must begin with a ClientHello")
        return len(self._message) >= 4 and len(self._message) >= 4 + int.from_bytes(self._message[1:4], "big")

    def require(self, host: str) -> None:
        """Raises RefusedError unless it asks for `host` and for nothing that can't be read."""
        named = server_name(self._message)
        if named != host:
            raise RefusedError(f"the TLS server name is {named or 'missing'}, but the tunnel is for {host}")


def server_name(message: bytes) -> str | None:
    """The host that a ClientHello asks for; None where it names none. Raises RefusedError for what can't be read, or hides
    another host."""
    reader = _Reader(message[4 : 4 + int.from_bytes(message[1:4], "big")])
    reader.take(2 + 32)
    reader.block(1)
    reader.block(2)
    reader.block(1)
    extensions = _Reader(reader.block(2)) if reader.left else _Reader(b"")
    found: str | None = None
    seen: set[int] = set()
    while extensions.left:
        kind, content = extensions.number(2), extensions.block(2)
        if kind in seen:
            raise RefusedError("the TLS ClientHello contains an extension twice")
        seen.add(kind)
        if kind == _ENCRYPTED_HELLO:
            raise RefusedError("the TLS server name is encrypted (Encrypted Client Hello)")
        if kind == _SERVER_NAME:
            found = _one_name(_Reader(content))
    return found


def _one_name(content: _Reader) -> str:
    names = _Reader(content.block(2))
    kind, name = names.number(1), names.block(2)
    host = host_name(name.decode("ascii", errors="replace"))
    if kind != 0 or names.left or content.left or host is None:
        raise RefusedError("the TLS server name can't be parsed")
    return host


class _Reader:
    """Takes bytes off the front. Raises RefusedError where there are not enough."""

    def __init__(self, content: bytes) -> None:
        self._content, self._at = content, 0

    @property
    def left(self) -> int:
        return len(self._content) - self._at

    def take(self, count: int) -> bytes:
        if count > self.left:
            raise RefusedError("the TLS ClientHello is incomplete")
        self._at += count
        return self._content[self._at - count : self._at]

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def block(self, size: int) -> bytes:
        """What a length of `size` bytes stands before."""
        return self.take(self.number(size))
