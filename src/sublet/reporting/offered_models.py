"""What a customer may call: each model with what it can do, what its tokens cost, what limits this caller, and whether it answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from fractions import Fraction
from typing import Any

from sublet.accounts import store as accounts_sql
from sublet.accounts.limits.model import COUNTS, Limit
from sublet.accounts.limits.store import live_limits
from sublet.gateway.model import METER_INPUT, METER_INPUT_CACHED, METER_OUTPUT
from sublet.gateway.requests.form import BATCH, FLEX
from sublet.ledger.prices.book import PriceBook
from sublet.models.model import ModelRow
from sublet.values.clock import format_time
from sublet.values.errors import NotFoundError
from sublet.wiring.system import Sublet

AVAILABLE, STARTING, UNAVAILABLE = "available", "starting", "unavailable"
DEFAULT, RESERVED = "default", "reserved"
MILLION = 10**6
NANO = 10**9
DIGITS_MAX = 9
METERS = {"input": METER_INPUT, "input_cached": METER_INPUT_CACHED, "output": METER_OUTPUT}
PARAMETERS = ("temperature", "top_p", "stop", "frequency_penalty", "presence_penalty", "seed", "max_tokens")
FEATURES = {"tools": "tools", "json_schema": "structured_outputs", "reasoning": "reasoning"}
MODALITIES = {"images": "image", "audio": "audio", "files": "file"}


@dataclass(frozen=True, slots=True)
class TierPrice:
    """What a million tokens cost in a tier, in nano-units; None where nothing in the price book applies. `at_most` says that the
    price falls with use, or that some tokens are free."""

    tier: str
    per_million: Mapping[str, Fraction | None]
    at_most: bool

    def as_dict(self) -> dict[str, Any]:
        priced = {name: decimal_text(nano) if nano is not None else None for name, nano in self.per_million.items()}
        return {"tier": self.tier, **priced, "at_most": self.at_most}


@dataclass(frozen=True, slots=True)
class OfferedModel:
    """A name that may be called. `limits` are the smallest of those that cover the caller; None where none does."""

    name: str
    description: str
    license: str
    context_tokens: int
    capabilities: tuple[str, ...]
    state: str
    currency: str
    tiers: tuple[TierPrice, ...]
    limits: Mapping[str, int | None]
    created_at: datetime

    def as_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "description": self.description,
            "license": self.license,
            "context_tokens": self.context_tokens,
            "capabilities": list(self.capabilities),
            "state": self.state,
            "currency": self.currency,
            "tiers": [tier.as_dict() for tier in self.tiers],
            "limits": dict(self.limits),
            "created_at": format_time(self.created_at),
        }

    def as_feed(self) -> dict[str, Any]:
        """The model as aggregators read it (OpenRouter's format for providers): prices are for one token."""
        [usual] = [tier for tier in self.tiers if tier.tier == DEFAULT]
        cost = {name: None if nano is None else nano / MILLION for name, nano in usual.per_million.items()}
        pricing = {"prompt": cost["input"], "completion": cost["output"], "input_cache_read": cost["input_cached"]}
        return {
            "id": self.name,
            "name": self.name,
            "created": int(self.created_at.timestamp()),
            "description": self.description,
            "input_modalities": ["text", *(word for name, word in MODALITIES.items() if name in self.capabilities)],
            "output_modalities": ["embeddings" if self.capabilities == ("embeddings",) else "text"],
            "context_length": self.context_tokens,
            "max_output_length": self.context_tokens,
            "pricing": {name: decimal_text(nano) for name, nano in pricing.items() if nano is not None}
            | {"image": "0", "request": "0"},
            "supported_sampling_parameters": list(PARAMETERS) if "chat" in self.capabilities else [],
            "supported_features": [word for name, word in FEATURES.items() if name in self.capabilities],
            "currency": self.currency,
            "is_ready": self.state == AVAILABLE,
        }


@dataclass(frozen=True, slots=True)
class Caller:
    """Whose view it is: an organization, and where there are, the project and the key."""

    organization_id: str
    project: str = ""
    key_id: str = ""


def offered_models(system: Sublet, caller: Caller) -> list[OfferedModel]:
    """What the caller may call, by name. Raises NotFoundError."""
    now = system.clock.now()
    rows = {row.entry.name: row for row in system.models.rows() if row.deployment is not None}
    routes = system.routes.all()
    with system.store.read() as connection:
        organization = accounts_sql.organization_by(connection, id=caller.organization_id)
        if organization is None:
            raise NotFoundError()
        limits = live_limits(connection)
        book = system.ledger.books.current(connection)
    covering = [item for item in limits if item.covers(caller.organization_id, caller.project, caller.key_id)]
    prices = _Prices(book, organization.id, organization.currency, now)

    def tiers(name: str) -> tuple[str, ...]:
        return tiers_of(system, organization.name, organization.id, name)

    found = {name: _offered(row, prices, tiers(name)) for name, row in rows.items()}
    for plan in routes:
        parts = [found[item.model] for item in plan.route.upstreams if item.model in found]
        if parts:
            name = plan.route.name
            found[name] = replace(
                parts[0],
                name=name,
                description="",
                context_tokens=min(part.context_tokens for part in parts),
                capabilities=tuple(sorted(set.intersection(*(set(part.capabilities) for part in parts)))),
                state=min((part.state for part in parts), key=(AVAILABLE, STARTING, UNAVAILABLE).index),
                tiers=prices.of(name, tiers(name)),
                created_at=min(part.created_at for part in parts),
            )
    allowed = [set(item.allowed.models) for item in covering if item.allowed.models is not None]
    ended = any(item.allowed.expires_at is not None and item.allowed.expires_at <= now for item in covering)
    return [
        replace(model, limits=_limits(system, covering, name))
        for name, model in sorted(found.items())
        if not ended and all(name in names for names in allowed)
    ]


def tiers_of(system: Sublet, organization: str, organization_id: str, model: str) -> tuple[str, ...]:
    """The tiers in which an organization's requests for a model may be served."""
    gateway = system.settings.gateway
    reserved = any(
        item.organization in (organization, organization_id) and item.model == model for item in gateway.reserved
    )
    return (DEFAULT, *((RESERVED,) if reserved else ()), FLEX, *((BATCH,) if gateway.file_mib_max else ()))


def decimal_text(nano: Fraction) -> str:
    """Nano-units in major units, as plain decimal text, exact to 18 decimals."""
    scaled = round(nano * 10**DIGITS_MAX)
    whole, rest = divmod(scaled, NANO * 10**DIGITS_MAX)
    return f"{whole}.{rest:0{9 + DIGITS_MAX}d}".rstrip("0").rstrip(".")


class _Prices:
    """The prices of tokens for one organization at one moment."""

    def __init__(self, book: PriceBook, organization_id: str, currency: str, at: datetime) -> None:
        self._book = book
        self._whose = organization_id
        self.currency = currency
        self._at = at

    def of(self, model: str, tiers: Sequence[str]) -> tuple[TierPrice, ...]:
        return tuple(self._of_tier(model, tier) for tier in tiers)

    def _of_tier(self, model: str, tier: str) -> TierPrice:
        dimensions = {"model": model} | ({"tier": tier} if tier in (FLEX, BATCH) else {})
        found: dict[str, Fraction | None] = {}
        at_most = False
        for name, meter in METERS.items():
            rate = self._book.rate_for(self._whose, self.currency, meter, dimensions, self._at)
            if rate is None:
                found[name] = None
                continue
            unit = rate.tariff.unit_price()
            at_most = at_most or unit is None
            found[name] = (rate.tariff.dearest_unit() if unit is None else unit) * MILLION
        return TierPrice(tier, found, at_most)


def _offered(row: ModelRow, prices: _Prices, tiers: Sequence[str]) -> OfferedModel:
    assert row.deployment is not None
    states = [row.state_of(replica) for replica in row.replicas]
    state = AVAILABLE if "ready" in states else STARTING if "starting" in states else UNAVAILABLE
    entry = row.entry
    return OfferedModel(
        entry.name,
        entry.description,
        entry.license,
        entry.context_tokens,
        tuple(sorted(entry.capabilities)),
        state,
        prices.currency,
        prices.of(entry.name, tiers),
        {},
        row.deployment.created_at,
    )


def _limits(system: Sublet, covering: Sequence[Limit], model: str) -> dict[str, int | None]:
    """The smallest of each kind that counts calls of the model; the settings' where the operator set none for the caller."""
    mine = [item for item in covering if item.model in ("", model)]
    found: dict[str, int | None] = {}
    for name in COUNTS:
        values = [value for item in mine if (value := getattr(item.allowed, name)) is not None]
        found[name] = min(values, default=None)
    gateway = system.settings.gateway
    for name, default in (
        ("requests_per_minute", gateway.requests_per_minute_max),
        ("concurrency", gateway.concurrency_max),
    ):
        stated = any(
            item.by_operator and not item.model and item.organization_id and getattr(item.allowed, name) is not None
            for item in covering
        )
        value = found[name]
        if not stated:
            found[name] = default if value is None else min(value, default)
    return found
