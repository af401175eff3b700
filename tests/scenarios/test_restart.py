"""A restart touches no lease: what runs for a tenant goes on through SIGTERM and start, until somebody says that it ends."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from tests.scenarios.up import started

from sublet.demand.model import Sample
from sublet.demand.service import Demand
from sublet.leases.backends.local.files import LeaseFiles
from sublet.store import Store
from sublet.story import ssh
from sublet.story.demo import write_settings
from sublet.story.stage import Stage, UpProcess
from sublet.story.steps import wait_for_lease
from sublet.values.clock import SystemClock

pytestmark = [pytest.mark.real, pytest.mark.timeout(240)]

COUNTS = "sh -c 'while true; do date +%s%N >> ~/beats; sleep 0.1; done' >/dev/null 2>&1 & echo $!"


@pytest.fixture
def quiet(folder: Path) -> Iterator[UpProcess]:
    """`sublet up` without a model, on a pool whose demand nobody but the test tells: this machine may be busy."""
    config = write_settings(folder)
    feed = '[pools.prometheus]\nurl = "http://127.0.0.1:9"\nin_use = "up"\n'
    written = config.read_text().replace("[classes.notice]\n", "[classes.notice]\nbroken_per_1000_max = 100\n")
    assert "broken_per_1000_max" in written
    risky = "".join(f"\n[classes.{name}]\nbroken_per_1000_max = 100\n" for name in ("firm", "deadline"))
    config.write_text(f'{written}{feed}{risky}\n[models]\ndefault = ""\n')
    with started(config) as up:
        yield up


@pytest.fixture
def stage(quiet: UpProcess) -> Iterator[Stage]:
    made = Stage(quiet, print)
    yield made
    made.close()


def _rent_firm(stage: Stage, theatre: UpProcess) -> dict[str, Any]:
    """A firm lease of an hour, on a pool whose owner has needed nothing for months."""
    pool = stage.wait("a pool", lambda: stage.operator.get("/v1/pools")["pools"], 20)[0]
    stage.push_demand(pool)
    now = SystemClock().now()
    store = Store(theatre.settings.database_url)
    try:
        hours = [Sample(now - timedelta(hours=hour), pool["accelerators"], 0) for hour in range(130 * 24, 0, -1)]
        Demand(store).record_samples(pool["id"], hours)
    finally:
        store.close()
    order = {"pool": pool["id"], "accelerators": 1, "class": "firm", "duration_s": 3600}

    def firm() -> bool:
        rungs = stage.operator.get(f"/v1/surplus/{pool['id']}")["rungs"]
        return any(rung["alone"] for rung in rungs if rung["class"] == "firm")

    stage.wait("something firm", firm, 180)
    quote = stage.customer.post("/v1/quotes", order, idempotency_key="restart-quote")
    accepted = {"quote_id": quote["id"], "ssh_public_keys": [stage.key.public]}
    lease = stage.customer.post("/v1/leases", accepted, idempotency_key="restart-lease")
    return wait_for_lease(stage, lease["id"], ("active",))


def _shim(theatre: UpProcess, lease_id: str) -> int:
    state = LeaseFiles(theatre.settings.data_dir / "leases", lease_id).read_state()
    assert state is not None and state.pid
    os.kill(state.pid, 0)
    return state.pid


def test_a_firm_lease_outlives_a_restart_and_ends_on_a_word(
    stage: Stage, quiet: UpProcess, folder: Path, remains: Callable[[], list[str]]
) -> None:
    lease = _rent_firm(stage, quiet)
    worker = ssh.run(lease["ssh"], stage.key, COUNTS).strip()
    shim = _shim(quiet, lease["id"])

    assert quiet.stop() < 10
    assert _shim(quiet, lease["id"]) == shim, "the lease was ended with the control plane"
    ssh.run(lease["ssh"], stage.key, "true")
    quiet.start()

    def rounds() -> bool:
        loops = {loop["name"]: loop for loop in stage.operator.get("/v1/health")["loops"]}
        return loops["leases"]["rounds"] >= 3 and not loops["leases"]["failing"]

    stage.wait("the loops", rounds, 20)
    found = stage.customer.get(f"/v1/leases/{lease['id']}")
    assert found["state"] == "active" and found["ssh"] == lease["ssh"]
    assert {step["to"] for step in found["history"]} & {"degraded", "notice", "ending"} == set()
    assert _shim(quiet, lease["id"]) == shim
    beats = ssh.run(lease["ssh"], stage.key, f"kill -0 {worker} && cat ~/beats").split()
    gaps = [int(later) - int(earlier) for earlier, later in pairwise(beats)]
    assert len(gaps) > 10 and max(gaps) < 3e9, "the tenant's process stood still"

    environment = {**os.environ, "SUBLET_CONFIG": str(quiet.config), "SUBLET_DATA_DIR": str(folder)}
    done = subprocess.run(
        [sys.executable, "-m", "sublet", "down", "--end-leases"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert lease["id"] in done.stdout
    assert quiet.process is not None and quiet.process.wait(10) == 0
    assert ssh.refused(lease["ssh"], stage.key)
    assert remains() == []
