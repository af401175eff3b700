"""What every client may expect of the front: methods, slashes, keys where vendors put them, browsers, gzip, proxies, and a listener
for the operator alone."""

from __future__ import annotations

import gzip
import json
import socket
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.gateway.harness import MODEL, Answer, Running, ScriptedEngine, ask, post, until

from sublet.accounts.service import Accounts
from sublet.config.settings import SettingsError, load
from sublet.gateway.front.addresses import Proxies
from sublet.gateway.front.inflate import MEMBERS_MAX, Inflater
from sublet.gateway.refusals import BodyTooLargeError, InvalidRequestError
from sublet.values.errors import InvalidInputError


def exchange(gateway: Running, request: str, body: bytes = b"") -> Answer:
    """Send a head of lines without its end, and `body`; read the answer."""
    wire = gateway.wire()
    try:
        wire.send(request.replace("\n", "\r\n").encode() + b"\r\n\r\n" + body)
        head = wire.read_until(b"\r\n\r\n")
        first, *lines = head.decode().strip().split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        length = 0 if request.startswith("HEAD") else int(headers.get("content-length", 0))
        return Answer(int(first.split(" ")[1]), headers, wire.read_exactly(length))
    finally:
        wire.close()


# Methods and paths


@pytest.mark.parametrize(
    ("request_line", "allow"),
    [
        ("GET /v1/chat/completions", "POST, OPTIONS"),
        ("HEAD /v1/embeddings", "POST, OPTIONS"),
        ("DELETE /v1/completions/", "POST, OPTIONS"),
        ("PUT /v1/models", "GET, HEAD, OPTIONS"),
        ("DELETE /v1/models/toy", "GET, HEAD, OPTIONS"),
        ("POST /health", "GET, HEAD, OPTIONS"),
    ],
)
def test_a_wrong_method_is_405_and_says_which_are_right(gateway: Running, request_line: str, allow: str) -> None:
    answer = exchange(gateway, f"{request_line} HTTP/1.1\nhost: x\nauthorization: Bearer {gateway.key}")
    assert (answer.status, answer.headers["allow"]) == (405, allow)
    assert answer.headers["x-request-id"].startswith("req_")
    if not request_line.startswith("HEAD"):
        assert answer.json["error"]["code"] == "method_not_allowed"


@pytest.mark.parametrize("path", ["/health", "/v1/models", f"/v1/models/{MODEL}", "/nowhere"])
def test_head_is_get_without_the_body(gateway: Running, path: str) -> None:
    lines = f"{path} HTTP/1.1\nhost: x\nauthorization: Bearer {gateway.key}"
    get, head = exchange(gateway, f"GET {lines}"), exchange(gateway, f"HEAD {lines}")
    assert (head.status, head.headers["content-length"]) == (get.status, get.headers["content-length"])
    wire = gateway.wire()
    wire.send(f"HEAD {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode())
    assert wire.read_all().endswith(b"\r\n\r\n"), "nothing follows the head"
    wire.close()


@pytest.mark.parametrize(
    "target", ["/v1/chat/completions/", "/v1/chat/completions//?a=1", "http://gateway.example/v1/chat/completions"]
)
def test_a_slash_at_the_end_and_a_host_in_the_target_change_nothing(gateway: Running, target: str) -> None:
    assert gateway.post(ask(), path=target).status == 200
    assert gateway.get("/v1/models/").json["data"][0]["id"] == MODEL
    assert gateway.get(f"/v1/models/{MODEL}/?x=y").json["id"] == MODEL


def test_options_says_what_there_is_without_a_key(gateway: Running) -> None:
    answer = exchange(gateway, "OPTIONS /v1/chat/completions HTTP/1.1\nhost: x")
    assert (answer.status, answer.headers["allow"]) == (200, "POST, OPTIONS")
    assert not any(name.startswith("access-control") for name in answer.headers)
    assert exchange(gateway, "OPTIONS /nowhere HTTP/1.1\nhost: x").status == 404


# Keys


@pytest.mark.parametrize("header", ["authorization: Bearer", "Authorization: bearer", "x-api-key:", "api-key:"])
def test_a_key_is_taken_where_vendors_put_it(gateway: Running, header: str) -> None:
    body = json.dumps(ask()).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\nhost: x\n{header} {gateway.key}\ncontent-length: {len(body)}"
    assert exchange(gateway, head, body).status == 200
    assert exchange(gateway, f"GET /v1/models HTTP/1.1\nhost: x\n{header} {gateway.key}").status == 200


def test_another_authorization_beside_a_key_does_not_hide_it(gateway: Running) -> None:
    head = f"GET /v1/models HTTP/1.1\nhost: x\nauthorization: Basic abc\nx-api-key: {gateway.key}"
    assert exchange(gateway, head).status == 200
    head = f"GET /v1/models HTTP/1.1\nhost: x\nauthorization: Bearer wrong\nx-api-key: {gateway.key}"
    assert exchange(gateway, head).status == 401, "a bearer token that is there is what counts"


# Browsers

ORIGIN = "https://app.example"
PREFLIGHT = (
    "OPTIONS /v1/chat/completions HTTP/1.1\nhost: x\naccess-control-request-method: POST\n"
    "access-control-request-headers: authorization, content-type, x-stainless-os\norigin: "
)


def test_a_page_of_an_allowed_origin_may_call(make_gateway: Callable[..., Running]) -> None:
    gateway = make_gateway(cors_origins=(ORIGIN,))
    answer = exchange(gateway, PREFLIGHT + ORIGIN)
    assert answer.status == 200
    assert answer.headers["access-control-allow-origin"] == ORIGIN and answer.headers["vary"] == "origin"
    assert answer.headers["access-control-allow-methods"] == "POST, OPTIONS"
    assert answer.headers["access-control-allow-headers"] == "authorization, content-type, x-stainless-os"
    for request in (
        post(ask(), gateway.key, extra=f"origin: {ORIGIN}\r\n"),
        post(ask(stream=True), gateway.key, extra=f"origin: {ORIGIN}\r\n"),
        post(ask(), "wrong", extra=f"origin: {ORIGIN}\r\n"),
        post(ask(model="nope"), gateway.key, extra=f"origin: {ORIGIN}\r\n"),
        f"GET /v1/models HTTP/1.1\r\nhost: x\r\norigin: {ORIGIN}\r\nx-api-key: {gateway.key}\r\n\r\n".encode(),
        f"GET /nowhere HTTP/1.1\r\nhost: x\r\norigin: {ORIGIN}\r\n\r\n".encode(),
    ):
        wire = gateway.wire()
        wire.send(request)
        headers = wire.answer().headers
        assert headers["access-control-allow-origin"] == ORIGIN, "a page gets to read refusals too"
        assert "x-request-id" in headers["access-control-expose-headers"] and "x-request-id" in headers
        wire.close()


def test_other_pages_may_not_and_without_the_setting_none_may(make_gateway: Callable[..., Running]) -> None:
    some, none = make_gateway(cors_origins=(ORIGIN,)), make_gateway()
    for gateway, origin in ((some, "https://evil.example"), (some, "null"), (none, ORIGIN)):
        answer = exchange(gateway, PREFLIGHT + origin)
        assert not any(name.startswith("access-control") for name in answer.headers)


def test_every_page_may_where_the_operator_says_so(make_gateway: Callable[..., Running]) -> None:
    gateway = make_gateway(cors_origins=("*",))
    answer = exchange(gateway, PREFLIGHT + "null\naccess-control-request-private-network: true")
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["access-control-allow-private-network"] == "true"


def test_a_strange_list_of_headers_is_not_echoed(make_gateway: Callable[..., Running]) -> None:
    gateway = make_gateway(cors_origins=("*",))
    answer = exchange(gateway, PREFLIGHT.replace("x-stainless-os", "x: <script>") + ORIGIN)
    assert answer.headers["access-control-allow-headers"] == "authorization, content-type"


# Compressed bodies


def packed(gateway: Running, body: bytes, encoding: str = "gzip", *, chunked: bool = False) -> Answer:
    framing = "transfer-encoding: chunked" if chunked else f"content-length: {len(body)}"
    if chunked:
        body = (
            b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:9], body[9:10], body[10:])) + b"0\r\n\r\n"
        )
    head = (
        f"POST /v1/chat/completions HTTP/1.1\nhost: x\nauthorization: Bearer {gateway.key}\n"
        f"content-encoding: {encoding}\n{framing}"
    )
    return exchange(gateway, head, body)


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("encoding", ["gzip", "X-Gzip", "identity"])
def test_a_body_may_be_compressed(gateway: Running, engine: ScriptedEngine, encoding: str, chunked: bool) -> None:
    body = json.dumps(ask(seed=7)).encode()
    assert (
        packed(gateway, body if encoding == "identity" else gzip.compress(body), encoding, chunked=chunked).status
        == 200
    )
    assert engine.asked[-1].body["seed"] == 7


def test_a_compressed_body_may_have_several_members(gateway: Running) -> None:
    body = json.dumps(ask()).encode()
    assert packed(gateway, gzip.compress(body[:20]) + gzip.compress(body[20:])).status == 200


@pytest.mark.parametrize(
    "body",
    [b"{}", gzip.compress(b'{"model": "toy"}')[:-9], gzip.compress(b"{}") + b"rubbish", b"\x1f\x8b" + b"\0" * 30],
    ids=["not packed", "cut short", "rubbish behind it", "only the head"],
)
def test_a_body_that_is_not_gzip_is_refused(gateway: Running, body: bytes) -> None:
    answer = packed(gateway, body)
    assert answer.status == 400 and "gzip" in answer.json["error"]["message"]


@pytest.mark.parametrize("encoding", ["br", "deflate", "zstd", "gzip, gzip"])
def test_another_encoding_is_refused_with_those_that_there_are(gateway: Running, encoding: str) -> None:
    answer = packed(gateway, b"x", encoding)
    assert (answer.status, answer.headers["accept-encoding"]) == (415, "gzip, identity")
    assert answer.json["error"]["code"] == "unsupported_encoding"


def test_c23_a_bomb_is_refused_once_it_is_larger_than_a_body_may_be(make_gateway: Callable[..., Running]) -> None:
    gateway = make_gateway(body_bytes_max=100_000)
    answer = packed(gateway, gzip.compress(b" " * 50_000_000))
    assert (answer.status, answer.json["error"]["code"]) == (413, "body_too_large")
    until(lambda: gateway.metric("sublet_gateway_receiving_bytes") == 0)
    assert gateway.post(ask()).status == 200


def test_c23_a_bomb_is_never_unpacked_beyond_the_limit() -> None:
    bomb = gzip.compress(gzip.compress(b"\0" * 100_000_000))
    bomb = gzip.decompress(bomb)
    tracemalloc.start()
    with pytest.raises(BodyTooLargeError):
        Inflater(1_000_000).feed(bomb)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4_000_000


def test_many_small_members_are_bounded_too() -> None:
    empty = gzip.compress(b"")
    with pytest.raises(BodyTooLargeError):
        Inflater(1_000).feed(empty * 100)
    with pytest.raises(InvalidRequestError):
        Inflater(10_000).feed(zlib.compress(b"not gzip"))


def test_a_body_has_a_bounded_number_of_members() -> None:
    empty = gzip.compress(b"")
    unpacks = Inflater(10_000_000)
    assert unpacks.feed(empty * (MEMBERS_MAX - 1) + gzip.compress(b"{}")) == b"{}"
    unpacks.end()
    with pytest.raises(InvalidRequestError, match="gzip members"):
        unpacks.feed(empty)


# The operator's listener


def test_metrics_are_not_on_the_customers_port_for_anybody(gateway: Running) -> None:
    for extra in ("", "\nx-forwarded-for: 127.0.0.1", f"\nauthorization: Bearer {gateway.key}"):
        answer = exchange(gateway, f"GET /metrics HTTP/1.1\nhost: x{extra}")
        assert (answer.status, answer.json["error"]["code"]) == (404, "route_not_found")


def test_the_operators_listener_serves_this_machine_and_not_what_a_proxy_passes_on(gateway: Running) -> None:
    assert b"sublet_gateway_requests" in gateway.operator_get("/metrics").body
    for extra in ("x-forwarded-for: 203.0.113.9\r\n", "forwarded: for=203.0.113.9\r\n", "x-real-ip: 127.0.0.1\r\n"):
        assert gateway.operator_get("/metrics", extra).status == 401
        customer = gateway.operator_get("/metrics", f"{extra}authorization: Bearer {gateway.key}\r\n")
        assert customer.status == 403
    secret = Accounts(gateway.store).ensure_operator()
    key = f"x-real-ip: 203.0.113.9\r\nx-api-key: {secret}\r\n"
    until(lambda: gateway.operator_get("/metrics", key).status == 200)
    assert gateway.operator_get("/v1/models").status == 404
    assert gateway.operator_get("/v1/chat/completions").status == 404


def test_the_operator_sees_what_health_is_made_of_and_customers_do_not(gateway: Running) -> None:
    found = gateway.operator_get("/health").json
    assert found["status"] == found["journal"] == "ok" and found["models"] == {MODEL: 1}
    assert found["snapshot_age_s"] < 5 and found["in_flight"] == 0
    assert gateway.get("/health").json == {"status": "ok"}


def test_a_taken_operators_port_costs_no_customer_an_answer(make_gateway: Callable[..., Running]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        gateway = make_gateway(operator_port=taken.getsockname()[1])
        assert gateway.post(ask()).status == 200


# Who is behind a proxy


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("203.0.113.9", "127.0.0.1", "203.0.113.9"),
        ("127.0.0.1", "", "127.0.0.1"),
        ("127.0.0.1", "203.0.113.9", "203.0.113.9"),
        ("127.0.0.1", "127.0.0.1, 203.0.113.9", "203.0.113.9"),
        ("127.0.0.1", "198.51.100.1, 203.0.113.9, 10.1.2.3", "203.0.113.9"),
        ("127.0.0.1", "rubbish, 10.1.2.3", "10.1.2.3"),
        ("127.0.0.1", "203.0.113.9:4711", "203.0.113.9"),
        ("127.0.0.1", "[2001:db8::1]:443", "2001:db8::1"),
        ("::ffff:127.0.0.1", "2001:db8::2", "2001:db8::2"),
        ("127.0.0.1", ", ".join(["10.0.0.1"] * 5_000), "10.0.0.1"),
    ],
)
def test_the_client_is_the_right_most_hop_that_is_not_trusted(peer: str, forwarded: str, client: str) -> None:
    proxies = Proxies(["127.0.0.1", "10.0.0.0/8"])
    assert proxies.client(peer, [(b"x-forwarded-for", forwarded.encode())]) == client
    assert Proxies().client(peer, [(b"x-forwarded-for", forwarded.encode())]) == peer


@pytest.mark.parametrize(
    ("forwarded", "client"),
    [
        ("for=203.0.113.9", "203.0.113.9"),
        ('For="[2001:db8::1]:443";proto=https;by=10.0.0.1', "2001:db8::1"),
        ("for=192.0.2.60;proto=http, for=203.0.113.9, for=10.1.2.3;host=x", "203.0.113.9"),
        ('proto=https; for="203.0.113.9:4711"', "203.0.113.9"),
        ("for=unknown, for=10.1.2.3", "10.1.2.3"),
        ("for=_hidden", "127.0.0.1"),
        ("proto=https", "127.0.0.1"),
        ("", "127.0.0.1"),
        # What a client wrote into a quoted string is no element of its own.
        ('for="x, for=198.51.100.1, ";host="a;for=198.51.100.2", for=203.0.113.9', "203.0.113.9"),
        ('for=203.0.113.9;host="unclosed, for=198.51.100.1', "203.0.113.9"),
        (", ".join(["for=10.0.0.1"] * 5_000), "10.0.0.1"),
    ],
)
def test_rfc_7239_names_the_client_as_well(forwarded: str, client: str) -> None:
    headers = [(b"forwarded", forwarded.encode())]
    assert Proxies(["127.0.0.1", "10.0.0.0/8"]).client("127.0.0.1", headers) == client
    assert Proxies().client("127.0.0.1", headers) == "127.0.0.1"
    assert Proxies(["127.0.0.1"]).client("198.51.100.7", headers) == "198.51.100.7"


def test_a_header_that_a_proxy_passes_on_unread_is_not_believed_against_the_one_that_it_writes() -> None:
    proxies = Proxies(["127.0.0.1"])
    for listed, forwarded, client in (
        ("203.0.113.9", "for=203.0.113.9", "203.0.113.9"),
        ("203.0.113.9", "for=198.51.100.1", "127.0.0.1"),
    ):
        headers = [(b"x-forwarded-for", listed.encode()), (b"forwarded", forwarded.encode())]
        assert proxies.client("127.0.0.1", headers) == client


def test_several_forwarding_headers_are_one_list() -> None:
    headers = [(b"x-forwarded-for", b"127.0.0.1"), (b"x-forwarded-for", b"203.0.113.9, 127.0.0.1")]
    assert Proxies(["127.0.0.1"]).client("127.0.0.1", headers) == "203.0.113.9"


def test_settings_of_proxies_and_origins_are_checked(tmp_path: Path) -> None:
    file = tmp_path / "sublet.toml"
    file.write_text('[gateway]\ntrusted_proxies = ["10.0.0.0/8", "::1"]\ncors_origins = ["https://app.example", "*"]\n')
    settings = load(file).gateway
    assert Proxies(settings.trusted_proxies).trusts("10.9.9.9")
    for wrong in (
        'trusted_proxies = ["proxy.example"]',
        'cors_origins = ["app.example/"]',
        'operator_host = "0.0.0.0"',
    ):
        file.write_text(f"[gateway]\n{wrong}\n")
        with pytest.raises(SettingsError):
            load(file)
    with pytest.raises(InvalidInputError):
        Proxies(["proxy.example"])
