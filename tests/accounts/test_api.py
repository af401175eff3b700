"""The routes of accounts and fleet: who may ask, what a wrong question gets, and that a secret is answered once."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.testclient import TestClient
from tests.fleet.specs import spec

from sublet.accounts import api as accounts_api
from sublet.accounts.service import Accounts
from sublet.api.http import frame, requirement
from sublet.fleet import api as fleet_api
from sublet.fleet.service import Fleet
from sublet.store import Store


class Door:
    """The API with an operator's and a customer's key."""

    def __init__(self, store: Store) -> None:
        self.accounts = Accounts(store)
        self.fleet = Fleet(store)
        api = frame("test")
        require = requirement(self.accounts)
        api.include_router(accounts_api.router(self.accounts, require))
        api.include_router(fleet_api.router(self.fleet, require))
        self.client = TestClient(api, raise_server_exceptions=False)
        self.operator = self.accounts.ensure_operator() or ""
        self.accounts.create_organization("Acme")
        self.customer = self.accounts.create_key("Acme")[1]

    def ask(self, method: str, path: str, key: str | None = None, **arguments: Any) -> tuple[int, Any]:
        headers = {"authorization": f"Bearer {key}"} if key is not None else {}
        answer = self.client.request(method, path, headers=headers, **arguments)
        return answer.status_code, answer.json() if answer.content else None


@pytest.fixture
def door(store: Store) -> Door:
    return Door(store)


ROUTES = [
    ("GET", "/v1/whoami", ""),
    ("GET", "/v1/organizations", "organizations:read"),
    ("POST", "/v1/organizations", "organizations:write"),
    ("POST", "/v1/organizations/Acme/suspend", "organizations:write"),
    ("POST", "/v1/organizations/Acme/resume", "organizations:write"),
    ("GET", "/v1/organizations/Acme/keys", "keys:read"),
    ("POST", "/v1/organizations/Acme/keys", "keys:write"),
    ("DELETE", "/v1/keys/key_1", "keys:write"),
    ("GET", "/v1/organizations/Acme/service-accounts", "keys:read"),
    ("POST", "/v1/organizations/Acme/service-accounts", "keys:write"),
    ("DELETE", "/v1/service-accounts/svc_1", "keys:write"),
    ("GET", "/v1/pools", ""),
    ("GET", "/v1/pools/main", "fleet:read"),
    ("GET", "/v1/pools/main/units", "fleet:read"),
    ("GET", "/v1/units/unit_1", "fleet:read"),
    ("PUT", "/v1/units/unit_1/service", "fleet:write"),
]


def test_these_are_all_the_routes(door: Door) -> None:
    paths = door.client.get("/v1/openapi.json").json()["paths"]
    listed = {(method.upper(), path) for path, methods in paths.items() for method in methods}
    templated = {
        (
            method,
            path.replace("/Acme/", "/{organization}/")
            .replace("key_1", "{key_id}")
            .replace("svc_1", "{service_account_id}")
            .replace("/main", "/{pool}")
            .replace("unit_1", "{unit_id}"),
        )
        for method, path, _ in ROUTES
    }
    assert listed == templated


@pytest.mark.parametrize(("method", "path", "scope"), ROUTES)
def test_without_a_valid_key_every_route_says_401_and_nothing_else(
    door: Door, method: str, path: str, scope: str
) -> None:
    for key in (None, "", "sublet_wrong", door.customer[:-1]):
        status, body = door.ask(method, path, key)
        assert (status, body["error"]["code"]) == (401, "unauthenticated")
    answer = door.client.request(method, path, headers={"authorization": f"Basic {door.operator}"})
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(("method", "path", "scope"), [route for route in ROUTES if route[2]])
def test_a_customers_key_gets_403_where_the_operators_is_needed(door: Door, method: str, path: str, scope: str) -> None:
    status, body = door.ask(method, path, door.customer, json={"name": "x"} if method in ("POST", "PUT") else None)
    assert (status, body["error"]["code"]) == (403, "forbidden")
    assert f"'{scope}'" in body["error"]["message"]
    assert {item.name for item in door.accounts.organizations()} == {"operator", "Acme"}


def test_a_key_says_who_it_is(door: Door) -> None:
    status, body = door.ask("GET", "/v1/whoami", door.customer)
    assert status == 200
    assert body["organization_id"] == door.accounts.organization("Acme").id
    assert body["scopes"] == ["billing", "leases", "models", "notifications"]


def test_an_organization_and_its_key_from_creation_to_revocation(door: Door) -> None:
    status, made = door.ask("POST", "/v1/organizations", door.operator, json={"name": "Beta", "currency": "EUR"})
    assert (status, made["currency"], made["kind"]) == (201, "EUR", "customer")
    status, key = door.ask(
        "POST",
        f"/v1/organizations/{made['id']}/keys",
        door.operator,
        json={"scopes": ["models"], "expires_at": "2027-01-01T00:00:00Z"},
    )
    assert status == 201
    assert door.ask("GET", "/v1/whoami", key["secret"])[1]["scopes"] == ["models"]
    listed = door.client.get(
        f"/v1/organizations/{made['id']}/keys", headers={"authorization": f"Bearer {door.operator}"}
    )
    assert key["secret"] not in listed.text
    assert [item["id"] for item in listed.json()["keys"]] == [key["id"]]
    assert door.ask("DELETE", f"/v1/keys/{key['id']}", door.operator) == (204, None)
    assert door.ask("GET", "/v1/whoami", key["secret"])[0] == 401
    assert door.ask("DELETE", f"/v1/keys/{key['id']}", door.operator)[0] == 404


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({}, "name"),
        ({"name": "x" * 121}, "name"),
        ({"name": 5}, "name"),
        ({"name": "x", "kind": "friend"}, "kind 'friend'"),
        ({"name": "x", "currency": "QQQ"}, "currency 'QQQ'"),
        ({"name": "x", "timezone": "Nowhere"}, "timezone 'Nowhere'"),
    ],
)
def test_a_wrong_field_is_400_and_named(door: Door, body: dict[str, Any], named: str) -> None:
    status, answer = door.ask("POST", "/v1/organizations", door.operator, json=body)
    assert (status, answer["error"]["code"]) == (400, "invalid_input")
    assert named in answer["error"]["message"]


@pytest.mark.parametrize("expires_at", ["2027-01-01T00:00:00", "2020-01-01T00:00:00Z", "soon"])
def test_an_expiry_without_zone_or_in_the_past_is_400(door: Door, expires_at: str) -> None:
    status, answer = door.ask("POST", "/v1/organizations/Acme/keys", door.operator, json={"expires_at": expires_at})
    assert (status, answer["error"]["code"]) == (400, "invalid_input")
    assert "expire" in answer["error"]["message"]


def test_a_taken_name_is_409_and_an_unknown_organization_404(door: Door) -> None:
    assert door.ask("POST", "/v1/organizations", door.operator, json={"name": "Acme"})[0] == 409
    assert door.ask("GET", "/v1/organizations/nobody/keys", door.operator)[0] == 404


def test_pools_are_for_everybody_and_their_accelerators_for_the_operator(door: Door) -> None:
    door.fleet.sync([spec("main", 2)])
    status, body = door.ask("GET", "/v1/pools", door.customer)
    assert (status, body["pools"][0]["accelerators"]) == (200, 2)
    assert "units" not in body["pools"][0]
    status, body = door.ask("GET", "/v1/pools/main/units", door.operator)
    assert [unit["device"] for unit in body["units"]] == ["cpu:0", "cpu:1"]
    assert door.ask("GET", "/v1/pools/other", door.operator)[0] == 404
