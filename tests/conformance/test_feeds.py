"""Every shipped feed passes its suite, and the suite catches feeds that break a promise each."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from sublet.conformance import Check, NonconformingError
from sublet.conformance.feeds import CHECKS, FeedStage
from sublet.demand.feeds.csv_feed import CsvFeed
from sublet.demand.feeds.feed import Feed, FeedSite
from sublet.demand.feeds.registry import KINDS, feed_of
from sublet.demand.model import Sample
from sublet.demand.service import Demand
from sublet.store import Store
from sublet.store.schema import migrate
from sublet.values.clock import SimulatedClock, format_time, to_micros
from sublet.values.errors import SubletError


@pytest.fixture
def site(tmp_path: Path, clock: SimulatedClock) -> Iterator[FeedSite]:
    store = Store(f"sqlite:///{tmp_path}/books.db", clock)
    migrate(store)
    yield FeedSite(Demand(store), "pool_1", 8, clock, 60, {})
    store.close()


def advance(site: FeedSite) -> Callable[[float], object]:
    assert isinstance(site.clock, SimulatedClock)
    return site.clock.advance


def on_a_file(site: FeedSite, path: Path, make: Callable[[FeedSite], Feed] | None = None) -> FeedStage:
    site = replace(site, options={"path": str(path)})

    def publish(samples: Sequence[Sample]) -> None:
        rows = [f"{format_time(item.time)},{item.capacity},{item.in_use}" for item in samples]
        path.write_text("\n".join(["time,capacity,in_use", *rows]) + "\n")

    return FeedStage(
        make or (lambda given: feed_of("csv", given)),
        site,
        publish,
        silence=lambda: path.unlink(missing_ok=True),
        garble=lambda: path.write_text("time,capacity,in_use\nnever,1,1\n"),
        advance=advance(site),
    )


class Prometheus:
    """Answers range queries for `owner` and `all` from what was published, on a port of its own."""

    def __init__(self) -> None:
        self.samples: list[Sample] = []
        self.mood = ""
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: Any) -> None:
                return None

            def do_GET(self) -> None:
                asked = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
                body = b"demand is fine" if outer.mood == "garbled" else outer.answer(asked)
                self.send_response(503 if outer.mood == "silent" else 200)
                self.end_headers()
                self.wfile.write(b"" if outer.mood == "silent" else body)

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()

    def answer(self, asked: dict[str, str]) -> bytes:
        begin, end = float(asked["start"]), float(asked["end"])
        values = [
            [at, str(item.in_use if asked["query"] == "owner" else item.capacity)]
            for item in self.samples
            if begin <= (at := to_micros(item.time) / 1e6) <= end
        ]
        result = [{"metric": {}, "values": values}] if values else []
        return json.dumps({"status": "success", "data": {"resultType": "matrix", "result": result}}).encode()

    def publish(self, samples: Sequence[Sample]) -> None:
        self.samples, self.mood = list(samples), ""

    def become(self, mood: str) -> None:
        self.mood = mood


@pytest.mark.parametrize("check", CHECKS, ids=str)
def test_csv_conforms(site: FeedSite, tmp_path: Path, check: Check[FeedStage]) -> None:
    check(on_a_file(site, tmp_path / "demand.csv"))


@pytest.mark.parametrize("check", CHECKS, ids=str)
def test_prometheus_conforms(site: FeedSite, check: Check[FeedStage]) -> None:
    server = Prometheus()
    url = f"http://127.0.0.1:{server.http.server_address[1]}"
    site = replace(site, options={"url": url, "in_use": "owner", "capacity": "all"})
    check(
        FeedStage(
            lambda given: feed_of("prometheus", given),
            site,
            server.publish,
            lambda: server.become("silent"),
            lambda: server.become("garbled"),
            advance(site),
        )
    )
    server.http.shutdown()
    server.http.server_close()


def test_every_kind_of_the_registry_is_here() -> None:
    assert set(KINDS) == {"prometheus", "csv"}
    assert all(check.promise.endswith(".") for check in CHECKS)


class Flawed:
    """A feed of the file with one thing wrong."""

    def __init__(self, site: FeedSite, flaw: str) -> None:
        self.site, self.flaw = site, flaw
        self.inner = CsvFeed(site, Path(str(site.options["path"])))

    def collect(self) -> int:
        if self.flaw == "says_nothing_of_silence":
            with contextlib.suppress(SubletError):
                return self.inner.collect()
            return 0
        taken = self.inner.collect()
        known = self.site.demand.latest(self.site.pool_id)
        assert known is not None
        if self.flaw == "fills_gaps" and taken:
            made_up = replace(known, time=known.time - timedelta(seconds=10 * self.site.step_s))
            self.site.demand.record_samples(self.site.pool_id, [made_up])
        if self.flaw == "counts_wrong":
            return taken * 2
        if self.flaw == "never_ends":
            return taken or 1
        return taken


class Truncated(CsvFeed):
    """Looks at the latest rows alone."""

    def collect(self) -> int:
        path = Path(str(self._site.options["path"]))
        if path.is_file():
            lines = path.read_text().splitlines()
            path.write_text("\n".join([lines[0], *lines[-20:]]) + "\n")
        return super().collect()


@pytest.mark.parametrize(
    ("flaw", "promise"),
    [
        ("says_nothing_of_silence", "silence_is_said_and_changes_nothing"),
        ("says_nothing_of_silence", "nonsense_is_refused_and_changes_nothing"),
        ("fills_gaps", "a_gap_stays_a_gap"),
        ("counts_wrong", "it_brings_what_is_there"),
        ("never_ends", "what_is_known_is_not_taken_again"),
        ("truncates", "a_long_history_is_made_up"),
    ],
)
def test_a_feed_that_breaks_a_promise_is_caught(site: FeedSite, tmp_path: Path, flaw: str, promise: str) -> None:
    [check] = [check for check in CHECKS if check.name == promise]
    path = tmp_path / "demand.csv"

    def make(given: FeedSite) -> Feed:
        return Truncated(given, path) if flaw == "truncates" else Flawed(given, flaw)

    with pytest.raises(NonconformingError):
        check(on_a_file(site, path, make))
