"""The fair queue: anyone who fills it does not keep others waiting, and weights and slots are what counts (failure case B16)."""

from __future__ import annotations

import asyncio
import heapq
import random
import statistics
from collections import Counter
from collections.abc import Callable

import pytest
from tests.gateway.harness import Answering, Running, ScriptedEngine, ask, post, until, whole

from sublet.accounts.service import Accounts
from sublet.gateway.model import KeyGrant
from sublet.gateway.requests.fair import FairQueue, Seat


class Request:
    def __init__(self, organization: str, key: str = "k", weight: float = 1.0, came: float = 0.0) -> None:
        self.grant = KeyGrant(f"{organization}/{key}", organization, weight=weight)
        self.seat: Seat | None = None
        self.came = came

    @property
    def name(self) -> str:
        return self.grant.organization_id


def simulate(threads: dict[str, int], *, weights: dict[str, float], service: dict[str, float], slots: int = 4) -> World:
    return World(threads, weights, service, slots)


class World:
    """Threads that each send the next request when the last one has ended, in simulated time."""

    def __init__(
        self, threads: dict[str, int], weights: dict[str, float], service: dict[str, float], slots: int
    ) -> None:
        self.queue: FairQueue[Request] = FairQueue()
        self.weights, self.service, self.free = weights, service, slots
        self.random = random.Random(7)
        self.waits: dict[str, list[float]] = {name: [] for name in threads}
        self.served_s: Counter[str] = Counter()
        self.now = 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._number = 0
        for name, number in threads.items():
            for _ in range(number):
                self.after(self.random.random() * 0.01, lambda name=name: self.arrive(name))

    def run(self, until_s: float = 2_000.0) -> World:
        while self._events and self.now < until_s:
            self.now, _, call = heapq.heappop(self._events)
            call()
        return self

    def after(self, seconds: float, call: Callable[[], None]) -> None:
        self._number += 1
        heapq.heappush(self._events, (self.now + seconds, self._number, call))

    def arrive(self, name: str) -> None:
        request = Request(name, weight=self.weights.get(name, 1.0), came=self.now)
        if self.free and not len(self.queue):
            self.start(request)
        else:
            self.queue.append(request)

    def start(self, request: Request) -> None:
        self.free -= 1
        self.queue.started(request)
        self.waits[request.name].append(self.now - request.came)
        seconds = self.service.get(request.name, 1.0) * self.random.uniform(0.8, 1.2)
        self.served_s[request.name] += seconds  # type: ignore[assignment]
        self.after(seconds, lambda: self.end(request))

    def end(self, request: Request) -> None:
        self.free += 1
        self.queue.ended(request)
        self.after(1e-4, lambda: self.arrive(request.name))
        if len(self.queue):
            self.start(self.queue.popleft())


def test_one_thread_beside_sixty_waits_less_than_one_service_time() -> None:
    world = simulate({"a": 60, "b": 1}, weights={}, service={}).run()
    assert statistics.median(world.waits["b"]) <= 0.5
    assert max(world.waits["b"]) <= 1.3
    assert len(world.waits["a"]) > 6_000, "the rest goes to anyone who wants it"


@pytest.mark.parametrize(
    ("threads", "weights", "service", "share"),
    [
        ({"a": 60, "b": 8}, {}, {}, 0.5),
        ({"a": 60, "b": 12}, {"b": 3.0}, {}, 0.75),
        # Answers of A take thirty times as long: slots are shared, not turns.
        ({"a": 60, "b": 12}, {}, {"a": 30.0}, 0.5),
        ({"a": 60, "b": 12, "c": 12, "d": 12}, {}, {"a": 30.0}, 0.25),
    ],
)
def test_slots_are_shared_by_weight_however_many_ask_and_however_long_their_answers_are(
    threads: dict[str, int], weights: dict[str, float], service: dict[str, float], share: float
) -> None:
    world = simulate(threads, weights=weights, service=service).run()
    total = sum(world.served_s.values())
    assert world.served_s["b"] / total == pytest.approx(share, abs=0.05)


def test_with_more_organizations_than_slots_all_get_their_turns_by_weight() -> None:
    names = {f"o{number}": 4 for number in range(40)}
    world = simulate(names, weights={"o0": 4.0}, service={}).run(4_000)
    turns = {name: len(waits) for name, waits in world.waits.items()}
    others = [count for name, count in turns.items() if name != "o0"]
    assert max(others) - min(others) <= 2
    assert turns["o0"] >= 1.9 * statistics.mean(others)


def test_keys_of_one_organization_share_what_it_gets() -> None:
    queue: FairQueue[Request] = FairQueue()
    for _ in range(30):
        queue.append(Request("a", "greedy"))
    queue.append(Request("a", "modest"))
    queue.append(Request("b"))
    first = [queue.popleft().grant.id for _ in range(4)]
    assert first.index("a/modest") <= 3 and first.index("b/k") <= 1


def test_a_key_that_was_idle_has_saved_up_nothing() -> None:
    queue: FairQueue[Request] = FairQueue()
    for _ in range(100):
        queue.append(Request("a"))
    for _ in range(50):
        queue.popleft()
    for _ in range(50):
        queue.append(Request("b"))
    order = [queue.popleft().name for _ in range(40)]
    assert order.count("b") in (20, 21)


def test_a_request_whose_replica_failed_goes_first_and_one_that_leaves_is_gone() -> None:
    queue: FairQueue[Request] = FairQueue()
    requests = [Request("a") for _ in range(3)]
    for request in requests:
        queue.append(request)
    queue.appendleft(returned := Request("b"))
    queue.discard(requests[0])
    queue.discard(Request("nobody"))
    assert [queue.popleft() for _ in range(len(queue))] == [returned, *requests[1:]]
    queue.append(requests[0])
    queue.discard(requests[0])
    with pytest.raises(IndexError):
        queue.popleft()


def test_any_order_of_events_keeps_the_counts_right_and_leaves_nothing_behind() -> None:
    chance = random.Random(11)
    queue: FairQueue[Request] = FairQueue()
    waiting: list[Request] = []
    running: list[Request] = []
    for _ in range(20_000):
        step = chance.random()
        if step < 0.4:
            request = Request(f"o{chance.randrange(20)}", f"k{chance.randrange(3)}")
            waiting.append(request)
            queue.append(request)
        elif step < 0.7 and waiting:
            request = queue.popleft()
            waiting.remove(request)
            queue.started(request)
            running.append(request)
        elif step < 0.9 and running:
            request = running.pop(chance.randrange(len(running)))
            queue.ended(request)
            if chance.random() < 0.1:
                queue.appendleft(request)
                waiting.append(request)
        elif waiting:
            queue.discard(waiting.pop(chance.randrange(len(waiting))))
        assert len(queue) == len(waiting)
        if chance.random() < 0.01:
            queue.forget_idle()
    assert len(queue._level._heap) <= 2 * 20 + 64 + 1, "outdated entries do not pile up"
    for request in waiting:
        queue.discard(request)
    for request in running:
        queue.ended(request)
    queue.forget_idle()
    assert queue.idle and not queue._organizations and not queue._seats


# Through the gateway


def test_b16_another_tenant_gets_the_next_slot_and_no_refusal(
    make_gateway: Callable[..., Running], engine: ScriptedEngine
) -> None:
    gateway = make_gateway(slots=2, concurrency_max=70)
    accounts = Accounts(gateway.store)
    _, other = accounts.create_key(accounts.create_organization("modest").id)
    until(lambda: gateway.get("/v1/models", key=other).status == 200)
    order: list[int] = []

    go = asyncio.Event()

    async def script(answering: Answering) -> None:
        await asyncio.wait_for(go.wait(), 20)
        order.append(answering.asked.body["seed"])
        await answering.answer(whole())

    engine.script = script
    greedy = [gateway.wire() for _ in range(60)]
    for wire in greedy:
        wire.send(post(ask(seed=1), gateway.key))
    until(lambda: gateway.metric("sublet_gateway_waiting") == 58)
    modest = gateway.wire()
    modest.send(post(ask(seed=2), other))
    until(lambda: gateway.metric("sublet_gateway_waiting") == 59)
    engine.loop.call_soon_threadsafe(go.set)
    assert modest.answer().status == 200
    assert [wire.answer().status for wire in greedy] == [200] * 60
    assert order.index(2) <= 4
    for wire in [*greedy, modest]:
        wire.close()


def test_weights_are_those_that_the_operator_set(make_gateway: Callable[..., Running]) -> None:
    gateway = make_gateway(weights={"customer 0": 3.0}, start=False)
    gateway.settings.weights[gateway.key_id] = 2.0  # type: ignore[index]
    accounts = Accounts(gateway.store)
    accounts.create_key(accounts.create_organization("another").id)
    from sublet.wiring.model_api import load_snapshot

    with gateway.store.read() as connection:
        grants = load_snapshot(connection, 1, weights=gateway.settings.weights).keys.values()
    assert sorted((grant.weight, grant.key_weight) for grant in grants) == [(1.0, 1.0), (3.0, 2.0)]
