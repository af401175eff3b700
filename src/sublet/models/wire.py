"""Managed models as they cross the API."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Interval, MaxLen, MinLen

from sublet.values.moments import Moment
from sublet.values.wire import LINE, Whole, answer, body

REPLICAS_MAX = 64

Replicas = Annotated[Whole, Interval(ge=0, le=REPLICAS_MAX)]


@body
class NewDeployment:
    """A model to offer on a pool, by its id or name; the only one may be left out. `scale` is the number of replicas, null for
    automatic."""

    model: Annotated[str, MinLen(1), MaxLen(80), LINE]
    pool_id: Annotated[str, MaxLen(60), LINE] = ""
    floor: Replicas = 0
    replicas_max: Replicas = REPLICAS_MAX
    scale: Replicas | None = None


@body
class Scale:
    """How many replicas; null for automatic."""

    replicas: Replicas | None = None


@answer
class DeploymentState:
    """A model on a pool; `scale` is the number of replicas that was asked for, null for automatic."""

    id: str
    model: str
    pool_id: str
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
    """An engine that serves a model."""

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
