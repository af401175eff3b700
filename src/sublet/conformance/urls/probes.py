"""The probes: each asks for one ability, and judges the answer rather than the promise."""

from __future__ import annotations

import base64
import contextlib
import json
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sublet.conformance.check import NonconformingError, expect
from sublet.conformance.urls.target import (
    MESSAGES,
    STORY,
    IgnoredError,
    RefusedError,
    Target,
    UnknownError,
    first,
    streamed_text,
    text_of,
    usage_of,
)
from sublet.models.engines.wire import ask

Run = Callable[[Target], str]
CHAT = "chat"
LONG_TOKENS = 512
CANCEL_S_MAX = 10.0
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string", "enum": ["Paris", "Rome"]}, "open": {"type": "boolean"}},
    "required": ["city", "open"],
    "additionalProperties": False,
}
TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}
_RUNNING = ("vllm:num_requests_running", "llamacpp:requests_processing", "sglang:num_running_reqs")


@dataclass(frozen=True, slots=True)
class Probe:
    """An ability, and how it is tried: `run` returns what was seen, or raises RefusedError, IgnoredError, UnknownError, or
    NonconformingError. A `core` one every engine needs; `capability` is its name in the catalog, where it has one. One that
    `needs` chat, completions or embeddings is left out where that is missing."""

    name: str
    run: Run
    needs: str = ""
    core: bool = False
    capability: str = ""


PROBES: list[Probe] = []


def _probe(name: str, *, needs: str = CHAT, core: bool = False, capability: str = "") -> Callable[[Run], Run]:
    def take(run: Run) -> Run:
        PROBES.append(Probe(name, run, needs, core, capability))
        return run

    return take


@_probe(CHAT, needs="", capability="chat")
def chat(target: Target) -> str:
    """A chat has an answer, and says why it ended."""
    answer = target.chat()
    message = first(answer).get("message")
    expect(isinstance(message, dict), "the answer has no message")
    expect(text_of(answer), "the answer has no text")
    finish = first(answer).get("finish_reason")
    expect(finish in ("stop", "length"), f"finish_reason is {finish!r}")
    return f"answers, and ends by {finish!r}"


@_probe("usage", core=True)
def usage(target: Target) -> str:
    """Whole answers count their tokens, and a longer prompt has more."""
    short, made = usage_of(target.chat())
    long, _ = usage_of(target.chat(messages=STORY))
    expect(long > short, f"a longer prompt counts {long} tokens, a shorter one {short}")
    expect(made <= 16, f"an answer of at most 16 tokens counts {made}")
    target.facts["prompt_tokens"] = short
    return f"counts {short} and {long} tokens of two prompts"


@_probe("stream", core=True)
def stream(target: Target) -> str:
    """A stream has the text of the whole answer, and ends with [DONE]."""
    chunks = target.stream()
    expect(streamed_text(chunks), "the stream has no text")
    expect(
        any(choice.get("finish_reason") for chunk in chunks for choice in chunk.get("choices") or ()),
        "no chunk has a finish_reason",
    )
    return f"{len(chunks)} chunks"


@_probe("stream_usage", core=True)
def stream_usage(target: Target) -> str:
    """A stream tells its usage when asked, the same as a whole answer."""
    chunks = target.stream(stream_options={"include_usage": True})
    told = [chunk for chunk in chunks if chunk.get("usage")]
    if not told:
        raise IgnoredError("stream_options.include_usage is accepted, and no chunk has usage")
    prompt, made = usage_of(told[-1])
    known = target.facts.get("prompt_tokens", prompt)
    expect(prompt == known, f"the same prompt counts {prompt} tokens in a stream and {known} in a whole answer")
    return f"counts {prompt} + {made} tokens"


@_probe("running_usage")
def running_usage(target: Target) -> str:
    """Each chunk tells the tokens so far, so that an answer that breaks off is counted exactly."""
    tries = (
        (
            "continuous_usage_stats",
            "usage",
            {"stream_options": {"include_usage": True, "continuous_usage_stats": True}},
        ),
        ("timings_per_token", "timings", {"timings_per_token": True}),
    )
    refused = ""
    for name, key, fields in tries:
        try:
            chunks = target.stream(**fields)
        except RefusedError as error:
            refused = str(error)
            continue
        # The last one tells the usage of all.
        running = [chunk for chunk in chunks if chunk.get(key) and chunk.get("choices") and streamed_text([chunk])]
        if running:
            target.facts["running"] = name
            return f"by {name}, in {len(running)} of {len(chunks)} chunks"
    if refused:
        raise RefusedError(refused)
    raise IgnoredError(
        "neither continuous_usage_stats nor timings_per_token has an effect; what breaks off is estimated"
    )


@_probe("max_tokens", core=True)
def max_tokens(target: Target) -> str:
    """`max_tokens` is never passed: a budget was held for no more."""
    answer = target.chat(messages=STORY, max_tokens=3)
    _, made = usage_of(answer)
    expect(made <= 3, f"asked for at most 3 tokens, it made {made}")
    words = len(text_of(answer).split())
    expect(words <= 6, f"asked for at most 3 tokens, it wrote {words} words")
    expect(first(answer).get("finish_reason") == "length", "an answer that was cut does not end by 'length'")
    return f"{made} of 3 tokens"


@_probe("stop")
def stop(target: Target) -> str:
    """A stop sequence ends the answer before it."""
    whole = text_of(target.chat(messages=STORY, max_tokens=32))
    words = whole.split()
    expect(len(words) > 2, "the answer is too short to stop it")
    word = next((item for item in words[1:] if whole.index(item) > 0 and len(item) > 1), words[1])
    cut = target.chat(messages=STORY, max_tokens=32, stop=[word])
    if text_of(cut) == whole:
        raise IgnoredError("stop is accepted without effect")
    expect(word not in text_of(cut), f"the answer has the stop sequence {word!r}")
    expect(first(cut).get("finish_reason") == "stop", "an answer that was stopped does not end by 'stop'")
    return "ends before the sequence"


@_probe("seed")
def seed(target: Target) -> str:
    """The same seed gives the same answer."""
    fields = {"messages": STORY, "max_tokens": 24, "temperature": 1.0}
    one, two = (text_of(target.chat(**fields, seed=7)) for _ in range(2))
    if one != two:
        raise IgnoredError("the same seed gave two different answers")
    return "the same answer twice"


@_probe("n")
def several(target: Target) -> str:
    """`n` gives so many answers, all of them counted."""
    answer = target.chat(n=2, max_tokens=4, temperature=0.8)
    count = len(answer.get("choices") or [])
    if count == 1:
        raise IgnoredError("n is accepted, and there is one answer")
    expect(count == 2, f"n = 2 gave {count} answers")
    return "two answers"


@_probe("logprobs")
def logprobs(target: Target) -> str:
    """Log probabilities of each token and of those beside it."""
    answer = target.chat(logprobs=True, top_logprobs=2, max_tokens=4)
    told = first(answer).get("logprobs")
    content = told.get("content") if isinstance(told, dict) else None
    if not content:
        raise IgnoredError("logprobs is accepted, and the answer has none")
    for item in content:
        expect(isinstance(item.get("logprob"), int | float) and item["logprob"] <= 0, "a log probability is above 0")
        expect(len(item.get("top_logprobs") or ()) == 2, "top_logprobs has not the two that were asked for")
    return f"of {len(content)} tokens"


@_probe("tools", capability="tools")
def tools(target: Target) -> str:
    """A tool that must be called is called, with arguments by its schema."""
    forced = {"type": "function", "function": {"name": "weather"}}
    question = [{"role": "user", "content": "What is the weather in Rome? Use the tool."}]
    answer = target.chat(messages=question, tools=[TOOL], tool_choice=forced, max_tokens=64)
    calls = (first(answer).get("message") or {}).get("tool_calls")
    if not calls:
        raise IgnoredError("tools are accepted, and the tool that must be called is not")
    function = calls[0].get("function") or {}
    expect(function.get("name") == "weather", f"it calls {function.get('name')!r}")
    arguments = _object(function.get("arguments"))
    expect(isinstance(arguments, dict) and isinstance(arguments.get("city"), str), "the arguments break the schema")
    return "called with arguments by its schema"


@_probe("json_schema", capability="json_schema")
def json_schema(target: Target) -> str:
    """An answer by a JSON schema."""
    form = {"type": "json_schema", "json_schema": {"name": "place", "schema": SCHEMA, "strict": True}}
    question = [{"role": "user", "content": "Tell me a joke about cats."}]
    found = _object(text_of(target.chat(messages=question, response_format=form, max_tokens=64)))
    if found is None:
        raise IgnoredError("response_format is accepted, and the answer is not JSON")
    good = set(found) == {"city", "open"} and found["city"] in ("Paris", "Rome") and isinstance(found["open"], bool)
    expect(good, f"the answer breaks the schema: {json.dumps(found)[:120]}")
    return "the answer is by the schema"


@_probe("images", capability="images")
def images(target: Target) -> str:
    """An image in the prompt takes tokens. What the model sees in it is not judged."""
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + _png()}}
    message = {"role": "user", "content": [{"type": "text", "text": "Say hello."}, picture]}
    count, _ = usage_of(target.chat(messages=[message]))
    if count <= target.facts.get("prompt_tokens", 0):
        raise IgnoredError("an image is accepted, and takes no tokens")
    return f"an image takes {count - target.facts.get('prompt_tokens', 0)} tokens"


@_probe("reasoning", capability="reasoning")
def reasoning(target: Target) -> str:
    """`reasoning_effort` has an effect that shows: reasoning beside the answer."""
    answer = target.chat(reasoning_effort="low", max_tokens=64)
    message = first(answer).get("message") or {}
    if not (message.get("reasoning_content") or message.get("reasoning")):
        raise IgnoredError("reasoning_effort is accepted, and the answer has no reasoning")
    return "the answer has reasoning"


@_probe("cancel")
def cancel(target: Target) -> str:
    """An answer whose client is gone is made no further, so that its slot is free."""
    if _running(target) is None:
        raise UnknownError("it has no /metrics that count running requests")
    lines = target.first_event_of(max_tokens=LONG_TOKENS)
    next(lines, None)
    lines.close()  # type: ignore[attr-defined]
    waited = 0.0
    while (_running(target) or 0) > 0:
        expect(waited < CANCEL_S_MAX, f"{CANCEL_S_MAX:g} s after its client is gone, an answer is still being made")
        target.wait(0.2)
        waited += 0.2
    return "the answer ends with its client"


@_probe("bad_request", core=True)
def bad_request(target: Target) -> str:
    """What can't be answered is refused with 400 to 499, and the next request is answered."""
    status, _ = target.post("/v1/chat/completions", {"model": target.model, "messages": "none"})
    expect(400 <= status < 500, f"messages that are none are answered with {status}")
    target.chat()
    return f"refused with {status}"


@_probe("completions", needs="", capability="completions")
def completions(target: Target) -> str:
    """A completion goes on from a prompt."""
    answer = target.complete()
    expect(text_of(answer), "the answer has no text")
    usage_of(answer)
    return "answers, and counts its tokens"


@_probe("completions_list", needs="completions")
def completions_list(target: Target) -> str:
    """Several prompts in one request."""
    answer = target.complete(prompt=["One", "Two"], max_tokens=2)
    count = len(answer.get("choices") or [])
    expect(count == 2, f"two prompts have {count} answers")
    return "two prompts have two answers"


@_probe("completions_echo", needs="completions")
def completions_echo(target: Target) -> str:
    """The prompt comes back before the answer."""
    if not text_of(target.complete(echo=True, max_tokens=2)).startswith("Once upon a time"):
        raise IgnoredError("echo is accepted, and the prompt is not in the answer")
    return "the answer begins with the prompt"


@_probe("completions_logprobs", needs="completions")
def completions_logprobs(target: Target) -> str:
    """Log probabilities of the prompt's own tokens, as evaluations need them."""
    answer = target.complete(echo=True, logprobs=1, max_tokens=1)
    told = first(answer).get("logprobs")
    values = told.get("token_logprobs") if isinstance(told, dict) else None
    if not values or len(values) < 3:
        raise IgnoredError("echo with logprobs is accepted, and tells none of the prompt's tokens")
    return f"of {len(values)} tokens"


@_probe("suffix", needs="completions", capability="suffix")
def suffix(target: Target) -> str:
    """Fills in the middle: the answer depends on what comes after it."""
    fields = {"prompt": "def add(a, b):\n    return", "max_tokens": 8}
    if text_of(target.complete(**fields)) == text_of(target.complete(**fields, suffix="\n\nprint(add(1, 2))\n")):
        raise IgnoredError("suffix is accepted without effect")
    return "the answer depends on the suffix"


@_probe("embeddings", needs="", capability="embeddings")
def embeddings(target: Target) -> str:
    """Vectors of texts, one for each, and the tokens that they took."""
    answer = target.call("/v1/embeddings", input=["a cat", "the price of wheat"])
    data = answer.get("data")
    expect(isinstance(data, list) and len(data) == 2, "two texts have not two vectors")
    vectors = [item.get("embedding") for item in data or ()]
    expect(all(isinstance(vector, list) and vector for vector in vectors), "a vector is empty")
    expect(vectors[0] != vectors[1], "two texts have the same vector")
    usage_of(answer, answered=False)
    target.facts["dimensions"] = len(vectors[0] or ())
    return f"{target.facts['dimensions']} dimensions"


@_probe("tokenize")
def tokenize(target: Target) -> str:
    """Counts the tokens of a prompt without answering it."""
    body = {"model": target.model, "messages": MESSAGES, "content": "Say hello.", "prompt": "Say hello."}
    status, document = target.post("/tokenize", body)
    if status != 200 or not isinstance(document, dict):
        raise RefusedError(f"/tokenize answers with {status}")
    tokens = document.get("count", len(document.get("tokens") or ()))
    expect(isinstance(tokens, int) and tokens > 0, "/tokenize counts no tokens")
    return f"{tokens} tokens"


@_probe("context_limit")
def context_limit(target: Target) -> str:
    """A prompt that is longer than the context is refused, not cut."""
    known = target.facts.get("context_tokens")
    if not known or known > 65_536:
        raise UnknownError("it does not say how long its context is" if not known else "its context is too long to try")
    words = "one two three four five six seven eight " * (known // 4)
    try:
        answer = target.chat(messages=[{"role": "user", "content": words}], max_tokens=1)
    except RefusedError as error:
        return f"refused with {error}"
    raise NonconformingError(
        f"a prompt of more than {known} tokens is answered, and counts {(answer.get('usage') or {}).get('prompt_tokens')}"
    )


def _running(target: Target) -> int | None:
    """How many requests the engine says it works on; None where it does not say."""
    with contextlib.suppress(OSError, ValueError):
        status, body = ask(target.endpoint, "GET", "/metrics", key=target.key, timeout_s=target.patience_s)
        lines = [line for line in body.decode(errors="replace").splitlines() if line.startswith(_RUNNING)]
        if status == 200 and lines:
            return int(sum(float(line.split()[-1]) for line in lines))
    return None


def _object(text: Any) -> dict[str, Any] | None:
    with contextlib.suppress(ValueError, TypeError, RecursionError):
        found = json.loads(text)
        return found if isinstance(found, dict) else None
    return None


def _png() -> str:
    """A red picture of 32 × 32 pixels."""

    def part(kind: bytes, content: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + check

    rows = zlib.compress((b"\x00" + b"\xff\x00\x00" * 32) * 32)
    header = struct.pack(">IIBBBBB", 32, 32, 8, 2, 0, 0, 0)
    whole = b"\x89PNG\r\n\x1a\n" + part(b"IHDR", header) + part(b"IDAT", rows) + part(b"IEND", b"")
    return base64.b64encode(whole).decode()
