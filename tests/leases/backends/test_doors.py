"""One policy for the SSH door, whichever server stands behind it: the same matrix against OpenSSH and asyncssh."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncssh
import pytest
from tests.leases.machine import Tenant, client_key, local_settings, tenant
from tests.ports import free_port

from sublet.leases.backends.base import RunState, StartOrder, keys_digest
from sublet.leases.backends.local.backend import LocalBackend
from sublet.leases.backends.local.gate import WAITING_MAX

pytestmark = pytest.mark.real

WAIT_S = 60
OTHER_HOSTS = (
    "192.0.2.1",
    "10.0.0.1",
    "169.254.169.254",
    "0.0.0.0",
    "127.0.0.2",
    "example.com",
    "fd00::1",
    "LOCALHOST.",
)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("doors")


@pytest.fixture(scope="module", params=["openssh", "asyncssh"])
def one(request: pytest.FixtureRequest, base: Path) -> Iterator[Tenant]:
    settings = local_settings(base / request.param, force_asyncssh=request.param == "asyncssh", processes_max=256)
    backend = LocalBackend(settings)
    if request.param not in backend.capabilities.doors:
        pytest.skip("this host has no OpenSSH server")
    found = tenant(backend, settings.base, client_key(base))
    assert found.seen.guarantees["ssh"]["how"].startswith(request.param)
    yield found
    assert found.stop().clean


def logged_in(one: Tenant, work: Callable[[asyncssh.SSHClientConnection], Awaitable[Any]], **named: Any) -> Any:
    """What `work` returns on a connection of its own."""

    async def run() -> Any:
        options = {"username": "tenant", "client_keys": [str(one.key)], "known_hosts": None, "config": None,
                   "agent_path": None, **named}  # fmt: skip
        async with asyncssh.connect("127.0.0.1", one.port, **options) as connection:
            return await asyncio.wait_for(work(connection), WAIT_S)

    return asyncio.run(run())


async def said(connection: asyncssh.SSHClientConnection, command: str, **named: Any) -> tuple[int | None, str]:
    done = await connection.run(command, **named)
    return done.exit_status, str(done.stdout).strip()


def server_inside(one: Tenant, family: str, address: str) -> None:
    """A program inside that answers `hello` on a port of loopback or on a socket file."""
    code = (
        f"import socket,sys;s=socket.socket(socket.{family});s.bind({address});s.listen();print('ready',flush=True)\n"
        "while True: c,_=s.accept();c.sendall(b'hello');c.close()"
    )
    python = "$(command -v python3 || ls /opt/sublet/python/bin/python3.*[0-9] | head -1)"
    status, text = one.run(
        f"cat > ~/server.py <<'EOF'\n{code}\nEOF\nrm -f ~/out; (setsid {python} ~/server.py > ~/out 2>&1 &); "
        "for i in $(seq 100); do grep -qs . ~/out && break; sleep 0.05; done; cat ~/out"
    )
    assert (status, text) == (0, "ready")


def test_only_the_tenant_and_only_by_key(one: Tenant, base: Path) -> None:
    async def come(username: str, **named: Any) -> None:
        async with asyncssh.connect("127.0.0.1", one.port, username=username, known_hosts=None, config=None,
                                    agent_path=None, **named):  # fmt: skip
            raise AssertionError(f"{username} got in")

    for username in ("root", "sshd", "nobody", "Tenant", "tenant2", "tenant ", "x" * 200, "тенант"):
        with pytest.raises((asyncssh.PermissionDenied, asyncssh.DisconnectError)):
            asyncio.run(come(username, client_keys=[str(one.key)]))
        if username.isascii() and len(username) < 100:
            found = asyncio.run(asyncssh.get_server_auth_methods("127.0.0.1", one.port, username, config=None))
            assert list(found) == ["publickey"], "the answer tells nobody which names exist"
    with pytest.raises(asyncssh.PermissionDenied):
        asyncio.run(come("tenant", password="", client_keys=[]))
    with pytest.raises(asyncssh.PermissionDenied):
        asyncio.run(come("tenant", client_keys=[asyncssh.generate_private_key("ssh-ed25519")]))
    other = base / "inside_key"
    pair = asyncssh.generate_private_key("ssh-ed25519")
    other.write_bytes(pair.export_private_key())
    one.run(
        f"mkdir -p ~/.ssh; echo '{pair.export_public_key().decode().strip()}' > ~/.ssh/authorized_keys; chmod -R go= ~/.ssh"
    )
    with pytest.raises(asyncssh.PermissionDenied):
        asyncio.run(come("tenant", client_keys=[str(other)]))


def test_no_agent_is_forwarded(one: Tenant, base: Path) -> None:
    socket_path = base / "agent.sock"
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", str(socket_path)], stdout=subprocess.DEVNULL)
    try:
        command = ["ssh", "-A", *one.arguments(), "tenant@127.0.0.1", "echo agent=$SSH_AUTH_SOCK; ls /tmp -A"]
        environment = {**os.environ, "SSH_AUTH_SOCK": str(socket_path)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=WAIT_S)
    finally:
        agent.kill()
        agent.wait()
    assert done.stdout.splitlines()[0] == "agent=" and "ssh-" not in done.stdout


def test_no_display_is_forwarded(one: Tenant) -> None:
    async def ask(connection: asyncssh.SSHClientConnection) -> None:
        await connection.run("true", x11_forwarding=True, x11_display=":9", x11_auth_path=os.devnull)

    with pytest.raises(asyncssh.ChannelOpenError):
        logged_in(one, ask)


def test_a_port_of_the_own_loopback_is_reached_and_no_other(one: Tenant) -> None:
    port = free_port()
    server_inside(one, "AF_INET", f"('127.0.0.1', {port})")

    async def reach(connection: asyncssh.SSHClientConnection, host: str) -> bytes:
        reader, writer = await connection.open_connection(host, port)
        try:
            return await reader.read()
        finally:
            writer.close()

    for host in ("127.0.0.1", "localhost"):
        assert logged_in(one, lambda connection, host=host: reach(connection, host)) == b"hello"
    for host in OTHER_HOSTS:
        with pytest.raises(asyncssh.ChannelOpenError) as refused:
            logged_in(one, lambda connection, host=host: reach(connection, host))
        assert refused.value.code == asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED, host


def test_a_jump_or_a_proxy_through_the_lease_leads_nowhere(one: Tenant) -> None:
    """-J and -W are connections to another host's port; so is each request through -D."""
    for option in (["-W", "192.0.2.1:22"], ["-W", "example.com:443"]):
        done = subprocess.run(
            ["ssh", *option, *one.arguments(), "tenant@127.0.0.1"],
            capture_output=True, text=True, check=False, timeout=WAIT_S, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert done.returncode != 0 and not done.stdout


@pytest.mark.parametrize("host", ["", "localhost", "127.0.0.1", "0.0.0.0"])
def test_nothing_inside_listens_for_the_customer(one: Tenant, host: str) -> None:
    """-R would carry traffic out of a sandbox that has no network."""

    async def listen(connection: asyncssh.SSHClientConnection) -> None:
        await connection.forward_remote_port(host, 0, "127.0.0.1", 9)

    with pytest.raises(asyncssh.ChannelListenError):
        logged_in(one, listen)
    done = subprocess.run(
        ["ssh", "-o", "ExitOnForwardFailure=yes", "-R", "18080", *one.arguments(), "tenant@127.0.0.1", "true"],
        capture_output=True, text=True, check=False, timeout=WAIT_S, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode != 0, "neither as a proxy of the customer's network"


def test_no_socket_file_is_forwarded_either_way(one: Tenant) -> None:
    server_inside(one, "AF_UNIX", "'/tmp/inner.sock'")

    async def reach(connection: asyncssh.SSHClientConnection) -> None:
        await connection.open_unix_connection("/tmp/inner.sock")

    async def listen(connection: asyncssh.SSHClientConnection) -> None:
        await connection.forward_remote_path("/tmp/outer.sock", "/tmp/nowhere.sock")

    with pytest.raises(asyncssh.ChannelOpenError):
        logged_in(one, reach)
    with pytest.raises(asyncssh.ChannelListenError):
        logged_in(one, listen)


@pytest.mark.parametrize("kind", ["create_tun", "create_tap"])
def test_no_tunnel_device(one: Tenant, kind: str) -> None:
    async def tunnel(connection: asyncssh.SSHClientConnection) -> None:
        await getattr(connection, kind)(asyncssh.SSHTunTapSession)

    with pytest.raises(asyncssh.ChannelOpenError):
        logged_in(one, tunnel)


def test_of_what_a_client_sets_only_its_language_arrives(one: Tenant) -> None:
    sent = {"LANG": "C.UTF-8", "LC_ALL": "C", "FOO": "x", "LD_PRELOAD": "/x.so", "BASH_ENV": "/x", "PATH": "/x",
            "SUBLET_LEASE": "other", "HOME": "/x"}  # fmt: skip
    names = " ".join(f"${{{name}-unset}}" for name in ("LANG", "LC_ALL", "FOO", "LD_PRELOAD", "BASH_ENV", "HOME", "USER",
                                                      "LOGNAME", "SUBLET_LEASE", "PATH"))  # fmt: skip
    status, text = logged_in(one, lambda connection: said(connection, f"echo {names}", env=sent))
    path = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
    assert (status, text.split()) == (0, ["C.UTF-8", "C", "unset", "unset", "unset", "/home/tenant", "tenant", "tenant",
                                          one.lease_id, path])  # fmt: skip


def test_a_program_and_a_terminal(one: Tenant) -> None:
    assert logged_in(one, lambda connection: said(connection, "echo out; echo err >&2; exit 7")) == (7, "out")
    assert logged_in(one, lambda connection: said(connection, "tty; tty >/dev/null")) == (1, "not a tty")
    terminal = {"term_type": "xterm", "term_size": (97, 31)}
    status, text = logged_in(one, lambda connection: said(connection, "tty; stty size; echo $TERM", **terminal))
    assert status == 0 and text.split()[0].startswith("/dev/pts/") and text.split()[1:] == ["31", "97", "xterm"]

    async def shell(connection: asyncssh.SSHClientConnection) -> tuple[int | None, str]:
        return await said(connection, None, input="cd /tmp\npwd\nexit 3\n")  # type: ignore[arg-type]

    assert logged_in(one, shell) == (3, "/tmp")


def test_files_by_sftp_and_by_both_kinds_of_scp(one: Tenant, tmp_path: Path) -> None:
    sent, back = tmp_path / "sent.bin", tmp_path / "back.bin"
    sent.write_bytes(os.urandom(300_000))

    async def both_ways(connection: asyncssh.SSHClientConnection) -> None:
        async with connection.start_sftp_client() as sftp:
            await sftp.put(str(sent), "by-sftp")
            await sftp.get("by-sftp", str(back))

    logged_in(one, both_ways)
    assert back.read_bytes() == sent.read_bytes()
    for flags in ([], ["-O"]):
        back.unlink()
        for pair in ((str(sent), "tenant@127.0.0.1:there"), ("tenant@127.0.0.1:there", str(back))):
            done = subprocess.run(
                ["scp", *flags, *one.arguments("-P"), *pair],
                capture_output=True,
                text=True,
                check=False,
                timeout=WAIT_S,
            )
            assert done.returncode == 0, (flags, done.stderr)
        assert back.read_bytes() == sent.read_bytes()


def test_no_other_subsystem(one: Tenant) -> None:
    async def ask(connection: asyncssh.SSHClientConnection) -> Any:
        return await connection.run(subsystem="netconf", command=None)

    try:
        done = logged_in(one, ask)
    except (asyncssh.ChannelOpenError, asyncssh.ProcessError):
        return
    assert done.exit_status != 0 and not done.stdout


def test_many_sessions_share_a_connection_up_to_a_limit(one: Tenant) -> None:
    async def fill(connection: asyncssh.SSHClientConnection) -> int:
        held = [await connection.create_process("cat") for _ in range(64)]
        with pytest.raises(asyncssh.ChannelOpenError):
            await connection.create_process("cat")
        for process in held:
            process.stdin.write_eof()
        for process in held:
            assert (await process.wait()).exit_status == 0
        return (await said(connection, "echo again"))[0] or 0

    assert logged_in(one, fill) == 0


def test_f18_idle_connections_without_a_key_lock_nobody_out(one: Tenant) -> None:
    idle = [socket.create_connection(("127.0.0.1", one.port), 5) for _ in range(64)]
    try:
        for _ in range(3):
            assert one.run("echo open") == (0, "open")
    finally:
        for connection in idle:
            connection.close()


def test_who_has_logged_in_is_told_outside_and_takes_no_place_of_those_who_wait(one: Tenant) -> None:
    """More logins at once than may wait: they can only all stay if the door hears that they are inside."""

    async def hold(number: int) -> asyncssh.SSHClientConnection:
        return await asyncssh.connect("127.0.0.1", one.port, username="tenant", client_keys=[str(one.key)],
                                      known_hosts=None, config=None, agent_path=None)  # fmt: skip

    async def run() -> None:
        held = []
        for first in range(0, WAITING_MAX + 4, 6):
            held += await asyncio.gather(*(hold(number) for number in range(first, first + 6)))
        said_by_all = await asyncio.gather(*(said(connection, "echo here") for connection in held))
        assert said_by_all == [(0, "here")] * len(held) and len(held) > WAITING_MAX
        for connection in held:
            connection.close()
            await connection.wait_closed()

    asyncio.run(run())


def test_f18_time_in_which_strangers_hold_every_place_is_not_billed(one: Tenant) -> None:
    """Connections that come faster than anybody can log in, each saying enough to look like a client."""
    started, held = time.monotonic(), []
    before = len(one.seen.deliveries)
    while one.seen.deliveries[-1].open:
        assert time.monotonic() - started < WAIT_S
        held += [socket.create_connection(("127.0.0.1", one.port), 5) for _ in range(100)]
        for connection in held[-100:]:
            with contextlib.suppress(OSError):
                connection.sendall(b"SSH-2.0-x\r\n" + b"x" * 400)
        # On a busy machine the door takes long to say so: this process must not run out of files meanwhile.
        for connection in held[:-2000]:
            connection.close()
        held = held[-2000:]
    seen = one.seen
    assert seen.state is RunState.RUNNING and "not billed" in (seen.error or "")
    for connection in held:
        connection.close()
    while not (seen := one.seen).deliveries[-1].open:
        assert time.monotonic() - started < WAIT_S
        time.sleep(0.05)
    assert len(seen.deliveries) > before and seen.error is None
    assert seen.deliveries[-1].start - seen.deliveries[-2].end >= timedelta(seconds=4)
    assert one.run("echo open") == (0, "open")


def test_keys_of_a_running_lease_change_within_seconds(one: Tenant, tmp_path: Path) -> None:
    other = Tenant(one.backend, one.lease_id, client_key(tmp_path), one.base)
    lines = [item.key.with_name("client_key.pub").read_text().strip() for item in (one, other)]

    def let_in(*places: int) -> None:
        order = StartOrder(one.lease_id, "org_a", ("cpu:0",), tuple(lines[place] for place in places), soon())
        seen = one.backend.start(order)
        assert seen.keys == keys_digest(order.authorized_keys)
        deadline = time.monotonic() + WAIT_S
        while any((item.run("true")[0] == 0) != (place in places) for place, item in enumerate((one, other))):
            assert time.monotonic() < deadline
            time.sleep(0.2)

    assert other.run("true")[0] != 0
    deliveries = len(one.seen.deliveries)
    let_in(0, 1)
    let_in(1)
    let_in(0)
    assert len(one.seen.deliveries) == deliveries, "changing keys interrupted the lease"


def soon() -> datetime:
    return datetime.now(UTC) + timedelta(seconds=300)
