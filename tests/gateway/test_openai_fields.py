"""Every field of a request: honored, ignored as OpenAI ignores it, or refused; and the parameters that only engines know."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from openai.types import EmbeddingCreateParams
from openai.types import completion_create_params as completion_params
from openai.types.chat import completion_create_params as chat_params
from tests.gateway.harness import chunk
from tests.gateway.test_openai_surface import IDENTITY, ROUTE, SURFACE, ask, parse

from sublet.gateway.refusals import InvalidRequestError
from sublet.gateway.requests.form import CHAT, COMPLETION, EMBEDDING
from sublet.gateway.requests.held import tokens_max
from sublet.gateway.surfaces.fields import IGNORED, REFUSED
from sublet.gateway.surfaces.openai_fields import FIELDS, NAMES
from sublet.gateway.upstream.dialects import DIALECTS, PARAMETERS
from sublet.gateway.upstream.writer import check, for_engine
from sublet.models.engines import kinds


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        (ask(store=True), "store", "not stored here"),
        (ask(service_tier="priority"), "service_tier", "auto, default and flex"),
        (ask(reasoning_effort="extreme"), "reasoning_effort", "none, minimal, low"),
        (ask(verbosity=3), "verbosity", "low, medium, high"),
        (ask(metadata="x"), "metadata", "object"),
        (ask(user=5), "user", "string"),
        (ask(moderation={"mode": "x"}), "moderation", "not supported"),
        (ask(prediction={"type": "content", "content": "x"}), "prediction", "not supported"),
        (ask(top_k="many"), "top_k", "int"),
        (ask(structured_outputs={}, foo=None), "foo", "Unrecognized"),
        (ask(messages=[{"role": "user", "content": [{"type": "video"}]}]), "messages", "one of text"),
        (ask(messages=[{"role": "user", "content": [1]}]), "messages", "messages"),
    ],
)
def test_what_can_not_be_honored_is_refused_by_name(fields: Any, param: str, words: str) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        parse(fields)
    assert words in refused.value.message and refused.value.details.get("param") == param


def test_a_field_that_is_null_is_absent() -> None:
    bare = json.loads(for_engine(parse(ask()), ROUTE))
    for name in NAMES[CHAT] | PARAMETERS:
        if name not in ("model", "messages"):
            call = parse(ask(**{name: None}))
            assert json.loads(for_engine(call, ROUTE)) == bare, name
            assert call.needs == ("chat",), name


@pytest.mark.parametrize(
    ("fields", "capability"),
    [
        ({"reasoning_effort": "high"}, "reasoning"),
        ({"reasoning_effort": "medium"}, "reasoning"),
        ({"reasoning_effort": "none"}, None),
        ({"verbosity": "low"}, "verbosity"),
        ({"verbosity": "medium"}, None),
    ],
)
def test_effort_and_verbosity_reach_models_that_have_them_and_are_refused_for_others(
    fields: dict[str, str], capability: str | None
) -> None:
    call = parse(ask(**fields))
    name = next(iter(fields))
    if capability is None:
        check(call, ROUTE)
        assert name not in json.loads(for_engine(call, ROUTE))
    else:
        with pytest.raises(InvalidRequestError, match=f"does not support {capability}") as refused:
            check(call, ROUTE)
        assert refused.value.details["param"] == name
    able = replace(ROUTE, capabilities=frozenset({"chat", "reasoning", "verbosity"}))
    check(call, able)
    assert json.loads(for_engine(call, able))[name] == fields[name]


def test_the_tier_is_told_in_the_answer_and_in_every_chunk() -> None:
    call = parse(ask(service_tier="auto", stream=True))
    assert "service_tier" not in json.loads(for_engine(call, ROUTE))
    answer = json.loads(SURFACE.answer(call, IDENTITY, b'{"choices":[]}'))
    assert answer["service_tier"] == "default"
    form = SURFACE.stream(call, IDENTITY)
    out = b"".join(form.event(json.dumps(chunk(text), separators=(",", ":")).encode()) for text in "abc")
    chunks = [json.loads(part[6:]) for part in out.split(b"\n\n") if part]
    assert {item["service_tier"] for item in chunks} == {"default"}
    assert b"service_tier" not in SURFACE.answer(parse(ask()), IDENTITY, b'{"choices":[]}')


VLLM = {
    "chat_template_kwargs": {"enable_thinking": False},
    "structured_outputs": {"json": {"type": "object"}},
    "guided_choice": ["a", "b"],
    "repetition_penalty": 1.1,
    "min_tokens": 2,
    "stop_token_ids": [1, 2],
    "top_k": 5,
    "min_p": 0.1,
}


def test_parameters_of_an_engine_reach_it_and_no_other() -> None:
    call = parse(ask(**VLLM))
    vllm = replace(ROUTE, dialect="vllm")
    check(call, vllm)
    sent = json.loads(for_engine(call, vllm))
    assert {name: sent[name] for name in VLLM} == VLLM
    for dialect in ("openai", "llamacpp"):
        with pytest.raises(InvalidRequestError, match="does not support it"):
            check(call, replace(ROUTE, dialect=dialect))
    llamacpp = replace(ROUTE, dialect="llamacpp")
    few = parse(ask(repetition_penalty=1.1, top_k=5))
    check(few, llamacpp)
    sent = json.loads(for_engine(few, llamacpp))
    assert (sent["repeat_penalty"], sent["top_k"]) == (1.1, 5) and "repetition_penalty" not in sent


def test_every_dialect_of_the_catalog_is_known() -> None:
    assert set(kinds.DIALECTS) == set(DIALECTS)
    for dialect in DIALECTS.values():
        assert dialect.parameters <= PARAMETERS and set(dialect.renamed) <= dialect.parameters


# A value that each field takes.
VALUES: dict[str, Any] = {
    "stream": False,
    "max_tokens": 5,
    "max_completion_tokens": 5,
    "temperature": 1,
    "top_p": 1,
    "stop": ["x"],
    "seed": 1,
    "presence_penalty": 1,
    "frequency_penalty": 1,
    "logit_bias": {"5": 1},
    "n": 1,
    "logprobs": True,
    "top_logprobs": 2,
    "response_format": {"type": "text"},
    "tools": [{"type": "function", "function": {"name": "f"}}],
    "tool_choice": "auto",
    "parallel_tool_calls": True,
    "modalities": ["text"],
    "reasoning_effort": "low",
    "verbosity": "low",
    "service_tier": "auto",
    "metadata": {"a": "b"},
    "store": False,
    "prompt_cache_options": {"mode": "explicit"},
    "echo": True,
    "best_of": 1,
    "suffix": "x",
    "encoding_format": "float",
    "dimensions": 8,
    "audio": {},
    "prediction": {},
    "web_search_options": {},
    "moderation": {},
    "functions": [],
    "function_call": "auto",
}


@pytest.mark.parametrize("kind", [CHAT, COMPLETION, EMBEDDING])
def test_every_field_that_openais_sdk_sends_is_in_the_table_and_has_the_fate_that_it_says(kind: str) -> None:
    bases: dict[str, dict[str, Any]] = {
        CHAT: {"model": "toy", "messages": [{"role": "user", "content": "hi"}]},
        COMPLETION: {"model": "toy", "prompt": "hi"},
        EMBEDDING: {"model": "toy", "input": "hi"},
    }
    base = bases[kind]
    params: Any = {
        CHAT: chat_params.CompletionCreateParamsStreaming,
        COMPLETION: completion_params.CompletionCreateParamsStreaming,
        EMBEDDING: EmbeddingCreateParams,
    }[kind]
    fates = {item.name: item.fate for item in FIELDS[kind]}
    assert set(params.__annotations__) == set(fates)
    for name, fate in fates.items():
        if name in base or name == "stream_options":
            continue
        value = 3 if (kind, name) == (COMPLETION, "logprobs") else VALUES.get(name, "x")
        if fate == REFUSED:
            with pytest.raises(InvalidRequestError, match=f"{name} is not supported here"):
                parse({**base, name: value}, kind)
            continue
        sent = json.loads(for_engine(parse({**base, name: value}, kind), ROUTE))
        if fate == IGNORED:
            assert name not in sent, name


def test_embeddings_take_no_fields_of_other_routes() -> None:
    for name in ("max_tokens", "stream", "temperature", "top_k", "service_tier"):
        with pytest.raises(InvalidRequestError) as refused:
            parse({"model": "toy", "input": "hi", name: 1 if name != "stream" else True}, EMBEDDING)
        assert refused.value.details["param"] == name


def test_the_manual_names_the_parameters_of_each_dialect() -> None:
    page = (Path(__file__).parents[2] / "docs" / "gateway.md").read_text()
    for dialect in DIALECTS.values():
        row = next(line for line in page.splitlines() if line.startswith(f"| `{dialect.name}`"))
        assert set(re.findall(r"`(\w+)`", row)) - {dialect.name} == dialect.parameters


def test_a_budget_holds_for_every_answer_that_is_asked_for() -> None:
    assert tokens_max(parse(ask(max_tokens=10)), 100, ROUTE)[1] == 10
    assert tokens_max(parse(ask(max_tokens=10, n=5)), 100, ROUTE)[1] == 50
    lists = parse({"model": "toy", "prompt": ["a", "b"], "max_tokens": 10, "n": 3}, COMPLETION)
    assert tokens_max(lists, 5000, ROUTE) == (2 * ROUTE.context_tokens, 60)
