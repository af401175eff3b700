"""What Slurm's commands print, read column by column: text that users choose, such as job names, comes last or is not asked for."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from sublet.leases.backends.engine import Node, NodeHealth, Work
from sublet.leases.backends.slurm.hostlist import expand

JOB_COLUMNS = "%i|%T|%e|%N|%r|%k|%j"
"""Of our own jobs: id, state, end, nodes, reason, comment, name."""
QUEUE_COLUMNS = "%i|%T|%P|%V|%S|%e|%l|%D|%N|%b|%r|%k"
"""Of everybody's: id, state, partition, submitted, start, end, limit, nodes, node names, accelerators per node, reason, comment."""
NODE_COLUMNS = "%N|%P|%T|%G|%f|%E"
"""Name, partition, state, generic resources, features, reason."""
LIVE = frozenset({"PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT"})
_USABLE = frozenset(
    {"idle", "allocated", "mixed", "completing", "planned", "reserved", "power_up", "powering_up", "powered_down"}
)
_PARENTHESES = re.compile(r"\([^)]*\)")
_FIELD = re.compile(r"(?:^| )([A-Za-z]+)=(\S*)")


@dataclass(frozen=True, slots=True)
class Job:
    """One of our own jobs in the queue."""

    id: str
    state: str
    ends_at: datetime | None
    nodes: str
    reason: str
    comment: str
    name: str

    @property
    def live(self) -> bool:
        """It waits, runs, or is being ended."""
        return self.state in LIVE


@dataclass(frozen=True, slots=True)
class Kept:
    """One of our reservations."""

    name: str
    start: datetime
    end: datetime
    nodes: tuple[str, ...]
    count: int
    active: bool


@dataclass(frozen=True, slots=True)
class NodeLine:
    """A node of a partition."""

    name: str
    state: str
    accelerators: int
    features: str
    reason: str

    @property
    def health(self) -> NodeHealth:
        plain = self.state.rstrip("*$@^!%#~+-")
        silent = self.state.endswith("*")
        usable = plain in _USABLE and not silent
        reason = "" if usable else ("; ".join(filter(None, [self.state, "" if self.reason == "none" else self.reason])))
        return NodeHealth(self.name, usable, plain == "draining", reason[:300])

    @property
    def node(self) -> Node:
        return Node(self.name, self.accelerators, self.features, self.state)


def jobs_of(text: str) -> list[Job]:
    """Lines of JOB_COLUMNS."""
    return [
        Job(number, state, moment(end), nodes, reason, comment, name)
        for number, state, end, nodes, reason, comment, name in _rows(text, 7)
    ]


def kept_of(lines: Iterable[str], prefix: str) -> dict[str, Kept]:
    """Lines of `scontrol -o show reservation`, those whose name begins with `prefix`."""
    found = {}
    for line in lines:
        if not line.startswith(f"ReservationName={prefix}"):
            continue
        fields = record(line)
        start, end = moment(fields.get("StartTime", "")), moment(fields.get("EndTime", ""))
        if start is None or end is None:
            continue
        nodes = expand(fields.get("Nodes", ""))
        count = int(fields["NodeCnt"]) if fields.get("NodeCnt", "").isdigit() else len(nodes)
        name = fields["ReservationName"]
        found[name] = Kept(name, start, end, nodes, count, fields.get("State") == "ACTIVE")
    return found


def record(line: str) -> dict[str, str]:
    """A line of `scontrol -o`: of each key its first value, up to the next space. Free text comes after what we read."""
    found: dict[str, str] = {}
    for key, value in _FIELD.findall(line):
        found.setdefault(key, value)
    return found


def nodes_of(text: str, partition: str, per_node: int) -> list[NodeLine]:
    """Lines of NODE_COLUMNS, of one partition, each node once. One without accelerators of its own has `per_node`."""
    found: dict[str, NodeLine] = {}
    for name, where, state, resources, features, reason in _rows(text, 6):
        if where.rstrip("*") == partition:
            found.setdefault(name, NodeLine(name, state, gpus(resources) or per_node, features, reason))
    return list(found.values())


def works_of(text: str, here: frozenset[str], partitions: frozenset[str], per_node: int, tag: str) -> Iterator[Work]:
    """Lines of QUEUE_COLUMNS that concern nodes `here`: jobs that run on some of them, or wait in `partitions`. What has `tag`
    as its comment is ours and left out. A job that names no accelerators has all `per_node` of each node."""
    for cells in _rows(text, 12):
        name, state, where, submitted, start, end, limit, count, nodes, resources, reason, comment = cells
        if state not in LIVE or comment == tag:
            continue
        running = state != "PENDING"
        many = sum(node in here for node in expand(nodes)) if running else int(count) if count.isdigit() else 0
        if not many or (not running and where not in partitions):
            continue
        each = gpus(resources.removeprefix("gres:")) or per_node
        yield Work(
            name,
            running,
            each * many,
            many,
            moment(submitted),
            moment(start),
            moment(end),
            seconds(limit),
            reason if not running else "",
        )


def gpus(text: str) -> int:
    """Accelerators in a list of generic resources, such as `gpu:h100:8(S:0-1)`; 0 where it names none."""
    count = 0
    for part in _PARENTHESES.sub("", text).split(","):
        words = part.replace("gres/", "").removeprefix("gres:").split(":")
        if words[0] == "gpu":
            count += int(words[-1]) if len(words) > 1 and words[-1].isdecimal() and len(words[-1]) < 7 else 1
    return count


def moment(text: str) -> datetime | None:
    """Seconds since the epoch, as SLURM_TIME_FORMAT=%s has them; None for N/A, Unknown and the like."""
    return datetime.fromtimestamp(int(text), UTC) if text.isdigit() and len(text) <= 11 else None


def seconds(text: str) -> int | None:
    """A time limit such as `1-02:03:04` or `30:00`; None where there is none."""
    days, dash, rest = text.rpartition("-")
    parts = rest.split(":")
    if not all(part.isdigit() for part in parts) or (dash and not days.isdigit()) or len(parts) > 3:
        return None
    numbers = [int(part) for part in parts]
    if dash:
        numbers += [0] * (3 - len(numbers))
    total = 0
    for number in numbers:
        total = total * 60 + number
    if len(numbers) == 1:
        total *= 60
    return total + (int(days) * 86_400 if dash else 0)


def _rows(text: str, columns: int) -> Iterator[list[str]]:
    """The cells of each line that has all columns; the last takes what bars are left."""
    for line in text.split("\n"):
        cells = line.split("|", columns - 1)
        if len(cells) == columns:
            yield cells
