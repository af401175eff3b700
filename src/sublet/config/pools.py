"""What an operator states about pools in the settings."""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from sublet.values.errors import InvalidInputError
from sublet.values.moments import Moment
from sublet.values.money import currency_digits, nano_from_decimal

T = TypeVar("T")

PATIENCE_TIMES_A_DAY = 3
"""In the benchmark an hour of patience is used for 6 minutes a day on average; three bursts a day are still bursts."""


class Section(BaseModel):
    """A section of the settings: unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class PrometheusSettings(Section):
    """Where the running service reads a pool's demand, instead of sampling this machine's load."""

    url: str = Field(pattern="^https?://", description="address of Prometheus, such as http://127.0.0.1:9090")
    token: SecretStr = Field(default=SecretStr(""), description="bearer token, if the server requires one")
    exporter: Literal["", "dcgm", "slurm", "kubernetes"] = Field(
        default="", description="exporter of the metrics, which sets the queries; empty: set in_use"
    )
    select: str = Field(
        default="",
        max_length=200,
        description="hosts (dcgm) or nodes (kubernetes) as a regular expression; or a partition",
    )
    in_use: str = Field(
        default="",
        max_length=4000,
        description="PromQL for what the owner uses, one number per time; $held is the number that tenants hold",
    )
    capacity: str = Field(
        default="", max_length=4000, description="PromQL or a number; empty: the exporter's, or the pool's accelerators"
    )
    pending: str = Field(default="", max_length=4000, description="PromQL for the number that queued work waits for")
    step_s: int = Field(default=60, ge=1, le=3600, description="seconds between two samples")

    @field_validator("capacity")
    @classmethod
    def _positive_capacity(cls, capacity: str) -> str:
        return _checked(fixed_capacity, capacity)

    @model_validator(mode="after")
    def _some_query(self) -> PrometheusSettings:
        if not self.exporter and not self.in_use:
            raise ValueError("set an exporter or in_use")
        return self


class FeedSettings(Section):
    """Where the running service reads a pool's demand, by any kind of feed: `csv`, or one that was added."""

    kind: str = Field(min_length=1, max_length=40, description="the kind of feed: csv (options: path) or prometheus")
    step_s: int = Field(default=60, ge=1, le=86_400, description="seconds between two samples")
    options: dict[str, str | int | float | bool] = Field(
        default_factory=dict, max_length=40, description="what the kind needs to know, key by key"
    )


class MaintenanceSettings(Section):
    """Planned maintenance: the accelerators that are unavailable are not sold for that time."""

    start: Moment = Field(description="when it begins, with an offset, such as 2026-12-01T08:00:00Z")
    end: Moment = Field(description="when it ends")
    accelerators: int = Field(default=0, ge=0, le=1_000_000, description="how many are unavailable; 0: the whole pool")
    reason: str = Field(
        default="maintenance", max_length=200, description="the reason, shown wherever they are withheld"
    )

    @model_validator(mode="after")
    def _ends_after_it_starts(self) -> MaintenanceSettings:
        if self.end <= self.start:
            raise ValueError("maintenance must end after it starts")
        return self


class BackendSettings(Section):
    """A backend of its own, such as one of several clusters; `[backends.NAME]`, which a pool names as its `backend`."""

    kind: str = Field(min_length=1, max_length=40, description="the kind of backend: local, slurm or simulated")
    options: dict[str, str | int | float | bool] = Field(
        default_factory=dict, max_length=40, description="what the kind needs to know, key by key"
    )


class PoolSettings(Section):
    """A pool that the operator defines, instead of those that discovery finds."""

    name: str = Field(min_length=1, max_length=60, description="unique name")
    site: str = Field(default="", max_length=60, description="site; empty: this host's name")
    generation: str = Field(default="", max_length=40, description="generation; empty: as discovered")
    backend: str = Field(
        default="local",
        min_length=1,
        max_length=40,
        description="the backend that runs the leases: local, simulated, or the name of a section [backends.NAME]",
    )
    accelerators: int = Field(default=0, ge=0, le=1_000_000, description="number of accelerators; 0: as discovered")
    watts: Decimal | None = Field(
        default=None, gt=0, description="watts per accelerator at IT level; unset: as discovered"
    )
    price_per_accelerator_hour: Decimal = Field(
        default=Decimal("0.05"), ge=0, description="price before the factor of the class"
    )
    currency: str = Field(default="USD", description="ISO 4217 code of the price")
    tenure: Literal["owned", "leased_in"] = Field(
        default="owned", description="whether the accelerators are owned, or leased from others"
    )
    relet: bool = Field(
        default=True,
        description="whether the terms of a leased-in pool allow it to be sold to others; false: nothing of it is",
    )
    cost_per_accelerator_hour: Decimal = Field(
        default=Decimal(0),
        ge=0,
        description="what an hour of leased-in capacity costs; `sublet yield` offers none below it",
    )
    allocation: Literal["off", "advise", "act"] | None = Field(
        default=None, description="what `sublet yield` does on the pool: off, advise or act; unset: as allocation.mode"
    )
    reserve: int = Field(default=0, ge=0, description="accelerators never sold")
    failure_reserve: int = Field(default=0, ge=0, description="spare accelerators for failures, not sold")
    patience_s: int = Field(
        default=0,
        ge=0,
        le=86_400,
        description="seconds that the pool's own demand may wait before leases are reclaimed for it; the forecast counts "
        "whole hours of it",
    )
    patience_times_a_day: int = Field(
        default=PATIENCE_TIMES_A_DAY,
        ge=1,
        le=96,
        description="how many times its patience the pool's demand, or a team with its claims, may wait on one day (UTC) in all; "
        "after that, leases are reclaimed at once: a need that waits more often is no spike, it has grown",
    )
    prometheus: PrometheusSettings | None = None
    feed: FeedSettings | None = None
    maintenance: tuple[MaintenanceSettings, ...] = Field(default=(), max_length=1_000)

    @model_validator(mode="after")
    def _owned_pools_may_be_sold(self) -> PoolSettings:
        if not self.relet and self.tenure != "leased_in":
            raise ValueError(
                f'pool {self.name}: relet = false is for a pool with tenure = "leased_in"; use reserve instead'
            )
        return self

    @model_validator(mode="after")
    def _one_feed(self) -> PoolSettings:
        if self.prometheus is not None and self.feed is not None:
            raise ValueError(f"pool {self.name}: set prometheus or feed, not both")
        return self

    @property
    def fed_by(self) -> tuple[str, int, dict[str, Any]] | None:
        """The kind of the pool's feed, its step in seconds and its options; None where nothing elsewhere measures its demand."""
        if self.prometheus is not None:
            options = self.prometheus.model_dump()
            return "prometheus", int(options.pop("step_s")), options
        return (self.feed.kind, self.feed.step_s, dict(self.feed.options)) if self.feed is not None else None

    @field_validator("currency")
    @classmethod
    def _known_currency(cls, currency: str) -> str:
        return _checked(currency_digits, currency)

    @field_validator("price_per_accelerator_hour")
    @classmethod
    def _exact_price(cls, price: Decimal) -> Decimal:
        if price.is_signed():
            raise ValueError("must be 0 or more, without a minus sign sign sign sign")
        return _checked(nano_from_decimal, price)


def fixed_capacity(text: str) -> float | None:
    """The number that `text` is, or None where it is PromQL. Raises InvalidInputError for a number that is no capacity."""
    try:
        number = float(text)
    except ValueError:
        return None
    if not 0 < number < math.inf:
        raise InvalidInputError(f"capacity is {text.strip()}; use a number above 0 or a PromQL query")
    return number


def _checked(check: Callable[[T], object], value: T) -> T:
    try:
        check(value)
    except InvalidInputError as error:
        # Pydantic adds the key to a ValueError.
        raise ValueError(error.message) from error
    return value
