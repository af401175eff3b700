"""The OpenAPI document: what FastAPI writes, completed by what holds for every operation and by the types of the answers.

The type of an operation's answer is what its function declares to return: a class in the domain's `wire.py`, where a client
finds it too. An answer has the fields of its type and no others (`values.wire.as_answer`). A client that is older than the
service may still see more (docs/api.md, "Compatibility").
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from pydantic import TypeAdapter

from sublet.accounts.answers import answer_type
from sublet.api.http import IDEMPOTENCY_KEY_MAX, api_routes, permission_of
from sublet.api.summaries import summary_of
from sublet.values.wire import answer


@answer
class ProblemError:
    """What happened: a stable code, one sentence that says what to do, and details that depend on the code."""

    code: str
    message: str
    details: dict[str, Any]


@answer
class Problem:
    """Why a request was refused."""

    error: ProblemError


PAGES: dict[tuple[str, str], tuple[str, ...]] = {
    ("GET", "/v1/desk/actuals.html"): ("text/html",),
    ("GET", "/v1/exports/{name}"): ("text/csv",),
    ("GET", "/v1/chargeback/export"): ("text/csv",),
    ("GET", "/v1/invoices/{invoice_id}"): ("text/html", "application/pdf"),
    ("GET", "/v1/events"): ("text/event-stream",),
    ("GET", "/v1/leases/{lease_id}/events"): ("text/event-stream",),
    ("GET", "/v1/volumes/{volume}/content"): ("application/x-tar",),
}
"""What else operations answer with than JSON: text for people and for spreadsheets, which no type describes."""

TAGGED = frozenset(
    {
        "/v1/leases/{lease_id}/ssh-keys",
        "/v1/leases/{lease_id}/name",
        "/v1/prices",
        "/v1/rate-cards/{organization_id}",
        "/v1/plan-subscriptions/{subscription_id}",
        "/v1/billing-profiles/{organization_id}",
        "/v1/blocks/{block_id}",
        "/v1/budgets/{budget_id}",
        "/v1/deployments/{model:path}",
        "/v1/model-routes/{route:path}",
        "/v1/limits/{limit_id}",
        "/v1/pools/{pool}",
        "/v1/subscriptions/{subscription_id}",
        "/v1/units/{unit_id}",
    }
)
"""GET operations whose answers have an ETag, and know If-None-Match."""

EDITS: dict[tuple[str, str], str] = {
    ("PUT", "/v1/leases/{lease_id}/ssh-keys"): "/v1/leases/{lease_id}/ssh-keys",
    ("PUT", "/v1/leases/{lease_id}/name"): "/v1/leases/{lease_id}/name",
    ("PUT", "/v1/prices"): "/v1/prices",
    ("PUT", "/v1/rate-cards/{organization_id}"): "/v1/rate-cards/{organization_id}",
    ("POST", "/v1/plan-subscriptions/{subscription_id}/change"): "/v1/plan-subscriptions/{subscription_id}",
    ("POST", "/v1/plan-subscriptions/{subscription_id}/end"): "/v1/plan-subscriptions/{subscription_id}",
    ("PUT", "/v1/billing-profiles/{organization_id}"): "/v1/billing-profiles/{organization_id}",
    ("POST", "/v1/blocks/{block_id}/change"): "/v1/blocks/{block_id}",
    ("PATCH", "/v1/budgets/{budget_id}"): "/v1/budgets/{budget_id}",
    ("DELETE", "/v1/budgets/{budget_id}"): "/v1/budgets/{budget_id}",
    ("PUT", "/v1/deployments/{model:path}/scale"): "/v1/deployments/{model:path}",
    ("PUT", "/v1/deployments/{model:path}/pools"): "/v1/deployments/{model:path}",
    ("DELETE", "/v1/deployments/{model:path}"): "/v1/deployments/{model:path}",
    ("PUT", "/v1/model-routes/{route:path}"): "/v1/model-routes/{route:path}",
    ("DELETE", "/v1/model-routes/{route:path}"): "/v1/model-routes/{route:path}",
    ("PUT", "/v1/limits/{limit_id}"): "/v1/limits/{limit_id}",
    ("DELETE", "/v1/limits/{limit_id}"): "/v1/limits/{limit_id}",
    ("PATCH", "/v1/subscriptions/{subscription_id}"): "/v1/subscriptions/{subscription_id}",
    ("DELETE", "/v1/subscriptions/{subscription_id}"): "/v1/subscriptions/{subscription_id}",
    ("PUT", "/v1/units/{unit_id}/service"): "/v1/units/{unit_id}",
}
"""What changes something in place, and so knows If-Match; and where the ETag is read."""

BOUNDED: dict[str, str] = {
    "/v1/jobs/{job_id}": "the words of its command, at most 256, and its attempts, at most 11",
    "/v1/leases/{lease_id}": "the newest 500 changes of one lease's state",
    "/v1/blocks/advice": "as many sizes and lengths as the request names",
    "/v1/blocks/{block_id}": "one block: at most 1,000 changes, and the leases in it that are not over",
    "/v1/calendar": "at most 200 steps of one pool",
    "/v1/backlog": "one entry for each month of three years and currency",
    "/v1/model-feed": "the models and routes of one installation, at most 400",
    "/v1/model-routes/{route:path}": "the models of one route, at most 16",
    "/v1/unmet-demand": "at most the 1,000 requests on the waiting list (`waitlist.total_max`), grouped",
    "/v1/networks": "the allow lists that the settings name, at most 45",
    "/v1/classes": "the classes of service that the settings name",
    "/v1/prices": "one price book, of at most 4 MiB",
    "/v1/invoices/draft": "one document: its lines are prices and months, not events",
    "/v1/invoices/{invoice_id}": "one document: its lines are prices and months, not events",
    "/v1/credit-notes/{note_id}": "one document: its lines are those of the invoice that it corrects",
    "/v1/owed": "one document: its lines are products and projects of what is not invoiced yet",
    "/v1/statements": "one document: at most 10,000 movements of one month",
    "/v1/rate-cards/{organization_id}": "one rate card, of at most 1,000 entries",
    "/v1/pricing-plans/{plan_id}": "one plan: at most 50 meters and 50 add-ons",
    "/v1/plan-subscriptions/{subscription_id}": "one subscription: at most 200 changes",
    "/v1/periods/{label}/checklist": "the steps of closing a month",
    "/v1/revenue": "a report: one entry for each of at most 60 months and each currency",
    "/v1/ledger/health": "the 10 oldest events that wait",
    "/v1/demand/{pool_id}/forecast": "as many horizons as the request names",
    "/v1/surplus/{pool_id}": "one rung for each class and window length",
    "/v1/surplus/{pool_id}/{class_name}": "one entry for each reason",
    "/v1/lease-plan": "one round's steps, and at most 1,000 that wait",
    "/v1/plan": "one round's steps, at most 2,000 that wait, and the last 20 rounds",
    "/v1/shadow": "a report: one entry for each pool, at most 20 hours and as many windows as the request names",
    "/v1/health": "the loops and backends of one process",
    "/v1/event-kinds": "the kinds that this version has",
    "/v1/events": "at most 200 events after `since`; `last` is where to go on",
    "/v1/leases/{lease_id}/events": "at most 200 events after `since`; `last` is where to go on",
    "/v1/chargeback": "a report: one entry for each internal team and currency",
    "/v1/yield-report": "a report: one entry for each pool and week, at most 26 weeks",
    "/v1/yield": "a report: one entry for each pool, and as many changes as models run on them",
    "/v1/yield/{pool}": "a report: one entry for each class and model of the pool",
    "/v1/desk/worth": "a report: one entry for each currency",
    "/v1/desk/actuals": "a report: one entry for each pool, channel and currency",
}
"""The GET operations whose answers hold lists and yet have no pages, each with what bounds it."""

EXAMPLES = Path(__file__).with_name("examples.json")
"""What was sent to a simulated system and what it answered, by operation; `tools/examples.py` writes it."""

REFUSALS = {
    "400": "The request is invalid; the message names the field.",
    "401": "The key is missing, unknown, expired or revoked.",
    "403": "The key does not have the permission.",
    "404": "It does not exist, or it belongs to another organization.",
    "409": "The request conflicts with the current state, or the idempotency key was used for another request.",
    "413": "The body is too large.",
    "429": "A limit was reached; Retry-After says when to try again.",
    "503": "A part of Sublet is unreachable; Retry-After says when to try again.",
}
GROUPS = {
    "accounts": "Organizations, their people, API keys and limits.",
    "fleet": "Pools, their accelerators, and the nodes that serve them.",
    "demand": "What the owner uses, and claims for what it will need.",
    "surplus": "What is on sale, why the rest is withheld, the forecast, and the record of promises.",
    "leases": "Quotes, leases, and reclaims, which return capacity to its owner.",
    "models": "The catalog of managed models and their deployments.",
    "ledger": "Usage, prices, credits, budgets, invoices and exports.",
    "volumes": "Persistent disks of an organization, which outlive its leases.",
    "images": "Root file systems that leases run on.",
    "maintenance": "Times when accelerators are out of service.",
    "jobs": "Commands that run on a lease of their own.",
    "waitlist": "Requests that wait for capacity.",
    "blocks": "Parts of a pool that the owner puts up for sale for months or years.",
    "notifications": "Events, and the subscriptions to them.",
    "allocation": "Yield: the best use of idle capacity, and what an hour of it is worth.",
    "system": "Health, plans and earnings.",
}
"""The groups of operations, each with what is in it."""

PARAMETERS = {
    "last-event-id": "The id of the last event that was received. The stream continues after it.",
    "limit": "The maximum number of items.",
    "since": "The sequence number of the last event that was received. Without it, the oldest event comes first.",
    "wait_s": "The number of seconds that the response may wait for an event.",
    "organization_id": "The organization; only the operator may name another one than its own.",
    "offset": "The number of bytes to skip: the `next` of the previous part.",
    "after": "The `next` of the previous page. Without it, the first page is returned.",
}
"""What query parameters of these names mean, wherever they are."""
_REFERENCE = "#/components/schemas/{model}"
_SCHEME = "key"


def answers_of(api: FastAPI) -> dict[tuple[str, str], type]:
    """The type of each operation's answer, by method and path, as the operations' functions declare it."""
    found = ((route, answer_type(route.endpoint)) for route in api_routes(api))
    return {(method, route.path): kind for route, kind in found if kind is not None for method in route.methods or ()}


def check_answers(api: FastAPI) -> None:
    """Raises RuntimeError if an operation under /v1 declares no type of its answer, and is not one that has none."""
    answers = answers_of(api)
    for route in api_routes(api):
        if not route.path.startswith("/v1/") or not route.include_in_schema or route.status_code == 204:
            continue
        for method in route.methods or ():
            if (method, route.path) not in answers and (method, route.path) not in PAGES:
                raise RuntimeError(f"{method} {route.path} declares no answer; return a class of wire.py (`as_answer`)")


def describe(api: FastAPI) -> None:
    """Make `/v1/openapi.json` the completed document. Raises RuntimeError for an operation that declares no answer."""
    check_answers(api)

    def document() -> dict[str, Any]:
        if api.openapi_schema is None:
            api.openapi_schema = _document(api)
        return api.openapi_schema

    api.openapi = document  # type: ignore[method-assign]


def _document(api: FastAPI) -> dict[str, Any]:
    made = get_openapi(title=api.title, version=api.version, routes=api.routes)
    made["info"]["description"] = (
        "The API of Sublet's control plane, which the console, the command line and the client library use."
    )
    made["tags"] = [{"name": name, "description": told} for name, told in GROUPS.items()]
    components = made.setdefault("components", {})
    components["securitySchemes"] = {
        _SCHEME: {"type": "http", "scheme": "bearer", "description": "An API key, as `Authorization: Bearer sublet_…`."}
    }
    schemas = components.setdefault("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    answers = answers_of(api)
    kinds = {kind.__name__: kind for kind in (*answers.values(), Problem)}
    adapters: list[Any] = [(name, "serialization", TypeAdapter(kind)) for name, kind in kinds.items()]
    references, definitions = TypeAdapter.json_schemas(adapters, ref_template=_REFERENCE)
    schemas.update(definitions.get("$defs", {}))
    shown = json.loads(EXAMPLES.read_text(encoding="utf-8"))
    for route in api_routes(api):
        for method in route.methods or ():
            operation = made["paths"].get(route.path_format, {}).get(method.lower())
            if operation is not None:
                told = answers.get((method, route.path))
                _complete(operation, route, method, {name: references[(name, "serialization")] for name in kinds}, told)
                _show(operation, shown.get(f"{method} {route.path}", {}))
    return made


def _show(operation: dict[str, Any], example: dict[str, Any]) -> None:
    """Put an example of the body and of the answer into an operation."""
    sent = operation.get("requestBody", {}).get("content", {}).get("application/json")
    if sent is not None and "body" in example:
        sent["example"] = example["body"]
    for status, response in operation["responses"].items():
        told = response.get("content", {}).get("application/json")
        if status.startswith("2") and told is not None and "answer" in example:
            told["example"] = example["answer"]


def _complete(
    operation: dict[str, Any], route: APIRoute, method: str, references: dict[str, Any], kind: type | None
) -> None:
    answers = operation["responses"]
    answers.pop("422", None)
    if method == "GET" and route.path in BOUNDED:
        operation["x-bounded"] = BOUNDED[route.path]
    for parameter in operation.get("parameters", []):
        parameter.setdefault("description", PARAMETERS.get(parameter["name"], ""))
    if kind is not None:
        answers[str(route.status_code or 200)]["content"] = {"application/json": {"schema": references[kind.__name__]}}
    pages = PAGES.get((method, route.path), ())
    if pages:
        content = answers["200"].setdefault("content", {})
        if kind is None:
            content.clear()
        content.update({page: {"schema": {"type": "string"}} for page in pages})
    permission = permission_of(route)
    group = str((route.tags or ["system"])[0])
    operation["tags"] = [group]
    operation["operationId"] = f"{group}.{route.name}"
    operation["summary"] = summary_of(operation["operationId"], operation.get("description", ""))
    operation["security"] = [{_SCHEME: []}] if permission else []
    if permission is None:
        return
    operation["x-permission"] = permission
    problem = {"application/json": {"schema": references["Problem"]}}
    for status, meaning in REFUSALS.items():
        answers.setdefault(status, {"description": meaning, "content": problem})
    _add_conditions(operation, route.path, method, problem)
    if method == "POST":
        known = [item for item in operation.get("parameters", []) if item["name"].lower() != "idempotency-key"]
        operation["parameters"] = [*known, _IDEMPOTENCY_KEY]


def _add_conditions(operation: dict[str, Any], path: str, method: str, problem: dict[str, Any]) -> None:
    """What an operation says of entity tags."""
    answers = operation["responses"]
    if (method, path) in EDITS:
        operation.setdefault("parameters", []).append(_IF_MATCH)
        answers["412"] = {
            "description": "It has changed since it was read. ETag contains the tag of its current state.",
            "content": problem,
            "headers": {"ETag": _ETAG},
        }
    if method == "GET" and path in TAGGED:
        operation.setdefault("parameters", []).append(_IF_NONE_MATCH)
        answers["304"] = {
            "description": "It has not changed since the state that the tag identifies.",
            "headers": {"ETag": _ETAG},
        }
    if (method == "GET" and path in TAGGED) or ((method, path) in EDITS and "200" in answers):
        answers["200"]["headers"] = {"ETag": _ETAG}


_ETAG = {"description": "Identifies the current state.", "schema": {"type": "string"}}
_TAGS = {"type": "string", "maxLength": 4000, "pattern": r'^(\*|(W/)?"[!#-~]*"( *, *(W/)?"[!#-~]*"){0,49})$'}
_IF_MATCH = {
    "name": "If-Match",
    "in": "header",
    "required": False,
    "description": "The ETag of the state that was read. If that is no longer the current state, the change is refused.",
    "schema": _TAGS,
}
_IF_NONE_MATCH = {
    "name": "If-None-Match",
    "in": "header",
    "required": False,
    "description": "The ETag of the state that you have. If it is still current, the response is 304.",
    "schema": _TAGS,
}
_IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "Makes it safe to repeat the request: the same request with the same key gets the same response.",
    "schema": {"type": "string", "minLength": 1, "maxLength": IDEMPOTENCY_KEY_MAX, "pattern": "^[ -~]+$"},
}
