"""The gateway against nginx: CPU per request and per relayed event, added latency, memory.

    python bench/gateway.py            # all scenarios, three interleaved rounds, into bench/results/gateway.json
    python bench/gateway.py --rounds 1 --seconds 3
    python bench/gateway.py --other ../earlier --only nginx sublet --scenarios "whole, 64 connections"

Everything runs on loopback: a scripted upstream (one process), the contestant (one process; nginx has one worker), and
the load generator (this process). CPU is user plus system time of all processes of the contestant, from /proc, from
before the load until the contestant is quiet again: what shipping spends after the load's end is counted, and
`shipping_s` says how long that took. `direct` is the generator against the upstream and shows what the two of them cost
in latency. The gateway has keys, limits and durable metering on; its shipper runs and hands its events to nobody, or,
where the name says so, into a ledger on SQLite. `held` is the same with a hard budget on the key: each request's worst
case is held before it begins and settled after it; `held` in the results is its ratio to the same gateway without the
budget. `limited` is the same with limits of every kind for the organization and for its model, which gateways
share. nginx does no more than relay; `nginx` in the results is everybody's ratio to it.

With `--other`, each of the gateway's contestants also runs from another checkout (a folder with `src` and `bench`, say an
earlier commit), in the same rounds; `other` in the results is this checkout's ratio to that one.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import httptools
import uvloop

RESULTS = Path(__file__).parent / "results" / "gateway.json"
MODEL = "bench"
EVENTS = 64
PACE_S = 0.02
TICK_S = os.sysconf("SC_CLK_TCK")
LEDGER, HELD = "sublet, into the ledger", "sublet, into the ledger, held"
LIMITED = "sublet, into the ledger, limited"
OTHER = "other: "
QUIET_S = 0.5
QUIET_SHARE_MAX = 0.04
SHIPPING_S_MAX = 120.0
CONTESTANTS = ("direct", "nginx", "sublet", "sublet, durability process", LEDGER, HELD, LIMITED)

WHOLE = json.dumps(
    {
        "id": "chatcmpl-0123456789abcdefghijklmn",
        "object": "chat.completion",
        "created": 1750000000,
        "model": MODEL,
        "choices": [
            {
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": "Hello! This is a short answer of a few words, as in small talk.",
                },
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 23, "completion_tokens": 17, "total_tokens": 40},
        "system_fingerprint": "fp_bench",
    }
).encode()


def chunk(text: str, finish: str | None = None, **more: Any) -> bytes:
    return (
        b"data: "
        + json.dumps(
            {
                "id": "chatcmpl-0123456789abcdefghijklmn",
                "object": "chat.completion.chunk",
                "created": 1750000000,
                "model": MODEL,
                "system_fingerprint": "fp_bench",
                "choices": [{"index": 0, "delta": {"content": text} if text else {}, "finish_reason": finish}],
                **more,
            },
            separators=(",", ":"),
        ).encode()
        + b"\n\n"
    )


def framed(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


# The upstream


class Upstream(asyncio.Protocol):
    """Answers at once, or a stream of EVENTS chunks, one every PACE_S."""

    chunks = tuple(framed(chunk(f"word{number} ")) for number in range(EVENTS))
    last = framed(chunk("", "stop"))
    usage = framed(
        chunk("", choices=[], usage={"prompt_tokens": 23, "completion_tokens": EVENTS, "total_tokens": 23 + EVENTS})
    )
    done = framed(b"data: [DONE]\n\n") + b"0\r\n\r\n"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.parser = httptools.HttpRequestParser(self)
        self.body = b""

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_message_begin(self) -> None:
        self.body = b""

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        if b'"stream":true' not in self.body:
            head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(WHOLE)
            self.transport.write(head + WHOLE)
            return
        self.transport.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n" + self.chunks[0]
        )
        self._next(1, b'"include_usage":true' in self.body, asyncio.get_running_loop().time() + PACE_S)

    def _next(self, number: int, usage: bool, due: float) -> None:
        asyncio.get_running_loop().call_at(due, self._send, number, usage, due)

    def _send(self, number: int, usage: bool, due: float) -> None:
        if self.transport.is_closing():
            return
        if number < EVENTS:
            self.transport.write(self.chunks[number])
            self._next(number + 1, usage, due + PACE_S)
        else:
            self.transport.write(self.last + (self.usage if usage else b"") + self.done)


async def serve_upstream(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Upstream, "127.0.0.1", port, backlog=4096)
    async with server:
        await server.serve_forever()


# The generator


class Client(asyncio.Protocol):
    """One connection, one request at a time."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self.busy = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.parser = httptools.HttpResponseParser(self)

    def ask(self, planned: float) -> None:
        self.busy = True
        self.planned = planned
        self.first = 0.0
        self.events = 0
        self.transport.write(self.load.request)

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        if not self.first:
            self.first = time.perf_counter()
        self.events += body.count(b"\n\n")

    def on_message_complete(self) -> None:
        self.busy = False
        self.load.ended(self, self.parser.get_status_code())


class Load:
    """A closed loop of `connections`, or an open one of `rate` requests a second."""

    def __init__(self, port: int, request: bytes, connections: int, seconds: float, rate: float = 0.0) -> None:
        self.port = port
        self.request = request
        self.connections = connections
        self.seconds = seconds
        self.rate = rate
        self.latencies_s: list[float] = []
        self.firsts_s: list[float] = []
        self.requests = self.failed = self.events = 0
        self.until = 0.0
        self.idle: list[Client] = []

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        clients = []
        for _ in range(self.connections):
            _, client = await loop.create_connection(lambda: Client(self), "127.0.0.1", self.port)
            clients.append(client)
        self.until = time.perf_counter() + self.seconds
        if self.rate:
            self.idle = clients[:]
            await self._open_loop()
        else:
            for client in clients:
                client.ask(time.perf_counter())
        deadline = time.perf_counter() + self.seconds + 30
        while any(client.busy for client in clients) and time.perf_counter() < deadline:
            await asyncio.sleep(0.02)
        for client in clients:
            client.transport.abort()

    async def _open_loop(self) -> None:
        due = time.perf_counter()
        while due < self.until:
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            while due <= time.perf_counter() and self.idle:
                self.idle.pop().ask(due)
                due += 1 / self.rate

    def ended(self, client: Client, status: int) -> None:
        now = time.perf_counter()
        self.requests += 1
        self.failed += status != 200
        self.events += client.events
        self.latencies_s.append(now - client.planned)
        self.firsts_s.append(client.first - client.planned)
        if self.rate:
            self.idle.append(client)
        elif now < self.until:
            client.ask(now)


def request_bytes(key: str, stream: bool) -> bytes:
    fields: dict[str, Any] = {
        "model": MODEL,
        "messages": [
            {"role": "system", "content": "You are a helpful assistant."},
            {"role": "user", "content": "Say hello in a few words please."},
        ],
        "max_tokens": 128,
        "temperature": 0.7,
    }
    if stream:
        fields |= {"stream": True, "stream_options": {"include_usage": True}}
    body = json.dumps(fields, separators=(",", ":")).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {key}\r\ncontent-length: {len(body)}\r\n"
    return (head + "content-type: application/json\r\n\r\n").encode() + body


# The contestants


def serve_sublet(folder: Path, port: int, upstream: int, name: str) -> None:
    """The gateway with a database of its own and one model, which is the upstream."""
    import sublet.store.tables  # noqa: F401  registers every table
    from sublet.accounts.service import Accounts
    from sublet.gateway.model import GatewaySettings
    from sublet.gateway.server import run
    from sublet.store import Store
    from sublet.store.metadata import metadata
    from sublet.wiring.model_api import gateway_ports

    store = Store(f"sqlite:///{folder}/bench.db")
    metadata.create_all(store.engine)
    accounts = Accounts(store)
    organization = accounts.create_organization("bench").id
    _, secret = accounts.create_key(organization)
    add_model(store, upstream, 1024)
    (folder / "key").write_text(secret)
    settings = GatewaySettings(
        data_dir=folder,
        port=port,
        requests_per_minute_max=100_000_000,
        concurrency_max=10_000,
        durability="process" if "process" in name else "disk",
    )
    if name not in (LEDGER, HELD, LIMITED):
        run(settings, store, gateway_ports(lambda records: None))
        return
    from sublet.wiring.requests import DeskHolds

    if name == LIMITED:
        limit(store, organization)
    emit, desk = into_ledger(store, organization, budgeted=name == HELD)
    run(settings, store, gateway_ports(emit, holds=DeskHolds(desk)))


def limit(store: Any, organization: str) -> None:
    """Set limits of every kind for the organization, and for its calls of the model, so high that nothing is refused."""
    from sublet.accounts.limits.model import Allowed
    from sublet.accounts.limits.service import Limits
    from sublet.accounts.model import Actor

    operator = Actor("key_bench", organization, "operator", frozenset(), role="operator", reach="all")
    allowed = Allowed(10**9, 10**11, 10**11, 10**5)
    for model in ("", MODEL):
        Limits(store).create(operator, (organization, "organization", "", model), allowed)


def add_model(store: Any, upstream: int, slots: int) -> None:
    """Put the upstream into the database, as a model with one replica."""
    from sqlalchemy import insert

    from sublet.models.catalog import parse_entry
    from sublet.store.tables.models import deployments, models, replicas

    now = store.clock.now()
    entry = parse_entry(
        {"name": MODEL, "engine": "openai_url", "source": {"url": f"http://127.0.0.1:{upstream}/v1"}, "slots": slots},
        "bench",
    )
    times = {"created_at": now, "updated_at": now}

    def write(connection: Any) -> None:
        connection.execute(insert(models).values(name=MODEL, entry=entry.as_dict(), created_at=now))
        deployment = {"id": "dep_b", "model": MODEL, "pool_id": "", "floor": 1, "replicas_max": 1, "state": "active"}
        connection.execute(insert(deployments).values(**deployment, **times))
        replica = {
            "id": "rep_b",
            "deployment_id": "dep_b",
            "model": MODEL,
            "pool_id": "",
            "accelerators": 0,
            "slots": slots,
        }
        replica |= {"state": "ready", "endpoint": f"http://127.0.0.1:{upstream}", "restarts": 0, "reason": ""}
        connection.execute(insert(replicas).values(**replica, created_at=now))

    store.write(write)


def into_ledger(store: Any, organization: str, *, budgeted: bool) -> tuple[Callable[[list[Any]], None], Any]:
    """What takes usage to a ledger with prices, and the desk that holds are placed at."""
    from sublet.ledger.budgets.desk import HoldDesk
    from sublet.ledger.prices.book import book_from_dict
    from sublet.ledger.service import Ledger, new_budget
    from sublet.wiring.requests import take_usage

    ledger = Ledger(store)
    price = {"kind": "per_unit", "currency": "USD", "amount": "0.1", "per": 1_000_000, "from": "2020-01-01T00:00:00Z"}
    meters = ("tokens.input", "tokens.input_cached", "tokens.output")
    book = {"prices": [{"id": f"p{number}", "meter": meter} | price for number, meter in enumerate(meters)]}
    ledger.publish_prices(book_from_dict(book, "bench"))
    if budgeted:
        ledger.create_budget(new_budget(organization, 10**18, thresholds=()))

    def emit(records: list[Any]) -> None:
        def write(connection: Any) -> None:
            take_usage(connection, ledger, "bench", records, store.clock.now())

        store.write(write)

    return emit, HoldDesk(store, ledger.spending)


NGINX = """
worker_processes 1; daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log crit;
events {{ worker_connections 8192; }}
http {{
  access_log off; client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s; client_body_buffer_size 1m;
  upstream up {{ server 127.0.0.1:{upstream}; keepalive 1024; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096; keepalive_requests 100000000;
    location / {{
      proxy_pass http://up; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off;
      proxy_request_buffering off; tcp_nodelay on;
    }}
  }}
}}
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def process(command: list[str], port: int, log: Path, source: Path | None = None) -> Iterator[int]:
    """A process that listens on `port`, ended afterwards; its id. Its packages come from `source`, if that is given."""
    environment = os.environ | ({"PYTHONPATH": str(source)} if source is not None else {})
    with log.open("wb") as output:
        child = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True, env=environment)
    try:
        deadline = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                if child.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit(f"{command[0]} did not start:\n{log.read_text()[-2000:]}") from None
                time.sleep(0.05)
        yield child.pid
    finally:
        child.send_signal(signal.SIGTERM)
        try:
            child.wait(15)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


@contextmanager
def contestant(name: str, upstream: int, folder: Path, other: Path | None) -> Iterator[tuple[int, int | None, str]]:
    """Port, process id and key of a started contestant; `other` is the checkout of those whose names say so."""
    if name == "direct":
        yield upstream, None, "none"
        return
    port = free_port()
    folder.mkdir()
    source = None
    if name == "nginx":
        (folder / "nginx.conf").write_text(NGINX.format(folder=folder, port=port, upstream=upstream))
        command = [shutil.which("nginx") or "/usr/sbin/nginx", "-c", str(folder / "nginx.conf"), "-p", str(folder)]
    else:
        script = Path(__file__)
        if name.startswith(OTHER) and other is not None:
            script, source = other / "bench" / "gateway.py", other / "src"
        command = [
            sys.executable,
            str(script),
            "serve",
            str(folder),
            str(port),
            str(upstream),
            name.removeprefix(OTHER),
        ]
    with process(command, port, folder / "log", source) as pid:
        yield port, pid, (folder / "key").read_text() if name != "nginx" else "none"


def family(root: int) -> list[int]:
    found = [root]
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            if int(path.read_text().rpartition(")")[2].split()[1]) in found:
                found.append(int(path.parent.name))
        except (OSError, ValueError):
            continue
    return found


def cpu_s(root: int | None) -> float:
    """User and system seconds of a process and its children."""
    if root is None:
        return 0.0
    total = 0
    for pid in family(root):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / TICK_S


def quiet(root: int | None) -> float:
    """Wait until the contestant has next to nothing to do, its shipping ended; the seconds that took."""
    began = time.monotonic()
    last = cpu_s(root)
    while root is not None:
        time.sleep(QUIET_S)
        now = cpu_s(root)
        if now - last <= QUIET_S * QUIET_SHARE_MAX:
            break
        if time.monotonic() - began > SHIPPING_S_MAX:
            raise SystemExit(f"the contestant is not done {SHIPPING_S_MAX:.0f} s after the end of the load")
        last = now
    return max(0.0, time.monotonic() - began - QUIET_S)


def rss_mb(root: int | None, name: str = "VmRSS") -> float:
    total = 0
    for pid in family(root) if root is not None else []:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(name):
                total += int(line.split()[1])
    return total / 1024


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))] if values else 0.0


def measure(port: int, pid: int | None, key: str, make: Callable[[int, bytes], Load], stream: bool) -> dict[str, float]:
    load = make(port, request_bytes(key, stream))
    quiet(pid)
    before = cpu_s(pid)
    uvloop.run(load.run())
    loaded_s = cpu_s(pid) - before
    shipping_s = quiet(pid)
    used_s = cpu_s(pid) - before
    if load.failed or not load.requests:
        raise SystemExit(f"{load.failed} of {load.requests} requests failed")
    return {
        "requests": load.requests,
        "events": load.events,
        "requests_per_s": load.requests / load.seconds,
        "cpu_us_per_request": used_s / load.requests * 1e6,
        "cpu_us_per_request_loaded": loaded_s / load.requests * 1e6,
        "shipping_s": shipping_s,
        "cpu_us_per_event": used_s / load.events * 1e6 if load.events else 0.0,
        "latency_ms_p50": percentile(load.latencies_s, 0.5) * 1e3,
        "latency_ms_p99": percentile(load.latencies_s, 0.99) * 1e3,
        "first_event_ms_p50": percentile(load.firsts_s, 0.5) * 1e3,
        "rss_mb": rss_mb(pid),
    }


def scenarios(seconds: float) -> dict[str, tuple[Callable[[int, bytes], Load], bool]]:
    return {
        "whole, 64 connections": (lambda port, request: Load(port, request, 64, seconds), False),
        "stream, 128 at 20 ms": (lambda port, request: Load(port, request, 128, seconds), True),
        "whole, 300 a second": (lambda port, request: Load(port, request, 64, seconds, 300), False),
        "stream, 10 a second": (lambda port, request: Load(port, request, 64, seconds, 10), True),
        "stream, 512 at 20 ms": (lambda port, request: Load(port, request, 512, seconds), True),
    }


def run_all(
    rounds: int, seconds: float, contestants: tuple[str, ...], wanted: list[str], other: Path | None
) -> dict[str, Any]:
    found: dict[str, dict[str, list[dict[str, float]]]] = {}
    idle_mb: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="sublet-bench-") as temporary:
        folder = Path(temporary)
        upstream = free_port()
        with process([sys.executable, __file__, "upstream", str(upstream)], upstream, folder / "upstream.log"):
            for number in range(rounds):
                for name in contestants:
                    own = folder / f"{name.split(',')[0].replace(' ', '')}-{number}-{len(name)}"
                    with contestant(name, upstream, own, other) as (port, pid, key):
                        idle_mb[name] = rss_mb(pid)
                        measure(port, pid, key, lambda port, request: Load(port, request, 16, 0.5), False)
                        for scenario in wanted:
                            make, stream = scenarios(seconds)[scenario]
                            result = measure(port, pid, key, make, stream)
                            found.setdefault(scenario, {}).setdefault(name, []).append(result)
                            show(number, scenario, name, result)
    return {
        "machine": {
            "cores": os.cpu_count(),
            "shared": True,
            "kernel": platform.release(),
            "python": platform.python_version(),
            "load_average": os.getloadavg()[0],
        },
        "rounds": rounds,
        "seconds": seconds,
        "held": ratios(found, lambda name: LEDGER if name == HELD else None),
        "limited": ratios(found, lambda name: LEDGER if name == LIMITED else None),
        "nginx": ratios(found, lambda name: "nginx" if "sublet" in name else None),
        "other": ratios(found, lambda name: OTHER + name),
        "idle_rss_mb": {name: round(value, 1) for name, value in idle_mb.items()},
        "medians": {
            scenario: {
                name: {key: round(statistics.median(item[key] for item in results), 3) for key in results[0]}
                for name, results in by_name.items()
            }
            for scenario, by_name in found.items()
        },
    }


def ratios(
    found: dict[str, dict[str, list[dict[str, float]]]], base_of: Callable[[str], str | None]
) -> dict[str, dict[str, dict[str, float]]]:
    """By scenario and contestant, its medians against those of the one that `base_of` names, where that one ran."""
    wanted = ("cpu_us_per_request", "cpu_us_per_event", "latency_ms_p50", "requests_per_s")

    def median(results: list[dict[str, float]], key: str) -> float:
        return statistics.median(item[key] for item in results)

    return {
        scenario: {
            name: {key: round(median(results, key) / median(base, key), 3) for key in wanted if median(base, key)}
            for name, results in by_name.items()
            if (base := by_name.get(base_of(name) or ""))
        }
        for scenario, by_name in found.items()
    }


def show(number: int, scenario: str, name: str, result: dict[str, float]) -> None:
    print(
        f"round {number + 1}  {scenario:24} {name:35} {result['requests_per_s']:8.0f} req/s  "
        f"{result['cpu_us_per_request']:8.1f} us/req  {result['cpu_us_per_event']:6.1f} us/event  "
        f"shipping {result['shipping_s']:4.1f} s  "
        f"p50 {result['latency_ms_p50']:7.2f}  p99 {result['latency_ms_p99']:7.2f}  "
        f"first {result['first_event_ms_p50']:6.2f} ms  {result['rss_mb']:5.0f} MB",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the gateway against nginx.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--only", nargs="*", default=list(CONTESTANTS), choices=CONTESTANTS, metavar="CONTESTANT")
    parser.add_argument(
        "--scenarios", nargs="*", default=list(scenarios(0)), choices=list(scenarios(0)), metavar="SCENARIO"
    )
    parser.add_argument("--other", type=Path, help="another checkout whose gateway runs in the same rounds")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    if "nginx" in options.only and shutil.which("nginx") is None and not Path("/usr/sbin/nginx").exists():
        raise SystemExit(
            "nginx is not installed, and without it there is nothing to compare with; install the package nginx"
        )
    contestants = list(options.only)
    if options.other is not None:
        contestants += [OTHER + name for name in options.only if name.startswith("sublet")]
    results = run_all(options.rounds, options.seconds, tuple(contestants), options.scenarios, options.other)
    options.out.write_text(json.dumps(results, indent=1) + "\n")
    print(f"written to {options.out}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["upstream"]:
        uvloop.run(serve_upstream(int(sys.argv[2])))
    elif sys.argv[1:2] == ["serve"]:
        serve_sublet(Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), sys.argv[5])
    else:
        main()
