"""Who may start now: each key's limits, each replica's slots, and a fair queue per model, bounded for each key."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Protocol

from sublet.gateway.model import GatewaySettings, KeyGrant, ModelRoute, ReplicaRoute, Snapshot
from sublet.gateway.refusals import EngineBusyError, NoReplicaError, QueueFullError, RateLimitError
from sublet.gateway.requests import fair
from sublet.gateway.requests.affinity import FULLER_MAX, favorite_of
from sublet.gateway.requests.fair import Tiers
from sublet.gateway.requests.form import BATCH
from sublet.gateway.requests.reserved import Reservations, held_back, within
from sublet.gateway.upstream.engine_health import ReplicaHealth
from sublet.values.errors import SubletError

SUSPECT_S = 2.0
SERVICE_S_START = 2.0
RETRIES_MAX = 10.0
RETRIES_PER_ANSWER = 0.2
SPARE_PART = 4
"""Requests of batches leave such a part of a model's slots free, rounded down: with fewer than so many slots, none."""


class KeyState:
    """What a key has under way, and its bucket of requests, which refills evenly over a minute."""

    __slots__ = ("at", "in_flight", "level")

    def __init__(self, level: float, at: float) -> None:
        self.level = level
        self.at = at
        self.in_flight = 0


class ReplicaState:
    """A replica as this gateway sees it: requests under way, about how many tokens these have, when its turn is among equals (in
    virtual time), and how well it answers."""

    __slots__ = ("finish", "health", "in_flight", "route", "tokens")

    def __init__(self, route: ReplicaRoute) -> None:
        self.route = route
        self.in_flight = self.tokens = 0
        self.finish = 0.0
        self.health = ReplicaHealth()


class Waiting(fair.Tiered, Protocol):
    """A request in a queue."""

    def slot_free(self, replica: ReplicaState) -> None:
        """It is its turn; the slot is taken for it already."""
        ...

    def refused(self, error: SubletError) -> None:
        """There is nothing to wait for any more."""
        ...


class ModelQueue:
    """Requests that wait for a slot of one model, and how long an answer takes lately."""

    __slots__ = ("retries", "service_s", "waiting")

    def __init__(self) -> None:
        self.waiting: Tiers[Waiting] = Tiers()
        self.service_s = SERVICE_S_START
        self.retries = RETRIES_MAX

    def note_service(self, seconds: float) -> None:
        self.service_s += (seconds - self.service_s) * 0.1
        self.retries = min(RETRIES_MAX, self.retries + RETRIES_PER_ANSWER)


class Admission:
    """The live counters beside the immutable snapshot. For the event loop's thread alone."""

    def __init__(self, settings: GatewaySettings) -> None:
        self._settings = settings
        self._rate = settings.requests_per_minute_max / 60
        self._burst = float(settings.requests_per_minute_max)
        self._keys: dict[str, KeyState] = {}
        self._replicas: dict[str, ReplicaState] = {}
        self._queues: dict[str, ModelQueue] = {}
        self._clock = 0.0
        self._reservations = Reservations(settings.reserved)

    # Keys

    def admit(self, key_id: str, now: float, *, rate: bool = True, concurrency: bool = True) -> KeyState:
        """Count a request in, or raise RateLimitError. What is refused uses nothing up. Without `rate` or `concurrency`, that limit
        of the settings does not hold."""
        state = self._keys.get(key_id)
        if state is None:
            state = self._keys[key_id] = KeyState(self._burst, now)
        if concurrency and state.in_flight >= self._settings.concurrency_max:
            raise RateLimitError(
                f"this key has {state.in_flight} requests in flight, the maximum; try again when one has finished",
                retry_after_s=1,
            )
        level = min(self._burst, state.level + max(0.0, now - state.at) * self._rate)
        state.at = now
        state.level = level
        if not rate:
            state.in_flight += 1
            return state
        if level < 1:
            wait_s = (1 - level) / self._rate
            error = RateLimitError(
                f"this key may start {self._settings.requests_per_minute_max} requests a minute; try again in "
                f"{wait_s:.1f} s",
                retry_after_s=wait_s,
            )
            error.standing = self.allowance(state)
            raise error
        state.level = level - 1
        state.in_flight += 1
        return state

    def allowance(self, state: KeyState) -> tuple[int, int, int]:
        """Requests a minute, those left, and seconds until all are back."""
        return int(self._burst), int(state.level), int((self._burst - state.level) / self._rate)

    def leave(self, state: KeyState) -> None:
        """The request has ended, however it did."""
        state.in_flight -= 1

    def refund(self, state: KeyState) -> None:
        """The request was refused after all: it does not count against the rate."""
        state.in_flight -= 1
        state.level = min(self._burst, state.level + 1)

    # Replicas

    def pick(
        self, model: ModelRoute, now: float, besides: tuple[str, ...] = (), prefix: int = 0
    ) -> ReplicaState | None:
        """The least loaded replica with a free slot, of those that are asked first, taken; None where there is something to wait
        for: a slot, a replica that is starting, or those `besides`, which just failed this very request but are still wanted.
        Prompts of the same `prefix` (see affinity.py) go to the same replica while its load allows.

        One that cools down is only picked where there is nobody else, and one elsewhere that is shut not at all; an engine of
        our own is restarted by its host, so that waiting for it is right. Raises NoReplicaError where no replica is wanted
        at all, EngineDownError or EngineBusyError where all of them are shut.
        """
        best: ReplicaState | None = None
        at = model.replicas[0] if model.replicas else None
        worth_waiting_for = 1 << 30
        for route in model.replicas:
            if route.priority > worth_waiting_for:
                break
            if route.id in besides:
                continue
            state = self._replicas.get(route.id)
            if state is None:
                state = self._replicas[route.id] = ReplicaState(route)
                state.finish = self._clock
            if state.health.shut and not model.timings and not state.health.admits(now):
                continue
            if state.in_flight >= route.slots:
                if not model.spill and not state.health.cools(now):
                    worth_waiting_for = route.priority
            elif best is None or at is None or _better((state, route), (best, at), now):
                best, at = state, route
                if not best.health.cools(now):
                    worth_waiting_for = route.priority
        count = len(model.replicas)
        if best is not None:
            assert at is not None
            if prefix:
                best, at = self._favorite(model, (best, at), prefix, now)
            best.in_flight += 1
            self._clock = max(self._clock, best.finish)
            best.finish = max(best.finish, self._clock - 1) + 1 / (at.weight * at.slots)
            best.health.probing = best.health.shut
        elif not count and not model.slots_coming:
            raise NoReplicaError(
                f"no replica of {model.name} is running or starting now; try again in {SUSPECT_S:.0f} s",
                retry_after_s=SUSPECT_S,
            )
        elif count and not model.timings and not model.slots_coming:
            self._refuse_if_all_are_shut(model, now)
        return best

    def _favorite(
        self, model: ModelRoute, best: tuple[ReplicaState, ReplicaRoute], prefix: int, now: float
    ) -> tuple[ReplicaState, ReplicaRoute]:
        """The favorite of a prompt's beginning among those that are asked as early as the least loaded one, or that one where the
        favorite is much fuller, is full, or cools down."""
        state, at = best
        routes = {route.id: route for route in model.replicas if route.priority == at.priority}
        sizes = {name: route.weight * route.slots for name, route in routes.items()}
        route = routes[favorite_of(prefix, sizes)]
        found = self._replicas.get(route.id)
        if found is None or found.in_flight >= route.slots or found.health.shut or found.health.cools(now):
            return best
        fuller = found.in_flight / route.slots - state.in_flight / at.slots
        return (found, route) if fuller <= FULLER_MAX else best

    def _refuse_if_all_are_shut(self, model: ModelRoute, now: float) -> None:
        healths = [self._replicas[route.id].health for route in model.replicas if route.id in self._replicas]
        if len(healths) == len(model.replicas) and all(health.shut and health.cools(now) for health in healths):
            first = min(healths, key=lambda health: health.until)
            raise first.refusal(model.name, first.until - now)

    def idle_for_batch(self, model: ModelRoute) -> bool:
        """Whether a request of a batch may take a slot: so many stay free that who comes next need not wait for it to end."""
        return not model.replicas or self._free(model) > model.slots // SPARE_PART

    def _free(self, model: ModelRoute) -> int:
        return sum(
            route.slots - (state.in_flight if (state := self._replicas.get(route.id)) is not None else 0)
            for route in model.replicas
        )

    def may_retry(self, model: ModelRoute) -> bool:
        """Take one retry from the model's allowance: a fifth of what succeeds, so that a model that fails gets no more load."""
        queue = self.queue(model)
        if queue.retries < 1:
            return False
        queue.retries -= 1
        return True

    def queue(self, model: ModelRoute) -> ModelQueue:
        found = self._queues.get(model.name)
        if found is None:
            found = self._queues[model.name] = ModelQueue()
        return found

    def enqueue(self, model: ModelRoute, request: Waiting) -> None:
        """Wait for a slot. Raises QueueFullError, with the time after which there should be room.

        The bound is each key's own: one for all would let anyone who fills it shut out everybody else.
        """
        waiting = self.queue(model).waiting
        own = waiting.of(request.tier).seat(request.grant).waiting
        if own >= self._settings.of_model(model.name).queue_per_key_max:
            wait_s = self.wait_s(model, request.grant, request.tier)
            raise QueueFullError(
                f"{own} requests of this key are already waiting for {model.name}; try again in {wait_s:.0f} s",
                retry_after_s=wait_s,
            )
        waiting.append(request)

    def wait_s(self, model: ModelRoute, grant: KeyGrant, tier: str = "") -> float:
        """Seconds until a request of this key that came now would get a slot, as long as answers take lately."""
        queue = self.queue(model)
        own = queue.waiting.of(tier)
        ahead = own.seat(grant).organization.waiting + (queue.waiting.ahead(tier) - len(own) if tier else 0)
        slots = max(1, model.slots) * own.share(grant)
        return max(1.0, (ahead + 1) * queue.service_s / slots)

    def serve_queue(self, model: ModelRoute, now: float) -> None:
        """Give free slots to those who wait, each organization and key its share."""
        waiting = self.queue(model).waiting
        while waiting:
            turn = self._turn(model, waiting)
            if turn is None:
                return
            try:
                replica = self.pick(model, now)
            except (NoReplicaError, EngineBusyError) as error:
                if not model.replicas:
                    return
                # Everybody would wait for an engine that does not answer.
                waiting.popleft().refused(error)
                continue
            if replica is None:
                return
            turn().slot_free(replica)

    def _turn(self, model: ModelRoute, waiting: Tiers[Waiting]) -> Callable[[], Waiting] | None:
        """Takes from the queue whose turn it is: those within their reservation first; None where no free slot is for who waits."""
        reserved = self._reservations.of(model)
        if not reserved:
            return None if waiting.only_batch and not self.idle_for_batch(model) else waiting.popleft
        usual = waiting.usual
        for name, slots in reserved.items():
            if usual.waiting_of(name) and usual.running_of(name) < slots:
                return partial(usual.pop_of, name)
        spare = model.slots // SPARE_PART if waiting.only_batch else 0
        return waiting.popleft if self._free(model) > held_back(reserved, waiting) + spare else None

    def may_start(self, model: ModelRoute, grant: KeyGrant, tier: str) -> bool:
        """Whether a request that comes now may take a free slot, if there is one, before those who wait."""
        waiting = self.queue(model).waiting
        reserved = self._reservations.of(model)
        if not reserved:
            return not waiting.ahead(tier) and (tier != BATCH or self.idle_for_batch(model))
        if not tier and within(reserved, waiting, grant):
            return not waiting.usual.waiting_of(grant.organization_id)
        if waiting.ahead(tier):
            return False
        if not model.replicas:
            # There is nothing to hold back, and maybe nothing to wait for.
            return True
        spare = model.slots // SPARE_PART if tier == BATCH else 0
        return self._free(model) > held_back(reserved, waiting, "" if tier else grant.organization_id) + spare

    def is_reserved(self, model: ModelRoute, grant: KeyGrant, tier: str) -> bool:
        """Whether a request that starts now uses a slot that is reserved for its organization."""
        return not tier and within(self._reservations.of(model), self.queue(model).waiting, grant)

    def adopt(self, snapshot: Snapshot) -> None:
        """Drop the state of keys, replicas and models that are gone and idle, so that nothing grows for ever."""
        self._reservations.adopt(snapshot.keys.values())
        keys = {grant.id for grant in snapshot.keys.values()}
        for key_id in [key for key, state in self._keys.items() if key not in keys and not state.in_flight]:
            del self._keys[key_id]
        routes = {route.id: route for model in snapshot.models.values() for route in model.replicas}
        for replica_id, state in list(self._replicas.items()):
            if replica_id in routes:
                state.route = routes[replica_id]
            elif not state.in_flight:
                del self._replicas[replica_id]
        for name, queue in list(self._queues.items()):
            queue.waiting.forget_idle()
            if name not in snapshot.models and queue.waiting.idle:
                del self._queues[name]

    def in_flight(self) -> int:
        return sum(state.in_flight for state in self._replicas.values())

    def waiting(self, model: str) -> int:
        queue = self._queues.get(model)
        return len(queue.waiting) if queue else 0


def _better(one: tuple[ReplicaState, ReplicaRoute], other: tuple[ReplicaState, ReplicaRoute], now: float) -> bool:
    """Those that do not cool down first; then the smaller priority; then the fewer tokens under way, and then the smaller share of
    slots taken, for their weight; of equals, the one whose turn it is."""
    (state, route), (best, at) = one, other
    cools, other_cools = state.health.cools(now), best.health.cools(now)
    if cools != other_cools:
        return other_cools
    if route.priority != at.priority:
        return route.priority < at.priority
    size, other_size = route.slots * route.weight, at.slots * at.weight
    if state.tokens * other_size != best.tokens * size:
        return state.tokens * other_size < best.tokens * size
    if state.in_flight * other_size != best.in_flight * size:
        return state.in_flight * other_size < best.in_flight * size
    return state.finish < best.finish
