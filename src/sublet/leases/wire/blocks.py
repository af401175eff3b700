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
    """What the owner puts up for sale, up to three years: `start` (now if left out) to `end`.

    With `to_organization` all of it is sold at once, at `price_per_accelerator_hour` (the price book's if left out), to those
    `ssh_public_keys`: block and lease are made together or not at all.
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
    """One change of a block: its size, its start or end, its minimum price, or its withdrawal. `force` breaks sold leases."""

    accelerators: BlockAccelerators | None = None
    start: Moment | None = None
    end: Moment | None = None
    min_price_per_accelerator_hour: Price | None = None
    withdraw: Flag = False
    reason: BlockReason = ""
    force: Flag = False


@answer
class Block:
    """A part of a pool that the owner sells by its own decision, whatever its demand does."""

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
    """A new block, and the lease of all of it where it was sold at once. `notes` say what its owner should know."""

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
    """How much of a block is sold over a span of it."""

    start: Moment
    end: Moment
    sold: int
    unsold: int


@answer
class BlockHistory:
    """What a block became, when, by whom and why."""

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
    """A block with its leases, how much of it is sold when, and its history, the oldest change first."""

    sold: int
    leases: list[BlockLease]
    schedule: list[BlockSpan]
    history: list[BlockHistory]


@answer
class BlockPage:
    """A page of blocks, the newest first, without their histories; `next` is `after` of the next page, null on the last."""

    blocks: list[BlockDetail]
    next: str | None


@answer
class CreditOwed:
    """What is owed to tenants in one currency. An exact decimal as text."""

    currency: str
    amount: str


@answer
class BlockChanged:
    """A block after a change, and the sold leases that the change breaks, with what is owed for them."""

    block: Block
    kind: str
    breaks: list[Victim]
    credits: list[CreditOwed]
    sentence: str


@answer
class BlockCost:
    """What a block of one size and length would have displaced of the owner's work, in accelerator-hours, at 50, 90 and 99 %
    of spans; null where history is too short to say. `basis`: observed, weeks, or unknown."""

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
    """What blocks would have cost a pool's owner, by its history."""

    pool_id: str
    pool: str
    capacity: int
    standing: int
    history_days: float
    weeks: int
    rows: list[BlockCost]
    notes: list[str]
