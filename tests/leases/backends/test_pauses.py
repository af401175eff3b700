"""A lease with a deadline on this machine: paused at its notice whatever happens to the control plane, and back with its home."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.leases.machine import Tenant, client_key, kill_shim, local_settings

from sublet.leases.backends.base import RunState, StartOrder
from sublet.leases.backends.local.backend import LocalBackend
from sublet.values.ids import new_id

pytestmark = pytest.mark.real


@pytest.fixture
def order(tmp_path: Path) -> StartOrder:
    line = client_key(tmp_path).with_name("client_key.pub").read_text()
    ends_at = datetime.now(UTC) + timedelta(hours=1)
    return StartOrder(new_id("lse"), "org_a", ("cpu:0",), (line,), ends_at, "deadline", pausable=True)


@pytest.mark.parametrize("crash", [False, True], ids=["nobody asks", "and its shim is killed"])
def test_at_its_notice_it_is_paused_and_comes_back_elsewhere_with_its_home(
    tmp_path: Path, order: StartOrder, crash: bool
) -> None:
    base = tmp_path / "leases"
    backend = LocalBackend(local_settings(base))
    one = Tenant(backend, order.lease_id, tmp_path / "client_key", base)
    backend.start(order)
    try:
        one.wait(RunState.RUNNING)
        assert one.run("echo kept > work.txt")[0] == 0
        at = datetime.now(UTC) + timedelta(seconds=2)
        backend.notice(order.lease_id, at, "paused soon")
        told = json.loads(one.run("cat /run/sublet/lease.json")[1])
        assert told["action"] == "pause" and told["reclaim_at"] is not None
        if crash:
            kill_shim(base, order.lease_id)
        paused = one.wait(RunState.PAUSED)
        assert paused.clean is None and not any(item.open for item in paused.deliveries)
        again = LocalBackend(local_settings(base))
        again.start(replace(order, devices=("cpu:1",)))
        two = Tenant(again, order.lease_id, tmp_path / "client_key", base)
        seen = two.wait(RunState.RUNNING)
        assert seen.reclaim_at is None
        assert two.run("cat work.txt") == (0, "kept")
        assert [item.accelerators for item in seen.deliveries] == [1, 1]
        assert seen.deliveries[0].end <= at < seen.deliveries[1].start or crash
    finally:
        assert one.stop().clean is True
