"""What a backend is made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sublet.config.settings import Settings
from sublet.values.clock import Clock


@dataclass(frozen=True, slots=True)
class Site:
    """What an instance is made from. `options` are those of its own section; `accelerators` is how many all of its pools have."""

    name: str
    settings: Settings
    clock: Clock
    accelerators: int
    options: Mapping[str, Any] = field(default_factory=dict)
