"""TLS in front of a server: what is inside arrives whole, handshakes are bounded, and a renewed certificate is used at once."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import pytest
import uvloop

from sublet.tls import listening
from sublet.tls.authority import Authority
from sublet.tls.files import LOOK_S, CertificateError, CertificateFiles, Secured
from sublet.tls.listening import TlsListener

NOW = datetime.now(UTC)


class Echo(asyncio.Protocol):
    """Sends back what it gets; notes what it was told, in order."""

    def __init__(self, told: list[str]) -> None:
        self._told = told
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._told.append("made")

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        self._told.append("data")
        self._transport.write(data)

    def connection_lost(self, error: Exception | None) -> None:
        self._told.append("lost")


class Site:
    """A server of echoes behind TLS, and its clients."""

    def __init__(self, folder: Path) -> None:
        self.authority = Authority(folder / "tls")
        self.authority.create(["localhost", "127.0.0.1"], NOW)
        self.time = 0.0
        self.told: list[str] = []
        self.secured = Secured(
            CertificateFiles(self.authority.certificate, self.authority.private_key), lambda: self.time
        )
        self.port = 0

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.port = listener.getsockname()[1]
            server = TlsListener(listener, lambda: Echo(self.told), self.secured)
            try:
                yield
            finally:
                server.close()
                await server.wait_closed()

    def trusting(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.authority.trusted))

    async def said(self, text: bytes) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=self.trusting())
        writer.write(text)
        found = await asyncio.wait_for(reader.readexactly(len(text)), 10)
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        return found

    async def serial(self) -> int:
        _, writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=self.trusting())
        found = int(writer.get_extra_info("peercert")["serialNumber"], 16)
        writer.close()
        return found


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}


@pytest.fixture(params=sorted(LOOPS))
def run(request: pytest.FixtureRequest) -> Callable[[Callable[[], Awaitable[None]]], None]:
    """Run a test's body on an event loop of either kind."""

    def on(body: Callable[[], Awaitable[None]]) -> None:
        async def bounded() -> None:
            await asyncio.wait_for(body(), 60)

        with asyncio.Runner(loop_factory=LOOPS[request.param]) as runner:
            runner.run(bounded())

    return on


Run = Callable[[Callable[[], Awaitable[None]]], None]


def test_what_is_sent_arrives_whole_and_in_order(site: Site, run: Run) -> None:
    async def body() -> None:
        async with site.serving():
            texts = [b"a", b"x" * 16_384, bytes(range(256)) * 4_000]
            assert await asyncio.gather(*(site.said(text) for text in texts * 4)) == texts * 4
        assert site.told.count("made") == 12 and site.told[0] == "made"

    run(body)


def test_what_comes_with_the_end_of_the_handshake_is_not_lost(site: Site, run: Run) -> None:
    """A client of TLS 1.3 may send its first request in the same segment as its last message of the handshake."""

    async def body() -> None:
        async with site.serving():
            raw = socket.create_connection(("127.0.0.1", site.port))
            raw.setblocking(False)
            loop = asyncio.get_running_loop()
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            client = site.trusting().wrap_bio(incoming, outgoing, server_hostname="localhost")
            while True:
                try:
                    client.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    await loop.sock_sendall(raw, outgoing.read())
                    incoming.write(await asyncio.wait_for(loop.sock_recv(raw, 65_536), 10))
            client.write(b"at once")
            await loop.sock_sendall(raw, outgoing.read())  # Finished and the first data together
            found = b""
            while len(found) < 7:
                incoming.write(await asyncio.wait_for(loop.sock_recv(raw, 65_536), 10))
                with contextlib.suppress(ssl.SSLWantReadError):
                    found += client.read()
            assert found == b"at once" and site.told[:2] == ["made", "data"]
            raw.close()

    run(body)


def test_plain_http_and_strangers_get_nothing(site: Site, run: Run) -> None:
    async def body() -> None:
        async with site.serving():
            reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
            writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            with contextlib.suppress(OSError):
                assert b"HTTP/1.1" not in await asyncio.wait_for(reader.read(), 10)
            writer.close()
            with pytest.raises(ssl.SSLCertVerificationError):
                await asyncio.open_connection("127.0.0.1", site.port, ssl=ssl.create_default_context())
            assert "made" not in site.told or site.told[-1] == "lost"

    run(body)


def test_those_who_never_shake_hands_are_bounded_and_keep_nobody_out(
    site: Site, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listening, "HANDSHAKES_MAX", 3)

    async def body() -> None:
        async with site.serving():
            idle = [await asyncio.open_connection("127.0.0.1", site.port) for _ in range(9)]
            assert await site.said(b"hello") == b"hello"
            closed = 0
            for reader, _ in idle:
                with contextlib.suppress(TimeoutError, OSError):
                    closed += await asyncio.wait_for(reader.read(1), 0.05) == b""
            assert closed >= 6
            for _, writer in idle:
                writer.close()

    run(body)


def test_a_renewed_certificate_is_used_and_a_broken_one_is_not(site: Site, run: Run) -> None:
    async def body() -> None:
        async with site.serving():
            first = await site.serial()
            site.authority.renew(NOW)
            assert await site.serial() == first, "the files are not looked at for each connection"
            site.time += LOOK_S
            second = await site.serial()
            assert second != first
            site.authority.private_key.write_text("not a key")
            site.time += LOOK_S
            assert await site.serial() == second
            site.authority.renew(NOW)
            site.time += LOOK_S
            assert await site.serial() not in (first, second)

    run(body)


def test_files_that_can_not_be_used_are_named(site: Site, tmp_path: Path) -> None:
    files = CertificateFiles(site.authority.certificate, site.authority.private_key)
    other = Authority(tmp_path / "other")
    other.create(["localhost"], NOW)
    with pytest.raises(CertificateError, match="not a pair"):
        CertificateFiles(files.certificate, other.private_key).context()
    with pytest.raises(CertificateError, match=r"missing\.pem can't be read"):
        CertificateFiles(tmp_path / "missing.pem", files.private_key).context()
    (tmp_path / "text.pem").write_text("text")
    with pytest.raises(CertificateError, match=r"text\.pem"):
        CertificateFiles(tmp_path / "text.pem", files.private_key).context()
