"""Who may set which limit of the model API."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.api.conftest import Service
from tests.api.conftest import service as service


@pytest.fixture(autouse=True)
def administrator(service: Service) -> None:
    service.keys["admin"] = service.system.accounts.create_key("acme", "admin", role="customer_admin")[1]


def limit(service: Service, who: str, **body: Any) -> Any:
    return service.ask(who, "POST", "/v1/limits", body)


def test_a_customer_limits_its_own_projects_and_keys_within_what_the_operator_allows(service: Service) -> None:
    acme = service.organizations["acme"]
    whole = limit(service, "operator", organization_id=acme, requests_per_minute=100, models=["small", "large"])
    assert whole.status_code == 201 and whole.json()["by_operator"]
    mine = limit(service, "admin", scope="project", scope_id="trial", requests_per_minute=60, models=["small"])
    assert mine.status_code == 201, mine.text
    assert mine.json()["organization_id"] == acme and not mine.json()["by_operator"]
    for more in ({"requests_per_minute": 101}, {"models": ["huge"]}):
        assert limit(service, "admin", scope="project", scope_id="other", **more).status_code == 403
        assert service.ask("admin", "PUT", f"/v1/limits/{mine.json()['id']}", more).status_code == 403
    for place in ({"scope": "organization"}, {"scope": "model", "model": "small"}):
        assert limit(service, "admin", requests_per_minute=1, **place).status_code == 403
    path = f"/v1/limits/{whole.json()['id']}"
    assert service.ask("admin", "PUT", path, {"requests_per_minute": 50}).status_code == 403
    assert service.ask("admin", "DELETE", path).status_code == 403
    seen = service.ask("admin", "GET", "/v1/limits").json()["limits"]
    assert {item["id"] for item in seen} == {whole.json()["id"], mine.json()["id"]}
    assert service.ask("admin", "DELETE", f"/v1/limits/{mine.json()['id']}").status_code == 204


def test_another_organizations_limits_are_as_if_there_were_none(service: Service) -> None:
    other = service.system.accounts.create_organization("other").id
    made = limit(service, "operator", organization_id=other, concurrency=1).json()
    path = f"/v1/limits/{made['id']}"
    assert service.ask("admin", "GET", path).status_code == 404
    assert service.ask("admin", "PUT", path, {"concurrency": 2}).status_code == 404
    assert service.ask("admin", "DELETE", path).status_code == 404
    assert service.ask("admin", "GET", "/v1/limits").json()["limits"] == []
    assert (
        limit(service, "admin", organization_id=other, scope="project", scope_id="p", concurrency=1).status_code == 404
    )
    key = service.system.accounts.create_key(other)[0].id
    assert limit(service, "admin", scope="key", scope_id=key, concurrency=1).status_code == 404


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ({}, "at least one"),
        ({"requests_per_minute": 0}, "requests_per_minute"),
        ({"requests_per_minute": 1.5}, "requests_per_minute"),
        ({"scope": "person", "concurrency": 1}, "scope"),
        ({"scope": "project", "concurrency": 1}, "scope_id"),
        ({"scope": "model", "concurrency": 1}, "model"),
        ({"model": "m", "models": ["m"]}, "models"),
        ({"models": []}, "models"),
        ({"expires_at": "2020-01-01T00:00:00Z"}, "past"),
        ({"concurrency": 1, "rpm": 2}, "rpm"),
    ],
)
def test_what_is_wrong_is_named(service: Service, body: dict[str, Any], word: str) -> None:
    answer = limit(service, "operator", organization_id=service.organizations["acme"], **body)
    assert answer.status_code == 400, answer.text
    assert word in json.dumps(answer.json()["error"])


def test_a_place_has_one_limit_and_a_key_may_be_made_with_its_own(service: Service) -> None:
    acme = service.organizations["acme"]
    assert limit(service, "operator", organization_id=acme, concurrency=3).status_code == 201
    assert limit(service, "operator", organization_id=acme, concurrency=4).status_code == 409
    made = service.ask("admin", "POST", "/v1/organizations/acme/keys", {"limits": {"requests_per_minute": 7}})
    assert made.status_code == 201, made.text
    (found,) = (item for item in service.ask("admin", "GET", "/v1/limits").json()["limits"] if item["scope"] == "key")
    assert (found["scope"], found["scope_id"], found["requests_per_minute"]) == ("key", made.json()["id"], 7)
    before = len(service.system.accounts.keys(acme))
    refused = service.ask("admin", "POST", "/v1/organizations/acme/keys", {"limits": {"concurrency": 4}})
    assert refused.status_code == 403
    assert len(service.system.accounts.keys(acme)) == before, "no key is left without its limit"


@pytest.mark.parametrize("spelling", ["cafe\u0301", " caf\u00e9 ", "caf\u00e9\u00a0"])
def test_a_project_is_limited_however_its_name_is_spelled(service: Service, spelling: str) -> None:
    made = limit(service, "admin", scope="project", scope_id=spelling, model=" small", concurrency=1)
    assert (made.json()["scope_id"], made.json()["model"]) == ("caf\u00e9", "small")
    assert (
        limit(service, "admin", scope="project", scope_id="caf\u00e9", model="small", concurrency=1).status_code == 409
    )
    budget = {"organization_id": service.organizations["acme"], "scope": "project", "scope_id": spelling, "limit": "5"}
    assert service.ask("operator", "POST", "/v1/budgets", budget).json()["scope_id"] == "caf\u00e9"


@pytest.mark.parametrize("place", [{"scope": "project", "scope_id": "  "}, {"scope": "model", "model": " "}])
def test_a_name_of_spaces_is_none(service: Service, place: dict[str, str]) -> None:
    assert (
        limit(service, "operator", organization_id=service.organizations["acme"], concurrency=1, **place).status_code
        == 400
    )
