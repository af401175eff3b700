"""Keys, limits, slots and the queue."""

from __future__ import annotations

import asyncio
import hashlib
import json
import threading
from collections.abc import Callable
from datetime import timedelta

import pytest
from sqlalchemy import select
from tests.gateway.harness import (
    MODEL,
    Answering,
    Running,
    ScriptedEngine,
    Wire,
    add_replica,
    ask,
    chunk,
    event,
    post,
    set_replica,
    timings,
    until,
    whole,
)

from sublet.accounts.service import Accounts
from sublet.gateway.model import GatewaySettings, KeyGrant, ModelRoute, ReplicaRoute, Snapshot
from sublet.gateway.refusals import NoReplicaError, QueueFullError, RateLimitError
from sublet.gateway.requests.admission import Admission, ReplicaState
from sublet.gateway.requests.fair import Seat
from sublet.store import Store
from sublet.store.tables.models import replicas
from sublet.values.clock import SimulatedClock
from sublet.values.errors import SubletError


class Gate:
    """A script that holds every request until it is opened."""

    def __init__(self, engine: ScriptedEngine) -> None:
        self._engine = engine
        self._event = asyncio.Event()
        engine.script = self._script

    def open(self) -> None:
        self._engine.loop.call_soon_threadsafe(self._event.set)

    async def _script(self, answering: Answering) -> None:
        await asyncio.wait_for(self._event.wait(), 10)
        if answering.asked.body.get("stream"):
            await answering.stream(chunk("x", timings=timings(5, 1)))
        else:
            await answering.answer(whole())


def sent(gateway: Running, count: int, **fields: object) -> list[Wire]:
    wires = [gateway.wire() for _ in range(count)]
    for wire in wires:
        wire.send(post(ask(**fields), gateway.key))
    return wires


@pytest.mark.parametrize("key", ["", "nonsense", "' OR 1=1 --", "sublet_" + "x" * 43, "é" * 20, "k" * 5000])
def test_d30_unknown_keys_get_the_same_401(gateway: Running, key: str) -> None:
    answer = gateway.post(ask(), key=key)
    assert (answer.status, answer.json["error"]["code"]) == (401, "invalid_api_key")
    assert key == "" or key not in answer.body.decode()


def test_a_key_without_the_scope_is_told_so(gateway: Running) -> None:
    accounts = Accounts(gateway.store)
    owner = accounts.create_organization("readers")
    _, secret = accounts.create_key(owner.id, scopes=["billing"])
    until(lambda: gateway.post(ask(), key=secret).status == 403)


def test_b18_a_revoked_key_is_refused_within_a_second(gateway: Running) -> None:
    assert gateway.post(ask()).status == 200
    Accounts(gateway.store).revoke_key(gateway.key_id)
    until(lambda: gateway.post(ask()).status == 401, seconds=1.0)


def test_a_new_key_works_within_a_second(gateway: Running) -> None:
    accounts = Accounts(gateway.store)
    _, secret = accounts.create_key(accounts.create_organization("late").id)
    until(lambda: gateway.post(ask(), key=secret).status == 200, seconds=1.0)


def test_an_expired_key_is_refused(gateway: Running, clock: SimulatedClock) -> None:
    accounts = Accounts(gateway.store)
    owner = accounts.create_organization("brief")
    _, secret = accounts.create_key(owner.id, expires_at=clock.now() + timedelta(seconds=60))
    until(lambda: gateway.post(ask(), key=secret).status == 200)
    clock.advance(60)
    assert gateway.post(ask(), key=secret).status == 401
    clock.advance(-120)
    assert gateway.post(ask(), key=secret).status == 200


def test_the_rate_of_a_key_is_limited_and_the_refusal_says_when(make_gateway: Callable[..., Running]) -> None:
    gateway = make_gateway(requests_per_minute_max=3)
    answers = [gateway.post(ask()) for _ in range(5)]
    assert [answer.status for answer in answers] == [200, 200, 200, 429, 429]
    assert [answer.headers.get("x-ratelimit-remaining-requests") for answer in answers[:3]] == ["2", "1", "0"]
    assert 1 <= int(answers[3].headers["retry-after"]) <= 20
    assert answers[3].json["error"]["code"] == "rate_limit_exceeded"


def test_b17_refused_requests_use_nothing_up(make_gateway: Callable[..., Running]) -> None:
    gateway = make_gateway(requests_per_minute_max=3)
    for _ in range(10):
        assert gateway.post({"model": MODEL}).status == 400
        assert gateway.post({"model": "nope", "messages": [{"role": "user", "content": "x"}]}).status == 404
    assert [gateway.post(ask()).status for _ in range(4)] == [200, 200, 200, 429]


def test_the_concurrency_of_a_key_is_limited(make_gateway: Callable[..., Running], engine: ScriptedEngine) -> None:
    gateway = make_gateway(concurrency_max=2)
    gate = Gate(engine)
    wires = sent(gateway, 2)
    until(lambda: len(engine.asked) == 2)
    refused = gateway.post(ask())
    assert refused.status == 429 and "2 requests in flight" in refused.json["error"]["message"]
    gate.open()
    assert [wire.answer().status for wire in wires] == [200, 200]
    assert gateway.post(ask()).status == 200


def test_b13_b17_every_way_out_gives_everything_back(
    make_gateway: Callable[..., Running], engine: ScriptedEngine
) -> None:
    gateway = make_gateway(concurrency_max=4, silence_s_max=0.1, queue_s_max=0.2)
    scripts = ["gone", "die", "error", "silent", "ok"]
    turn = 0

    async def script(answering: Answering) -> None:
        kind = scripts[turn]
        if kind == "ok":
            await answering.stream(chunk("x", timings=timings(5, 1)))
            return
        if kind == "error":
            await answering.answer({"error": {"message": "x"}}, 500)
            return
        await answering.head()
        await answering.part(event(chunk("x", timings=timings(5, 1))))
        if kind == "die":
            answering.writer.close()
        else:
            await answering.gone()

    engine.script = script
    for turn in range(len(scripts)):
        for _ in range(6):
            wire = gateway.wire()
            wire.send(post(ask(stream=True), gateway.key))
            if scripts[turn] == "gone":
                wire.read_until(b'"x"')
            elif scripts[turn] == "silent":
                assert b"engine_timeout" in wire.read_until(b"engine_timeout")
            else:
                assert wire.answer().status in (200, 502)
            wire.close()
    gateway.settled(30)
    gate = Gate(engine)
    wires = sent(gateway, 4)
    until(lambda: len(engine.asked) >= 34)
    gate.open()
    assert [wire.answer().status for wire in wires] == [200] * 4


def test_requests_beyond_the_slots_wait_in_order(make_gateway: Callable[..., Running], engine: ScriptedEngine) -> None:
    gateway = make_gateway(slots=1)
    gate = Gate(engine)
    first = sent(gateway, 1, seed=1)
    until(lambda: len(engine.asked) == 1)
    rest: list[Wire] = []
    for seed in (2, 3, 4):
        rest += sent(gateway, 1, seed=seed)
        until(lambda waiting=len(rest): gateway.metric("sublet_gateway_waiting") == waiting)
    assert len(engine.asked) == 1
    gate.open()
    assert [wire.answer().status for wire in first + rest] == [200] * 4
    assert [asked.body["seed"] for asked in engine.asked] == [1, 2, 3, 4]


def test_a_full_queue_and_a_long_wait_are_503_with_a_time(
    make_gateway: Callable[..., Running], engine: ScriptedEngine
) -> None:
    gateway = make_gateway(slots=1, queue_per_key_max=1, queue_s_max=0.3)
    gate = Gate(engine)
    busy = sent(gateway, 1)
    until(lambda: len(engine.asked) == 1)
    waiting = sent(gateway, 1)
    until(lambda: gateway.metric("sublet_gateway_waiting") == 1)
    full = gateway.post(ask())
    assert (full.status, full.json["error"]["code"]) == (503, "queue_full")
    assert int(full.headers["retry-after"]) >= 1
    late = waiting[0].answer()
    assert (late.status, late.json["error"]["code"]) == (503, "queue_timeout")
    gate.open()
    assert busy[0].answer().status == 200
    assert len(engine.asked) == 1


def test_a_client_that_leaves_the_queue_is_not_served(
    make_gateway: Callable[..., Running], engine: ScriptedEngine
) -> None:
    gateway = make_gateway(slots=1)
    gate = Gate(engine)
    busy = sent(gateway, 1)
    until(lambda: len(engine.asked) == 1)
    sent(gateway, 1)[0].close()
    until(lambda: gateway.metric("sublet_gateway_waiting") == 0)
    gate.open()
    assert busy[0].answer().status == 200
    assert len(engine.asked) == 1 and len(gateway.settled(1)) == 1


def test_c28_a_dead_replica_costs_no_client_an_error(
    make_gateway: Callable[..., Running], engine: ScriptedEngine
) -> None:
    gateway = make_gateway()
    other = ScriptedEngine()
    try:
        add_replica(gateway.store, MODEL, other.url)
        until(lambda: gateway.post(ask()).status == 200 and other.asked)
        other.close_port()
        assert [gateway.post(ask()).status for _ in range(20)] == [200] * 20
    finally:
        other.stop()


def only_replica(gateway: Running) -> str:
    with gateway.store.read() as connection:
        return str(connection.execute(select(replicas.c.id)).scalar_one())


def test_c28_where_no_replica_is_wanted_it_says_when_to_come_back(gateway: Running) -> None:
    set_replica(gateway.store, only_replica(gateway), state="failed", endpoint=None)
    answer = until(lambda: found if (found := gateway.post(ask())).status == 503 else None)
    assert answer.json["error"]["code"] == "no_replica"
    assert answer.headers["retry-after"] == "2"


@pytest.mark.parametrize("stream", [False, True])
def test_c28_requests_wait_for_an_engine_of_our_own_that_is_lost_and_wanted(
    make_gateway: Callable[..., Running], engine: ScriptedEngine, stream: bool
) -> None:
    gateway = make_gateway(llamacpp=True)
    engine.close_port()
    wires = sent(gateway, 6, stream=stream)
    until(
        lambda: (
            gateway.metric("sublet_gateway_waiting") == 6 and gateway.metric("sublet_gateway_engine_failures_total") > 6
        )
    )
    assert engine.asked == []
    following = ScriptedEngine()
    try:
        set_replica(gateway.store, only_replica(gateway), state="starting", endpoint=None)
        set_replica(gateway.store, only_replica(gateway), state="ready", endpoint=following.url)
        assert [wire.answer().status for wire in wires] == [200] * 6
    finally:
        following.stop()
    assert len({line["request"] for line in gateway.settled(6)}) == 6


def test_c28_requests_wait_for_a_replica_that_is_starting_within_the_limits_of_the_queue(
    make_gateway: Callable[..., Running], engine: ScriptedEngine
) -> None:
    gateway = make_gateway(slots=2, queue_per_key_max=2, start=False)
    set_replica(gateway.store, only_replica(gateway), state="starting", endpoint=None)
    gateway.start()
    wires = sent(gateway, 2)
    until(lambda: gateway.metric("sublet_gateway_waiting") == 2)
    assert gateway.post(ask()).json["error"]["code"] == "queue_full"
    set_replica(gateway.store, only_replica(gateway), state="ready", endpoint=engine.url)
    assert [wire.answer().status for wire in wires] == [200] * 2


def test_c28_a_wait_for_an_engine_that_never_comes_ends_and_uses_nothing_up(
    make_gateway: Callable[..., Running], engine: ScriptedEngine
) -> None:
    gateway = make_gateway(llamacpp=True, queue_s_max=0.6, requests_per_minute_max=2)
    engine.close_port()
    answers = [gateway.post(ask()) for _ in range(3)]
    assert [answer.json["error"]["code"] for answer in answers] == ["queue_timeout"] * 3
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in answers)


def test_a_draining_replica_gets_nothing_new_and_finishes_what_it_has(
    make_gateway: Callable[..., Running], engine: ScriptedEngine
) -> None:
    gateway = make_gateway()
    other = ScriptedEngine()
    try:
        gate = Gate(engine)
        wire = sent(gateway, 1)[0]
        until(lambda: engine.asked)
        first = only_replica(gateway)
        engine.script = other.script
        set_replica(gateway.store, first, state="draining")
        add_replica(gateway.store, MODEL, other.url)
        until(lambda: gateway.post(ask()).status == 200 and other.asked)
        before = len(engine.asked)
        assert [gateway.post(ask()).status for _ in range(10)] == [200] * 10
        assert len(engine.asked) == before
        gate.open()
        assert wire.answer().status == 200
    finally:
        other.stop()


def test_c19_with_the_database_away_known_keys_go_on(
    make_gateway: Callable[..., Running], monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = make_gateway()
    away = threading.Event()

    def broken(*args: object) -> None:
        away.set()
        raise OSError("the database is away")

    monkeypatch.setattr("sublet.wiring.model_api.load_snapshot", broken)
    gateway.refuse_events = True
    assert away.wait(5)
    assert [gateway.post(ask()).status for _ in range(10)] == [200] * 10
    assert gateway.tokens() == {}
    monkeypatch.undo()
    gateway.refuse_events = False
    until(lambda: gateway.tokens() == {"tokens.input": 50, "tokens.output": 30})


# Admission by itself


class Waiter:
    def __init__(self, organization: str, key: str, tier: str = "") -> None:
        self.tier = tier
        self.grant = KeyGrant(key, organization)
        self.seat: Seat | None = None

    def slot_free(self, replica: ReplicaState) -> None: ...

    def refused(self, error: SubletError) -> None: ...


ROUTE = ModelRoute(
    "m", "m", frozenset({"chat"}), 2048, 0, (ReplicaRoute("a", "http://a", 2), ReplicaRoute("b", "http://b", 4))
)


def admission(**settings: object) -> Admission:
    return Admission(GatewaySettings(data_dir=None, **settings))  # type: ignore[arg-type]


def test_the_least_loaded_replica_by_share_of_its_slots_is_picked() -> None:
    found = admission()
    picked = [found.pick(ROUTE, 0.0) for _ in range(7)]
    names = [replica.route.id if replica else None for replica in picked]
    assert names.count("a") == 2 and names.count("b") == 4 and names[-1] is None


def test_there_is_something_to_wait_for_while_a_replica_is_wanted() -> None:
    found = admission()
    assert found.pick(ModelRoute("m", "m", frozenset(), 1, 0, ROUTE.replicas[:1]), 1.5, besides=("a",)) is None
    assert found.pick(ModelRoute("m", "m", frozenset(), 1, 0, slots_coming=2), 1.5) is None
    with pytest.raises(NoReplicaError):
        found.pick(ModelRoute("m", "m", frozenset(), 1, 0), 1.5)


def test_the_bucket_refills_evenly() -> None:
    found = admission(requests_per_minute_max=60, concurrency_max=1000)
    for _ in range(60):
        found.admit("k", 100.0)
    with pytest.raises(RateLimitError):
        found.admit("k", 100.5)
    found.admit("k", 101.6)
    with pytest.raises(RateLimitError):
        found.admit("k", 101.7)


def test_b12_parallel_requests_pass_exactly_as_many_as_may() -> None:
    found = admission(requests_per_minute_max=10, concurrency_max=1000)
    passed = 0
    for _ in range(200):
        try:
            found.admit("k", 1.0)
            passed += 1
        except RateLimitError:
            pass
    assert passed == 10


def test_the_queue_is_bounded_for_each_key_and_says_when_to_come_again() -> None:
    found = admission(queue_per_key_max=12)
    for _ in range(12):
        found.enqueue(ROUTE, Waiter("org", "key"))
    with pytest.raises(QueueFullError) as refused:
        found.enqueue(ROUTE, Waiter("org", "key"))
    assert refused.value.details["retry_after_s"] == pytest.approx(13 * 2.0 / 6)
    other = Waiter("other", "another")
    found.enqueue(ROUTE, other)
    assert found.wait_s(ROUTE, other.grant) == pytest.approx(2 * 2.0 / 3), (
        "half of the slots are another organization's share"
    )


def test_c22_state_of_keys_models_and_replicas_that_are_gone_is_dropped() -> None:
    found = admission()
    key_state = found.admit("old", 0.0)
    found.pick(ROUTE, 0.0)
    found.queue(ROUTE)
    snapshot = Snapshot({hashlib.sha256(b"x").digest(): KeyGrant("new", "org")}, {})
    found.adopt(snapshot)
    assert found._keys and found._replicas, "what is under way stays"
    found.leave(key_state)
    for state in found._replicas.values():
        state.in_flight = 0
    found.adopt(snapshot)
    assert not found._keys and not found._replicas and not found._queues


def test_c22_unknown_keys_and_models_grow_nothing(gateway: Running) -> None:
    def lines_after(numbers: range) -> int:
        for number in numbers:
            gateway.post(ask(), key=f"unknown-{number}")
            gateway.post({**ask(), "model": f"model-{number}"})
        return gateway.operator_get("/metrics").body.count(b"\n")

    assert lines_after(range(1)) == lines_after(range(1, 30))


def test_d32_usage_can_not_be_forged_by_the_request(gateway: Running) -> None:
    gateway.post(ask(metadata={"organization": "somebody-else", "usage": {"completion_tokens": 0}}, user="other"))
    record = gateway.settled(1)[0]
    assert record["key"] == gateway.key_id and record["output"] == 3


def test_d31_the_key_is_in_no_journal_answer_or_metric(gateway: Running, capfd: pytest.CaptureFixture[str]) -> None:
    answers = [gateway.post(ask()), gateway.post(ask(messages=1)), gateway.get("/v1/models")]
    answers += [gateway.operator_get("/metrics"), gateway.operator_get("/health")]
    answers += [gateway.get("/nowhere"), gateway.post(b"{", key=gateway.key)]
    gateway.settled(1)
    shown = b"".join(answer.body + json.dumps(answer.headers).encode() for answer in answers).decode()
    shown += json.dumps(gateway.journal()) + str(gateway.events) + "".join(capfd.readouterr())
    secret = gateway.key.removeprefix("sublet_")
    assert secret not in shown and secret[-4:] not in shown


def test_two_snapshots_of_the_same_database_are_equal(gateway: Running, store: Store) -> None:
    from sublet.models.catalog import BUILT_IN
    from sublet.wiring.model_api import load_snapshot

    with store.read() as connection:
        first, second = (load_snapshot(connection, 1, BUILT_IN) for _ in range(2))
    assert first == second and first.keys and first.models
