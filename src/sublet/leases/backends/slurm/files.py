"""What a lease on a cluster is, as documents on a file system that the control plane and the nodes share.

The order (what is wanted) is the control plane's; each node of each generation writes one report (what is). A generation is one
holder job: a lease that was paused or lost its nodes comes back as the next one.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from sublet.leases.backends.local.egress import EGRESS_LOGS
from sublet.leases.backends.local.files import LeaseFiles

_DOCUMENT_BYTES_MAX = 4 << 20
T = TypeVar("T")


@dataclass(slots=True)
class Order:
    """What is wanted: `run`, `pause` or `stop`. Times are microseconds since the epoch."""

    lease_id: str
    tenant: str
    class_name: str
    accelerators: int
    keys: list[str]
    ends_at_us: int
    reclaim_at_us: int | None
    generation: int = 0
    wanted: str = "run"
    reason: str = ""
    grace_s: float = 2.0
    text: str = ""
    job: str = ""
    submitted_us: int = 0
    egress: list[str] = field(default_factory=list)
    """What its sandboxes may reach outside, as `values.egress.Rule` writes it."""
    node: dict[str, Any] = field(default_factory=dict)
    """What a node needs to know to run its part: `settings.SlurmSettings.for_node`."""


@dataclass(slots=True)
class Report:
    """What the holder on one node says, replaced at least once a second while it lives. `runs` are [start, end, closed] of this
    generation; `over` says that it will say no more."""

    generation: int
    rank: int
    node: str
    at_us: int
    pid: int = 0
    state: str = "starting"
    accelerators: int = 0
    over: bool = False
    runs: list[tuple[int, int, bool]] = field(default_factory=list)
    port: int = 0
    user: str = "tenant"
    host_key: str = ""
    fingerprint: str = ""
    ends_at_us: int = 0
    reclaim_at_us: int | None = None
    taken_at_us: int | None = None
    guarantees: dict[str, dict[str, str]] = field(default_factory=dict)
    reason: str | None = None
    clean: bool | None = None
    error: str | None = None
    keys: str | None = None
    traffic: dict[str, int] | None = None
    """What went out and came in of this rank, over all generations so far."""


@dataclass(slots=True)
class Final:
    """A lease that is over: what was proved of it."""

    state: str
    reason: str
    clean: bool
    error: str | None = None
    taken_at_us: int | None = None


@dataclass(slots=True)
class Wanted:
    """What is to be kept for it: seconds since the epoch, nodes, and whose account it is for."""

    start: int
    end: int
    nodes: int
    account: str = ""


class SlurmFiles:
    """The directory of one lease below the shared one."""

    def __init__(self, shared: Path, lease_id: str) -> None:
        """Raises InvalidInputError for an id that could name another place."""
        self.lease_id = lease_id
        self.root = LeaseFiles(shared, lease_id).root

    def base(self, rank: int) -> Path:
        """Where the sandbox of that rank keeps home and keys, whichever node it is on."""
        return self.root / f"rank{rank}"

    def generation(self, number: int) -> Path:
        return self.root / f"generation{number}"

    def order(self) -> Order | None:
        return _typed(Order, self.root / "order.json")

    def write_order(self, order: Order) -> None:
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        write(self.root / "order.json", asdict(order), durable=True)

    def wanted(self) -> Wanted | None:
        return _typed(Wanted, self.root / "reservation.json")

    def write_wanted(self, wanted: Wanted) -> None:
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        write(self.root / "reservation.json", asdict(wanted), durable=True)

    def drop_wanted(self) -> None:
        (self.root / "reservation.json").unlink(missing_ok=True)

    def final(self) -> Final | None:
        return _typed(Final, self.root / "final.json")

    def write_final(self, final: Final) -> None:
        write(self.root / "final.json", asdict(final), durable=True)

    def report(self, generation: int, rank: int) -> Report | None:
        return _typed(Report, self.generation(generation) / f"{rank}.json")

    def write_report(self, report: Report, *, durable: bool = False) -> None:
        write(self.generation(report.generation) / f"{report.rank}.json", asdict(report), durable=durable)

    def reports(self, last: int) -> list[list[Report]]:
        """The reports of every generation up to `last`, the oldest first; those of a generation by rank."""
        found = []
        for number in range(1, last + 1):
            reports = []
            with contextlib.suppress(FileNotFoundError):
                for path in self.generation(number).iterdir():
                    report = _typed(Report, path) if path.suffix == ".json" else None
                    if report is not None:
                        reports.append(report)
            found.append(sorted(reports, key=lambda each: each.rank))
        return found

    def ranks(self) -> list[int]:
        """Those that have left files."""
        if not self.root.is_dir():
            return []
        names = (entry.name.removeprefix("rank") for entry in self.root.iterdir() if entry.name.startswith("rank"))
        return sorted(int(name) for name in names if name.isdigit())

    @contextmanager
    def locked(self) -> Iterator[None]:
        """One control plane at a time changes what is wanted."""
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self.root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def keep_logs(self) -> None:
        """Move the logs of outbound connections to where they stay once the lease is forgotten; a second time finds none."""
        for rank in self.ranks():
            for path in sorted((self.base(rank) / EGRESS_LOGS).glob("????-??-??.jsonl")):
                folder = self.root.parent / EGRESS_LOGS
                folder.mkdir(mode=0o700, exist_ok=True)
                path.replace(folder / f"{path.stem}.{self.lease_id}.{rank}.jsonl")

    def tidy(self) -> None:
        """Remove a directory that nothing is wanted of."""
        if not (self.root / "order.json").exists() and not (self.root / "reservation.json").exists():
            shutil.rmtree(self.root, ignore_errors=True)

    def remove(self) -> None:
        shutil.rmtree(self.root, ignore_errors=True)


def write(path: Path, document: dict[str, Any], *, durable: bool = False) -> None:
    """Replace a document as a whole."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        with open(temporary, "w", encoding="utf-8") as file:
            json.dump(document, file)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _typed(kind: type[T], path: Path) -> T | None:
    """The document, or None where there is none that can be read; keys of a newer version are passed over."""
    try:
        with open(path, "rb") as file:
            document = json.loads(file.read(_DOCUMENT_BYTES_MAX))
        known = {item.name for item in fields(kind)}  # type: ignore[arg-type]
        return kind(**{name: value for name, value in document.items() if name in known})
    except (OSError, ValueError, TypeError, AttributeError):
        return None
