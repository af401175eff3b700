"""What a surface is: one vendor's way to ask and to be answered. Each surface is one file in `surfaces/`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol
from urllib.parse import parse_qs

from msgspec import Raw

from sublet.gateway.model import ModelRoute
from sublet.gateway.requests.call import Call
from sublet.gateway.requests.form import RESERVED
from sublet.gateway.surfaces.sigv4 import Signature
from sublet.gateway.surfaces.stream_form import Identity as Identity
from sublet.gateway.surfaces.stream_form import StreamForm as StreamForm
from sublet.values.errors import SubletError

Headers = Sequence[tuple[bytes, bytes]]

KEY_HEADERS = (b"x-api-key", b"api-key")
"""Where clients put a key besides `Authorization: Bearer`, whatever the surface: Anthropic's and Azure's do."""
QUERY_KEY_HEADER = b"x-goog-api-key"
"""Where Google's clients put it; a key in the query, `?key=`, stands for it."""


def secret_of(headers: Headers) -> bytes:
    """The API key that the headers carry: the bearer token, else the first of KEY_HEADERS that is there; empty where none is."""
    found = b""
    for name, value in headers:
        if name == b"authorization":
            if value[:7].lower() == b"bearer ":
                return value[7:].strip()
        elif not found and name in KEY_HEADERS:
            found = value.strip()
    return found


def key_of_query(url: bytes) -> list[tuple[bytes, bytes]]:
    """The header that stands for `?key=`, as Google's clients may send it; none where there is no such."""
    query = url.partition(b"?")[2]
    if b"key=" not in query:
        return []
    found = parse_qs(query.decode("latin-1")).get("key", [])
    return [(QUERY_KEY_HEADER, key.encode("latin-1", "replace")) for key in found[:1]]


class TokenAllowance(NamedTuple):
    """Tokens a minute, and those left of them."""

    limit: int
    remaining: int
    reset_s: int
    reset_at_s: int


class Allowance(NamedTuple):
    """What a key may still do: requests a minute, those left of them, seconds until all are there again, and when
    that is (seconds since the epoch); and tokens, where those are limited."""

    limit: int
    remaining: int
    reset_s: int
    reset_at_s: int
    input: TokenAllowance | None = None
    output: TokenAllowance | None = None

    @property
    def tokens(self) -> TokenAllowance | None:
        """The tighter one of the two."""
        found = [item for item in (self.input, self.output) if item is not None]
        return min(found, key=lambda item: item.remaining, default=None)


class QuickForm(StreamForm, Protocol):
    """A form that knows an ordinary event by its first and last bytes, and reads nothing of it but the text between.

    A surface's forms need not be such; one that has `ordinary` is taken for one.
    """

    around: int
    """Bytes around the text, in an ordinary event as the engine sends it."""

    def ordinary(self, data: bytes) -> bytes:
        """The bytes for the client that stand for `data`, where it is one whole event that adds some text to the only answer
        and nothing else; empty for all others, which `event` is for."""
        ...


class Counts(Protocol):
    """Takes the engine's own count of an answer."""

    final: bool

    def usage(self, raw: Raw) -> None: ...


class QuickSurface(Protocol):
    """A surface that reads an ordinary whole answer once, for its count as for its form. A surface need not be one; one that has
    `ordinary_answer` is taken for one."""

    def ordinary_answer(self, call: Call, identity: Identity, body: bytes, counts: Counts) -> bytes:
        """The same as `answer` for one that has nothing but what the usual one has, whose usage `counts` is told of; empty
        for all others."""
        ...


class Surface(Protocol):
    """One vendor's API."""

    routes: dict[bytes, str]
    """Raw path to the kind of call, for those that the gateway serves by callbacks."""

    stream_content_type: bytes

    mark: bytes
    """The header by which this vendor's clients are known on paths that several vendors share; empty where there is none."""

    prefixes: tuple[bytes, ...]
    """How paths begin that are this vendor's alone, whether there is something or not."""

    def find(self, path: bytes, query: bytes) -> tuple[Surface, str] | None:
        """For paths that vary: the surface as it is for this one, and the kind of call; None where the path is not its own."""
        ...

    def secret(self, headers: Headers) -> bytes:
        """The API key that the headers carry, empty where there is none; `secret_of` where the vendor has no place of its own."""
        ...

    def signature(self, headers: Headers) -> Signature | None:
        """The signature that stands in the headers instead of a key; None where there is none. Raises the SubletError that refuses
        one that is not whole."""
        ...

    def parse(self, kind: str, body: bytes) -> Call:
        """The request in the internal form. Raises InvalidRequestError naming the field."""
        ...

    def reserved(self, call: Call) -> None:
        """The request is served from slots that are reserved for its organization: its answer says so."""
        ...

    def stream(self, call: Call, identity: Identity) -> StreamForm:
        """The form of a streamed answer."""
        ...

    def answer(self, call: Call, identity: Identity, body: bytes) -> bytes:
        """A whole answer of the engine as the client expects it. Raises EngineFailedError where it can't be read."""
        ...

    def refusal(self, error: SubletError) -> bytes:
        """The body of an error."""
        ...

    def status(self, error: SubletError) -> int:
        """The HTTP status of an error, as this vendor has it."""
        ...

    def refusal_headers(self, error: SubletError) -> bytes:
        """The headers that a refusal has besides."""
        ...

    def headers(self, request_id: str, allowance: Allowance | None) -> bytes:
        """The headers that every answer has; without `allowance` where the request was refused before it was counted."""
        ...

    def models(self, routes: Sequence[ModelRoute]) -> dict[str, Any]:
        """The list of models."""
        ...

    def model(self, route: ModelRoute) -> dict[str, Any]:
        """One model."""
        ...


def marked(surfaces: Sequence[Surface], path: bytes, headers: Headers) -> Surface:
    """The surface one of whose prefixes the path or whose mark the headers have, else the first one."""
    names = {name for name, _ in headers}
    for surface in surfaces:
        if path.startswith(surface.prefixes) or (surface.mark and surface.mark in names):
            return surface
    return surfaces[0]


class CommonSurface:
    """What most surfaces have in common, to be inherited: OpenAI's headers and models, the gateway's own statuses, and fixed paths."""

    mark = b""
    prefixes: tuple[bytes, ...] = ()

    def find(self, path: bytes, query: bytes) -> tuple[Surface, str] | None:
        return None

    def secret(self, headers: Headers) -> bytes:
        return secret_of(headers)

    def reserved(self, call: Call) -> None:
        call.served = RESERVED

    def signature(self, headers: Headers) -> Signature | None:
        return None

    def status(self, error: SubletError) -> int:
        return error.status

    def refusal_headers(self, error: SubletError) -> bytes:
        return b""

    def headers(self, request_id: str, allowance: Allowance | None) -> bytes:
        if allowance is None:
            return b"x-request-id: %b\r\n" % request_id.encode()
        found = (
            b"x-request-id: %b\r\nx-ratelimit-limit-requests: %d\r\nx-ratelimit-remaining-requests: %d\r\n"
            b"x-ratelimit-reset-requests: %ds\r\n" % (request_id.encode(), *allowance[:3])
        )
        if (tokens := allowance.tokens) is not None:
            found += (
                b"x-ratelimit-limit-tokens: %d\r\nx-ratelimit-remaining-tokens: %d\r\nx-ratelimit-reset-tokens: %ds\r\n"
                % tokens[:3]
            )
        return found

    def models(self, routes: Sequence[ModelRoute]) -> dict[str, Any]:
        return {"object": "list", "data": [self.model(route) for route in routes]}

    def model(self, route: ModelRoute) -> dict[str, Any]:
        return {
            "id": route.name,
            "object": "model",
            "created": route.created_s,
            "owned_by": "sublet",
            "context_tokens": route.context_tokens,
            "capabilities": sorted(route.capabilities),
            "available": bool(route.replicas),
        }
