"""The OpenAPI document says what the API does: security, permission, refusals, and answers that are as their types say."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi import FastAPI
from tests.api.answers import same
from tests.api.conftest import Service
from tests.leases.world import KEY

from sublet.api.contract import PAGES, REFUSALS, check_answers
from sublet.api.summaries import SUMMARIES, SUMMARY_MAX
from sublet.leases.wire import SshKeys
from sublet.values.wire import AnswerTypeError, as_answer


def _operations(service: Service) -> list[tuple[str, str, dict[str, Any]]]:
    document = service.client.get("/v1/openapi.json").json()
    return [
        (method.upper(), path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]


def test_every_operation_has_an_id_of_its_own_security_a_permission_and_its_refusals(service: Service) -> None:
    operations = _operations(service)
    ids = [operation["operationId"] for _, _, operation in operations]
    assert len(set(ids)) == len(ids) > 60
    for method, path, operation in operations:
        assert "422" not in operation["responses"], path
        assert operation.get("description", "").endswith("."), f"{method} {path} has no description"
        if path == "/health":
            assert operation["security"] == []
            continue
        assert operation["security"] == [{"key": []}] and operation["x-permission"], path
        assert set(REFUSALS) <= set(operation["responses"]), path
        keyed = [item for item in operation.get("parameters", []) if item["name"] == "Idempotency-Key"]
        assert len(keyed) == (method == "POST"), path


def test_every_operation_has_a_short_summary_of_its_own(service: Service) -> None:
    operations = {operation["operationId"]: operation for _, _, operation in _operations(service)}
    summaries = {name: operation["summary"] for name, operation in operations.items()}
    for name, summary in summaries.items():
        function = name.partition(".")[2].replace("_", " ")
        assert summary != function.title() and " " in summary, f"{name}: the summary is the function's name"
        assert summary[0].isupper() and not summary.endswith("."), f"{name}: {summary}"
        assert len(summary) <= SUMMARY_MAX, f"{name}: {summary}; add a shorter one to SUMMARIES"
    shared = {summary for summary in summaries.values() if list(summaries.values()).count(summary) > 1}
    assert not shared, f"several operations have the summary {shared}"
    assert set(SUMMARIES) <= set(operations), "SUMMARIES names operations that do not exist"


def test_every_operation_has_a_group_that_is_described_and_describes_its_headers(service: Service) -> None:
    document = service.client.get("/v1/openapi.json").json()
    assert document["info"]["description"]
    groups = {item["name"] for item in document["tags"] if item["description"].endswith(".")}
    used = set()
    for _, path, operation in _operations(service):
        (group,) = operation["tags"]
        used.add(group)
        assert operation["operationId"].startswith(f"{group}."), path
        for item in operation.get("parameters", []):
            if item["in"] == "header" or item["name"] in ("limit", "after"):
                assert item["description"], f"{path}: {item['name']}"
    assert used == groups


def test_every_operation_names_the_type_of_its_answer(service: Service) -> None:
    """Without a type are those alone that answer with nothing or with text, which `PAGES` names."""
    for method, path, operation in _operations(service):
        good = {status: answer for status, answer in operation["responses"].items() if status.startswith("2")}
        assert len(good) == 1, path
        content = next(iter(good.values())).get("content", {})
        if "204" in good:
            assert not content, path
        elif "application/json" in content:
            assert set(content["application/json"]["schema"]) == {"$ref"}, f"{method} {path} has no named answer"
        else:
            assert path in {
                "/v1/chargeback/export",
                "/v1/desk/actuals.html",
                "/v1/exports/{name}",
                "/v1/volumes/{volume}/content",
            }
            assert set(content) <= {"text/html", "text/csv", "application/x-tar"}


def test_every_reference_of_the_document_leads_somewhere(service: Service) -> None:
    document = service.client.get("/v1/openapi.json").json()

    def references(node: Any) -> list[str]:
        if isinstance(node, dict):
            here = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
            return here + [found for value in node.values() for found in references(value)]
        return [found for value in node for found in references(value)] if isinstance(node, list) else []

    names = {reference.rsplit("/", 1)[1] for reference in references(document)}
    assert names <= set(document["components"]["schemas"])
    assert {"Lease", "Quote", "Problem", "NewQuote", "LeasePage"} <= names
    assert not [name for name in document["components"]["schemas"] if "__" in name], "two types have the same name"


def test_every_operation_declares_the_type_of_its_answer(service: Service) -> None:
    there = {
        (method, route.path) for route in service.routes() if route.status_code != 204 for method in route.methods or ()
    }
    assert there - set(service.answers) == {
        ("GET", "/v1/chargeback/export"),
        ("GET", "/v1/desk/actuals.html"),
        ("GET", "/v1/exports/{name}"),
        ("GET", "/v1/volumes/{volume}/content"),
    }
    assert set(PAGES) <= there


def test_a_route_that_declares_no_answer_is_found() -> None:
    api = FastAPI()
    api.get("/v1/quotes")(lambda: None)
    with pytest.raises(RuntimeError, match="GET /v1/quotes declares no answer"):
        check_answers(api)


def test_a_document_that_does_not_fit_is_refused_without_its_values() -> None:
    told: dict[str, Any] = {"lease_id": "lea_1", "ssh_public_keys": ["ssh-ed25519 AAAA"]}
    assert as_answer(SshKeys, told) == SshKeys(**told)
    for wrong in (told | {"secret": "s3cret"}, told | {"ssh_public_keys": "s3cret"}, {"lease_id": "s3cret"}):
        with pytest.raises(AnswerTypeError, match=r"SshKeys: (secret|ssh_public_keys): ") as refused:
            as_answer(SshKeys, wrong)
        assert "s3cret" not in str(refused.value)


def test_answers_are_what_their_types_say(service: Service) -> None:
    acme, pool = service.organizations["acme"], service.world.pool.name
    quote_body = {"pool": pool, "class": "spot", "duration_s": 600}
    asked: list[tuple[str, str, str, str, Any]] = [
        ("acme", "GET", "/v1/whoami", "/v1/whoami", None),
        ("operator", "GET", "/v1/organizations", "/v1/organizations", None),
        ("operator", "POST", "/v1/organizations", "/v1/organizations", {"name": "fresh"}),
        ("operator", "POST", "/v1/organizations/{organization}/keys", f"/v1/organizations/{acme}/keys", {}),
        ("operator", "GET", "/v1/organizations/{organization}/keys", f"/v1/organizations/{acme}/keys", None),
        ("acme", "GET", "/v1/pools", "/v1/pools", None),
        ("operator", "GET", "/v1/pools/{pool}", f"/v1/pools/{pool}", None),
        ("team", "GET", "/v1/claims", "/v1/claims", None),
        ("acme", "GET", "/v1/balances", "/v1/balances", None),
        ("acme", "GET", "/v1/billing-profiles/{organization_id}", f"/v1/billing-profiles/{acme}", None),
        ("operator", "POST", "/v1/budgets", "/v1/budgets", {"organization_id": acme, "limit": "5"}),
        ("acme", "GET", "/v1/budgets", "/v1/budgets", None),
        ("operator", "GET", "/v1/quarantine", "/v1/quarantine", None),
    ]
    for who, method, template, path, body in asked:
        answer = service.ask(who, method, path, body)
        assert answer.status_code < 300, f"{path}: {answer.text}"
        same(service.answers[(method, template)], answer.json(), path)
    quote = service.ask("acme", "POST", "/v1/quotes", quote_body).json()
    same(service.answers[("POST", "/v1/quotes")], quote, "quote")
    lease = service.ask("acme", "POST", "/v1/leases", {"quote_id": quote["id"], "ssh_public_keys": [KEY]}).json()
    same(service.answers[("POST", "/v1/leases")], lease, "lease")
    service.world.pass_time(300)
    shown = service.ask("acme", "GET", f"/v1/leases/{lease['id']}").json()
    assert shown["ssh"] is not None
    same(service.answers[("GET", "/v1/leases/{lease_id}")], shown, "lease with its history")
    same(service.answers[("GET", "/v1/leases")], service.ask("acme", "GET", "/v1/leases").json(), "leases")
    same(
        service.answers[("POST", "/v1/leases/{lease_id}/end")],
        service.ask("acme", "POST", f"/v1/leases/{lease['id']}/end").json(),
        "end",
    )


@pytest.mark.parametrize("path", ["/v1/leases/lse_x", "/v1/organizations?limit=x", "/v1/nothing"])
def test_a_refusal_is_a_problem(service: Service, path: str) -> None:
    from sublet.api.contract import Problem

    answer = service.ask("operator", "GET", path)
    assert answer.status_code >= 400
    same(Problem, answer.json(), path)


def test_the_reference_page_lists_every_operation_and_fetches_nothing(service: Service) -> None:
    answer = service.client.get("/docs")
    assert answer.status_code == 200 and "default-src 'none'" in answer.headers["content-security-policy"]
    for method, path, _ in _operations(service):
        assert f"<code>{method} {path}</code>" in answer.text
    assert "<script" not in answer.text and "style=" not in answer.text and "http" not in answer.text.split("<body>")[0]
    for name in ("Lease", "NewQuote", "Problem"):
        assert f'href="#{name}"' in answer.text and f'id="{name}"' in answer.text
