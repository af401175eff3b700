"""Leases on a real Slurm cluster measured beside Slurm's own login, in the same run; and how fast a large cluster is read.

    python bench/slurm.py [--rounds 8] [--out bench/results/slurm.json]

Starts a cluster of three nodes on this machine, as the tests do. "Slurm's own" is a job that runs a bare OpenSSH server, from
`sbatch` to the first command; "Sublet" is from the start of a lease, its reservation included. Needs root and Debian's packages.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.leases.machine import client_key
from tests.leases.slurm_cluster import SlurmCluster, missing

from sublet.leases.backends.base import RunState, StartOrder
from sublet.leases.backends.engine import ReserveOrder
from sublet.leases.backends.slurm.backend import SlurmBackend
from sublet.leases.backends.slurm.records import nodes_of, works_of
from sublet.values.clock import SystemClock
from sublet.values.ids import new_id
from sublet.values.windows import Window

OWN_PORT = 23_990
WAIT_S = 60.0


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "slurm.json")
    options = parser.parse_args()
    if reason := missing():
        sys.exit(reason)
    figures: dict[str, Any] = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {"cores": os.cpu_count(), "load": os.getloadavg()[0], "kernel": platform.release()},
        "reading": reading(),
    }
    with tempfile.TemporaryDirectory(prefix="slb.") as folder:
        cluster = SlurmCluster(Path(folder))
        try:
            began = time.perf_counter()
            cluster.start()
            figures["cluster_start_s"] = round(time.perf_counter() - began, 1)
            figures["login"] = logins(cluster, Path(folder), options.rounds)
            figures["reservations"] = reservations(cluster, Path(folder))
        finally:
            cluster.stop()
    options.out.parent.mkdir(exist_ok=True)
    options.out.write_text(json.dumps(figures, indent=1) + "\n")
    print(json.dumps(figures, indent=1))


def logins(cluster: SlurmCluster, base: Path, rounds: int) -> dict[str, Any]:
    """One of Slurm's own and one of Sublet's in turn."""
    shared, key = base / "shared", client_key(base)
    shared.mkdir(mode=0o700)
    backend = SlurmBackend("slurm", SystemClock(), cluster.settings(shared))
    own, ours, ends = [], [], []
    for _ in range(rounds):
        own.append(own_login(cluster, base, key))
        order = StartOrder(
            new_id("lse"),
            "org_a",
            ("x",),
            (key.with_name("client_key.pub").read_text(),),
            datetime.now(UTC) + timedelta(minutes=5),
        )
        began = time.perf_counter()
        backend.start(order)
        until(lambda: backend.observe(order.lease_id).state is RunState.RUNNING)  # noqa: B023
        door = backend.observe(order.lease_id).endpoint
        assert door is not None
        until(lambda: ssh(key, door.port, door.user))  # noqa: B023
        ours.append(time.perf_counter() - began)
        began = time.perf_counter()
        assert backend.stop(order.lease_id, "bench", 0.0).clean
        ends.append(time.perf_counter() - began)
        backend.forget(order.lease_id)
    return {
        "slurm_own_p50_s": round(statistics.median(own), 2),
        "sublet_p50_s": round(statistics.median(ours), 2),
        "sublet_max_s": round(max(ours), 2),
        "over_slurm_own_p50_s": round(statistics.median(ours) - statistics.median(own), 2),
        "end_to_proved_clean_p50_s": round(statistics.median(ends), 2),
        "rounds": rounds,
    }


def own_login(cluster: SlurmCluster, base: Path, key: Path) -> float:
    """Seconds from `sbatch` of a job with a bare OpenSSH server to the first command."""
    folder = base / "own"
    folder.mkdir(exist_ok=True)
    Path("/run/sshd").mkdir(exist_ok=True)
    if not (folder / "host").exists():
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / "host"], check=True)
    keys = folder / "keys"
    keys.write_text(key.with_name("client_key.pub").read_text())
    conf = folder / "conf"
    lines = (
        f"HostKey {folder}/host",
        f"AuthorizedKeysFile {keys}",
        "StrictModes no",
        "UsePAM no",
        "PidFile none",
        "PermitRootLogin yes",
    )
    conf.write_text("\n".join(lines) + "\n")
    began = time.perf_counter()
    script = f"exec srun /usr/sbin/sshd -D -e -f {conf} -p {OWN_PORT} -o ListenAddress=127.0.0.1"
    job = cluster.submit(script, "-p", "leases", "-N1", "--exclusive", "--time=5")
    until(lambda: ssh(key, OWN_PORT, "root"))
    seconds = time.perf_counter() - began
    cluster.run("scancel", job)
    cluster.until("a job that is gone", lambda: not cluster.run("squeue", "-h", "-a"))
    return seconds


def reservations(cluster: SlurmCluster, base: Path, count: int = 60) -> dict[str, Any]:
    """Made one after the other, each with its check, as the planner asserts them."""
    backend = SlurmBackend("slurm", SystemClock(), cluster.settings(base / "shared"))
    start = datetime.now(UTC) + timedelta(hours=1)
    orders = [
        ReserveOrder(
            new_id("lse"),
            "org_a",
            1,
            Window(start + timedelta(minutes=10 * turn), start + timedelta(minutes=10 * turn + 5)),
        )
        for turn in range(count)
    ]
    began = time.perf_counter()
    for order in orders:
        backend.reserve(order)
    made = time.perf_counter() - began
    began = time.perf_counter()
    assert len(backend.observe_all()) == count
    looked = time.perf_counter() - began
    for order in orders:
        backend.release(order.lease_id)
    return {"reserve_ms": round(made / count * 1000, 1), f"observe_all_{count}_ms": round(looked * 1000, 1)}


def reading() -> dict[str, Any]:
    """CPU seconds to read what squeue prints of 100,000 jobs and sinfo of 5,000 nodes in two partitions."""
    lines = [
        f"n{number:04d}|{part}|mixed|gpu:h100:8|h100|none" for part in ("internal", "leases") for number in range(5_000)
    ]
    nodes = "\n".join(lines)
    jobs = "\n".join(
        f"{number}|{'PENDING' if number % 20 else 'RUNNING'}|internal|1795975344|1795975344|1795979999|1-00:00:00|2|"
        f"{'' if number % 20 else f'n[{number % 4000:04d}-{number % 4000 + 1:04d}]'}|gres:gpu:8|Priority|(null)"
        for number in range(100_000)
    )
    began = time.process_time()
    here = frozenset(line.name for line in nodes_of(nodes, "leases", 8))
    of_nodes = time.process_time() - began
    began = time.process_time()
    works = list(works_of(jobs, here, frozenset({"internal"}), 8, "tag"))
    assert len(works) == 100_000
    return {"nodes_5000_cpu_s": round(of_nodes, 3), "jobs_100000_cpu_s": round(time.process_time() - began, 2)}


def ssh(key: Path, port: int, user: str) -> bool:
    done = subprocess.run(
        ["ssh", "-p", str(port), "-i", str(key), "-F", "none", "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes", "-o",
         "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", f"{user}@127.0.0.1", "true"],
        capture_output=True, check=False, stdin=subprocess.DEVNULL, timeout=30,
    )  # fmt: skip
    return done.returncode == 0


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


if __name__ == "__main__":
    main()
