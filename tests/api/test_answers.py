"""Every operation's answer is as its type says: real answers, from a pool with leases, reclaims, money and a model."""

from __future__ import annotations

from typing import Any

from tests.api.answers import same
from tests.api.conftest import Service
from tests.leases.world import KEY

from sublet.values.clock import format_time

MODEL = "smollm2-135m-instruct"


class Reader:
    """Asks as the operator, and compares each answer with its type."""

    def __init__(self, service: Service) -> None:
        self.service = service

    def ask(self, method: str, template: str, body: Any = None, who: str = "operator", **places: Any) -> Any:
        path = template.replace(":path}", "}").format(**places)
        query = places.get("query", "")
        answer = self.service.ask(who, method, f"{path}{query}", body)
        assert answer.status_code < 300, f"{method} {path}: {answer.text}"
        same(self.service.answers[(method, template)], answer.json(), f"{method} {path}")
        return answer.json()


def test_what_is_told_of_capacity(service: Service) -> None:
    reader, pool = Reader(service), service.world.pool
    now = format_time(service.system.clock.now())
    reader.ask("GET", "/v1/nodes")
    ladder = reader.ask("GET", "/v1/surplus/{pool_id}", pool_id=pool.id)
    assert ladder["rungs"] and any(rung["withheld"] for rung in ladder["rungs"])
    reader.ask("GET", "/v1/surplus/{pool_id}/{class_name}", pool_id=pool.id, class_name="spot")
    assert reader.ask("GET", "/v1/demand/{pool_id}/forecast", pool_id=pool.id)["horizons"]
    sample = {"time": now, "capacity": 16, "in_use": 1}
    reader.ask("POST", "/v1/demand/{pool_id}/samples", {"samples": [sample]}, pool_id=pool.id)
    assert reader.ask("GET", "/v1/demand/{pool_id}/samples", pool_id=pool.id)["samples"]
    claim = {
        "pool": pool.id,
        "accelerators": 1,
        "start": now,
        "end": format_time(service.system.clock.now().replace(year=2027)),
    }
    made = reader.ask("POST", "/v1/claims", claim, who="team")
    reader.ask("DELETE", "/v1/claims/{claim_id}", who="team", claim_id=made["id"])
    assert reader.ask("GET", "/v1/record")["pools"]


def test_what_is_told_of_reclaims_and_plans(service: Service) -> None:
    reader, pool = Reader(service), service.world.pool.name
    quote_body = {"pool": pool, "class": "spot", "duration_s": 7200, "accelerators": 8}
    canceled = reader.ask("POST", "/v1/quotes", quote_body, who="acme")
    assert reader.ask("GET", "/v1/quotes", who="acme")["quotes"]
    assert reader.ask("GET", "/v1/classes", who="acme")["default"] == "notice"
    reader.ask("POST", "/v1/quotes/{quote_id}/cancel", who="acme", quote_id=canceled["id"])
    quote = reader.ask("POST", "/v1/quotes", quote_body, who="acme")
    reader.ask("POST", "/v1/leases", {"quote_id": quote["id"], "ssh_public_keys": [KEY]}, who="acme")
    service.world.pass_time(600)
    order = {"pool": pool, "accelerators": 14, "duration_s": 1800, "reason": "a run of our own"}
    assert reader.ask("POST", "/v1/reclaims/preview", order)["victims"]
    reclaim = reader.ask("POST", "/v1/reclaims", order)
    assert reclaim["victims"] and reader.ask("GET", "/v1/reclaims")["reclaims"]
    assert reader.ask("GET", "/v1/lease-plan")["pending"]
    reader.ask("GET", "/v1/plan")
    reader.ask("POST", "/v1/reclaims/{reclaim_id}/withdraw", reclaim_id=reclaim["id"])
    reader.ask("GET", "/v1/health")
    reader.ask("GET", "/health")
    assert reader.ask("GET", "/v1/desk/worth")["revenue"] > 0
    assert reader.ask("GET", "/v1/desk/actuals")["pools"]


def test_what_is_told_of_money(service: Service) -> None:
    reader, acme, pool = Reader(service), service.organizations["acme"], service.world.pool.name
    reader.ask("PUT", "/v1/billing-profiles/{organization_id}", {"legal_name": "Acme Inc."}, organization_id=acme)
    budget = reader.ask("POST", "/v1/budgets", {"organization_id": acme, "limit": "50"})
    reader.ask("PATCH", "/v1/budgets/{budget_id}", {"limit": "60"}, budget_id=budget["id"])
    quote_body = {"pool": pool, "class": "spot", "duration_s": 7200, "accelerators": 2}
    quote = reader.ask("POST", "/v1/quotes", quote_body, who="acme")
    reader.ask("POST", "/v1/leases", {"quote_id": quote["id"], "ssh_public_keys": [KEY]}, who="acme")
    service.world.pass_time(7200)
    reader.ask("POST", "/v1/credits", {"organization_id": acme, "amount": "0.50", "source_id": "a"})
    mine = f"?organization_id={acme}"
    assert reader.ask("GET", "/v1/credits", query=mine)["credits"]
    assert reader.ask("GET", "/v1/prices")["prices"]
    assert reader.ask("GET", "/v1/invoices/draft", query=mine)["lines"]
    invoice = reader.ask("POST", "/v1/invoices", {"organization_id": acme})["invoice"]
    assert invoice["lines"] and invoice["credits"]
    assert reader.ask("GET", "/v1/receivables")["receivables"]
    found = {"invoice_id": invoice["id"]}
    reader.ask("POST", "/v1/invoices/{invoice_id}/payments", {"amount": "1", "source_id": "p"}, **found)
    assert reader.ask("GET", "/v1/invoices", query=mine)["invoices"][0]["paid"] == "1.000000000"
    reader.ask("POST", "/v1/invoices/{invoice_id}/payments/reverse", {"source_id": "p", "reason": "a slip"}, **found)
    reader.ask("GET", "/v1/invoices/{invoice_id}", **found)
    assert reader.ask("GET", "/v1/statements", query=mine)["movements"]
    reader.ask("POST", "/v1/invoices/{invoice_id}/void", {"reason": "a slip"}, **found)
    again = reader.ask("POST", "/v1/invoices", {"organization_id": acme})["invoice"]
    noted = {"invoice_id": again["id"]}
    note = reader.ask("POST", "/v1/invoices/{invoice_id}/credit-notes", {"reason": "a slip", "amount": "1"}, **noted)
    assert reader.ask("GET", "/v1/credit-notes", query=mine)["credit_notes"] == [note]
    reader.ask("GET", "/v1/credit-notes/{note_id}", note_id=note["id"])
    reader.ask("POST", "/v1/invoices/{invoice_id}/write-off", {"reason": "insolvent"}, **noted)
    left = reader.ask("POST", "/v1/invoices/{invoice_id}/write-off/reverse", {"reason": "solvent"}, **noted)["open"]
    reader.ask("POST", "/v1/invoices/{invoice_id}/payments", {"amount": left, "source_id": "q"}, **noted)
    reader.ask("POST", "/v1/invoices/{invoice_id}/credit-notes", {"reason": "a slip", "amount": "1"}, **noted)
    back = {"organization_id": acme, "amount": "1", "source_id": "r", "payment": "q", "reason": "a slip"}
    refund = reader.ask("POST", "/v1/refunds", back)
    assert reader.ask("GET", "/v1/refunds", query=mine)["refunds"] == [refund]
    reader.ask("POST", "/v1/periods/{organization_id}/{label}/close", organization_id=acme, label="2025-12")
    assert reader.ask("POST", "/v1/ledger/prove")["ok"]


def _event(service: Service, identifier: str, kind: str = "usage", **data: Any) -> dict[str, Any]:
    owner = {"organization": service.organizations["acme"], "meter": "tokens.input", "quantity": 12}
    now = format_time(service.system.clock.now())
    event = {"specversion": "1.0", "id": identifier, "source": "/meter", "type": f"sublet.{kind}.v1", "time": now}
    return event | {"data": owner | data}


def test_what_is_told_of_usage(service: Service) -> None:
    reader = Reader(service)

    def send(content: Any, kind: str) -> Any:
        return service.ask("operator", "POST", "/v1/usage", content, headers={"content-type": kind})

    stray = _event(service, "fix", kind="usage.correction", corrects={"source": "/meter", "id": "nowhere"})
    batch = send([_event(service, "one"), stray, {"specversion": "1.0"}], "application/cloudevents-batch+json")
    assert batch.status_code == 200 and len(batch.json()["refused"]) == 1, batch.text
    same(service.answers[("POST", "/v1/usage")], batch.json(), "usage")
    single = send({"specversion": "1.0"}, "application/cloudevents+json")
    assert single.status_code == 400 and single.json()["error"]["code"] == single.json()["refused"][0]["code"]
    service.system.ledger.rate()
    assert reader.ask("GET", "/v1/ledger/health")["waiting"]
    reader.ask("POST", "/v1/ledger/dismissals", {"source": "/meter", "id": "fix", "reason": "names no event"})
    assert reader.ask("GET", "/v1/ledger/dismissals")["dismissed"]


def test_what_is_told_of_a_price_book(service: Service) -> None:
    price = 'id = "input"\nmeter = "tokens.input"\nkind = "per_unit"\nfrom = 2020-01-01T00:00:00Z\n'
    book = f'name = "ours"\n[[prices]]\n{price}amount = "0.05"\ncurrency = "USD"\nper = 1000000\n'
    headers = {"Authorization": f"Bearer {service.keys['operator']}", "content-type": "application/toml"}
    answer = service.client.put("/v1/prices", content=book, headers=headers)
    assert answer.status_code == 200, answer.text
    same(service.answers[("PUT", "/v1/prices")], answer.json(), "prices")


def test_what_is_told_of_models(service: Service) -> None:
    reader = Reader(service)
    reader.ask("POST", "/v1/deployments", {"model": MODEL, "pool_id": service.world.pool.id})
    reader.ask("PUT", "/v1/deployments/{model:path}/scale", {"replicas": 1}, model=MODEL)
    reader.ask("PUT", "/v1/deployments/{model:path}/pools", {"pool_ids": [service.world.pool.id]}, model=MODEL)
    assert reader.ask("GET", "/v1/deployments")["models"][0]["deployment"]
    served = {"upstreams": [{"model": MODEL}]}
    reader.ask("POST", "/v1/model-routes", {"name": "chat", **served, "preview": True})
    reader.ask("POST", "/v1/model-routes", {"name": "chat", **served})
    reader.ask("PUT", "/v1/model-routes/{route:path}", served | {"spill": True}, route="chat")
    assert reader.ask("GET", "/v1/model-routes")["routes"][0]["upstreams"][0]["replicas_ready"] is not None
    reader.ask("GET", "/v1/model-routes/{route:path}", route="chat")
