"""What a tenant can find out about the machine and its other tenants: the lease's own figures, and no path, uid or name of theirs."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.leases.machine import MEMORY_BYTES, WAIT_S, Tenant, client_key, local_settings, tenant

import sublet
from sublet.leases.backends.local.backend import LocalBackend
from sublet.leases.backends.local.files import LeaseFiles
from sublet.leases.backends.local.procfiles import PASSED, SETTINGS

pytestmark = pytest.mark.real

PYTHON = "$(command -v python3 || ls /opt/sublet/python/bin/python3.*[0-9] | head -1)"
KIB = 1024
HEADERS = {"swaps", "partitions"}
"""Tables without a line: the same on a machine that has no swap."""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("leaks")


@pytest.fixture(scope="module", params=["openssh", "asyncssh"])
def one(request: pytest.FixtureRequest, base: Path) -> Iterator[Tenant]:
    packaged = request.param == "asyncssh"
    settings = local_settings(base / request.param, force_asyncssh=packaged, force_packaged_bwrap=packaged)
    backend = LocalBackend(settings)
    if request.param not in backend.capabilities.doors:
        pytest.skip("this host has no OpenSSH server")
    found = tenant(backend, settings.base, client_key(base))
    yield found
    assert found.stop().clean


def said(one: Tenant, command: str) -> str:
    status, text = one.run(command)
    assert status == 0, text
    return text


def as_root(one: Tenant) -> None:
    if not one.backend.capabilities.as_root:
        pytest.skip("as an ordinary user a sandbox is bound from where its files lie; the manual says so")


def test_no_mount_names_a_path_of_the_machine(one: Tenant) -> None:
    as_root(one)
    text = said(
        one,
        "cat /proc/self/mountinfo /proc/self/mounts /proc/self/mountstats /proc/1/mountinfo /etc/mtab 2>/dev/null; true",
    )
    private = [str(one.base), str(one.base.parent), str(Path(sublet.__file__).parent), "site-packages/", "/root", "/home/", "/var",
               "/srv", "contents", "pytest"]  # fmt: skip
    if not sys.base_prefix.startswith("/usr"):
        private.append(sys.base_prefix)
    for line in text.splitlines():
        shown = line.replace(" /home/tenant ", " ").replace("/opt/sublet/python/lib/", "")
        assert not [word for word in private if word in shown], line
    for line in said(one, "cat /proc/self/mountinfo").splitlines():
        root, inside = line.split()[3:5]
        system = root.startswith(("/usr", "/bin", "/sbin", "/lib", "/etc/")) and root == inside
        in_memory = " - tmpfs " in line or " - overlay " in line
        assert root == "/" or system or in_memory or inside.startswith("/dev/"), line


def test_memory_and_processors_are_the_leases(one: Tenant) -> None:
    rows = {
        line.split(":")[0]: int(line.split()[1]) for line in said(one, "cat /proc/meminfo").splitlines() if line.strip()
    }
    assert rows["MemTotal"] == MEMORY_BYTES // KIB and rows["SwapTotal"] == 0
    if one.run("command -v free")[0] == 0:
        assert int(said(one, "free -b").split()[7]) == MEMORY_BYTES
    assert said(one, "nproc; grep -c ^processor /proc/cpuinfo; grep -c '^cpu[0-9]' /proc/stat").split() == [
        "1",
        "1",
        "1",
    ]
    assert said(one, f"{PYTHON} -c 'import os; print(os.cpu_count())'") == "1"
    if one.seen.guarantees["memory"]["level"] == "hard":
        used = f"{PYTHON} -c 'import time; x=bytearray(120<<20); time.sleep(60)'"
        hog, deadline = one.background(used), time.monotonic() + WAIT_S
        while int(said(one, "grep MemFree /proc/meminfo").split()[1]) > (MEMORY_BYTES - (100 << 20)) // KIB:
            assert time.monotonic() < deadline
        hog.kill()
        hog.wait()
        one.run("pkill -f bytearray")


def test_its_clock_starts_with_it_and_times_agree(one: Tenant) -> None:
    as_root(one)
    up = float(said(one, "cat /proc/uptime").split()[0])
    assert up < 300 and up < time.clock_gettime(time.CLOCK_BOOTTIME)
    code = "import time; print(time.clock_gettime(time.CLOCK_BOOTTIME), time.monotonic())"
    assert all(float(word) < up + 60 for word in said(one, f"{PYTHON} -c '{code}'").split())
    booted = int(said(one, "grep btime /proc/stat").split()[1])
    assert abs(time.time() - up - booted) < 10
    if one.run("command -v ps")[0] == 0:
        started = said(one, 'date +%s; date -d "$(ps -o lstart= -p $$)" +%s').split()
        assert abs(int(started[0]) - int(started[1])) <= 3


def test_nothing_in_proc_speaks_of_the_whole_machine(one: Tenant) -> None:
    """Whatever is there, of this kernel and of later ones: the same text inside and outside is a leak, or is on the list."""
    text = said(
        one,
        'for f in /proc/[a-z]*; do if [ -d $f ]; then echo "== $f"; ls -A $f; elif [ -f $f ]; then echo "== $f"; '
        "timeout 2 cat $f 2>/dev/null; fi; done; true",
    )
    shown = {name: "\n".join(lines) for name, *lines in (part.splitlines() for part in text.split("== ") if part)}
    assert len(shown) > 20
    for path, inside in shown.items():
        outside = Path(path)
        if outside.name in PASSED | HEADERS or outside.is_symlink() or not outside.exists():
            continue
        if outside.is_dir():
            assert outside.name == "pressure" or not inside.strip(), path
        elif outside.stat().st_mode & 0o004:
            assert not inside.strip() or inside.strip() != outside.read_text(errors="replace").strip(), path
        else:
            assert not inside, path
    for name in ("diskstats", "cmdline", "interrupts", "keys", "locks", "modules", "softirqs", "zoneinfo"):
        assert not shown.get(f"/proc/{name}", "").strip(), name
    if Path("/proc/pressure").exists():
        assert "total=0" in said(one, "cat /proc/pressure/cpu")


def test_kernel_settings_name_nothing_of_the_machine(one: Tenant) -> None:
    for name, expected in SETTINGS.items():
        path = Path("/proc/sys", name)
        if path.exists():
            inside = said(one, f"cat /proc/sys/{name}")
            assert inside == expected.strip() if expected else inside != path.read_text().strip(), name
    assert said(one, "hostname; cat /proc/sys/kernel/domainname").split() == [one.lease_id.replace("_", "-"), "(none)"]
    assert said(one, "cat /proc/sys/crypto/fips_enabled /proc/sys/kernel/ngroups_max 2>/dev/null; true") != ""


def test_programs_that_read_proc_work(one: Tenant) -> None:
    commands = ("free -m", "uptime", "top -bn1", "vmstat", "vmstat -s", "ps aux", "w", "swapon --show", "lscpu")
    script = "; ".join(
        f"! command -v {item.split()[0]} >/dev/null || {item} >/dev/null || echo {item} fails" for item in commands
    )
    assert said(one, script) == ""


def test_no_host_uid_group_or_lease_path_is_told(one: Tenant) -> None:
    spec = LeaseFiles(one.base, one.lease_id).read_spec()
    assert spec is not None
    document = said(one, "cat /run/sublet/lease.json")
    for text in (document, json.dumps(dict(one.seen.guarantees))):
        assert str(spec.uid) not in text and str(one.base) not in text
    assert {line.split(":", 2)[2] for line in said(one, "cat /proc/self/cgroup /proc/1/cgroup").splitlines()} == {"/"}
    assert (
        said(one, "id -u; stat -c '%u %g' ~ /run/sublet-etc/host_key; cat /proc/self/uid_map").split()[:5]
        == ["1000"] * 5
    )
    if spec.uid is not None:
        assert str(spec.uid) not in said(
            one, "cat /proc/self/uid_map /proc/self/gid_map /proc/self/status /proc/1/status"
        )


def test_the_environment_is_the_leases_own(one: Tenant) -> None:
    names = {line.partition("=")[0] for line in said(one, "env").splitlines()}
    expected = {"PATH", "HOME", "USER", "LOGNAME", "SHELL", "TERM", "PWD", "OLDPWD", "SHLVL", "_", "MAIL", "LANG",
                "SSH_CLIENT", "SSH_CONNECTION", "CUDA_VISIBLE_DEVICES", "SUBLET_LEASE", "SUBLET_DEVICES", "MOTD_SHOWN"}  # fmt: skip
    assert names <= expected, names - expected
    assert "127.0.0.1" not in said(one, "echo $SSH_CONNECTION"), "nobody's address is told"


def test_shared_places_are_its_own(one: Tenant, base: Path) -> None:
    mine = said(one, "touch /tmp/a /dev/shm/b /run/c; ls -A /tmp /dev/shm; ls /sys; ls /sys/devices/system/cpu")
    assert mine.split() == ["/dev/shm:", "b", "/tmp:", "a", "devices", "online", "possible", "present"]
    assert not Path("/dev/shm/b").exists()
    assert said(one, "cat /proc/sysvipc/shm | wc -l; ls /dev/mqueue 2>/dev/null | wc -l; ls /home") == "1\n0\ntenant"
    assert said(one, "date +%Z; readlink /etc/localtime || echo none") == "UTC\nnone", "nor where the machine stands"


def test_the_files_cannot_be_changed_from_inside(one: Tenant) -> None:
    for command in ("echo x > /proc/meminfo", "umount /proc/meminfo", "rm /run/sublet-etc/authorized_keys", "touch /sys/x",
                    "mv /run/sublet /run/y", "rm -rf /run/sublet/lease.json", "echo x > /opt/sublet/init.py"):  # fmt: skip
        assert one.run(command)[0] != 0, command


def test_keys_that_the_control_plane_changes_arrive_in_a_running_lease(one: Tenant, tmp_path: Path) -> None:
    from sublet.leases.backends.local.etc import write_keys

    files = LeaseFiles(one.base, one.lease_id)
    other = client_key(tmp_path)
    line = other.with_name("client_key.pub").read_text().strip()
    write_keys(files, (one.key.with_name("client_key.pub").read_text().strip(), line))
    deadline = time.monotonic() + WAIT_S
    while Tenant(one.backend, one.lease_id, other, one.base).run("echo in")[1] != "in":
        assert time.monotonic() < deadline


def test_without_root_it_sees_its_own_figures_and_the_machine_s_time(base: Path) -> None:
    settings = local_settings(base / "plain")
    probed = LocalBackend(settings).capabilities
    backend = LocalBackend(settings, replace(probed, as_root=False, loop_disks=False))
    one = tenant(backend, settings.base, client_key(base))
    try:
        assert int(said(one, "grep MemTotal /proc/meminfo").split()[1]) == MEMORY_BYTES // KIB
        assert said(one, "nproc; cat /proc/diskstats /proc/cmdline") == "1"
        assert abs(float(said(one, "cat /proc/uptime").split()[0]) - time.clock_gettime(time.CLOCK_BOOTTIME)) < 30
        started = said(one, 'date +%s; date -d "$(ps -o lstart= -p $$)" +%s').split()
        assert abs(int(started[0]) - int(started[1])) <= 3
        assert "uid" in one.seen.guarantees["identity"]["how"]
    finally:
        assert one.stop().clean
