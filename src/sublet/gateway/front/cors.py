"""What a browser has to be told before a page of another origin may call the model API: https://fetch.spec.whatwg.org/#http-cors-protocol."""

from __future__ import annotations

import re
from collections.abc import Collection

ANY = b"*"
PREFLIGHT_S = 600
_EXPOSED = (
    b"x-request-id, retry-after, x-ratelimit-limit-requests, x-ratelimit-remaining-requests, x-ratelimit-reset-requests, "
    b"x-ratelimit-limit-tokens, x-ratelimit-remaining-tokens, x-ratelimit-reset-tokens"
)
_HEADER_NAMES = re.compile(rb"[A-Za-z0-9_, -]{1,4000}")


class Cors:
    """The origins whose pages may call; without any, no answer says a word of it."""

    def __init__(self, origins: Collection[str] = ()) -> None:
        """`origins` are like `https://app.example`; `*` is every origin."""
        self._any = "*" in origins
        self._origins = frozenset(origin.encode() for origin in origins)

    def headers(self, origin: bytes) -> bytes:
        """The headers of every answer to a page of `origin`."""
        if not self._origins:
            return b""
        allowed = ANY if self._any else origin if origin in self._origins else b""
        if not allowed:
            return b"vary: origin\r\n"
        vary = b"" if self._any else b"vary: origin\r\n"
        return b"access-control-allow-origin: %b\r\naccess-control-expose-headers: %b\r\n%b" % (allowed, _EXPOSED, vary)

    def preflight(self, methods: bytes, wanted_headers: bytes, *, private: bool) -> bytes:
        """What a preflight of an allowed origin is told besides `headers`."""
        names = wanted_headers if _HEADER_NAMES.fullmatch(wanted_headers) else b"authorization, content-type"
        return (
            b"access-control-allow-methods: %b\r\naccess-control-allow-headers: %b\r\naccess-control-max-age: %d\r\n%b"
            % (
                methods,
                names,
                PREFLIGHT_S,
                b"access-control-allow-private-network: true\r\n" if private else b"",
            )
        )
