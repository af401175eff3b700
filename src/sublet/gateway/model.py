"""What the gateway knows and writes: its settings, its snapshot of keys and models, and the usage of a request."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, Protocol

import msgspec

from sublet.tls.files import CertificateFiles

METER_INPUT = "tokens.input"
METER_INPUT_CACHED = "tokens.input_cached"
METER_OUTPUT = "tokens.output"


class Times(Protocol):
    """Tells the time, as the gateway does: cheaply, for every request asks."""

    def now_us(self) -> int:
        """The present in microseconds since the epoch."""
        ...

    @property
    def monotonic(self) -> Callable[[], float]:
        """Seconds that only grow."""
        ...


@dataclass(frozen=True, slots=True)
class UpstreamRule:
    """A deployed model that serves a route: its share among those of the same priority, for each of its slots, and which are asked
    before it (those of a smaller one)."""

    model: str
    weight: float = 1.0
    priority: int = 0


@dataclass(frozen=True, slots=True)
class RouteRule:
    """A public name that several deployed models serve. With `spill`, those of the next priority serve while the ones before are
    busy; without, only when these cannot serve. With `affinity`, prompts that begin alike go to the same replica."""

    name: str
    upstreams: tuple[UpstreamRule, ...]
    spill: bool = False
    affinity: bool = True


@dataclass(frozen=True, slots=True)
class ReservedShare:
    """A share (0 to 1) of a model's slots that only one organization, by id or name, may use."""

    organization: str
    model: str
    share: float


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """What an operator may set for the gateway; every limit of it is per process (those of limits/ are not).

    `durability` says when the client may see the end of its answer: "disk" once its usage is synced to disk, "process"
    once the operating system has it (safe from the gateway's death, not from a power cut of the last 50 ms). `overrides`
    has what differs for single models, by model and field; `of_model` gives the settings that hold for one. `weights` are those of
    organizations (by id or name) and keys (by id) that are not 1.
    """

    data_dir: Path
    tls: CertificateFiles | None = None
    host: str = "127.0.0.1"
    port: int = 8081
    operator_host: str = "127.0.0.1"
    operator_port: int | None = None
    requests_per_minute_max: int = 600
    concurrency_max: int = 64
    queue_s_max: float = 30.0
    flex_queue_s_max: float = 300.0
    queue_per_key_max: int = 64
    responses_keep_days: int = 30
    responses_per_organization_max: int = 10_000
    responses_mib_per_organization_max: int = 1024
    file_mib_max: int = 100
    files_per_organization_max: int = 1000
    files_mib_per_organization_max: int = 2048
    files_keep_days: int = 30
    weights: Mapping[str, float] = field(default_factory=dict)
    connections_max: int = 4096
    unauthenticated_max: int = 256
    unauthenticated_per_address_max: int = 64
    unauthenticated_s_max: float = 10.0
    cors_origins: tuple[str, ...] = ()
    trusted_proxies: tuple[str, ...] = ()
    body_bytes_max: int = 10 * 1024 * 1024
    receiving_bytes_max: int = 256 * 1024 * 1024
    answer_bytes_max: int = 32 * 1024 * 1024
    receive_s_max: float = 30.0
    connect_s_max: float = 5.0
    first_event_s_max: float = 120.0
    silence_s_max: float = 60.0
    answer_s_max: float = 900.0
    stalled_client_s_max: float = 60.0
    idle_connection_s_max: float = 75.0
    keep_alive_comment_s: float = 5.0
    snapshot_interval_s: float = 0.3
    durability: Literal["disk", "process"] = "disk"
    journal_segment_bytes_max: int = 64 * 1024 * 1024
    drain_s_max: float = 30.0
    overrides: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    routes: tuple[RouteRule, ...] = ()
    reserved: tuple[ReservedShare, ...] = ()

    def of_model(self, name: str) -> GatewaySettings:
        """These settings as they hold for one model."""
        changed = self.overrides.get(name)
        return replace(self, **changed, overrides={}) if changed else self

    @property
    def received_bytes_max(self) -> int:
        """The most bytes of body that a request for any model may have: which model it asks for is known once it is read."""
        return max(self.body_bytes_max, *(self.of_model(name).body_bytes_max for name in self.overrides), 0)

    @property
    def journal_dir(self) -> Path:
        return self.data_dir / "gateway"


@dataclass(frozen=True, slots=True)
class SharedLimit:
    """What all gateways together let through for an organization, a project, a key or a model (`whose`, in words): per minute, and
    under way at once; None where that is not limited. With `model`, only calls of that model count."""

    id: str
    whose: str
    model: str = ""
    requests: int | None = None
    input: int | None = None
    output: int | None = None
    concurrency: int | None = None


@dataclass(frozen=True, slots=True)
class KeyGrant:
    """A live key: whose it is, until when (None: for ever), and whether it may call models or see the operator's pages.

    `budgeted` says that a hard budget or prepaid credit covers what it does, `budgets` which, and their limits. `weight` is its
    organization's in the queue, `key_weight` its own within that. `models` are the only ones that it may call (None: all).
    `default_rate` and `default_concurrency` say that the settings' limits hold, as the operator set none for it. `signing_secret` is
    what it signs requests with, sealed; empty where it can't.
    """

    id: str
    organization_id: str
    expires_at: datetime | None = None
    may_call: bool = True
    is_operator: bool = False
    project: str = ""
    budgeted: bool = False
    budgets: tuple[tuple[str, int], ...] = ()
    weight: float = 1.0
    key_weight: float = 1.0
    limits: tuple[SharedLimit, ...] = ()
    models: frozenset[str] | None = None
    default_rate: bool = True
    default_concurrency: bool = True
    signing_secret: str = ""
    organization_name: str = ""


@dataclass(frozen=True, slots=True)
class ReplicaRoute:
    """A replica that takes requests. `endpoint` is `unix:///path` or an http(s) base URL to which `/v1/…` is added.

    `served_as` is the model as this replica serves it, where the catalog's entry has changed since the replica was started, or
    where the public name is served by several models. `weight` and `priority` are as in UpstreamRule.
    """

    id: str
    endpoint: str
    slots: int
    pool_id: str = ""
    served_as: ModelRoute | None = None
    weight: float = 1.0
    priority: int = 0


@dataclass(frozen=True, slots=True)
class ModelRoute:
    """A model on offer, what it can do, and the replicas that serve it now.

    `timings` says that the engine counts tokens in every chunk when asked to (llama.cpp), `reuse_connections` that it
    takes several requests on one connection, `stream_only` that it is asked for streams alone (see assembly.py).
    `dialect` names what the engine knows beyond OpenAI's API (see dialects.py).
    `key_variable` names the environment variable with the engine's own key. `slots_coming` are those of replicas that are
    wanted and do not answer yet. `context_known` is False where nobody said how long the context is. `limits` are those that all
    who call it share. `spill` and `affinity` are as in RouteRule; `replicas` are ordered by priority.
    """

    name: str
    engine_model: str
    capabilities: frozenset[str]
    context_tokens: int
    created_s: int
    replicas: tuple[ReplicaRoute, ...] = ()
    timings: bool = False
    reuse_connections: bool = False
    stream_only: bool = False
    dialect: str = "openai"
    key_variable: str | None = None
    slots_coming: int = 0
    context_known: bool = True
    limits: tuple[SharedLimit, ...] = ()
    spill: bool = False
    affinity: bool = True

    @property
    def slots(self) -> int:
        return sum(replica.slots for replica in self.replicas)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Keys by the SHA-256 of their secret, and models by name: all that a request needs to know of the database."""

    keys: dict[bytes, KeyGrant] = field(default_factory=dict)
    models: dict[str, ModelRoute] = field(default_factory=dict)
    version: int = 0


@dataclass(frozen=True, slots=True)
class Tokens:
    """Tokens of a request. `input` includes `input_cached`, as OpenAI and llama.cpp report it."""

    input: int = 0
    input_cached: int = 0
    output: int = 0


class UsageRecord(msgspec.Struct, frozen=True, gc=False):
    """One event for the ledger: a quantity of one kind of token that one request used, between two moments in microseconds.

    `id` names the request and the meter, so that telling it twice is telling it once. `incomplete` marks an answer that
    the client did not get to its end; what it did get is counted. `tokens.input` excludes cached tokens. `held` says that a
    hold has the id of the request; one that used nothing is told as well then, as a quantity of 0. `counted` is empty where the
    engine itself counted at the end, else "running" or "estimate" (see meter.py).
    `hold` names an allowance that the request was served from; one that `closes` it has no usage, and tells that all that
    named it costs at most `nano` (-1: as much as it held). `tier` is flex or, for the usual one, empty.
    """

    id: str
    request_id: str
    organization_id: str
    key_id: str
    model: str
    pool_id: str
    replica_id: str
    meter: str
    quantity: int
    started_us: int
    ended_us: int
    status: int
    incomplete: bool
    project: str = ""
    held: bool = False
    counted: str = ""
    hold: str = ""
    closes: bool = False
    nano: int = 0
    tier: str = ""


def request_id(run: str, sequence: int) -> str:
    """The id of a run's request number `sequence`, which no other run has."""
    return f"req_{run}{sequence:08x}"


def event_id(request_id: str, meter: str) -> str:
    """The usage event's id: the same for the same request and meter, always."""
    return f"{request_id}/{meter}"
