"""Anyone who has no key, or has one and misuses it, can't keep others from being served (failure cases C22, C23, C29)."""

from __future__ import annotations

import json
import socket
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from tests.gateway.harness import Answering, Running, ScriptedEngine, Wire, ask, post, until, whole

from sublet.accounts.service import Accounts
from sublet.gateway.front.connections import YOUNG_S, Connections, files_for_connections
from sublet.gateway.model import GatewaySettings
from sublet.gateway.refusals import RateLimitError, ServerFullError
from sublet.gateway.server import _notice_half_open
from sublet.store import Store
from sublet.values.clock import SimulatedClock
from sublet.values.errors import SubletError

HUGE = 10_000_000


def head(key: str = "", extra: str = "", length: int | None = HUGE) -> bytes:
    """The head of a request whose body is not there yet."""
    framing = "transfer-encoding: chunked\r\n" if length is None else f"content-length: {length}\r\n"
    authorization = f"authorization: Bearer {key}\r\n" if key else ""
    return f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n{authorization}{extra}{framing}\r\n".encode()


def another_key(gateway: Running, name: str = "another customer") -> str:
    accounts = Accounts(gateway.store)
    _, secret = accounts.create_key(accounts.create_organization(name).id)
    until(lambda: gateway.get("/v1/models", key=secret).status == 200)
    return secret


# Without a key


def test_c29_stalled_bodies_without_a_key_cost_no_customer_an_answer(make_gateway: Callable[..., Running]) -> None:
    gateway = make_gateway(receiving_bytes_max=4 * 1024 * 1024)
    strangers = [gateway.wire() for _ in range(95)]
    for wire in strangers:
        wire.send(head() + b" " * 60_000)
    answers = [wire.answer() for wire in strangers]
    assert {answer.status for answer in answers} == {401}
    assert {answer.headers["connection"] for answer in answers} == {"close"}
    large = post(ask(messages=[{"role": "user", "content": "x" * 3_000_000}]), gateway.key)
    wire = gateway.wire()
    wire.send(large)
    assert wire.answer().status == 200
    assert gateway.metric("sublet_gateway_receiving_bytes") == 0
    for one in [*strangers, wire]:
        one.close()


def test_c29_without_a_valid_key_nobody_is_told_to_continue(gateway: Running) -> None:
    for key in ("", "wrong"):
        wire = gateway.wire()
        wire.send(head(key, "expect: 100-continue\r\n"))
        answer = wire.answer()
        assert (answer.status, answer.json["error"]["code"]) == (401, "invalid_api_key")
        assert answer.headers["www-authenticate"] == "Bearer"
        wire.close()


def test_c29_a_stranger_has_less_time_for_its_headers(make_gateway: Callable[..., Running]) -> None:
    gateway = make_gateway(unauthenticated_s_max=0.2, receive_s_max=300.0, idle_connection_s_max=300.0)
    customer, slow, silent, idle = (gateway.wire() for _ in range(4))
    customer.send(post(ask(), gateway.key))
    assert customer.answer().status == 200
    slow.send(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nx-slow: ")
    idle.send(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n")
    assert idle.answer().status == 200
    assert slow.answer().json["error"]["code"] == "request_timeout"
    assert silent.closed() and idle.closed()
    customer.send(post(ask(), gateway.key))
    assert customer.answer().status == 200, "a customer's connection may be idle for longer"
    customer.close()


@pytest.mark.parametrize("start", [b"", b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n"], ids=["first", "later"])
def test_c22_a_header_without_an_end_is_not_collected(gateway: Running, start: bytes) -> None:
    wire = gateway.wire()
    if start:
        wire.send(start)
        assert wire.answer().status == 200
    wire.send(b"POST /v1/chat/completions HTTP/1.1\r\nx-endless: ")
    for _ in range(20):
        wire.send(b"a" * 1_000)
    assert wire.answer().json["error"]["code"] == "headers_too_large"
    wire.close()


def test_c22_a_stranger_may_send_fewer_bytes_of_headers_than_a_customer(gateway: Running) -> None:
    large = f"x-large: {'a' * 20_000}\r\n"
    wire = gateway.wire()
    wire.send(post(ask(), gateway.key, extra=large))
    assert wire.answer().status == 431
    wire = gateway.wire()
    wire.send(post(ask(), gateway.key))
    assert wire.answer().status == 200
    wire.send(post(ask(), gateway.key, extra=large))
    assert wire.answer().status == 200
    wire.close()


def test_c22_idle_strangers_give_way_to_customers(make_gateway: Callable[..., Running]) -> None:
    gateway = make_gateway(connections_max=200)
    strangers = [gateway.wire() for _ in range(1_000)]
    assert gateway.post(ask()).status == 200
    assert gateway.metric("sublet_gateway_connections_evicted_total") >= 800
    assert gateway.metric("sublet_gateway_connections") <= 200
    for wire in strangers:
        wire.close()


def test_c22_idle_connections_of_one_customer_give_way_to_others(make_gateway: Callable[..., Running]) -> None:
    gateway = make_gateway(connections_max=40)
    other = another_key(gateway)
    greedy = []
    for _ in range(60):
        greedy.append(gateway.wire())
        greedy[-1].send(post(ask(), gateway.key))
        assert greedy[-1].answer().status == 200
    assert gateway.metric("sublet_gateway_connections") <= 12, "a quarter is what one organization may have"
    assert gateway.post(ask(), key=other).status == 200
    for wire in greedy:
        wire.close()


# With a key


def test_b17_a_key_beyond_its_limit_does_not_get_to_send_a_body(make_gateway: Callable[..., Running]) -> None:
    gateway = make_gateway(requests_per_minute_max=1)
    assert gateway.post(ask()).status == 200
    for extra in ("expect: 100-continue\r\n", ""):
        wire = gateway.wire()
        wire.send(head(gateway.key, extra))
        assert wire.answer().json["error"]["code"] == "rate_limit_exceeded"
        wire.close()
    wire = gateway.wire()
    for _ in range(3):
        wire.send(post(ask(), gateway.key))
        answer = wire.answer()
        assert answer.status == 429 and "connection" not in answer.headers, "a small body keeps the connection"
    wire.close()


def test_b17_bodies_that_never_come_count_for_their_key_until_they_are_given_up(
    make_gateway: Callable[..., Running],
) -> None:
    gateway = make_gateway(concurrency_max=2, requests_per_minute_max=3)
    for _ in range(4):
        stalled = [gateway.wire() for _ in range(2)]
        for wire in stalled:
            wire.send(head(gateway.key, "expect: 100-continue\r\n"))
            assert wire.read_until(b"\r\n\r\n").startswith(b"HTTP/1.1 100")
        assert gateway.post(ask()).json["error"]["code"] == "rate_limit_exceeded"
        for wire in stalled:
            wire.close()
        until(lambda: gateway.metric("sublet_gateway_connections") <= 1)
    # Each of them was refunded: the key may still start its three.
    assert [gateway.post(ask()).status for _ in range(3)] == [200] * 3


def test_c29_bytes_are_shared_by_organization(make_gateway: Callable[..., Running]) -> None:
    gateway = make_gateway(receiving_bytes_max=1_000_000)
    other = another_key(gateway)
    greedy = [gateway.wire() for _ in range(5)]
    for wire in greedy:
        wire.send(head(gateway.key) + b" " * 190_000)
    until(lambda: gateway.metric("sublet_gateway_receiving_bytes") >= 5 * 190_000)
    large = post(ask(messages=[{"role": "user", "content": "x" * 300_000}]), other)
    wire = gateway.wire()
    wire.send(large[:250_000])
    refused = until(lambda: _answered(greedy))
    assert refused.answer().json["error"]["code"] == "server_full"
    wire.send(large[250_000:])
    assert wire.answer().status == 200
    for one in [*greedy, wire]:
        one.close()
    until(lambda: gateway.metric("sublet_gateway_receiving_bytes") == 0)


def test_c29_large_bodies_that_wait_for_a_slot_count_as_well(
    make_gateway: Callable[..., Running], engine: ScriptedEngine
) -> None:
    async def script(answering: Answering) -> None:
        await answering.gone()

    engine.script = script
    gateway = make_gateway(slots=1, receiving_bytes_max=1_000_000)
    busy = gateway.wire()
    busy.send(post(ask(), gateway.key))
    until(lambda: engine.asked)
    large = post(ask(messages=[{"role": "user", "content": "x" * 300_000}]), gateway.key)
    waiting = [gateway.wire() for _ in range(4)]
    for wire in waiting:
        wire.send(large)
    refused = until(lambda: _answered(waiting))
    assert refused.answer().json["error"]["code"] == "server_full"
    assert gateway.metric("sublet_gateway_waiting") == 3
    for wire in [busy, *waiting]:
        wire.close()
    until(lambda: gateway.metric("sublet_gateway_receiving_bytes") == 0)


@pytest.mark.parametrize("part", ["extension", "trailer"])
def test_c22_chunks_can_not_carry_more_beside_the_body_than_in_it(
    make_gateway: Callable[..., Running], part: str
) -> None:
    gateway = make_gateway(body_bytes_max=20_000)
    wire = gateway.wire()
    wire.send(head(gateway.key, length=None))
    wire.send(b"5;x=" if part == "extension" else b"2\r\n{}\r\n0\r\nx-trailer: ")
    for _ in range(60):
        wire.send(b"a" * 1_000)
    answer = wire.answer()
    assert (answer.status, answer.json["error"]["code"]) == (413, "body_too_large")
    wire.close()


@pytest.mark.parametrize("how", ["expires", "revoked"])
def test_b18_a_key_that_ends_while_its_body_comes_starts_nothing(
    gateway: Running, store: Store, clock: SimulatedClock, engine: ScriptedEngine, how: str
) -> None:
    accounts = Accounts(store)
    owner = accounts.create_organization("soon gone")
    key, secret = accounts.create_key(owner.id, expires_at=clock.now() + timedelta(minutes=5))
    wire = gateway.wire()
    until(lambda: gateway.get("/v1/models", key=secret).status == 200)
    request = post(ask(), secret)
    wire.send(request[:-10])
    until(lambda: gateway.metric("sublet_gateway_receiving_bytes") > 0)
    if how == "expires":
        clock.advance(360)
    else:
        accounts.revoke_key(key.id)
        until(lambda: gateway.get("/v1/models", key=secret).status == 401)
    wire.send(request[-10:])
    assert wire.answer().json["error"]["code"] == "invalid_api_key"
    assert engine.asked == []
    wire.close()


def test_c29_pipelined_requests_are_dropped_and_bounded(gateway: Running, engine: ScriptedEngine) -> None:
    async def script(answering: Answering) -> None:
        await answering.gone()

    engine.script = script
    wire = gateway.wire()
    wire.send(post(ask(), gateway.key))
    until(lambda: engine.asked)
    flood = post(ask(), gateway.key) * 4_000
    with pytest.raises(OSError):
        for _ in range(200):
            wire.send(flood)
    assert len(engine.asked) == 1
    assert gateway.settled(1)[0]["status"] == 499


@pytest.mark.parametrize("where", ["whole answer", "cold route"])
def test_c29_a_client_that_does_not_read_is_cut(
    make_gateway: Callable[..., Running], engine: ScriptedEngine, where: str
) -> None:
    async def script(answering: Answering) -> None:
        await answering.answer(whole("x" * 20_000_000))

    engine.script = script
    gateway = make_gateway(stalled_client_s_max=0.2, idle_connection_s_max=300.0, answer_bytes_max=64 * 1024 * 1024)
    wire = Wire(gateway.address)
    if where == "whole answer":
        wire.send(post(ask(), gateway.key))
        until(lambda: engine.asked)
    else:
        request = f"GET /v1/models HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {gateway.key}\r\n\r\n".encode()
        wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        with pytest.raises(OSError):
            wire.socket.settimeout(0.01)
            while True:
                wire.send(request * 100)
    until(lambda: gateway.metric("sublet_gateway_connections") <= 1)
    wire.close()


def test_c29_a_peer_that_is_gone_without_a_word_is_found_out() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        _notice_half_open(listener)
        with socket.create_connection(listener.getsockname()):
            accepted, _ = listener.accept()
            assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 30
            accepted.close()


def test_an_upgrade_is_refused_with_a_sentence(gateway: Running) -> None:
    wire = gateway.wire()
    wire.send(post(ask(), gateway.key, extra="connection: upgrade\r\nupgrade: h2c\r\n"))
    answer = wire.answer()
    assert answer.status == 400 and "Upgrade" in answer.json["error"]["message"]
    wire.close()


def test_d31_what_is_no_request_leaves_no_line_in_the_log(gateway: Running, capfd: pytest.CaptureFixture[str]) -> None:
    for _ in range(5):
        wire = gateway.wire()
        wire.send(b"\x16\x03\x01 not http\r\n\r\n")
        assert wire.answer().status == 400
        wire.close()
    assert "Invalid HTTP" not in "".join(capfd.readouterr())


# The limits by themselves


class FakeConnection:
    def __init__(self, source: str = "10.0.0.1", connected_at: float = 0.0) -> None:
        self.source = source
        self.connected_at = connected_at
        self.organization = ""
        self.held_bytes = 0
        self.idle_since = 0.0
        self.closed = False
        self.under_way = False

    def tick(self, now: float) -> None: ...

    def give_way(self) -> None:
        self.closed = True

    def shed(self, error: SubletError) -> bool:
        self.closed = not self.under_way
        return self.closed


def limits(**settings: int) -> Connections:
    return Connections(GatewaySettings(Path("unused"), **settings), Counter())  # type: ignore[arg-type]


def test_strangers_of_one_source_give_way_to_each_other_once_they_are_not_young() -> None:
    found = limits(unauthenticated_per_address_max=3)
    elsewhere = FakeConnection("10.0.0.2")
    found.enter(elsewhere, 0.0)
    first = [FakeConnection() for _ in range(5)]
    for connection in first:
        found.enter(connection, 0.0)
    assert not any(connection.closed for connection in first), "a burst of a customer's is not cut"
    late = FakeConnection(connected_at=YOUNG_S)
    found.enter(late, YOUNG_S)
    assert [connection.closed for connection in first] == [True, True, True, False, False]
    assert not late.closed and not elsewhere.closed and found.unauthenticated == 4


def test_a_proxy_stands_for_many_sources() -> None:
    found = limits(unauthenticated_per_address_max=1)
    proxied = [FakeConnection(connected_at=float(at)) for at in range(10)]
    for connection in proxied:
        found.enter(connection, connection.connected_at, proxied=True)
    assert not any(connection.closed for connection in proxied)


def test_strangers_are_bounded_in_all_and_customers_are_none_of_them() -> None:
    found = limits(unauthenticated_max=2)
    customer = FakeConnection("10.9.9.9")
    found.enter(customer, 0.0)
    found.authenticated(customer, "org")
    strangers = [FakeConnection(f"10.0.0.{at}", connected_at=10.0 * at) for at in range(5)]
    for connection in strangers:
        found.enter(connection, connection.connected_at)
    assert [connection.closed for connection in strangers] == [True, True, True, False, False]
    assert not customer.closed


def test_where_all_places_are_taken_the_crowd_gives_way_then_the_idle_then_nobody() -> None:
    found = limits(connections_max=4)
    found.organization_max = 4
    crowd = [FakeConnection("10.0.0.1") for _ in range(3)]
    single = FakeConnection("10.0.0.2")
    for connection in [single, *crowd]:
        found.enter(connection, 0.0)
    newcomers = [FakeConnection(f"10.1.0.{at}") for at in range(5)]
    found.enter(newcomers[0], 0.0)
    assert crowd[0].closed and not single.closed
    for connection in [single, crowd[1], crowd[2], newcomers[0]]:
        found.authenticated(connection, "org")
    crowd[2].idle_since, crowd[1].idle_since = 5.0, 7.0
    found.enter(newcomers[1], 0.0)
    assert crowd[2].closed and not crowd[1].closed, "who has been idle for longest"
    crowd[1].idle_since = 0.0
    found.authenticated(newcomers[1], "org")
    with pytest.raises(ServerFullError):
        found.enter(newcomers[2], 0.0)
    found.leave(newcomers[1])
    found.enter(newcomers[3], 0.0)
    assert len(found) == 4


def test_an_organization_has_so_many_connections_and_its_own_idle_ones_give_way() -> None:
    found = limits(connections_max=8)
    own = [FakeConnection() for _ in range(4)]
    for connection in own:
        found.enter(connection, 0.0)
    for connection in own[:2]:
        found.authenticated(connection, "org")
    with pytest.raises(RateLimitError):
        found.authenticated(own[2], "org")
    own[0].idle_since = 1.0
    found.authenticated(own[2], "org")
    assert own[0].closed and len(found) == 3
    found.authenticated(own[3], "other")


def test_the_address_with_the_most_connections_is_shed_and_requests_in_progress_are_not() -> None:
    found = limits(receiving_bytes_max=100)
    running, large, small, other = (FakeConnection() for _ in range(4))
    for connection, organization in ((running, "a"), (large, "a"), (small, "a"), (other, "b")):
        found.enter(connection, 0.0)
        found.authenticated(connection, organization)
    running.under_way = True
    found.hold(running, 45)
    found.hold(large, 30)
    found.hold(small, 10)
    found.hold(other, 20)
    assert large.closed and not small.closed and not other.closed
    assert found.bytes == 75
    found.hold(other, 60)
    assert other.closed and not small.closed, "anyone who asks for more than its share is refused"
    for connection in (running, large, small, other):
        found.leave(connection)
    assert found.bytes == 0 and len(found) == 0 and not found._bytes


def test_places_of_addresses_that_left_are_forgotten() -> None:
    found = limits()
    for at in range(100):
        connection = FakeConnection(f"10.0.0.{at}")
        found.enter(connection, 0.0)
        if at % 2:
            found.authenticated(connection, f"org{at}")
            found.hold(connection, 10)
        found.leave(connection)
        found.leave(connection)
    assert not found._all and not found._unauthenticated and not found._sources and not found._organizations
    assert not found._bytes


def test_files_are_kept_for_engines_and_the_journal() -> None:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    found = files_for_connections(10_000_000)
    assert 1 <= found < hard or hard == resource.RLIM_INFINITY
    assert files_for_connections(10) == 10
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] >= soft


def _answered(wires: list[Wire]) -> Wire | None:
    for wire in wires:
        wire.socket.setblocking(False)
        try:
            data = wire.socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            data = b""
        finally:
            wire.socket.settimeout(10)
        if data:
            return wire
    return None


def test_every_early_refusal_has_a_request_id_of_its_own(gateway: Running) -> None:
    requests = [
        head(),
        head("wrong"),
        head(gateway.key, length=10**9),
        b"GET /nowhere HTTP/1.1\r\nhost: x\r\n\r\n",
        b"\x16 not http\r\n\r\n",
        b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n",
        post(ask(model="nope"), gateway.key),
        post(b"{", gateway.key),
        post(ask(), gateway.key),
    ]
    seen = []
    for request in requests:
        wire = gateway.wire()
        wire.send(request)
        answer = wire.answer()
        json.loads(answer.body)
        seen.append(answer.headers["x-request-id"])
        wire.close()
    assert len(set(seen)) == len(requests) and all(one.startswith("req_") for one in seen)
