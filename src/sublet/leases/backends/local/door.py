"""The TCP side of a lease's SSH door: loopback connections are spliced to the sandbox's unix socket."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket

from sublet.leases.backends.base import BackendFailedError
from sublet.leases.backends.local.gate import SESSIONS_MAX, WAITING_MAX, Gate, Guest

BACKLOG = SESSIONS_MAX + 2 * WAITING_MAX
CHUNK_BYTES = 65536
BANNER_TIMEOUT_S = 10.0
LINGER_S = 5.0
STRANGER_LINGER_S = 0.5
"""Seconds for which what was said last is carried after a side has closed; one without a key takes a place of those who wait."""
DEAD_PEER_MS = 120_000
NAME_BYTES_MAX = 64
_BANNER = b"SSH-2.0-"


def listen(host: str, first: int, last: int, preferred: int, spread: str) -> socket.socket:
    """A listening socket on `preferred` where it is free, else on a free port of `[first, last]`.

    `spread` makes leases start to look at different ports. Raises BackendFailedError where every port is taken.
    """
    count = last - first + 1
    offset = sum(spread.encode()) * 7919 % count
    candidates = [preferred] if first <= preferred <= last else []
    candidates += [first + (offset + step) % count for step in range(count)]
    for port in candidates:
        listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
            listener.listen(BACKLOG)
        except OSError as error:
            listener.close()
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                continue
            raise BackendFailedError(f"the SSH door can't listen on {host}: {error.strerror}") from error
        listener.setblocking(False)
        return listener
    raise BackendFailedError(
        f"every port from {first} to {last} on {host} is in use; widen the range from ssh.port_min to ssh.port_max, or free a port"
    )


class Door:
    """Accepts customers and carries their bytes to and fro. It never reads what it carries: who has logged in is told by
    the server inside (`hear`), by the name of the socket that the connection came through."""

    def __init__(self, listener: socket.socket, inner_path: str) -> None:
        self._listener, self._inner_path = listener, inner_path
        self._server: asyncio.Server | None = None
        self._gate = Gate()
        self._connections: dict[Guest, asyncio.Task[None]] = {}
        self._names: dict[bytes, Guest] = {}
        self._heard = b""

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._serve, sock=self._listener, limit=CHUNK_BYTES)

    async def close(self) -> None:
        """Accept nobody from now on and drop those who are in."""
        if self._server is not None:
            self._server.close()
        self.drop_connections()

    def drop_connections(self) -> None:
        for task in list(self._connections.values()):
            task.cancel()

    def tend(self) -> None:
        """Drop who has waited too long. To be called about once a second."""
        for guest in self._gate.overdue():
            self._drop(guest)

    def was_shut(self) -> bool:
        """Since the last call nobody could count on getting in, since strangers took the places (`Gate.was_shut`)."""
        return self._gate.was_shut()

    def hear(self, said: bytes) -> None:
        """Lines from inside: the names of connections whose key was accepted."""
        *names, self._heard = (self._heard + said).split(b"\n")
        self._heard = self._heard[:NAME_BYTES_MAX]
        for name in names:
            guest = self._names.get(name)
            if guest is not None:
                self._gate.accept(guest)

    def _drop(self, guest: Guest) -> None:
        task = self._connections.get(guest)
        if task is not None:
            task.cancel()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        peer = writer.get_extra_info("peername")
        guest, victim = self._gate.admit(str(peer[0]) if peer else "")
        if victim is not None:
            self._drop(victim)
        if guest is None or task is None:
            writer.transport.abort()
            return
        self._connections[guest] = task
        try:
            _notice_dead_peers(writer)
            await self._splice(guest, reader, writer)
        except asyncio.CancelledError:
            writer.transport.abort()
        except OSError:
            pass
        finally:
            self._connections.pop(guest, None)
            self._gate.leave(guest)
            writer.close()

    async def _splice(self, guest: Guest, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry until either side is done: in SSH nobody goes on speaking to a side that has closed."""
        inner, name = await _connect(self._inner_path)
        self._names[name] = guest
        inner_reader, inner_writer = await asyncio.open_unix_connection(sock=inner, limit=CHUNK_BYTES)
        forth = asyncio.ensure_future(_pump(reader, inner_writer, guest))
        back = asyncio.ensure_future(_pump(inner_reader, writer, None))
        try:
            await asyncio.wait((forth, back), return_when=asyncio.FIRST_COMPLETED)
            if not back.done():
                await asyncio.wait((back,), timeout=LINGER_S if guest.inside else STRANGER_LINGER_S)
            if back.done() and not forth.done():
                # What was said last is still on its way to the customer, who may not be reading.
                with contextlib.suppress(TimeoutError, OSError):
                    writer.close()
                    await asyncio.wait_for(writer.wait_closed(), LINGER_S)
        finally:
            self._names.pop(name, None)
            forth.cancel()
            back.cancel()
            inner_writer.close()
            if not writer.transport.is_closing() or writer.transport.get_write_buffer_size():
                writer.transport.abort()


async def _connect(path: str) -> tuple[socket.socket, bytes]:
    """A connection to the server inside and the name that the kernel gave its end: the server sees it as the peer's."""
    inner = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        inner.setblocking(False)
        inner.bind("")
        await asyncio.get_running_loop().sock_connect(inner, path)
    except BaseException:
        inner.close()
        raise
    return inner, bytes(inner.getsockname())[1:]


def _notice_dead_peers(writer: asyncio.StreamWriter) -> None:
    """A customer whose machine or network is gone says nothing more: the kernel asks, and closes."""
    connection: socket.socket = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in ((socket.TCP_KEEPIDLE, 60), (socket.TCP_KEEPINTVL, 15), (socket.TCP_KEEPCNT, 4)):
        connection.setsockopt(socket.IPPROTO_TCP, option, value)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, DEAD_PEER_MS)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, guest: Guest | None) -> None:
    with contextlib.suppress(OSError):
        while chunk := await reader.read(CHUNK_BYTES):
            if guest is not None and not guest.inside:
                guest.heard_bytes += len(chunk)
            writer.write(chunk)
            await writer.drain()
        if guest is not None and writer.can_write_eof():
            writer.write_eof()
    if guest is not None:
        guest.gone = True


async def banner_seen(host: str, port: int, timeout_s: float = BANNER_TIMEOUT_S) -> bool:
    """True once an SSH server greets a customer who comes the customer's way."""
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                return await reader.readexactly(len(_BANNER)) == _BANNER
            finally:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
    except (OSError, TimeoutError, asyncio.IncompleteReadError):
        return False
