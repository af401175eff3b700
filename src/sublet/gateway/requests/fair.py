"""Whose turn it is: requests that wait for one model, fairly by organization and then by key.

The next free slot goes to the organization that has the fewest of the model's slots for its weight; among equals, to the one
whose last turn is longest ago in virtual time (start-time fair queueing: Goyal, Vin, Cheng, 1996), and within it the same way
to one of its keys. Slots that are held count, not requests that were started, so long answers use up their share as
short ones do. An organization that comes back from idle starts at the present: it has neither saved up nor anything to pay
for. Where nobody waits, a request costs two additions when it starts and two when it ends.
"""

from __future__ import annotations

import heapq
from collections import deque
from itertools import count
from typing import Generic, Protocol, TypeVar

from sublet.gateway.model import KeyGrant
from sublet.gateway.requests.form import BATCH

_STALE_MAX = 64
"""So many outdated entries of a heap stay where they are, beside one for each flow."""


class Waiting(Protocol):
    """A request that may wait."""

    grant: KeyGrant
    seat: Seat | None
    """Its key's place in the queue of its model; None before it has one."""


W = TypeVar("W", bound=Waiting)


class Flow:
    """An organization, or a key of one: what it has under way and waiting, and when its turn is."""

    __slots__ = ("finish", "running", "stamp", "waiting", "weight")

    def __init__(self, weight: float) -> None:
        self.weight = weight
        self.finish = 0.0
        self.running = self.waiting = self.stamp = 0


class Level:
    """Flows that share slots, ordered by whose turn it is."""

    __slots__ = ("_heap", "_stamps", "clock", "flows")

    def __init__(self) -> None:
        self.clock = 0.0
        self.flows = 0
        self._heap: list[tuple[float, float, int, Flow]] = []
        self._stamps = count(1)

    def enter(self, flow: Flow) -> None:
        """A request of `flow` waits; if it is the first one, from the present of the clock on."""
        flow.waiting += 1
        if flow.waiting == 1:
            flow.finish = max(flow.finish, self.clock)
            self.order(flow)

    def order(self, flow: Flow) -> None:
        """Put a flow that waits where it belongs by now. What was pushed for it before is outdated and gets skipped."""
        flow.stamp = next(self._stamps)
        heapq.heappush(self._heap, (flow.running / flow.weight, flow.finish, flow.stamp, flow))
        if len(self._heap) > 2 * self.flows + _STALE_MAX:
            self._heap = [entry for entry in self._heap if _valid(entry)]
            heapq.heapify(self._heap)

    def first(self) -> Flow:
        while not _valid(self._heap[0]):
            heapq.heappop(self._heap)
        return self._heap[0][3]

    def charge(self, flow: Flow) -> None:
        """A request of `flow` had its turn."""
        flow.waiting -= 1
        self.clock = max(self.clock, flow.finish)
        flow.finish += 1 / flow.weight
        if flow.waiting:
            self.order(flow)


def _valid(entry: tuple[float, float, int, Flow]) -> bool:
    return entry[3].waiting > 0 and entry[3].stamp == entry[2]


class Organization(Flow):
    """An organization's flow, and those of its keys."""

    __slots__ = ("level", "seats")

    def __init__(self, weight: float) -> None:
        super().__init__(weight)
        self.level = Level()
        self.seats: dict[str, Seat] = {}


class Seat(Flow):
    """A key's flow, and its requests that wait, in the order in which they came."""

    __slots__ = ("items", "organization")

    def __init__(self, organization: Organization, weight: float) -> None:
        super().__init__(weight)
        self.organization = organization
        self.items: deque[Waiting] = deque()


class FairQueue(Generic[W]):
    """The requests that wait for one model, and what each organization and key has under way there."""

    def __init__(self) -> None:
        self._level = Level()
        self._organizations: dict[str, Organization] = {}
        self._seats: dict[str, Seat] = {}
        self._returned: deque[W] = deque()
        self._length = 0

    def __len__(self) -> int:
        return self._length

    @property
    def idle(self) -> bool:
        """Whether nobody has anything under way or waiting."""
        return not self._length and not any(one.running for one in self._organizations.values())

    def seat(self, grant: KeyGrant) -> Seat:
        """The flow of a key, with the weights that it has now."""
        organization = self._organizations.get(grant.organization_id)
        if organization is None:
            organization = self._organizations[grant.organization_id] = Organization(grant.weight)
            self._level.flows += 1
        seat = organization.seats.get(grant.id)
        if seat is None:
            seat = organization.seats[grant.id] = self._seats[grant.id] = Seat(organization, grant.key_weight)
            organization.level.flows += 1
        organization.weight = grant.weight
        seat.weight = grant.key_weight
        return seat

    def share(self, grant: KeyGrant) -> float:
        """The share of the model's slots that the organization of `grant` gets while all who are active now stay so."""
        own = self.seat(grant).organization
        others = (one.weight for one in self._organizations.values() if one is not own and (one.running or one.waiting))
        return own.weight / (own.weight + sum(others))

    # Slots

    def started(self, request: W) -> None:
        """A slot is given to `request`."""
        # Every request comes this way, also where nobody waits: no call that can be done without.
        seat = request.seat = self._seats.get(request.grant.id) or self.seat(request.grant)
        organization = seat.organization
        seat.running += 1
        organization.running += 1
        if organization.waiting:
            self._reorder(seat)

    def ended(self, request: W) -> None:
        """The slot of `request` is free again."""
        seat = request.seat
        assert seat is not None
        organization = seat.organization
        seat.running -= 1
        organization.running -= 1
        if organization.waiting:
            self._reorder(seat)

    def _reorder(self, seat: Seat) -> None:
        if seat.waiting:
            seat.organization.level.order(seat)
        self._level.order(seat.organization)

    # Waiting

    def append(self, request: W) -> None:
        """Wait behind the others of the same key."""
        seat = request.seat = self.seat(request.grant)
        seat.items.append(request)
        seat.organization.level.enter(seat)
        self._level.enter(seat.organization)
        self._length += 1

    def running_of(self, organization_id: str) -> int:
        """How many slots an organization has."""
        found = self._organizations.get(organization_id)
        return found.running if found is not None else 0

    def waiting_of(self, organization_id: str) -> int:
        """How many requests of an organization wait."""
        found = self._organizations.get(organization_id)
        return found.waiting if found is not None else 0

    def pop_of(self, organization_id: str) -> W:
        """The request of an organization whose turn it is among its own; there must be one."""
        organization = self._organizations[organization_id]
        self._length -= 1
        return self._taken(organization)

    def _taken(self, organization: Organization) -> W:
        seat = organization.level.first()
        assert isinstance(seat, Seat)
        request: W = seat.items.popleft()  # type: ignore[assignment]
        organization.level.charge(seat)
        self._level.charge(organization)
        return request

    def appendleft(self, request: W) -> None:
        """Wait before all others: its turn came, and the replica that it got failed."""
        self._returned.appendleft(request)
        self._length += 1

    def popleft(self) -> W:
        """The request whose turn it is. Raises IndexError where nobody waits."""
        if not self._length:
            raise IndexError("nobody waits")
        self._length -= 1
        if self._returned:
            return self._returned.popleft()
        organization = self._level.first()
        assert isinstance(organization, Organization)
        return self._taken(organization)

    def discard(self, request: W) -> None:
        """It no longer waits, if it did."""
        if request in self._returned:
            self._returned.remove(request)
            self._length -= 1
        elif request.seat is not None and request in request.seat.items:
            request.seat.items.remove(request)
            request.seat.waiting -= 1
            request.seat.organization.waiting -= 1
            self._length -= 1

    def forget_idle(self) -> None:
        """Drop those who have nothing under way or waiting and owe nothing, so that nothing grows for ever."""
        busy = not self.idle
        for name, organization in list(self._organizations.items()):
            if organization.running or organization.waiting or (busy and organization.finish > self._level.clock):
                continue
            del self._organizations[name]
            for key_id in organization.seats:
                del self._seats[key_id]
            self._level.flows -= 1


class Tiered(Waiting, Protocol):
    """A request that may wait, of some tier."""

    @property
    def tier(self) -> str:
        """FLEX, BATCH or, for the usual one, empty."""
        ...


T = TypeVar("T", bound=Tiered)


class Tiers(Generic[T]):
    """The queues of a model's tiers: each tier waits while anybody of those before it waits, fairly among themselves."""

    def __init__(self) -> None:
        self.usual: FairQueue[T] = FairQueue()
        self.flex: FairQueue[T] = FairQueue()
        self.batch: FairQueue[T] = FairQueue()

    def __len__(self) -> int:
        return len(self.usual) + len(self.flex) + len(self.batch)

    def of(self, tier: str) -> FairQueue[T]:
        """A tier's own queue."""
        return self.usual if not tier else self.batch if tier == BATCH else self.flex

    def ahead(self, tier: str) -> int:
        """How many wait ahead of a request of this tier that comes now."""
        if not tier:
            return len(self.usual)
        return len(self) if tier == BATCH else len(self.usual) + len(self.flex)

    @property
    def only_batch(self) -> bool:
        """Whether all that wait are of the tier batch."""
        return bool(self.batch) and not self.usual and not self.flex

    @property
    def idle(self) -> bool:
        """Whether nobody has anything under way or waiting."""
        return self.usual.idle and self.flex.idle and self.batch.idle

    def started(self, request: T) -> None:
        """A slot is given to `request`."""
        (self.of(request.tier) if request.tier else self.usual).started(request)

    def ended(self, request: T) -> None:
        """The slot of `request` is free again."""
        (self.of(request.tier) if request.tier else self.usual).ended(request)

    def append(self, request: T) -> None:
        """Wait behind the others of the same key and tier."""
        self.of(request.tier).append(request)

    def appendleft(self, request: T) -> None:
        """Wait before all others of its tier: its turn came, and the replica that it got failed."""
        self.of(request.tier).appendleft(request)

    def popleft(self) -> T:
        """The request whose turn it is. Raises IndexError where nobody waits."""
        return (self.usual or self.flex or self.batch).popleft()

    def discard(self, request: T) -> None:
        """It no longer waits, if it did."""
        self.of(request.tier).discard(request)

    def forget_idle(self) -> None:
        """Drop those who have nothing under way or waiting."""
        for queue in (self.usual, self.flex, self.batch):
            queue.forget_idle()
