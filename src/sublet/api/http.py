"""The frame of Sublet's own HTTP interface: who is asking, how errors look, request ids, and limits on what is sent."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterator
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi._compat import ModelField
from fastapi.dependencies.models import Dependant
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sublet import __version__
from sublet.accounts.answers import AnswerRoute, answer_type
from sublet.accounts.model import Actor, Require
from sublet.accounts.permissions import PERMISSIONS
from sublet.accounts.service import Accounts
from sublet.store import Store
from sublet.store.audit import Acting, acting
from sublet.store.once import ANSWER_BYTES_MAX, AnsweredError, Effect, Once, current, request_digest
from sublet.values.errors import InvalidInputError, NotFoundError, SubletError
from sublet.values.text import refuse_unsafe
from sublet.values.wire import AnswerTypeError, as_answer, json_of, unknown_name

log = structlog.get_logger(__name__)

BODY_BYTES_MAX = 16 * 1024 * 1024
PARAMETER_CHARACTERS_MAX = 2_000
IDEMPOTENCY_KEY_MAX = 128
FAULTS_SHOWN_MAX = 20
UNRECORDED = {
    ("POST", "/v1/demand/{pool_id}/samples"): "measurements, every few seconds; each names its source",
    ("PUT", "/v1/images/{image}/content"): "parts of an image, which is recorded when it is announced",
    ("PUT", "/v1/volumes/{volume}/copies/{copy_id}/content"): "parts of a copy, which is recorded when it is announced",
    ("POST", "/v1/usage"): "events are append-only themselves, and the ledger keeps who sent them",
}
"""What changes something and is not in the audit log, with the reason."""
LARGE_BYTES = 64 * 1024
"""A larger body is looked through on another thread, so that others are answered meanwhile."""


class MethodNotAllowedError(SubletError):
    """This path does not support this method; the Allow header lists the methods that it supports."""

    code = "method_not_allowed"
    status = 405


class BodyTooLargeError(InvalidInputError):
    """The body is larger than 16 MiB; split it into several requests."""

    code = "body_too_large"
    status = 413


def requirement(accounts: Accounts) -> Require:
    """Makes `require(permission)`, which makes a dependency that yields the Actor."""

    def require(permission: str, *, effect: Effect | None = None) -> Callable[..., Any]:
        if permission not in PERMISSIONS:
            raise ValueError(f"there is no permission {permission!r}")

        async def actor(request: Request) -> Actor:
            secret = bearer_secret(request)
            found = await run_in_threadpool(accounts.authenticate, secret or None)
            found = found.require(permission)
            structlog.contextvars.bind_contextvars(organization_id=found.organization_id, key_id=found.key_id)
            _check_parameters(request)
            await _check_no_body(request)
            await _check_names(request)
            await _once(request, accounts.store, found, effect, secret)
            _note_actor(request, found)
            return found

        actor.permission = permission  # type: ignore[attr-defined]
        return actor

    return require


def bearer_secret(request: Request) -> str:
    """The key that a request carries, empty where it carries none. Raises InvalidInputError for several: which one is meant?"""
    kind, _, secret = (_one_header(request, "Authorization") or "").partition(" ")
    return secret.strip() if kind.lower() == "bearer" else ""


def _one_header(request: Request, name: str) -> str | None:
    found = request.headers.getlist(name)
    if len(found) > 1:
        raise InvalidInputError(f"send one {name} header; this request has {len(found)}", field=name)
    return found[0] if found else None


def permission_of(route: APIRoute) -> str | None:
    """The permission that a route names, if it names one."""
    pending = list(route.dependant.dependencies)
    for dependency in pending:
        if hasattr(dependency.call, "permission"):
            return str(dependency.call.permission)  # type: ignore[union-attr]
        pending += dependency.dependencies
    return None


def check_permissions(api: FastAPI) -> None:
    """Raises RuntimeError where a route under /v1 names no permission: anyone who forgets it does not get as far as a test."""
    for route in api_routes(api):
        if route.path.startswith("/v1/") and permission_of(route) is None:
            raise RuntimeError(
                f"{sorted(route.methods or ())} {route.path} names no permission; see accounts/permissions.py"
            )


def _note_actor(request: Request, actor: Actor) -> None:
    """From here on what the request writes goes into the audit log; the one place where the API says so."""
    route = request.scope["route"]
    if request.method in ("GET", "HEAD") or (request.method, route.path) in UNRECORDED:
        return
    acting.set(
        Acting(
            actor.id,
            actor.organization_id,
            actor.role,
            f"{(route.tags or ['system'])[0]}.{route.name}",
            request.url.path,
            request.client.host if request.client else "",
            str(structlog.contextvars.get_contextvars().get("request_id", "")),
        )
    )


async def _once(request: Request, store: Store, actor: Actor, effect: Effect | None, secret: str) -> None:
    """Where a POST carries an idempotency key: answer as before, refuse another request, or see that its answer is kept."""
    key = _one_header(request, "Idempotency-Key")
    if key is None or request.method != "POST":
        return
    if not 0 < len(key) <= IDEMPOTENCY_KEY_MAX or not (key.isascii() and key.isprintable()):
        raise InvalidInputError(f"Idempotency-Key must have 1 to {IDEMPOTENCY_KEY_MAX} printable ASCII characters")
    route = request.scope["route"]
    event = {name: value for name, value in request.headers.items() if name.startswith("ce-")}
    body = await request.body()
    digest = request_digest("POST", request.url.path, request.url.query, body, event)
    if effect is not None and is_preview(body):
        # Nothing is written with which its answer could be kept: the key is reserved first.
        effect = None
    once = Once(store, actor.organization_id, key, digest, route.status_code or 200, effect, secret)
    await run_in_threadpool(once.begin)
    current.set(once)
    request.state.once = once


def is_preview(body: bytes) -> bool:
    """Whether a body asks what would be done, and for nothing to be done."""
    if b'"preview"' not in body:
        return False
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        return False
    return isinstance(said, dict) and said.get("preview") is True


async def _answered(request: Request, error: Exception) -> Response:
    assert isinstance(error, AnsweredError)
    headers = {"idempotency-replayed": "true"}
    if error.status == 204:
        return Response(status_code=204, headers=headers)
    kind = answer_type(request.scope["route"].endpoint)
    try:
        # Written as the first one was, so that both are equal byte for byte.
        content = None if kind is None else json_of(as_answer(kind, error.answer))
    except AnswerTypeError:
        # An older version kept it.
        content = None
    if content is None:
        return JSONResponse(error.answer, error.status, headers=headers)
    return Response(content, error.status, headers, "application/json")


def _check_parameters(request: Request) -> None:
    """Raises InvalidInputError for a query parameter that nobody reads or that is there twice, and for a value that no id,
    name or time can be."""
    route = request.scope.get("route")
    known = _query_names(route) if isinstance(route, APIRoute) else {}
    seen: set[str] = set()
    for name, value in request.query_params.multi_items():
        if name not in known:
            raise InvalidInputError(f"{name[:80]}: {unknown_name(name, list(known))}", field=name[:80])
        if name in seen and not known[name]:
            raise InvalidInputError(f"{name}: send it once", field=name)
        seen.add(name)
        _check_text(name, value)
    for name, value in request.path_params.items():
        _check_text(name, str(value))


def _check_text(name: str, value: str) -> None:
    if len(value) > PARAMETER_CHARACTERS_MAX:
        raise InvalidInputError(f"{name} must have at most {PARAMETER_CHARACTERS_MAX} characters", field=name)
    refuse_unsafe(value, name)


def _query_names(route: APIRoute) -> dict[str, bool]:
    """The query parameters of a route, and whether each may come several times."""
    return {field.alias: "list[" in str(field.field_info.annotation) for field in _query_fields(route.dependant)}


def _query_fields(dependant: Dependant) -> list[ModelField]:
    deeper = [field for inner in dependant.dependencies for field in _query_fields(inner)]
    return [*dependant.query_params, *deeper]


async def _check_no_body(request: Request) -> None:
    """Raises InvalidInputError where a route that takes no body is sent one that says something."""
    route = request.scope.get("route")
    if not isinstance(route, APIRoute) or route.body_field is not None:
        return
    if "requestBody" in (route.openapi_extra or {}):
        return
    sent = await request.body()
    if sent.strip() not in (b"", b"{}", b"null"):
        raise InvalidInputError(f"{request.method} {route.path} takes no body; leave it out")


async def _check_names(request: Request) -> None:
    """Raises InvalidInputError for a JSON body with an object that has a name twice: readers differ in which value counts."""
    body = await request.body()
    if b'"' not in body or "json" not in request.headers.get("content-type", "json").lower():
        return
    name = await run_in_threadpool(_repeated_name, body) if len(body) > LARGE_BYTES else _repeated_name(body)
    if name is not None:
        raise InvalidInputError(f"{name[:80]}: the field appears twice in one object; send it once", field=name[:80])


def _repeated_name(body: bytes) -> str | None:
    """A name that an object in the body has twice. What is not JSON is left to the code that reads it."""
    found: list[str] = []

    def look(pairs: list[tuple[str, Any]]) -> None:
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                found.append(name)
            seen.add(name)

    try:
        json.loads(body, object_pairs_hook=look)
    except (ValueError, RecursionError):
        return None
    return found[0] if found else None


def frame(title: str) -> FastAPI:
    """A FastAPI application with Sublet's errors, request ids and limits, and no route yet."""
    api = FastAPI(title=title, version=__version__, docs_url=None, redoc_url=None, openapi_url="/v1/openapi.json")
    # A redirect would name the host that the caller claims to have asked.
    api.router.redirect_slashes = False
    api.router.route_class = AnswerRoute
    api.add_exception_handler(SubletError, _known)
    api.add_exception_handler(AnsweredError, _answered)
    api.add_exception_handler(RequestValidationError, _invalid)
    api.add_exception_handler(HTTPException, _http)
    api.add_exception_handler(Exception, _unknown)
    api.add_middleware(Envelope)
    return api


class Envelope:
    """Gives each request an id, refuses a body over the limit before anybody reads it whole, and answers HEAD as GET without the
    body."""

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

        answer = _Answer()
        is_head = scope["method"] == "HEAD"
        if is_head:
            scope = {**scope, "method": "GET"}

        async def marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                message.setdefault("headers", []).append((b"x-request-id", request_id.encode()))
            await answer.pass_on(scope, message)
            if is_head and message["type"] == "http.response.body":
                if message.get("more_body", False):
                    return
                message = {"type": "http.response.body", "body": b""}
            await send(message)

        await self._app(scope, limited, marked)


class _Answer:
    """Keeps the answer of a request that came under an idempotency key, where it was not kept together with the effect, and
    gives the key back where the request was refused. After a failure of the service the key stays with its request."""

    def __init__(self) -> None:
        self._status = 0
        self._body = b""

    async def pass_on(self, scope: Scope, message: Message) -> None:
        """See a message of the answer before it is sent."""
        once: Once | None = scope.get("state", {}).get("once")
        if once is None or once.is_kept:
            return
        if message["type"] == "http.response.start":
            self._status = message["status"]
            if 400 <= self._status < 500 and once.effect is None:
                await run_in_threadpool(_give_back, once)
        elif 200 <= self._status < 300 and len(self._body) <= ANSWER_BYTES_MAX and not _is_secret(once):
            self._body += message.get("body", b"")
            if not message.get("more_body", False) and len(self._body) <= ANSWER_BYTES_MAX:
                await run_in_threadpool(once.keep, self._status, self._body)


def _give_back(once: Once) -> None:
    """Without the database the key stays with its request, which may be sent again as it is."""
    try:
        once.give_back()
    except SubletError as error:
        log.warning("idempotency_key_not_given_back", reason=error.message)


def _is_secret(once: Once) -> bool:
    return once.effect is not None and once.effect.secret


async def _known(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, SubletError)
    if error.status >= 500:
        log.warning("request_failed", path=request.url.path, code=error.code, reason=error.message)
    return _answer(error)


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    faults = list(_faults(error))
    field, sentence = faults[0]
    shown = [{"field": name, "message": text} for name, text in faults[:FAULTS_SHOWN_MAX]]
    return _answer(
        InvalidInputError(f"{field}: {sentence}" if field else sentence, field=field or "body", faults=shown)
    )


def _faults(error: RequestValidationError) -> Iterator[tuple[str, str]]:
    """Each field that is wrong, by its path, and what is wrong with it."""
    for found in error.errors():
        kind, place = found["type"], [str(part) for part in found["loc"]]
        inside = place[1:] if place[:1] in (["body"], ["query"], ["path"], ["header"]) else place
        context = found.get("ctx", {})
        if kind == "json_invalid":
            yield "", f"the body is not JSON: {context.get('error', 'it breaks off')}"
        elif kind == "unknown_field":
            yield ".".join([*inside, str(context["name"])]), found["msg"]
        elif not inside and place[:1] == ["body"] and kind in ("missing", "dataclass_type", "model_attributes_type"):
            yield "", "the body must be a JSON object, sent with content-type application/json"
        else:
            yield ".".join(inside) or "body", f"{found['msg'][:1].lower()}{found['msg'][1:]}"


async def _http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        return _answer(
            NotFoundError(f"there is no {request.method} {request.url.path}; /v1/openapi.json lists what there is")
        )
    if error.status_code == 405:
        allowed = ", ".join(_methods_at(request))
        answer = _answer(MethodNotAllowedError(f"{request.url.path} has no {request.method}; it has {allowed}"))
        answer.headers["allow"] = allowed
        return answer
    if error.status_code == 400:
        # FastAPI's word for a body that its JSON reader could not even begin to read, such as one that is not UTF-8.
        return _answer(
            InvalidInputError(
                "the body can't be read as JSON: write UTF-8 text, nested at most 900 deep, with numbers of at most 4,300 digits"
            )
        )
    shown = {"error": {"code": "http", "message": str(error.detail), "details": {}}}
    return JSONResponse(shown, error.status_code, headers=dict(error.headers or {}))


def _methods_at(request: Request) -> list[str]:
    """The methods that the path has, over all routes: a path may have one route for each."""
    path = request.url.path
    found = {name for route in api_routes(request.app) if route.path_regex.match(path) for name in route.methods or ()}
    return sorted(found | ({"HEAD"} if "GET" in found else set()))


def api_routes(api: FastAPI) -> Iterator[APIRoute]:
    """Every route, those of included routers too."""
    pending = list(api.routes)
    while pending:
        route = pending.pop(0)
        if isinstance(route, APIRoute):
            yield route
        else:
            pending = [*getattr(getattr(route, "original_router", None), "routes", ()), *pending]


async def _unknown(request: Request, error: Exception) -> JSONResponse:
    log.error("request_broke", path=request.url.path, exc_info=error)
    return _answer(SubletError())


def _answer(error: SubletError) -> JSONResponse:
    headers: dict[str, Any] = {"www-authenticate": "Bearer"} if error.status == 401 else {}
    if "retry_after_s" in error.details:
        headers["retry-after"] = str(error.details["retry_after_s"])
    if error.status == 412:
        headers["etag"] = error.details["etag"]
    return JSONResponse(error.as_dict(), error.status, headers=headers)
