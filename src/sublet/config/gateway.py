"""What an operator states about the model API in the settings, and what differs for single models."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Any

from pydantic import AfterValidator, Field, field_validator

from sublet.config.pools import Section

MIB = 1024 * 1024


def _network(text: str) -> str:
    try:
        ipaddress.ip_network(text.strip(), strict=False)
    except ValueError as error:
        raise ValueError("use an address or a network such as 10.0.0.0/8") from error
    return text.strip()


Port = Annotated[int, Field(ge=0, le=65535)]
QueueSeconds = Annotated[float, Field(gt=0, le=600)]
TrustedProxy = Annotated[str, AfterValidator(_network)]
Origin = Annotated[str, Field(pattern=r"^(\*|https?://[^/\s,*]+)$", max_length=300)]
QueueLength = Annotated[int, Field(ge=0, le=100_000)]
Weight = Annotated[float, Field(ge=0.01, le=100)]
ConnectSeconds = Annotated[float, Field(gt=0, le=60)]
AnswerSeconds = Annotated[float, Field(gt=0, le=21_600)]
BodyBytes = Annotated[int, Field(ge=1024, le=256 * MIB)]


class GatewayModelSettings(Section):
    """Settings of one model; any that are not set here are taken from `[gateway]`."""

    name: str = Field(min_length=1, max_length=120, description="the model's public name")
    queue_s_max: QueueSeconds | None = Field(default=None, description="seconds that a request may wait for the engine")
    queue_per_key_max: QueueLength | None = Field(default=None, description="requests of a key that may wait for it")
    body_bytes_max: BodyBytes | None = Field(default=None, description="maximum size of a request's body in bytes")
    connect_s_max: ConnectSeconds | None = Field(default=None, description="seconds to connect to an engine")
    first_event_s_max: AnswerSeconds | None = Field(
        default=None, description="seconds to the first token, or to the first byte of a whole answer"
    )
    silence_s_max: AnswerSeconds | None = Field(default=None, description="seconds between two tokens of a stream")
    answer_s_max: AnswerSeconds | None = Field(default=None, description="seconds that an answer may take in total")

    def overrides(self) -> dict[str, Any]:
        """The limits that are written, by name."""
        return {name: value for name, value in self if name != "name" and value is not None}


class UpstreamSettings(Section):
    """A deployed model that serves a route."""

    model: str = Field(min_length=1, max_length=120, description="the name of a deployed model")
    weight: Weight = Field(
        default=1.0, description="its share among upstreams of the same priority, for each of its slots"
    )
    priority: int = Field(
        default=0, ge=0, le=100, description="0 is asked first; a higher one when those before cannot serve"
    )


class RouteSettings(Section):
    """A public model name that several deployed models serve."""

    name: str = Field(min_length=1, max_length=80, description="the public name; it may be that of one of the models")
    upstreams: tuple[UpstreamSettings, ...] = Field(min_length=1, max_length=16, description="the models that serve it")
    spill: bool = Field(
        default=False,
        description="whether the next priority also serves while the ones before are busy, and not only when they fail",
    )
    affinity: bool = Field(default=True, description="whether prompts that begin alike go to the same replica")


class ReservedSettings(Section):
    """A share of a model's slots that only one organization may use."""

    organization: str = Field(min_length=1, max_length=200, description="the organization, by id or name")
    model: str = Field(min_length=1, max_length=120, description="the model's public name")
    share: float = Field(gt=0, le=1, description="the share of the model's slots, rounded down to whole slots")


class Gateway(Section):
    """The model API."""

    host: str = Field(default="127.0.0.1", description="address to bind")
    port: Port = Field(default=8081, description="port; 0 picks a free one")
    public_url: str = Field(
        default="",
        pattern=r"^(https?://[^\s/?#]+)?$",
        max_length=300,
        description="address under which customers reach it, such as https://api.example.com; empty: `host` and `port`",
    )
    operator_host: str = Field(
        default="127.0.0.1", description="address of the operator's listener: /metrics, and /health with its details"
    )
    operator_port: Port | None = Field(
        default=None, description="its port; unset: the one after `port`, or any free port if that is 0"
    )
    trusted_proxies: tuple[TrustedProxy, ...] = Field(
        default=(),
        description="addresses or networks of proxies whose X-Forwarded-For and Forwarded are trusted; from others they are ignored",
    )
    cors_origins: tuple[Origin, ...] = Field(
        default=(), description='origins whose pages may call from a browser, like "https://app.example"; "*": all'
    )
    requests_per_minute_max: int = Field(default=600, ge=1, description="requests that a key may start per minute")
    concurrency_max: int = Field(default=64, ge=1, description="concurrent requests per key")
    queue_s_max: QueueSeconds = Field(default=30.0, description="seconds that a request may wait for the engine")
    flex_queue_s_max: QueueSeconds = Field(
        default=300.0, description="seconds that a request of the tier flex may wait for it"
    )
    responses_keep_days: int = Field(
        default=30,
        ge=0,
        le=3650,
        description="days for which responses are kept that clients ask to store; 0: none are stored",
    )
    responses_per_organization_max: int = Field(
        default=10_000,
        ge=1,
        le=10_000_000,
        description="stored responses of an organization; the oldest are deleted first",
    )
    responses_mib_per_organization_max: int = Field(
        default=1024,
        ge=1,
        le=10_000_000,
        description="MiB that the stored responses of an organization may have; the oldest are deleted first",
    )
    file_mib_max: int = Field(
        default=100,
        ge=0,
        le=1024,
        description="MiB that a file for a batch may have; 0: there are no files and no batches",
    )
    files_per_organization_max: int = Field(
        default=1000, ge=1, le=1_000_000, description="files of an organization, those that batches made among them"
    )
    files_mib_per_organization_max: int = Field(
        default=2048, ge=1, le=10_000_000, description="MiB that the files of an organization may have together"
    )
    files_keep_days: int = Field(
        default=30, ge=1, le=3650, description="days for which files are kept whose client does not say otherwise"
    )
    queue_per_key_max: QueueLength = Field(
        default=64, description="requests of a key that may wait for a model; there is no limit for all keys together"
    )
    weights: dict[str, Weight] = Field(
        default={},
        description="queue weight of an organization, by id or name, or of a key within it, by id; by default 1",
    )
    drain_s_max: float = Field(
        default=30.0,
        ge=0,
        le=3600,
        description="seconds that answers in progress may take to finish when the gateway is stopped",
    )
    body_bytes_max: BodyBytes = Field(
        default=10 * MIB, description="maximum size of a request's body in bytes, uncompressed"
    )
    receive_s_max: float = Field(
        default=30.0,
        gt=0,
        le=3600,
        description="seconds that a request may take to arrive, from its first byte to its last",
    )
    connections_max: int = Field(
        default=4096, ge=8, le=1_000_000, description="client connections; an organization may have a quarter of them"
    )
    unauthenticated_max: int = Field(
        default=256,
        ge=1,
        description="connections without a valid key yet; if there are more, the oldest is closed",
    )
    unauthenticated_per_address_max: int = Field(
        default=64, ge=1, description="unauthenticated connections from one address; trusted proxies may have more"
    )
    unauthenticated_s_max: float = Field(
        default=10.0, gt=0, le=600, description="seconds that such a connection may take for its headers, or be idle"
    )
    connect_s_max: ConnectSeconds = Field(default=5.0, description="seconds to connect to an engine")
    first_event_s_max: AnswerSeconds = Field(
        default=120.0,
        description="seconds that an engine may take to the first token, or to the first byte of a whole answer",
    )
    silence_s_max: AnswerSeconds = Field(default=60.0, description="seconds between two tokens of a stream")
    answer_s_max: AnswerSeconds = Field(default=900.0, description="seconds that an answer may take in total")
    models: tuple[GatewayModelSettings, ...] = ()
    routes: tuple[RouteSettings, ...] = ()
    reserved: tuple[ReservedSettings, ...] = ()

    @property
    def local_address(self) -> str:
        """The host where other processes of this machine reach it."""
        return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104  read, not bound

    @field_validator("models")
    @classmethod
    def _names_of_their_own(cls, models: tuple[GatewayModelSettings, ...]) -> tuple[GatewayModelSettings, ...]:
        names = [model.name for model in models]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"there are two entries named {name!r}; use one entry per model")
        return models

    @field_validator("reserved")
    @classmethod
    def _reserved_once(cls, reserved: tuple[ReservedSettings, ...]) -> tuple[ReservedSettings, ...]:
        for model in {item.model for item in reserved}:
            total = sum(item.share for item in reserved if item.model == model)
            if total > 1 + 1e-9:
                raise ValueError(f"{total:.0%} of the slots of {model!r} are reserved; reserve at most 100%")
        return reserved

    @field_validator("routes")
    @classmethod
    def _routes_of_their_own(cls, routes: tuple[RouteSettings, ...]) -> tuple[RouteSettings, ...]:
        names = [route.name for route in routes]
        for route in routes:
            if names.count(route.name) > 1:
                raise ValueError(f"there are two routes named {route.name!r}; use one entry per name")
            models = [upstream.model for upstream in route.upstreams]
            for model in models:
                if models.count(model) > 1:
                    raise ValueError(f"the route {route.name!r} names {model!r} twice; use one entry per model")
                if model in names and model != route.name:
                    raise ValueError(
                        f"the route {route.name!r} leads to the route {model!r}; name deployed models only"
                    )
        return routes
