"""Blocks as they cross the API."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Interval, MaxLen, MinLen

from sublet.leases.reclaim.wire import Victim
from sublet.leases.wire.contracts import ACCELERATORS_PER_LEASE_MAX, AUTHORIZED_KEYS_MAX, Lease
from sublet.values.moments import Moment
from sublet.values.wire import LINE, LINES, Flag, Price, Whole, answer, body

BlockAccelerators = Annotated[Whole, Interval(ge=1, le=ACCELERATORS_PER_LEASE_MAX * 256)]
BlockReason = Annotated[str, MaxLen(500), LINES]


@body
class NewBlock:
    """A part of a pool to put up for sale, from `start` (now by default) to `end`, for at most three years.

    With `to_organization`, the whole block is sold at once, at `price_per_accelerator_hour` (by default, the price in the price
    book). The `ssh_public_keys` may log in. If the lease can't be made, neither is the block.
    """

    pool: Annotated[str, MinLen(1), MaxLen(60), LINE]
    accelerators: BlockAccelerators
    start: Moment | None = None
    end: Moment
    min_price_per_accelerator_hour: Price | None = None
    reason: BlockReason = ""
    to_organization: Annotated[str, MaxLen(200), LINE] | None = None
    price_per_accelerator_hour: Price | None = None
    ssh_public_keys: Annotated[list[Annotated[str, MaxLen(16_384), LINES]], MaxLen(AUTHORIZED_KEYS_MAX)] | None = None


@body
class NewBlockChange:
    """A change of a block: its size, start, end or minimum price, or its withdrawal. With `force`, leases that were sold from
    it can be broken."""

    accelerators: BlockAccelerators | None = None
    start: Moment | None = None
    end: Moment | None = None
    min_price_per_accelerator_hour: Price | None = None
    withdraw: Flag = False
    reason: BlockReason = ""
    force: Flag = False


@answer
class Block:
    """A part of a pool that the owner sells by its own decision, independent of the demand forecast."""

    id: str
    pool_id: str
    state: str
    accelerators: int
    start: Moment
    end: Moment
    min_price_per_accelerator_hour: str | None
    currency: str
    reason: str
    created_at: Moment
    withdrawn_at: Moment | None


@answer
class BlockMade(Block):
    """A new block and, if it was sold at once, its lease. `notes` are warnings for the owner."""

    lease: Lease | None
    notes: list[str]


@answer
class BlockLease:
    """A lease that was sold from a block and is not over."""

    id: str
    organization_id: str
    state: str
    accelerators: int
    start: Moment
    end: Moment


@answer
class BlockSpan:
    """How many accelerators of a block are sold and unsold from `start` to `end`."""

    start: Moment
    end: Moment
    sold: int
    unsold: int


@answer
class BlockHistory:
    """The state of a block after a change: when, by whom, and why."""

    number: int
    kind: str
    at: Moment
    actor: str
    reason: str
    accelerators: int
    start: Moment
    end: Moment
    min_price_per_accelerator_hour: str | None


@answer
class BlockDetail(Block):
    """A block with its leases, its schedule of sold accelerators, and its history, oldest change first."""

    sold: int
    leases: list[BlockLease]
    schedule: list[BlockSpan]
    history: list[BlockHistory]


@answer
class BlockPage:
    """A page of blocks without their histories, newest first. `next` is the `after` of the next page, null on the last one."""

    blocks: list[BlockDetail]
    next: str | None


@answer
class CreditOwed:
    """The credits owed to tenants in one currency, as an exact decimal."""

    currency: str
    amount: str


@answer
class BlockChanged:
    """A block after a change, the leases that the change breaks, and the credits owed for them."""

    block: Block
    kind: str
    breaks: list[Victim]
    credits: list[CreditOwed]
    sentence: str


@answer
class BlockCost:
    """The owner's work that a block of this size and length would have displaced, in accelerator-hours, at the 50th, 90th and
    99th percentile of past windows. Null if the history is too short. `basis` is `observed`, `weeks` or `unknown`."""

    accelerators: int
    days: int
    block_h: int
    displaced_h_50: float | None
    displaced_h_90: float | None
    displaced_h_99: float | None
    share_90: float | None
    basis: str
    sentence: str


@answer
class BlockAdvice:
    """What blocks would have cost the owner of a pool, based on the pool's history."""

    pool_id: str
    pool: str
    capacity: int
    standing: int
    history_days: float
    weeks: int
    rows: list[BlockCost]
    notes: list[str]
