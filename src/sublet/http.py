"""The frame of Sublet's own HTTP interface: who is asking, how errors look, request ids, and limits on bodies."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Annotated, Any

import structlog
from fastapi import FastAPI, Header, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sublet import __version__
from sublet.accounts.model import SCOPES, Actor
from sublet.accounts.service import Accounts
from sublet.values.errors import InvalidInputError, NotFoundError, SubletError

log = structlog.get_logger(__name__)

BODY_BYTES_MAX = 16 * 1024 * 1024


class BodyTooLargeError(InvalidInputError):
    """The body is larger than 16 MiB; send it in parts."""

    code = "body_too_large"
    status = 413


def requirement(accounts: Accounts) -> Callable[[str], Callable[..., Actor]]:
    """Makes `require(scope)`, which makes a dependency that yields the Actor; the empty scope takes any valid key."""

    def require(scope: str) -> Callable[..., Actor]:
        if scope and scope not in SCOPES:
            raise ValueError(f"there is no scope {scope!r}")

        def actor(authorization: Annotated[str | None, Header()] = None) -> Actor:
            kind, _, secret = (authorization or "").partition(" ")
            found = accounts.authenticate(secret.strip() if kind.lower() == "bearer" else None)
            if scope:
                found.require(scope)
            structlog.contextvars.bind_contextvars(organisation_id=found.organisation_id, key_id=found.key_id)
            return found

        return actor

    return require


def frame(title: str) -> FastAPI:
    """A FastAPI application with Sublet's errors, request ids and limits, and no route yet."""
    api = FastAPI(title=title, version=__version__, docs_url=None, redoc_url=None, openapi_url="/v1/openapi.json")
    api.add_exception_handler(SubletError, _known)
    api.add_exception_handler(RequestValidationError, _invalid)
    api.add_exception_handler(HTTPException, _http)
    api.add_exception_handler(Exception, _unknown)
    api.add_middleware(Envelope)
    return api


class Envelope:
    """Gives each request an id, and refuses a body over the limit before anybody reads it whole."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = f"req_{secrets.token_hex(12)}"
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id)
        seen = 0

        async def limited() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > BODY_BYTES_MAX:
                raise BodyTooLargeError()
            return message

        async def marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                message.setdefault("headers", []).append((b"x-request-id", request_id.encode()))
            await send(message)

        await self._app(scope, limited, marked)


async def _known(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, SubletError)
    if error.status >= 500:
        log.warning("request_failed", path=request.url.path, code=error.code, reason=error.message)
    return _answer(error)


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        return _answer(InvalidInputError(f"the body is not JSON: {first.get('ctx', {}).get('error', 'it breaks off')}"))
    where = ".".join(str(part) for part in first["loc"] if part != "body") or "body"
    return _answer(InvalidInputError(f"{where}: {first['msg'][:1].lower()}{first['msg'][1:]}", field=where))


async def _http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        return _answer(
            NotFoundError(f"there is no {request.method} {request.url.path}; /v1/openapi.json lists what there is")
        )
    shown = {"error": {"code": "http", "message": str(error.detail), "details": {}}}
    return JSONResponse(shown, error.status_code, headers=dict(error.headers or {}))


async def _unknown(request: Request, error: Exception) -> JSONResponse:
    log.error("request_broke", path=request.url.path, exc_info=error)
    return _answer(SubletError())


def _answer(error: SubletError) -> JSONResponse:
    headers: dict[str, Any] = {"www-authenticate": "Bearer"} if error.status == 401 else {}
    if "retry_after_s" in error.details:
        headers["retry-after"] = str(error.details["retry_after_s"])
    return JSONResponse(error.as_dict(), error.status, headers=headers)
