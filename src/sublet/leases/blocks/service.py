"""Make blocks, change them, and break what was sold from them where the owner insists."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from sublet.leases import events
from sublet.leases import store as sql
from sublet.leases.blocks.breaking import BlockPlan, broken_by, kept_window
from sublet.leases.blocks.shape import Taken, checked_count, checked_window, refuse_conflicts, schedule
from sublet.leases.lifecycle.transitions import Transitions
from sublet.leases.model import Lease, WrongStateError
from sublet.leases.plan.elsewhere import Elsewhere
from sublet.leases.ports import LeasePorts
from sublet.leases.quotes.admission import Admission, BlockSale
from sublet.leases.reclaim.orders import ReclaimOrder, Reclaims
from sublet.store import Store
from sublet.store.paging import Page, PageRequest
from sublet.surplus.blocks.model import BLOCKS_PER_POOL_MAX, Block, BlockChange, ChangeKind
from sublet.surplus.blocks.service import BlockBook
from sublet.surplus.model import PoolFacts
from sublet.values.clock import format_time
from sublet.values.errors import ConflictError, InvalidInputError, LimitExceededError
from sublet.values.etags import ANY_STATE, Condition
from sublet.values.ids import new_id
from sublet.values.text import checked_line
from sublet.values.windows import Window

REASON_MAX = 500
PRICE_NANO_MAX = 10**15
"""A million per accelerator-hour: more is a slip."""

Facts = Callable[[str, Connection], PoolFacts]
"""(pool's id or name, connection) to what the surplus counts with of it. Raises NotFoundError."""


class BlockSoldError(ConflictError):
    """Leases that were sold from the block are in the way; to break them at the stated penalty, repeat with force."""

    code = "block_sold"


@dataclass(frozen=True, slots=True)
class NewBlockRequest:
    """What the owner puts up for sale: `accelerators` of `pool` (id or name) from `start` (now if None) to `end`."""

    pool: str
    accelerators: int
    end: datetime
    start: datetime | None = None
    min_price_nano: int | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class BlockChangeRequest:
    """One change of a block: its size, its start or end, its minimum price, or its withdrawal. `force` breaks sold leases."""

    accelerators: int | None = None
    start: datetime | None = None
    end: datetime | None = None
    min_price_nano: int | None = None
    withdraw: bool = False
    reason: str = ""
    force: bool = False

    def kind_for(self, block: Block) -> ChangeKind:
        """What the change is. Raises InvalidInputError where it is none or several at once."""
        kinds = [
            *([ChangeKind.WITHDRAWN] if self.withdraw else []),
            *([ChangeKind.MOVED] if self.start is not None or self.end is not None else []),
            *([ChangeKind.REPRICED] if self.min_price_nano is not None else []),
        ]
        if self.accelerators is not None:
            kinds.append(ChangeKind.SHRUNK if self.accelerators < block.accelerators else ChangeKind.WIDENED)
        if len(kinds) != 1:
            raise InvalidInputError(
                "change one thing at a time: accelerators, start and end, min_price_per_accelerator_hour, or withdraw"
            )
        return kinds[0]


@dataclass(frozen=True, slots=True)
class BlockMade:
    """A block, and the lease of all of it where it was sold at once. `notes` say what the owner should know."""

    block: Block
    now: datetime
    lease: Lease | None = None
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        return {
            **self.block.as_dict(self.now),
            "lease": self.lease.as_dict() if self.lease else None,
            "notes": list(self.notes),
        }


@dataclass(frozen=True, slots=True)
class BlockChanged:
    """A block after a change, and what the change broke."""

    plan: BlockPlan
    now: datetime

    def as_dict(self) -> dict[str, Any]:
        return self.plan.as_dict(self.now)


@dataclass(frozen=True, slots=True)
class BlockView:
    """A block with its history, the leases sold from it that are not over, and how much of it is sold when."""

    block: Block
    now: datetime
    changes: tuple[BlockChange, ...]
    leases: tuple[Lease, ...]

    @property
    def sold_now(self) -> int:
        return sum(item.accelerators for item in self.leases if item.window.start <= self.now < item.deadline)

    @property
    def schedule(self) -> list[tuple[Window, int]]:
        """How many accelerators are sold, span by span."""
        return schedule(self.block, _spans(self.leases))

    def as_dict(self) -> dict[str, Any]:
        return {
            **self.block.as_dict(self.now),
            "sold": self.sold_now,
            "leases": [
                {
                    "id": item.id,
                    "organization_id": item.organization_id,
                    "state": item.state.value,
                    "accelerators": item.accelerators,
                    "start": format_time(item.window.start),
                    "end": format_time(item.deadline),
                }
                for item in self.leases
            ],
            "schedule": [
                {
                    "start": format_time(window.start),
                    "end": format_time(window.end),
                    "sold": count,
                    "unsold": max(0, self.block.accelerators - count),
                }
                for window, count in self.schedule
            ],
            "history": [item.as_dict() for item in self.changes],
        }


class Blocks:
    """The use cases of blocks. Everything that decides is read inside the write transaction, under the pool's lock."""

    def __init__(self, store: Store, book: BlockBook, facts: Facts, ports: LeasePorts) -> None:
        self._store = store
        self._book = book
        self._facts = facts
        self._admission = Admission(store, ports)
        self._reclaims = Reclaims(store, ports, Transitions(store, ports))
        self._ports = ports

    def now(self) -> datetime:
        return self._store.clock.now()

    def create(self, request: NewBlockRequest, actor: str, sale: BlockSale | None = None) -> BlockMade:
        """Put a part of a pool up for sale; with `sale`, sell all of it at once: both are made or neither.

        Raises NotFoundError, InvalidInputError, BlockConflictError, LimitExceededError, and what a sale raises.
        """
        count = checked_count(request.accelerators)
        reason = checked_line(request.reason, "reason", REASON_MAX)
        least_nano = _checked_price(request.min_price_nano)

        def write(connection: Connection) -> BlockMade:
            now = self._store.clock.now()
            window = checked_window(request.start or now, request.end, now)
            facts = self._facts(request.pool, connection)
            self._store.lock(connection, f"pool:{facts.pool_id}")
            currency = self._refuse_offline(connection, facts, window)
            self._refuse_conflicts(connection, facts, count, window)
            block = Block(new_id("blk"), facts.pool_id, count, window, least_nano, currency, reason, now)
            self._note_change(connection, block, ChangeKind.CREATED, actor, reason, 0)
            lease = self._admission.sell_block(connection, block, sale, now) if sale is not None else None
            return BlockMade(block, now, lease)

        return self._store.write(write)

    def check(self, request: NewBlockRequest) -> Window:
        """When the block would run, if it could be created now. Changes nothing; raises as `create`."""
        checked_count(request.accelerators)
        checked_line(request.reason, "reason", REASON_MAX)
        _checked_price(request.min_price_nano)
        now = self._store.clock.now()
        window = checked_window(request.start or now, request.end, now)
        with self._store.read() as connection:
            facts = self._facts(request.pool, connection)
            self._refuse_offline(connection, facts, window)
            self._refuse_conflicts(connection, facts, request.accelerators, window)
        return window

    def preview(self, block_id: str, request: BlockChangeRequest) -> BlockChanged:
        """What the change would make of the block, and whose leases it would break. Changes nothing; raises as `change`."""
        now = self._store.clock.now()
        with self._store.read() as connection:
            found, elsewhere = self._book.block(connection, block_id), self._reclaims.elsewhere(connection, now)
            return BlockChanged(self._plan(connection, found, request, now, elsewhere), now)

    def change(
        self, block_id: str, request: BlockChangeRequest, actor: str, seen: Condition = ANY_STATE
    ) -> BlockChanged:
        """Change the block. What it breaks gets notice and its credit by the ordinary reclaim path, in the same transaction.

        Raises NotFoundError, InvalidInputError, BlockConflictError, WrongStateError for a block that is over, and
        BlockSoldError, with the plan, where sold leases are in the way and `force` is not set. To withdraw a withdrawn block
        is harmless. `seen` is what the caller has read of the block; raises PreconditionFailedError.
        """
        reason = checked_line(request.reason, "reason", REASON_MAX)

        def write(connection: Connection) -> BlockChanged:
            now = self._store.clock.now()
            found = self._book.block(connection, block_id)
            within = self._reclaims.lock(connection, found.pool_id)
            present = self._book.block(connection, block_id)
            seen.require(asdict(present))
            plan = self._plan(connection, present, request, now, self._reclaims.elsewhere(connection, now, within))
            if plan.after == plan.before:
                return BlockChanged(plan, now)
            if plan.victims and not request.force:
                raise BlockSoldError(
                    f"{plan.sentence}; only unsold capacity can be removed from a block. To evict the leases, repeat the request with "
                    "force",
                    plan=plan.as_dict(now),
                )
            if plan.victims:
                why = f"{plan.after.id} was {plan.kind.value}{f': {reason}' if reason else ''}"
                freed = plan.reclaim().freed
                order = ReclaimOrder(found.pool_id, freed, kept_window(now, plan.victims), why[:REASON_MAX], True)
                self._reclaims.carry_out(connection, plan.reclaim(), order, actor, 0)
            self._note_change(connection, plan.after, plan.kind, actor, reason, len(plan.victims))
            return BlockChanged(plan, now)

        return self._store.write(write)

    def block(self, block_id: str) -> BlockView:
        """Raises NotFoundError."""
        with self._store.read() as connection:
            return self._view(connection, self._book.block(connection, block_id))

    def page(
        self, pool: str | None = None, wanted: PageRequest = PageRequest(), *, standing_only: bool = False
    ) -> Page[BlockView]:
        """A page of blocks without their histories, the newest first, of one pool where it is named."""
        now = self._store.clock.now()
        with self._store.read() as connection:
            pool_id = self._facts(pool, connection).pool_id if pool is not None else None
            found = self._book.page(connection, pool_id, now, wanted, standing_only=standing_only)
            return found.map(lambda item: self._view(connection, item, history=False))

    def advise(
        self, pool: str, counts: Sequence[int] | None = None, days: Sequence[int] | None = None
    ) -> dict[str, Any]:
        """What blocks of those sizes and lengths in days would have displaced of the owner's work, by the pool's history.

        Raises NotFoundError, and InvalidInputError for a size or length that no block can have.
        """
        with self._store.read() as connection:
            return self._book.advise(connection, self._facts(pool, connection), self._store.clock.now(), counts, days)

    def _plan(
        self,
        connection: Connection,
        block: Block,
        request: BlockChangeRequest,
        now: datetime,
        elsewhere: Elsewhere,
    ) -> BlockPlan:
        kind = request.kind_for(block)
        if kind is ChangeKind.WITHDRAWN and block.withdrawn_at is not None:
            return BlockPlan(block, block, kind, ())
        if not block.stands(now):
            raise WrongStateError(f"block {block.id} is {block.state(now).value}; create a new one")
        after = self._changed(block, request, kind, now)
        if kind is ChangeKind.WIDENED or not _within(after.window, block.window):
            facts = self._facts(block.pool_id, connection)
            self._refuse_conflicts(connection, facts, after.accelerators, after.window, without=block.id)
        clean_s = self._ports.timing_of(connection, block.pool_id).clean_s
        victims = broken_by(after, sql.live_leases(connection, block_id=block.id), now, clean_s, elsewhere)
        return BlockPlan(block, after, kind, victims)

    def _changed(self, block: Block, request: BlockChangeRequest, kind: ChangeKind, now: datetime) -> Block:
        if kind is ChangeKind.WITHDRAWN:
            return replace(block, withdrawn_at=now)
        if kind is ChangeKind.REPRICED:
            return replace(block, min_price_nano=_checked_price(request.min_price_nano))
        if kind is ChangeKind.MOVED:
            begun = block.window.start if block.window.start <= now else None
            start = request.start or block.window.start
            if begun is not None and start != begun:
                raise WrongStateError(
                    f"block {block.id} began at {format_time(begun)}; only its end can still be changed"
                )
            return replace(block, window=checked_window(start, request.end or block.window.end, now, begun))
        return replace(block, accelerators=checked_count(request.accelerators or 0))

    def _refuse_offline(self, connection: Connection, facts: PoolFacts, window: Window) -> str:
        """The pool's currency, if it is there until the end."""
        pool = sql.pool_named(connection, facts.pool_id)
        if pool is None or (pool.offline_at is not None and pool.offline_at < window.end):
            raise InvalidInputError(f"pool {facts.name} goes offline before {format_time(window.end)}; end earlier")
        return str(pool.currency)

    def _refuse_conflicts(
        self, connection: Connection, facts: PoolFacts, count: int, window: Window, without: str = ""
    ) -> None:
        now = self._store.clock.now()
        standing = self._book.standing(connection, facts.pool_id, now)
        if len(standing) >= BLOCKS_PER_POOL_MAX and not without:
            raise LimitExceededError(f"{facts.name} has {BLOCKS_PER_POOL_MAX} blocks, the maximum; withdraw some first")
        others = [item for item in standing if item.id != without]
        claims = [
            Taken("claim", f"claim {item.id}", item.count, item.window)
            for item in self._book.claims(connection, facts.pool_id, window)
        ]
        refuse_conflicts(facts, count, window, others, claims, sql.live_leases(connection, facts.pool_id))

    def _note_change(
        self, connection: Connection, block: Block, kind: ChangeKind, actor: str, reason: str, broken: int
    ) -> None:
        now = self._store.clock.now()
        change = self._book.write(connection, block, kind, now, actor, reason)
        fact = events.BlockChanged(
            block.id,
            block.pool_id,
            kind.value,
            block.accelerators,
            block.window.start,
            block.window.end,
            broken,
            actor,
            reason,
        )
        events.BLOCK_CHANGED.record(connection, fact, now, key=(block.id, str(change.number)))

    def _view(self, connection: Connection, block: Block, *, history: bool = True) -> BlockView:
        changes = self._book.changes(connection, block.id) if history else []
        leases = sql.live_leases(connection, block_id=block.id)
        return BlockView(block, self._store.clock.now(), tuple(changes), tuple(leases))


def _spans(leases: Sequence[Lease]) -> list[tuple[Window, int]]:
    return [
        (Window(item.window.start, item.deadline), item.accelerators)
        for item in leases
        if item.window.start < item.deadline
    ]


def _within(inner: Window, outer: Window) -> bool:
    return outer.start <= inner.start and inner.end <= outer.end


def _checked_price(nano: int | None) -> int | None:
    if nano is not None and not 0 <= nano <= PRICE_NANO_MAX:
        raise InvalidInputError(
            "min_price_per_accelerator_hour must be 0 to 1,000,000 per accelerator-hour",
            field="min_price_per_accelerator_hour",
        )
    return nano
