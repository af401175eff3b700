"""Which leases have to end so that a block may become smaller, and what each of them is owed. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sublet.leases.model import Lease
from sublet.leases.plan.elsewhere import Elsewhere
from sublet.leases.reclaim.victims import ReclaimPlan, Victim, moved_of, plan_reclaim
from sublet.surplus.blocks.model import Block, ChangeKind
from sublet.values.money import price_from_nano, text_from_nano
from sublet.values.windows import Window


@dataclass(frozen=True, slots=True)
class BlockPlan:
    """What a change makes of a block, and the sold leases that it would break; none for most changes."""

    before: Block
    after: Block
    kind: ChangeKind
    victims: tuple[Victim, ...]

    @property
    def credits(self) -> dict[str, int]:
        """What is owed to tenants, in nano-units by currency."""
        found: dict[str, int] = defaultdict(int)
        for victim in self.victims:
            found[victim.lease.currency] += victim.credit_nano
        return dict(found)

    @property
    def sentence(self) -> str:
        """What it takes, for a person who decides."""
        if not self.victims:
            return "no sold lease is broken"
        moved = moved_of(self.victims)
        many = len(self.victims) - moved
        elsewhere = f"{moved} sold leases" if moved > 1 else "1 sold lease"
        moves = f"{elsewhere} would move to another pool" if moved else ""
        if not many:
            return moves
        owed = ", ".join(f"{price_from_nano(nano)} {currency}" for currency, nano in sorted(self.credits.items()))
        whose = f"{many} sold leases" if many > 1 else "1 sold lease"
        count = sum(item.accelerators for item in self.victims) - moved_of(self.victims, count=True)
        broken = f"{whose} of {count} accelerators would be broken, for credits of {owed}"
        return f"{moves}; {broken}" if moves else broken

    def reclaim(self) -> ReclaimPlan:
        """The same as a plan of the ordinary reclaim path."""
        freed = sum(item.accelerators for item in self.victims)
        back_at = max((item.reclaim_at for item in self.victims), default=None)
        return ReclaimPlan(self.before.pool_id, freed, self.victims, 0, back_at)

    def as_dict(self, now: datetime) -> dict[str, Any]:
        return {
            "block": self.after.as_dict(now),
            "kind": self.kind.value,
            "breaks": [victim.as_dict() for victim in self.victims],
            "credits": [
                {"currency": currency, "amount": text_from_nano(nano)}
                for currency, nano in sorted(self.credits.items())
            ],
            "sentence": self.sentence,
        }


def broken_by(
    block: Block, leases: Sequence[Lease], now: datetime, clean_s: int, elsewhere: Elsewhere | None = None
) -> tuple[Victim, ...]:
    """Which of the `leases` sold from it don't fit the `block` as it is to become: all that reach beyond its window, and of the
    others so many that the rest fits its count, those whose end destroys the least value. A lease that may move goes on `elsewhere` if
    there is room."""
    open_now = [item for item in leases if item.reclaim_at is None and item.deadline > now]
    if block.withdrawn_at is not None:
        return _all(block, open_now, now, now, clean_s, elsewhere)
    beyond = [item for item in open_now if item.window.end > block.window.end or item.window.start < block.window.start]
    gone = _all(block, beyond, max(now, block.window.end), now, clean_s, elsewhere)
    left = [item for item in open_now if item not in beyond]
    found = list(gone)
    while True:
        spans = [(max(now, item.window.start), item) for item in left]
        sums = {at: sum(other.accelerators for other in left if _holds(other, at)) for at, _ in spans}
        at = max(sorted(sums), key=lambda moment: sums[moment], default=now)
        if sums.get(at, 0) <= block.accelerators:
            return tuple(found)
        there = [item for item in left if _holds(item, at)]
        plan = plan_reclaim(
            block.pool_id, sums[at] - block.accelerators, now, there, now, why=_why(block), clean_s=clean_s, force=True,
            elsewhere=elsewhere,
        )  # fmt: skip
        chosen = [victim for victim in plan.victims if isinstance(victim, Victim)]
        found += chosen
        left = [item for item in left if item.id not in {victim.id for victim in chosen}]


def kept_window(now: datetime, victims: Sequence[Victim]) -> Window:
    """From now until the last of the broken leases would have ended."""
    return Window(now, max(victim.lease.window.end for victim in victims))


def _all(
    block: Block, leases: Sequence[Lease], by: datetime, now: datetime, clean_s: int, elsewhere: Elsewhere | None
) -> tuple[Victim, ...]:
    many = sum(item.accelerators for item in leases)
    why = _why(block)
    plan = plan_reclaim(block.pool_id, many, by, leases, now, why=why, clean_s=clean_s, force=True, elsewhere=elsewhere)
    return tuple(victim for victim in plan.victims if isinstance(victim, Victim))


def _holds(lease: Lease, at: datetime) -> bool:
    return lease.window.start <= at < lease.deadline


def _why(block: Block) -> str:
    return f"the owner breaks what it sold from {block.id}"
