"""What each process of the system runs: `sublet serve control|gateway|engines`. Each imports its own parts alone, so that
a process starts quickly and a fault in one's code does not keep the others from starting."""

from __future__ import annotations

import socket
import time

import structlog

from sublet.config import logs
from sublet.config.settings import Settings
from sublet.fleet.discovery import site_name
from sublet.fleet.nodes import Presence, node_id_in, own_node_id, take_control
from sublet.fleet.reach import MachineReach
from sublet.launch import supervisor
from sublet.store import Store
from sublet.tls.files import Secured
from sublet.values import garbage
from sublet.values.errors import InvalidInputError

log = structlog.get_logger(__name__)

DRAIN_S = 2.0


def run(process: str, settings: Settings, fd: int | None = None) -> None:
    """Run one process until SIGTERM or SIGINT. Raises InvalidInputError for an unknown one."""
    runners = {"control": _control, "gateway": _gateway, "engines": _engines}
    if process not in runners:
        raise InvalidInputError(f"there is no process {process!r}; serve one of {', '.join(runners)}")
    logs.configure(process, settings.data_dir, settings.log.level)
    runners[process](settings, fd)


def _control(settings: Settings, fd: int | None) -> None:
    import asyncio

    import uvicorn

    from sublet.control.plane import ControlPlane, build_api
    from sublet.tls.serving import Server
    from sublet.wiring.system import Sublet

    secured = Secured(settings.tls.files, time.monotonic) if settings.tls.files else None
    held = _listener(fd, settings.control.host, settings.control.port, "control.port")
    lock = take_control(settings.database_url, settings.data_dir)
    system = Sublet(settings)
    presence = present(system.store, settings, "control")
    plane = ControlPlane(system)
    plane.start()
    config = uvicorn.Config(
        build_api(system, plane),
        log_config=None,
        access_log=False,
        server_header=False,
        ws="none",
        lifespan="off",
        timeout_graceful_shutdown=int(DRAIN_S),
        proxy_headers=False,
    )
    server = Server(config, secured)
    garbage.settle()
    try:
        asyncio.run(server.serve(sockets=[held]))
    finally:
        plane.stop()
        presence.stop()
        system.close()
        lock.close()


def _gateway(settings: Settings, fd: int | None) -> None:
    from sublet.gateway import server as gateway_server
    from sublet.gateway.model import GatewaySettings, ReservedShare, RouteRule, UpstreamRule
    from sublet.ledger.budgets.desk import HoldDesk
    from sublet.models.catalog import built_in
    from sublet.wiring.model_api import gateway_ports
    from sublet.wiring.requests import DeskHolds
    from sublet.wiring.system import Sublet

    held = _listener(fd, settings.gateway.host, settings.gateway.port, "gateway.port")
    system = Sublet(settings)
    gateway_settings = GatewaySettings(
        data_dir=settings.data_dir,
        tls=settings.tls.files,
        overrides={model.name: model.overrides() for model in settings.gateway.models},
        routes=tuple(
            RouteRule(
                route.name,
                tuple(UpstreamRule(to.model, to.weight, to.priority) for to in route.upstreams),
                route.spill,
                route.affinity,
            )
            for route in settings.gateway.routes
        ),
        # What an operator may set has the same name there.
        reserved=tuple(ReservedShare(item.organization, item.model, item.share) for item in settings.gateway.reserved),
        **{
            name: value
            for name, value in settings.gateway
            if name not in ("models", "routes", "reserved", "public_url")
        },
    )
    presence = present(system.store, settings, "gateway")
    desk = HoldDesk(system.store, system.ledger.spending)
    entry = built_in(settings.models.slots, settings.models.context_tokens)
    ports = gateway_ports(
        system.emit_tokens,
        built_in=entry,
        holds=DeskHolds(desk),
        sealing=system.sealing,
        bill=system.bill_tokens,
    )
    try:
        gateway_server.run(gateway_settings, system.store, ports, listener=held)
    finally:
        desk.close()
        presence.stop()
        system.close()


def _engines(settings: Settings, fd: int | None) -> None:
    from sublet.models import host as engine_host
    from sublet.models.catalog import built_in

    store = Store(settings.database_url)
    presence = present(store, settings, "engines")
    reach = MachineReach(lambda: node_id_in(settings.data_dir), alone=store.is_sqlite)
    try:
        entry = built_in(settings.models.slots, settings.models.context_tokens)
        engine_host.run(engine_host.HostSettings(data_dir=settings.data_dir, built_in=entry), store, reach=reach)
    finally:
        presence.stop()
        store.close()


def present(store: Store, settings: Settings, kind: str) -> Presence:
    """From now on the database says that this process serves it. Raises what the database raises."""
    node_id = own_node_id(settings.data_dir)
    made = Presence(store, node_id, settings.control.node or site_name(), kind)
    made.start()
    return made


def _listener(fd: int | None, host: str, port: int, setting: str) -> socket.socket:
    if fd is None:
        return supervisor.bind(host, port, setting)
    return socket.socket(fileno=fd)
