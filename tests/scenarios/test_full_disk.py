"""The whole system on a disk that something else fills: a tenant goes on working, books are kept, and nobody has to mend anything."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.leases.backends.test_disk import fill, free, small
from tests.scenarios.test_restart import _rent_firm

from sublet.leases.backends.local.backend import MIB
from sublet.leases.backends.local.files import LeaseFiles
from sublet.story.demo import write_settings
from sublet.story.stage import Stage, UpProcess
from sublet.story.steps import wait_for_lease
from sublet.values.errors import SubletError
from sublet.wiring.system import local_backend

pytestmark = [pytest.mark.real, pytest.mark.timeout(240)]
__all__ = ["small"]
ORDER = {"pool": "this-machine", "accelerators": 1, "class": "spot", "duration_s": 600}


@pytest.fixture
def crowded(small: Path) -> Iterator[UpProcess]:
    """`sublet up` on the small disk, without a model, on a pool whose demand nobody but the test tells."""
    config = write_settings(small / "s")
    feed = '[pools.prometheus]\nurl = "http://127.0.0.1:9"\nin_use = "up"\n'
    written = config.read_text().replace("[classes.notice]\n", "[classes.notice]\nbroken_per_1000_max = 100\n")
    assert "broken_per_1000_max" in written
    risky = "".join(f"\n[classes.{name}]\nbroken_per_1000_max = 100\n" for name in ("firm", "deadline"))
    config.write_text(f'{written}{feed}{risky}\n[models]\ndefault = ""\n')
    up = UpProcess(config)
    up.start()
    try:
        yield up
    finally:
        for pid in up.pids().values():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 9)
        if up.process is not None:
            up.process.wait(20)
        local_backend(up.settings).reap(frozenset())


@pytest.fixture
def stage(crowded: UpProcess) -> Iterator[Stage]:
    made = Stage(crowded, print)
    yield made
    made.close()


def test_f29_f31_a_full_disk_and_kills_in_the_middle_of_it(
    stage: Stage, crowded: UpProcess, small: Path, tmp_path: Path
) -> None:
    lease = _rent_firm(stage, crowded)
    key = tmp_path / "key"
    key.touch(mode=0o600)
    key.write_bytes(stage.key.private.export_private_key())

    def login(command: str) -> str:
        door = stage.customer.get(f"/v1/leases/{lease['id']}")["ssh"]
        hosts = tmp_path / "hosts"
        hosts.write_text(f"lease {door['host_key']}\n")
        done = subprocess.run(
            ["ssh", "-F", "none", "-p", str(door["port"]), "-i", str(key), "-o", f"UserKnownHostsFile={hosts}",
             "-o", "HostKeyAlias=lease", "-o", "StrictHostKeyChecking=yes", "-o", "LogLevel=ERROR",
             f"{door['user']}@{door['host']}", command],
            capture_output=True, text=True, timeout=60, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def disk_fails() -> bool:
        return any(loop["name"] == "disk" and loop["failing"] for loop in stage.operator.get("/v1/health")["loops"])

    login("echo kept > ~/file; sync")
    stage.wait("the reserve", lambda: (crowded.settings.data_dir / "reserve").exists(), 20)
    filler = fill(small)
    stage.wait("the alarm", disk_fails, 20)
    assert not (crowded.settings.data_dir / "reserve").exists() and free(small) > 16 * MIB

    # The tenant uses what was promised before anybody else is served.
    assert login("dd if=/dev/zero of=~/big bs=1M count=150 2>/dev/null; sync; stat -c %s ~/big") == str(150 * MIB)
    state = LeaseFiles(crowded.settings.data_dir / "leases", lease["id"]).read_state()
    assert state is not None
    os.kill(state.pid, 9)
    os.kill(crowded.pids()["control"], 9)

    def back() -> bool:
        with contextlib.suppress(SubletError, OSError, AssertionError, subprocess.TimeoutExpired):
            return login("cat ~/file") == "kept"
        return False

    stage.wait("the same lease", back, 60)
    served = local_backend(crowded.settings).served_max
    assert served() == 0
    with pytest.raises(SubletError, match="not enough capacity"):
        stage.customer.post("/v1/quotes", ORDER)
    stage.customer.post(f"/v1/leases/{lease['id']}/end", {})
    ended = wait_for_lease(stage, lease["id"], ("ended",))
    assert ended["end_reason"] == "released" and free(small) > 64 * MIB
    filler.unlink()
    stage.wait("the reserve again", lambda: not disk_fails(), 60)
    quote = stage.wait("a quote", lambda: _quote(stage), 30)
    assert quote["id"]


def _quote(stage: Stage) -> dict[str, str] | None:
    try:
        found: dict[str, str] = stage.customer.post("/v1/quotes", ORDER)
    except SubletError as error:
        print(error.message)
        return None
    return found
