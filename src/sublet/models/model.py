"""The model of managed models: catalog entries, deployments on pools, and replicas with their states."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sublet.values.clock import format_time
from sublet.values.errors import ConflictError, InvalidInputError, NotFoundError, SubletError

CAPABILITIES = (
    "chat",
    "completions",
    "embeddings",
    "tools",
    "json_schema",
    "images",
    "audio",
    "files",
    "suffix",
    "reasoning",
    "verbosity",
)
LIVE_STATES = frozenset({"starting", "ready", "draining"})
"""starting: no engine answers yet; ready: takes requests; draining: finishes what it has. Beside them, stopped and failed: gone."""
LOST = "lost"
"""How a live replica is shown whose node does not answer. Its row keeps the state that the node will find when it is back."""

REPLICAS_MAX = 64
POOLS_MAX = 16
"""Pools that one deployment may name."""
DRAIN_S = 90.0
"""Seconds that a draining replica has to finish its answers: within the two minutes of spot notice, with a margin."""


class UnknownModelError(NotFoundError):
    """There is no such model in the catalog; `sublet models ls` lists them."""

    code = "unknown_model"


class ModelFileError(SubletError):
    """The model's file is missing or damaged; to repair it, run `sublet models pull NAME`."""

    code = "model_file"
    status = 503


class EngineStartError(SubletError):
    """The engine did not start; the message has its last output, and `sublet doctor` checks its requirements."""

    code = "engine_start"
    status = 503


class HostRunningError(ConflictError):
    """Another engine host is running on this data directory; stop it first, or use another data_dir."""

    code = "host_running"


@dataclass(frozen=True, slots=True)
class CatalogEntry:
    """A model that can be deployed.

    `source` locates the model: {"package", "version", "file"} or {"path"} for llamacpp, {"url", "model", "key_variable",
    "dialect"} for openai_url (see engines/kinds.py). `context_tokens` is the context of one slot, prompt and response together.
    `slots` is the number of concurrent requests per replica. `accelerators` is what a replica occupies (0: it runs on another
    party's hardware).
    """

    name: str
    engine: str
    source: dict[str, str]
    sha256: str | None = None
    context_tokens: int = 2048
    slots: int = 4
    accelerators: int = 1
    capabilities: frozenset[str] = frozenset({"chat", "completions"})
    license: str = ""
    description: str = ""

    def as_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "engine": self.engine,
            "source": dict(self.source),
            "sha256": self.sha256,
            "context_tokens": self.context_tokens,
            "slots": self.slots,
            "accelerators": self.accelerators,
            "capabilities": sorted(self.capabilities),
            "license": self.license,
            "description": self.description,
        }


@dataclass(frozen=True, slots=True)
class Deployment:
    """A model on one or more pools, in order of preference. The operator pays for `floor` replicas regardless of the surplus.
    `scale` is the requested number of replicas, or None if Sublet decides. It is never more than `replicas_max`. All three
    apply to all pools together."""

    id: str
    model: str
    pool_ids: tuple[str, ...]
    floor: int
    replicas_max: int
    scale: int | None
    state: str
    created_at: datetime
    updated_at: datetime

    @property
    def pool_id(self) -> str:
        """The preferred pool; empty for a model that needs none."""
        return self.pool_ids[0] if self.pool_ids else ""

    @property
    def target(self) -> int:
        """The number of replicas if there is capacity for all of them."""
        if self.state != "active":
            return 0
        wanted = max(self.floor, 1) if self.scale is None else self.scale
        return min(max(wanted, self.floor), self.replicas_max)

    def as_dict(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "model": self.model,
            "pool_id": self.pool_id,
            "pool_ids": list(self.pool_ids),
            "floor": self.floor,
            "replicas_max": self.replicas_max,
            "scale": self.scale,
            "state": self.state,
            "created_at": format_time(self.created_at),
            "updated_at": format_time(self.updated_at),
        }


@dataclass(frozen=True, slots=True)
class Replica:
    """One engine of a deployment. `endpoint` is `unix:///path` or an http(s) URL, set only while it is ready. `entry` is the
    catalog entry that it was started from, or None if an older version started it."""

    id: str
    deployment_id: str
    model: str
    pool_id: str
    accelerators: int
    state: str
    slots: int
    reason: str
    created_at: datetime
    endpoint: str | None = None
    host: str | None = None
    pid: int | None = None
    restarts: int = 0
    ready_at: datetime | None = None
    healthy_at: datetime | None = None
    drain_deadline: datetime | None = None
    stopped_at: datetime | None = None
    reclaim_at: datetime | None = None
    entry: CatalogEntry | None = None

    @property
    def live(self) -> bool:
        return self.state in LIVE_STATES

    def sign_of_life(self) -> datetime:
        """The last time at which its engine host reported it as healthy."""
        return max(at for at in (self.created_at, self.ready_at, self.healthy_at) if at is not None)

    def as_dict(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "deployment_id": self.deployment_id,
            "model": self.model,
            "pool_id": self.pool_id,
            "accelerators": self.accelerators,
            "state": self.state,
            "slots": self.slots,
            "endpoint": self.endpoint,
            "pid": self.pid,
            "restarts": self.restarts,
            "reason": self.reason,
            "created_at": format_time(self.created_at),
            "ready_at": format_time(self.ready_at) if self.ready_at else None,
            "healthy_at": format_time(self.healthy_at) if self.healthy_at else None,
            "drain_deadline": format_time(self.drain_deadline) if self.drain_deadline else None,
            "reclaim_at": format_time(self.reclaim_at) if self.reclaim_at else None,
        }


@dataclass(frozen=True, slots=True)
class Trouble:
    """A gateway's (`run`) report of a replica that fails requests: `failures` in a row since `since`, the `kind` of the last
    one, the engine's status (0: no response), and its message."""

    replica_id: str
    run: str
    failures: int
    kind: str
    status: int
    said: str
    since: datetime
    at: datetime

    def __str__(self) -> str:
        what = f"{self.status}" if self.status else "no answer"
        words = f": {self.said[:160]}" if self.said else ""
        return f"{self.kind}, {what}{words} ({self.failures} in a row since {format_time(self.since)})"

    def as_dict(self) -> dict[str, Any]:
        return {
            "failures": self.failures,
            "kind": self.kind,
            "status": self.status,
            "said": self.said,
            "since": format_time(self.since),
            "at": format_time(self.at),
        }


@dataclass(frozen=True, slots=True)
class EngineMetrics:
    """An engine's own metrics: running and waiting requests, and tokens since it started."""

    processing: int = 0
    waiting: int = 0
    tokens_input: int = 0
    tokens_input_cached: int = 0
    tokens_output: int = 0


@dataclass(frozen=True, slots=True)
class ModelRow:
    """A row of `sublet models ls`: the entry, whether its file is present, its deployment and replicas, gateways' reports of
    failing replicas, and why the last replica ended if none is left. `lost` has the node names of replicas whose node does not
    respond."""

    entry: CatalogEntry
    present: bool
    deployment: Deployment | None
    replicas: tuple[Replica, ...] = field(default=())
    troubles: tuple[Trouble, ...] = ()
    ended: str = ""
    lost: Mapping[str, str] = field(default_factory=dict)

    def state_of(self, replica: Replica) -> str:
        """The replica's state; LOST if its node does not respond."""
        return LOST if replica.id in self.lost else replica.state

    def as_dict(self) -> dict[str, Any]:
        return {
            **self.entry.as_dict(),
            "present": self.present,
            "deployment": self.deployment.as_dict() if self.deployment else None,
            "replicas": [
                {
                    **replica.as_dict(),
                    "state": self.state_of(replica),
                    "lost_node": self.lost.get(replica.id),
                    "troubles": [item.as_dict() for item in self.troubles if item.replica_id == replica.id],
                }
                for replica in self.replicas
            ],
            "ended": self.ended,
        }


def checked_scale(replicas: int | None) -> int | None:
    """`replicas`, or None for automatic. Raises InvalidInputError."""
    if replicas is not None and not 0 <= replicas <= REPLICAS_MAX:
        raise InvalidInputError(f"replicas must be 0 to {REPLICAS_MAX}, not {replicas}; omit it for automatic scaling")
    return replicas
