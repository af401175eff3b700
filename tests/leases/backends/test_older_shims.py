"""Shims that released versions started, under today's control plane: an upgrade finds them running, and ends them clean.

The older code is what this repository has of that version, so that nothing here stands in for it.
"""

from __future__ import annotations

import subprocess
import sys
import tarfile
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path

import pytest
from tests.leases.machine import DISK_BYTES, MEMORY_BYTES, PROCESSES_MAX, Tenant, client_key, kill_shim, local_settings

from sublet.leases.backends.base import BackendFailedError, RunState, StartOrder
from sublet.leases.backends.local.backend import LocalBackend
from sublet.leases.backends.local.files import PROTOCOL, LeaseFiles
from sublet.values.ids import new_id

pytestmark = pytest.mark.real

ROOT = Path(__file__).resolve().parents[3]
RELEASED = {
    "0.1": ("3b4a8228bac4f70048352f6aeb882a06361b5f97", 1),
    "0.2.0": ("014b57a890064dcf0c0b0ed8144ed57ab6ac3898", 2),
}
"""The commit of each version, and the protocol that its shims speak. When a version is released, add it."""

START = """
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sublet.leases.backends.base import StartOrder
from sublet.leases.backends.local.backend import LocalBackend, LocalSettings

base, lease, key, memory, disk, processes = sys.argv[1:]
settings = LocalSettings(
    base=Path(base), accelerators=2, memory_bytes=int(memory), disk_bytes=int(disk), processes_max=int(processes),
    allow_soft_isolation=True,
)
ends_at = datetime.now(UTC) + timedelta(hours=1)
LocalBackend(settings).start(StartOrder(lease, "org_a", ("cpu:0",), (Path(key).read_text(),), ends_at))
import sublet
print(sublet.__file__)
"""


@pytest.fixture(params=RELEASED, ids=str)
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def source(version: str, tmp_path: Path) -> Path:
    """The code of that version, as it was."""
    packed = subprocess.run(["git", "archive", RELEASED[version][0], "src"], cwd=ROOT, capture_output=True, check=False)
    if packed.returncode:
        pytest.skip(f"this checkout does not have the commit of {version}: it was cloned without its history")
    with tarfile.open(fileobj=BytesIO(packed.stdout)) as archive:
        archive.extractall(tmp_path / "older", filter="data")
    return tmp_path / "older" / "src"


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return tmp_path / "leases"


@pytest.fixture
def tenant(version: str, source: Path, base: Path, tmp_path: Path) -> Tenant:
    """A lease that the older version started; its control plane is gone, and today's looks at it."""
    key = client_key(tmp_path)
    lease_id = new_id("lse")
    sizes = [str(size) for size in (MEMORY_BYTES, DISK_BYTES, PROCESSES_MAX)]
    done = subprocess.run(
        [sys.executable, "-c", START, str(base), lease_id, str(key.with_name("client_key.pub")), *sizes],
        env={"PYTHONPATH": str(source), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().startswith(str(source)), "today's code started it"
    found = Tenant(LocalBackend(local_settings(base)), lease_id, key, base)
    found.wait(RunState.RUNNING)
    return found


def test_it_is_observed_warned_extended_and_ended_clean(version: str, tenant: Tenant, base: Path) -> None:
    backend, lease_id = tenant.backend, tenant.lease_id
    state = LeaseFiles(base, lease_id).read_state()
    assert state is not None and state.protocol == RELEASED[version][1]
    assert list(backend.observe_all()) == [lease_id]
    assert tenant.run("echo kept > work.txt; id -un") == (0, "tenant")
    (delivery,) = tenant.seen.deliveries
    assert (delivery.accelerators, delivery.open) == (1, True)
    at = datetime.now(UTC).replace(microsecond=0) + timedelta(minutes=5)
    assert backend.notice(lease_id, at, "the owner needs it").reclaim_at == at
    assert '"reclaim_at"' in tenant.run("cat /run/sublet/lease.json")[1]
    assert backend.withdraw_notice(lease_id).reclaim_at is None
    later = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=2)
    assert backend.extend(lease_id, later).ends_at == later
    assert backend.reap(frozenset({lease_id})) == [], "a lease that is known was taken for an orphan"
    seen = tenant.stop()
    assert (seen.state, seen.clean) == (RunState.STOPPED, True)
    assert not LeaseFiles(base, lease_id).held()
    backend.forget(lease_id)
    assert backend.observe_all() == {}


def test_what_it_does_not_know_is_refused_and_it_goes_on(version: str, tenant: Tenant) -> None:
    if RELEASED[version][1] >= PROTOCOL:
        assert tenant.backend.pause(tenant.lease_id).state is RunState.PAUSED
    else:
        with pytest.raises(BackendFailedError, match="older version that does not support 'pause'"):
            tenant.backend.pause(tenant.lease_id)
        assert tenant.run("true")[0] == 0
    assert tenant.stop().clean is True


def test_when_it_dies_todays_brings_the_lease_back_with_its_home(tenant: Tenant, base: Path, tmp_path: Path) -> None:
    assert tenant.run("echo kept > work.txt")[0] == 0
    port = tenant.port
    kill_shim(base, tenant.lease_id)
    line = tenant.key.with_name("client_key.pub").read_text()
    ends_at = datetime.now(UTC) + timedelta(hours=1)
    tenant.backend.start(StartOrder(tenant.lease_id, "org_a", ("cpu:0",), (line,), ends_at))
    tenant.wait(RunState.RUNNING)
    state = LeaseFiles(base, tenant.lease_id).read_state()
    assert state is not None and (state.protocol, state.port) == (PROTOCOL, port)
    assert tenant.run("cat work.txt") == (0, "kept")
    assert tenant.stop().clean is True
