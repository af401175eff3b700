"""A server at a URL: it has to answer anything once, and from then on customers' requests say how it is."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from sublet.models.host import REACH_S_MAX, Host, HostSettings
from sublet.models.model import Trouble
from sublet.models.service import Models
from sublet.models.store import TROUBLES_KEPT, save_troubles, troubles_since
from sublet.store import Store
from sublet.values.clock import SimulatedClock


class _Refusing(BaseHTTPRequestHandler):
    """A server without a list of models."""

    def do_GET(self) -> None:
        self.send_error(404)

    def log_message(self, format: str, *args: object) -> None:
        return None


@pytest.fixture
def server() -> Iterator[HTTPServer]:
    made = HTTPServer(("127.0.0.1", 0), _Refusing)
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.shutdown()
    thread.join(5)
    made.server_close()


def url(server: HTTPServer) -> str:
    return f"http://127.0.0.1:{server.server_address[1]}"


class Stage:
    """A URL model and the host that watches it."""

    def __init__(self, store: Store, clock: SimulatedClock, tmp_path: Path, url: str) -> None:
        self.clock, self.at = clock, 0.0
        file = tmp_path / "models.toml"
        file.write_text(f"[[models]]\nname='far'\nengine='openai_url'\nsource={{url='{url}/v1'}}\n")
        self.models = Models(store)
        self.models.add(file)
        self.models.deploy("far", "pool", scale=1)
        self.host = Host(HostSettings(tmp_path), store, tmp_path, monotonic=lambda: self.at)

    def step(self, seconds: float = 3.0) -> list[str]:
        self.models.carry_out(self.models.plan({}))
        self.at += seconds
        self.clock.advance(seconds)
        self.host.step()
        return [item.state for item in self.models.replicas()]


def test_a_server_without_a_list_of_models_serves_and_is_not_judged_by_it(
    store: Store, clock: SimulatedClock, tmp_path: Path, server: HTTPServer
) -> None:
    stage = Stage(store, clock, tmp_path, url(server))
    stage.step()
    assert stage.step() == ["ready"]
    server.shutdown()
    server.server_close()
    # Whether it serves is for those to say who send it customers' requests.
    assert [stage.step() for _ in range(5)] == [["ready"]] * 5


def test_a_server_that_answers_nothing_is_given_up_and_the_list_says_why(
    store: Store, clock: SimulatedClock, tmp_path: Path, server: HTTPServer
) -> None:
    server.shutdown()
    server.server_close()
    stage = Stage(store, clock, tmp_path, url(server))
    assert stage.step() == ["starting"]
    assert stage.step(REACH_S_MAX + 1) == []
    row = next(row for row in stage.models.rows() if row.entry.name == "far")
    assert "does not answer" in row.ended and row.as_dict()["ended"] == row.ended
    assert stage.step() == [], "it is not tried again at once"


def test_what_gateways_say_replaces_what_they_said_and_is_forgotten_after_a_day(
    any_store: Store, clock: SimulatedClock
) -> None:
    def say(run: str, *failures: int) -> None:
        now = clock.now()
        told = [Trouble(f"rep_{count}", run, count, "failed", 500, "words", now, now) for count in failures]
        any_store.write(lambda connection: save_troubles(connection, run, told, now))

    def known() -> list[tuple[str, int]]:
        with any_store.read() as connection:
            found = troubles_since(connection, clock.now() - timedelta(days=9))
        return [(item.run, item.failures) for item in found]

    say("one", 1, 2)
    say("two", 2)
    assert known() == [("one", 1), ("one", 2), ("two", 2)]
    say("one", 3)
    assert known() == [("two", 2), ("one", 3)]
    clock.advance(TROUBLES_KEPT.total_seconds() + 1)
    say("one")
    assert known() == []
