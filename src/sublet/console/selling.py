"""Where the owner orders blocks: what one would cost and commit to is shown first, then it is put up for sale."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from sublet.console.booked import Booked, BookedChart, draw_booked
from sublet.console.moments import moment_of
from sublet.console.page import Act, Drawn, Go, Screen, Visit
from sublet.leases.blocks.service import BlockMade, Blocks, NewBlockRequest
from sublet.leases.model import value_nano
from sublet.store.paging import PageRequest
from sublet.values.errors import InvalidInputError
from sublet.values.money import Money, nano_from_decimal
from sublet.values.wire import AMOUNT

BLOCKS = "/blocks"
SHOWN_MAX = 100
ACCELERATORS_MAX = 1_000_000
DAY_S = 86_400
DAYS = (30, 90, 365, 1_096)
"""How far ahead the calendar may look."""


@dataclass(frozen=True, slots=True)
class PoolForSale:
    """A pool of which a part may be put up for sale. `price` is that of an uninterrupted accelerator-hour, `credit_ratio` the part of
    the undelivered rest that is credited if such a lease is broken."""

    id: str
    name: str
    accelerators: int
    price: Money
    credit_ratio: Decimal


@dataclass(frozen=True, slots=True)
class BlockOrder:
    """What creating a block would mean: the accelerator-hours that it keeps for tenants, what the owner's own work would have
    waited for by its history, what it earns if all of it is rented at `price`, and what breaking all of that at once would cost
    when it begins."""

    request: NewBlockRequest
    start: datetime
    end: datetime
    hours: float
    advice: Mapping[str, Any]
    notes: tuple[str, ...]
    price: Money
    income: Money
    penalty: Money


class Selling:
    """The screen of blocks, with the calendar of a pool."""

    def __init__(self, blocks: Blocks, pools: Callable[[], Sequence[PoolForSale]], booked: Booked) -> None:
        self._blocks = blocks
        self._pools = pools
        self._booked = booked

    def screens(self) -> tuple[Screen, ...]:
        """`/blocks`, for the operator."""
        write = "blocks:write"
        acts = {"plan": Act(write, self._plan), "create": Act(write, self._create, once=BlockMade)}
        return (Screen(BLOCKS, "Blocks", write, lambda visit: self._drawn(visit, None), acts, everywhere=True),)

    def _drawn(self, visit: Visit, order: BlockOrder | None) -> Drawn:
        page = self._blocks.page(None, PageRequest(SHOWN_MAX, visit.query.get("after")), standing_only=True)
        pools = self._pools()
        names = {pool.id: pool.name for pool in pools}
        days = next((days for days in DAYS if str(days) == visit.query.get("days")), DAYS[0])
        return Drawn(
            "sell_blocks.html",
            {
                "page": page,
                "pools": pools,
                "names": names,
                "order": order,
                "fields": visit.form.fields,
                "at": visit.at,
                "chart": self._chart(visit, pools, days),
                "days": days,
                "choices": DAYS,
            },
        )

    def _chart(self, visit: Visit, pools: Sequence[PoolForSale], days: int) -> BookedChart | None:
        """The calendar of the pool that the address or the form names, or of the first one; None where there is no pool."""
        wanted = visit.query.get("pool") or visit.form.fields.get("pool")
        pool = next((item for item in pools if wanted in (item.id, item.name)), next(iter(pools), None))
        return None if pool is None else draw_booked(self._booked(pool.id, visit.at + timedelta(days=days)))

    def _plan(self, visit: Visit) -> Drawn:
        request = self._request(visit)
        pool = next((item for item in self._pools() if item.name == request.pool), None)
        if pool is None:
            raise InvalidInputError(f"there is no pool {request.pool!r}; choose one of the list")
        window = self._blocks.check(request)
        advice = self._blocks.advise(pool.name, [request.accelerators], [max(1, round(window.seconds / DAY_S))])
        price = pool.price
        if request.min_price_nano is not None and request.min_price_nano > price.nano:
            price = Money(request.min_price_nano, price.currency)
        income = value_nano(price.nano, request.accelerators, int(window.seconds))
        order = BlockOrder(
            request,
            window.start,
            window.end,
            request.accelerators * window.seconds / 3600,
            advice["rows"][0],
            tuple(advice["notes"]),
            price,
            Money(income, price.currency),
            Money(round(income * pool.credit_ratio), price.currency),
        )
        return self._drawn(visit, order)

    def _create(self, visit: Visit) -> Go:
        self._blocks.create(self._request(visit), f"operator {visit.actor.id}")
        return Go(BLOCKS)

    def _request(self, visit: Visit) -> NewBlockRequest:
        """Raises InvalidInputError."""
        form = visit.form
        count = form.number("accelerators", "accelerators")
        if not 0 < count <= ACCELERATORS_MAX:
            raise InvalidInputError(f"accelerators must be a whole number from 1 to {ACCELERATORS_MAX}")
        start, least = form.text("start").strip(), form.text("min_price").strip()
        if least and not AMOUNT.fullmatch(least):
            raise InvalidInputError(f"the minimum price {least[:40]!r} is not an amount; write such as 1.50")
        least_nano = nano_from_decimal(least) if least else None
        return NewBlockRequest(
            form.text("pool")[:80],
            count,
            moment_of(form.text("end")),
            moment_of(start) if start else None,
            least_nano,
            form.text("reason").strip(),
        )
