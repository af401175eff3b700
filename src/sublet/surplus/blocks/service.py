"""The books of blocks: what the owner has decided to sell, kept with every change, and what it would cost."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from sublet.demand.model import Claim
from sublet.demand.service import Demand
from sublet.store.paging import Page, PageRequest
from sublet.surplus.blocks import store as sql
from sublet.surplus.blocks.advice import DAYS_DEFAULT, advise, counts_of
from sublet.surplus.blocks.model import (
    BLOCK_DAYS_MAX,
    BLOCKS_PER_POOL_MAX,
    CHANGES_MAX,
    Block,
    BlockChange,
    ChangeKind,
)
from sublet.surplus.model import PoolFacts
from sublet.values.errors import InvalidInputError, LimitExceededError, NotFoundError
from sublet.values.windows import Window


class BlockBook:
    """Reads and writes blocks inside its caller's transactions: who decides about blocks decides about leases, too."""

    def __init__(self, demand: Demand) -> None:
        self._demand = demand

    def block(self, connection: Connection, block_id: str) -> Block:
        """Raises NotFoundError."""
        found = sql.block(connection, block_id)
        if found is None:
            raise NotFoundError(f"there is no block {block_id!r}; `sublet block ls` lists them")
        return found

    def standing(
        self, connection: Connection, pool_id: str | None, now: datetime, limit: int = BLOCKS_PER_POOL_MAX
    ) -> list[Block]:
        """Blocks that are neither withdrawn nor over, the oldest first, of one pool where it is given."""
        return sql.standing(connection, pool_id, now, limit)

    def page(
        self, connection: Connection, pool_id: str | None, now: datetime, wanted: PageRequest, *, standing_only: bool
    ) -> Page[Block]:
        """A page of blocks, the newest first."""
        return sql.page(connection, pool_id, now, wanted, standing_only=standing_only)

    def changes(self, connection: Connection, block_id: str) -> list[BlockChange]:
        """Everything that was changed about a block, the oldest first."""
        return sql.changes(connection, block_id, CHANGES_MAX)

    def write(
        self, connection: Connection, block: Block, kind: ChangeKind, at: datetime, actor: str, reason: str
    ) -> BlockChange:
        """Keep `block` as it stands from now on, and what was changed. Raises LimitExceededError for too many changes."""
        if kind is ChangeKind.CREATED:
            sql.insert_block(connection, block)
        else:
            sql.update_block(connection, block)
        change = sql.add_change(connection, block, kind, at, actor, reason)
        if change.number > CHANGES_MAX:
            raise LimitExceededError(
                f"block {block.id} was changed {CHANGES_MAX} times, the maximum; withdraw it and create a new one"
            )
        return change

    def kept_off(self, pool_id: str, since: datetime, connection: Connection, /) -> Sequence[tuple[Window, int]]:
        """What blocks really kept off the pool's owner, and when; nothing of blocks that were over at `since`."""
        return sql.kept_off_since(connection, pool_id, since)

    def claims(self, connection: Connection, pool_id: str, window: Window) -> list[Claim]:
        """What internal teams have claimed of the pool in `window`."""
        return self._demand.claims(pool_id, window, connection)

    def advise(
        self,
        connection: Connection,
        facts: PoolFacts,
        now: datetime,
        counts: Sequence[int] | None = None,
        days: Sequence[int] | None = None,
    ) -> dict[str, Any]:
        """What blocks of those sizes and lengths in days would have displaced of the owner's work, by the pool's history.

        Raises InvalidInputError for a size or length that no block can have.
        """
        standing = sum(
            item.accelerators
            for item in sql.standing(connection, facts.pool_id, now, BLOCKS_PER_POOL_MAX)
            if item.window.contains(now)
        )
        sizes = tuple(counts or counts_of(facts.capacity, standing))
        lengths = tuple(days or DAYS_DEFAULT)
        for name, values, most in (
            ("accelerators", sizes, facts.capacity),
            ("length_days", lengths, BLOCK_DAYS_MAX),
        ):
            for value in values:
                if not 1 <= value <= most:
                    raise InvalidInputError(f"{name} is {value}; it must be 1 to {most}", field=name)
        history = self._demand.history(facts.pool_id, now - self._demand.kept, now, connection)
        found = advise(history.slots(), facts.capacity, standing, sizes, lengths)
        return {"pool_id": facts.pool_id, "pool": facts.name, **found.as_dict()}
