"""How long one tenant waits while another one floods a model: 60 threads of A and one of B on four slots.

    python bench/fairness.py            # into bench/results/fairness.json
    python bench/fairness.py --seconds 60 --service 0.5

A real gateway over loopback in front of an upstream that takes `service` seconds, give or take a fifth, for each answer. Waits
are what clients saw beyond the upstream's own time, in service times, and refusals are counted. The generator is a process of
its own, with a connection per thread.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import statistics
import sys
import tempfile
import threading
import time
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from gateway import MODEL, WHOLE, free_port, percentile, process

RESULTS = Path(__file__).parent / "results" / "fairness.json"
SLOTS = 4


def serve_upstream(port: int, service_s: float) -> None:
    """Answers after `service_s`, give or take a fifth; says in a header how long it took."""
    import asyncio

    chance = random.Random(7)

    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := (await reader.readuntil(b"\r\n\r\n")).lower():
            length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
            await reader.readexactly(length)
            await asyncio.sleep(service_s * chance.uniform(0.8, 1.2))
            writer.write(
                b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
                % (len(WHOLE), WHOLE)
            )

    async def serve() -> None:
        server = await asyncio.start_server(connection, "127.0.0.1", port)
        await server.serve_forever()

    asyncio.run(serve())


def serve_gateway(folder: Path, port: int, upstream: int) -> None:
    """The gateway with its limits as they are by default, but for the number of requests a minute."""
    import sublet.store.tables  # noqa: F401  registers every table
    from gateway import add_model
    from sublet.accounts.service import Accounts
    from sublet.gateway.model import GatewaySettings
    from sublet.gateway.server import run
    from sublet.store import Store
    from sublet.store.metadata import metadata
    from sublet.wiring.model_api import gateway_ports

    store = Store(f"sqlite:///{folder}/bench.db")
    metadata.create_all(store.engine)
    accounts = Accounts(store)
    keys = {name: accounts.create_key(accounts.create_organization(name).id)[1] for name in ("A", "B")}
    add_model(store, upstream, SLOTS)
    (folder / "keys").write_text(json.dumps(keys))
    settings = GatewaySettings(data_dir=folder, port=port, operator_port=0, requests_per_minute_max=1_000_000)
    run(settings, store, gateway_ports(lambda records: None))


class Tenant:
    """Threads that each ask again when they were answered; after a refusal, half a second later."""

    def __init__(self, key: str, port: int, threads: int, until: float) -> None:
        self.latencies_s: list[float] = []
        self.refused = 0
        self._key, self._port, self._until = key, port, until
        self._threads = [threading.Thread(target=self._ask) for _ in range(threads)]
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        for thread in self._threads:
            thread.join()

    def _ask(self) -> None:
        connection = HTTPConnection("127.0.0.1", self._port, timeout=120)
        body = json.dumps({"model": MODEL, "messages": [{"role": "user", "content": "hi"}]})
        headers = {"authorization": f"Bearer {self._key}", "content-type": "application/json"}
        while time.monotonic() < self._until:
            began = time.monotonic()
            connection.request("POST", "/v1/chat/completions", body, headers)
            answer = connection.getresponse()
            answer.read()
            if answer.status == 200:
                self.latencies_s.append(time.monotonic() - began)
            else:
                self.refused += 1
                time.sleep(0.5)

    def figures(self, service_s: float) -> dict[str, float]:
        waits = [max(0.0, latency / service_s - 1) for latency in self.latencies_s]
        return {
            "served": len(waits),
            "refused": self.refused,
            "wait_p50_in_service_times": round(statistics.median(waits), 2) if waits else -1.0,
            "wait_p99_in_service_times": round(percentile(waits, 0.99), 2),
            "wait_max_in_service_times": round(max(waits, default=-1.0), 2),
        }


def measure(seconds: float, service_s: float, threads: dict[str, int]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="sublet-fairness-") as temporary:
        folder = Path(temporary)
        upstream, port = free_port(), free_port()
        up = [sys.executable, __file__, "upstream", str(upstream), str(service_s)]
        served = [sys.executable, __file__, "serve", str(folder), str(port), str(upstream)]
        with process(up, upstream, folder / "up.log"), process(served, port, folder / "log"):
            keys = json.loads((folder / "keys").read_text())
            until = time.monotonic() + seconds
            tenants = {name: Tenant(keys[name], port, number, until) for name, number in threads.items()}
            for tenant in tenants.values():
                tenant.join()
    return {name: tenant.figures(service_s) for name, tenant in tenants.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure how fair the gateway's queue is.")
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--service", type=float, default=0.25, help="seconds that an answer takes")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    runs = {f"{a} of A, {b} of B": {"A": a, "B": b} for a, b in ((60, 1), (60, 8))}
    results = {
        "machine": {
            "cores": os.cpu_count(),
            "shared": True,
            "kernel": platform.release(),
            "python": platform.python_version(),
            "load_average": os.getloadavg()[0],
        },
        "slots": SLOTS,
        "service_s": options.service,
        "seconds": options.seconds,
        "threads": {name: measure(options.seconds, options.service, threads) for name, threads in runs.items()},
    }
    options.out.write_text(json.dumps(results, indent=1) + "\n")
    print(json.dumps(results["threads"], indent=1))


if __name__ == "__main__":
    if sys.argv[1:2] == ["upstream"]:
        serve_upstream(int(sys.argv[2]), float(sys.argv[3]))
    elif sys.argv[1:2] == ["serve"]:
        serve_gateway(Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
    else:
        main()
