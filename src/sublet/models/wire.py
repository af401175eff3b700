"""Managed models as they cross the API."""

from __future__ import annotations

from dataclasses import field
from typing import Annotated

from annotated_types import Interval, MaxLen, MinLen

from sublet.values.moments import Moment
from sublet.values.wire import LINE, Whole, answer, body

REPLICAS_MAX = 64
POOLS_MAX = 16

Replicas = Annotated[Whole, Interval(ge=0, le=REPLICAS_MAX)]


PoolName = Annotated[str, MinLen(1), MaxLen(60), LINE]


@body
class NewDeployment:
    """A model to offer on a pool, by its id or name, or on several (`pool_ids`), the preferred one first; the only one may be left
    out. `scale` is the number of replicas on all of them together, null for automatic."""

    model: Annotated[str, MinLen(1), MaxLen(80), LINE]
    pool_id: Annotated[str, MaxLen(60), LINE] = ""
    pool_ids: Annotated[list[PoolName], MaxLen(POOLS_MAX)] = field(default_factory=list)
    floor: Replicas = 0
    replicas_max: Replicas = REPLICAS_MAX
    scale: Replicas | None = None


@body
class Scale:
    """How many replicas; null for automatic."""

    replicas: Replicas | None = None


@body
class Placement:
    """The pools that a deployed model is served on, by id or name, the preferred one first."""

    pool_ids: Annotated[list[PoolName], MinLen(1), MaxLen(POOLS_MAX)]


@answer
class DeploymentState:
    """A model on its pools, the preferred one first (which `pool_id` is); `scale` is the number of replicas that was asked for,
    null for automatic."""

    id: str
    model: str
    pool_id: str
    pool_ids: list[str]
    floor: int
    replicas_max: int
    scale: int | None
    state: str
    created_at: Moment
    updated_at: Moment


@answer
class ReplicaTrouble:
    """What a replica failed with, how often in a row, and since when."""

    failures: int
    kind: str
    status: int
    said: str
    since: Moment
    at: Moment


@answer
class ReplicaState:
    """An engine that serves a model. `lost_node` names the node of one that is `lost`: it does not answer."""

    id: str
    deployment_id: str
    model: str
    pool_id: str
    accelerators: int
    state: str
    slots: int
    endpoint: str | None
    pid: int | None
    restarts: int
    reason: str | None
    created_at: Moment
    ready_at: Moment | None
    healthy_at: Moment | None
    drain_deadline: Moment | None
    reclaim_at: Moment | None
    lost_node: str | None
    troubles: list[ReplicaTrouble]


@answer
class CatalogModel:
    """A model of the catalog, with its deployment and replicas, and the class of service that they rent by; `ended` says why the
    last one ended."""

    name: str
    engine: str
    source: dict[str, str]
    sha256: str | None
    context_tokens: int
    slots: int
    accelerators: int
    capabilities: list[str]
    surplus_class: str
    license: str
    description: str
    present: bool
    deployment: DeploymentState | None
    replicas: list[ReplicaState]
    ended: str


@answer
class CatalogEntry:
    """A model of the catalog as its file says it."""

    name: str
    engine: str
    source: dict[str, str]
    sha256: str | None
    context_tokens: int
    slots: int
    accelerators: int
    capabilities: list[str]
    surplus_class: str
    license: str
    description: str


@answer
class ModelsAdded:
    """The models that were added or replaced."""

    models: list[CatalogEntry]


@answer
class ModelFile:
    """Where a model's file is on the node that answered; null for a model that is served elsewhere."""

    model: str
    path: str | None


@answer
class ModelList:
    """A page of the models of the catalog, by name."""

    models: list[CatalogModel]
    next: str | None
