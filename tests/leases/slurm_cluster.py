"""A real Slurm cluster on this machine: controller, accounting, and several nodes, on loopback, in a directory of its own."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sublet.leases.backends.slurm.files import SlurmFiles
from sublet.leases.backends.slurm.settings import SlurmSettings
from sublet.leases.model import Timing

NEEDED = ("slurmctld", "slurmd", "slurmdbd", "munged", "mariadbd")
GRACE_S = 4
READY_S = 60.0
MIB = 1 << 20
_PATH = f"{os.environ.get('PATH', '')}:/usr/local/sbin:/usr/sbin:/sbin"


def missing() -> str:
    """Why there can be no cluster here; empty where there can."""
    absent = [name for name in NEEDED if shutil.which(name, path=_PATH) is None]
    if absent:
        return f"{', '.join(absent)} is not installed"
    return "" if os.geteuid() == 0 else "Slurm's daemons need root here"


@dataclass
class SlurmCluster:
    """`nodes` slurmd on this machine. Partitions: internal (before all others), leases, and spot, which internal work preempts."""

    root: Path
    nodes: int = 3
    daemons: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def conf(self) -> Path:
        return self.root / "slurm.conf"

    @property
    def names(self) -> list[str]:
        return [f"n{number}" for number in range(1, self.nodes + 1)]

    @property
    def environment(self) -> dict[str, str]:
        return {"PATH": _PATH, "SLURM_CONF": str(self.conf), "TZ": "UTC", "SLURM_TIME_FORMAT": "%s", "LC_ALL": "C"}

    def settings(self, shared: Path, **changes: Any) -> SlurmSettings:
        """Each node is one accelerator."""
        values: dict[str, Any] = {
            "shared": shared,
            "partition": "leases",
            "accelerators_per_node": 1,
            "preemptible_partition": "spot",
            "preemptible_classes": frozenset({"spot"}),
            "conf": self.conf,
            "door_host": "127.0.0.1",
            "bind_host": "127.0.0.1",
            "timing": Timing(prepare_s=0, clean_s=60),
            "sandbox": {
                "port_first": 23_000,
                "port_last": 23_999,
                "memory_bytes": 256 * MIB,
                "disk_bytes": 64 * MIB,
                "processes_max": 64,
            },
        }
        return SlurmSettings(**{**values, **changes})

    def run(self, *words: str, given: str = "") -> str:
        done = subprocess.run(
            words, env=self.environment, cwd="/", input=given, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, (words, done.stdout, done.stderr)
        return done.stdout.strip()

    def submit(self, script: str, *words: str) -> str:
        """The id of an internal job."""
        folder = self.root / "internal"
        folder.mkdir(exist_ok=True)
        output = f"--output={folder}/%j.log"
        return self.run("sbatch", "--parsable", "--chdir=/", output, *words, given=f"#!/bin/sh\n{script}\n")

    def state(self, job: str) -> str:
        return self.run("squeue", "-h", "-a", "-j", job, "-o", "%T")

    def until(self, what: str, condition: Callable[[], Any], seconds: float = READY_S) -> None:
        deadline = time.monotonic() + seconds
        while True:
            with contextlib.suppress(AssertionError, subprocess.TimeoutExpired):
                if condition():
                    return
            assert time.monotonic() < deadline, f"after {seconds} s: not {what}; {self.told()}"
            time.sleep(0.05)

    def told(self) -> str:
        log = self.root / "log" / "slurmctld.out"
        return log.read_text(errors="replace")[-2000:] if log.exists() else "slurmctld said nothing"

    def start(self) -> None:
        for name in ("state", "log", "spool", "munge", "db"):
            (self.root / name).mkdir(parents=True, exist_ok=True)
        self.root.chmod(0o755)
        (self.root / "munge").chmod(0o711)
        self._configure()
        key = self.root / "munge/key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        munge = self.root / "munge"
        self._daemon(
            "munged", "munged", "--foreground", "--force", "-S", f"{munge}/sock", f"--key-file={key}",
            f"--pid-file={munge}/pid", f"--log-file={munge}/log", f"--seed-file={munge}/seed",
        )  # fmt: skip
        self._accounting()
        self.controller()
        for name in self.names:
            self._daemon(name, "slurmd", "-D", "-N", name)
        self.until(
            "every node idle",
            lambda: self.run("sinfo", "-h", "-N", "-p", "leases", "-o", "%T").count("idle") == self.nodes,
        )

    def controller(self) -> None:
        """Start the controller, as after its death."""
        self._daemon("slurmctld", "slurmctld", "-D")
        self.until("a controller that answers", lambda: "UP" in self.run("scontrol", "ping"))

    def kill_controller(self) -> None:
        daemon = self.daemons.pop("slurmctld")
        daemon.send_signal(signal.SIGKILL)
        daemon.wait()

    @contextlib.contextmanager
    def frozen_controller(self) -> Iterator[None]:
        """It takes connections and answers none."""
        self.daemons["slurmctld"].send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.daemons["slurmctld"].send_signal(signal.SIGCONT)

    def kill_holders(self, shared: Path, lease_id: str) -> None:
        """SIGKILL to what holds the lease's nodes, by the pids that it wrote, and wait until Slurm knows."""
        files = SlurmFiles(shared, lease_id)
        order = files.order()
        assert order is not None
        for report in files.reports(order.generation)[-1]:
            os.kill(report.pid, signal.SIGKILL)
        self.until(
            "a job that is over",
            lambda: not self.run("squeue", "-h", "-a", "-n", f"sublet-{lease_id}-{order.generation}"),
        )

    def clear(self) -> None:
        """No job and no reservation is left, and every node takes work."""
        with contextlib.suppress(AssertionError):
            self.run("scancel", "-u", "root")
        self.until("an empty queue", lambda: not self.run("squeue", "-h", "-a"))
        for line in self.run("scontrol", "-o", "show", "reservation").splitlines():
            if line.startswith("ReservationName="):
                self.run("scontrol", "delete", line.split()[0])
        for name in self.names:
            with contextlib.suppress(AssertionError):
                self.run("scontrol", "update", f"NodeName={name}", "State=RESUME")
        self.until(
            "every node idle",
            lambda: self.run("sinfo", "-h", "-N", "-p", "leases", "-o", "%T").count("idle") == self.nodes,
        )

    def stop(self) -> None:
        """Jobs first: they outlive their slurmd by design."""
        with contextlib.suppress(AssertionError, subprocess.TimeoutExpired):
            self.run("scancel", "-u", "root")
            self.until("an empty queue", lambda: not self.run("squeue", "-h", "-a"), 20)
        for number in (signal.SIGTERM, signal.SIGKILL):
            for daemon in reversed(self.daemons.values()):
                if daemon.poll() is None:
                    daemon.send_signal(number)
            deadline = time.monotonic() + 5
            while any(daemon.poll() is None for daemon in self.daemons.values()) and time.monotonic() < deadline:
                time.sleep(0.02)
        for daemon in self.daemons.values():
            daemon.wait(5)
        self.daemons.clear()

    def _daemon(self, name: str, *words: str, **environment: str) -> None:
        program = shutil.which(words[0], path=_PATH)
        assert program is not None
        with open(self.root / "log" / f"{name}.out", "ab") as log:
            self.daemons[name] = subprocess.Popen(
                [program, *words[1:]],
                env={**self.environment, **environment},
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def _accounting(self) -> None:
        data = self.root / "db"
        socket_path = f"{data}/s"
        subprocess.run(
            ["mariadb-install-db", "--no-defaults", f"--datadir={data}", "--user=root", "--auth-root-authentication-method=normal",
             "--skip-test-db"],
            env=self.environment, check=True, capture_output=True,
        )  # fmt: skip
        self._daemon(
            "mariadbd", "mariadbd", "--no-defaults", "--user=root", f"--datadir={data}", f"--socket={socket_path}",
            "--skip-networking",
            f"--pid-file={self.root}/db.pid", "--innodb-buffer-pool-size=32M", "--innodb-log-file-size=8M",
            "--innodb-flush-log-at-trx-commit=0",
        )  # fmt: skip
        make = "create database if not exists slurm_acct"
        self.until("a database", lambda: self.run("mariadb", "--no-defaults", "-S", socket_path, "-e", make) == "")
        self._daemon("slurmdbd", "slurmdbd", "-D", MYSQL_UNIX_PORT=socket_path)
        self.until("accounting that answers", lambda: self.run("sacctmgr", "-n", "list", "cluster") is not None)
        self.run("sacctmgr", "-iQ", "add", "cluster", "sublet")

    def _configure(self) -> None:
        host = socket.gethostname().split(".")[0]
        ports = _free_ports(3 + self.nodes)
        nodes = "\n".join(
            f"NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=4 RealMemory=4000 Feature=h100 State=UNKNOWN"
            for name, port in zip(self.names, ports[3:], strict=True)
        )
        self.conf.write_text(
            f"""ClusterName=sublet
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={self.root}/munge/sock
CryptoType=crypto/munge
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
StateSaveLocation={self.root}/state
SlurmdSpoolDir={self.root}/spool/%n
SlurmctldPidFile={self.root}/slurmctld.pid
SlurmdPidFile={self.root}/slurmd-%n.pid
SlurmctldLogFile={self.root}/log/slurmctld.out
SlurmdLogFile={self.root}/log/%n.out
SlurmdParameters=config_overrides
SlurmctldParameters=preempt_send_user_signal
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
ReturnToService=2
SwitchType=switch/none
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=1,sched_interval=1,sched_min_interval=0,batch_sched_delay=0
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
KillWait=2
MessageTimeout=5
MinJobAge=300
JobCompType=jobcomp/none
JobAcctGatherType=jobacct_gather/none
MailProg=/bin/true
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={ports[2]}
AccountingStoragePass={self.root}/munge/sock
{nodes}
PartitionName=internal Nodes=ALL Default=YES MaxTime=INFINITE PriorityTier=100 PreemptMode=OFF State=UP
PartitionName=leases Nodes=ALL MaxTime=INFINITE PriorityTier=50 PreemptMode=OFF State=UP
PartitionName=spot Nodes=ALL MaxTime=INFINITE PriorityTier=1 PreemptMode=CANCEL GraceTime={GRACE_S} State=UP
"""
        )
        dbd = self.root / "slurmdbd.conf"
        dbd.write_text(
            f"""AuthType=auth/munge
AuthInfo=socket={self.root}/munge/sock
DbdHost={host}
DbdAddr=127.0.0.1
DbdPort={ports[2]}
SlurmUser=root
LogFile={self.root}/log/slurmdbd.out
PidFile={self.root}/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=root
StorageLoc=slurm_acct
"""
        )
        dbd.chmod(0o600)


def _free_ports(count: int) -> list[int]:
    """Free at this moment, all different."""
    with contextlib.ExitStack() as held:
        found = []
        for _ in range(count):
            listener = held.enter_context(socket.socket())
            listener.bind(("127.0.0.1", 0))
            found.append(int(listener.getsockname()[1]))
        return found
