"""A hostile tenant against a real sandbox and a real neighbor: no known way out may work. Needs this machine's kernel."""

from __future__ import annotations

import json
import os
import shlex
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.leases.machine import MEMORY_BYTES, WAIT_S, Tenant, client_key, local_settings, tenant
from tests.ports import free_port

from sublet.leases.backends.base import RunState
from sublet.leases.backends.local.backend import LocalBackend
from sublet.leases.backends.local.devices import host_cores

pytestmark = pytest.mark.real

PYTHON = "$(command -v python3 || ls /opt/sublet/python/bin/python3.*[0-9] | head -1)"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("leases")


@pytest.fixture(scope="module", params=["openssh", "asyncssh"])
def backend(request: pytest.FixtureRequest, base: Path) -> LocalBackend:
    """The host's own programs, and what is packaged with Sublet alone, as on a host that has neither."""
    packaged = request.param == "asyncssh"
    made = LocalBackend(local_settings(base / request.param, force_asyncssh=packaged, force_packaged_bwrap=packaged))
    if not packaged and "openssh" not in made.capabilities.doors:
        pytest.skip("this host has no OpenSSH server")
    return made


@pytest.fixture(scope="module")
def pair(backend: LocalBackend, base: Path) -> Iterator[tuple[Tenant, Tenant]]:
    """The hostile tenant on one core and the neighbor on another."""
    key = client_key(base)
    hostile, neighbor = tenant(backend, base, key, "cpu:0"), tenant(backend, base, key, "cpu:1", who="org_b")
    yield hostile, neighbor
    for one in (hostile, neighbor):
        assert one.stop().clean


@pytest.fixture
def hostile(pair: tuple[Tenant, Tenant]) -> Tenant:
    return pair[0]


@pytest.fixture
def neighbor(pair: tuple[Tenant, Tenant]) -> Tenant:
    return pair[1]


def hard(one: Tenant, what: str) -> bool:
    return one.seen.guarantees[what]["level"] == "hard"


def python(code: str) -> str:
    return f"{PYTHON} -c {shlex.quote(code)}"


def test_login_lands_on_the_leased_core_as_nobody(hostile: Tenant) -> None:
    status, said = hostile.run("nproc; id -un; id -u; grep -E '^(NoNewPrivs|Seccomp|CapEff|CapBnd):' /proc/self/status")
    assert status == 0
    assert said.split() == ["1", "tenant", "1000", "CapEff:", "0" * 16, "CapBnd:", "0" * 16, "NoNewPrivs:", "1",
                            "Seccomp:", "2"]  # fmt: skip


def test_nothing_of_the_neighbor_or_the_host_is_seen(hostile: Tenant, neighbor: Tenant, base: Path) -> None:
    neighbor.run("echo secret > ~/only-mine; nohup sleep 600 >/dev/null 2>&1 &")
    _, said = hostile.run("find / -xdev -name only-mine 2>/dev/null; ls /home/tenant -A; ps -e -o comm= || true")
    assert "only-mine" not in said and "sleep" not in said
    _, said = hostile.run(f"ls {base} /root /home /var /srv /etc/shadow /etc/ssh/ssh_host_ed25519_key /sys 2>&1")
    assert str(neighbor.lease_id) not in said and said.count("No such file") >= 6, said
    _, said = hostile.run("grep -r -l PRIVATE /run/sublet-etc 2>/dev/null")
    assert said == "/run/sublet-etc/host_key", "its own door's key alone"


def test_it_cannot_widen_its_cores(hostile: Tenant) -> None:
    _, said = hostile.run(
        "taskset -p ffff $$ 2>&1; "
        + python("import os\ntry: os.sched_setaffinity(0, range(64))\nexcept OSError as e: print(e)\n"
                 "print('cores', sorted(os.sched_getaffinity(0)))")
    )  # fmt: skip
    assert said.endswith(f"cores {[host_cores()[0]]}"), said


ESCAPES = {
    "nested user namespace": "unshare -Ur true",
    "mount": "mount -t tmpfs x /mnt",
    "bind mount": "mount --bind /usr /home/tenant",
    "device node": "mknod ~/n c 1 3",
    "write to the system": "touch /usr/bin/x",
    "write to the root": "touch /x",
    "write to /dev": "touch /dev/x",
    "write to its own notice": "touch /run/sublet/lease.json",
    "replace its authorized keys": "echo x > /run/sublet-etc/authorized_keys",
    "kernel settings": "echo 1 > /proc/sys/kernel/core_pattern",
    "kernel log": "dmesg",
    "setuid program": "test -n \"$(find /usr/bin -perm -4000 2>/dev/null | head -1)\" && su -c true",
    "chroot": "chroot /usr /bin/true",
    "hostname": "hostname evil",
    "trace PID 1": python("import ctypes,sys; sys.exit(ctypes.CDLL(None).ptrace(16, 1, 0, 0) != 0)"),
    "memory of PID 1": "head -c 1 /proc/1/mem",
    "descriptors of PID 1": "ls /proc/1/fd/",
    "environment of PID 1": "cat /proc/1/environ",
    "raise its priority": "nice -n -20 true 2>&1 | grep -vq 'cannot set'",
    "host network namespace": "nsenter -t 1 -n true",
    "reboot": python("import ctypes,sys; sys.exit(ctypes.CDLL(None).reboot(0x1234567) != 0)"),
    "realtime scheduling": python("import os; os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))"),
}  # fmt: skip


@pytest.mark.parametrize("name", ESCAPES)
def test_a_known_way_out_is_shut(hostile: Tenant, name: str) -> None:
    status, said = hostile.run(ESCAPES[name])
    assert status != 0, said


CALLS = {
    "keyctl": (250, 219), "add_key": (248, 217), "bpf": (321, 280), "perf_event_open": (298, 241),
    "userfaultfd": (323, 282), "io_uring_setup": (425, 425), "open_by_handle_at": (304, 265), "setns": (308, 268),
    "unshare": (272, 97), "mount": (165, 40), "fsopen": (430, 430), "move_mount": (429, 429), "syslog": (103, 116),
    "init_module": (175, 105), "kexec_load": (246, 104), "name_to_handle_at": (303, 264),
}  # fmt: skip


def test_calls_that_no_tenant_needs_are_refused(hostile: Tenant) -> None:
    column = 0 if os.uname().machine == "x86_64" else 1
    numbers = {name: pair[column] for name, pair in CALLS.items()}
    code = (
        "import ctypes,json\nlibc=ctypes.CDLL(None,use_errno=True)\nfound={}\n"
        f"for name,number in {numbers!r}.items():\n"
        "    ctypes.set_errno(0); libc.syscall(number,0,0,0,0,0); found[name]=ctypes.get_errno()\n"
        "print(json.dumps(found))"
    )
    status, said = hostile.run(python(code))
    assert status == 0 and set(json.loads(said).values()) == {1}, said


def test_a_32_bit_call_is_deadly(hostile: Tenant) -> None:
    if os.uname().machine != "x86_64":
        pytest.skip("only x86-64 has this other door")
    # mov eax, 20 (getpid); int 0x80; ret
    code = (
        "import ctypes,mmap\nm=mmap.mmap(-1,4096,prot=7)\nm.write(bytes.fromhex('b814000000cd80c3'))\n"
        "f=ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(m)))\nprint('alive', f())"
    )
    status, said = hostile.run(python(code))
    assert status != 0 and "alive" not in said


def test_no_network_but_its_own_loopback(hostile: Tenant, neighbor: Tenant) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        for port in (listener.getsockname()[1], neighbor.port):
            status, said = hostile.run(f"timeout 3 bash -c 'echo > /dev/tcp/127.0.0.1/{port}'")
            assert status != 0 and "refused" in said
    status, said = hostile.run("timeout 3 bash -c 'echo > /dev/tcp/192.0.2.1/53'")
    assert status != 0 and "unreachable" in said
    _, said = hostile.run("tail -n +3 /proc/net/dev | cut -d: -f1")
    assert said.split() == ["lo"]


def test_sockets_that_no_namespace_holds_are_refused(hostile: Tenant) -> None:
    """AF_VSOCK reaches the hypervisor from any network namespace; AF_ALG, AF_PACKET and others the host's drivers."""
    code = (
        "import socket,errno\nfor f in (17, 38, 40, 31, 30, 29, 21):\n    for k in (1, 2, 3, 5):\n"
        "        try: socket.socket(f, k, 0); print('open', f, k)\n"
        "        except OSError as e: assert e.errno == errno.EAFNOSUPPORT, (f, k, e)\nprint('shut')"
    )
    assert hostile.run(python(code)) == (0, "shut")


def test_no_tcp_socket_of_the_host_is_inherited(hostile: Tenant) -> None:
    """A TCP socket made outside stays in the host's network; a tenant could disconnect it and aim it anywhere."""
    code = (
        "import os,socket\nfor n in os.listdir('/proc/self/fd'):\n"
        "    try: s=socket.socket(fileno=os.dup(int(n)))\n    except OSError: continue\n"
        "    assert s.family == socket.AF_UNIX, s\nprint('none')"
    )
    assert hostile.run(python(code)) == (0, "none")
    for pid in hostile.run("ls -d /proc/[0-9]* | cut -d/ -f3")[1].split():
        links = hostile.run(f"readlink /proc/{pid}/fd/* 2>/dev/null | grep socket:")[1]
        for link in links.splitlines():
            inode = link.strip("socket:[]")
            assert hostile.run(f"grep -w {inode} /proc/net/tcp /proc/net/tcp6")[0] != 0


def test_descriptors_cannot_be_pulled_out_of_pid_1(hostile: Tenant) -> None:
    code = (
        "import os,ctypes,sys\nlibc=ctypes.CDLL(None,use_errno=True)\np=os.pidfd_open(1)\n"
        "print(all(libc.syscall(438,p,n,0) < 0 for n in range(16)))"
    )
    assert hostile.run(python(code)) == (0, "True")


def test_memory_is_capped_for_the_lease_as_a_whole(hostile: Tenant, neighbor: Tenant) -> None:
    status, _ = hostile.run(python(f"a=bytearray({MEMORY_BYTES * 2}); print(len(a))"))
    assert status != 0
    if not hard(hostile, "memory"):
        pytest.skip("memory is capped per process on this host; the lease says so")
    code = (
        "import os,time\nps=[]\nfor i in range(12):\n    p=os.fork()\n    if p==0:\n"
        "        x=bytearray(60<<20); time.sleep(2); os._exit(0)\n    ps.append(p)\n"
        "print([os.waitstatus_to_exitcode(os.waitpid(p,0)[1]) for p in ps].count(0))"
    )
    _, said = hostile.run(python(code))
    assert not said or int(said.split()[-1]) <= 4, said
    assert neighbor.run("echo unhurt") == (0, "unhurt")
    assert hostile.wait(RunState.RUNNING).state is RunState.RUNNING


def test_tmpfs_and_disk_are_capped(hostile: Tenant) -> None:
    for place in ("/tmp", "/dev/shm", "/run"):
        status, said = hostile.run(
            f"dd if=/dev/zero of={place}/big bs=1M count=300 2>&1; rc=$?; rm -f {place}/big; exit $rc"
        )
        assert status != 0, (place, said)
    if not hard(hostile, "disk"):
        pytest.skip("the home has no file system of its own on this host; the lease says so")
    _, said = hostile.run("dd if=/dev/zero of=~/big bs=1M count=300 2>&1; rm -f ~/big")
    assert "No space left" in said
    status, _ = hostile.run("echo still-there > ~/x && cat ~/x")
    assert status == 0


def test_ten_thousand_files_hurt_nobody(hostile: Tenant, neighbor: Tenant) -> None:
    hostile.run(
        python("fs=[]\ntry:\n    for i in range(10000): fs.append(open('/dev/null'))\nexcept OSError as e: print(e)")
    )
    hostile.run("cd /tmp; for i in $(seq 3000); do : > f$i; done; rm -f f*")
    assert neighbor.run("echo unhurt") == (0, "unhurt")


def test_pid_1_cannot_be_killed_from_inside(hostile: Tenant) -> None:
    runs = len(hostile.seen.deliveries)
    hostile.run("kill -9 1; kill -9 -1; true")
    deadline = time.monotonic() + WAIT_S
    while hostile.run("echo back")[1] != "back":
        assert time.monotonic() < deadline
    assert len(hostile.seen.deliveries) == runs, "the same run: PID 1 never died"


def test_a_fork_bomb_stays_inside(hostile: Tenant, neighbor: Tenant) -> None:
    if not hard(hostile, "processes"):
        pytest.skip("the process limit is shared on this host; the lease says so")
    bomb = hostile.background("b() { b | b & }; b; sleep 2; b; sleep 5")
    try:
        time.sleep(1.5)
        assert neighbor.run("echo unhurt", WAIT_S) == (0, "unhurt")
    finally:
        bomb.kill()
        bomb.wait()
    hostile.run("kill -9 -1")
    deadline = time.monotonic() + WAIT_S
    while hostile.run("echo back")[1] != "back":
        assert time.monotonic() < deadline
        hostile.run("kill -9 -1")


def test_files_go_in_and_out(neighbor: Tenant, tmp_path: Path) -> None:
    sent, back = tmp_path / "sent.bin", tmp_path / "back.bin"
    sent.write_bytes(os.urandom(1 << 20))
    for extra in ([], ["-O"]):
        if extra and "asyncssh" in neighbor.seen.guarantees["ssh"]["how"]:
            continue
        for source, target in ((str(sent), "tenant@127.0.0.1:there.bin"), ("tenant@127.0.0.1:there.bin", str(back))):
            done = subprocess.run(
                ["scp", *extra, *neighbor.arguments("-P"), source, target], capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, done.stderr
        assert back.read_bytes() == sent.read_bytes()


def test_a_port_inside_is_reached_through_ssh(neighbor: Tenant) -> None:
    neighbor.run(f"cd ~; (setsid nohup {PYTHON} -m http.server 8888 --bind 127.0.0.1 >/dev/null 2>&1 &)")
    port = free_port()
    tunnel = subprocess.Popen(
        ["ssh", "-N", "-L", f"127.0.0.1:{port}:127.0.0.1:8888", *neighbor.arguments(), "tenant@127.0.0.1"],
        stdin=subprocess.DEVNULL,
    )
    try:
        deadline, answer = time.monotonic() + WAIT_S, b""
        while not answer.startswith(b"HTTP/1.0 200") and time.monotonic() < deadline:
            try:
                with socket.create_connection(("127.0.0.1", port), 2) as connection:
                    connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
                    answer = connection.recv(100)
            except OSError:
                time.sleep(0.05)
        assert answer.startswith(b"HTTP/1.0 200")
    finally:
        tunnel.kill()
        tunnel.wait()


def test_notice_is_seen_on_the_terminal_and_in_the_file(neighbor: Tenant) -> None:
    terminal = neighbor.background("tty; sleep 5", terminal=True)
    assert terminal.stdout is not None
    first = terminal.stdout.readline()
    assert "/dev/pts/" in first, first
    reclaim_at = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=600)
    neighbor.backend.notice(neighbor.lease_id, reclaim_at, "*** NOTICE: save your work ***")
    said = terminal.communicate(timeout=30)[0]
    assert "save your work" in said
    document = json.loads(neighbor.run("cat /run/sublet/lease.json")[1])
    assert document["reclaim_at"] == reclaim_at.isoformat().replace("+00:00", "Z") and document["action"] == "terminate"
    neighbor.backend.withdraw_notice(neighbor.lease_id)
    assert json.loads(neighbor.run("cat /run/sublet/lease.json")[1])["reclaim_at"] is None


def test_too_many_connections_are_turned_away_and_the_door_stays_open(neighbor: Tenant) -> None:
    held = []
    try:
        for _ in range(200):
            held.append(socket.create_connection(("127.0.0.1", neighbor.port), 5))
    finally:
        for connection in held:
            connection.close()
    deadline = time.monotonic() + WAIT_S
    while neighbor.run("echo open")[1] != "open":
        assert time.monotonic() < deadline


def test_everything_that_a_tenant_leaves_is_gone_at_the_end(backend: LocalBackend, base: Path) -> None:
    one = tenant(backend, base, client_key(base))
    one.run("for i in 1 2 3 4 5; do (setsid nohup sleep 999 >/dev/null 2>&1 &); done; echo junk > ~/junk")
    one.run("(setsid nohup bash -c 'trap \"\" TERM HUP INT; while :; do sleep 1; done' >/dev/null 2>&1 &)")
    hog = one.background("while :; do (sleep 60 &); done")
    time.sleep(0.5)
    port, state = one.port, json.loads((backend._base / one.lease_id / "state.json").read_text())
    spec = json.loads((backend._base / one.lease_id / "spec.json").read_text())
    seen = backend.stop(one.lease_id, "test", 0.5)
    hog.kill()
    hog.wait()
    assert seen.clean, seen.error
    assert not Path(f"/proc/{state['init_pid']}").exists()
    assert not (backend._base / one.lease_id / "contents").exists()
    assert not [group for parent in spec["cgroup_parents"].values() for group in Path(parent).glob(f"*{one.lease_id}*")]
    assert one.lease_id not in Path("/proc/mounts").read_text()
    backing = [path.read_text() for path in Path("/sys/block").glob("loop*/loop/backing_file")]
    assert not [line for line in backing if one.lease_id in line]
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", port), 1)


def test_f25_the_next_tenant_finds_nothing_of_the_last(backend: LocalBackend, base: Path) -> None:
    key, marker = client_key(base), "marker-of-the-first-tenant"
    first = tenant(backend, base, key)
    first.run(f"echo {marker} | tee ~/m /tmp/m /dev/shm/m; sync")
    assert first.stop().clean
    second = tenant(backend, base, key, who="org_b")
    _, said = second.run(f"grep -rls {marker} /home /tmp /dev/shm /run 2>/dev/null; ls -A ~ /tmp /dev/shm")
    assert marker not in said and "m" not in said.split(), said
    assert second.stop().clean


def test_many_tenants_at_once(backend: LocalBackend, base: Path) -> None:
    key = client_key(base)
    found: list[Tenant] = []
    threads = [threading.Thread(target=lambda: found.append(tenant(backend, base, key))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(found) == 8 and len({one.port for one in found}) == 8
    assert all(one.run("cat /run/sublet/lease.json | grep -c lse_")[1] == "1" for one in found)
    assert all(one.stop().clean for one in found)
