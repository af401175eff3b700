"""Ways to carry a request: the standard library's HTTP, which loads fast, and httpx2 for asyncio."""

from __future__ import annotations

import http.client
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

from sublet.client.core import Answer, NoAnswerError, Request
from sublet.values.errors import InvalidInputError

if TYPE_CHECKING:
    import ssl

TIMEOUT_S = 60.0
PART_BYTES = 1 << 16
_BROKEN = (OSError, http.client.HTTPException)


class Transport(Protocol):
    """Carries a request and brings the answer, whole or in parts. Raises NoAnswerError."""

    def send(self, request: Request) -> Answer: ...

    def stream(self, request: Request) -> tuple[Answer, Iterator[bytes]]:
        """The answer without its body, and the body as it comes."""
        ...

    def close(self) -> None: ...


class AsyncTransport(Protocol):
    """The same for asyncio."""

    async def send(self, request: Request) -> Answer: ...

    async def close(self) -> None: ...


def checked_url(url: str, named: str) -> str:
    """The address without a slash at its end. Raises InvalidInputError; `named` says where it was written."""
    try:
        found = urlsplit(url)
        found.port  # noqa: B018  raises where it is no number
        bad = "" if found.scheme in ("http", "https") and found.hostname else "it has no http:// or no host"
        bad = bad or ("leave out ? and #" if found.query or found.fragment or found.username else "")
    except ValueError as error:
        bad = str(error)
    if bad or not (url.isascii() and url.isprintable()):
        raise InvalidInputError(
            f"{named} is {url!r}, which is not a valid URL ({bad or 'unexpected characters'}); use the form http://127.0.0.1:8080"
        )
    return url.rstrip("/")


def trusted(ca_file: str) -> ssl.SSLContext:
    """Trusts the authorities in a PEM file, or those of this machine where none is given. Raises InvalidInputError."""
    import ssl  # takes longer to load than a command's help should

    try:
        return ssl.create_default_context(cafile=ca_file or None)
    except OSError as error:
        raise InvalidInputError(
            f"{ca_file} can't be read as certificates in PEM form ({error.strerror or error}); give the authority's ca.pem"
        ) from error


class StandardTransport:
    """One connection at a time by `http.client`, kept open between requests. Not for several threads at once. Follows no
    redirect and asks no proxy: the key goes to the address that it is for."""

    def __init__(self, url: str, headers: dict[str, str], timeout_s: float = TIMEOUT_S, ca_file: str = "") -> None:
        """Raises InvalidInputError for a `ca_file` without certificates."""
        self._url = urlsplit(url)
        self._headers = headers
        self._timeout_s = timeout_s
        self._trusted = trusted(ca_file) if self._url.scheme == "https" else None
        self._connection: http.client.HTTPConnection | None = None

    def __del__(self) -> None:
        if getattr(self, "_connection", None) is not None:  # a client that nobody closed leaves no connection behind
            self.close()

    def send(self, request: Request) -> Answer:
        found = self._open(request)
        try:
            return Answer(found.status, _lower(found), found.read())
        except _BROKEN as error:
            self.close()
            raise NoAnswerError(str(error) or type(error).__name__, begun=True) from error

    def stream(self, request: Request) -> tuple[Answer, Iterator[bytes]]:
        found = self._open(request)
        if not 200 <= found.status < 300:
            return Answer(found.status, _lower(found), found.read()), iter(())
        return Answer(found.status, _lower(found), b""), self._parts(found)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _parts(self, found: http.client.HTTPResponse) -> Iterator[bytes]:
        try:
            while part := found.read(PART_BYTES):
                yield part
        except _BROKEN as error:
            raise NoAnswerError(
                f"the connection was closed before the response was complete: {error}", begun=True
            ) from error
        finally:
            self.close()

    def _open(self, request: Request) -> http.client.HTTPResponse:
        kept = self._connection is not None
        try:
            return self._ask(request)
        except NoAnswerError:
            # A connection that was kept may have been closed by the other side meanwhile.
            if not (kept and request.repeatable):
                raise
            return self._ask(request)

    def _ask(self, request: Request) -> http.client.HTTPResponse:
        connection, begun = self._connected(), False
        try:
            if connection.sock is None:
                connection.connect()
            begun = True
            headers = {**self._headers, **request.headers}
            body: bytes | _Sent | None = request.body
            if request.body is not None and request.progress is not None:
                body = _Sent(request.body, request.progress)
                headers["Content-Length"] = str(len(request.body))
            connection.request(request.method, self._url.path + request.target, body, headers)
            return connection.getresponse()
        except _BROKEN as error:
            self.close()
            raise NoAnswerError(str(error) or type(error).__name__, begun=begun) from error

    def _connected(self) -> http.client.HTTPConnection:
        if self._connection is None:
            host, port = self._url.hostname or "", self._url.port
            self._connection = (
                http.client.HTTPSConnection(host, port, timeout=self._timeout_s, context=self._trusted)
                if self._trusted is not None
                else http.client.HTTPConnection(host, port, timeout=self._timeout_s)
            )
        return self._connection


class _Sent:
    """A body as a file that is read in parts, and tells how far."""

    def __init__(self, body: bytes, progress: Callable[[int], None]) -> None:
        self._body = memoryview(body)
        self._sent = 0
        self._progress = progress

    def read(self, size: int = -1, /) -> bytes:
        """The next part, which counts as sent when the one after it is asked for."""
        self._progress(self._sent)
        end = self._sent + size if size >= 0 else len(self._body)
        part = self._body[self._sent : end]
        self._sent += len(part)
        return bytes(part)


def _lower(found: http.client.HTTPResponse) -> dict[str, str]:
    return {name.lower(): value for name, value in found.getheaders()}


class AsyncHttpx:
    """httpx2's client for asyncio."""

    def __init__(self, url: str, headers: dict[str, str], timeout_s: float = TIMEOUT_S, ca_file: str = "") -> None:
        """Raises InvalidInputError for a `ca_file` without certificates."""
        import httpx2

        self._httpx: Any = httpx2
        verify = trusted(ca_file) if url.startswith("https:") else True
        self._client = httpx2.AsyncClient(
            base_url=url, headers=headers, timeout=timeout_s, trust_env=False, verify=verify
        )

    async def send(self, request: Request) -> Answer:
        try:
            found = await self._client.request(
                request.method, request.target, content=request.body, headers=request.headers
            )
        except self._httpx.HTTPError as error:
            begun = not isinstance(error, self._httpx.ConnectError)
            raise NoAnswerError(str(error) or type(error).__name__, begun=begun) from error
        return Answer(found.status_code, {name.lower(): value for name, value in found.headers.items()}, found.content)

    async def close(self) -> None:
        await self._client.aclose()
