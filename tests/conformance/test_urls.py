"""`sublet models check` sees what a server can do, and catches one that lies, lie by lie."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from sublet.commands.models import app
from sublet.conformance.urls.probes import PROBES
from sublet.conformance.urls.report import Report, catalog_name, checked, discovered, endpoint_of
from sublet.conformance.urls.target import BROKEN, IGNORED, REFUSED, UNKNOWN, WORKS, Target
from sublet.models.catalog import BUILT_IN, parse_toml
from sublet.models.engines import make_engine
from sublet.models.model import CAPABILITIES
from sublet.values.errors import InvalidInputError, UnavailableError

CONTEXT = 512
WORDS = [f"word{number}" for number in range(60)]
KEY = "a-secret"


class Lying:
    """A server with everything that OpenAI's API has, but for its `lies`."""

    def __init__(self, *lies: str) -> None:
        self.lies = set(lies)
        self.running = 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: Any) -> None:
                return None

            def do_GET(self) -> None:
                found = outer.get(self.path)
                self.answer(404 if found is None else 200, found if found is not None else {"error": "no"})

            def do_POST(self) -> None:
                asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
                if outer.keyed and self.headers.get("authorization") != f"Bearer {KEY}":
                    self.answer(401, {"error": {"message": "no such key"}})
                    return
                status, found = outer.post(self.path, asked)
                if status != 200 or not asked.get("stream"):
                    self.answer(status, found)
                    return
                if asked["max_tokens"] > 100 and "works_on" in outer.lies:
                    outer.running = 1
                body = b"".join(
                    b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in outer.chunks(asked, found)
                )
                self.answer(200, body + (b"" if "never_done" in outer.lies else b"data: [DONE]\n\n"))

            def answer(self, status: int, body: Any) -> None:
                raw = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(status)
                self.send_header("content-length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}/v1"
        self.keyed = "wants_a_key" in self.lies
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()

    def get(self, path: str) -> Any:
        if path == "/v1/models":
            return {"data": [{"id": "Org/Words", "max_model_len": CONTEXT}]}
        if path == "/version":
            return {"version": "0.1"}
        if path == "/metrics" and "no_metrics" not in self.lies:
            return f'vllm:num_requests_running{{engine="0"}} {float(self.running)}\n'.encode()
        return None

    def post(self, path: str, asked: dict[str, Any]) -> tuple[int, Any]:
        if path == "/tokenize":
            return (404, {}) if "no_tokenize" in self.lies else (200, {"count": 5})
        if path == "/v1/embeddings":
            vectors = [
                {"embedding": [float(number if "one_vector" not in self.lies else 0), 1.0]} for number in range(2)
            ]
            return 200, {"data": vectors, "usage": {"prompt_tokens": 6}}
        if path == "/v1/completions":
            return ("no_completions" in self.lies and (404, {"error": "none"})) or (200, self.complete(asked))
        if not isinstance(asked["messages"], list):
            return (500 if "breaks" in self.lies else 200 if "takes_anything" in self.lies else 400), {}
        parts = [message["content"] for message in asked["messages"]]
        texts = [part if isinstance(part, str) else part[0]["text"] for part in parts]
        prompt = sum(len(text.split()) for text in texts) + 2
        if prompt > CONTEXT and "cuts" not in self.lies:
            return 400, {"error": {"message": "too long"}}
        if any(isinstance(part, list) for part in parts):
            if "no_images" in self.lies:
                return 500, {"error": {"message": "no images here"}}
            prompt += 0 if "blind" in self.lies else 50
        if "tools" in asked and "no_tools" in self.lies:
            return 422, {"detail": "no tools"}
        return 200, self.chat(asked, 7 if "counts_alike" in self.lies else prompt)

    def chat(self, asked: dict[str, Any], prompt: int) -> dict[str, Any]:
        limit = 40 if "talks_on" in self.lies else asked["max_tokens"]
        words = WORDS[:limit]
        if asked.get("temperature") and "seedless" in self.lies:
            self.seeds = getattr(self, "seeds", 0) + 1
            words = WORDS[self.seeds : self.seeds + limit]
        finish = "length"
        for stop in asked.get("stop", ()) if "never_stops" not in self.lies else ():
            words, finish = words[: words.index(stop) + ("stops_late" in self.lies)], "stop"
        message: dict[str, Any] = {"content": " ".join(words)}
        if "response_format" in asked and "free_form" not in self.lies:
            open_ = "yes" if "near_the_schema" in self.lies else True
            message["content"], finish = json.dumps({"city": "Rome", "open": open_}), "stop"
        if "tools" in asked and "ignores_tools" not in self.lies:
            arguments = json.dumps({} if "bad_arguments" in self.lies else {"city": "Rome"})
            message = {"content": None, "tool_calls": [{"function": {"name": "weather", "arguments": arguments}}]}
        if "reasoning_effort" in asked and "thoughtless" not in self.lies:
            message["reasoning_content"] = "hm"
        choice: dict[str, Any] = {"message": message, "finish_reason": finish}
        if asked.get("logprobs") and "no_logprobs" not in self.lies:
            top = [{"token": "a", "logprob": -0.1}] * (1 if "one_logprob" in self.lies else 2)
            choice["logprobs"] = {"content": [{"token": "a", "logprob": -0.1, "top_logprobs": top}]}
        answer = {"choices": [choice] * (1 if "one_answer" in self.lies else asked.get("n", 1))}
        usage = {"prompt_tokens": prompt, "completion_tokens": max(1, len(words))}
        return answer if "no_usage" in self.lies else answer | {"usage": usage}

    def complete(self, asked: dict[str, Any]) -> dict[str, Any]:
        prompts = asked["prompt"] if isinstance(asked["prompt"], list) else [asked["prompt"]]
        suffix = asked.get("suffix") if "no_suffix" not in self.lies else ""
        echoes = asked.get("echo") and "no_echo" not in self.lies
        choices = [
            {
                "text": (prompt if echoes else "") + " " + " ".join(WORDS[: asked["max_tokens"]]) + (suffix or ""),
                "logprobs": {"token_logprobs": [None, -1.0, -2.0]} if "logprobs" in asked and echoes else None,
                "finish_reason": "length",
            }
            for prompt in (prompts[:1] if "one_prompt" in self.lies else prompts)
        ]
        return {"choices": choices, "usage": {"prompt_tokens": 4, "completion_tokens": 2}}

    def chunks(self, asked: dict[str, Any], whole: dict[str, Any]) -> Iterator[dict[str, Any]]:
        options = asked.get("stream_options") or {}
        usage = whole.get("usage", {"prompt_tokens": 4, "completion_tokens": 1})
        for word in whole["choices"][0]["message"]["content"].split(" "):
            chunk: dict[str, Any] = {"choices": [{"delta": {"content": "" if "mute" in self.lies else word}}]}
            if options.get("continuous_usage_stats") and "no_running" not in self.lies:
                chunk["usage"] = usage
            yield chunk
        yield {"choices": [{"delta": {}, "finish_reason": None if "endless" in self.lies else "length"}]}
        if options.get("include_usage") and "streams_no_usage" not in self.lies:
            more = {"prompt_tokens": usage["prompt_tokens"] + 9} if "counts_twice" in self.lies else {}
            yield {"choices": [], "usage": usage | more}


def report_of(*lies: str, claims: tuple[str, ...] = ()) -> Report:
    server = Lying(*lies)
    target = Target(endpoint_of(server.url), key=KEY, patience_s=20.0, wait=lambda seconds: None)
    try:
        return checked(target, server.url, claims)
    finally:
        server.close()


def test_a_server_that_can_do_everything_passes_and_its_entry_is_read_by_the_catalog() -> None:
    report = report_of("wants_a_key")
    assert {item.name: item.verdict for item in report.findings} == {probe.name: WORKS for probe in PROBES}
    assert report.passed and not report.failing
    assert (report.model, report.dialect, report.context_tokens) == ("Org/Words", "vllm", CONTEXT)
    [entry] = parse_toml(report.entry("WORDS_KEY").encode(), "file")
    assert (entry.name, entry.context_tokens, entry.capabilities) == ("org/words", CONTEXT, set(report.capabilities))
    assert entry.source == {"url": report.url, "model": "Org/Words", "key_variable": "WORDS_KEY", "dialect": "vllm"}


LIES = {
    "no_usage": ("usage", BROKEN),
    "counts_alike": ("usage", BROKEN),
    "talks_on": ("max_tokens", BROKEN),
    "mute": ("stream", BROKEN),
    "endless": ("stream", BROKEN),
    "never_done": ("stream", BROKEN),
    "streams_no_usage": ("stream_usage", IGNORED),
    "counts_twice": ("stream_usage", BROKEN),
    "no_running": ("running_usage", IGNORED),
    "never_stops": ("stop", IGNORED),
    "stops_late": ("stop", BROKEN),
    "seedless": ("seed", IGNORED),
    "one_answer": ("n", IGNORED),
    "no_logprobs": ("logprobs", IGNORED),
    "one_logprob": ("logprobs", BROKEN),
    "no_tools": ("tools", REFUSED),
    "ignores_tools": ("tools", IGNORED),
    "bad_arguments": ("tools", BROKEN),
    "free_form": ("json_schema", IGNORED),
    "near_the_schema": ("json_schema", BROKEN),
    "blind": ("images", IGNORED),
    "no_images": ("images", REFUSED),
    "thoughtless": ("reasoning", IGNORED),
    "works_on": ("cancel", BROKEN),
    "no_metrics": ("cancel", UNKNOWN),
    "takes_anything": ("bad_request", BROKEN),
    "breaks": ("bad_request", BROKEN),
    "no_completions": ("completions", REFUSED),
    "one_prompt": ("completions_list", BROKEN),
    "no_echo": ("completions_echo", IGNORED),
    "no_suffix": ("suffix", IGNORED),
    "one_vector": ("embeddings", BROKEN),
    "no_tokenize": ("tokenize", REFUSED),
    "cuts": ("context_limit", BROKEN),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_is_seen(lie: str) -> None:
    name, verdict = LIES[lie]
    report = report_of(lie)
    found = {item.name: item for item in report.findings}[name]
    assert found.verdict == verdict, found.said
    fails = verdict == BROKEN or (found.core and verdict != UNKNOWN)
    assert (found in report.failing) is fails and (not fails or not report.passed)
    capability = next(probe.capability for probe in PROBES if probe.name == name)
    assert not capability or capability not in report.capabilities


@pytest.mark.parametrize(
    ("lie", "claim"),
    [("no_tools", "tools"), ("ignores_tools", "tools"), ("no_completions", "suffix"), ("no_images", "images")],
)
def test_a_claim_that_does_not_hold_fails(lie: str, claim: str) -> None:
    assert report_of(lie).passed
    report = report_of(lie, claims=("chat", claim))
    assert claim in {item.name for item in report.failing} and not report.passed


def test_what_can_not_be_asked_is_refused_in_words() -> None:
    server = Lying()
    endpoint = endpoint_of(server.url)
    with pytest.raises(InvalidInputError, match="no model 'other'; it has Org/Words"):
        checked(Target(endpoint, "other"), server.url)
    with pytest.raises(InvalidInputError, match="no capability that can be tried"):
        checked(Target(endpoint), server.url, ["flying"])
    server.close()
    with pytest.raises(UnavailableError, match="does not answer"):
        checked(Target(endpoint, patience_s=1.0), server.url)
    with pytest.raises(InvalidInputError, match="is not a URL"):
        endpoint_of("127.0.0.1:8000")
    assert catalog_name("Org/Größe v2") == "org/gr--e-v2" and catalog_name("???") == "model"
    assert {probe.capability for probe in PROBES} - {""} <= set(CAPABILITIES)


@pytest.mark.parametrize("url", ["http://x:port", "http://127.0.0.1:99999", "http://[::1", f"http://{'a' * 80}/v1"])
def test_a_url_that_can_not_be_asked_is_refused_in_words(url: str) -> None:
    with pytest.raises(InvalidInputError, match="no host or port that can be asked"):
        endpoint_of(url)


@pytest.mark.parametrize("listed", [5, "abc", [{"id": None}], [7], {"id": "m"}])
def test_a_list_of_another_shape_is_a_list_without_models(monkeypatch: pytest.MonkeyPatch, listed: object) -> None:
    monkeypatch.setattr(Target, "get", lambda self, path: (200, {"data": listed}))
    with pytest.raises(InvalidInputError, match="lists no models"):
        discovered(Target("http://127.0.0.1:1"))


def test_a_context_of_another_shape_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {
        "/v1/models": {"data": [{"id": "m", "max_model_len": True}]},
        "/props": {"default_generation_settings": 5},
    }
    monkeypatch.setattr(Target, "get", lambda self, path: (200, answers.get(path)))
    target = Target("http://127.0.0.1:1")
    assert (discovered(target), target.facts) == ("llamacpp", {})


def test_the_command_says_what_was_seen_and_its_exit_code_whether_all_of_it_holds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WORDS_KEY", KEY)
    good, bad, run = Lying("wants_a_key"), Lying("streams_no_usage"), CliRunner()
    shown = run.invoke(app, ["check", good.url, "--key-variable", "WORDS_KEY", "--claims", "chat, tools"])
    assert shown.exit_code == 0 and 'capabilities = ["chat", "completions"' in shown.output, shown.output
    assert KEY not in shown.output
    told = run.invoke(app, ["check", good.url, "--key-variable", "WORDS_KEY", "--json"])
    assert json.loads(told.output)["passed"] is True
    entry = run.invoke(app, ["check", good.url, "--key-variable", "WORDS_KEY", "--entry"])
    assert parse_toml(entry.output.encode(), "file")[0].name == "org/words"
    failed = run.invoke(app, ["check", bad.url])
    assert failed.exit_code == 1 and "FAILS" in failed.output
    with pytest.raises(InvalidInputError, match="WORDS_KEY is not set"):
        monkeypatch.delenv("WORDS_KEY")
        run.invoke(app, ["check", good.url, "--key-variable", "WORDS_KEY"], catch_exceptions=False)
    with pytest.raises(InvalidInputError, match="no header may have"):
        monkeypatch.setenv("WORDS_KEY", KEY + "\n")
        run.invoke(app, ["check", good.url, "--key-variable", "WORDS_KEY"], catch_exceptions=False)
    good.close()
    bad.close()


@pytest.mark.real
def test_llamacpp_is_what_its_entry_says(tmp_path: Path) -> None:
    engine = make_engine(BUILT_IN, "rep_1", tmp_path, 1)
    engine.start()
    try:
        target = Target(engine.endpoint, patience_s=300.0)
        for _ in range(6000):
            if engine.health():
                break
            assert engine.running(), engine.last_words()
            target.wait(0.1)
        report = checked(target, "http://127.0.0.1:9/v1", BUILT_IN.capabilities)
    finally:
        engine.stop()
    seen = {item.name: item.verdict for item in report.findings}
    assert report.passed, report.failing
    assert set(report.capabilities) == BUILT_IN.capabilities
    assert (report.dialect, report.context_tokens) == ("llamacpp", BUILT_IN.context_tokens)
    assert {seen[name] for name in ("running_usage", "stop", "seed", "logprobs", "cancel", "context_limit")} == {WORKS}
    assert (seen["tools"], seen["embeddings"]) == (IGNORED, REFUSED)
