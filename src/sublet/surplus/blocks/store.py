"""The SQL of blocks and of everything that was changed about them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, func, insert, select, update

from sublet.store.paging import Listing, Page, PageRequest
from sublet.store.tables.surplus import block_changes, blocks
from sublet.surplus.blocks.model import Block, BlockChange, ChangeKind, kept_off
from sublet.values.windows import Window

BLOCKS = Listing("blocks", (blocks.c.created_at, blocks.c.id), descending=True)


def insert_block(connection: Connection, block: Block) -> None:
    connection.execute(
        insert(blocks).values(
            id=block.id,
            pool_id=block.pool_id,
            accelerators=block.accelerators,
            start_at=block.window.start,
            end_at=block.window.end,
            min_price_nano=block.min_price_nano,
            currency=block.currency,
            reason=block.reason,
            created_at=block.created_at,
            withdrawn_at=block.withdrawn_at,
        )
    )


def update_block(connection: Connection, block: Block) -> None:
    """The block as it stands from now on."""
    connection.execute(
        update(blocks)
        .where(blocks.c.id == block.id)
        .values(
            accelerators=block.accelerators,
            start_at=block.window.start,
            end_at=block.window.end,
            min_price_nano=block.min_price_nano,
            withdrawn_at=block.withdrawn_at,
        )
    )


def add_change(
    connection: Connection, block: Block, kind: ChangeKind, at: datetime, actor: str, reason: str
) -> BlockChange:
    """Append what `block` has become to its history."""
    last = select(func.coalesce(func.max(block_changes.c.number), 0)).where(block_changes.c.block_id == block.id)
    number = int(connection.execute(last).scalar_one()) + 1
    change = BlockChange(
        block.id, number, kind, at, actor[:80], reason, block.accelerators, block.window, block.min_price_nano
    )
    connection.execute(
        insert(block_changes).values(
            block_id=block.id,
            number=number,
            kind=kind.value,
            at=at,
            actor=change.actor,
            reason=reason,
            accelerators=block.accelerators,
            start_at=block.window.start,
            end_at=block.window.end,
            min_price_nano=block.min_price_nano,
        )
    )
    return change


def block(connection: Connection, block_id: str) -> Block | None:
    row = connection.execute(select(blocks).where(blocks.c.id == block_id)).first()
    return None if row is None else _block(row)


def standing(
    connection: Connection, pool_id: str | None, now: datetime, limit: int, within: Window | None = None
) -> list[Block]:
    """Blocks that are neither withdrawn nor over, the oldest first; `within` a window alone, where that is given."""
    query = select(blocks).where(blocks.c.withdrawn_at.is_(None), blocks.c.end_at > now)
    if pool_id is not None:
        query = query.where(blocks.c.pool_id == pool_id)
    if within is not None:
        query = query.where(blocks.c.start_at < within.end, blocks.c.end_at > within.start)
    query = query.order_by(blocks.c.created_at, blocks.c.id).limit(limit)
    return [_block(row) for row in connection.execute(query)]


def page(
    connection: Connection, pool_id: str | None, now: datetime, wanted: PageRequest, *, standing_only: bool
) -> Page[Block]:
    """A page of blocks, the newest first, of one pool where it is given."""
    query = select(blocks)
    if pool_id is not None:
        query = query.where(blocks.c.pool_id == pool_id)
    if standing_only:
        query = query.where(blocks.c.withdrawn_at.is_(None), blocks.c.end_at > now)
    return BLOCKS.read(connection, query, wanted).map(_block)


def changes(connection: Connection, block_id: str, limit: int) -> list[BlockChange]:
    """What was changed about a block, the oldest first, the newest `limit` of them."""
    query = select(block_changes).where(block_changes.c.block_id == block_id)
    found = connection.execute(query.order_by(block_changes.c.number.desc()).limit(limit))
    return [_change(row) for row in reversed(list(found))]


def changes_of_pool(connection: Connection, pool_id: str, since: datetime) -> list[BlockChange]:
    """The history of the pool's blocks that were not over at `since`, block by block, the oldest change first."""
    mine = select(blocks.c.id).where(blocks.c.pool_id == pool_id)
    ended = select(block_changes.c.block_id).where(block_changes.c.end_at > since)
    query = (
        select(block_changes)
        .where(block_changes.c.block_id.in_(mine), block_changes.c.block_id.in_(ended))
        .order_by(block_changes.c.block_id, block_changes.c.number)
    )
    return [_change(row) for row in connection.execute(query)]


def kept_off_since(connection: Connection, pool_id: str, since: datetime) -> list[tuple[Window, int]]:
    """What blocks of the pool really kept off its owner, and when; nothing of blocks that were over at `since`."""
    return kept_off(changes_of_pool(connection, pool_id, since))


def _block(row: Row[Any]) -> Block:
    return Block(
        row.id,
        row.pool_id,
        row.accelerators,
        Window(row.start_at, row.end_at),
        row.min_price_nano,
        row.currency,
        row.reason,
        row.created_at,
        row.withdrawn_at,
    )


def _change(row: Row[Any]) -> BlockChange:
    return BlockChange(
        row.block_id,
        row.number,
        ChangeKind(row.kind),
        row.at,
        row.actor,
        row.reason,
        row.accelerators,
        Window(row.start_at, row.end_at),
        row.min_price_nano,
    )
