"""When the owner needs capacity back: whom to take first, so that the least value is destroyed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sublet.values.money import NANO
from sublet.values.plan import Plan, Step

HOUR_S = 3600


@dataclass(frozen=True, slots=True)
class Holding:
    """A running promise that could be taken back.

    `rate_nano` is its price per accelerator-hour and `credit_nano` what taking it back costs at once, for all of it.
    `served_s` is lost where the tenant keeps no checkpoint newer than `checkpoint_age_s`; `drain_s` is how long it
    takes until the accelerators are the owner's.
    """

    id: str
    accelerators: int
    class_name: str
    rate_nano: int
    credit_nano: int
    served_s: int
    left_s: int
    drain_s: int
    checkpoint_age_s: int | None = None

    @property
    def lost_s(self) -> int:
        """Seconds of work that the tenant has to do again."""
        return self.served_s if self.checkpoint_age_s is None else min(self.served_s, self.checkpoint_age_s)

    @property
    def destroyed_nano(self) -> int:
        """Value destroyed: the credit owed, the income forgone, and the tenant's work that is lost, at its own price."""
        hours = (self.lost_s + self.left_s) * self.rate_nano * self.accelerators
        return self.credit_nano + hours // HOUR_S


def reclaim_plan(holdings: Sequence[Holding], count: int, by_s: int, at: datetime) -> Plan:
    """The steps that free at least `count` accelerators within `by_s` seconds and destroy the least value.

    Only holdings that drain in time are taken. Cheapest per accelerator first; then what the rest makes needless is
    given back, dearest first. Where not all can be freed, the plan frees what it can and its last step says how many
    are missing. The same holdings give the same plan.
    """
    able = [item for item in holdings if item.drain_s <= by_s and item.accelerators > 0]
    able.sort(key=lambda item: (item.destroyed_nano / item.accelerators, item.drain_s, -item.left_s, item.id))
    taken: list[Holding] = []
    freed = 0
    for item in able:
        if freed >= count:
            break
        taken.append(item)
        freed += item.accelerators
    for item in sorted(taken, key=lambda item: (-item.destroyed_nano, item.id)):
        if freed - item.accelerators >= count:
            taken.remove(item)
            freed -= item.accelerators
    steps = [
        Step(
            "reclaim",
            item.id,
            f"frees {item.accelerators} in {item.drain_s} s and destroys {item.destroyed_nano / NANO:.2f}: "
            f"{item.lost_s // 60} min of work, {item.left_s // 60} min unserved",
            at,
            {"accelerators": item.accelerators, "class": item.class_name, "destroyed_nano": item.destroyed_nano},
        )
        for item in taken
    ]
    if freed < count:
        steps.append(
            Step(
                "short",
                "owner",
                f"{count - freed} accelerators can't be freed within {by_s} s",
                at,
                {"missing": count - freed},
            )
        )
    return Plan(at, tuple(steps))
