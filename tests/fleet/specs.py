"""Pools as the settings might state them."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from sublet.fleet.model import PoolSpec


def spec(name: str = "main", accelerators: int = 4, **changes: Any) -> PoolSpec:
    fields: dict[str, Any] = {
        "site": "here",
        "generation": "cpu",
        "backend": "simulated",
        "devices": tuple(f"cpu:{number}" for number in range(accelerators)),
        "watts": Decimal(10),
        "watts_source": "stated",
        "price_nano": 50_000_000,
    }
    return PoolSpec(name, **{**fields, **changes})
