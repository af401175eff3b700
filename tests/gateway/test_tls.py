"""The model API by HTTPS: SDKs that send keys over TLS alone, streams, refusals, and clients that leave."""

from __future__ import annotations

import socket
import ssl
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import httpx2
import openai
import pytest
from botocore.config import Config
from tests.gateway.harness import MODEL, Answering, Running, ScriptedEngine, chunk, event, timings

from sublet.tls.authority import Authority
from sublet.tls.files import CertificateFiles
from sublet.tls.listening import HANDSHAKES_MAX


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    made = Authority(tmp_path / "tls")
    made.create(["localhost", "127.0.0.1"], datetime.now(UTC))
    return made


@pytest.fixture
def gateway(make_gateway: Any, authority: Authority) -> Running:
    made: Running = make_gateway(tls=CertificateFiles(authority.certificate, authority.private_key))
    assert made.url.startswith("https://127.0.0.1:")
    return made


def test_amazons_sdk_with_a_bearer_key(gateway: Running, authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", gateway.key)
    config = Config(retries={"total_max_attempts": 1})
    client = boto3.client(
        "bedrock-runtime",
        endpoint_url=gateway.url,
        region_name="us-east-1",
        config=config,
        verify=str(authority.trusted),
    )
    asked: dict[str, Any] = {"modelId": MODEL, "messages": [{"role": "user", "content": [{"text": "hi"}]}]}
    assert client.converse(**asked)["output"]["message"]["content"] == [{"text": "Hello"}]
    told = list(client.converse_stream(**asked)["stream"])
    assert told[-1]["metadata"]["usage"]["outputTokens"] == 3
    client.close()


def test_openais_sdk_streams_and_a_client_that_leaves_pays_for_what_it_got(
    gateway: Running, authority: Authority, engine: ScriptedEngine
) -> None:
    async def script(answering: Answering) -> None:
        await answering.head()
        for number in range(2):
            await answering.part(event(chunk(f"t{number}", timings=timings(5, number + 1))))
        await answering.gone()

    trusting = ssl.create_default_context(cafile=str(authority.trusted))
    with openai.OpenAI(
        base_url=f"{gateway.url}/v1", api_key=gateway.key, http_client=httpx2.Client(verify=trusting), max_retries=0
    ) as client:
        asked: Any = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}]}
        whole = client.chat.completions.create(**asked)
        assert whole.choices[0].message.content == "Hello"
        with pytest.raises(openai.AuthenticationError):
            client.with_options(api_key="sublet_wrong").chat.completions.create(**asked)
        engine.script = script
        stream = client.chat.completions.create(stream=True, **asked)
        texts = [next(stream).choices[0].delta.content for _ in range(3)]
        stream.close()
    assert texts == ["", "t0", "t1"]
    record = gateway.settled(2)[1]
    assert record["status"] == 499 and (record["input"], record["output"]) == (5, 2)


def test_hundreds_that_never_shake_hands_keep_no_customer_out(gateway: Running, authority: Authority) -> None:
    idle = [socket.create_connection(gateway.address) for _ in range(HANDSHAKES_MAX + 40)]
    trusting = ssl.create_default_context(cafile=str(authority.trusted))
    with httpx2.Client(verify=trusting) as http:
        answer = http.get(f"{gateway.url}/v1/models", headers={"Authorization": f"Bearer {gateway.key}"})
    assert answer.status_code == 200
    for connection in idle:
        connection.close()
