"""Background responses through OpenAI's SDK against the real model."""

from __future__ import annotations

from typing import Any

import pytest
from openai import OpenAI
from tests.clients.conftest import Served
from tests.gateway.harness import until

from sublet.models.catalog import BUILT_IN

pytestmark = pytest.mark.real

WORDS = "Write a short poem about the sea."


def test_polled_followed_and_gone_on_with(served: Served) -> None:
    asked: dict[str, Any] = {
        "model": BUILT_IN.name,
        "input": WORDS,
        "max_output_tokens": 24,
        "temperature": 0,
        "background": True,
    }
    with OpenAI(base_url=f"{served.gateway.url}/v1", api_key=served.gateway.key) as client:
        made = client.responses.create(**asked)
        assert made.status in ("queued", "in_progress")
        until(lambda: client.responses.retrieve(made.id).status == "incomplete", 60)
        done = client.responses.retrieve(made.id)
        prompt = served.count_tokens([{"role": "user", "content": WORDS}])
        assert done.usage is not None
        assert (done.usage.input_tokens, done.usage.output_tokens) == (prompt, 24)
        stream = client.responses.create(**asked, stream=True)
        seen = []
        for event in stream:
            seen.append(event)
            if event.type == "response.output_text.delta":
                break
        stream.close()
        name = seen[0].response.id
        rest = list(client.responses.retrieve(name, stream=True, starting_after=seen[-1].sequence_number))
        text = "".join(event.delta for event in [*seen, *rest] if event.type == "response.output_text.delta")
        assert text == done.output_text == client.responses.retrieve(name).output_text
    tokens = served.gateway.tokens()
    assert tokens["tokens.output"] == 48
    assert tokens["tokens.input"] + tokens.get("tokens.input_cached", 0) == 2 * prompt
