"""What looks right and is not: prices below zero, codes of no country, addresses that nobody has, and a budget for the second time."""

from __future__ import annotations

from typing import Any

import pytest
from tests.api.conftest import Service

MOST = "max_price_per_accelerator_hour"


def fault(answer: Any) -> tuple[int, str]:
    """The status, and the field that is named."""
    details = answer.json()["error"]["details"]
    return answer.status_code, details.get("field") or details["faults"][0]["field"]


def test_a_price_below_zero_is_refused_by_its_field(service: Service) -> None:
    pool = service.world.pool.name
    job = {"pool": pool, "class": "spot", "duration_s": 600, "command": ["true"], MOST: "-1"}
    change = {"end": "2030-01-01T00:00:00Z", MOST: "-0.01"}
    block = {
        "pool": pool,
        "accelerators": 1,
        "start": "2027-01-01T00:00:00Z",
        "end": "2027-02-01T00:00:00Z",
        "min_price_per_accelerator_hour": "-2",
    }
    for who, path, body in (("acme", "jobs", job), ("acme", "leases/x/changes", change), ("operator", "blocks", block)):
        status, field = fault(service.ask(who, "POST", f"/v1/{path}", body))
        assert (status, "price" in field) == (400, True), path
    assert service.ask("acme", "POST", "/v1/jobs", job | {MOST: "0"}).json()["error"]["code"] == "price_limit"


@pytest.mark.parametrize(
    ("field", "wrong", "right"),
    [
        ("country", "XX", "DE"),
        ("country", "UK", "GB"),
        ("email", "a", "billing@acme.example"),
        ("email", "a@b", "u.v+w@mail.acme.example"),
        ("vat_id", "XX123456789", "EL123456783"),
        ("vat_id", "DE123456789", "DE123456788"),
        ("vat_id", "UK123456789", "XI123456727"),
        ("iban", "DE02120300000000202052", "DE02120300000000202051"),
        ("iban", "XX86000000000000000000", "XK051212012345678906"),
        ("bic", "BYLAXXM1001", "BYLADEM1001"),
        ("bic", "BYLADEM10", "BYLADEM1"),
    ],
)
def test_a_billing_profile_holds_only_what_can_be(service: Service, field: str, wrong: str, right: str) -> None:
    path = f"/v1/billing-profiles/{service.organizations['acme']}"
    assert fault(service.ask("operator", "PUT", path, {"legal_name": "Acme", field: wrong})) == (400, field)
    kept = service.ask("operator", "PUT", path, {"legal_name": "Acme", field: right})
    assert kept.status_code == 200, kept.text
    assert kept.json()[field] == right


def test_a_second_budget_of_the_same_scope_and_period_is_refused_by_name(service: Service) -> None:
    acme = service.organizations["acme"]
    wanted = {"organization_id": acme, "limit": "5", "scope": "project", "scope_id": "red", "period": "month"}
    first = service.ask("operator", "POST", "/v1/budgets", wanted).json()["id"]
    refused = service.ask("operator", "POST", "/v1/budgets", wanted | {"limit": "7"})
    assert refused.status_code == 409 and first in refused.json()["error"]["message"]
    for other in ({"period": "day"}, {"scope_id": "blue"}, {"hard": False}):
        made = service.ask("operator", "POST", "/v1/budgets", wanted | other)
        assert made.status_code == 201, made.text
    assert service.ask("operator", "DELETE", f"/v1/budgets/{first}").status_code == 204
    assert service.ask("operator", "POST", "/v1/budgets", wanted).status_code == 201, "it was ended"


def test_offers_that_came_with_a_refusal_are_not_listed_as_quotes(service: Service) -> None:
    order = {"pool": service.world.pool.name, "class": "spot", "duration_s": 3600}
    mine = service.ask("acme", "POST", "/v1/quotes", order).json()["id"]
    refused = service.ask("acme", "POST", "/v1/quotes", order | {"accelerators": 64})
    offers = [item["quote_id"] for item in refused.json()["error"]["details"]["alternatives"] if item.get("quote_id")]
    assert refused.status_code == 409 and offers
    assert [item["id"] for item in service.ask("acme", "GET", "/v1/quotes").json()["quotes"]] == [mine]
