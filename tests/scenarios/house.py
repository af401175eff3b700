"""Two control planes on one PostgreSQL, with a shared pool and one of their own each."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import select

from sublet.accounts.service import Accounts
from sublet.demand.model import Sample
from sublet.demand.service import Demand
from sublet.fleet.node_store import all_leaders
from sublet.fleet.reach import pool_lead
from sublet.launch.supervisor import bind
from sublet.leases.backends.simulated_shared import SharedSimulatedBackend
from sublet.simulation.world import SSH_KEY
from sublet.store import Store
from sublet.store.tables.processes import processes
from sublet.values.clock import SystemClock

MORTAL = Path(__file__).with_name("mortal.py")


class Plane:
    """`sublet serve control` on a data directory of its own; with `aim`, one that kills itself where that file says."""

    def __init__(self, folder: Path, name: str, database: str, shared: Path, aim: Path | None = None) -> None:
        self.name = name
        self.aim = aim
        self.folder = folder / name
        self.folder.mkdir()
        held = bind("127.0.0.1", 0, "control.port")
        self.port = held.getsockname()[1]
        held.close()
        pools = "".join(
            f'[[pools]]\nname = "{pool}"\nbackend = "simulated"\ngeneration = "h100"\nsite = "nowhere"\naccelerators = 8\n'
            'watts = "700"\nprice_per_accelerator_hour = "2.00"\n\n'
            for pool in ("both", f"of-{name}")
        )
        self.config = self.folder / "sublet.toml"
        self.config.write_text(
            f'data_dir = "{self.folder}"\n\n[database]\nurl = "{database}"\n\n[models]\ndefault = ""\n\n'
            f'[control]\nport = {self.port}\nnode = "{name}"\ntick_s = 0.2\n\n[leasing]\nsimulated_file = "{shared}"\n\n{pools}'
        )
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("SUBLET_")}
        program = ["-m", "sublet", "serve", "control"]
        if self.aim is not None:
            program, environment["MORTAL_AIM"] = [str(MORTAL)], str(self.aim)
        with (self.folder / "stderr").open("ab") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, *program],
                env={**environment, "SUBLET_CONFIG": str(self.config)},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                start_new_session=True,
            )
        until(self.answers, f"{self.name} to answer", 60)

    def answers(self) -> bool:
        assert self.process is not None and self.process.poll() is None, (self.folder / "stderr").read_text()
        with contextlib.suppress(OSError):
            return bool(self.ask("", "/health"))
        return False

    def kill(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def ask(self, key: str, path: str, body: dict[str, Any] | None = None) -> Any:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}",
            None if body is None else json.dumps(body).encode(),
            {"authorization": f"Bearer {key}", "content-type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{path}: {error.code} {error.read()!r}") from error


def until(holds: Callable[[], Any], what: str, seconds_max: float) -> Any:
    deadline = time.monotonic() + seconds_max
    while not (found := holds()):
        assert time.monotonic() < deadline, f"waited {seconds_max} s for {what}"
        time.sleep(0.05)
    return found


class House:
    """Both planes, the database, and what the shared pool's machines say."""

    def __init__(self, folder: Path, database: str, aim: Path | None = None) -> None:
        self.shared = folder / "cluster.json"
        self.planes = {name: Plane(folder, name, database, self.shared, aim) for name in ("alpha", "beta")}
        for plane in self.planes.values():
            plane.start()
        self.store = Store(database)
        self.customer = Accounts(self.store).create_organization("customer").id
        self.key = Accounts(self.store).create_key(self.customer, "test", ["leases"])[1]
        self.operator = Accounts(self.store).ensure_operator() or ""
        self.cluster = SharedSimulatedBackend(SystemClock(), self.shared)
        self.pools = {pool["name"]: pool for pool in self.planes["alpha"].ask(self.key, "/v1/pools")["pools"]}
        now = SystemClock().now()
        for pool in self.pools.values():
            hours = [Sample(now - timedelta(hours=hour), 8, 0) for hour in range(10 * 24, -1, -1)]
            Demand(self.store).record_samples(pool["id"], hours)

    def close(self) -> None:
        for plane in self.planes.values():
            if plane.process is not None and plane.process.poll() is None:
                plane.kill()
        self.store.close()

    def rent(self, plane: Plane, pool: str, service_class: str = "spot") -> str:
        order = {"pool": pool, "accelerators": 1, "class": service_class, "duration_s": 900}
        quote = plane.ask(self.key, "/v1/quotes", order)
        return str(plane.ask(self.key, "/v1/leases", {"quote_id": quote["id"], "ssh_public_keys": [SSH_KEY]})["id"])

    def lease(self, lease_id: str) -> dict[str, Any]:
        alive = next(plane for plane in self.planes.values() if plane.process and plane.process.poll() is None)
        found: dict[str, Any] = alive.ask(self.key, f"/v1/leases/{lease_id}")
        return found

    def leader(self, pool: str) -> Plane | None:
        """Who leads a shared pool now, if it lives."""
        with self.store.read() as connection:
            held = all_leaders(connection).get(pool_lead(self.pools[pool]["id"]))
            pids = {row.node_id: row.pid for row in connection.execute(select(processes))}
        pid = pids.get(held.node_id) if held is not None else None
        running = (plane for plane in self.planes.values() if plane.process and plane.process.poll() is None)
        return next((plane for plane in running if plane.process and plane.process.pid == pid), None)

    def unharmed(self, lease_id: str, state: str) -> None:
        """It is in that state; it was started once, and its tenant was told nothing."""
        until(lambda: self.lease(lease_id)["state"] == state, f"{lease_id} to be {state}", 30)
        found = self.lease(lease_id)
        seen = {step["to"] for step in found["history"]}
        assert found["reclaim_at"] is None and not seen & {"notice", "degraded", "failed"}, found
        run = self.cluster.observe(lease_id)
        assert len(run.deliveries) == 1 and self.cluster.told(lease_id) == [], run
