"""Every shipped engine passes its suite, and the suite catches engines that break a promise each."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from sublet.conformance import Check, NonconformingError
from sublet.conformance.engines import CHECKS, EngineStage
from sublet.models.catalog import BUILT_IN
from sublet.models.engines import Engine, make_engine
from sublet.models.engines.kinds import KINDS
from sublet.models.engines.openai_url import OpenAIUrlEngine
from sublet.models.model import CatalogEntry, EngineMetrics

MODEL = "words"


class Server:
    """Answers chats with `hello`, as often as it may, on a port of its own. `flaws` name what it does wrong."""

    def __init__(self, *flaws: str) -> None:
        self.flaws = set(flaws)
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: Any) -> None:
                return None

            def do_GET(self) -> None:
                self.answer(200, json.dumps({"data": []}).encode())

            def do_POST(self) -> None:
                asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
                if self.path == "/tokenize":
                    words = sum(len(message["content"].split()) for message in asked["messages"])
                    self.answer(200, json.dumps({"count": 7 if "counts_alike" in outer.flaws else words}).encode())
                elif not isinstance(asked["messages"], list) and "takes_anything" not in outer.flaws:
                    self.answer(500 if "breaks" in outer.flaws else 400, b"{}")
                else:
                    self.answer(200, outer.chat(asked))

            def answer(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()

    def chat(self, asked: dict[str, Any]) -> bytes:
        count = 20 if "talks_on" in self.flaws else min(asked["max_tokens"], 5)
        usage = {"prompt_tokens": 3, "completion_tokens": count}
        if "counts_nothing" in self.flaws:
            usage = {}
        text = "hello " * count
        if not asked.get("stream"):
            choice = {"message": {"content": None if "silent" in self.flaws else text}, "finish_reason": "length"}
            return json.dumps({"choices": [choice], "usage": usage}).encode()
        chunks: list[dict[str, Any]] = [{"choices": [{"delta": {"content": text}}]}]
        if "streams_no_usage" not in self.flaws:
            chunks.append({"choices": [], "usage": usage})
        end = "" if "never_done" in self.flaws else "data: [DONE]\n\n"
        return ("".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + end).encode()

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()


class OwnEngine(OpenAIUrlEngine):
    """An engine that Sublet runs itself: a server that begins with `start` and ends with `stop`."""

    def __init__(self, *flaws: str) -> None:
        super().__init__(CatalogEntry(MODEL, "openai_url", {"url": "http://127.0.0.1:9"}))
        self.flaws = flaws
        self.server: Server | None = None

    @property
    def endpoint(self) -> str:
        return self._endpoint + ("/v1" if "endpoint_with_path" in self.flaws else "")

    @property
    def pid(self) -> int | None:
        return None if "hides_its_process" in self.flaws else 1

    def start(self) -> None:
        if "waits" in self.flaws:
            time.sleep(0.3)
        self.server = Server(*self.flaws)
        self._endpoint = self.server.url

    def running(self) -> bool:
        return self.server is not None or "runs_for_ever" in self.flaws

    def health(self) -> bool:
        return self.server is not None and "never_healthy" not in self.flaws

    def last_words(self) -> str:
        return "one\ntwo" if "wordy" in self.flaws else "stopped"

    def metrics(self) -> EngineMetrics:
        return EngineMetrics(tokens_input=-1 if "counts_down" in self.flaws else 0)

    def stop(self, grace_s: float = 2.0) -> None:
        if self.server is not None and "keeps_on" not in self.flaws:
            self.server.close()
            self.server = None


def own(*flaws: str) -> EngineStage:
    return EngineStage(lambda: OwnEngine(*flaws), MODEL, patience_s=2.0 if "never_healthy" not in flaws else 0.1)


@pytest.mark.parametrize("check", CHECKS, ids=str)
def test_an_engine_of_our_own_conforms(check: Check[EngineStage]) -> None:
    check(own())


@pytest.mark.parametrize("check", CHECKS, ids=str)
def test_openai_url_conforms(check: Check[EngineStage]) -> None:
    server = Server()
    entry = CatalogEntry(MODEL, "openai_url", {"url": f"{server.url}/v1"}, accelerators=0)
    make: Callable[[], Engine] = lambda: make_engine(entry, "rep_1", Path(), 1)  # noqa: E731
    check(EngineStage(make, MODEL, elsewhere=True, patience_s=5.0))
    server.close()


@pytest.mark.real
@pytest.mark.parametrize("check", CHECKS, ids=str)
def test_llamacpp_conforms(check: Check[EngineStage], tmp_path: Path) -> None:
    check(EngineStage(lambda: make_engine(BUILT_IN, "rep_1", tmp_path, 1), BUILT_IN.name))


def test_every_kind_of_the_registry_is_here() -> None:
    assert set(KINDS) == {"llamacpp", "openai_url"}
    assert all(callable(kind.make()) for kind in KINDS.values())
    assert all(check.promise.endswith(".") for check in CHECKS)


BROKEN = {
    "runs_for_ever": "it_does_not_run_before_its_start",
    "waits": "start_returns_at_once",
    "endpoint_with_path": "it_says_where_it_answers",
    "hides_its_process": "it_says_where_it_answers",
    "never_healthy": "it_answers_a_chat_and_counts_its_tokens",
    "silent": "it_answers_a_chat_and_counts_its_tokens",
    "counts_nothing": "it_answers_a_chat_and_counts_its_tokens",
    "streams_no_usage": "it_streams_a_chat_and_counts_its_tokens",
    "never_done": "it_streams_a_chat_and_counts_its_tokens",
    "talks_on": "it_keeps_to_the_tokens_it_may_make",
    "takes_anything": "a_bad_request_is_refused_and_harms_nothing",
    "breaks": "a_bad_request_is_refused_and_harms_nothing",
    "counts_alike": "tokens_of_a_prompt_are_counted",
    "counts_down": "its_counters_only_grow",
    "wordy": "it_stops_and_starts_again",
    "keeps_on": "it_stops_and_starts_again",
}


@pytest.mark.parametrize(("flaw", "promise"), BROKEN.items())
def test_an_engine_that_breaks_a_promise_is_caught(flaw: str, promise: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sublet.conformance.engines.START_S_MAX", 0.2)
    [check] = [check for check in CHECKS if check.name == promise]
    with pytest.raises(NonconformingError):
        check(own(flaw))
