"""What leases ask the surplus."""

from __future__ import annotations

from sublet.leases.ports import BlockRooms, Offers, Sellable, SellableWithNotice
from sublet.surplus.service import Surplus


def with_notice(surplus: Surplus) -> SellableWithNotice:
    """How much may be sold with a notice of the tenant's own, within the caller's transaction."""
    return lambda connection, pool_id, name, window, notice_s: (
        surplus.sellable(pool_id, name, window, connection=connection, notice_s=notice_s).count
    )


def questions(surplus: Surplus) -> tuple[Sellable, Offers, BlockRooms]:
    """What leases ask the surplus, each within the caller's transaction."""
    return (
        lambda connection, pool_id, name, window: surplus.sellable(pool_id, name, window, connection=connection).count,
        lambda connection, pool_id, name, wanted, without: surplus.offer(pool_id, name, wanted, connection, without),
        lambda connection, pool_id, window: surplus.block_rooms(pool_id, window, connection),
    )
