"""A head that comes again is not parsed again, and nobody can tell."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import httptools
import pytest
from tests.gateway.harness import Running, ScriptedEngine, ask, post, until

from sublet.accounts.service import Accounts
from sublet.gateway.front.protocol import GatewayProtocol
from sublet.gateway.front.repeated import HEAD_BYTES_MAX, MISSES_MAX, RepeatedHead, learned
from sublet.gateway.front.routes import Route
from sublet.gateway.surfaces.openai import OpenAISurface
from sublet.store import Store
from sublet.values.clock import SimulatedClock

ROUTE = Route(OpenAISurface(), (b"POST",), "chat")


class Parsed:
    """What the HTTP parser makes of one piece."""

    def __init__(self, data: bytes) -> None:
        self.headers: list[tuple[bytes, bytes]] = []
        self.urls: list[bytes] = []
        self.body = b""
        self.ended = 0
        self.broken = False
        parser = httptools.HttpRequestParser(self)
        try:
            parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self.broken = True
        self.plain = not self.broken and parser.should_keep_alive() and parser.get_http_version() == "1.1"

    def on_url(self, url: bytes) -> None:
        self.urls.append(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.ended += 1

    @property
    def same(self) -> tuple[Any, ...]:
        return self.urls, [item for item in self.headers if item[0] != b"content-length"]

    def learn(self, data: bytes) -> RepeatedHead | None:
        if self.broken or self.ended != 1 or not self.plain:
            return None
        return learned(data, self.body, {name for name, _ in self.headers}, ROUTE, b"secret", b"")


def damaged(data: bytes, chance: random.Random) -> bytes:
    """The same with a few bytes changed, left out, doubled or put in, mostly where it matters."""
    tokens = [b"\r\n", b"\r", b"\n", b" ", b"\t", b":", b"0", b"9", b"+", b"content-length: 3\r\n", b"\r\n\r\n", b"x"]
    tokens += [b"transfer-encoding: chunked\r\n", b"expect: 100-continue\r\n", b"Content-Length:", data, data[-20:]]
    for _ in range(chance.choice((0, 0, 1, 1, 2, 3))):
        at = chance.choice(
            (chance.randrange(len(data) + 1), max(0, data.find(b"content-length") + chance.randrange(22)))
        )
        cut = chance.choice((0, 0, 1, 2))
        data = data[:at] + chance.choice((b"", chance.choice(tokens))) + data[at + cut :]
    return data


def test_whatever_is_taken_for_a_head_again_is_what_the_parser_reads() -> None:
    seed = random.SystemRandom().getrandbits(32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    taken = 0
    for _ in range(6_000):
        first = damaged(post({"n": chance.randrange(10**6)}, "key"), chance)
        if not first:
            continue
        parsed = Parsed(first)
        head = parsed.learn(first)
        if head is None:
            continue
        body = b"y" * chance.choice((0, 1, 3, 17, 900))
        again = damaged(head.prefix + b"%d" % len(body) + head.suffix + body, chance)
        found = head.body(again, 10**6) if again.startswith(head.prefix) else None
        if found is None:
            continue
        taken += 1
        other = Parsed(again)
        assert (other.broken, other.ended, other.body, other.same) == (False, 1, found, parsed.same), (first, again)
    assert taken > 1_000


@pytest.mark.parametrize(
    "extra",
    [
        "transfer-encoding: chunked\r\n",
        "expect: 100-continue\r\n",
        "content-encoding: gzip\r\n",
        "x: content-length\r\n",
    ],
)
def test_heads_that_frame_or_wrap_the_body_are_not_learned(extra: str) -> None:
    data = post(ask(), "key", extra=extra)
    body = json.dumps(ask()).encode()
    names = {line.partition(b":")[0] for line in data.partition(b"\r\n\r\n")[0].split(b"\r\n")[1:]}
    assert learned(data, body, names, ROUTE, b"secret", b"") is None
    assert learned(post(ask(), "key"), body, names - {extra.partition(":")[0].encode()}, ROUTE, b"secret", b"")


def test_a_long_head_is_not_kept() -> None:
    data = post(b"{}", "key", extra=f"x: {'y' * HEAD_BYTES_MAX}\r\n")
    assert learned(data, b"{}", (), ROUTE, b"secret", b"") is None


@pytest.fixture
def heads(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The targets of the heads that the parser has read."""
    read: list[bytes] = []
    real = GatewayProtocol.on_headers_complete

    def counted(self: GatewayProtocol) -> None:
        read.append(self.url)
        real(self)

    monkeypatch.setattr(GatewayProtocol, "on_headers_complete", counted)
    return read


def test_requests_with_one_head_are_answered_like_any_other(
    gateway: Running, engine: ScriptedEngine, heads: list[bytes]
) -> None:
    wire = gateway.wire()
    answers = []
    for number in range(6):
        wire.send(post(ask(seed=10**number), gateway.key))
        answers.append(wire.answer())
    wire.close()
    assert [answer.status for answer in answers] == [200] * 6
    assert len(heads) == 1, "the parser read the first one alone"
    assert [asked.body["seed"] for asked in engine.asked] == [10**number for number in range(6)]
    assert len({answer.headers["x-request-id"] for answer in answers}) == 6
    left = [int(answer.headers["x-ratelimit-remaining-requests"]) for answer in answers]
    assert left == sorted(left, reverse=True) and left[0] - left[-1] in (4, 5)
    assert len(gateway.settled(6)) == 6


def test_in_pieces_pipelined_or_streamed_between_it_makes_no_difference(
    gateway: Running, engine: ScriptedEngine, heads: list[bytes]
) -> None:
    wire = gateway.wire()
    request = post(ask(), gateway.key)
    for cut in (len(request), len(request), 30, len(request) - 3, len(request)):
        wire.send(request[:cut])
        if cut < len(request):
            until(lambda: gateway.metric("sublet_gateway_connections") > 0)
            wire.send(request[cut:])
        assert wire.answer().status == 200
    wire.send(f"GET /v1/models HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {gateway.key}\r\n\r\n".encode())
    assert wire.answer().json["data"]
    wire.send(request)
    assert wire.answer().status == 200
    wire.send(request + request)
    assert wire.answer().status == 200
    assert wire.closed(), "nothing that is pipelined is served"
    assert len(gateway.settled(7)) == 7


def test_a_head_that_began_behind_a_refused_request_is_not_learned_in_part(gateway: Running) -> None:
    wire = gateway.wire()
    request = post(ask(), gateway.key)
    cut = request.index(b"authorization")
    wire.send(post(ask(temperature=9), gateway.key) + request[:cut])
    assert wire.answer().status == 400
    wire.send(request[cut:])
    assert wire.answer().status == 200
    wire.send(request[cut:])
    assert wire.answer().status == 400
    assert wire.closed()


def test_a_revoked_key_is_refused_on_a_connection_that_knows_its_head(
    gateway: Running, store: Store, engine: ScriptedEngine
) -> None:
    wire = gateway.wire()
    for _ in range(2):
        wire.send(post(ask(), gateway.key))
        assert wire.answer().status == 200
    Accounts(store).revoke_key(gateway.key_id)
    until(lambda: gateway.get("/v1/models").status == 401)
    wire.send(post(ask(), gateway.key))
    assert wire.answer().json["error"]["code"] == "invalid_api_key"
    assert wire.closed()
    assert len(engine.asked) == 2


def test_a_key_that_expires_is_refused_as_well(
    gateway: Running, store: Store, clock: SimulatedClock, engine: ScriptedEngine
) -> None:
    accounts = Accounts(store)
    owner = accounts.create_organization("soon gone")
    _, secret = accounts.create_key(owner.id, expires_at=clock.now() + timedelta(minutes=5))
    until(lambda: gateway.get("/v1/models", key=secret).status == 200)
    wire = gateway.wire()
    for _ in range(2):
        wire.send(post(ask(), secret))
        assert wire.answer().status == 200
    clock.advance(360)
    wire.send(post(ask(), secret))
    assert wire.answer().json["error"]["code"] == "invalid_api_key"
    assert len(engine.asked) == 2


def test_limits_hold_and_what_is_refused_leaves_the_connection_open(
    make_gateway: Callable[..., Running], engine: ScriptedEngine
) -> None:
    gateway = make_gateway(requests_per_minute_max=3, body_bytes_max=2_000)
    wire = gateway.wire()

    def send(**fields: Any) -> tuple[int, str]:
        wire.send(post(ask(**fields), gateway.key))
        answer = wire.answer()
        return answer.status, answer.json.get("error", {}).get("code", "")

    assert send() == send() == (200, "")
    assert send(temperature=9) == (400, "invalid_request")
    assert send() == (200, "")
    assert send() == (429, "rate_limit_exceeded")
    wire.send(post(ask(stop="s" * 3_000), gateway.key))
    assert wire.answer().status in (413, 429)
    assert len(engine.asked) == 3
    assert gateway.metric("sublet_gateway_refused_total") == 3


def test_heads_that_differ_each_time_are_no_longer_learned(gateway: Running, heads: list[bytes]) -> None:
    wire = gateway.wire()
    for number in range(MISSES_MAX + 1):
        wire.send(post(ask(), gateway.key, extra=f"traceparent: {number}\r\n"))
        assert wire.answer().status == 200
    for _ in range(2):
        wire.send(post(ask(), gateway.key))
        assert wire.answer().status == 200
    assert len(heads) == MISSES_MAX + 3
