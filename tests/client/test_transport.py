"""The clients over real connections: retries, broken connections, streams, and both clients saying the same."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, ClassVar

import pytest

from sublet.client import AsyncClient, Client
from sublet.fleet.wire import PoolList
from sublet.values.errors import InvalidInputError, NotFoundError, UnavailableError

Said = tuple[int, dict[str, str], bytes] | None


class Script(BaseHTTPRequestHandler):
    """Answers as the test says, one after the other; None breaks the connection off."""

    protocol_version = "HTTP/1.1"
    answers: ClassVar[list[Said]] = []
    asked: ClassVar[list[tuple[str, str, dict[str, str]]]] = []

    def answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.asked.append((self.command, self.path, {name.lower(): text for name, text in self.headers.items()}))
        said = self.answers.pop(0)
        if said is None:
            self.close_connection = True
            return
        status, headers, body = said
        self.send_response(status)
        for name, text in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, text)
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PATCH = do_DELETE = answer  # noqa: N815

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def url(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    Script.answers, Script.asked = [], []
    monkeypatch.setattr("sublet.client.clients.time.sleep", lambda s: None)

    async def at_once(s: float) -> None:
        return None

    monkeypatch.setattr("sublet.client.asynchronous.asyncio.sleep", at_once)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Script)
    Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


POOLS: Said = (200, {}, b'{"pools": [], "next": null}')
BUSY: Said = (503, {"Retry-After": "1"}, b'{"error": {"code": "unavailable", "message": "busy"}}')


def ask_both(url: str, answers: list[Said]) -> list[Any]:
    """What the one client and the other make of the same answers."""
    found: list[Any] = []
    Script.answers = list(answers)
    with Client(url, "key") as client:
        try:
            found.append(client.fleet.list_pools())
        except Exception as error:
            found.append(error)

    async def ask() -> None:
        async with AsyncClient(url, "key") as client:
            found.append(await client.fleet.list_pools())

    Script.answers = list(answers)
    try:
        asyncio.run(ask())
    except Exception as error:
        found.append(error)
    return found


@pytest.mark.parametrize("answers", [[POOLS], [BUSY, POOLS], [None, POOLS], [(502, {}, b"<html>"), BUSY, None, POOLS]])
def test_what_passes_is_waited_out(url: str, answers: list[Said]) -> None:
    assert ask_both(url, answers) == [PoolList(pools=[], next=None)] * 2
    assert {headers["authorization"] for _, _, headers in Script.asked} == {"Bearer key"}


def test_what_stays_is_told_after_four_tries(url: str) -> None:
    first, second = ask_both(url, [BUSY] * 9)
    assert isinstance(first, UnavailableError) and isinstance(second, UnavailableError)
    assert (first.message, len(Script.asked)) == ("busy", 8)


def test_a_post_is_repeated_under_one_key_and_a_patch_never(url: str) -> None:
    Script.answers = [None, BUSY, (200, {}, b"{}")]
    client = Client(url, "key")
    client.document("leases.end", "lse_1")
    keys = {headers["idempotency-key"] for _, _, headers in Script.asked}
    assert (len(Script.asked), len(keys)) == (3, 1)
    Script.answers, Script.asked[:] = [None, (200, {}, b"{}")], []
    with pytest.raises(UnavailableError, match="does not answer"):
        client.document("ledger.change_budget", "bud_1", body={"limit": "5"})
    assert len(Script.asked) == 1


def test_nothing_is_tried_again_where_nobody_listens() -> None:
    with pytest.raises(UnavailableError, match=r"does not answer at http://127\.0\.0\.1:9 "):
        Client("http://127.0.0.1:9", "key").fleet.list_pools()


def test_a_redirect_is_not_followed_with_the_key(url: str) -> None:
    Script.answers = [(302, {"Location": f"{url}/elsewhere"}, b"")]
    with pytest.raises(Exception, match="answered 302"):
        Client(url, "key").fleet.list_pools()
    assert len(Script.asked) == 1


def test_a_stream_comes_in_parts_and_a_refused_one_is_an_error(url: str) -> None:
    Script.answers = [
        (200, {}, b"x" * 200_000),
        (404, {}, json.dumps({"error": {"code": "not_found", "message": "no"}}).encode()),
    ]
    client = Client(url, "key")
    parts = list(client.bytes("ledger.read_export", "usage"))
    assert len(parts) > 1 and sum(map(len, parts)) == 200_000
    with pytest.raises(NotFoundError, match="no"):
        list(client.bytes("ledger.read_export", "usage"))


@pytest.mark.parametrize(
    "address", ["", "localhost:80", "ftp://x", "http://", "http://[::1", "http://x:y", "http://x?a=1"]
)
def test_what_can_be_no_address_is_refused(address: str) -> None:
    with pytest.raises(InvalidInputError, match="not a valid URL"):
        Client(address, "key")
    with pytest.raises(InvalidInputError, match="not a valid URL"):
        AsyncClient(address, "key")


@pytest.mark.parametrize("key", ["", "sublet_\u2026", "\u00e9", "sublet_1\n"])
def test_what_can_be_no_key_is_refused(key: str) -> None:
    with pytest.raises(InvalidInputError, match="copy it exactly as it was shown"):
        Client("http://x", key)
