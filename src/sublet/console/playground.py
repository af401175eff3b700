"""The playground: a person tries a model in the browser. The answer streams through the control plane, which adds the key."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx2
import msgspec
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.concurrency import run_in_threadpool

from sublet.accounts.people.model import Session
from sublet.accounts.people.sessions import Sessions
from sublet.console.cookies import set_token, token_in
from sublet.console.figures import money
from sublet.console.forms import Form
from sublet.console.frame import HEADERS
from sublet.console.page import Drawn, Screen, Visit
from sublet.console.pages import refuse_forged
from sublet.console.snippets import snippets
from sublet.values.errors import (
    InvalidInputError,
    LimitExceededError,
    SubletError,
    UnauthenticatedError,
    UnavailableError,
)
from sublet.values.money import Money

PATH = "/playground"
PERMISSION = "inference:use"
BODY_BYTES_MAX = 256 * 1024
MESSAGES_MAX = 200
STREAMS_PER_SESSION_MAX = 4
STREAMS_MAX = 256
LINE_BYTES_MAX = 1024 * 1024
ERROR_BYTES_MAX = 64 * 1024
KEY_TRIES = 12
KEY_WAIT_S = 0.25
"""A gateway knows a new key within a second."""
CONNECT_S = 5.0
SILENCE_S = 620.0
"""The longest that a request may wait in the gateway's queue, and then some; the gateway itself ends answers that take too long."""
DEFAULTS: dict[str, Any] = {
    "prompt": "What is a sublet?",
    "system": "",
    "max_tokens": 256,
    "temperature": 0.7,
    "top_p": 1.0,
}
AWAY = "The model API does not answer; try again in a moment"
LOST = "The model API closed the connection before the answer was complete; send the message again"


@dataclass(frozen=True, slots=True)
class Tokens:
    """What an answer used."""

    input: int
    input_cached: int
    output: int


@dataclass(frozen=True, slots=True)
class Playing:
    """What the playground needs: the key of a session, the names of the models that chat, what an organization pays for an answer
    (None where there is no price), and where the model API is, for itself and for customers."""

    key_of: Callable[[Session], str]
    models: Callable[[], Sequence[str]]
    cost: Callable[[str, str, Tokens], Money | None]
    gateway_url: str
    public_url: str
    trust: Callable[[], ssl.SSLContext] = ssl.create_default_context
    """Of the model API at `gateway_url`."""
    streams: dict[str, int] = field(default_factory=dict)
    """Answers under way, by session."""


class _Message(msgspec.Struct, forbid_unknown_fields=True):
    role: str
    content: str


class _Asked(msgspec.Struct, forbid_unknown_fields=True):
    """What the page sends. The gateway checks the values."""

    model: str
    messages: list[_Message]
    max_tokens: int
    temperature: float
    top_p: float


_decoder = msgspec.json.Decoder(_Asked)


def playground_screen(playing: Playing) -> Screen:
    """`/playground`."""

    def show(visit: Visit) -> Drawn:
        models = playing.models()
        wanted = visit.query.get("model", "")
        model = wanted if wanted in models else next(iter(models), "")
        values = {**DEFAULTS, "model": model}
        code = [(item, item.filled(values)) for item in snippets(playing.public_url)]
        return Drawn(
            "playground.html",
            {
                "models": models,
                "model": model,
                "defaults": DEFAULTS,
                "code": code,
                "is_person": visit.session.person is not None,
                "may_make_keys": bool(visit.actor.may("keys:write")),
            },
        )

    return Screen(PATH, "Playground", PERMISSION, show, tenants=True)


def playground_router(sessions: Sessions, playing: Playing) -> APIRouter:
    """POST /playground/answer: a JSON body, the form token in a header, an event stream back."""
    routes = APIRouter(include_in_schema=False)

    @routes.post(f"{PATH}/answer")
    async def answer(request: Request) -> Response:
        session: Session | None = None
        try:
            body = await _body(request)
            session = await run_in_threadpool(sessions.find, token_in(request))
            if session is None:
                raise UnauthenticatedError("your session has ended; sign in again")
            refuse_forged(request, session, Form({"form_token": request.headers.get("x-form-token", "")}))
            asked = _read(body)
            made = await _Answering(playing, session, asked).begin()
        except SubletError as error:
            made = JSONResponse({"error": {"message": error.message, "code": error.code}}, error.status, HEADERS)
        if session is not None and session.fresh_token is not None:
            set_token(request, made, session.fresh_token)
        return made

    return routes


class _Answering:
    """One answer, from the question to its cost."""

    def __init__(self, playing: Playing, session: Session, asked: _Asked) -> None:
        self._playing = playing
        self._session = session
        self._asked = asked
        timeout = httpx2.Timeout(SILENCE_S, connect=CONNECT_S)
        verify = playing.trust() if playing.gateway_url.startswith("https:") else False
        self._client = httpx2.AsyncClient(base_url=playing.gateway_url, timeout=timeout, trust_env=False, verify=verify)

    async def begin(self) -> Response:
        """The stream, or the gateway's refusal as it is. Raises SubletError."""
        self._count()
        try:
            upstream = await self._opened()
            if upstream.status_code != 200:
                refused = await _refusal(upstream)
                await self._end()
                return refused
        except BaseException:
            await self._end()
            raise
        return StreamingResponse(self._stream(upstream), media_type="text/event-stream", headers=HEADERS)

    async def _opened(self) -> httpx2.Response:
        body = {**msgspec.to_builtins(self._asked), "stream": True, "stream_options": {"include_usage": True}}
        for left in range(KEY_TRIES - 1, -1, -1):
            secret = await run_in_threadpool(self._playing.key_of, self._session)
            headers = {"Authorization": f"Bearer {secret}"}
            request = self._client.build_request("POST", "/v1/chat/completions", json=body, headers=headers)
            try:
                answer = await self._client.send(request, stream=True)
            except httpx2.TransportError as error:
                raise UnavailableError(AWAY) from error
            if answer.status_code != 401 or not left:
                return answer
            await answer.aclose()
            await asyncio.sleep(KEY_WAIT_S)
        raise UnavailableError(AWAY)

    async def _stream(self, upstream: httpx2.Response) -> AsyncIterator[bytes]:
        rest, usage = b"", None
        try:
            async for piece in upstream.aiter_bytes():
                yield piece
                *lines, rest = (rest + piece)[-LINE_BYTES_MAX:].split(b"\n")
                usage = next((found for line in lines if (found := _usage_in(line))), usage)
            request_id = upstream.headers.get("x-request-id", "")
            if usage is not None:
                cost = await run_in_threadpool(self._cost, usage)
                yield f"data: {json.dumps({'cost': cost, 'request_id': request_id})}\n\n".encode()
        except httpx2.TransportError:
            yield f"data: {json.dumps({'error': {'message': LOST}})}\n\n".encode()
        finally:
            await upstream.aclose()
            await self._end()

    def _cost(self, usage: Tokens) -> str:
        try:
            found = self._playing.cost(self._session.organization.id, self._asked.model, usage)
        except SubletError:
            return ""
        return f"{money(found)} {found.currency}" if found is not None else ""

    def _count(self) -> None:
        streams = self._playing.streams
        if streams.get(self._session.id, 0) >= STREAMS_PER_SESSION_MAX:
            raise LimitExceededError(
                f"{STREAMS_PER_SESSION_MAX} answers are already under way in this session; wait for one or stop it"
            )
        if sum(streams.values()) >= STREAMS_MAX:
            raise UnavailableError("the playground is busy; try again in a moment, or call the model API with a key")
        streams[self._session.id] = streams.get(self._session.id, 0) + 1

    async def _end(self) -> None:
        left = self._playing.streams.get(self._session.id, 0) - 1
        if left > 0:
            self._playing.streams[self._session.id] = left
        else:
            self._playing.streams.pop(self._session.id, None)
        await self._client.aclose()


async def _body(request: Request) -> bytes:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > BODY_BYTES_MAX:
            raise InvalidInputError(f"the conversation is longer than {BODY_BYTES_MAX // 1024} KiB; start a new one")
    return body


def _read(body: bytes) -> _Asked:
    try:
        asked = _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInputError(f"the request can't be read ({error}); reload the page") from error
    if not asked.model:
        raise InvalidInputError("choose a model")
    if not 1 <= len(asked.messages) <= MESSAGES_MAX:
        raise InvalidInputError(f"a conversation has 1 to {MESSAGES_MAX} messages; start a new one")
    return asked


async def _refusal(upstream: httpx2.Response) -> Response:
    """The gateway's own sentence, with its status and when to try again."""
    body = b""
    async for piece in upstream.aiter_bytes():
        body += piece
        if len(body) > ERROR_BYTES_MAX:
            break
    await upstream.aclose()
    try:
        found = json.loads(body)["error"]
        told = {"message": str(found["message"]), "code": str(found.get("code") or found.get("type") or "")}
    except (ValueError, KeyError, TypeError):
        told = {"message": AWAY, "code": "unavailable"}
    kept = {name: upstream.headers[name] for name in ("retry-after",) if name in upstream.headers}
    return JSONResponse({"error": told}, upstream.status_code, {**HEADERS, **kept})


def _usage_in(line: bytes) -> Tokens | None:
    """What a line of the stream says was used, if it says so."""
    if not line.startswith(b"data: {") or b'"usage"' not in line:
        return None
    try:
        usage: Mapping[str, Any] = json.loads(line[6:])["usage"]
        cached = int((usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0)
        return Tokens(int(usage["prompt_tokens"]) - cached, cached, int(usage["completion_tokens"]))
    except (ValueError, KeyError, TypeError):
        return None
