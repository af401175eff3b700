"""Wire types of managed models."""

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
    """A model to deploy on a pool (`pool_id`, an id or a name) or on several (`pool_ids`), preferred pool first. If there is
    only one pool, it can be left out. `scale` is the total number of replicas; null means automatic."""

    model: Annotated[str, MinLen(1), MaxLen(80), LINE]
    pool_id: Annotated[str, MaxLen(60), LINE] = ""
    pool_ids: Annotated[list[PoolName], MaxLen(POOLS_MAX)] = field(default_factory=list)
    floor: Replicas = 0
    replicas_max: Replicas = REPLICAS_MAX
    scale: Replicas | None = None


@body
class Scale:
    """The number of replicas. Null means automatic."""

    replicas: Replicas | None = None


@body
class Placement:
    """The pools of a deployed model, by id or name, preferred pool first."""

    pool_ids: Annotated[list[PoolName], MinLen(1), MaxLen(POOLS_MAX)]


@answer
class DeploymentState:
    """A deployment of a model. `pool_id` is the preferred pool, and the first in `pool_ids`. `scale` is the requested number
    of replicas; null means automatic."""

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
    """A failure of a replica: what it was, how often it occurred in a row, and since when."""

    failures: int
    kind: str
    status: int
    said: str
    since: Moment
    at: Moment


@answer
class ReplicaState:
    """An engine that serves a model. If its state is `lost`, `lost_node` is the node that does not respond."""

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
    """A model in the catalog, with its deployment, its replicas, and their class of service. `ended` is the reason why the
    last deployment ended."""

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
    """A model as defined in its catalog file."""

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
    """The path of a model's file on the node that answered. Null for a model that is served elsewhere."""

    model: str
    path: str | None


@answer
class ModelList:
    """A page of the models in the catalog, by name."""

    models: list[CatalogModel]
    next: str | None
