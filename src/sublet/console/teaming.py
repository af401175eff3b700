"""Where an internal team claims capacity: who makes way, and what it costs, is shown first; then it is claimed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from sublet.console.figures import per_cent
from sublet.console.moments import moment_of
from sublet.console.page import Act, Drawn, Go, Screen, Visit
from sublet.demand.model import Claim, Sample
from sublet.demand.service import Demand
from sublet.leases.blocks.service import Blocks, BlockView
from sublet.leases.reclaim.orders import ReclaimOrder
from sublet.leases.reclaim.victims import ReclaimPlan, Victim
from sublet.leases.service import Leases
from sublet.store.paging import PageRequest
from sublet.values.errors import InvalidInputError
from sublet.values.money import Money
from sublet.values.windows import Window

CLAIMS = "/claims"
SHOWN_MAX = 100
WAITS_SHOWN_MAX = 30
ACCELERATORS_MAX = 1_000_000
HOURS_MAX = 90 * 24
PATIENCE_MINUTES_MAX = 24 * 60


@dataclass(frozen=True, slots=True)
class ClaimRequest:
    """What a team asks for. `replaces` is the claim that it changes."""

    pool: str
    accelerators: int
    window: Window
    reason: str
    patience_s: int
    replaces: str = ""


@dataclass(frozen=True, slots=True)
class Making:
    """A lease or a replica of a model that makes way for a claim: until when, and what that costs the owner."""

    kind: str
    accelerators: int
    back_at: datetime
    moves: bool
    credit: Money
    cost: Money


@dataclass(frozen=True, slots=True)
class ClaimPlan:
    """What a claim would mean if it began with the leases of now."""

    request: ClaimRequest
    plan: ReclaimPlan
    making: tuple[Making, ...]
    cost: tuple[Money, ...]


@dataclass(frozen=True, slots=True)
class OwnUse:
    """What the owner uses of a pool; None where nobody knows."""

    name: str
    generation: str
    accelerators: int
    sample: Sample | None


@dataclass(frozen=True, slots=True)
class BlockUse:
    """A block, how much of it is rented now, and the part of all its hours that is rented."""

    view: BlockView
    pool: str

    @property
    def sold_share(self) -> str:
        """As a percentage."""
        block = self.view.block
        whole = block.accelerators * block.window.seconds
        sold = sum(min(count, block.accelerators) * window.seconds for window, count in self.view.schedule)
        return per_cent(int(sold), int(whole))


Pools = Callable[[], Mapping[str, tuple[str, str, int]]]
"""The name, the generation and the accelerators of each pool that is in use, by id."""


class Teaming:
    """The screen of internal teams."""

    def __init__(self, demand: Demand, leases: Leases, blocks: Blocks, pools: Pools) -> None:
        self._demand = demand
        self._leases = leases
        self._blocks = blocks
        self._pools = pools

    def screens(self) -> tuple[Screen, ...]:
        """`/claims`, for internal teams and the operator."""
        write = "claims:write"
        acts = {
            "plan": Act(write, lambda visit: self._drawn(visit, self._plan(visit))),
            "claim": Act(write, self._claim, once=Claim),
            "release": Act(write, self._release),
        }
        return (Screen(CLAIMS, "Claims", "claims:read", lambda visit: self._drawn(visit, None), acts, everywhere=True),)

    def _drawn(self, visit: Visit, planned: ClaimPlan | None) -> Drawn:
        pools = self._pools()
        names = {pool_id: name for pool_id, (name, _, _) in pools.items()}
        claims = [item for item in self._demand.claims() if self._is_mine(visit, item)][:SHOWN_MAX]
        found = self._leases.owner_waits(None, PageRequest(SHOWN_MAX)).items
        waits = [item for item in found if visit.actor.is_operator or item.team == visit.actor.organization_id]
        uses = [
            OwnUse(name, generation, count, self._demand.latest(pool_id))
            for pool_id, (name, generation, count) in sorted(pools.items(), key=lambda item: item[1])
        ]
        blocks = self._blocks.page(None, PageRequest(SHOWN_MAX), standing_only=True).items
        return Drawn(
            "claims.html",
            {
                "planned": planned,
                "claims": claims,
                "changing": next((item for item in claims if item.id == visit.query.get("change")), None),
                "names": names,
                "pools": sorted((name, generation, count) for name, generation, count in pools.values()),
                "uses": uses,
                "blocks": [BlockUse(item, names.get(item.block.pool_id, item.block.pool_id)) for item in blocks],
                "waits": waits[:WAITS_SHOWN_MAX],
                "fields": visit.form.fields,
                "may_write": bool(visit.actor.may("claims:write")),
                "at": visit.at,
            },
        )

    def _is_mine(self, visit: Visit, claim: Claim) -> bool:
        return visit.actor.is_operator or claim.team == visit.actor.organization_id

    def _plan(self, visit: Visit) -> ClaimPlan:
        asked = self._request(visit)
        plan = self._leases.preview_reclaim(
            ReclaimOrder(asked.pool, asked.accelerators, asked.window, asked.reason or "a claim")
        )
        costs: dict[str, int] = {}
        making = []
        for item in plan.victims:
            currency = item.lease.currency if isinstance(item, Victim) else item.occupant.currency
            costs[currency] = costs.get(currency, 0) + item.cost.destroyed_nano
            making.append(
                Making(
                    item.lease.class_name if isinstance(item, Victim) else item.occupant.model,
                    item.accelerators,
                    item.reclaim_at,
                    isinstance(item, Victim) and item.move is not None,
                    Money(item.credit_nano if isinstance(item, Victim) else 0, currency),
                    Money(item.cost.destroyed_nano, currency),
                )
            )
        cost = tuple(Money(nano, currency) for currency, nano in sorted(costs.items()))
        return ClaimPlan(asked, plan, tuple(making), cost)

    def _claim(self, visit: Visit) -> Go:
        asked = self._request(visit)
        if asked.replaces:
            if not self._is_mine(visit, self._demand.claim(asked.replaces)):
                raise InvalidInputError("this claim belongs to another team; only that team changes it here")
            self._demand.change_claim(asked.replaces, asked.accelerators, asked.window, asked.reason, asked.patience_s)
            return Go(CLAIMS)
        pool_id = next((found for found, (name, _, _) in self._pools().items() if name == asked.pool), asked.pool)
        self._demand.add_claim(
            *(pool_id, asked.accelerators, asked.window, asked.reason),
            patience_s=asked.patience_s,
            team=visit.actor.organization_id,
        )
        return Go(CLAIMS)

    def _release(self, visit: Visit) -> Go:
        claim = self._demand.claim(visit.form.text("claim")[:40])
        if not self._is_mine(visit, claim):
            raise InvalidInputError("this claim belongs to another team; only that team releases it here")
        self._demand.withdraw_claim(claim.id)
        return Go(CLAIMS)

    def _request(self, visit: Visit) -> ClaimRequest:
        """Raises InvalidInputError."""
        form = visit.form
        count = form.number("accelerators", "accelerators")
        if not 0 < count <= ACCELERATORS_MAX:
            raise InvalidInputError(f"accelerators must be a whole number from 1 to {ACCELERATORS_MAX}")
        hours, patience = form.number("hours", "hours"), form.text("patience").strip()
        if not 0 < hours <= HOURS_MAX:
            raise InvalidInputError(f"hours must be a whole number from 1 to {HOURS_MAX}")
        minutes = form.number("patience", "minutes of patience") if patience else 0
        if minutes > PATIENCE_MINUTES_MAX:
            raise InvalidInputError(f"patience must be at most {PATIENCE_MINUTES_MAX} minutes")
        if form.text("pool") not in {name for name, _, _ in self._pools().values()}:
            raise InvalidInputError("choose one of the pools of the list")
        start = form.text("start").strip()
        # A field of minutes that names the present one means now.
        begin = max(moment_of(start), visit.at) if start else visit.at
        return ClaimRequest(
            form.text("pool"),
            count,
            Window(begin, begin + timedelta(hours=hours)),
            form.text("reason").strip(),
            60 * minutes,
            form.text("replaces")[:40],
        )
