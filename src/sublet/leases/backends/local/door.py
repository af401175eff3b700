"""The TCP side of a lease's SSH door: loopback connections are spliced to the sandbox's unix socket."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket

from sublet.leases.backends.base import BackendFailedError

CONNECTIONS_MAX = 64
CHUNK_BYTES = 65536
BANNER_TIMEOUT_S = 10.0
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
            listener.listen(CONNECTIONS_MAX)
        except OSError as error:
            listener.close()
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                continue
            raise BackendFailedError(f"the SSH door can't listen on {host}: {error.strerror}") from error
        listener.setblocking(False)
        return listener
    raise BackendFailedError(
        f"every port from {first} to {last} on {host} is taken; widen ssh.port_min to ssh.port_max or free one of them"
    )


class Door:
    """Accepts customers and carries their bytes to and fro. It never reads what it carries."""

    def __init__(self, listener: socket.socket, inner_path: str) -> None:
        self._listener, self._inner_path = listener, inner_path
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

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
        for task in list(self._connections):
            task.cancel()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None or len(self._connections) >= CONNECTIONS_MAX:
            writer.close()
            return
        self._connections.add(task)
        try:
            await self._splice(reader, writer)
        except asyncio.CancelledError:
            pass
        finally:
            self._connections.discard(task)
            writer.close()

    async def _splice(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            inner_reader, inner_writer = await asyncio.open_unix_connection(self._inner_path, limit=CHUNK_BYTES)
        except OSError:
            return
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(_pump(reader, inner_writer))
                both.create_task(_pump(inner_reader, writer))
        finally:
            inner_writer.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while chunk := await reader.read(CHUNK_BYTES):
            writer.write(chunk)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
    except OSError:
        writer.close()


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
