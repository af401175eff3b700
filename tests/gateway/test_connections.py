"""Clients as they come: slow, large, half gone, or not speaking HTTP at all."""

from __future__ import annotations

import json
import socket
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.gateway.harness import MODEL, Answering, Running, ScriptedEngine, ask, chunk, post, timings, until

from sublet.accounts.service import Accounts
from sublet.gateway.front.connections import Connections
from sublet.gateway.model import GatewaySettings
from sublet.values.errors import SubletError


def test_a_connection_serves_many_requests(gateway: Running) -> None:
    wire = gateway.wire()
    for number in range(5):
        wire.send(post(ask(stream=bool(number % 2)), gateway.key))
        assert wire.answer().status == 200
    wire.send(b"GET /v1/models HTTP/1.1\r\nhost: x\r\nauthorization: Bearer " + gateway.key.encode() + b"\r\n\r\n")
    assert wire.answer().json["data"][0]["id"] == MODEL
    wire.send(post(ask(), gateway.key))
    assert wire.answer().status == 200
    wire.close()


def test_connection_close_is_honored(gateway: Running) -> None:
    wire = gateway.wire()
    wire.send(post(ask(), gateway.key, extra="connection: close\r\n"))
    assert wire.answer().headers["connection"] == "close"
    assert wire.closed()


def test_a_body_in_many_pieces_and_in_chunks(gateway: Running) -> None:
    request = post(ask(), gateway.key)
    wire = gateway.wire()
    for at in range(0, len(request), 7):
        wire.send(request[at : at + 7])
    assert wire.answer().status == 200
    head = f"POST /v1/chat/completions?x=1 HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {gateway.key}\r\n"
    wire.send(head.encode() + b"transfer-encoding: chunked\r\n\r\n")
    body = json.dumps(ask()).encode()
    wire.send(b"%x\r\n%b\r\n%x\r\n%b\r\n0\r\n\r\n" % (5, body[:5], len(body) - 5, body[5:]))
    assert wire.answer().status == 200
    wire.close()


def test_expect_100_continue(gateway: Running) -> None:
    head, _, body = post(ask(), gateway.key, extra="expect: 100-continue\r\n").partition(b"\r\n\r\n")
    wire = gateway.wire()
    wire.send(head + b"\r\n\r\n")
    assert wire.read_until(b"\r\n\r\n").startswith(b"HTTP/1.1 100")
    wire.send(body)
    assert wire.answer().status == 200
    wire.close()


@pytest.mark.parametrize("announced", [True, False])
def test_a_body_beyond_the_limit_is_refused_and_the_client_gets_to_read_it(
    make_gateway: Callable[..., Running], announced: bool
) -> None:
    gateway = make_gateway(body_bytes_max=10_000)
    wire = gateway.wire()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {gateway.key}\r\n"
    if announced:
        wire.send(head.encode() + b"content-length: 100000000\r\n\r\n")
    else:
        wire.send(head.encode() + b"transfer-encoding: chunked\r\n\r\n")
    for _ in range(20):
        wire.send(b"%x\r\n%b\r\n" % (1000, b"x" * 1000))
    answer = wire.answer()
    assert (answer.status, answer.json["error"]["code"]) == (413, "body_too_large")
    assert answer.headers["connection"] == "close"
    assert gateway.post(ask()).status == 200
    wire.close()


def test_bytes_being_received_are_bounded_in_all(make_gateway: Callable[..., Running]) -> None:
    gateway = make_gateway(body_bytes_max=10_000, receiving_bytes_max=15_000)
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {gateway.key}\r\n".encode()
    first, second = gateway.wire(), gateway.wire()
    first.send(head + b"content-length: 9000\r\n\r\n" + b" " * 8900)
    until(lambda: gateway.metric("sublet_gateway_receiving_bytes") >= 8900)
    second.send(head + b"content-length: 9000\r\n\r\n" + b" " * 8900)
    assert second.answer().json["error"]["code"] == "server_full"
    first.close()
    until(lambda: gateway.metric("sublet_gateway_receiving_bytes") == 0)


@pytest.mark.parametrize(
    "flood",
    [b"x-flood: " + b"a" * 40_000 + b"\r\n", b"".join(b"x-%d: a\r\n" % n for n in range(200))],
    ids=["long", "many"],
)
def test_a_flood_of_headers_is_refused(gateway: Running, flood: bytes) -> None:
    wire = gateway.wire()
    wire.send(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n" + flood + b"\r\n")
    assert wire.answer().status == 431
    wire.close()


def test_a_flood_of_headers_on_a_cold_route_is_refused(gateway: Running) -> None:
    wire = gateway.wire()
    wire.send(b"GET /health HTTP/1.1\r\nhost: x\r\nx: " + b"a" * 40_000 + b"\r\n\r\n")
    assert wire.answer().status == 431
    wire.close()


def test_what_is_not_http_gets_a_400_in_our_form(gateway: Running) -> None:
    wire = gateway.wire()
    wire.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 hello\r\n\r\n")
    answer = wire.answer()
    assert (answer.status, answer.json["error"]["code"]) == (400, "invalid_request")
    assert wire.closed()


def test_c29_a_client_that_sends_slower_than_it_may_is_cut(make_gateway: Callable[..., Running]) -> None:
    gateway = make_gateway(receive_s_max=0.3)
    wire = gateway.wire()
    request = post(ask(), gateway.key)
    wire.send(request[:50])
    answer = wire.answer()
    assert (answer.status, answer.json["error"]["code"]) == (408, "request_timeout")
    silent = gateway.wire()
    assert silent.closed()


def test_an_idle_connection_is_closed(make_gateway: Callable[..., Running]) -> None:
    gateway = make_gateway(idle_connection_s_max=0.3)
    wire = gateway.wire()
    wire.send(post(ask(), gateway.key))
    assert wire.answer().status == 200
    assert wire.closed()


def test_connections_are_bounded(make_gateway: Callable[..., Running], engine: ScriptedEngine) -> None:
    async def script(answering: Answering) -> None:
        await answering.gone()

    plain, engine.script = engine.script, script
    gateway = make_gateway(connections_max=4, slots=8)
    accounts = Accounts(gateway.store)
    keys = [accounts.create_key(accounts.create_organization(f"one of {number}").id)[1] for number in range(4)]
    until(lambda: gateway.get("/v1/models", key=keys[-1]).status == 200)
    wires = [gateway.wire() for _ in keys]
    for key, wire in zip(keys, wires, strict=True):
        wire.send(post(ask(), key))
    until(lambda: len(engine.asked) == 4)
    extra = gateway.wire()
    assert extra.answer().json["error"]["code"] == "server_full"
    for wire in wires:
        wire.close()
    engine.script = plain
    until(lambda: gateway.post(ask()).status == 200)


def test_pipelined_requests_end_the_connection_after_the_first(gateway: Running, engine: ScriptedEngine) -> None:
    wire = gateway.wire()
    wire.send(post(ask(), gateway.key) * 3)
    answer = wire.answer()
    assert answer.status == 200 and answer.headers["connection"] == "close"
    assert wire.closed()
    assert len(engine.asked) == 1


def test_a_client_that_closes_its_half_counts_as_gone(gateway: Running, engine: ScriptedEngine) -> None:
    async def script(answering: Answering) -> None:
        await answering.gone()

    engine.script = script
    wire = gateway.wire()
    wire.send(post(ask(), gateway.key))
    until(lambda: engine.asked)
    wire.socket.shutdown(socket.SHUT_WR)
    assert gateway.settled(1)[0]["status"] == 499
    wire.close()


def test_a_client_that_resets_while_it_sends(gateway: Running) -> None:
    wire = gateway.wire()
    wire.send(post(ask(), gateway.key)[:80])
    wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    wire.close()
    assert gateway.post(ask()).status == 200


def test_c23_large_bodies_do_not_hold_up_small_ones(gateway: Running) -> None:
    large = post({**ask(), "messages": [{"role": "user", "content": "x" * 9_000_000}]}, gateway.key)
    wires = [gateway.wire() for _ in range(3)]
    for wire in wires:
        wire.socket.setblocking(False)
    slowest_s = 0.0
    offsets = [0, 0, 0]
    while any(offset < len(large) for offset in offsets):
        for number, wire in enumerate(wires):
            try:
                offsets[number] += wire.socket.send(large[offsets[number] : offsets[number] + 1_000_000])
            except BlockingIOError:
                continue
        began = time.monotonic()
        assert gateway.post(ask()).status == 200
        slowest_s = max(slowest_s, time.monotonic() - began)
    assert slowest_s < 1.0
    for wire in wires:
        wire.socket.settimeout(10)
        assert wire.answer().status == 200
        wire.close()


def test_cold_routes(gateway: Running) -> None:
    assert gateway.get("/health").json == {"status": "ok"}
    assert gateway.get(f"/v1/models/{MODEL}").json["capabilities"] == ["chat", "completions"]
    assert gateway.get("/v1/models/nope").json["error"]["code"] == "model_not_found"
    assert gateway.get("/v1/models", key="wrong").status == 401
    lost = gateway.get("/nowhere").json["error"]
    assert lost["code"] == "route_not_found"
    assert "no /nowhere here" in lost["message"] and "POST /v1/chat/completions" in lost["message"]
    assert "docs/" not in lost["message"]
    assert gateway.get("/v1/chat/completions").json["error"]["code"] == "method_not_allowed"
    assert b"sublet_gateway_requests" in gateway.operator_get("/metrics").body


def test_c27_a_stop_lets_running_streams_end(gateway: Running, engine: ScriptedEngine) -> None:
    import asyncio

    go = asyncio.Event()

    async def script(answering: Answering) -> None:
        await asyncio.wait_for(go.wait(), 5)
        await answering.stream(chunk("late", timings=timings(5, 1)), chunk(finish="stop"))

    engine.script = script
    wire = gateway.wire()
    wire.send(post(ask(stream=True), gateway.key))
    until(lambda: engine.asked)
    gateway._stop.set()
    until(lambda: _refuses(gateway.address))
    engine.loop.call_soon_threadsafe(go.set)
    assert wire.answer().events[-1] == "[DONE]"
    gateway.stop()
    assert gateway.tokens() == {"tokens.input": 5, "tokens.output": 1}


def test_a9_what_does_not_end_in_time_is_cut_and_billed(gateway: Running, engine: ScriptedEngine) -> None:
    async def script(answering: Answering) -> None:
        await answering.stream(chunk("one", timings=timings(5, 1)), done=False)
        await answering.gone()

    engine.script = script
    wire = gateway.wire()
    wire.send(post(ask(stream=True), gateway.key))
    wire.read_until(b"one")
    gateway.stop()
    assert b"[DONE]" not in wire.read_all()
    assert gateway.tokens() == {"tokens.input": 5, "tokens.output": 1}


def _refuses(address: tuple[str, int]) -> bool:
    try:
        socket.create_connection(address, timeout=1).close()
    except OSError:
        return True
    return False


def test_unproved_bodies_of_the_address_that_has_the_most_give_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody who knows a key's id can't keep its owner's signed requests out."""
    monkeypatch.setattr("sublet.gateway.front.connections.UNPROVED_BYTES_MAX", 100)
    connections = Connections(GatewaySettings(data_dir=Path()), Counter())
    shed: list[str] = []

    class Unproved:
        organization = ""
        held_bytes = 0
        connected_at = 0.0
        idle_since = 0.0

        def __init__(self, name: str, source: str) -> None:
            self.name = name
            self.source = source

        def shed(self, error: SubletError) -> bool:
            shed.append(self.name)
            return True

    owner, *strangers = [Unproved("owner", "10.0.0.1"), *(Unproved(f"s{n}", "10.0.0.2") for n in range(3))]
    for one in (owner, *strangers):
        connections.enter(one, 0.0)  # type: ignore[arg-type]
        connections.hold(one, 40)  # type: ignore[arg-type]
    assert shed == ["s0", "s1"]
    assert owner.held_bytes == 40
