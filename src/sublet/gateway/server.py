"""The gateway's process: its sockets, its threads, and their orderly end."""

from __future__ import annotations

import asyncio
import contextlib
import math
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

import structlog
import uvicorn
from sqlalchemy import Connection

from sublet.gateway.api import application, cold_routes
from sublet.gateway.batches.worker import Pace
from sublet.gateway.front.addresses import Proxies
from sublet.gateway.front.answering import Front
from sublet.gateway.front.connections import files_for_connections
from sublet.gateway.front.cors import Cors
from sublet.gateway.front.protocol import gateway_protocol
from sublet.gateway.front.routes import Routes
from sublet.gateway.limits.orders import StoreDesk
from sublet.gateway.metering.journal import Journal
from sublet.gateway.metering.metrics import Metrics
from sublet.gateway.metering.shipper import Shipper
from sublet.gateway.model import GatewaySettings, Snapshot
from sublet.gateway.operator_api import OperatorListener
from sublet.gateway.ports import GatewayPorts
from sublet.gateway.service import Gateway
from sublet.gateway.snapshot import SnapshotThread
from sublet.gateway.store import drop_minutes, save_minutes
from sublet.gateway.stored import Responses, expire
from sublet.gateway.surfaces.registry import SURFACES
from sublet.gateway.surfaces.surface import Surface
from sublet.gateway.work import Work
from sublet.store import Store
from sublet.tls.files import Secured, address
from sublet.tls.serving import Server
from sublet.values import garbage
from sublet.values.clock import to_micros
from sublet.values.errors import SubletError, UnavailableError

# Python's default lets a busy thread keep the loop waiting for 5 ms.
SWITCH_INTERVAL_S = 0.0005

log = structlog.get_logger(__name__)

STATS_KEEP = timedelta(days=90)
STATS_INTERVAL_S = 3.0
USES_INTERVAL_S = 60.0
USES_AT_ONCE_MAX = 1_000
"""Keys whose last use one write stores; the others wait for the next."""
HOLDS_S_MAX = 5.0
BACKLOG = 2048


class AddressTakenError(UnavailableError):
    """Another program is listening on the gateway's address; stop it, or set gateway.port to a free port."""

    code = "address_taken"


def run(
    settings: GatewaySettings,
    store: Store,
    ports: GatewayPorts,
    *,
    on_ready: Callable[[str], None] | None = None,
    listener: socket.socket | None = None,
    stop: threading.Event | None = None,
    pace: Pace | None = None,
) -> None:
    """Serve the model API until SIGTERM or SIGINT. Blocks; to be called on the main thread of its own process.

    `listener` is a listening socket that a supervisor hands down; by default one is made from the settings. `on_ready` is told
    the base URL once the port takes requests. Where `stop` is given it ends the gateway as a signal does, and `run` may be called
    on any thread. `pace` is that of work on batches. Raises AddressTakenError, UnavailableError where the database can't be read at
    the start, OSError where data_dir can't be written.
    """
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    ending = stop or threading.Event()
    if threading.current_thread() is threading.main_thread():
        # uvicorn takes the signals while it serves and raises them again when it has ended: they must not end the
        # process before the journal is closed.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: ending.set())
    listener = listener or listen(settings.host, settings.port)
    with contextlib.closing(listener):
        snapshots = SnapshotThread(store, settings, ports.load_snapshot, lambda snapshot: None)
        first = snapshots.load()
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(_serve(settings, store, _Outside(ports, on_ready, ending, pace or Pace()), listener, first))


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises AddressTakenError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise AddressTakenError(
            f"the gateway can't listen on {host}:{port} ({error.strerror}); stop the process that uses the port, or set gateway.port"
        ) from error
    return listener


@dataclass(frozen=True, slots=True)
class _Outside:
    ports: GatewayPorts
    on_ready: Callable[[str], None] | None
    stop: threading.Event
    pace: Pace


class _Server(Server):
    """uvicorn's server, which tells when it serves and when it begins to end."""

    def __init__(
        self, config: uvicorn.Config, secured: Secured | None, gateway: Gateway, outside: _Outside, url: str
    ) -> None:
        super().__init__(config, secured)
        self._gateway = gateway
        self._outside = outside
        self.url = url

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self._outside.on_ready is not None:
            self._outside.on_ready(self.url)

    async def on_tick(self, counter: int) -> bool:
        if self._outside.stop.is_set():
            return True
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._gateway.stopping = True
        await super().shutdown(sockets)


async def _serve(
    settings: GatewaySettings, store: Store, outside: _Outside, listener: socket.socket, first: Snapshot
) -> None:
    loop = asyncio.get_running_loop()
    secured = Secured(settings.tls, time.monotonic) if settings.tls else None
    settings.journal_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    journal = Journal(
        settings.journal_dir,
        segment_bytes_max=settings.journal_segment_bytes_max,
        wait_for_disk=settings.durability == "disk",
        call_soon=loop.call_soon,
        call_soon_threadsafe=loop.call_soon_threadsafe,
    )
    metrics = Metrics()
    holds, opens = outside.ports.holds, outside.ports.open_secret
    gateway = Gateway(settings, store.clock, loop, journal, metrics, first, holds, open_secret=opens)
    gateway.limit_desk = desk = StoreDesk(store)
    gateway.responses = _responses(settings, store)
    gateway.adopt(first)
    gateway.connections.connections_max = files_for_connections(settings.connections_max)
    _notice_half_open(listener)
    snapshots = SnapshotThread(
        store, settings, outside.ports.load_snapshot, lambda snapshot: _on_loop(loop, lambda: gateway.adopt(snapshot))
    )
    snapshots.prime(first)
    figures = _Figures(store, journal.run, metrics, gateway, outside.ports)
    shipper = Shipper(settings.journal_dir, journal.run, outside.ports.emit, each_round=figures.save)
    gateway.hold_over = shipper.wake
    surfaces = list(SURFACES)
    work = Work(gateway, store, outside.ports.bill, outside.pace)
    config = uvicorn.Config(
        application(gateway, surfaces, work.routes),
        http=gateway_protocol(_front(gateway, surfaces, work.file_bytes_max)),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=int(settings.idle_connection_s_max),
        timeout_graceful_shutdown=math.ceil(settings.drain_s_max),
        # Whose word of an address counts is the front's affair.
        proxy_headers=False,
        backlog=BACKLOG,
    )
    server = _Server(config, secured, gateway, outside, address(*listener.getsockname()[:2], secured=bool(secured)))
    sweeping = loop.create_task(gateway.sweep_for_ever())
    work.start()
    snapshots.start()
    shipper.start()
    garbage.settle()
    operator = OperatorListener(gateway, settings, surfaces[0], lambda: snapshots.age_s)
    operator_url = await operator.start(listener)
    log.info("gateway serves", url=server.url, operator_url=operator_url, run=journal.run)
    try:
        await server.serve(sockets=[listener])
    finally:
        await operator.stop()
        await work.stop()
        gateway.stop()
        sweeping.cancel()
        await gateway.settled(HOLDS_S_MAX)
        # One more turn, so that what `stop` settled reaches the journal.
        await asyncio.sleep(0)
        await loop.run_in_executor(None, desk.leave, journal.run)
        await loop.run_in_executor(None, snapshots.stop)
        journal.close()
        await loop.run_in_executor(None, shipper.stop)
        with contextlib.suppress(SubletError):
            figures.save(at_once=True)
        log.info("gateway ended", run=journal.run)


def _responses(settings: GatewaySettings, store: Store) -> Responses | None:
    if not settings.responses_keep_days:
        return None
    most = (settings.responses_per_organization_max, settings.responses_mib_per_organization_max * 1024 * 1024)
    return Responses(store, timedelta(days=settings.responses_keep_days), *most)


def _front(gateway: Gateway, surfaces: list[Surface], file_bytes_max: int) -> Front:
    settings = gateway.settings
    routes = Routes(surfaces, cold_routes(surfaces[0], file_bytes_max))
    return Front(gateway, gateway.connections, routes, Cors(settings.cors_origins), Proxies(settings.trusted_proxies))


def _notice_half_open(listener: socket.socket) -> None:
    """Have the kernel find out which peers are gone without a word. Accepted sockets inherit it from their listener."""
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3), ("TCP_USER_TIMEOUT", 60_000)):
        # Not every system has them all.
        if (option := getattr(socket, name, None)) is not None:
            listener.setsockopt(socket.IPPROTO_TCP, option, value)


def _on_loop(loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> None:
    # The loop may have ended while the snapshot was read.
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(call)


class _Figures:
    """Writes the minute figures every few seconds, on the shipper's thread."""

    def __init__(self, store: Store, run: str, metrics: Metrics, gateway: Gateway, ports: GatewayPorts) -> None:
        self._store = store
        self._ports = ports
        self._run = run
        self._metrics = metrics
        self._gateway = gateway
        self._troubled = False
        self._not_before = 0.0
        self._noted: dict[str, float] = {}
        """By key that was used lately: when its use was stored."""

    def save(self, *, at_once: bool = False) -> None:
        if not at_once and time.monotonic() < self._not_before:
            return
        self._not_before = time.monotonic() + STATS_INTERVAL_S
        now = self._store.clock.now()
        minutes = self._metrics.take_minutes(to_micros(now))
        # At its end a gateway has no say any more in how replicas are.
        troubles = [] if at_once else self._gateway.watch.troubles()
        used = self._used(at_once)
        if not minutes and not troubles and not self._troubled and not used:
            return

        def write(connection: Connection) -> None:
            save_minutes(connection, self._run, minutes)
            drop_minutes(connection, now - STATS_KEEP)
            expire(connection, now)
            if troubles or self._troubled:
                self._ports.report_troubles(connection, self._run, troubles, now)
            self._ports.note_uses(connection, used, now)

        self._store.write(write)
        self._troubled = bool(troubles)
        self._noted.update(dict.fromkeys(used, time.monotonic()))

    def _used(self, at_once: bool) -> list[str]:
        """Keys whose use is to be stored: each at most once in USES_INTERVAL_S, and at the end all that are left."""
        before = time.monotonic() - USES_INTERVAL_S
        self._noted = {key: at for key, at in self._noted.items() if at > before}
        # The event loop adds to the set meanwhile: what is taken is taken one by one.
        found = [key for key in list(self._gateway.used_keys) if at_once or key not in self._noted]
        found = found[:USES_AT_ONCE_MAX]
        self._gateway.used_keys.difference_update(found)
        return found


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory
