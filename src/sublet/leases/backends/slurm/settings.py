"""What an operator states about a cluster, and what its nodes are told of it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sublet.leases.model import Timing
from sublet.values.errors import InvalidInputError

CLEAN_S_MIN = 60
"""Slurm counts limits in whole minutes: a job that ends with its lease may be allowed up to a minute more."""


@dataclass(frozen=True, slots=True)
class SlurmSettings:
    """`[backends.NAME].options`. `shared` is a directory that this machine and the nodes see at the same path."""

    shared: Path
    partition: str
    accelerators_per_node: int
    preemptible_partition: str = ""
    preemptible_classes: frozenset[str] = frozenset()
    conf: Path | None = None
    feature: str = ""
    gres: str = ""
    accounts: bool = False
    python: str = sys.executable
    door_host: str = "{node}"
    bind_host: str = "0.0.0.0"  # noqa: S104
    timeout_s: float = 8.0
    egress_log_days: int = 30
    timing: Timing = field(default_factory=lambda: Timing(prepare_s=0, clean_s=90))
    sandbox: Mapping[str, Any] = field(default_factory=dict)
    """Of `LocalSettings`: ports, and memory, disk and processes of each accelerator."""

    def __post_init__(self) -> None:
        if not self.shared.is_absolute():
            raise InvalidInputError(
                "options.shared must be an absolute path that is also mounted on the nodes of the cluster"
            )
        if self.accelerators_per_node < 1:
            raise InvalidInputError(
                f"options.accelerators_per_node must be at least 1, not {self.accelerators_per_node}"
            )
        if self.timing.clean_s < CLEAN_S_MIN:
            raise InvalidInputError(f"options.clean_s must be at least {CLEAN_S_MIN}, not {self.timing.clean_s}")
        for name in ("partition", "preemptible_partition", "feature", "gres"):
            text = getattr(self, name)
            if text.startswith("-") or not all(sign.isalnum() or sign in "_-:.&|[]*" for sign in text):
                raise InvalidInputError(f"options.{name} is {text!r}; use the name that Slurm uses")

    def partition_of(self, class_name: str) -> str:
        """Where leases of that class run."""
        return self.preemptible_partition if class_name in self.preemptible_classes else self.partition

    def nodes(self, accelerators: int) -> int:
        """How many whole nodes so many accelerators are. Raises InvalidInputError for a part of one."""
        nodes, rest = divmod(accelerators, self.accelerators_per_node)
        if rest or nodes < 1:
            raise InvalidInputError(
                f"leases on this pool use whole nodes of {self.accelerators_per_node} accelerators, not {accelerators} accelerators"
            )
        return nodes

    def for_node(self) -> dict[str, Any]:
        """What the holder needs to run its part of a lease."""
        return {
            **self.sandbox,
            "accelerators": self.accelerators_per_node,
            "bind_host": self.bind_host,
            "device": "nvidia" if self.gres.startswith("gpu") else "cpu",
            "conf": str(self.conf) if self.conf else "",
        }
