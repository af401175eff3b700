"""What an engine does besides running leases: keep capacity ahead, pick where a lease runs, and say what it has and needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from sublet.leases.model import Timing
from sublet.values.windows import Window


@dataclass(frozen=True, slots=True)
class Traits:
    """What an engine does of its own.

    One that `reserves` keeps capacity for accepted leases before they start, but not for classes in `unreserved`, which it
    may take back by itself. One that `picks_units` chooses where a lease runs: the devices of an order then only count. Leases
    have a multiple of `step` accelerators, such as whole nodes. `timing` is None where the usual gaps and patience do.
    `accounts` says that it wants to be introduced to organizations.
    """

    reserves: bool = False
    picks_units: bool = False
    step: int = 1
    timing: Timing | None = None
    unreserved: frozenset[str] = frozenset()
    accounts: bool = False

    def keeps(self, class_name: str) -> bool:
        """Whether capacity of that class is kept ahead."""
        return self.reserves and class_name not in self.unreserved


@dataclass(frozen=True, slots=True)
class ReserveOrder:
    """What is to be kept for a lease: `window` has the gaps to prepare and to clean in it. Keyed by `lease_id`."""

    lease_id: str
    tenant: str
    accelerators: int
    window: Window
    class_name: str = "notice"
    block_id: str | None = None


@dataclass(frozen=True, slots=True)
class Node:
    """A node with its accelerators, as the engine has it. `watts` is the power that it draws now, where the engine says so."""

    name: str
    accelerators: int
    generation: str = ""
    state: str = ""
    watts: float | None = None


@dataclass(frozen=True, slots=True)
class Inventory:
    """What the engine has: each node once."""

    nodes: tuple[Node, ...]

    @property
    def accelerators(self) -> int:
        return sum(node.accelerators for node in self.nodes)


@dataclass(frozen=True, slots=True)
class NodeHealth:
    """Whether a node can take work, and the engine's or the administrator's reason where it can't. One that is `leaving`
    finishes what runs on it and takes nothing new."""

    name: str
    usable: bool
    leaving: bool = False
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Work:
    """A job of the owner's own: `accelerators` in all, on `nodes` at the same time. Times are None where the engine has none."""

    id: str
    running: bool
    accelerators: int
    nodes: int
    submitted_at: datetime | None = None
    begins_at: datetime | None = None
    ends_by: datetime | None = None
    limit_s: int | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Demand:
    """The owner's work at one moment. What Sublet itself runs is not in it."""

    at: datetime
    jobs: tuple[Work, ...] = ()
    by_reason: Mapping[str, int] = field(default_factory=dict)

    @property
    def in_use(self) -> int:
        """Accelerators that running jobs hold."""
        return sum(job.accelerators for job in self.jobs if job.running)

    @property
    def pending(self) -> int:
        """Accelerators that queued jobs wait for."""
        return sum(job.accelerators for job in self.jobs if not job.running)


PLAIN = Traits()
