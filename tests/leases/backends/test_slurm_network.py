"""A lease on a real Slurm cluster reaches what is on its allow list, from each of its nodes, and nothing else."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from tests.leases.backends.test_egress import LOOPBACK, Index
from tests.leases.backends.test_egress import index as index
from tests.leases.backends.test_slurm import Site
from tests.leases.backends.test_slurm import site as site

from sublet.leases.backends.base import RunState
from sublet.leases.backends.local.egress import EGRESS_LOGS
from sublet.leases.backends.slurm.files import SlurmFiles
from sublet.leases.backends.slurm.settings import SlurmSettings

pytestmark = pytest.mark.real


def ask(url: str) -> str:
    code = f"import urllib.request as u; print(u.urlopen('{url}', timeout=20).read())"
    return f'env -u no_proxy -u NO_PROXY /usr/bin/python3 -c "{code}" 2>&1 || true'


def permitted(site: Site) -> SlurmSettings:
    stated = site.cluster.settings(site.shared)
    return replace(stated, sandbox={**stated.sandbox, "egress_permitted": (LOOPBACK,)})


def test_each_node_reaches_the_list_and_counts_and_the_log_outlives_the_lease(site: Site, index: Index) -> None:
    """The index is on this machine's loopback, which only a test permits."""
    site.changes = {"sandbox": permitted(site).sandbox}
    site.backend = site.fresh()
    url = f"http://localhost:{index.port}/simple/tinypkg/"
    order = replace(site.order(nodes=2), egress=(f"localhost:{index.port}",))
    site.backend.start(order)
    seen = site.until(order.lease_id, "running", lambda seen: seen.state is RunState.RUNNING)
    for door in seen.endpoints:
        assert "tinypkg-1.0" in site.login(door, ask(url))
        assert "403" in site.login(door, ask(f"http://localhost:{index.port + 1}/"))
    seen = site.until(
        order.lease_id, "traffic of both", lambda seen: (seen.traffic or {}).get("refused", 0) == 2 and seen.traffic is not None
        and seen.traffic["connections"] == 2
    )  # fmt: skip
    assert seen.traffic is not None and seen.traffic["bytes_in"] > 0
    # It comes back as another job, and counts on.
    site.backend.pause(order.lease_id)
    site.backend.start(order)
    seen = site.until(order.lease_id, "running again", lambda seen: seen.state is RunState.RUNNING)
    assert "tinypkg-1.0" in site.login(seen.endpoint, ask(url))
    site.until(order.lease_id, "three in all", lambda seen: (seen.traffic or {}).get("connections") == 3)
    ended = site.backend.stop(order.lease_id, "released")
    assert ended.clean and ended.traffic is not None and ended.traffic["connections"] == 3
    site.backend.forget(order.lease_id)
    assert not SlurmFiles(site.shared, order.lease_id).root.exists()
    kept = [path for path in (site.shared / EGRESS_LOGS).iterdir() if order.lease_id in path.name]
    lines = [json.loads(line) for path in kept for line in path.read_text().splitlines()]
    assert {path.name.split(".")[2] for path in kept} == {"0", "1"}
    assert {line["lease"] for line in lines} == {order.lease_id} and len(lines) >= 4
    assert site.backend.observe_all() == {}, "the logs are no lease"


def test_without_a_list_a_node_reaches_nothing(site: Site, index: Index) -> None:
    order, seen = site.running()
    said = site.login(seen.endpoint, ask(f"http://localhost:{index.port}/simple/tinypkg/"))
    assert "tinypkg" not in said and "refused" in said.lower()
    assert seen.traffic is None
    assert site.backend.stop(order.lease_id, "released").clean
