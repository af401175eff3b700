"""SIGKILL to every process of a lease and of its keeper, on this machine: nothing is lost, doubled or left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.leases.machine import WAIT_S, Tenant, client_key, kill, local_settings, tenant
from tests.leases.world import KEY

from sublet.leases.backends.base import IsolationUnavailableError, RunState, StartOrder
from sublet.leases.backends.local import host
from sublet.leases.backends.local.backend import LocalBackend
from sublet.leases.backends.local.files import LeaseFiles, State, process_started
from sublet.values.errors import StorageFullError
from sublet.values.ids import new_id

pytestmark = pytest.mark.real


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[LocalBackend]:
    made = LocalBackend(local_settings(tmp_path / "leases"))
    yield made
    for lease_id in made.observe_all():
        assert made.stop(lease_id, "test", 0.0).clean


@pytest.fixture
def one(backend: LocalBackend, tmp_path: Path) -> Tenant:
    return tenant(backend, tmp_path, client_key(tmp_path))


def state_of(one: Tenant) -> State:
    state = LeaseFiles(one.backend._base, one.lease_id).read_state()
    assert state is not None
    return state


def again(one: Tenant) -> None:
    """What the control plane does when it sees the lease without a shim."""
    line = one.key.with_name("client_key.pub").read_text()
    ends_at = one.seen.ends_at
    assert ends_at is not None
    one.backend.start(StartOrder(one.lease_id, "org_a", ("cpu:0",), (line,), ends_at))
    one.wait(RunState.RUNNING)


def bwrap_of(one: Tenant) -> int:
    """The bubblewrap process between the shim and PID 1."""
    return int(Path(f"/proc/{state_of(one).init_pid}/status").read_text().split("PPid:")[1].split()[0])


@pytest.mark.parametrize("victim", ["init", "bwrap"])
def test_a_sandbox_that_dies_is_started_again_by_its_shim(one: Tenant, victim: str) -> None:
    one.run("echo kept > ~/file; nohup sleep 500 >/dev/null 2>&1 &")
    before, port = state_of(one), one.port
    kill(before.init_pid if victim == "init" else bwrap_of(one))
    deadline = time.monotonic() + WAIT_S
    while len(one.seen.deliveries) < 2 or one.seen.state is not RunState.RUNNING:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert one.port == port and one.run("cat ~/file; pgrep sleep || echo fresh")[1].split() == ["kept", "fresh"]
    first, second = one.seen.deliveries
    assert first.end <= second.start and not first.open
    assert not process_started(before.init_pid)


def test_a_killed_shim_takes_the_sandbox_with_it_and_start_brings_the_lease_back(one: Tenant) -> None:
    one.run("echo kept > ~/file")
    before, port = state_of(one), one.port
    kill(before.pid)
    one.wait(RunState.PAUSED)
    deadline = time.monotonic() + WAIT_S
    while process_started(before.init_pid):
        assert time.monotonic() < deadline, "the sandbox outlived its shim"
        time.sleep(0.01)
    again(one)
    assert one.port == port and one.run("cat ~/file")[1] == "kept"
    assert one.seen.endpoint is not None


def test_evidence_of_a_killed_shim_is_kept_and_never_doubled(one: Tenant) -> None:
    time.sleep(2.2)
    kill(state_of(one).pid)
    before = one.seen.deliveries
    assert len(before) == 1 and (before[0].end - before[0].start).total_seconds() >= 1
    again(one)
    after = one.seen.deliveries
    assert after[0] == before[0] and after[1].start >= before[0].end


def test_f10_the_lease_ends_on_time_though_its_keeper_was_killed(tmp_path: Path) -> None:
    """A control plane in a process of its own is SIGKILLed; login works on, the notice counts down, access closes."""
    key = client_key(tmp_path)
    code = f"""
import sys, time
sys.path.insert(0, {str(Path(__file__).parents[3])!r})
from pathlib import Path
from datetime import UTC, datetime, timedelta
from tests.leases.machine import local_settings, tenant
from sublet.leases.backends.local.backend import LocalBackend
base = Path({str(tmp_path)!r})
backend = LocalBackend(local_settings(base / "leases"))
one = tenant(backend, base, Path({str(key)!r}))
backend.notice(one.lease_id, datetime.now(UTC) + timedelta(seconds=4), "notice")
print(one.lease_id, flush=True)
time.sleep(600)
"""
    keeper = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert keeper.stdout is not None
    lease_id = keeper.stdout.readline().strip()
    os.kill(keeper.pid, signal.SIGKILL)
    keeper.wait()
    later = LocalBackend(local_settings(tmp_path / "leases"))
    one = Tenant(later, lease_id, key, tmp_path)
    assert one.run("echo alive")[1] == "alive"
    seen = one.wait(RunState.STOPPED)
    assert (seen.reason, seen.clean) == ("reclaimed", True)
    assert seen.reclaim_at is not None and datetime.now(UTC) < seen.reclaim_at + timedelta(seconds=5)
    assert later.stop(lease_id, "again").reason == "reclaimed"


def test_everything_killed_at_once_is_reaped_from_disk_and_kernel_alone(one: Tenant, tmp_path: Path) -> None:
    one.run("for i in 1 2 3; do (setsid nohup sleep 999 >/dev/null 2>&1 &); done")
    state = state_of(one)
    kill(state.pid)
    later = LocalBackend(local_settings(tmp_path / "leases"))
    for _ in range(2):
        later.reap(frozenset())
        assert later.observe_all() == {}
    assert not list((tmp_path / "leases").glob("lse_*"))
    assert one.lease_id not in Path("/proc/mounts").read_text()


def test_groups_without_a_directory_are_removed(one: Tenant) -> None:
    parents = one.backend.capabilities.cgroup_parents
    if "pids" not in parents:
        pytest.skip("no control groups can be made here")
    stray = Path(parents["pids"]) / f"sublet-{one.backend._instance}-lse_gone"
    stray.mkdir()
    sleeper = subprocess.Popen(["sleep", "600"])
    (stray / "cgroup.procs").write_text(str(sleeper.pid))
    one.backend.reap(frozenset({one.lease_id}))
    assert sleeper.wait(10) == -signal.SIGKILL and not stray.exists()
    assert one.seen.state is RunState.RUNNING


def test_a_shim_that_hangs_is_killed_and_its_work_done(one: Tenant) -> None:
    state = state_of(one)
    os.kill(state.pid, signal.SIGSTOP)
    assert one.stop().clean
    assert not process_started(state.pid) and not process_started(state.init_pid)


def test_time_in_which_the_shim_hung_is_not_evidence(one: Tenant) -> None:
    time.sleep(1.2)
    state = state_of(one)
    os.kill(state.pid, signal.SIGSTOP)
    time.sleep(7)
    os.kill(state.pid, signal.SIGCONT)
    deadline = time.monotonic() + WAIT_S
    while len(one.seen.deliveries) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    first, second = one.seen.deliveries
    assert (second.start - first.end).total_seconds() > 5


def test_starts_from_many_sides_are_one_lease(backend: LocalBackend, tmp_path: Path) -> None:
    order = StartOrder(new_id("lse"), "org_a", ("cpu:0",), (KEY,), datetime.now(UTC) + timedelta(seconds=60))
    backends = [backend, LocalBackend(local_settings(tmp_path / "leases"))]
    backend.start(order)
    threads = [threading.Thread(target=backends[index % 2].start, args=(order,)) for index in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    Tenant(backend, order.lease_id, tmp_path, tmp_path).wait(RunState.RUNNING)
    commands = [_command(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    shims = [command for command in commands if order.lease_id in command and "local.shim" in command]
    assert len(shims) == 1


def _command(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"state": "running"}'])
def test_a_damaged_state_file_loses_no_lease(one: Tenant, damage: bytes) -> None:
    one.run("echo kept > ~/file")
    path = one.backend._base / one.lease_id / "state.json"
    kill(state_of(one).pid)
    path.write_bytes(damage)
    assert one.seen.state is RunState.PAUSED
    again_order = one.key.with_name("client_key.pub").read_text()
    end = datetime.now(UTC) + timedelta(seconds=60)
    one.backend.start(StartOrder(one.lease_id, "org_a", ("cpu:0",), (again_order,), end))
    one.wait(RunState.RUNNING)
    assert one.run("cat ~/file")[1] == "kept"


def test_no_free_port_is_one_clear_sentence(tmp_path: Path) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        backend = LocalBackend(local_settings(tmp_path, port_first=port, port_last=port))
        order = StartOrder(new_id("lse"), "org_a", ("cpu:0",), (KEY,), datetime.now(UTC) + timedelta(seconds=60))
        backend.start(order)
        seen = Tenant(backend, order.lease_id, tmp_path, tmp_path).wait(RunState.FAILED)
    assert "every port from" in (seen.error or "") and seen.clean is True


def test_a_sandbox_that_cannot_start_says_why_and_leaves_nothing(tmp_path: Path) -> None:
    from dataclasses import replace

    good = LocalBackend(local_settings(tmp_path)).capabilities
    assert good.bwrap is not None
    broken = replace(good, bwrap=replace(good.bwrap, path="/bin/false", binds=()))
    backend = LocalBackend(local_settings(tmp_path), broken)
    order = StartOrder(new_id("lse"), "org_a", ("cpu:0",), (KEY,), datetime.now(UTC) + timedelta(seconds=60))
    backend.start(order)
    seen = Tenant(backend, order.lease_id, tmp_path, tmp_path).wait(RunState.FAILED)
    assert "did not start" in (seen.error or "") and seen.clean is True
    assert seen.deliveries == ()


def test_no_room_on_the_disk_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    backend = LocalBackend(local_settings(tmp_path, disk_bytes=1 << 50))
    order = StartOrder(new_id("lse"), "org_a", ("cpu:0",), (KEY,), datetime.now(UTC) + timedelta(seconds=60))
    with pytest.raises(StorageFullError):
        backend.start(order)
    assert backend.observe_all() == {}


def test_the_home_is_kept_for_the_stated_time(tmp_path: Path) -> None:
    base = tmp_path / "leases"
    backend = LocalBackend(local_settings(base, home_keep_s=3600))
    one = tenant(backend, tmp_path, client_key(tmp_path))
    one.run("echo precious > ~/file; sync")
    assert one.stop().clean
    kept = base / "archive" / one.lease_id
    assert [path.name for path in kept.iterdir() if path.name != "until"] in (["home.img"], ["home"])
    (kept / "until").write_text("1")
    backend.reap(frozenset({one.lease_id}))
    assert not kept.exists()


def test_probe_tells_what_is_missing_and_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(host, "find_bwrap", lambda **_: None)
    able = host.probe()
    assert able.reason is not None and "bubblewrap" in able.reason and "install" in (able.cure or "")
    backend = LocalBackend(local_settings(tmp_path), able)
    order = StartOrder(new_id("lse"), "org_a", ("cpu:0",), (KEY,), datetime.now(UTC) + timedelta(seconds=60))
    with pytest.raises(IsolationUnavailableError, match="bubblewrap"):
        backend.start(order)


def test_a_kernel_that_forbids_user_namespaces_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Seen from a process that may make none: the limit of user namespaces of its own is zero."""
    code = (
        "import ctypes,sys\nlibc=ctypes.CDLL(None)\nassert libc.unshare(0x10000000)==0\n"
        "open('/proc/sys/user/max_user_namespaces','w').write('0')\n"
        f"sys.path.insert(0,{str(Path(host.__file__).parents[4])!r})\n"
        "from sublet.leases.backends.local.host import _try_namespaces, find_bwrap\n"
        "print(*_try_namespaces(find_bwrap(), None), sep='|')"
    )
    become = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "/usr/bin/python3"]
    command = become if os.geteuid() == 0 else [sys.executable]
    done = subprocess.run([*command, "-c", code], capture_output=True, text=True, check=False)
    if "max_user_namespaces" not in done.stdout and "refused" not in done.stdout:
        pytest.skip(f"the limit can't be set here: {done.stderr[-200:]}")
    assert "user namespaces" in done.stdout


class OrdinaryUser:
    """Runs a snippet as an ordinary user, who owns a directory of his own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def run(self, code: str) -> str:
        root = Path(__file__).parents[3]
        packages = next(path for path in sys.path if path.endswith("site-packages"))
        prelude = (
            f"import sys\nsys.path[:0]=[{str(root / 'src')!r},{str(root)!r},{packages!r}]\n"
            "from pathlib import Path\nfrom datetime import UTC, datetime, timedelta\n"
            "from tests.leases.machine import *\nfrom sublet.leases.backends.base import *\n"
            f"base=Path({str(self.directory)!r})\n"
        )
        become = ["setpriv", "--reuid", "47011", "--regid", "47011", "--clear-groups", "/usr/bin/python3", "-c"]
        done = subprocess.run(
            [*become, prelude + code],
            capture_output=True, text=True, timeout=120, check=False,
            env={"HOME": str(self.directory), "PATH": os.environ["PATH"], "LOGNAME": "somebody"},
        )  # fmt: skip
        if "ModuleNotFoundError" in done.stderr or "PermissionError" in done.stderr.splitlines()[-1:]:
            pytest.skip("an ordinary user can't read the packages that the tests run with")
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout


@pytest.fixture
def ordinary() -> Iterator[OrdinaryUser]:
    import shutil
    import tempfile

    if os.geteuid() != 0 or not Path("/usr/bin/python3").exists() or shutil.which("setpriv") is None:
        pytest.skip("needs root, to become somebody else")
    if not os.access("/work", os.X_OK) and not os.access(Path(__file__), os.R_OK):
        pytest.skip("the checkout can't be read by an ordinary user")
    directory = Path(tempfile.mkdtemp(prefix="sublet-user-", dir="/tmp"))
    os.chown(directory, 47011, 47011)
    yield OrdinaryUser(directory)
    shutil.rmtree(directory, ignore_errors=True)


def test_an_ordinary_user_gets_a_lease_and_is_told_what_is_soft(ordinary: OrdinaryUser) -> None:
    """F30: where processes are counted for all tenants together, a second tenant is refused."""
    said = ordinary.run(
        "import json\nbackend=LocalBackend(local_settings(base/'l', allow_soft_isolation=False, force_asyncssh=True))\n"
        "one=tenant(backend, base, client_key(base))\n"
        "import asyncio, asyncssh\n"
        "async def look():\n"
        "    async with asyncssh.connect('127.0.0.1', port=one.port, username='tenant', known_hosts=None,"
        " client_keys=[str(one.key)]) as c:\n"
        "        return (await c.run('nproc; id -un')).stdout.split()\n"
        "inside=asyncio.run(look())\n"
        "refused=False\n"
        "try: tenant(backend, base, one.key, 'cpu:1', who='org_b')\n"
        "except SoftIsolationError: refused=True\n"
        "levels={k: v['level'] for k, v in one.seen.guarantees.items()}\n"
        "print(json.dumps([inside, refused, levels, backend.tenants_max, one.stop().clean]))\n"
    )
    inside, refused, levels, tenants_max, clean = json.loads(said)
    assert inside == ["1", "tenant"] and clean is True
    assert refused is True and tenants_max == 1
    assert levels["memory"] == levels["processes"] == levels["identity"] == "soft"
    assert levels["cpu"] == levels["network"] == levels["teardown"] == "hard"


def test_namespaces_that_only_root_may_make_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root becomes somebody else")
    assert host.probe().reason is None
    monkeypatch.setattr(host, "_namespaces_allowed", lambda uid: False)
    able = host.probe()
    assert able.reason is not None and "not the host uid of a lease" in able.reason and able.cure


def test_a_forgotten_lease_gives_its_uid_back(backend: LocalBackend, tmp_path: Path) -> None:
    from sublet.leases.backends.local.uids import CLAIMS

    if not backend.capabilities.as_root:
        pytest.skip("uids are given as root alone")
    one = tenant(backend, tmp_path, client_key(tmp_path), seconds=2)
    spec = LeaseFiles(backend._base, one.lease_id).read_spec()
    assert spec is not None and (CLAIMS / str(spec.uid)).exists()
    one.wait(RunState.STOPPED)
    backend.forget(one.lease_id)
    assert not (CLAIMS / str(spec.uid)).exists()
