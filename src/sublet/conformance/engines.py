"""What every model engine must do. The stage makes engines that are not started, and says how long they may take."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from sublet.conformance.check import Checks, NonconformingError, expect
from sublet.models.engines import Engine
from sublet.models.engines.wire import ask
from sublet.models.model import EngineMetrics, EngineStartError

START_S_MAX = 5.0
"""How long `start` may take: the host does not wait for a model to load."""
MESSAGES = [{"role": "user", "content": "Say hello."}]
LONGER = [{"role": "user", "content": "Say hello, and then count from one to twenty in words, slowly. " * 4}]


@dataclass(frozen=True, slots=True)
class EngineStage:
    """`make` gives an engine that is not started; `model` is the name that it answers to, `key` its own API key.

    `wait` lets a little time pass. `elsewhere` says that somebody else runs the server, so that Sublet can't stop it.
    """

    make: Callable[[], Engine]
    model: str
    wait: Callable[[], object] = lambda: time.sleep(0.02)
    elsewhere: bool = False
    key: str | None = None
    patience_s: float = 120.0

    @contextmanager
    def serving(self) -> Iterator[Engine]:
        """An engine that answers; stopped at the end."""
        engine = self.make()
        engine.start()
        try:
            self.until_healthy(engine)
            yield engine
        finally:
            engine.stop()

    def until_healthy(self, engine: Engine) -> None:
        """Let time pass until it answers. Raises NonconformingError where it ends or takes too long."""
        deadline = time.monotonic() + self.patience_s
        while not engine.health():
            expect(engine.running(), f"the engine ended before it answered: {engine.last_words()}")
            if time.monotonic() > deadline:
                raise NonconformingError(
                    f"after {self.patience_s:g} s the engine does not answer: {engine.last_words()}"
                )
            self.wait()

    def ask(self, engine: Engine, **fields: Any) -> tuple[int, bytes]:
        """Status and body of a chat."""
        body = {"model": self.model, "messages": MESSAGES, "max_tokens": 8} | fields
        return ask(engine.endpoint, "POST", "/v1/chat/completions", body, key=self.key, timeout_s=self.patience_s)

    def chat(self, engine: Engine, **fields: Any) -> dict[str, Any]:
        """The answer to a chat. Raises NonconformingError where it is none."""
        status, body = self.ask(engine, **fields)
        expect(status == 200, f"a chat is answered with {status}: {body[:200]!r}")
        return _document(body)


_check: Checks[EngineStage] = Checks()


@_check
def it_does_not_run_before_its_start(stage: EngineStage) -> None:
    """An engine that was not started does not answer; to stop it is harmless."""
    engine = stage.make()
    if not stage.elsewhere:
        expect(not engine.running() and not engine.health(), "an engine that was not started runs or answers")
    engine.stop()


@_check
def start_returns_at_once(stage: EngineStage) -> None:
    """`start` does not wait for the model to load; stopped right after, it is gone."""
    engine = stage.make()
    began = time.monotonic()
    engine.start()
    took_s = time.monotonic() - began
    engine.stop()
    expect(took_s <= START_S_MAX, f"start took {took_s:.1f} s, at most {START_S_MAX:g}")
    expect(stage.elsewhere or not engine.running(), "it runs although it was stopped")


@_check
def it_says_where_it_answers(stage: EngineStage) -> None:
    """The endpoint is `unix:///path` or an http(s) base URL without a trailing slash; the process is named where it is here."""
    with stage.serving() as engine:
        schemes = ("unix:///", "http://", "https://")
        expect(engine.endpoint.startswith(schemes), f"the endpoint is {engine.endpoint!r}; begin it with {schemes}")
        expect(not engine.endpoint.endswith(("/", "/v1")), f"the endpoint {engine.endpoint!r} ends in a slash or /v1")
        expect(engine.running(), "it answers and is said not to run")
        expect(stage.elsewhere == (engine.pid is None), "an engine elsewhere has no pid here, any other one has")


@_check
def it_answers_a_chat_and_counts_its_tokens(stage: EngineStage) -> None:
    """A chat has an answer, why it ended, and how many tokens it took, which is what is billed."""
    with stage.serving() as engine:
        answer = stage.chat(engine)
        choice = answer["choices"][0] if answer.get("choices") else {}
        expect(isinstance(choice.get("message", {}).get("content"), str), f"the answer has no text: {answer}")
        expect(choice.get("finish_reason") in ("stop", "length"), f"it ended by {choice.get('finish_reason')!r}")
        _usage(answer)


@_check
def it_streams_a_chat_and_counts_its_tokens(stage: EngineStage) -> None:
    """A streamed chat is a sequence of events with its text, then the usage, then [DONE]."""
    with stage.serving() as engine:
        status, body = stage.ask(engine, stream=True, stream_options={"include_usage": True})
        expect(status == 200, f"a streamed chat is answered with {status}: {body[:200]!r}")
        events = [line[6:] for line in body.decode().splitlines() if line.startswith("data: ")]
        expect(events and events[-1] == "[DONE]", f"the stream ends with {events[-1:]}, not [DONE]")
        chunks = [_document(event.encode()) for event in events[:-1]]
        text = "".join(
            choice["delta"].get("content") or "" for chunk in chunks for choice in chunk.get("choices") or ()
        )
        expect(text, "the stream has no text")
        told = [chunk for chunk in chunks if chunk.get("usage")]
        expect(told, "the stream tells no usage")
        _usage(told[-1])


@_check
def it_keeps_to_the_tokens_it_may_make(stage: EngineStage) -> None:
    """`max_tokens` is never passed: a budget was held for no more."""
    with stage.serving() as engine:
        made = _usage(stage.chat(engine, max_tokens=3, messages=LONGER))
        expect(made <= 3, f"asked for at most 3 tokens it made {made}")


@_check
def a_bad_request_is_refused_and_harms_nothing(stage: EngineStage) -> None:
    """What can't be answered is refused with 400 to 499, and the next request is answered."""
    with stage.serving() as engine:
        status, body = stage.ask(engine, messages="none")
        expect(400 <= status < 500, f"messages that are none are answered with {status}: {body[:200]!r}")
        stage.chat(engine)
        expect(engine.running() and engine.health(), "a bad request ended it")


@_check
def tokens_of_a_prompt_are_counted(stage: EngineStage) -> None:
    """`count_tokens` counts more for a longer prompt, or raises EngineStartError where the engine can't say."""
    with stage.serving() as engine:
        try:
            short, long = engine.count_tokens(MESSAGES), engine.count_tokens(LONGER)
        except EngineStartError:
            return
        expect(0 < short < long, f"a short prompt has {short} tokens, a longer one {long}")


@_check
def its_counters_only_grow(stage: EngineStage) -> None:
    """`metrics` are counts, and a request lowers none of the totals."""
    with stage.serving() as engine:
        before = engine.metrics()
        expect(isinstance(before, EngineMetrics), f"metrics are {type(before).__name__}")
        stage.chat(engine)
        after = engine.metrics()
        expect(all(isinstance(value, int) and value >= 0 for value in asdict(after).values()), f"metrics are {after}")
        for name in ("tokens_input", "tokens_output"):
            expect(getattr(after, name) >= getattr(before, name), f"{name} fell with a request")


@_check
def it_stops_and_starts_again(stage: EngineStage) -> None:
    """Stopped, it is gone, says why in one line, and can be started again; stopped twice, it is the same."""
    engine = stage.make()
    engine.start()
    try:
        stage.until_healthy(engine)
        for _ in range(2):
            engine.stop()
        if not stage.elsewhere:
            expect(not engine.running() and not engine.health(), "it runs or answers after it was stopped")
        words = engine.last_words()
        expect(words and len(words.splitlines()) == 1, f"its last words are {words!r}, not one line")
        engine.start()
        stage.until_healthy(engine)
    finally:
        engine.stop()


CHECKS = tuple(_check.all)
"""Every promise of `models.engines.Engine`, and of what answers at its endpoint."""


def _document(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except ValueError as error:
        raise NonconformingError(f"this is not JSON: {body[:200]!r}") from error
    expect(isinstance(found, dict), f"this is no object: {body[:200]!r}")
    return dict(found)


def _usage(answer: dict[str, Any]) -> int:
    """The tokens that an answer took, where both counts are there."""
    usage = answer.get("usage") or {}
    asked, made = usage.get("prompt_tokens"), usage.get("completion_tokens")
    expect(isinstance(asked, int) and asked > 0, f"the usage counts {asked!r} tokens of prompt")
    expect(isinstance(made, int) and made > 0, f"the usage counts {made!r} tokens of answer")
    return int(made or 0)
