"""Whole replicas and sales by marginal value: what earns most per accelerator comes first.

It repairs what rounding a program would lose on small pools, and decides alone where the program gave no result: half a percent
to one and a half behind it on the replayed pools, in milliseconds.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Mapping

from sublet.allocation.mix.model import Fit, Kind, Limit, Offer, OfferKey, Pair, PoolState, State
from sublet.allocation.mix.program import start_cost
from sublet.allocation.mix.served import served

PAYOFF_HOURS = 3.0
"""Hours over which a start is paid off where no horizon says for how long the replica runs."""
LEAST_GAIN = 0.02
"""A replica must earn this much more an hour than it costs, in the state's currency, to be worth the change."""
PORTIONS = 80
"""A large pool is dealt in about this many portions; a portion is never less than a replica."""


class Deal:
    """Capacity dealt out one step ahead. `given` are sales that are decided already; with None, windows are dealt too.

    `elsewhere` is the load that each model serves on pools that are not dealt here.
    """

    def __init__(
        self,
        state: State,
        pools: Iterable[PoolState],
        given: Mapping[OfferKey, int] | None = None,
        elsewhere: Mapping[str, float] | None = None,
    ) -> None:
        self.state = state
        self.pools = {item.name: item for item in pools}
        self.left = {name: float(math.floor(item.idle[0] + 1e-9)) for name, item in self.pools.items()}
        self.fits = sorted((item for item in state.fits if item.pool in self.pools), key=lambda item: item.pair)
        self.replicas: dict[Pair, int] = {item.pair: 0 for item in self.fits}
        self.sales: dict[OfferKey, int] = {}
        self.bids = dict.fromkeys(self.pools, 0.0)
        self._models = {item.name: item for item in state.models}
        self._supply = {name: (elsewhere or {}).get(name, 0.0) for name in self._models}
        self._windows = given is None
        self._elsewhere: dict[Limit, int] = {}
        self._starts = {fit.pair: start_cost(state, self.pools[fit.pool], fit) for fit in self.fits}
        for key, count in (given or {}).items():
            if key[0] in self.pools and count:
                self.sales[key] = count
                self.left[key[0]] -= count

    def run(self, counts_elsewhere: Mapping[Limit, int] | None = None, most: Mapping[Pair, int] | None = None) -> Deal:
        """Floors first, then everything by marginal value. `counts_elsewhere` are replicas under each limit on other pools;
        `most` is how many replicas of a pair are worth their start, where a horizon says so."""
        self.begin(counts_elsewhere)
        heap: list[tuple[float, int, int]] = []
        offers = [(pool, offer) for pool in self.pools.values() for offer in pool.offers if self._dealt(offer)]
        for number, fit in enumerate(self.fits):
            heap.append((-self._gain(fit), 0, number))
        for number, (pool, offer) in enumerate(offers):
            heap.append((-_net(pool, offer), 1, number))
        heapq.heapify(heap)
        while heap:
            worth, kind, number = heapq.heappop(heap)
            if kind:
                pool, offer = offers[number]
                if -worth > 0:
                    self._sell(pool, offer)
                continue
            fit = self.fits[number]
            gain = self._gain(fit)
            if gain < -worth - 1e-12:
                heapq.heappush(heap, (-gain, 0, number))
            elif gain > LEAST_GAIN and self._room(fit) > 0:
                self._add(fit, min(self._portion(fit), self._room(fit)))
                self.bids[fit.pool] = gain
                heapq.heappush(heap, (-self._gain(fit), 0, number))
        for name, left in self.left.items():
            if left >= 1:
                self.bids[name] = 0.0
        return self

    def begin(self, counts_elsewhere: Mapping[Limit, int] | None = None) -> Deal:
        """Fill the floors alone."""
        self._elsewhere = dict(counts_elsewhere or {})
        for limit in self.state.limits:
            self._fill_floor(limit)
        return self

    def earned(self, payoff_hours: float = PAYOFF_HOURS) -> float:
        """What an hour earns as dealt, starts spread over `payoff_hours`; what other pools serve is not counted again."""
        total = 0.0
        for key, count in self.sales.items():
            pool = self.pools[key[0]]
            offer = next(item for item in pool.offers if (item.class_name, item.hours) == key[1:])
            total += count * _net(pool, offer)
        own: dict[str, float] = {}
        for fit in self.fits:
            count = self.replicas[fit.pair]
            pool = self.pools[fit.pool]
            own[fit.model] = own.get(fit.model, 0.0) + count * fit.accelerators * (fit.speed or 0.0)
            started = max(0, count - fit.running) * fit.accelerators
            total -= (
                count * fit.accelerators * max(pool.energy, pool.cost) + started * self._starts[fit.pair] / payoff_hours
            )
        for name, supply in own.items():
            total += self._value(name, self._supply[name]) - self._value(name, self._supply[name] - supply)
        return total

    def place(self, fit: Fit, count: int) -> None:
        """Add up to `count` replicas of `fit`, as far as there is room and no cap forbids it."""
        self._add(fit, max(0, min(count, self._room(fit))))

    def sell_rest(self) -> None:
        """Give what is left of each pool to what may be evicted or paused, dearest first."""
        for pool in self.pools.values():
            for offer in sorted(pool.offers, key=lambda item: -_net(pool, item)):
                if offer.kind is not Kind.WINDOW and _net(pool, offer) > 0:
                    self._sell(pool, offer)

    def _dealt(self, offer: Offer) -> bool:
        return self._windows or offer.kind is not Kind.WINDOW

    def _portion(self, fit: Fit) -> int:
        idle = self.pools[fit.pool].idle[0]
        return max(1, math.floor(idle / PORTIONS / fit.accelerators))

    def _value(self, name: str, supply: float) -> float:
        model = self._models[name]
        return served(supply, model.load[0], model.spread[0]) * (model.value or 0.0)

    def _gain(self, fit: Fit) -> float:
        """What the next portion earns per accelerator and hour, net of energy, cost and its start."""
        pool = self.pools[fit.pool]
        count = max(1, min(self._portion(fit), self._room(fit)))
        accelerators = count * fit.accelerators
        supply = self._supply[fit.model]
        more = self._value(fit.model, supply + accelerators * (fit.speed or 0.0)) - self._value(fit.model, supply)
        new = min(count, max(0, self.replicas[fit.pair] + count - fit.running)) / count
        return more / accelerators - max(pool.energy, pool.cost) - new * self._starts[fit.pair] / PAYOFF_HOURS

    def _room(self, fit: Fit) -> int:
        room = max(0, math.floor((self.left[fit.pool] + 1e-9) / fit.accelerators))
        for limit in self.state.limits:
            if limit.cap is not None and limit.covers(fit):
                room = min(room, limit.cap - self._under(limit))
        return max(0, room)

    def _under(self, limit: Limit) -> int:
        here = sum(self.replicas[fit.pair] for fit in self.fits if limit.covers(fit))
        return here + self._elsewhere.get(limit, 0)

    def _fill_floor(self, limit: Limit) -> None:
        """Where replicas run already first, then where there is most room."""
        covered = [fit for fit in self.fits if limit.covers(fit)]
        for fit in sorted(covered, key=lambda item: (-item.running, -self.left[item.pool], item.pool)):
            missing = limit.floor - self._under(limit)
            if fit.running:
                missing = min(missing, fit.running)
            self.place(fit, missing)
        for fit in sorted(covered, key=lambda item: (-self.left[item.pool], item.pool)):
            self.place(fit, limit.floor - self._under(limit))

    def _add(self, fit: Fit, count: int) -> None:
        self.replicas[fit.pair] += count
        self.left[fit.pool] -= count * fit.accelerators
        self._supply[fit.model] += count * fit.accelerators * (fit.speed or 0.0)

    def _sell(self, pool: PoolState, offer: Offer) -> None:
        key = (pool.name, offer.class_name, offer.hours)
        width = self.state.steps[0]
        wanted = offer.demand[0] + (offer.held if offer.kind is not Kind.WINDOW else 0.0)
        count = wanted / width if offer.kind is Kind.BACKLOG else wanted
        count = min(count - self.sales.get(key, 0), self.left[pool.name])
        for ceiling in pool.ceilings:
            if key[1:] in ceiling.offers:
                held = sum(self.sales.get((pool.name, *each), 0) for each in ceiling.offers)
                count = min(count, ceiling.counts[0] - held)
        whole = math.floor(count + 1e-6)
        if whole > 0:
            self.sales[key] = self.sales.get(key, 0) + whole
            self.left[pool.name] -= whole
            self.bids[pool.name] = _net(pool, offer)


def _net(pool: PoolState, offer: Offer) -> float:
    return (offer.price or 0.0) - offer.loss - pool.energy
