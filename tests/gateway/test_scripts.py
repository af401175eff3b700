"""Requests that llama.cpp needs several steps for, against an engine that answers each step as llama.cpp does."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from tests.gateway.harness import (
    MODEL,
    Answer,
    Answering,
    Running,
    ScriptedEngine,
    ask,
    chunk,
    post,
    timings,
    until,
    usage,
)

WORDS = {1: "The", 2: " sea", 3: " is", 4: " blue"}
IDS = {word: token for token, word in WORDS.items()}
PARTIAL = 9
"""A token that ends within a character."""


def scored(token: int, before: int) -> dict[str, Any]:
    """How likely the toy model finds a token after so many others."""
    return {
        "id": token,
        "token": WORDS[token],
        "logprob": -token / 10 - before,
        "top_logprobs": [{"id": 4, "token": " blue", "logprob": -0.1}, {"id": PARTIAL, "token": "�", "logprob": -2.5}],
    }


async def toy(answering: Answering) -> None:
    asked = answering.asked.body
    match answering.asked.path:
        case "/tokenize":
            text = asked["content"]
            ids = (
                [2]
                if text == "a"
                else [IDS[word if at == 0 else f" {word}"] for at, word in enumerate(text.split(" "))]
            )
            await answering.answer({"tokens": ids})
        case "/detokenize":
            await answering.answer({"content": "".join(WORDS.get(token, "�") for token in asked["tokens"])})
        case "/completion":
            [[token, _]] = asked["logit_bias"]
            probabilities = [] if token == PARTIAL else [scored(token, len(asked["prompt"]))]
            await answering.answer({"content": "", "completion_probabilities": probabilities})
        case "/v1/completions":
            said = f"<{asked['prompt']}>"
            told = {"content": [{"token": said, "logprob": -1.0, "top_logprobs": [{"token": "x", "logprob": -0.5}]}]}
            await answering.stream(
                {"choices": [{"text": said, "logprobs": told if "logprobs" in asked else None}]},
                {"choices": [{"text": "", "finish_reason": "stop"}], "timings": timings(3, 5)},
                {"choices": [], "usage": usage(3, 5, 1)},
            )
        case _:
            await answering.stream(
                chunk(f"seed {asked['seed']}"), chunk(finish="stop"), {"choices": [], "usage": usage(7, 2)}
            )


@pytest.fixture
def gateway(make_gateway: Callable[..., Running], engine: ScriptedEngine) -> Running:
    engine.script = toy
    return make_gateway(llamacpp=True)


def complete(gateway: Running, **fields: Any) -> Any:
    answer = gateway.post({"model": MODEL, **fields}, path="/v1/completions")
    assert answer.status == 200, answer.body
    return answer.json


def test_a_list_of_prompts_and_n_are_an_answer_each_and_each_prompt_counts_once(gateway: Running) -> None:
    body = complete(gateway, prompt=["a", "b"], n=2)
    assert [(item["index"], item["text"]) for item in body["choices"]] == [
        (0, "<a>"),
        (1, "<a>"),
        (2, "<b>"),
        (3, "<b>"),
    ]
    assert body["usage"] == usage(6, 20, 2) and body["object"] == "text_completion" and body["model"] == MODEL
    until(lambda: gateway.tokens() == {"tokens.input": 4, "tokens.input_cached": 2, "tokens.output": 20})


def test_token_ids_go_to_the_engine_as_they_are(gateway: Running) -> None:
    assert [item["text"] for item in complete(gateway, prompt=[[1, 2], [3]])["choices"]] == ["<[1, 2]>", "<[3]>"]


def test_echo_puts_the_prompt_first(gateway: Running) -> None:
    assert complete(gateway, prompt="The sea", echo=True)["choices"][0]["text"] == "The sea<The sea>"
    assert complete(gateway, prompt=[1, 2], echo=True)["choices"][0]["text"] == "The sea<[1, 2]>"


def test_logprobs_have_the_legacy_shape(gateway: Running) -> None:
    assert complete(gateway, prompt="The", logprobs=2)["choices"][0]["logprobs"] == {
        "tokens": ["<The>"],
        "token_logprobs": [-1.0],
        "top_logprobs": [{"x": -0.5, "<The>": -1.0}],
        "text_offset": [0],
    }
    assert complete(gateway, prompt="The", logprobs=0)["choices"][0]["logprobs"]["top_logprobs"] is None


@pytest.mark.parametrize("prompt", ["The sea is", [1, 2, 3]])
def test_echo_with_logprobs_is_the_likelihood_of_the_prompt(gateway: Running, prompt: Any) -> None:
    body = complete(gateway, prompt=prompt, echo=True, logprobs=1, max_tokens=0)
    assert body["choices"] == [
        {
            "index": 0,
            "text": "The sea is",
            "finish_reason": "length",
            "logprobs": {
                "tokens": ["The", " sea", " is"],
                "token_logprobs": [None, -1.2, -2.3],
                "top_logprobs": [None, {" blue": -0.1, " sea": -1.2}, {" blue": -0.1, " is": -2.3}],
                "text_offset": [0, 3, 7],
            },
        }
    ]
    assert body["usage"]["prompt_tokens"] == 3 and body["usage"]["completion_tokens"] == 0
    until(lambda: gateway.tokens() == {"tokens.input": 3})


def test_a_token_that_ends_within_a_character_is_found_among_the_others(gateway: Running) -> None:
    told = complete(gateway, prompt=[1, PARTIAL, 3], echo=True, logprobs=1, max_tokens=0)["choices"][0]["logprobs"]
    assert told["token_logprobs"] == [None, -2.5, -2.3]


def test_answer_and_prompt_stand_in_one_list(gateway: Running) -> None:
    told = complete(gateway, prompt="The sea", echo=True, logprobs=1, max_tokens=5)["choices"][0]["logprobs"]
    assert told["tokens"] == ["The", " sea", "<The sea>"] and told["text_offset"] == [0, 3, 7]


def streamed(gateway: Running, body: dict[str, Any], path: str) -> Answer:
    answer = gateway.post(
        {"model": MODEL, "stream": True, "stream_options": {"include_usage": True}, **body}, path=path
    )
    assert answer.status == 200 and answer.events[-1] == "[DONE]"
    return answer


def test_a_stream_of_several_answers(gateway: Running) -> None:
    answer = streamed(gateway, {"prompt": ["a", "b"]}, "/v1/completions")
    assert [(item["index"], item["text"]) for part in answer.chunks for item in part["choices"]] == [
        (0, "<a>"),
        (1, "<b>"),
    ]
    assert answer.chunks[-1]["usage"] == usage(6, 10, 2)
    assert {part["object"] for part in answer.chunks} == {"text_completion"}


def test_several_answers_of_a_chat(gateway: Running, engine: ScriptedEngine) -> None:
    body = gateway.post(ask(n=3, seed=5)).json
    said = [(item["index"], item["message"]["content"]) for item in body["choices"]]
    assert said == [(0, "seed 5"), (1, "seed 6"), (2, "seed 7")]
    assert body["usage"] == usage(7, 6) and "n" not in engine.asked[0].body
    answer = streamed(gateway, ask(n=2, seed=5), "/v1/chat/completions")
    deltas = [(item["index"], item["delta"].get("content")) for part in answer.chunks for item in part["choices"]]
    assert [pair for pair in deltas if pair[1]] == [(0, "seed 5"), (1, "seed 6")]


def test_a_suffix_is_refused_by_name(gateway: Running, engine: ScriptedEngine) -> None:
    answer = gateway.post({"model": MODEL, "prompt": "x", "suffix": "y"}, path="/v1/completions")
    assert (answer.status, answer.json["error"]["param"]) == (400, "suffix") and not engine.asked


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("how", "status"), [("error", 400), ("broken", 502), ("other", 502)])
def test_a_step_that_fails_fails_the_request_and_costs_nothing(
    gateway: Running, engine: ScriptedEngine, how: str, status: int, stream: bool
) -> None:
    async def script(answering: Answering) -> None:
        if len(engine.asked) < 2:
            await toy(answering)
        elif how == "error":
            await answering.answer({"error": {"message": "prompt too long for the context, 9 tokens"}}, 400)
        else:
            await answering.answer(b"{" if how == "broken" else {"said": "nothing"})

    engine.script = script
    fields = {"prompt": "The sea is", "echo": True, "logprobs": 1, "stream": stream}
    answer = gateway.post({"model": MODEL, **fields}, path="/v1/completions")
    assert answer.status == status, answer.body
    assert gateway.settled(1)[0]["incomplete"] and gateway.tokens() == {}


def test_a_client_that_leaves_stops_the_step_under_way(gateway: Running, engine: ScriptedEngine) -> None:
    async def script(answering: Answering) -> None:
        if len(engine.asked) < 2:
            await toy(answering)
        else:
            await answering.head()
            await answering.gone()

    engine.script = script
    wire = gateway.wire()
    body = {"model": MODEL, "prompt": ["a", "b"]}
    wire.send(post(body, gateway.key, path="/v1/completions"))
    until(lambda: len(engine.asked) == 2)
    wire.close()
    assert gateway.settled(1)[0]["status"] == 499
    until(lambda: engine.open == 0)


def test_an_engine_that_can_gets_it_in_one_request(
    make_gateway: Callable[..., Running], engine: ScriptedEngine
) -> None:
    gateway = make_gateway()

    async def script(answering: Answering) -> None:
        await answering.answer({"choices": [{"text": "x", "index": 0}], "usage": usage(1, 1)})

    engine.script = script
    asked = {"prompt": [[1], [2]], "n": 2, "echo": True, "logprobs": 3, "max_tokens": 1}
    complete(gateway, **asked)
    assert json.loads(json.dumps(engine.asked[0].body)) == {"model": MODEL, **asked}
