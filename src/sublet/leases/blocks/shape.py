"""What a block may be: checks of a new or changed one against the pool, its other blocks, claims and firm leases. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

from sublet.leases.model import ACCELERATORS_PER_LEASE_MAX, Lease
from sublet.surplus.blocks.model import BLOCK_DAYS_MAX, Block, longest
from sublet.surplus.model import PoolFacts
from sublet.values.clock import format_time
from sublet.values.errors import ConflictError, InvalidInputError
from sublet.values.windows import Window

ACCELERATORS_PER_BLOCK_MAX = 256 * ACCELERATORS_PER_LEASE_MAX
PAST_S_MAX = 60
"""A block that begins "now" is not past because the request took a moment."""

NAMED_MAX = 5
"""Conflicts that a sentence names; all of them are in the details, up to a hundred."""

DETAILS_MAX = 100


class BlockConflictError(ConflictError):
    """The block does not fit beside what is promised or claimed of the pool already; the message names what is in the way."""

    code = "block_conflict"


@dataclass(frozen=True, slots=True)
class Taken:
    """`count` accelerators over `window` that something named `what` has already; `kind` is block, claim or firm lease."""

    kind: str
    what: str
    count: int
    window: Window

    @property
    def sentence(self) -> str:
        return f"{self.what}: {self.count} from {format_time(self.window.start)} to {format_time(self.window.end)}"

    def as_dict(self) -> dict[str, object]:
        return {
            "kind": self.kind,
            "id": self.what.split()[-1],
            "accelerators": self.count,
            "start": format_time(self.window.start),
            "end": format_time(self.window.end),
        }


def checked_window(start: datetime, end: datetime, now: datetime, begun: datetime | None = None) -> Window:
    """The window of a block, if one may have it; `begun` is when it began, for a block that did. Raises InvalidInputError."""
    if end <= start:
        raise InvalidInputError(
            f"a block must end after it starts; {format_time(start)} to {format_time(end)} does not", field="end"
        )
    if begun is None and start < now - timedelta(seconds=PAST_S_MAX):
        raise InvalidInputError(
            f"the block starts at {format_time(start)}, which is in the past; the time is {format_time(now)}",
            field="start",
        )
    if end <= now:
        raise InvalidInputError(
            f"the block ends at {format_time(end)}, which is in the past; the time is {format_time(now)}", field="end"
        )
    if end - start > longest() or end > now + longest():
        raise InvalidInputError(
            f"a block ends within {BLOCK_DAYS_MAX} days (three years) of its start and of now; "
            f"{format_time(start)} to {format_time(end)} does not",
            field="end",
        )
    return Window(start, end)


def checked_count(accelerators: int) -> int:
    """Raises InvalidInputError."""
    if not 1 <= accelerators <= ACCELERATORS_PER_BLOCK_MAX:
        raise InvalidInputError(f"accelerators is {accelerators}; a block needs at least 1", field="accelerators")
    return accelerators


def refuse_conflicts(
    facts: PoolFacts,
    count: int,
    window: Window,
    blocks: Iterable[Block],
    claims: Iterable[Taken],
    leases: Iterable[Lease],
) -> None:
    """Refuse a block of `count` over `window` where at some moment it is more than the pool has beside other `blocks`, standing
    `claims`, and firm `leases` that were sold by the forecast. Raises InvalidInputError or BlockConflictError.
    """
    most = facts.capacity - facts.never_sell - facts.failure_reserve
    if count > most:
        kept = facts.never_sell + facts.failure_reserve
        beside = f", of which {kept} are kept by the settings or for model replicas" if kept else ""
        raise InvalidInputError(
            f"{count} exceeds the capacity of {facts.name}: {facts.capacity} accelerators are in service{beside}; "
            f"choose at most {max(0, most)}",
            field="accelerators",
        )
    taken = [Taken("block", f"block {item.id}", item.accelerators, item.window) for item in blocks]
    taken += claims
    taken += [
        Taken("firm lease", f"firm lease {item.id}", item.accelerators, Window(item.window.start, item.deadline))
        for item in leases
        if item.notice_s is None and item.block_id is None and item.deadline > item.window.start
    ]
    inside = [item for item in taken if item.window.overlaps(window)]
    moments = {window.start, *(item.window.start for item in inside if window.contains(item.window.start))}
    at = max(sorted(moments), key=lambda moment: _sum(inside, moment))
    left = most - _sum(inside, at)
    if count > left:
        worst = sorted((item for item in inside if item.window.contains(at)), key=lambda item: -item.count)
        more = f" and {len(worst) - NAMED_MAX} more" if len(worst) > NAMED_MAX else ""
        raise BlockConflictError(
            f"{count} of {facts.name} is more than the {max(0, left)} available at {format_time(at)} in addition to "
            f"{'; '.join(item.sentence for item in worst[:NAMED_MAX])}{more}: choose fewer, another window, or withdraw "
            "the conflicting items",
            conflicts=[item.as_dict() for item in worst[:DETAILS_MAX]],
        )


def schedule(block: Block, sold: Sequence[tuple[Window, int]]) -> list[tuple[Window, int]]:
    """How many accelerators of the block are sold, span by span, over all of its window."""
    edges = {block.window.start, block.window.end}
    for window, _ in sold:
        edges |= {edge for edge in (window.start, window.end) if block.window.contains(edge)}
    ordered = sorted(edges)
    found: list[tuple[Window, int]] = []
    for start, end in pairwise(ordered):
        count = sum(many for window, many in sold if window.contains(start))
        if found and found[-1][1] == count:
            found[-1] = (Window(found[-1][0].start, end), count)
        else:
            found.append((Window(start, end), count))
    return found


def _sum(items: Sequence[Taken], moment: datetime) -> int:
    return sum(item.count for item in items if item.window.contains(moment))
