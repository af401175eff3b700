"""What a surface costs: microseconds of CPU to translate an engine's event, and a request. Writes bench/results/surfaces.json.

`python bench/surfaces.py` feeds each surface's stream with the chunks of an answer, as llama.cpp sends them, and reads a request of
ten messages and one of a coding agent's kind (60 messages, 40 tools). The least of several rounds counts, since other programs only
add to it; `of_openai` is the ratio to OpenAI's own surface, which passes events on by position.
`sigv4` is what it costs to check a signature.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sublet.gateway.front.signed import Signers
from sublet.gateway.model import KeyGrant, Snapshot
from sublet.gateway.requests.call import Call
from sublet.gateway.surfaces.registry import SURFACES
from sublet.gateway.surfaces.sigv4 import signature_of
from sublet.gateway.surfaces.surface import Identity, Surface
from sublet.values.clock import SystemClock

RESULT = Path(__file__).parent / "results" / "surfaces.json"
EVENTS, ROUNDS, REQUESTS = 2_000, 15, 200
IDENTITY = Identity("req_0123456789abcdef", "model", 1_700_000_000)
SCHEMA = {"type": "object", "properties": {"path": {"type": "string", "description": "x" * 200}}, "required": ["path"]}
HEAD = (
    '{{"choices":[{{"finish_reason":null,"index":0,"delta":{{"content":"{text}"}}}}],"created":1790000000,"id":"chatcmpl-x",'
    '"model":"engine","system_fingerprint":"b1-0","object":"chat.completion.chunk"}}'
)


def main() -> None:
    found: dict[str, Any] = {}
    for surface in SURFACES:
        name = type(surface).__name__.removesuffix("Surface").lower()
        found[name] = measured(surface, name)
    for figures in list(found.values()):
        figures["of_openai"] = round(figures["event_us"] / found["openai"]["event_us"], 2)
    found["sigv4"] = {"check_us": round(least_us(signed_requests()) / REQUESTS, 1)}
    RESULT.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
    print(json.dumps(found, indent=1))


def measured(surface: Surface, name: str) -> dict[str, float]:
    """The figures of one surface."""
    surface, small = request_of(surface, name, 10, 0)
    large = request_of(surface, name, 60, 40)[1]
    chunks = [HEAD.format(text=f" word{number}").encode() for number in range(EVENTS)]

    def stream() -> None:
        event = surface.stream(parsed(surface, small), IDENTITY).event
        for chunk in chunks:
            event(chunk)

    return {
        "event_us": round(least_us(stream) / EVENTS, 2),
        "request_of_10_us": round(least_us(lambda: read(surface, small)) / REQUESTS, 1),
        "request_of_60_with_40_tools_us": round(least_us(lambda: read(surface, large)) / REQUESTS, 1),
    }


def request_of(surface: Surface, name: str, turns: int, tools: int) -> tuple[Surface, bytes]:
    """A request in the vendor's form, and the surface for it."""
    words = "How many words does this sentence have, and why? " * 8
    roles = ["user", "assistant"] * (turns // 2 - 1) + ["user"]
    fields: dict[str, Any] = {"model": "model", "stream": True}
    messages = [{"role": role, "content": words} for role in roles]
    if name == "anthropic":
        fields |= {"max_tokens": 999, "messages": messages, "system": [{"type": "text", "text": words}]}
        if tools:
            fields["tools"] = [{"name": f"t{n}", "description": words, "input_schema": SCHEMA} for n in range(tools)]
    elif name == "gemini":
        contents = [{"role": "model" if role == "assistant" else role, "parts": [{"text": words}]} for role in roles]
        fields = {"contents": contents, "systemInstruction": {"parts": [{"text": words}]}}
        if tools:
            functions = [{"name": f"t{n}", "description": words, "parameters": SCHEMA} for n in range(tools)]
            fields["tools"] = [{"functionDeclarations": functions}]
        found = surface.find(b"/v1beta/models/model:streamGenerateContent", b"alt=sse")
        assert found is not None
        surface = found[0]
    elif name == "bedrock":
        blocks = [{"role": role, "content": [{"text": words}]} for role in roles]
        fields = {"messages": blocks, "system": [{"text": words}]}
        if tools:
            specs = [{"name": f"t{n}", "description": words, "inputSchema": {"json": SCHEMA}} for n in range(tools)]
            fields["toolConfig"] = {"tools": [{"toolSpec": item} for item in specs]}
        found = surface.find(b"/model/model/converse-stream", b"")
        assert found is not None
        surface = found[0]
    elif name == "responses":
        fields |= {"input": messages, "instructions": words}
        if tools:
            functions = [{"name": f"t{n}", "description": words, "parameters": SCHEMA} for n in range(tools)]
            fields["tools"] = [{"type": "function", **item} for item in functions]
    else:
        fields["messages"] = messages
        if tools:
            functions = [{"name": f"t{n}", "description": words, "parameters": SCHEMA} for n in range(tools)]
            fields["tools"] = [{"type": "function", "function": item} for item in functions]
    return surface, json.dumps(fields).encode()


def signed_requests() -> Callable[[], None]:
    """What checks a signed request of 2 kB as the gateway does, its signing key of the day being known."""
    from botocore.auth import SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    body, target = b"x" * 2048, b"/model/a%3A0/converse"
    told = {
        "Content-Type": "application/json",
        "User-Agent": "Boto3/1.44 md/Botocore",
        "amz-sdk-invocation-id": "x" * 36,
    }
    request = AWSRequest("POST", "http://models.example.com" + target.decode(), told, body)
    SigV4Auth(Credentials("key_1", "secret"), "bedrock", "us-east-1").add_auth(request)
    headers = [(b"host", b"models.example.com")]
    headers += [(name.lower().encode(), str(value).encode()) for name, value in request.headers.items()]
    signers = Signers(SystemClock(), lambda sealed, owner: sealed)
    signers.adopt(Snapshot({b"": KeyGrant("key_1", "org_1", signing_secret="secret")}))

    def check() -> None:
        for _ in range(REQUESTS):
            signature = signature_of(headers)
            assert signature is not None
            signed = signers.begin(signature, b"POST", target, headers)
            signed.feed(body)
            signed.prove()

    return check


def parsed(surface: Surface, body: bytes) -> Call:
    return surface.parse("chat", body)


def read(surface: Surface, body: bytes) -> None:
    for _ in range(REQUESTS):
        surface.parse("chat", body)


def least_us(work: Callable[[], None]) -> float:
    """Microseconds of CPU of the cheapest round."""
    found = []
    for _ in range(ROUNDS):
        before = time.process_time_ns()
        work()
        found.append((time.process_time_ns() - before) / 1000)
    return min(found)


if __name__ == "__main__":
    main()
