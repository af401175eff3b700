"""Raw leases measured: admission, planning, and real sandboxes on this machine.

    python bench/leases.py [--leases 50] [--rounds 15] [--sales 480] [--bookings 100000] [--out bench/results/leases.json]

A sale is a quote and its acceptance, both durable, on SQLite in one process, with the real surplus, prices and budgets, next to
bare SQLite transactions of one insert. Sandboxes are measured one after the other and many at once; a client logs in with OpenSSH
where the machine has it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.lease_admission import ms, quotes_on_a_full_book, run_all, sales
from tests.leases.machine import Tenant, client_key, local_settings, tenant
from tests.leases.test_reclaim import NOW, a_lease

import sublet.store.tables  # noqa: F401  registers every table
from sublet.leases.backends.base import RunState, StartOrder
from sublet.leases.backends.local.backend import LocalBackend
from sublet.leases.reclaim.victims import plan_reclaim
from sublet.values.ids import new_id


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--leases", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--sales", type=int, default=480)
    parser.add_argument("--bookings", type=int, default=100_000)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "leases.json")
    options = parser.parse_args()
    figures: dict[str, Any] = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {
            "cores": os.cpu_count(),
            "shared": True,
            "load": os.getloadavg()[0],
            "kernel": platform.release(),
            "python": platform.python_version(),
            "root": os.geteuid() == 0,
        },
    }
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        figures["sales_sqlite"] = sales(base, options.sales, 16, 1_000)
        figures["quotes"] = quotes_on_a_full_book(base, 100, options.bookings)
        figures["reclaim_plan_1000"] = reclaim_plan()
        figures["sandbox"] = sandboxes(base, options.rounds)
        figures["at_once"] = at_once(base, options.leases)
    options.out.parent.mkdir(exist_ok=True)
    options.out.write_text(json.dumps(figures, indent=1) + "\n")
    print(json.dumps(figures, indent=1))


def reclaim_plan(rounds: int = 9) -> dict[str, Any]:
    leases = [a_lease(n, "spot" if n % 2 else "notice", 1 + n % 8, ends_s=3600 + n, age_s=n % 77) for n in range(1000)]
    took = []
    for _ in range(rounds):
        began = time.perf_counter()
        plan = plan_reclaim("pool", 4000, NOW, leases, NOW, why="bench")
        took.append(time.perf_counter() - began)
    return {"p50_ms": ms(statistics.median(took)), "victims": len(plan.victims)}


def sandboxes(base: Path, rounds: int) -> dict[str, Any]:
    """Accept to a login prompt, the first command over SSH, and the end until it is proved clean."""
    found: dict[str, Any] = {}
    for door in ("openssh", "asyncssh"):
        backend = LocalBackend(local_settings(base / door, force_asyncssh=door == "asyncssh"))
        if door not in backend.capabilities.doors:
            continue
        key, starts, firsts, ends, clean = client_key(base), [], [], [], True
        for index in range(rounds):
            began = time.perf_counter()
            one = tenant(backend, base, key, f"cpu:{index % 2}")
            starts.append(time.perf_counter() - began)
            assert one.run("echo in")[1] == "in"
            firsts.append(time.perf_counter() - began)
            one.run(
                "for i in 1 2 3 4 5; do (setsid nohup sleep 999 >/dev/null 2>&1 &); done; head -c 20000000 /dev/urandom > junk"
            )
            began = time.perf_counter()
            seen = backend.stop(one.lease_id, "bench", 0.0)
            ends.append(time.perf_counter() - began)
            clean = clean and bool(seen.clean)
            backend.forget(one.lease_id)
        found[door] = {
            "start_p50_ms": ms(statistics.median(starts)),
            "start_to_first_command_p50_ms": ms(statistics.median(firsts)),
            "start_to_first_command_p95_ms": ms(sorted(firsts)[int(len(firsts) * 0.95)]),
            "end_to_proved_clean_p50_ms": ms(statistics.median(ends)),
            "end_to_proved_clean_max_ms": ms(max(ends)),
            "all_clean": clean,
            "rounds": rounds,
        }
    return found


def at_once(base: Path, count: int) -> dict[str, Any]:
    backend = LocalBackend(local_settings(base / "many"))
    key = client_key(base)
    line = key.with_name("client_key.pub").read_text()
    end = datetime.now(UTC) + timedelta(hours=1)
    orders = [StartOrder(new_id("lse"), "org_a", (f"cpu:{index % 2}",), (line,), end) for index in range(count)]
    began = time.perf_counter()
    run_all([lambda part=part: [backend.start(order) for order in orders[part::4]] for part in range(4)])
    while any(backend.observe(order.lease_id).state is not RunState.RUNNING for order in orders):
        time.sleep(0.02)
    live_s = time.perf_counter() - began
    tenants = [Tenant(backend, order.lease_id, key, base) for order in orders]
    memory = statistics.median(memory_of(backend, order.lease_id) for order in orders)
    began = time.perf_counter()
    run_all([lambda part=part: [one.run("true") for one in tenants[part::4]] for part in range(4)])
    login_s = time.perf_counter() - began
    began = time.perf_counter()
    run_all([lambda part=part: [one.stop() for one in tenants[part::8]] for part in range(8)])
    stop_s = time.perf_counter() - began
    return {
        "leases": count,
        "live_s": round(live_s, 2),
        "logins_s": round(login_s, 2),
        "stopped_s": round(stop_s, 2),
        "all_clean": all(one.seen.clean for one in tenants),
        "idle_memory_mib_p50": round(memory / (1 << 20), 1),
    }


def memory_of(backend: LocalBackend, lease_id: str) -> int:
    """Proportional memory of a lease's shim, bubblewrap and PID 1."""
    state = json.loads((backend._base / lease_id / "state.json").read_text())
    parent = int(Path(f"/proc/{state['init_pid']}/status").read_text().split("PPid:")[1].split()[0])
    total = 0
    for pid in {state["pid"], parent, state["init_pid"]}:
        for row in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if row.startswith("Pss:"):
                total += int(row.split()[1]) * 1024
    return total


if __name__ == "__main__":
    main()
