"""A batch through OpenAI's SDK, answered by the real engine while somebody chats."""

from __future__ import annotations

import json
from typing import Any

import pytest
from openai import OpenAI
from tests.clients.conftest import Served
from tests.gateway.harness import until

from sublet.models.catalog import BUILT_IN

pytestmark = pytest.mark.real


def asked(number: int) -> dict[str, Any]:
    return {
        "custom_id": f"c{number}",
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": {
            "model": BUILT_IN.name,
            "messages": [{"role": "user", "content": f"Count to {number}."}],
            "max_tokens": 8,
            "temperature": 0,
        },
    }


def test_a_batch_of_the_real_engine(served: Served) -> None:
    content = b"".join(json.dumps(asked(number)).encode() + b"\n" for number in range(1, 7))
    with OpenAI(base_url=served.gateway.url + "/v1", api_key=served.gateway.key, max_retries=0) as client:
        file = client.files.create(file=("requests.jsonl", content), purpose="batch")
        batch = client.batches.create(
            input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h", metadata={"of": "tests"}
        )
        chat = client.chat.completions.create(
            model=BUILT_IN.name, messages=[{"role": "user", "content": "Hi"}], max_tokens=4
        )
        assert chat.choices[0].message.content
        until(lambda: client.batches.retrieve(batch.id).status == "completed", 60)
        done = client.batches.retrieve(batch.id)
        assert done.output_file_id and done.request_counts and done.usage
        assert (done.request_counts.completed, done.error_file_id) == (6, None)
        answers = [json.loads(line) for line in client.files.content(done.output_file_id).text.splitlines()]
    assert [item["custom_id"] for item in answers] == [f"c{number}" for number in range(1, 7)]

    told = [item["response"]["body"]["usage"] for item in answers]
    assert sum(usage["prompt_tokens"] for usage in told) == done.usage.input_tokens
    assert sum(usage["completion_tokens"] for usage in told) == done.usage.output_tokens
    for item in answers:
        messages = asked(int(item["custom_id"][1:]))["body"]["messages"]
        assert item["response"]["body"]["usage"]["prompt_tokens"] == served.count_tokens(messages)
        own = served.gateway.tokens(item["response"]["request_id"])
        usage = item["response"]["body"]["usage"]
        assert own.get("tokens.input", 0) + own.get("tokens.input_cached", 0) == usage["prompt_tokens"]
        assert own["tokens.output"] == usage["completion_tokens"]
