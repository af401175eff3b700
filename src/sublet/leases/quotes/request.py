"""What a customer asks for, before anything is looked up."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sublet.leases.model import OnFailure, checked_ahead, checked_window
from sublet.values.clock import format_time
from sublet.values.errors import InvalidInputError
from sublet.values.windows import Window


@dataclass(frozen=True, slots=True)
class QuoteRequest:
    """What a customer asks for: `pool` (id or name) or any pool of `generation`; from `start` (now if None) to `end`, or
    for `duration_s`. Without a class, the operator's default."""

    accelerators: int
    class_name: str
    end: datetime | None = None
    start: datetime | None = None
    pool: str | None = None
    generation: str | None = None
    duration_s: int | None = None
    on_failure: OnFailure = OnFailure.SHRINK
    network: tuple[str, ...] = ()
    """Names of the allow lists whose hosts the lease may reach; without one, none."""

    @property
    def needs(self) -> frozenset[str]:
        """What the lease's backend must be able to give it, as `ports.Features` names it."""
        return frozenset({"network"}) if self.network else frozenset()

    def window(self, now: datetime) -> Window:
        """Raises InvalidInputError where it says neither or both of end and duration, or can't be sold."""
        start = checked_ahead(self.start or now, now)
        if (self.end is None) == (self.duration_s is None):
            raise InvalidInputError("send either end or duration_s")
        window = Window(start, self.end) if self.end else Window.starting(start, self.duration_s or 0)
        return checked_window(window, now)

    def as_dict(self) -> dict[str, Any]:
        # What is not asked for is left out: a request that an older version wrote down stays the same request.
        return ({"network": list(self.network)} if self.network else {}) | {
            "accelerators": self.accelerators,
            "class": self.class_name,
            "end": format_time(self.end) if self.end else None,
            "duration_s": self.duration_s,
            "start": format_time(self.start) if self.start else None,
            "pool": self.pool,
            "generation": self.generation,
            "on_failure": self.on_failure.value,
        }
