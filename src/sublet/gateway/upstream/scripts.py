"""Requests that llama.cpp can't answer right in one go, answered in several, one after the other on one slot.

Its server takes lists of prompts and `n`, but counts the tokens of one answer only; it ignores `echo`, and words `logprobs` as
a chat does. So each answer is a request of its own here. The likelihood of a prompt's own tokens (`echo` with `logprobs`) is
read one token at a time: the token is forced by a bias, and the engine reports what it would have given it without; the
prompt before it is in the engine's cache, so each step costs as much as a token of an answer.

A script is a generator: it yields steps, is sent the body of each answer, and returns the whole answer in the engine's form.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Any, NamedTuple

import msgspec

from sublet.gateway.metering.estimate import prompt_tokens
from sublet.gateway.model import ModelRoute
from sublet.gateway.refusals import EngineFailedError, InvalidRequestError
from sublet.gateway.requests.call import Call
from sublet.gateway.requests.form import CHAT, COMPLETION, COUNT
from sublet.gateway.upstream.dialects import DIALECTS
from sublet.gateway.upstream.openai_body import ENGINE_PATHS, CompletionBody
from sublet.gateway.upstream.openai_request import OpenAIRequest
from sublet.gateway.upstream.writer import for_engine

_FORCED = 1e9
_PARTIAL_PROBS = 4096
"""Candidates looked through for a token that ends within a character, which the engine reports only among the others."""

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(dict[str, Any]).decode


class Step(NamedTuple):
    """One request to the engine. `streamed`: asked as a stream, so that the engine stops when the client leaves."""

    path: bytes
    body: bytes
    streamed: bool = False


Script = Generator[Step, bytes, dict[str, Any]]


def script_of(call: Call, route: ModelRoute) -> Script | None:
    """The steps of a request for an engine that needs them; None where one request does."""
    if call.kind == COUNT:
        return _count(call, route)
    if not DIALECTS[route.dialect].single:
        return None
    if call.kind == CHAT:
        return _chat(call, route) if call.answers > 1 else None
    body = call.asked.body if isinstance(call.asked, OpenAIRequest) else None
    if isinstance(body, CompletionBody) and (call.answers > 1 or call.echoes or body.logprobs is not None):
        return _completion(call, body, route)
    return None


def events(answer: dict[str, Any], kind: str) -> Iterator[bytes]:
    """A whole answer as the chunks of a stream, an answer each, then the usage."""
    for choice in answer["choices"]:
        if kind == CHAT:
            delta = choice["message"]
            for index, tool_call in enumerate(delta.get("tool_calls", ())):
                tool_call["index"] = index
            choice = {"index": choice["index"], "delta": delta, "finish_reason": choice["finish_reason"]}
        yield _encode({"choices": [choice]})
    yield _encode({"choices": [], "usage": answer["usage"]})


class _Usage:
    """A prompt counts once, whatever the number of its answers; answers add up."""

    def __init__(self) -> None:
        self.prompt = self.cached = self.completion = 0

    def add(self, usage: Any, *, first: bool) -> None:
        if not isinstance(usage, dict):
            return
        self.completion += usage.get("completion_tokens") or 0
        if first:
            self.prompt += usage.get("prompt_tokens") or 0
            self.cached += (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0

    def as_dict(self) -> dict[str, Any]:
        return {
            "prompt_tokens": self.prompt,
            "completion_tokens": self.completion,
            "total_tokens": self.prompt + self.completion,
            "prompt_tokens_details": {"cached_tokens": self.cached},
        }


def _chat(call: Call, route: ModelRoute) -> Script:
    usage = _Usage()
    choices: list[dict[str, Any]] = []
    count = call.answers
    for number in range(count):
        said = _decode((yield _generation(call, route, number)))
        usage.add(said.get("usage"), first=number == 0)
        choices.append({**said["choices"][0], "index": number})
    return {"choices": choices, "usage": usage.as_dict()}


def _count(call: Call, route: ModelRoute) -> Script:
    """The tokens of a chat, by the engine's own template and tokenizer where it shows them; else by the estimate, without a step."""
    tokens = prompt_tokens(call)
    if DIALECTS[route.dialect].single:
        body = _decode(for_engine(call, route))
        prompt = body.get("prompt")
        if prompt is None:
            asked = {name: body[name] for name in ("messages", "tools", "chat_template_kwargs") if name in body}
            prompt = str(_decode((yield Step(b"/apply-template", _encode(asked))))["prompt"])
        tokens = len((yield from _ids(prompt)))
    return {"usage": {"prompt_tokens": tokens}}


def _completion(call: Call, body: CompletionBody, route: ModelRoute) -> Script:
    usage = _Usage()
    choices: list[dict[str, Any]] = []
    count = call.answers // call.prompts
    for prompt in prompts_of(body.prompt):
        text, read = "", _Read()
        if call.echoes:
            text = prompt if isinstance(prompt, str) else (yield from _text(prompt))
            if body.logprobs is not None:
                ids = (yield from _ids(prompt)) if isinstance(prompt, str) else prompt
                read = yield from _likelihood(ids, body.logprobs)
        for number in range(count):
            choice: dict[str, Any] = {"text": "", "finish_reason": "length"}
            if call.output_tokens_max:
                said = _decode((yield _generation(call, route, number, prompt)))
                usage.add(said.get("usage"), first=number == 0)
                choice = said["choices"][0]
            elif number == 0:
                ids = (yield from _ids(prompt)) if isinstance(prompt, str) else prompt
                usage.add({"prompt_tokens": len(ids)}, first=True)
            choices.append(_choice(len(choices), text, choice, read, body.logprobs))
    return {"choices": choices, "usage": usage.as_dict()}


def _choice(index: int, text: str, choice: dict[str, Any], read: _Read, logprobs: int | None) -> dict[str, Any]:
    told = None
    if logprobs is not None:
        both = _Read(read)
        for item in (choice.get("logprobs") or {}).get("content") or ():
            both.add(item["token"], item["logprob"], item.get("top_logprobs"), logprobs)
        told = both.as_dict()
    return {
        "index": index,
        "text": text + choice["text"],
        "logprobs": told,
        "finish_reason": choice.get("finish_reason"),
    }


class _Read:
    """Tokens with their likelihood, as the legacy API words it."""

    def __init__(self, before: _Read | None = None) -> None:
        self.tokens: list[str] = list(before.tokens) if before else []
        self.logprobs: list[float | None] = list(before.logprobs) if before else []
        self.tops: list[dict[str, float] | None] = list(before.tops) if before else []

    def add(self, token: str, logprob: float | None, tops: Any, count: int) -> None:
        self.tokens.append(token)
        self.logprobs.append(logprob)
        found = {item["token"]: item["logprob"] for item in (tops or ())[:count]}
        if found and logprob is not None:
            # The token itself is among them, as at OpenAI.
            found.setdefault(token, logprob)
        self.tops.append(found or None)

    def as_dict(self) -> dict[str, Any]:
        offsets, at = [], 0
        for token in self.tokens:
            offsets.append(at)
            at += len(token)
        return {
            "tokens": self.tokens,
            "token_logprobs": self.logprobs,
            "top_logprobs": self.tops if any(self.tops) else None,
            "text_offset": offsets,
        }


def _likelihood(ids: list[int], count: int) -> Generator[Step, bytes, _Read]:
    read = _Read()
    # Nothing comes before the first one.
    read.add((yield from _text(ids[:1])), None, None, count)
    for at in range(1, len(ids)):
        found = yield from _scored(ids[:at], ids[at], max(1, count))
        if found is None:
            found = yield from _scored_among_others(ids[:at], ids[at], count)
        read.add(found["token"], found["logprob"], found["top_logprobs"], count)
    return read


def _scored(before: list[int], token: int, count: int) -> Generator[Step, bytes, dict[str, Any] | None]:
    asked = {
        "prompt": before,
        "n_predict": 1,
        "n_probs": count,
        "temperature": 0,
        "logit_bias": [[token, _FORCED]],
        "cache_prompt": True,
    }
    found = _decode((yield Step(b"/completion", _encode(asked)))).get("completion_probabilities")
    return found[0] if found else None


def _scored_among_others(before: list[int], token: int, count: int) -> Generator[Step, bytes, dict[str, Any]]:
    """A token that ends within a character: the engine keeps it to itself, so it is looked for beside a plain one."""
    plain = (yield from _ids("a"))[-1]
    found = yield from _scored(before, plain, _PARTIAL_PROBS)
    if found is None:
        raise EngineFailedError
    tops = found["top_logprobs"]
    own = next((item["logprob"] for item in tops if item["id"] == token), None)
    text = yield from _text([token])
    # Rarer than all that are listed: the last one's likelihood is the most that it can have.
    return {"token": text, "logprob": tops[-1]["logprob"] if own is None else own, "top_logprobs": tops[:count]}


def _ids(text: str) -> Generator[Step, bytes, list[int]]:
    asked = {"content": text, "add_special": True, "parse_special": True}
    found = _decode((yield Step(b"/tokenize", _encode(asked))))["tokens"]
    return [int(item) for item in found]


def _text(ids: list[int]) -> Generator[Step, bytes, str]:
    return str(_decode((yield Step(b"/detokenize", _encode({"tokens": ids}))))["content"])


def _generation(call: Call, route: ModelRoute, number: int, prompt: str | list[int] | None = None) -> Step:
    body: dict[str, Any] = _decode(for_engine(call, route))
    body |= {"stream": True, "stream_options": {"include_usage": True}}
    for name in ("n", "echo", "best_of"):
        body.pop(name, None)
    if prompt is not None:
        body["prompt"] = prompt
    if body.get("logprobs") == 0 and call.kind == COMPLETION:
        body["logprobs"] = 1
    if "seed" in body:
        # One seed for all would make every answer the same.
        body["seed"] += number
    return Step(ENGINE_PATHS[call.kind], _encode(body), streamed=True)


PROMPTS_MAX = 256
PROMPT_IDS_MAX = 262_144
"""Token ids in all the prompts of one request: more than fits the context of any model that takes ids."""


def prompts_of(raw: msgspec.Raw) -> list[str | list[int]]:
    """The prompts of a legacy completion: one text, one list of token ids, or a list of either.

    What is too much is refused before it is decoded, so that a long list holds up nobody else. Raises ValidationError, and
    InvalidRequestError for more than PROMPTS_MAX prompts or PROMPT_IDS_MAX token ids.
    """
    content = bytes(raw)
    if content[:1] == b'"':
        return [msgspec.json.decode(content, type=str)]
    found = _texts_of(content) if b'"' in content else _ids_of(content)
    if not all(found):
        raise msgspec.ValidationError("not a string, a list of token ids, or a list of either")
    return found


def _texts_of(content: bytes) -> list[str | list[int]]:
    # A quote within a text is escaped, so that at least half of the others begin or end one.
    if content.count(b'"') - content.count(b'\\"') > 2 * PROMPTS_MAX:
        raise too_many_prompts()
    texts: list[str | list[int]] = list(msgspec.json.decode(content, type=list[str]))
    if not texts:
        raise msgspec.ValidationError("the list of prompts is empty")
    if len(texts) > PROMPTS_MAX:
        raise too_many_prompts()
    return texts


def _ids_of(content: bytes) -> list[str | list[int]]:
    if content.count(b",") >= PROMPT_IDS_MAX:
        raise InvalidRequestError(
            f"prompt may have at most {PROMPT_IDS_MAX} token ids; send the rest separately", param="prompt"
        )
    lists = content.count(b"[")
    if lists <= 1:
        return [msgspec.json.decode(content, type=list[int])]
    if lists - 1 > PROMPTS_MAX:
        raise too_many_prompts()
    return list(msgspec.json.decode(content, type=list[list[int]]))


def too_many_prompts() -> InvalidRequestError:
    return InvalidRequestError(
        f"prompt may be a list of at most {PROMPTS_MAX}; send the rest separately", param="prompt"
    )
