"""`sublet doctor`: tries what this machine can do, and says what is missing and what follows from it."""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import text

from sublet.config.data_dir import running_system
from sublet.config.settings import Settings
from sublet.fleet import discovery
from sublet.launch import supervisor
from sublet.leases.backends.local import host
from sublet.leases.backends.registry import kind_of
from sublet.models import catalog
from sublet.models.model import ModelFileError
from sublet.store import Store
from sublet.store.ballast import Ballast
from sublet.values.errors import SubletError
from sublet.wiring.owned import pool_specs

POOLS_SHOWN = 8
COMFORTABLE_BYTES = 2 * 1024**3

GOOD, WARNING, BAD = "ok", "warning", "missing"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at: what was found, and, where something is missing, what follows and what to do."""

    name: str
    status: str
    found: str
    follows: str = ""
    cure: str = ""

    def as_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "status": self.status,
            "found": self.found,
            "follows": self.follows,
            "cure": self.cure,
        }


def examine(settings: Settings, running: bool | None = None) -> Iterator[Check]:
    """Every check, one after the other; nothing is left changed. `running` says whether Sublet runs here already."""
    if running is None:
        running = running_system(settings.data_dir) is not None
    yield _python()
    yield _accelerators(settings)
    yield from _isolation()
    yield _runtime()
    yield _model_file(settings)
    yield _disk(settings.data_dir)
    yield _database(settings)
    yield from _ports(settings, running)


def _python() -> Check:
    return Check("python", GOOD, f"{sys.version.split()[0]} on {sys.platform}, {os.cpu_count()} cores")


def _accelerators(settings: Settings) -> Check:
    """The pools as the service will own them, settings and discovery together."""
    try:
        pools = pool_specs(settings)
        found = discovery.discover()
    except SubletError as error:
        return Check("accelerators", BAD, error.message, "Sublet does not start", "mend [[pools]] in sublet.toml")
    text = "; ".join(
        f"{pool.name}: {len(pool.devices)} of generation {pool.generation}"
        + (" (simulated)" if kind_of(settings, pool.backend).simulated else "")
        + f", {pool.watts.normalize():f} W each ({pool.watts_source})"
        for pool in pools[:POOLS_SHOWN]
    )
    if len(pools) > POOLS_SHOWN:
        text += f"; and {len(pools) - POOLS_SHOWN} more"
    local = sum(len(pool.devices) for pool in pools if kind_of(settings, pool.backend).on_this_machine)
    if found.generation == "cpu" and local:
        return Check(
            "accelerators",
            GOOD,
            text,
            f"no NVIDIA GPU answers to NVML: the {len(found.devices)} cores are the accelerators"
            + (", in shares, since they are few" if local > len(found.devices) else ""),
            "install the NVIDIA driver if there should be GPUs; or state [[pools]] in sublet.toml",
        )
    return Check("accelerators", GOOD, text)


def _isolation() -> Iterator[Check]:
    can = host.probe()
    if can.reason:
        yield Check("isolation", BAD, can.reason, "raw leases are refused; everything else works", can.cure or "")
        return
    assert can.bwrap is not None
    origin = "from the Python package" if can.bwrap.packaged else "installed on this machine"
    yield Check("isolation", GOOD, f"bubblewrap {can.bwrap.version} ({origin}), user namespaces allowed")
    soft = [f"{name} ({value['how']})" for name, value in can.guarantees().items() if value["level"] != "hard"]
    if soft:
        yield Check(
            "limits per lease",
            WARNING,
            f"not hard: {', '.join(soft)}",
            "one organization at a time may hold leases on this machine"
            if not can.hard
            else "the lease says so to its tenant",
            "run as root, or with delegated cgroups; or set leasing.allow_soft_isolation = true",
        )
    else:
        yield Check("limits per lease", GOOD, "cores, memory, processes, disk and identity are all capped hard")
    door = "OpenSSH's sshd" if can.doors and can.doors[0] == "openssh" else "asyncssh"
    yield Check("ssh door", GOOD, f"{door} inside the sandbox")


def _runtime() -> Check:
    if importlib.util.find_spec("xllamacpp") is None:
        return Check(
            "engine",
            BAD,
            "llama.cpp's runtime (xllamacpp) is not installed",
            "models of the engine llamacpp don't start; models behind a URL do",
            "pip install xllamacpp",
        )
    return Check("engine", GOOD, "llama.cpp (xllamacpp)")


def _model_file(settings: Settings) -> Check:
    if not settings.models.default:
        return Check("model file", GOOD, "no default model is set")
    if settings.models.default != catalog.BUILT_IN.name:
        return Check("model file", GOOD, f"{settings.models.default}: its own engine checks it at its start")
    try:
        path = catalog.verified_weights(catalog.BUILT_IN)
    except ModelFileError as error:
        cure = f"sublet admin pull {settings.models.default}"
        return Check("model file", BAD, error.message, "the default model does not start; everything else works", cure)
    return Check(
        "model file", GOOD, f"{settings.models.default}, {path.stat().st_size // 10**6} MB, its SHA-256 is right"
    )


def _disk(folder: Path) -> Check:
    below = folder
    while not below.exists():
        below = below.parent
    free = shutil.disk_usage(below).free + Ballast(below).held_bytes
    text = f"{free / 1024**3:.1f} GiB free for {folder}"
    if free < supervisor.FREE_BYTES_MIN:
        return Check(
            "disk", BAD, text, "Sublet refuses to start: it could not keep its books", "free space, or set data_dir"
        )
    if free < COMFORTABLE_BYTES:
        return Check("disk", WARNING, text, "few leases have room for their homes", "free space, or set data_dir")
    if not os.access(below, os.W_OK):
        return Check(
            "disk", BAD, f"{below} is not writable", "Sublet can't start", "set data_dir to a folder of your own"
        )
    return Check("disk", GOOD, text)


def _database(settings: Settings) -> Check:
    where = settings.database.url.split("@")[-1] if settings.database.url else settings.database_url
    path = Path(settings.database_url.removeprefix("sqlite:///"))
    if settings.database_url.startswith("sqlite") and not path.exists():
        return Check("database", GOOD, f"{where} will be created at the first start")
    try:
        store = Store(settings.database_url)
        try:
            with store.read() as connection:
                connection.execute(text("SELECT 1"))
        finally:
            store.close()
    except SubletError as error:
        return Check("database", BAD, f"{where}: {error.message}", "Sublet can't start", "check [database] url")
    except Exception as error:
        first = str(error).splitlines()[0]
        return Check("database", BAD, f"{where}: {first}", "Sublet can't start", "check [database] url")
    return Check("database", GOOD, where)


def _ports(settings: Settings, running: bool) -> Iterator[Check]:
    for name, host_name, port in (
        ("control", settings.control.host, settings.control.port),
        ("gateway", settings.gateway.host, settings.gateway.port),
    ):
        if running:
            yield Check(f"port of {name}", GOOD, f"{host_name}:{port}, Sublet runs here now")
            continue
        try:
            supervisor.bind(host_name, port, f"{name}.port").close()
        except SubletError as error:
            yield Check(f"port of {name}", BAD, error.message, "Sublet can't start", f"set {name}.port")
            continue
        yield Check(f"port of {name}", GOOD, _is_free(host_name, port))
    if not running:
        yield _operator_port(settings)
    free = _first(settings.ssh.port_min, settings.ssh.port_max, lambda port: _bindable(settings.ssh.host, port))
    if free is None:
        text = f"no port from {settings.ssh.port_min} to {settings.ssh.port_max} is free"
        yield Check("ports of leases", BAD, text, "no raw lease can start", "set ssh.port_min and ssh.port_max")
    else:
        yield Check("ports of leases", GOOD, f"{settings.ssh.host}, {settings.ssh.port_min} to {settings.ssh.port_max}")


def _operator_port(settings: Settings) -> Check:
    gateway = settings.gateway
    port = gateway.operator_port if gateway.operator_port is not None else gateway.port and gateway.port + 1
    try:
        supervisor.bind(gateway.operator_host, port, "gateway.operator_port").close()
    except SubletError as error:
        return Check("operator's port", BAD, error.message, "nobody can read /metrics", "set gateway.operator_port")
    return Check("operator's port", GOOD, _is_free(gateway.operator_host, port))


def _is_free(host_name: str, port: int) -> str:
    return f"{host_name}:{port} is free" if port else f"{host_name}, any free port"


def _first(low: int, high: int, good: Callable[[int], bool]) -> int | None:
    return next((port for port in range(low, high + 1) if good(port)), None)


def _bindable(address: str, port: int) -> bool:
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as probe:
        try:
            probe.bind((address, port))
        except OSError:
            return False
    return True
