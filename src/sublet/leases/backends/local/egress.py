"""A sandbox's way out: an HTTP proxy that listens inside its network namespace and connects from outside, to what its lease may
reach and nothing else.

Nothing of the host's network is inside: no interface, no route, no resolver, no socket of the host's namespace. The listening
socket is made inside by a helper that enters the namespace and hands it out; connections are accepted and made out here. A name
is resolved here, once, and the address that was checked is the address that is connected.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import fcntl
import ipaddress
import json
import os
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sublet.leases.backends.base import BackendFailedError
from sublet.leases.network.addresses import Network, may_reach
from sublet.leases.network.requests import HEAD_BYTES_MAX, ClientHello, RefusedError, Wanted, read_request
from sublet.values.clock import format_time, from_micros
from sublet.values.egress import Rule

PROXY_PORT = 3128
EGRESS_LOGS = "egress"
"""The folder of logs, beside the leases' own."""
CONNECTIONS_MAX = 64
CHUNK_BYTES = 65_536
HEAD_S, CONNECT_S, IDLE_S = 10.0, 10.0, 300.0
ADDRESSES_MAX = 8
HOSTS_MAX = 200
LOG_LINES_MAX = 10_000
"""Of one lease's life; its counters go on."""
_ENTER_TIMEOUT_S = 10.0
_CLONE_NEWNET, _CLONE_NEWUSER = 0x40000000, 0x10000000
# NS_GET_USERNS of linux/nsfs.h: the user namespace that owns this one.
_NS_GET_USERNS = 0xB701
_LIBC = ctypes.CDLL(None, use_errno=True)


def proxy_environment() -> dict[str, str]:
    """What makes a tenant's programs use the proxy."""
    url, direct = f"http://127.0.0.1:{PROXY_PORT}", "localhost,127.0.0.1,::1"
    values = {"http_proxy": url, "https_proxy": url, "no_proxy": direct}
    return values | {name.upper(): value for name, value in values.items()}


@dataclass(slots=True)
class Traffic:
    """What went through, over the lease's life. `hosts` has bytes out and in by host and port, the first HOSTS_MAX of them."""

    bytes_out: int = 0
    bytes_in: int = 0
    connections: int = 0
    refused: int = 0
    hosts: dict[str, list[int]] = field(default_factory=dict)

    def count(self, where: str, out: int, back: int) -> None:
        self.bytes_out += out
        self.bytes_in += back
        if where in self.hosts or len(self.hosts) < HOSTS_MAX:
            seen = self.hosts.setdefault(where, [0, 0])
            seen[0] += out
            seen[1] += back


class Log:
    """Who was connected and what was refused, a line of JSON each, in a file a day that all leases of this machine share."""

    def __init__(self, folder: Path, lease_id: str, tenant: str) -> None:
        self._folder, self._who, self._lines = folder, {"lease": lease_id, "organization": tenant}, 0

    def write(self, **what: Any) -> None:
        """Append a line; a log that can't be written is no reason to end a connection."""
        if self._lines >= LOG_LINES_MAX:
            return
        self._lines += 1
        now = from_micros(time.time_ns() // 1000)
        line = json.dumps({"at": format_time(now), **self._who, **what}) + "\n"
        with contextlib.suppress(OSError):
            self._folder.mkdir(mode=0o700, exist_ok=True)
            descriptor = os.open(self._folder / f"{now:%Y-%m-%d}.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                os.write(descriptor, line.encode())
            finally:
                os.close(descriptor)


def purge_logs(folder: Path, days: int) -> None:
    """Remove the files of days that are over for longer than `days`."""
    oldest = f"{datetime.fromtimestamp(time.time() - days * 86_400, UTC):%Y-%m-%d}"
    for path in folder.glob("????-??-??*.jsonl") if folder.is_dir() else ():
        if path.name[:10] < oldest:
            path.unlink(missing_ok=True)


class Egress:
    """The proxy of one lease. It lives as long as the lease's shim; each run of the sandbox gets a listener of its own."""

    def __init__(
        self, rules: Sequence[str], permitted: Sequence[str], denied: Sequence[str], traffic: Traffic, log: Log
    ) -> None:
        self._rules = [Rule.parse(text) for text in rules]
        self._permitted: list[Network] = [ipaddress.ip_network(text) for text in permitted]
        self._denied: list[Network] = [ipaddress.ip_network(text) for text in denied]
        self.traffic, self._log = traffic, log
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self, listener: socket.socket) -> None:
        """Serve the sandbox that `listener` is in, and no other any more."""
        self.close()
        self._server = await asyncio.start_server(self._serve, sock=listener, limit=HEAD_BYTES_MAX)

    def close(self) -> None:
        """Serve nobody."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for task in list(self._tasks):
            task.cancel()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None or len(self._tasks) >= CONNECTIONS_MAX:
            writer.transport.abort()
            return
        self._tasks.add(task)
        try:
            await self._answer(reader, writer)
        except (OSError, EOFError, TimeoutError, ValueError, asyncio.LimitOverrunError, asyncio.CancelledError):
            writer.transport.abort()
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        where = ""
        try:
            async with asyncio.timeout(HEAD_S):
                head = await reader.readuntil(b"\r\n\r\n")
            wanted = read_request(head)
            where = f"{wanted.host}:{wanted.port}"
            addresses = await self._addresses(wanted)
            if wanted.head is None:
                await self._tunnel(wanted, where, addresses, reader, writer)
            else:
                await self._plain(wanted.head, where, addresses, writer)
        except RefusedError as error:
            self.traffic.refused += 1
            self._log.write(refused=str(error), host=where)
            await _say(writer, "403 Forbidden", f"sublet: {error}; `sublet lease networks` lists what can be reached")

    async def _addresses(self, wanted: Wanted) -> list[tuple[Any, ...]]:
        """Where the host is, as far as the lease may go there: (family, socket address). Raises RefusedError."""
        if not any(rule.allows(wanted.host, wanted.port) for rule in self._rules):
            raise RefusedError(f"{wanted.host}:{wanted.port} is not on an allow list of this lease")
        try:
            async with asyncio.timeout(CONNECT_S):
                found = await asyncio.get_running_loop().getaddrinfo(wanted.host, wanted.port, type=socket.SOCK_STREAM)
        except (socket.gaierror, UnicodeError) as error:
            raise RefusedError(f"{wanted.host} can't be resolved") from error
        good = [
            (family, address)
            for family, _, _, _, address in found
            if may_reach(str(address[0]), self._permitted, self._denied)
        ]
        if not good:
            raise RefusedError(f"{wanted.host} has no address that a lease may reach")
        return good[:ADDRESSES_MAX]

    async def _tunnel(
        self,
        wanted: Wanted,
        where: str,
        addresses: list[tuple[Any, ...]],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        """Nothing is sent until the client has named the tunnel's own host in TLS."""
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await writer.drain()
        hello = ClientHello()
        try:
            async with asyncio.timeout(HEAD_S):
                while not hello.feed(chunk := await reader.read(CHUNK_BYTES)):
                    if not chunk:
                        raise EOFError
            hello.require(wanted.host)
        except RefusedError as error:
            # The tunnel stands: an answer in HTTP would be read as TLS.
            self.traffic.refused += 1
            self._log.write(refused=str(error), host=where)
            raise EOFError from error
        await self._carry(where, addresses, hello.raw, reader, writer)

    async def _plain(
        self, head: bytes, where: str, addresses: list[tuple[Any, ...]], writer: asyncio.StreamWriter
    ) -> None:
        await self._carry(where, addresses, head, None, writer)

    async def _carry(
        self,
        where: str,
        addresses: list[tuple[Any, ...]],
        first: bytes,
        reader: asyncio.StreamReader | None,
        writer: asyncio.StreamWriter,
    ) -> None:
        """Send `first` to the host, then carry what comes from either side; without `reader` only what comes back."""
        began = time.monotonic()
        try:
            far_reader, far_writer = await _connect(addresses)
        except (OSError, TimeoutError):
            self._log.write(host=where, failed="it does not answer")
            if reader is None:
                await _say(writer, "502 Bad Gateway", f"sublet: {where} does not answer")
            return
        self.traffic.connections += 1
        before = (self.traffic.bytes_out, self.traffic.bytes_in)
        try:
            far_writer.write(first)
            self.traffic.count(where, len(first), 0)
            ways = [self._pump(far_reader, writer, where, back=True)]
            if reader is not None:
                ways.append(self._pump(reader, far_writer, where, back=False))
            await _until_one_ends(ways)
        finally:
            far_writer.close()
            out, back = self.traffic.bytes_out - before[0], self.traffic.bytes_in - before[1]
            seconds = round(time.monotonic() - began, 1)
            self._log.write(host=where, bytes_out=out, bytes_in=back, seconds=seconds, address=str(addresses[0][1][0]))

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, where: str, *, back: bool
    ) -> None:
        while True:
            async with asyncio.timeout(IDLE_S):
                chunk = await reader.read(CHUNK_BYTES)
                if not chunk:
                    break
                writer.write(chunk)
                await writer.drain()
            self.traffic.count(where, 0 if back else len(chunk), len(chunk) if back else 0)
        with contextlib.suppress(OSError):
            if writer.can_write_eof():
                writer.write_eof()


async def _until_one_ends(ways: list[Any]) -> None:
    """A host that has closed says nothing more, so neither does the client to it; the other way round, answers still come."""
    tasks = [asyncio.ensure_future(way) for way in ways]
    try:
        await tasks[0]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _connect(addresses: list[tuple[Any, ...]]) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """To the first address that answers: to it and not to a name, so that what was checked is what is connected."""
    failure: OSError | TimeoutError = OSError("no address")
    for family, address in addresses:
        connection = socket.socket(family, socket.SOCK_STREAM)
        connection.setblocking(False)
        try:
            async with asyncio.timeout(CONNECT_S):
                await asyncio.get_running_loop().sock_connect(connection, address)
            return await asyncio.open_connection(sock=connection, limit=CHUNK_BYTES)
        except (OSError, TimeoutError) as error:
            connection.close()
            failure = error
    raise failure


async def _say(writer: asyncio.StreamWriter, status: str, text: str) -> None:
    body = f"{text}\n".encode()
    head = f"HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {len(body)}\r\n"
    with contextlib.suppress(OSError):
        writer.write(head.encode() + b"Connection: close\r\n\r\n" + body)
        await writer.drain()


def listen_inside(pid: int) -> socket.socket:
    """A socket that listens on the loopback address of the network namespace of `pid`. Raises BackendFailedError.

    The helper that enters the namespace never comes back. An ordinary user first becomes the owner of the namespace: the
    sandbox's own user namespace is one that bubblewrap nested in it, in which nobody has capabilities.
    """
    ours, theirs = socket.socketpair()
    child = os.fork()
    if child == 0:
        _hand_out_listener(pid, theirs)
    theirs.close()
    ours.settimeout(_ENTER_TIMEOUT_S)
    try:
        _, descriptors, _, _ = socket.recv_fds(ours, 1, 1)
    except OSError:
        descriptors = []
    finally:
        ours.close()
        with contextlib.suppress(ChildProcessError):
            os.waitpid(child, 0)
    if not descriptors:
        raise BackendFailedError("the network access of the sandbox could not be set up inside it")
    listener = socket.socket(fileno=descriptors[0])
    listener.setblocking(False)
    return listener


def _hand_out_listener(pid: int, channel: socket.socket) -> None:
    """After fork. Never returns."""
    try:
        namespace = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        if os.geteuid() != 0:
            _enter(fcntl.ioctl(namespace, _NS_GET_USERNS), _CLONE_NEWUSER)
        _enter(namespace, _CLONE_NEWNET)
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", PROXY_PORT))
        listener.listen(CONNECTIONS_MAX)
        socket.send_fds(channel, [b"x"], [listener.fileno()])
    finally:
        os._exit(0)


def _enter(descriptor: int, kind: int) -> None:
    if _LIBC.setns(descriptor, kind) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
