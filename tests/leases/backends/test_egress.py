"""A lease's way out: what is on its lists can be reached, everything else can't, however it is asked."""

from __future__ import annotations

import asyncio
import http.server
import json
import socket
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncssh
import pytest
from tests.leases.backends.test_crashes import OrdinaryUser
from tests.leases.backends.test_crashes import ordinary as ordinary
from tests.leases.machine import Tenant, client_key, kill_shim, local_settings
from tests.leases.network.test_requests import hello

from sublet.leases.backends.base import RunState, StartOrder
from sublet.leases.backends.local import egress
from sublet.leases.backends.local.backend import LocalBackend
from sublet.leases.backends.local.egress import EGRESS_LOGS, Egress, Log, Traffic, purge_logs
from sublet.values.ids import new_id

WAIT_S = 60
LOOPBACK = "127.0.0.1/32"


class Names:
    """Stands where the resolver would be: what each name leads to, one answer after the other."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **answers: list[list[str]]) -> None:
        self.answers = {name.replace("_", "."): told for name, told in answers.items()}
        self.asked: list[str] = []
        monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", self.look)

    async def look(self, host: Any, port: Any, **_: Any) -> list[Any]:
        self.asked.append(host)
        told = self.answers.get(host)
        if told is None:
            raise socket.gaierror("unknown")
        found = told.pop(0) if len(told) > 1 else told[0]
        return [
            (socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))
            for address in found
        ]


class Far:
    """A server outside, which keeps what it hears and says one thing."""

    def __init__(self, says: bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi") -> None:
        self.heard, self._says, self.connections = b"", says, 0

    async def __aenter__(self) -> Far:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.heard += await reader.read(65_536)
        writer.write(self._says)
        await writer.drain()
        writer.close()


def answer(
    folder: Path, rules: list[str], said: list[bytes], permitted: tuple[str, ...] = (LOOPBACK,)
) -> tuple[bytes, Traffic]:
    """What the proxy answers a tenant who says these things one after the other; the far side is in `rules`."""

    async def run() -> tuple[bytes, Traffic]:
        traffic = Traffic()
        proxy = Egress(rules, permitted, (), traffic, Log(folder / EGRESS_LOGS, "lse_1", "org_a"))
        listener = socket.create_server(("127.0.0.1", 0))
        listener.setblocking(False)
        await proxy.open(listener)
        reader, writer = await asyncio.open_connection(*listener.getsockname())
        got = b""
        for part in said:
            writer.write(part)
            await writer.drain()
            if part.startswith(b"CONNECT"):
                got += await reader.readuntil(b"\r\n\r\n")
        try:
            async with asyncio.timeout(WAIT_S):
                got += await reader.read()
        except ConnectionError:
            pass
        writer.close()
        proxy.close()
        return got, traffic

    return asyncio.run(run())


def with_far(
    folder: Path, rule: str, make: Any, permitted: tuple[str, ...] = (LOOPBACK,)
) -> tuple[bytes, Traffic, Far]:
    """The same with a server on this machine's loopback, whose port `make` and `rule` are told."""
    far = Far()

    async def serve(ready: threading.Event, done: asyncio.Event) -> None:
        async with far:
            ready.set()
            await done.wait()

    ready, loop, done = threading.Event(), asyncio.new_event_loop(), asyncio.Event()
    thread = threading.Thread(target=lambda: loop.run_until_complete(serve(ready, done)))
    thread.start()
    assert ready.wait(WAIT_S)
    try:
        got, traffic = answer(folder, [rule.format(port=far.port)], make(far.port), permitted)
    finally:
        loop.call_soon_threadsafe(done.set)
        thread.join()
        loop.close()
    return got, traffic, far


def test_a_plain_request_reaches_a_host_of_the_list_and_is_counted_and_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Names(monkeypatch, mirror_example=[["127.0.0.1"]])
    said = "GET http://mirror.example:{0}/x HTTP/1.1\r\nHost: evil.example\r\n\r\nGET /second HTTP/1.1\r\nHost: evil.example\r\n\r\n"
    got, traffic, far = with_far(tmp_path, "mirror.example:{port}", lambda port: [said.format(port).encode()])
    assert got.endswith(b"hi")
    assert far.heard == f"GET /x HTTP/1.1\r\nHost: mirror.example:{far.port}\r\nConnection: close\r\n\r\n".encode()
    assert (traffic.connections, traffic.refused, traffic.bytes_out, traffic.bytes_in) == (
        1,
        0,
        len(far.heard),
        len(got),
    )
    assert traffic.hosts == {f"mirror.example:{far.port}": [len(far.heard), len(got)]}
    [line] = [json.loads(text) for path in (tmp_path / EGRESS_LOGS).iterdir() for text in path.read_text().splitlines()]
    assert (line["lease"], line["organization"], line["host"]) == ("lse_1", "org_a", f"mirror.example:{far.port}")
    assert (line["bytes_out"], line["bytes_in"], line["address"]) == (len(far.heard), len(got), "127.0.0.1")


def test_a_tunnel_carries_tls_to_its_own_host_and_to_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Names(monkeypatch, mirror_example=[["127.0.0.1"]])

    def tunnel(inside: bytes) -> tuple[bytes, Traffic, Far]:
        return with_far(
            tmp_path,
            "mirror.example:{port}",
            lambda port: [f"CONNECT mirror.example:{port} HTTP/1.1\r\n\r\n".encode(), inside],
        )

    got, traffic, far = tunnel(hello("mirror.example"))
    assert far.heard == hello_of(far.heard) and b"hi" in got and traffic.connections == 1
    for inside in (
        hello("evil.example"),
        hello(None),
        b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        b"SSH-2.0-x\r\n" * 9,
    ):
        got, traffic, far = tunnel(inside)
        assert (far.connections, far.heard, traffic.refused) == (0, b"", 1), inside
        assert b"hi" not in got


def hello_of(raw: bytes) -> bytes:
    """`raw`, if it is one TLS record."""
    return raw if raw[:1] == b"\x16" and len(raw) == 5 + int.from_bytes(raw[3:5], "big") else b""


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ("other.example:443", "not on an allow list"), ("mirror.example:22", "not on an allow list"), 
        ("mirror.example.evil.net:443", "not on an allow list"),
        ("amirror.example:443", "not on an allow list"), ("127.0.0.1:443", "is not a host name"),
        ("[::ffff:127.0.0.1]:443", "is not a host name"),
        ("169.254.169.254:443", "is not a host name"), ("2130706433:443", "is not a host name"),
        ("localhost:443", "not on an allow list"),
        ("mirror.example:443", "no address that a lease may reach"), 
        ("inner.example:443", "no address"), ("six.example:443", "no address"),
        ("mapped.example:443", "no address"), ("meta.example:443", "no address"), ("gone.example:443", "can't be resolved"),
    ],
)  # fmt: skip
def test_what_is_not_on_the_list_or_leads_inside_is_refused_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: str, why: str
) -> None:
    names = Names(
        monkeypatch, mirror_example=[["127.0.0.1"]], inner_example=[["10.0.0.5", "192.168.0.1"]], six_example=[["fd00::1", "::1"]],
        mapped_example=[["::ffff:10.0.0.1", "64:ff9b::a00:1"]], meta_example=[["169.254.169.254", "168.63.129.16"]],
    )  # fmt: skip
    rules = ["mirror.example", "inner.example", "six.example", "mapped.example", "meta.example", "gone.example"]
    got, traffic = answer(tmp_path, rules, [f"CONNECT {asked} HTTP/1.1\r\n\r\n".encode()], ())
    assert got.startswith(b"HTTP/1.1 403 ") and why.encode() in got, got
    assert (traffic.refused, traffic.connections) == (1, 0)
    assert names.asked in ([], [asked.rpartition(":")[0]]), "what is on no list is not even looked up"


def test_a_name_is_looked_up_once_and_what_was_checked_is_what_is_connected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DNS rebinding: the second answer would lead inside. And of an answer with both, only what may be reached is tried."""
    connected: list[Any] = []

    async def connect(addresses: list[Any]) -> Any:
        connected.extend(addresses)
        raise OSError

    names = Names(monkeypatch, rebind_example=[["8.8.8.8", "127.0.0.1", "::1"], ["127.0.0.1"]])
    monkeypatch.setattr(egress, "_connect", connect)
    got, _ = answer(tmp_path, ["rebind.example"], [b"GET http://rebind.example/ HTTP/1.1\r\n\r\n"], ())
    assert got.startswith(b"HTTP/1.1 502 ") and names.asked == ["rebind.example"]
    assert connected == [(socket.AF_INET, ("8.8.8.8", 80))]


def test_connections_and_waiting_are_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(egress, "CONNECTIONS_MAX", 3)
    monkeypatch.setattr(egress, "HEAD_S", 0.3)

    async def run() -> None:
        proxy = Egress(["a.example"], (), (), Traffic(), Log(tmp_path, "lse_1", "org_a"))
        listener = socket.create_server(("127.0.0.1", 0))
        listener.setblocking(False)
        await proxy.open(listener)
        many = [await asyncio.open_connection(*listener.getsockname()) for _ in range(10)]
        async with asyncio.timeout(WAIT_S):
            ends = await asyncio.gather(*(reader.read() for reader, _ in many), return_exceptions=True)
        for _, writer in many:
            writer.close()
        assert all(end == b"" or isinstance(end, ConnectionError) for end in ends)
        proxy.close()

    asyncio.run(run())


def test_logs_are_kept_for_as_long_as_the_operator_says(tmp_path: Path) -> None:
    for days in (0, 5, 40):
        (tmp_path / f"{datetime.now(UTC) - timedelta(days=days):%Y-%m-%d}.jsonl").write_text("{}\n")
    purge_logs(tmp_path, 30)
    assert len(list(tmp_path.iterdir())) == 2


class Index:
    """A package index on this machine's loopback: one package, one page."""

    def __init__(self, folder: Path) -> None:
        place = folder / "simple" / "tinypkg"
        place.mkdir(parents=True)
        wheel(place / "tinypkg-1.0-py3-none-any.whl")
        (place / "index.html").write_text('<a href="tinypkg-1.0-py3-none-any.whl">tinypkg-1.0-py3-none-any.whl</a>')
        handler = type("Quiet", (http.server.SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
        self.server = http.server.ThreadingHTTPServer(
            ("127.0.0.1", 0), lambda *told: handler(*told, directory=str(folder))
        )
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


def wheel(path: Path) -> None:
    import zipfile

    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("tinypkg.py", "VALUE = 42\n")
        about = "tinypkg-1.0.dist-info"
        archive.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: tinypkg\nVersion: 1.0\n")
        archive.writestr(
            f"{about}/WHEEL", "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{about}/RECORD", "")


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    found = Index(tmp_path / "index")
    yield found
    found.server.shutdown()
    found.server.server_close()


def leased(base: Path, rules: tuple[str, ...], **changes: Any) -> Tenant:
    backend = LocalBackend(local_settings(base, egress_permitted=(LOOPBACK,), **changes))
    key = client_key(base.parent)
    line = key.with_name("client_key.pub").read_text()
    order = StartOrder(
        new_id("lse"), "org_a", ("cpu:0",), (line,), datetime.now(UTC) + timedelta(seconds=300), egress=rules
    )
    backend.start(order)
    found = Tenant(backend, order.lease_id, key, base)
    found.wait(RunState.RUNNING)
    return found


@pytest.mark.real
@pytest.mark.parametrize("door", ["openssh", "asyncssh"])
def test_a_package_is_installed_inside_from_an_index_on_the_list_and_nothing_else_is_reached(
    tmp_path: Path, index: Index, door: str
) -> None:
    """The index is on this machine's loopback, which only a test permits."""
    lease = leased(tmp_path / "leases", (f"localhost:{index.port}",), force_asyncssh=door == "asyncssh")
    try:
        bare = "env -u no_proxy -u NO_PROXY"
        url = f"http://localhost:{index.port}"
        code, said = lease.run(
            f"{bare} /usr/bin/python3 -c \"import urllib.request as u; print(u.urlopen('{url}/simple/tinypkg/').read())\""
        )
        assert code == 0 and "tinypkg-1.0" in said, said
        install = f"-m pip --disable-pip-version-check install --target site --index-url {url}/simple --trusted-host localhost tinypkg"
        if lease.run("/usr/bin/python3 -m pip --version")[0] == 0:
            code, said = lease.run(f"{bare} /usr/bin/python3 {install}", 120)
            assert code == 0, said
            assert lease.run("PYTHONPATH=site /usr/bin/python3 -c 'import tinypkg; print(tinypkg.VALUE)'") == (0, "42")
        refusals = 0
        for target in (
            "http://other.example/", f"http://127.0.0.1:{index.port}/", "http://169.254.169.254/latest/",
            f"http://localhost:{index.port + 1}/",
        ):  # fmt: skip
            code, said = lease.run(
                f"{bare} /usr/bin/python3 -c \"import urllib.request as u; u.urlopen('{target}', timeout=20)\""
            )
            assert code != 0 and "403" in said, said
            refusals += 1
        script = f"import socket; socket.create_connection(('127.0.0.1', {index.port}), 3)"
        code, said = lease.run(f'/usr/bin/python3 -c "{script}"')
        assert code != 0 and "refused" in said, "the host's loopback is reached past the proxy"
        assert lease.run("grep -c : /proc/net/dev") == (0, "1"), "there is an interface beside loopback"
        seen = until_counted(lease, refusals)
        assert seen["bytes_in"] > 0 and seen["connections"] >= 1
        kill_shim(lease.base, lease.lease_id)
        until_running(lease, again(lease, index))
        code, said = lease.run(f"{bare} /usr/bin/python3 -c \"import urllib.request as u; u.urlopen('{url}/')\"")
        assert code == 0, f"after the shim was killed: {said}"
        assert until_counted(lease, refusals)["bytes_in"] > seen["bytes_in"], "counters began again"
    finally:
        ended = lease.stop()
    assert ended.clean and ended.traffic is not None and ended.traffic["refused"] == refusals
    logged = "".join(path.read_text() for path in (tmp_path / "leases" / EGRESS_LOGS).iterdir())
    assert lease.lease_id in logged and "not on an allow list" in logged


def again(lease: Tenant, index: Index) -> StartOrder:
    line = lease.key.with_name("client_key.pub").read_text()
    end = datetime.now(UTC) + timedelta(seconds=300)
    return StartOrder(lease.lease_id, "org_a", ("cpu:0",), (line,), end, egress=(f"localhost:{index.port}",))


def until_running(lease: Tenant, order: StartOrder) -> None:
    """As the planner does it: started again each round, since the threads of a shim that was killed hold its lock a moment longer."""
    deadline = time.monotonic() + WAIT_S
    while lease.backend.start(order).state is not RunState.RUNNING:
        assert time.monotonic() < deadline, lease.seen
        time.sleep(0.2)


def until_counted(lease: Tenant, refusals: int) -> dict[str, int]:
    """The lease's counters once its shim has written down what was refused; it does so every second."""
    deadline = time.monotonic() + WAIT_S
    while True:
        seen = dict(lease.seen.traffic or {})
        if seen.get("refused", 0) >= refusals and seen.get("bytes_in"):
            time.sleep(1.1)
            return dict(lease.seen.traffic or {})
        assert time.monotonic() < deadline, seen
        time.sleep(0.1)


@pytest.mark.real
def test_without_a_list_there_is_no_proxy_and_no_way_out(tmp_path: Path, index: Index) -> None:
    lease = leased(tmp_path / "leases", ())
    try:
        assert lease.run("env | grep -ci proxy")[1] == "0"
        code, _ = lease.run("/usr/bin/python3 -c \"import socket; socket.create_connection(('127.0.0.1', 3128), 3)\"")
        assert code != 0 and lease.seen.traffic is None
    finally:
        assert lease.stop().clean


@pytest.mark.real
def test_an_ordinary_users_lease_has_the_same_way_out(ordinary: OrdinaryUser, index: Index) -> None:
    said = ordinary.run(
        "import json\nfrom tests.leases.backends.test_egress import *\n"
        f"one=leased(base/'l', ('localhost:{index.port}',))\n"
        f"told=[fetched(one, url) for url in ('http://localhost:{index.port}/', 'http://other.example/')]\n"
        "print(json.dumps([*told, one.stop().clean]))\n"
    )
    good, bad, clean = json.loads(said)
    assert good == [0, "200"] and bad[0] != 0 and "403" in bad[1] and clean is True


def fetched(lease: Tenant, url: str) -> tuple[int | None, str]:
    """Over asyncssh, since OpenSSH's client wants an account that a made-up user has not."""
    code = f"import urllib.request as u; print(u.urlopen('{url}').status)"

    async def run() -> tuple[int | None, str]:
        async with asyncssh.connect(
            "127.0.0.1", port=lease.port, username="tenant", known_hosts=None, client_keys=[str(lease.key)]
        ) as connection:
            done = await connection.run(f'env -u no_proxy -u NO_PROXY /usr/bin/python3 -c "{code}"')
            return done.exit_status, f"{done.stdout!s}{done.stderr!s}".strip()

    return asyncio.run(run())
