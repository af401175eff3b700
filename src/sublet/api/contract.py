"""The OpenAPI document: what FastAPI writes, completed by what holds for every operation and by the types of the answers.

The types are in each domain's `wire.py`, where a client finds them too. They describe answers; they don't filter them, so an
answer may have more fields than its type says (docs/api.md, "Compatibility").
"""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from pydantic import TypeAdapter

from sublet.accounts import wire as accounts
from sublet.api.http import IDEMPOTENCY_KEY_MAX, api_routes, permission_of
from sublet.demand import wire as demand
from sublet.fleet import wire as fleet
from sublet.leases import wire as leases
from sublet.ledger import wire as ledger
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


ANSWERS: dict[tuple[str, str], type] = {
    ("GET", "/v1/whoami"): accounts.Identity,
    ("GET", "/v1/organizations"): accounts.OrganizationList,
    ("POST", "/v1/organizations"): accounts.Organization,
    ("GET", "/v1/organizations/{organization}/keys"): accounts.KeyList,
    ("POST", "/v1/organizations/{organization}/keys"): accounts.IssuedKey,
    ("GET", "/v1/pools"): fleet.PoolList,
    ("GET", "/v1/pools/{pool}"): fleet.PoolDetail,
    ("GET", "/v1/claims"): demand.ClaimList,
    ("POST", "/v1/claims"): demand.Claim,
    ("DELETE", "/v1/claims/{claim_id}"): demand.Claim,
    ("POST", "/v1/quotes"): leases.Quote,
    ("GET", "/v1/quotes"): leases.QuoteList,
    ("POST", "/v1/quotes/{quote_id}/cancel"): leases.Quote,
    ("POST", "/v1/leases"): leases.Lease,
    ("GET", "/v1/leases"): leases.LeasePage,
    ("GET", "/v1/leases/{lease_id}"): leases.LeaseDetail,
    ("POST", "/v1/leases/{lease_id}/end"): leases.Lease,
    ("POST", "/v1/reclaims/{reclaim_id}/withdraw"): leases.LeaseList,
    ("GET", "/v1/quarantine"): leases.Quarantine,
    ("GET", "/v1/balances"): ledger.Balances,
    ("GET", "/v1/billing-profiles/{organization_id}"): ledger.Profile,
    ("PUT", "/v1/billing-profiles/{organization_id}"): ledger.Profile,
    ("GET", "/v1/budgets"): ledger.BudgetList,
    ("POST", "/v1/budgets"): ledger.Budget,
    ("PATCH", "/v1/budgets/{budget_id}"): ledger.Budget,
}
"""The type of each operation's answer, by method and path."""

REFUSALS = {
    "400": "The request can't be used as it is; the message names the field.",
    "401": "The key is missing, unknown, expired or revoked.",
    "403": "The key lacks the permission.",
    "404": "There is no such thing, or it is another organization's.",
    "409": "It conflicts with what is there, or the idempotency key was used for another request.",
    "413": "The body is too large.",
    "429": "A limit is reached; Retry-After says when to try again.",
    "503": "A part of Sublet is not reachable; Retry-After says when to try again.",
}
_REFERENCE = "#/components/schemas/{model}"
_SCHEME = "key"


def describe(api: FastAPI) -> None:
    """Make `/v1/openapi.json` the completed document."""

    def document() -> dict[str, Any]:
        if api.openapi_schema is None:
            api.openapi_schema = _document(api)
        return api.openapi_schema

    api.openapi = document  # type: ignore[method-assign]


def _document(api: FastAPI) -> dict[str, Any]:
    made = get_openapi(title=api.title, version=api.version, routes=api.routes)
    components = made.setdefault("components", {})
    components["securitySchemes"] = {
        _SCHEME: {"type": "http", "scheme": "bearer", "description": "An API key, as `Authorization: Bearer sublet_…`."}
    }
    schemas = components.setdefault("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    kinds = {kind.__name__: kind for kind in (*ANSWERS.values(), Problem)}
    adapters: list[Any] = [(name, "serialization", TypeAdapter(kind)) for name, kind in kinds.items()]
    references, definitions = TypeAdapter.json_schemas(adapters, ref_template=_REFERENCE)
    schemas.update(definitions.get("$defs", {}))
    for route in api_routes(api):
        for method in route.methods or ():
            operation = made["paths"].get(route.path_format, {}).get(method.lower())
            if operation is not None:
                _complete(operation, route, method, {name: references[(name, "serialization")] for name in kinds})
    return made


def _complete(operation: dict[str, Any], route: APIRoute, method: str, references: dict[str, Any]) -> None:
    answers = operation["responses"]
    answers.pop("422", None)
    kind = ANSWERS.get((method, route.path))
    if kind is not None:
        answers[str(route.status_code or 200)]["content"] = {"application/json": {"schema": references[kind.__name__]}}
    permission = permission_of(route)
    operation["operationId"] = f"{(route.tags or ['system'])[0]}.{route.name}"
    operation["security"] = [{_SCHEME: []}] if permission else []
    if permission is None:
        return
    operation["x-permission"] = permission
    problem = {"application/json": {"schema": references["Problem"]}}
    for status, meaning in REFUSALS.items():
        answers.setdefault(status, {"description": meaning, "content": problem})
    if method == "POST":
        known = [item for item in operation.get("parameters", []) if item["name"].lower() != "idempotency-key"]
        operation["parameters"] = [*known, _IDEMPOTENCY_KEY]


_IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "Makes it safe to repeat the request: the same key with the same request gets the same answer.",
    "schema": {"type": "string", "minLength": 1, "maxLength": IDEMPOTENCY_KEY_MAX, "pattern": "^[ -~]+$"},
}
