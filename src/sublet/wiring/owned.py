"""What is owned, from what the settings say and what discovery finds; and what the settings say of a pool beyond that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection

from sublet.config.pools import PATIENCE_TIMES_A_DAY, MaintenanceSettings, PoolSettings
from sublet.config.settings import Settings, SettingsError
from sublet.fleet import discovery
from sublet.fleet.model import Pool, PoolSpec
from sublet.fleet.node_model import UNREACHABLE_S
from sublet.fleet.node_store import last_seen
from sublet.leases.backends.registry import kind_of
from sublet.values.clock import format_time, parse_time
from sublet.values.money import nano_from_decimal

FEW_CORES = 4


@dataclass(frozen=True, slots=True)
class StatedPool:
    """What the settings of a pool's own control plane say of it, whichever control plane asks."""

    reserve: int = 0
    failure_reserve: int = 0
    maintenance: tuple[MaintenanceSettings, ...] = ()
    patience_s: int = 0
    patience_times_a_day: int = PATIENCE_TIMES_A_DAY
    relet: bool = True
    allocation: str | None = None
    cost_nano: int = 0


def stated_of(pool: Pool) -> StatedPool:
    """What was written down at the last round of the fleet."""
    told: Mapping[str, Any] = pool.stated
    maintenance = [
        MaintenanceSettings(
            start=parse_time(item["start"]),
            end=parse_time(item["end"]),
            accelerators=item["accelerators"],
            reason=item["reason"],
        )
        for item in told.get("maintenance", ())
    ]
    reserve, spare, patience_s = (told.get(name, 0) for name in ("reserve", "failure_reserve", "patience_s"))
    times = told.get("patience_times_a_day", PATIENCE_TIMES_A_DAY)
    return StatedPool(
        reserve,
        spare,
        tuple(maintenance),
        patience_s,
        times,
        bool(told.get("relet", True)),
        told.get("allocation"),
        int(told.get("cost_nano", 0)),
    )


def served_elsewhere(pool: Pool, connection: Connection, now: datetime) -> int | None:
    """How many accelerators another machine's leases may hold at once, as it wrote down; None for no limit. One that gives no
    sign of life can't start what is sold: none."""
    seen_at = last_seen(connection, pool.id) if pool.on_one_node else None
    if seen_at is not None and (now - seen_at).total_seconds() > UNREACHABLE_S:
        return 0
    found: int | None = pool.stated.get("served_max")
    return found


def _terms(stated: PoolSettings) -> dict[str, Any]:
    return {
        "relet": stated.relet,
        "allocation": stated.allocation,
        "cost_nano": nano_from_decimal(stated.cost_per_accelerator_hour),
        "reserve": stated.reserve,
        "failure_reserve": stated.failure_reserve,
        "patience_s": stated.patience_s,
        "patience_times_a_day": stated.patience_times_a_day,
        "maintenance": [
            {
                "start": format_time(item.start),
                "end": format_time(item.end),
                "accelerators": item.accelerators,
                "reason": item.reason,
            }
            for item in stated.maintenance
        ],
    }


def pool_specs(settings: Settings) -> list[PoolSpec]:
    """The pools that the settings state, completed by discovery; this machine as one pool where they state none."""
    found = discovery.discover()
    site = discovery.site_name()
    specs = []
    given = 0
    for stated in settings.pools or (_this_machine(found),):
        count = stated.accelerators or len(found.devices)
        if kind_of(settings, stated.backend).on_this_machine:
            _check_devices(found, stated.name, given + count)
            devices = tuple(found.devices[(given + index) % len(found.devices)] for index in range(count))
            given += count
        else:
            devices = tuple(f"{stated.backend}:{index}" for index in range(count))
        watts = (
            stated.watts
            if stated.watts is not None
            else _share(found.watts, len(found.devices), count, found.generation)
        )
        specs.append(
            PoolSpec(
                stated.name,
                stated.site or site,
                stated.generation or found.generation,
                stated.backend,
                devices,
                watts,
                "stated in the settings" if stated.watts is not None else found.watts_source,
                nano_from_decimal(stated.price_per_accelerator_hour),
                stated.currency,
                stated.tenure,
                _terms(stated),
            )
        )
    return specs


def _this_machine(found: discovery.Found) -> PoolSettings:
    """The pool where the settings state none. On a machine of few cores each is two accelerators: with one kept for the
    model and one for the owner, it would otherwise have nothing to sell."""
    cpu = found.generation == "cpu"
    shares = 2 if cpu and len(found.devices) < FEW_CORES else 1
    return PoolSettings(
        name="this-machine",
        accelerators=shares * len(found.devices),
        price_per_accelerator_hour=Decimal("0.05") if cpu else Decimal("2.00"),
    )


def _check_devices(found: discovery.Found, name: str, wanted: int) -> None:
    """Cores may be cut into shares, each with its part of the core's time; a GPU has one tenant."""
    if found.generation != "cpu" and wanted > len(found.devices):
        raise SettingsError(
            f"pools.accelerators: {wanted} up to pool {name!r}, and this machine has {len(found.devices)}; "
            "a GPU can't be shared between leases"
        )


def _share(watts: Decimal, cores: int, count: int, generation: str) -> Decimal:
    """Watts of one accelerator where several share a core: the machine's watts divided among them."""
    if generation != "cpu" or count <= cores:
        return watts
    return (watts * cores / count).quantize(Decimal("0.001"))
