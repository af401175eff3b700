"""What is sent is what was meant, or it is refused with the field's name: on every route, and before anything changes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from tests.api.conftest import Service

from sublet.simulation.world import World
from sublet.values.wire import is_body


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One for all tests here: what is refused changes nothing, which is the point."""
    world = World(tmp_path_factory.mktemp("bodies") / "w")
    world.remember(days=8, need=0.3, spread=0.05)
    yield Service(world)
    world.close()


def _refusal(service: Service, method: str, path: str, body: Any, who: str = "operator") -> dict[str, Any]:
    answer = service.ask(who, method, path, body)
    assert answer.status_code == 400, answer.text
    return dict(answer.json()["error"])


def test_every_body_of_every_route_has_the_one_base(service: Service) -> None:
    seen = 0
    for route in service.routes():
        for field in route.dependant.body_params:
            seen += 1
            assert is_body(field.field_info.annotation), f"{route.methods} {route.path}: {field.field_info.annotation}"
    assert seen >= 18


def test_every_field_of_every_body_is_bounded_and_no_other_is_known(service: Service) -> None:
    document = service.api.openapi()
    unbounded = []
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            schema = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
            if schema is not None and "$ref" in schema:
                unbounded += [f"{method} {path} {found}" for found in _unbounded(document, schema, "")]
    assert unbounded == []


AMOUNTS = (".amount", ".coupon.percent", ".limit", "price_per_accelerator_hour")


def _unbounded(document: dict[str, Any], schema: dict[str, Any], where: str) -> Iterator[str]:
    if "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]]
    for inner in schema.get("anyOf", []):
        yield from _unbounded(document, inner, where)
    kind = schema.get("type")
    if kind == "object":
        others = schema.get("additionalProperties")
        if isinstance(others, dict) and "maxProperties" in schema:
            yield from _unbounded(document, others, f"{where}.*")
        elif others is not False:
            yield f"{where}: takes unknown fields"
        for name, inner in schema.get("properties", {}).items():
            yield from _unbounded(document, inner, f"{where}.{name}")
    elif kind == "array":
        if "maxItems" not in schema:
            yield f"{where}: any number of items"
        yield from _unbounded(document, schema["items"], where)
    elif kind == "string" and not {"maxLength", "format", "enum", "const", "pattern"} & set(schema):
        yield f"{where}: any length"
    elif kind in ("integer", "number") and "maximum" not in schema and not where.endswith(AMOUNTS):
        # Amounts of money may also come as numbers; their own check bounds them.
        yield f"{where}: any number"


def test_a_misspelled_field_is_named_with_the_nearest_known_one(service: Service) -> None:
    error = _refusal(service, "POST", "/v1/organizations", {"name": "acme2", "currancy": "EUR"})
    assert error["message"] == "currancy: there is no such field; did you mean currency?"
    assert error["details"]["field"] == "currancy"
    assert "acme2" not in [item.name for item in service.system.accounts.organizations()]
    budget = {"organization_id": service.organizations["acme"], "limit": "10", "hrad": False}
    assert "did you mean hard?" in _refusal(service, "POST", "/v1/budgets", budget)["message"]
    far = _refusal(service, "POST", "/v1/organizations", {"name": "a", "zzzzzz": 1})["message"]
    assert far == "zzzzzz: there is no such field; there are name, kind, currency, timezone"


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/v1/organizations", {"name": "a\x00b"}, "name"),
        ("/v1/organizations", {"name": "a\u202eb"}, "name"),
        ("/v1/organizations", {"name": "\ud800"}, "name"),
        ("/v1/organizations/acme/keys", {"expires_at": "2027-01-01T00:00:00"}, "expires_at"),
        ("/v1/organizations/acme/keys", {"expires_at": "9999-12-31T23:59:59Z"}, "expires_at"),
        ("/v1/organizations/acme/keys", {"scopes": ["leases"] * 17}, "scopes"),
        ("/v1/credits", {"amount": "NaN"}, "amount"),
        ("/v1/credits", {"amount": True}, "amount"),
        ("/v1/credits", {"amount": "1" * 100}, "amount"),
        ("/v1/credits", {"amount": "-0"}, "amount"),
        ("/v1/credits", {"amount": -0.0}, "amount"),
        ("/v1/budgets", {"limit": "-0.00"}, "limit"),
        ("/v1/credits", {"amount": "1", "expires_at": "2027-01-01T00:00:00"}, "expires_at"),
        ("/v1/budgets", {"limit": "1", "hard": 1}, "hard"),
        ("/v1/budgets", {"limit": "1", "thresholds": [True]}, "thresholds.0"),
        ("/v1/subscriptions", {"address": "x" * 2001, "kinds": ["*"]}, "address"),
        ("/v1/deployments", {"model": "m", "pool_id": "p", "floor": "1"}, "floor"),
        ("/v1/deployments", {"model": "m", "pool_id": "p", "floor": 1.0}, "floor"),
        ("/v1/reclaims", {"pool": "p", "accelerators": 1, "reason": "x", "duration_s": 60, "force": "yes"}, "force"),
    ],
)
def test_what_is_not_meant_is_refused_by_name(service: Service, path: str, body: dict[str, Any], field: str) -> None:
    filled = {**({"organization_id": "acme", "source_id": "s"} if path == "/v1/credits" else {}), **body}
    if path == "/v1/budgets":
        filled["organization_id"] = "acme"
    headers = {"Content-Type": "application/json"}
    answer = service.ask("operator", "POST", path, content=json.dumps(filled), headers=headers)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["details"]["field"] == field, answer.text


def test_every_wrong_field_is_listed(service: Service) -> None:
    error = _refusal(service, "POST", "/v1/deployments", {"model": "", "scale": 1.5, "floor": -1})
    assert [fault["field"] for fault in error["details"]["faults"]] == ["model", "floor", "scale"]


@pytest.mark.parametrize("body", [b"[]", b"5", b'"x"', b"", b"{", b"\xff\xfe", b"[" * 100_000, b"null"])
def test_a_body_that_is_no_json_object_is_400_with_a_sentence(service: Service, body: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    answer = service.ask("operator", "POST", "/v1/organizations", content=body, headers=headers)
    assert answer.status_code == 400
    assert answer.json()["error"]["message"].startswith("the body ")


def test_a_body_where_none_is_taken_is_refused(service: Service) -> None:
    error = _refusal(service, "POST", "/v1/leases/lse_1/end", {"reason": "over"}, "acme")
    assert error["message"] == "POST /v1/leases/{lease_id}/end takes no body; leave it out"
    assert service.ask("acme", "POST", "/v1/leases/lse_1/end", {}).status_code == 404


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("limmit=5", "limmit: there is no such field; did you mean limit?"),
        ("limit=0", "limit: "),
        ("limit=1&limit=2", "limit: send it once"),
        ("live=perhaps", "live: "),
        ("after=a%00b", "after holds U+0000, a character that is invisible"),
    ],
)
def test_queries_get_the_same_care(service: Service, query: str, words: str) -> None:
    answer = service.ask("acme", "GET", f"/v1/leases?{query}")
    assert answer.status_code == 400
    assert answer.json()["error"]["message"].startswith(words)


def test_no_route_breaks_on_a_control_character_or_a_long_word_in_its_path(service: Service) -> None:
    for route in service.routes():
        for word in ("a%00b", "x" * 2_001, "%0A"):
            path = route.path
            for name in route.param_convertors:
                path = path.replace("{" + name + "}", word).replace("{" + name + ":path}", word)
            if path != route.path:
                method = min(route.methods or {"GET"})
                answer = service.ask("operator", method, path)
                assert answer.status_code in (400, 404), f"{method} {route.path}: {answer.status_code} {answer.text}"


def test_a_method_that_a_path_lacks_is_405_and_all_that_it_has_are_listed(service: Service) -> None:
    answer = service.ask("operator", "PATCH", "/v1/organizations")
    assert answer.status_code == 405
    assert answer.headers["allow"] == "GET, HEAD, POST"
    assert answer.json()["error"]["code"] == "method_not_allowed"


def test_a_path_with_a_slash_too_many_is_not_found_and_names_no_other_host(service: Service) -> None:
    answer = service.client.get("/v1/leases/", headers={"Host": "evil.example"}, follow_redirects=False)
    assert answer.status_code == 404
    assert "evil.example" not in str(answer.headers)


@pytest.mark.parametrize("body", ["[" * 200_000, '{"name":' + "9" * 100_000 + "}"], ids=["deep", "digits"])
def test_json_that_nobody_can_read_is_told_its_limits(service: Service, body: str) -> None:
    headers = {"Authorization": f"Bearer {service.keys['operator']}", "Content-Type": "application/json"}
    answer = service.client.post("/v1/organizations", content=body, headers=headers)
    assert answer.status_code == 400
    assert "nested" in answer.json()["error"]["message"]


def _operator(service: Service) -> list[tuple[str, str]]:
    return [("Authorization", f"Bearer {service.keys['operator']}"), ("Content-Type", "application/json")]


@pytest.mark.parametrize(
    ("path", "body", "name"),
    [
        ("/v1/organizations", '{"name": "first", "name": "second"}', "name"),
        ("/v1/organizations", '{"name": "first", "n\\u0061me": "second"}', "name"),
        ("/v1/demand/p/samples", '{"samples": [{"time": "2026-01-01T00:00:00Z", "in_use": 1, "in_use": 2}]}', "in_use"),
        ("/v1/usage", '{"specversion": "1.0", "id": "a", "id": "b"}', "id"),
        ("/v1/usage", '[{"data": {"quantity": 1, "quantity": 2}}]', "quantity"),
        ("/v1/leases/lse_1/end", '{"x": {"a": 1, "a": 1}}', None),
    ],
)
def test_a_name_that_an_object_has_twice_is_refused(service: Service, path: str, body: str, name: str | None) -> None:
    """Readers of JSON differ in which value counts, so the sender may have meant another one."""
    answer = service.client.post(path, content=body, headers=dict(_operator(service)))
    assert answer.status_code == 400
    if name is not None:
        assert answer.json()["error"]["message"] == f"{name}: the field appears twice in one object; send it once"
    assert {item.name for item in service.system.accounts.organizations()} == {"operator", *service.organizations}


def test_names_that_are_in_several_objects_are_fine(service: Service) -> None:
    samples = [{"time": f"2026-01-01T0{hour}:00:00Z", "capacity": 8, "in_use": 1} for hour in range(2)]
    path = f"/v1/demand/{service.world.pool.id}/samples"
    assert service.ask("operator", "POST", path, {"samples": samples}).status_code == 200


@pytest.mark.parametrize("name", ["Authorization", "Idempotency-Key"])
def test_a_header_that_may_come_once_is_refused_twice(service: Service, name: str) -> None:
    twice = [*_operator(service), ("Authorization", "Bearer sublet_other")]
    if name != "Authorization":
        twice = [*_operator(service), (name, "a"), (name, "b")]
    answer = service.client.post("/v1/organizations", json={"name": "n"}, headers=twice)
    assert answer.status_code == 400 and answer.json()["error"]["message"].startswith(f"send one {name} header")


def test_head_is_answered_as_get_without_a_body(service: Service) -> None:
    for path in ("/v1/pools", "/v1/leases?limit=1", "/v1/exports/usage", "/v1/openapi.json", "/health"):
        shown, head = service.ask("operator", "GET", path), service.ask("operator", "HEAD", path)
        assert (head.status_code, head.content) == (200, b""), path
        kept = [name for name in shown.headers if name not in ("x-request-id", "content-length")]
        assert {name: head.headers[name] for name in kept} == {name: shown.headers[name] for name in kept}, path
        if path.startswith("/v1/pools"):
            assert head.headers["content-length"] == str(len(shown.content))
    assert service.ask("operator", "HEAD", "/v1/pools/none").status_code == 404
    assert service.ask("operator", "HEAD", "/v1/ledger/rate").status_code == 405
    assert service.client.head("/v1/pools").status_code == 401
