"""Legacy completions on the real model as langchain's `OpenAI()` and lm-eval ask for them, through OpenAI's own SDK."""

from __future__ import annotations

import json
import math

import openai
import pytest
from openai import OpenAI
from tests.clients.conftest import Served
from tests.gateway.harness import until

from sublet.models.catalog import BUILT_IN
from sublet.models.engines.wire import ask

pytestmark = pytest.mark.real

MODEL = BUILT_IN.name
TEXT = "The capital of France is Paris"


@pytest.fixture
def client(served: Served) -> OpenAI:
    return OpenAI(base_url=f"{served.gateway.url}/v1", api_key=served.gateway.key)


def ids(served: Served, text: str) -> list[int]:
    """By the engine's own tokenizer."""
    endpoint = served.replica.endpoint
    assert endpoint is not None
    _, body = ask(endpoint, "POST", "/tokenize", {"content": text, "add_special": True, "parse_special": True})

    return list(json.loads(body)["tokens"])


def test_a_list_of_prompts_has_an_answer_each(client: OpenAI, served: Served) -> None:
    answer = client.completions.create(model=MODEL, prompt=["The sea is", "Once upon"], max_tokens=4, n=2, seed=1)
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3] and answer.object == "text_completion"
    alone = client.completions.create(model=MODEL, prompt="Once upon", max_tokens=4, seed=1)
    assert answer.choices[2].text == alone.choices[0].text
    assert answer.usage is not None and answer.usage.completion_tokens == 16
    assert answer.usage.prompt_tokens == len(ids(served, "The sea is")) + len(ids(served, "Once upon"))
    assert answer.usage is not None
    total = answer.usage.total_tokens
    served.idle()
    until(lambda: sum(served.gateway.tokens(f"req_{answer.id.removeprefix('cmpl-')}").values()) == total)


def test_the_likelihood_of_a_text_is_what_the_model_gives_its_tokens(client: OpenAI, served: Served) -> None:
    tokens = ids(served, TEXT)
    by_text = client.completions.create(model=MODEL, prompt=TEXT, max_tokens=0, echo=True, logprobs=2)
    by_ids = client.completions.create(model=MODEL, prompt=[tokens], max_tokens=0, echo=True, logprobs=2)
    told = by_text.choices[0].logprobs
    assert told is not None and told.token_logprobs is not None and told.top_logprobs is not None
    assert by_text.choices[0].text == by_ids.choices[0].text == TEXT == "".join(told.tokens or [])
    assert len(told.token_logprobs) == len(tokens) and told.token_logprobs[0] is None
    assert all(value is not None and value <= 0 for value in told.token_logprobs[1:])
    other = by_ids.choices[0].logprobs
    assert other is not None and other.token_logprobs is not None
    for mine, theirs in zip(told.token_logprobs[1:], other.token_logprobs[1:], strict=True):
        assert mine == pytest.approx(theirs, abs=0.05)
    assert by_text.usage is not None and by_text.usage.prompt_tokens == len(tokens)
    assert by_text.usage.completion_tokens == 0
    # Each top list is a distribution's head: no more than one in all.
    for top in told.top_logprobs[1:]:
        assert 1 <= len(top) <= 3 and sum(math.exp(value) for value in top.values()) <= 1.001


def test_what_the_model_says_greedily_is_what_it_finds_most_likely(client: OpenAI) -> None:
    said = client.completions.create(model=MODEL, prompt="The sea is", max_tokens=5, temperature=0, logprobs=1)
    told = said.choices[0].logprobs
    assert told is not None and told.tokens is not None and told.token_logprobs is not None
    whole = client.completions.create(
        model=MODEL, prompt="The sea is" + said.choices[0].text, max_tokens=0, echo=True, logprobs=1
    )
    read = whole.choices[0].logprobs
    assert read is not None and read.tokens is not None and read.token_logprobs is not None and read.top_logprobs
    count = len(told.tokens)
    assert read.tokens[-count:] == told.tokens
    for mine, theirs in zip(read.token_logprobs[-count:], told.token_logprobs, strict=True):
        assert mine == pytest.approx(theirs, abs=0.1)
    for token, top in zip(read.tokens[-count:], read.top_logprobs[-count:], strict=True):
        assert max(top, key=lambda name: top[name]) == token


def test_echo_streams_and_other_letters(client: OpenAI) -> None:
    parts = list(client.completions.create(model=MODEL, prompt="Meer 🦙", max_tokens=3, echo=True, stream=True, seed=1))
    assert "".join(part.choices[0].text for part in parts if part.choices).startswith("Meer 🦙")
    read = (
        client.completions.create(model=MODEL, prompt="Meer 🦙", max_tokens=0, echo=True, logprobs=1)
        .choices[0]
        .logprobs
    )
    assert read is not None and read.token_logprobs is not None
    assert all(value is not None and value < 0 for value in read.token_logprobs[1:])


def test_a_suffix_and_too_long_a_prompt_are_refused(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="suffix"):
        client.completions.create(model=MODEL, prompt="x", suffix="y")
    with pytest.raises(openai.BadRequestError, match="context"):
        client.completions.create(model=MODEL, prompt=[[5] * 3000, [5]], max_tokens=1)


def test_several_answers_of_a_chat(client: OpenAI) -> None:
    answer = client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": "Name a color."}], n=3, max_tokens=5, seed=4
    )
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert answer.usage is not None and 3 <= answer.usage.completion_tokens <= 15
