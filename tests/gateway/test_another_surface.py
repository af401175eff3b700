"""A second surface, in another form than OpenAI's: served, streamed, refused and billed as the first one is."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from tests.gateway.harness import MODEL, Running, until

from sublet.conformance import Check
from sublet.conformance.surfaces import CHECKS, PUBLIC, SurfaceStage
from sublet.gateway import server
from sublet.gateway.refusals import EngineFailedError, InvalidRequestError
from sublet.gateway.requests.call import Call
from sublet.gateway.requests.form import ChatRequest, Role, Text, Turn
from sublet.gateway.surfaces.registry import SURFACES
from sublet.gateway.surfaces.surface import CommonSurface, Identity
from sublet.values.errors import SubletError


class Asked(msgspec.Struct, forbid_unknown_fields=True):
    model: str
    say: str
    stream: bool = False


_asked = msgspec.json.Decoder(Asked)


class SaySurface(CommonSurface):
    """`{"model", "say", "stream"}`, answered by lines of JSON."""

    routes = {b"/v1/say": "chat"}  # noqa: RUF012
    stream_content_type = b"application/x-ndjson"

    def parse(self, kind: str, body: bytes) -> Call:
        try:
            asked = _asked.decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise InvalidRequestError(f"The body can't be read: {error}") from error
        return Call.of(ChatRequest(asked.model, (Turn(Role.USER, (Text(asked.say),)),), stream=asked.stream))

    def stream(self, call: Call, identity: Identity) -> SayStream:
        return SayStream()

    def answer(self, call: Call, identity: Identity, body: bytes) -> bytes:
        message = _choice(body).get("message")
        if not isinstance(message, dict):
            raise EngineFailedError
        return _line(said=message.get("content"), model=identity.model)

    def refusal(self, error: SubletError) -> bytes:
        return _line(error=error.message)


class SayStream:
    def event(self, payload: bytes) -> bytes:
        text = (_choice(payload).get("delta") or {}).get("content")
        return _line(said=text) if text else b""

    def end(self) -> bytes:
        return _line(done=True)

    def failure(self, error: SubletError) -> bytes:
        return _line(error=error.message)

    def keep_alive(self) -> bytes:
        return b"\n"


def _line(**fields: Any) -> bytes:
    return json.dumps(fields, ensure_ascii=False).encode() + b"\n"


def _choice(payload: bytes) -> dict[str, Any]:
    try:
        found = json.loads(payload)
    except ValueError as error:
        raise EngineFailedError from error
    choices = found.get("choices") if isinstance(found, dict) else None
    if not isinstance(choices, list):
        raise EngineFailedError
    return dict(choices[0]) if choices else {}


def lines(told: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in told.splitlines() if line]


@pytest.mark.parametrize("check", CHECKS, ids=str)
def test_it_conforms(check: Check[SurfaceStage]) -> None:
    asked = {"model": PUBLIC, "say": "How many words?"}
    check(
        SurfaceStage(
            SaySurface(),
            {"chat": json.dumps(asked).encode()},
            {"chat": json.dumps({**asked, "stream": True}).encode()},
            said=lambda body: str(json.loads(body)["said"]),
            streamed_said=lambda told: "".join(line.get("said", "") for line in lines(told)),
            refused=lambda body: str(json.loads(body)["error"]),
        )
    )


def test_a_gateway_serves_it_beside_the_first(
    make_gateway: Callable[..., Running], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "SURFACES", (*SURFACES, SaySurface()))
    gateway = make_gateway()
    answer = gateway.post({"model": MODEL, "say": "hi"}, path="/v1/say")
    assert (answer.status, lines(answer.body)) == (200, [{"said": "Hello", "model": MODEL}])
    streamed = gateway.post({"model": MODEL, "say": "hi", "stream": True}, path="/v1/say")
    assert lines(streamed.body) == [{"said": "Hel"}, {"said": "lo"}, {"done": True}]
    refused = gateway.post({"model": MODEL, "sing": "hi"}, path="/v1/say")
    assert refused.status == 400 and "sing" in lines(refused.body)[0]["error"]
    unknown = gateway.post({"model": "nobody", "say": "hi"}, path="/v1/say")
    assert unknown.status == 404 and "nobody" in lines(unknown.body)[0]["error"]
    until(lambda: gateway.tokens().get("tokens.output") == 6)
