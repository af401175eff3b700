"""A lease of a Sublet that runs as an ordinary user: it keeps running, and ends clean."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.leases.machine import client_key

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user"),
]
USER = "nobody"
PROGRAM = """
import sys, time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from sublet.leases.backends.base import StartOrder
from sublet.leases.backends.local.backend import MIB, LocalBackend, LocalSettings
from sublet.values.ids import new_id

base, key = Path(sys.argv[1]), sys.argv[2]
backend = LocalBackend(LocalSettings(base, accelerators=1, memory_bytes=256 * MIB, disk_bytes=64 * MIB, allow_soft_isolation=True))
order = StartOrder(new_id("lse"), "org_a", ("cpu:0",), (key,), datetime.now(UTC) + timedelta(seconds=300))
backend.start(order)
deadline, served_s = time.monotonic() + 60, 0.0
while time.monotonic() < deadline and served_s < 3:
    time.sleep(0.05)
    seen = backend.observe(order.lease_id)
    if seen.state.over:
        break
    served_s = sum((item.end - item.start).total_seconds() for item in seen.deliveries)
print(seen.state, len(seen.deliveries), backend.stop(order.lease_id, "test", 0.0).clean)
"""


@pytest.fixture
def theirs() -> Iterator[Path]:
    """A directory of that user."""
    folder = Path(tempfile.mkdtemp(prefix="sublet-"))
    shutil.chown(folder, USER)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def test_a_lease_outlives_the_figures_that_its_shim_writes(theirs: Path, tmp_path: Path) -> None:
    """The shim writes the lease's /proc every second, which only root could do over files that nobody may write."""
    key = client_key(tmp_path).with_name("client_key.pub").read_text()
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(theirs / "leases"), key],
        user=USER, extra_groups=[], cwd=theirs, env={"PATH": os.environ["PATH"], "HOME": str(theirs)},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    if "PermissionError" in done.stderr and "site-packages" in done.stderr:
        pytest.skip("this user can't read the installation")
    assert done.stdout.split() == ["running", "1", "True"], done.stdout + done.stderr
