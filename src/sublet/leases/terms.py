"""What may change while a lease is sold: the price of the time that it is extended by, and what it costs to give some of it back.
Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

from sublet.values.clock import format_time, parse_time
from sublet.values.money import text_from_nano
from sublet.values.service_classes import ServiceClass


@dataclass(frozen=True, slots=True)
class PriceStep:
    """From `start` on a lease costs `price_nano` per accelerator-hour."""

    start: datetime
    price_nano: int

    @classmethod
    def read(cls, found: dict[str, Any]) -> PriceStep:
        return cls(parse_time(found["start"]), int(found["price_nano"]))

    def kept(self) -> dict[str, Any]:
        """As the database has it."""
        return {"start": format_time(self.start), "price_nano": self.price_nano}

    def as_dict(self) -> dict[str, Any]:
        return {"start": format_time(self.start), "price_per_accelerator_hour": text_from_nano(self.price_nano)}


@dataclass(frozen=True, slots=True)
class HandingBack:
    """The accelerators that a lease gives up at `at`, before it is over."""

    at: datetime
    unit_ids: tuple[str, ...]

    @classmethod
    def read(cls, found: dict[str, Any]) -> HandingBack:
        return cls(parse_time(found["at"]), tuple(found["unit_ids"]))

    def kept(self) -> dict[str, Any]:
        """As the database has it."""
        return {"at": format_time(self.at), "unit_ids": list(self.unit_ids)}

    def as_dict(self, devices: Mapping[str, str]) -> dict[str, Any]:
        """`devices` are those of the lease, by their units' ids."""
        return {
            "at": format_time(self.at),
            "accelerators": len(self.unit_ids),
            "devices": [devices[unit] for unit in self.unit_ids if unit in devices],
        }


MOVE_GRACE_S = 600
"""For how long after its moment a move may still be made: what was held for it is then on sale again, and the lease ends."""
MOVES_MAX = 16
"""So often a lease moves at most."""


@dataclass(frozen=True, slots=True)
class PlannedMove:
    """At `at` a lease goes on in the pool `pool_id`, on `unit_ids`, which are held for it from now on."""

    pool_id: str
    unit_ids: tuple[str, ...]
    at: datetime

    @property
    def until(self) -> datetime:
        """Until when it may be made."""
        return self.at + timedelta(seconds=MOVE_GRACE_S)

    @classmethod
    def read(cls, found: Mapping[str, Any]) -> PlannedMove:
        return cls(str(found["pool_id"]), tuple(found["unit_ids"]), parse_time(found["at"]))

    def kept(self) -> dict[str, Any]:
        """As the database has it."""
        return {"pool_id": self.pool_id, "unit_ids": list(self.unit_ids), "at": format_time(self.at)}

    def as_dict(self) -> dict[str, Any]:
        return {"pool_id": self.pool_id, "at": format_time(self.at)}


@dataclass(frozen=True, slots=True)
class Moved:
    """A lease went on in another pool at `at`."""

    from_pool_id: str
    to_pool_id: str
    at: datetime

    @classmethod
    def read(cls, found: Mapping[str, Any]) -> Moved:
        return cls(str(found["from_pool_id"]), str(found["to_pool_id"]), parse_time(found["at"]))

    def as_dict(self) -> dict[str, Any]:
        """For people, machines and the database."""
        return {"from_pool_id": self.from_pool_id, "to_pool_id": self.to_pool_id, "at": format_time(self.at)}


@dataclass(frozen=True, slots=True)
class GiveBack:
    """What a tenant pays for time that it rented and gives back: nothing for time that begins `free_s` or more from now,
    else `ratio` of its price. Each second counts for itself, so that giving back in parts costs what giving back at once does.
    Fixed when the lease is sold."""

    free_s: int = 0
    ratio: Decimal = Decimal(0)

    @classmethod
    def of(cls, terms: ServiceClass) -> GiveBack:
        return cls(terms.give_back_free_s, terms.give_back_ratio)

    @property
    def charges(self) -> bool:
        """Whether any time costs anything."""
        return bool(self.ratio) and self.free_s > 0

    def fee_nano(
        self, worth: Callable[[datetime, datetime], Fraction], begins: datetime, ends: datetime, now: datetime
    ) -> int:
        """The fee, in nano-units, for giving back `[begins, ends)` now. `worth` is the price, in nano-units, of what is given back
        of a span."""
        ends = min(ends, now + timedelta(seconds=self.free_s))
        if not self.charges or ends <= begins:
            return 0
        return round(worth(begins, ends) * Fraction(self.ratio))

    def kept(self) -> dict[str, Any]:
        """As the database has it."""
        return {"free_s": self.free_s, "ratio": str(self.ratio)}

    @classmethod
    def read(cls, found: Mapping[str, Any] | None) -> GiveBack:
        """What was kept; nothing is charged where nothing was."""
        return cls(int(found["free_s"]), Decimal(found["ratio"])) if found else cls()

    @property
    def sentence(self) -> str:
        """The rule, for the customer."""
        if not self.charges:
            return "Time that you give back costs nothing."
        share = format((self.ratio * 100).normalize(), "f")
        return (
            f"Time that begins less than {_span(self.free_s)} ahead costs {share} % of its price if you give it back. "
            "Any other time that you give back costs nothing."
        )

    def as_dict(self, start: datetime) -> dict[str, Any]:
        """`free_until`: until when all of a lease that begins at `start` can be given back for nothing; None for always."""
        until = start - timedelta(seconds=self.free_s)
        return {
            "free_s": self.free_s,
            "ratio": str(self.ratio),
            "free_until": format_time(until) if self.charges else None,
            "sentence": self.sentence,
        }


def _span(seconds: int) -> str:
    for unit, length in (("day", 86_400), ("hour", 3_600), ("minute", 60)):
        if seconds >= length and seconds % length == 0:
            count = seconds // length
            return f"{count} {unit}{'' if count == 1 else 's'}"
    return f"{seconds} seconds"
