"""The server that is asked, and what was found of it."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from sublet.conformance.check import NonconformingError, expect
from sublet.models.engines.wire import ANSWER_BYTES_MAX, ask, connected, headers_of

WORKS, REFUSED, IGNORED, BROKEN, UNKNOWN = "works", "refused", "ignored", "broken", "unknown"
"""works: tried, and right. refused: the server says that it can't. ignored: accepted without effect. broken: accepted, and wrong.
unknown: nothing shows from outside."""
MESSAGES = [{"role": "user", "content": "Say hello."}]
STORY = [
    {"role": "user", "content": "Count from one to twenty in words, and then tell a short story about a lighthouse."}
]
SAID_MAX = 200


class RefusedError(Exception):
    """The server says that it does not do this."""


class FailedError(NonconformingError):
    """The server answers with an error of its own, where it could have refused."""


class IgnoredError(Exception):
    """The server accepted this, and did as if it had not been asked."""


class UnknownError(Exception):
    """Whether it does this can't be seen from outside."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found of one ability: the verdict, and in a sentence what was seen. A `core` one is needed of every engine."""

    name: str
    verdict: str
    said: str
    core: bool = False
    claimed: bool = False

    @property
    def fails(self) -> bool:
        """Whether it breaks what the server, or its entry, claims."""
        return self.verdict == BROKEN or (self.verdict in (REFUSED, IGNORED) and (self.core or self.claimed))

    def as_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "verdict": self.verdict,
            "said": self.said,
            "core": self.core,
            "claimed": self.claimed,
            "fails": self.fails,
        }


@dataclass(slots=True)
class Target:
    """A server by its `endpoint` (as Engine.endpoint has it) and the `model` that is asked for, with its key. `facts` are what
    probes learned for those after them and for the catalog."""

    endpoint: str
    model: str = ""
    key: str | None = None
    patience_s: float = 60.0
    wait: Callable[[float], object] = time.sleep
    facts: dict[str, Any] = field(default_factory=dict)

    def get(self, path: str) -> tuple[int, Any]:
        """Status and document (None where it is no JSON) of a GET. Raises NonconformingError where there is no answer."""
        return self._asked("GET", path, None)

    def post(self, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        """The same of a POST of `body` as it is."""
        return self._asked("POST", path, body)

    def call(self, path: str, **fields: Any) -> dict[str, Any]:
        """The answer to a request for the model. Raises RefusedError, NonconformingError."""
        status, document = self.post(path, {"model": self.model, **fields})
        self._accept(status, document)
        expect(isinstance(document, dict), f"{path} answers with 200 and no JSON object")
        return dict(document)

    def chat(self, **fields: Any) -> dict[str, Any]:
        """The answer to a chat."""
        return self.call(
            "/v1/chat/completions", **({"messages": MESSAGES, "max_tokens": 16, "temperature": 0} | fields)
        )

    def complete(self, **fields: Any) -> dict[str, Any]:
        """The answer to a completion."""
        return self.call(
            "/v1/completions", **({"prompt": "Once upon a time", "max_tokens": 8, "temperature": 0} | fields)
        )

    def stream(self, **fields: Any) -> list[dict[str, Any]]:
        """The chunks of a streamed chat, up to its [DONE]. Raises RefusedError, NonconformingError."""
        body = {"model": self.model, "messages": MESSAGES, "max_tokens": 16, "temperature": 0, "stream": True} | fields
        try:
            status, raw = ask(
                self.endpoint, "POST", "/v1/chat/completions", body, key=self.key, timeout_s=self.patience_s
            )
        except OSError as error:
            raise NonconformingError(f"a streamed chat has no answer ({error})") from error
        if status != 200:
            self._accept(status, _json(raw))
        events = [line[5:].strip() for line in raw.decode(errors="replace").splitlines() if line.startswith("data:")]
        expect(events, "a streamed chat has no events")
        expect(events[-1] == "[DONE]", f"the stream ends with {events[-1][:60]!r}, not with [DONE]")
        chunks = [_json(event.encode()) for event in events[:-1]]
        expect(all(isinstance(chunk, dict) for chunk in chunks), "an event of the stream is no JSON object")
        return chunks

    def first_event_of(self, **fields: Any) -> Iterator[bytes]:
        """A streamed chat, line by line; closing the iterator closes the connection."""
        connection = connected(self.endpoint, self.patience_s)
        path, headers = headers_of(self.endpoint, "/v1/chat/completions", self.key)
        body = {"model": self.model, "messages": STORY, "stream": True} | fields
        try:
            connection.request("POST", path, json.dumps(body), headers)
            answer = connection.getresponse()
            if answer.status != 200:
                self._accept(answer.status, _json(answer.read(ANSWER_BYTES_MAX)))
            while line := answer.readline(ANSWER_BYTES_MAX):
                yield line
        except (OSError, http.client.HTTPException) as error:
            raise NonconformingError(f"a streamed chat breaks off ({type(error).__name__})") from error
        finally:
            connection.close()

    def _asked(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        try:
            status, raw = ask(self.endpoint, method, path, body, key=self.key, timeout_s=self.patience_s)
        except OSError as error:
            raise NonconformingError(f"{method} {path} has no answer ({error})") from error
        return status, _json(raw)

    def _accept(self, status: int, document: Any) -> None:
        if status == 200:
            return
        said = said_in(document)
        if 400 <= status < 500 or status == 501:
            raise RefusedError(f"{status}: {said}" if said else f"{status}")
        raise FailedError(f"it answers with {status}{': ' + said if said else ''}")


def said_in(document: Any) -> str:
    """What an error says, in one line."""
    error = document.get("error", document) if isinstance(document, dict) else None
    words = error.get("message") or error.get("detail") if isinstance(error, dict) else error
    return " ".join(str(words).split())[:SAID_MAX] if words else ""


def text_of(answer: dict[str, Any]) -> str:
    """The text of an answer's first choice: of a chat, of a completion, or of reasoning."""
    choice = first(answer)
    message = choice.get("message") or {}
    return str(message.get("content") or message.get("reasoning_content") or choice.get("text") or "")


def first(answer: dict[str, Any]) -> dict[str, Any]:
    """An answer's first choice. Raises NonconformingError."""
    choices = answer.get("choices")
    expect(isinstance(choices, list) and choices and isinstance(choices[0], dict), "the answer has no choices")
    return dict(choices[0])  # type: ignore[index]


def streamed_text(chunks: list[dict[str, Any]]) -> str:
    """The text of a stream."""
    deltas = [choice.get("delta") or {} for chunk in chunks for choice in chunk.get("choices") or ()]
    return "".join(str(delta.get("content") or delta.get("reasoning_content") or "") for delta in deltas)


def usage_of(answer: dict[str, Any], *, answered: bool = True) -> tuple[int, int]:
    """The tokens of prompt and answer. Raises NonconformingError where they are not counted."""
    usage = answer.get("usage")
    expect(isinstance(usage, dict), "the answer has no usage, so its tokens would be estimated")
    prompt, made = usage.get("prompt_tokens"), usage.get("completion_tokens", 0)  # type: ignore[union-attr]
    expect(isinstance(prompt, int) and prompt > 0, f"usage.prompt_tokens is {prompt!r}")
    expect(isinstance(made, int) and made >= (1 if answered else 0), f"usage.completion_tokens is {made!r}")
    return int(prompt or 0), int(made or 0)


def _json(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        return None
