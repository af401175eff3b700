"""What is contracted and not yet delivered, by month: the leases that are not over, at the prices they were sold for."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sublet.leases import store as leases_sql
from sublet.leases.model import Lease
from sublet.values.money import text_from_nano
from sublet.values.windows import Window
from sublet.wiring.system import Sublet


@dataclass(frozen=True, slots=True)
class BacklogMonth:
    """What is still to be delivered in one calendar month (UTC) and currency; `block_nano` is what of it was sold from blocks."""

    month: str
    currency: str
    accelerator_s: int
    nano: int
    block_nano: int
    leases: int

    def as_dict(self) -> dict[str, Any]:
        return {
            "month": self.month,
            "currency": self.currency,
            "accelerator_hours": round(self.accelerator_s / 3600, 2),
            "amount": text_from_nano(self.nano),
            "from_blocks": text_from_nano(self.block_nano),
            "leases": self.leases,
        }


def contracted(system: Sublet) -> list[BacklogMonth]:
    """The backlog of every organization now."""
    with system.store.read() as connection:
        return backlog(leases_sql.live_leases(connection), system.clock.now())


def backlog(leases: Iterable[Lease], now: datetime) -> list[BacklogMonth]:
    """By month and currency, the earliest first. What was metered is delivered; what is under notice ends at its deadline.

    Hours with a deadline count where they would run at the latest."""
    sums: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    for lease in leases:
        begin, end = max(now, lease.window.start), lease.deadline
        if lease.service_s is not None:
            # When it runs is the plan's affair; that it is done by its deadline is promised.
            begin, end = lease.window.end - timedelta(seconds=lease.left_s), lease.window.end
        if lease.state.terminal or end <= begin:
            continue
        for month, span in _by_month(Window(begin, end)):
            held, seconds = sums[month, lease.currency], int(span.seconds)
            nano = round(lease.worth(span.start, span.end))
            held[0] += lease.accelerators * seconds
            held[1] += nano
            held[2] += nano if lease.block_id is not None else 0
            held[3] += 1
    return [BacklogMonth(month, currency, *held) for (month, currency), held in sorted(sums.items())]


def _by_month(window: Window) -> Iterator[tuple[str, Window]]:
    start = window.start
    while start < window.end:
        following = datetime(start.year + start.month // 12, start.month % 12 + 1, 1, tzinfo=UTC)
        end = min(following, window.end)
        yield f"{start:%Y-%m}", Window(start, end)
        start = end
