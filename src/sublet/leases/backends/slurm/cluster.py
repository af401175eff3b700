"""What Sublet does with Slurm: jobs, reservations and accounts by name, and what is read of the queue and the nodes.

Everything is repeatable: a name exists once, and what is found under it is compared and changed.
"""

from __future__ import annotations

import hashlib
import math
import os
import shlex
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import sublet
from sublet.leases.backends.engine import Work
from sublet.leases.backends.slurm import records
from sublet.leases.backends.slurm.commands import Commands, SlurmRefusedError
from sublet.leases.backends.slurm.files import Order, SlurmFiles, Wanted
from sublet.leases.backends.slurm.records import Job, Kept, NodeLine
from sublet.leases.backends.slurm.settings import SlurmSettings
from sublet.values.errors import InvalidInputError

PREFIX = "sublet-"
LIMIT_SPARE_S = 5
CLEANING_MINUTES = 3
SOON_S = 5
"""A reservation that begins within so many seconds begins now: Slurm refuses a start that is over when it gets there."""
_ACCOUNT_MAX = 60


class Cluster:
    """One partition of one cluster. `tag` tells our jobs from those of another Sublet on the same cluster."""

    def __init__(self, settings: SlurmSettings, commands: Commands) -> None:
        self._settings = settings
        self._commands = commands
        self.tag = hashlib.sha256(os.fsencode(settings.shared)).hexdigest()[:12]
        self._accounts: set[str] = set()
        self._accounts_lock = threading.Lock()

    # -- jobs

    def jobs(self, name: str | None = None) -> dict[str, Job]:
        """Our jobs that are not over, by name; of two with one name the one that is further."""
        words = ["squeue", "-h", "-a", "-u", str(os.geteuid()), "-o", records.JOB_COLUMNS]
        found: dict[str, Job] = {}
        for job in records.jobs_of(self._commands.run(*words, *(["-n", name] if name else []))):
            mine = job.comment == self.tag and job.name.startswith(PREFIX) and job.live
            if mine and (job.name not in found or found[job.name].state == "PENDING"):
                found[job.name] = job
        return found

    def submit(self, files: SlurmFiles, order: Order, nodes: int, now: datetime, *, on: Sequence[str] = ()) -> str:
        """The id of a new job that holds `nodes` nodes until the lease's end. `on` names them. Raises SlurmRefusedError."""
        settings = self._settings
        folder = files.generation(order.generation)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        end_us = min(order.ends_at_us, order.reclaim_at_us or order.ends_at_us)
        left_s = end_us / 1_000_000 - now.timestamp()
        minutes = CLEANING_MINUTES if order.wanted == "stop" else max(1, math.ceil(left_s / 60))
        words = [
            "sbatch", "--parsable", f"--job-name={job_name(order)}", f"--partition={settings.partition_of(order.class_name)}",
            f"--nodes={nodes}", f"--ntasks={nodes}", "--ntasks-per-node=1", "--exclusive", f"--time={minutes}",
            "--signal=USR1@1", "--no-requeue", "--no-kill", f"--comment={self.tag}", "--chdir=/", "--export=NONE",
            f"--output={folder}/job.log", "--open-mode=append",
        ]  # fmt: skip
        if files.wanted() is not None:
            words.append(f"--reservation={reservation_name(order.lease_id)}")
        if settings.accounts:
            words.append(f"--account={self.account(order.tenant)}")
        if settings.feature:
            words.append(f"--constraint={settings.feature}")
        if settings.gres:
            words.append(f"--gres={settings.gres}")
        if on:
            words.append(f"--nodelist={','.join(on)}")
        script = _script(settings, files.root, order.generation)
        return self._commands.run(*words, given=script).strip().partition(";")[0]

    def limit(self, job: str, ends_at: datetime, now: datetime) -> None:
        """Let the job run until then. Slurm counts from the job's start, in whole minutes."""
        fields = records.record(self._commands.run("scontrol", "-o", "show", "job", job))
        started = records.moment(fields.get("StartTime", "")) or now
        minutes = max(1, math.ceil((ends_at - started).total_seconds() / 60))
        self._commands.run("scontrol", "update", f"JobId={job}", f"TimeLimit={minutes}")

    def cancel(self, job: str, *, kill: bool = False) -> None:
        """SIGTERM to the holders, or SIGKILL; harmless where the job is over."""
        words = ["--signal=KILL", "--full"] if kill else []
        try:
            self._commands.run("scancel", *words, job)
        except SlurmRefusedError as error:
            if "Invalid job id" not in error.message and "already completing" not in error.message:
                raise

    def preempted_at(self, job: str) -> datetime | None:
        """When Slurm ends a job that it preempts; None where it does not."""
        fields = records.record(self._commands.run("scontrol", "-o", "show", "job", job))
        if records.moment(fields.get("PreemptTime", "")) is None:
            return None
        return records.moment(fields.get("EndTime", ""))

    # -- reservations

    def reservation(self, lease_id: str) -> Kept | None:
        """What is kept for the lease."""
        try:
            said = self._commands.run("scontrol", "-o", "show", "reservation", reservation_name(lease_id))
        except SlurmRefusedError as error:
            if "not found" in error.message:
                return None
            raise
        return records.kept_of(said.split("\n"), PREFIX).get(reservation_name(lease_id))

    def reservations(self) -> dict[str, Kept]:
        """Those whose names begin as ours do."""
        said = self._commands.run("scontrol", "-o", "show", "reservation")
        return records.kept_of(said.split("\n"), PREFIX)

    def keep(self, lease_id: str, wanted: Wanted, now: datetime, unfit: Callable[[Kept], bool]) -> None:
        """Make the lease's reservation as it is wanted, or change what differs; where it is `unfit`, it gets other nodes. Raises
        SlurmRefusedError where Slurm has none, and what was kept then stays."""
        try:
            self._create(lease_id, wanted, now)
        except SlurmRefusedError:
            # Most often the name exists already: then what is kept is compared, whatever the words were.
            found = self.reservation(lease_id)
            if found is None:
                raise
            if unfit(found):
                self.drop(lease_id)
                self._create(lease_id, wanted, now)
            else:
                self._change(found, wanted, now)

    def drop(self, lease_id: str) -> None:
        """Delete the reservation; harmless where there is none. Raises SlurmRefusedError while a job runs in it."""
        try:
            self._commands.run("scontrol", "delete", f"ReservationName={reservation_name(lease_id)}")
        except SlurmRefusedError as error:
            if "reservation is invalid" not in error.message and "not found" not in error.message:
                raise

    def _create(self, lease_id: str, wanted: Wanted, now: datetime) -> None:
        settings = self._settings
        words = [
            f"ReservationName={reservation_name(lease_id)}", f"StartTime={_start(wanted, now)}", f"EndTime={_stamp(wanted.end)}",
            f"PartitionName={settings.partition}", f"NodeCnt={wanted.nodes}", "Flags=REPLACE_DOWN",
        ]  # fmt: skip
        words.append(f"Accounts={wanted.account}" if wanted.account else f"Users={_user()}")
        if settings.feature:
            words.append(f"Features={settings.feature}")
        self._commands.run("scontrol", "create", "reservation", *words)

    def _change(self, found: Kept, wanted: Wanted, now: datetime) -> None:
        changes = []
        if found.start > now and int(found.start.timestamp()) != wanted.start:
            changes.append(f"StartTime={_start(wanted, now)}")
        if int(found.end.timestamp()) != wanted.end:
            changes.append(f"EndTime={_stamp(wanted.end)}")
        if found.count != wanted.nodes:
            changes.append(f"NodeCnt={wanted.nodes}")
        if changes:
            self._commands.run("scontrol", "update", f"ReservationName={found.name}", *changes)

    # -- accounts

    def account(self, tenant: str) -> str:
        """The name of the organization's account, which is made where there is none yet. Raises SlurmRefusedError."""
        name = account_name(tenant)
        with self._accounts_lock:
            if name in self._accounts:
                return name
            self._add(("add", "account", name, f"Description=organization {name}", "Organization=sublet"))
            self._add(("add", "user", _user(), f"Account={name}"))
            self._accounts.add(name)
        return name

    def _add(self, words: Sequence[str]) -> None:
        try:
            self._commands.account("sacctmgr", "-i", "-Q", *words)
        except SlurmRefusedError as error:
            if "Nothing new added" not in error.message and "already exists" not in error.message:
                raise

    # -- nodes and queue

    def nodes(self) -> list[NodeLine]:
        """Those of the partition."""
        settings = self._settings
        said = self._commands.run("sinfo", "-h", "-N", "-a", "-o", records.NODE_COLUMNS)
        return records.nodes_of(said, settings.partition, settings.accelerators_per_node)

    def power(self) -> dict[str, float]:
        """Watts that nodes draw now, of those whose sensors Slurm reads."""
        found = {}
        for line in self._commands.run("scontrol", "-o", "show", "node").split("\n"):
            fields = records.record(line)
            watts = fields.get("CurrentWatts", "")
            if watts.isdigit() and int(watts) > 0:
                found[fields.get("NodeName", "")] = float(watts)
        return found

    def queue(self, here: frozenset[str]) -> list[Work]:
        """The owner's jobs on nodes `here`, or waiting in partitions that have some of them."""
        said = self._commands.run("sinfo", "-h", "-N", "-a", "-o", "%N|%P")
        rows = [line.partition("|") for line in said.split("\n")]
        partitions = frozenset(where.rstrip("*") for name, _, where in rows if name in here)
        jobs = self._commands.run("squeue", "-h", "-a", "-r", "-o", records.QUEUE_COLUMNS)
        per_node = self._settings.accelerators_per_node
        return list(records.works_of(jobs, here, partitions, per_node, self.tag))


def job_name(order: Order) -> str:
    """Of the holder job of an order's generation."""
    return f"{PREFIX}{order.lease_id}-{order.generation}"


def reservation_name(lease_id: str) -> str:
    return f"{PREFIX}{lease_id}"


def account_name(tenant: str) -> str:
    """Slurm's accounts are lower-case words; an organization whose id is none is named by a digest."""
    plain = tenant.isascii() and tenant == tenant.lower() and tenant.replace("_", "").replace("-", "").isalnum()
    if not tenant:
        raise InvalidInputError("an organization without an id has no account")
    name = tenant if plain and len(tenant) <= _ACCOUNT_MAX else hashlib.sha256(tenant.encode()).hexdigest()[:24]
    return f"{PREFIX}{name}"


def _script(settings: SlurmSettings, root: Path, generation: int) -> str:
    source = str(Path(sublet.__file__).resolve().parent.parent)
    python = " ".join(
        shlex.quote(word) for word in (settings.python, "-P", "-m", "sublet.leases.backends.slurm.holder")
    )
    conf = f"export SLURM_CONF={shlex.quote(str(settings.conf))}\n" if settings.conf else ""
    return (
        f"#!/bin/sh\n{conf}export PYTHONPATH={shlex.quote(source)} PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n"
        f"exec srun --export=ALL --kill-on-bad-exit=0 --no-kill {python} {shlex.quote(str(root))} {generation}\n"
    )


def _start(wanted: Wanted, now: datetime) -> str:
    return "now" if wanted.start <= now.timestamp() + SOON_S else _stamp(wanted.start)


def _stamp(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _user() -> str:
    import pwd

    return pwd.getpwuid(os.geteuid()).pw_name
