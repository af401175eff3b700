"""Wire types of managed models."""

from __future__ import annotations

from dataclasses import field
from typing import Annotated

from annotated_types import Interval, MaxLen, MinLen

from sublet.values.moments import Moment
from sublet.values.wire import LINE, Flag, Number, Whole, answer, body

REPLICAS_MAX = 64
POOLS_MAX = 16
ROUTE_NAME_LENGTH_MAX = 80
UPSTREAMS_MAX = 16
WEIGHT_MIN, WEIGHT_MAX = 0.01, 100.0
PRIORITY_MAX = 100

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


ModelName = Annotated[str, MinLen(1), MaxLen(ROUTE_NAME_LENGTH_MAX), LINE]


@body
class RouteUpstream:
    """A model of the catalog that serves a route. `weight` is its share among the models of the same priority, for each of its
    slots. Models with a smaller `priority` are tried first."""

    model: ModelName
    weight: Annotated[Number, Interval(ge=WEIGHT_MIN, le=WEIGHT_MAX)] = 1.0
    priority: Annotated[Whole, Interval(ge=0, le=PRIORITY_MAX)] = 0


@body
class RouteValues:
    """The models that serve a route.

    With `spill`, models of the next priority also serve while those before them are busy, and not only when they fail. With
    `affinity`, prompts that begin alike go to the same replica. With `preview`, nothing is changed.
    """

    upstreams: Annotated[list[RouteUpstream], MinLen(1), MaxLen(UPSTREAMS_MAX)]
    spill: Flag = False
    affinity: Flag = True
    preview: Flag = False


@body
class NewRoute:
    """A public model name that several models of the catalog serve.

    With `spill`, models of the next priority also serve while those before them are busy, and not only when they fail. With
    `affinity`, prompts that begin alike go to the same replica. With `preview`, nothing is changed.
    """

    name: ModelName
    upstreams: Annotated[list[RouteUpstream], MinLen(1), MaxLen(UPSTREAMS_MAX)]
    spill: Flag = False
    affinity: Flag = True
    preview: Flag = False


@answer
class RouteUpstreamState:
    """A model that serves a route. `replicas_ready` is null if the model is not deployed."""

    model: str
    weight: float
    priority: int
    replicas_ready: int | None


@answer
class RouteState:
    """A public model name and the models that serve it.

    `source` is `operator` for a route that was made at run time, and `settings` for one in the settings, which has no times. A
    route of the operator replaces the one of the same name in the settings. `capabilities` are those that all of its models
    have, and `context_tokens` is the smallest of their contexts. `notes` are sentences about what may surprise.
    """

    name: str
    upstreams: list[RouteUpstreamState]
    spill: bool
    affinity: bool
    source: str
    capabilities: list[str]
    context_tokens: int
    notes: list[str]
    created_at: Moment | None
    updated_at: Moment | None


@answer
class RouteList:
    """A page of routes, by name."""

    routes: list[RouteState]
    next: str | None


@answer
class TokenPrices:
    """Prices of a million tokens in a tier, as exact decimals in the model's currency; null if there is no price. With
    `at_most`, the price falls with use, or some tokens are free."""

    tier: str
    input: str | None
    input_cached: str | None
    output: str | None
    at_most: bool


@answer
class CallerLimits:
    """The smallest of the limits that cover the caller's requests for a model. Null means no limit."""

    requests_per_minute: int | None
    input_tokens_per_minute: int | None
    output_tokens_per_minute: int | None
    concurrency: int | None


@answer
class OfferedModel:
    """A model that the caller may use. `state` is `available`, `starting` or `unavailable`."""

    name: str
    description: str
    license: str
    context_tokens: int
    capabilities: list[str]
    state: str
    currency: str
    tiers: list[TokenPrices]
    limits: CallerLimits
    created_at: Moment


@answer
class OfferedModelList:
    """A page of the models that the caller may use, by name."""

    models: list[OfferedModel]
    next: str | None


@answer
class FeedModel:
    """A model as aggregators read it. `pricing` is for one token, as exact decimals; kinds without a price are left out."""

    id: str
    name: str
    created: int
    description: str
    input_modalities: list[str]
    output_modalities: list[str]
    context_length: int
    max_output_length: int
    pricing: dict[str, str]
    currency: str
    supported_sampling_parameters: list[str]
    supported_features: list[str]
    is_ready: bool


@answer
class ModelFeed:
    """The models that the caller may use, in the format that aggregators read from providers."""

    data: list[FeedModel]
