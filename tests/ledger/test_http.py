"""The ledger over HTTP: CloudEvents in every mode, who may read what, invoices as page, PDF and JSON, exports."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sublet.accounts.model import Actor
from sublet.ledger.api import router
from sublet.ledger.plans.model import PLAN_BYTES_MAX
from sublet.ledger.service import Ledger
from sublet.ledger.usage.cloudevents import BATCHED, STRUCTURED, read_request
from sublet.store.once import Effect
from sublet.values.clock import SimulatedClock, format_time
from sublet.values.errors import SubletError

SCOPES = frozenset({"operate", "billing"})


class Doors:
    """Clients with the keys of the operator and of two customers."""

    def __init__(self, ledger: Ledger, acme: str, bolt: str) -> None:
        self._ledger = ledger
        self.acme, self.bolt = acme, bolt

    def client(self, organization: str, *scopes: str) -> TestClient:
        actor = Actor("key_1", organization, "customer", frozenset(scopes))

        def require(permission: str, *, effect: Effect | None = None) -> Callable[[], Actor]:
            def depend() -> Actor:
                return actor.require(permission)

            return depend

        app = FastAPI()
        app.include_router(router(self._ledger, require))

        @app.exception_handler(SubletError)
        async def refuse(request: Any, error: SubletError) -> Any:
            from fastapi.responses import JSONResponse

            return JSONResponse(error.as_dict(), error.status)

        return TestClient(app, raise_server_exceptions=False)


@pytest.fixture
def doors(busy: Ledger, acme: str, bolt: str) -> Iterator[Doors]:
    yield Doors(busy, acme, bolt)


@pytest.fixture
def operator(doors: Doors) -> TestClient:
    return doors.client("org_operator", "operate", "billing")


def envelope(owner: str, clock: SimulatedClock, identifier: str = "e1", **fields: Any) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "id": identifier,
        "source": "/meter",
        "type": "sublet.usage.v1",
        "time": format_time(clock.now()),
        "somebodysextension": "passed over",
        "data": {"organization": owner, "meter": "tokens.input", "quantity": 12} | fields,
    }


def test_structured_batched_binary_and_base64(operator: TestClient, acme: str, clock: SimulatedClock) -> None:
    one = envelope(acme, clock)
    taken = operator.post("/v1/usage", content=json.dumps(one), headers={"content-type": STRUCTURED})
    assert (taken.status_code, taken.json()["accepted"]) == (200, 1)
    again = operator.post("/v1/usage", content=json.dumps([one]), headers={"content-type": BATCHED + "; charset=utf-8"})
    assert again.json() == {"accepted": 0, "duplicates": 1, "refused": []}
    headers = {f"ce-{name}": one[name] for name in ("specversion", "id", "source", "type", "time")}
    binary = operator.post(
        "/v1/usage", content=json.dumps(one["data"]), headers=headers | {"content-type": "application/json"}
    )
    assert binary.json()["duplicates"] == 1
    packed = {name: value for name, value in one.items() if name != "data"}
    packed["data_base64"] = base64.b64encode(json.dumps(one["data"]).encode()).decode()
    assert (
        operator.post("/v1/usage", content=json.dumps(packed), headers={"content-type": STRUCTURED}).json()[
            "duplicates"
        ]
        == 1
    )


def test_of_a_batch_the_good_are_taken_and_the_bad_come_back_in_place(
    operator: TestClient, acme: str, clock: SimulatedClock
) -> None:
    batch: list[Any] = [
        envelope(acme, clock, "good"),
        {"id": "half", "source": "x"},
        envelope(acme, clock, "negative", quantity=-1),
        "nonsense",
        envelope(acme, clock, "float", quantity=0.1),
        envelope(acme, clock, "strange", surprise=1),
        envelope(acme, clock, "good2"),
        envelope("org_nobody", clock, "nobody"),
    ]
    answer = operator.post("/v1/usage", content=json.dumps(batch), headers={"content-type": BATCHED})
    assert answer.status_code == 200 and answer.json()["accepted"] == 2
    refused = {entry["index"]: (entry["id"], entry["code"]) for entry in answer.json()["refused"]}
    assert refused == {
        1: ("half", "invalid_input"),
        2: ("negative", "invalid_input"),
        3: ("", "invalid_input"),
        4: ("float", "invalid_input"),
        5: ("strange", "invalid_input"),
        7: ("nobody", "not_found"),
    }


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        ("{", STRUCTURED, 400),
        ("[", BATCHED, 400),
        ("{}", BATCHED, 400),
        ("{}", "text/plain", 400),
        (
            '{"specversion":"0.3","id":"a","source":"b","type":"sublet.usage.v1","time":"2026-01-01T00:00:00Z"}',
            STRUCTURED,
            400,
        ),
        ("[" * 10_000, STRUCTURED, 400),
        ("\xff", STRUCTURED, 400),
    ],
)
def test_what_is_no_event_is_refused(operator: TestClient, body: str, kind: str, status: int) -> None:
    content = body.encode("latin-1")
    assert operator.post("/v1/usage", content=content, headers={"content-type": kind}).status_code == status


def test_an_event_without_data_or_with_two_and_a_packed_body_are_told_so(
    operator: TestClient, acme: str, clock: SimulatedClock
) -> None:
    one = envelope(acme, clock)
    kind = {"content-type": STRUCTURED}
    both = one | {"data_base64": base64.b64encode(b"{}").decode()}
    bare = {name: value for name, value in one.items() if name != "data"}
    for event, named in ((both, "both data and data_base64"), (bare, "has no data")):
        answer = operator.post("/v1/usage", content=json.dumps(event), headers=kind)
        assert answer.status_code == 400 and named in answer.json()["refused"][0]["message"]
    packed = operator.post(
        "/v1/usage", content=gzip.compress(json.dumps(one).encode()), headers=kind | {"content-encoding": "gzip"}
    )
    assert packed.status_code == 400 and "content-encoding 'gzip'" in packed.json()["error"]["message"]


def test_a_conflict_answers_409_and_shows_both(operator: TestClient, acme: str, clock: SimulatedClock) -> None:
    kind = {"content-type": STRUCTURED}
    operator.post("/v1/usage", content=json.dumps(envelope(acme, clock)), headers=kind)
    answer = operator.post("/v1/usage", content=json.dumps(envelope(acme, clock, quantity=13)), headers=kind)
    assert answer.status_code == 409
    details = answer.json()["refused"][0]["details"]
    assert (details["stored"]["quantity"], details["sent"]["quantity"]) == ("12", "13")


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    body=st.binary(max_size=200) | st.text(max_size=200).map(str.encode), kind=st.sampled_from([STRUCTURED, BATCHED])
)
def test_no_bytes_break_the_reader(body: bytes, kind: str) -> None:
    try:
        events, refused = read_request(kind, {}, body)
    except SubletError as error:
        assert error.status < 500
    else:
        assert not events and (refused or body.strip() == b"[]")


def test_customers_read_their_own_account_and_nothing_else(doors: Doors, operator: TestClient) -> None:
    mine, theirs = doors.client(doors.bolt, "billing"), doors.acme
    assert mine.get("/v1/invoices").json()["invoices"][0]["customer"]["organization_id"] == doors.bolt
    number = operator.get("/v1/invoices", params={"organization_id": theirs}).json()["invoices"][0]["number"]
    for path in (
        f"/v1/invoices?organization_id={theirs}",
        f"/v1/invoices/{number}",
        f"/v1/credits?organization_id={theirs}",
        f"/v1/balances?organization_id={theirs}",
        f"/v1/budgets?organization_id={theirs}",
        f"/v1/statements?organization_id={theirs}",
        f"/v1/owed?organization_id={theirs}",
        f"/v1/exports/usage?organization_id={theirs}",
    ):
        assert mine.get(path).status_code == 404, path
    for path in ("/v1/receivables", "/v1/ledger/health", "/v1/exports/gl-datev"):
        assert mine.get(path).status_code == 403, path
    for path, body in (
        ("/v1/usage", {}),
        ("/v1/credits", {"organization_id": doors.bolt, "amount": "5", "source_id": "x"}),
        ("/v1/invoices", {"organization_id": doors.bolt}),
        ("/v1/budgets", {"organization_id": doors.bolt, "limit": "5"}),
    ):
        assert mine.post(path, json=body).status_code == 403, path
    prices = mine.get("/v1/prices").json()["prices"]
    assert prices and all("organization" not in price for price in prices)
    assert doors.client(doors.bolt, "models").get("/v1/invoices").status_code == 403
    assert mine.post("/v1/ledger/prove").json()["subject"] == doors.bolt


def test_credit_notes_are_previewed_made_and_read(doors: Doors, operator: TestClient) -> None:
    [invoice] = operator.get("/v1/invoices", params={"organization_id": doors.bolt}).json()["invoices"]
    path = f"/v1/invoices/{invoice['number']}/credit-notes"
    wanted = {"reason": "outage", "amount": "0.05"}
    shown = operator.post(path, json=wanted | {"preview": True}).json()
    assert (shown["status"], shown["total"]) == ("draft", "0.050000000")
    made = operator.post(path, json=wanted | {"digest": shown["digest"]})
    assert (made.status_code, made.json()["number"]) == (201, "CN-000001")
    for body in (
        wanted | {"lines": [{"line": "1"}]},
        {"reason": ""},
        {"reason": "x", "amount": "0.001"},
        {"reason": "x", "lines": [{"line": "99"}]},
        {"reason": "x", "lines": [{"line": "1"}, {"line": "1"}]},
        {"reason": "x", "sum": "1"},
    ):
        assert operator.post(path, json=body).status_code in (400, 404, 422), body
    mine = doors.client(doors.bolt, "billing")
    assert [note["number"] for note in mine.get("/v1/credit-notes").json()["credit_notes"]] == ["CN-000001"]
    assert mine.get("/v1/credit-notes/CN-000001").json()["reason"] == "outage"
    assert mine.get("/v1/credit-notes/CN-000001", params={"format": "pdf"}).content.startswith(b"%PDF")
    assert mine.post(path, json=wanted).status_code == 403
    theirs = doors.client(doors.acme, "billing")
    assert theirs.get("/v1/credit-notes/CN-000001").status_code == 404
    assert operator.get("/v1/credit-notes/INV-000001").status_code == 404


def test_refunds_write_offs_and_netting_are_previewed_and_done(doors: Doors, operator: TestClient) -> None:
    [invoice] = operator.get("/v1/invoices", params={"organization_id": doors.bolt}).json()["invoices"]
    path = f"/v1/invoices/{invoice['number']}"
    written = operator.post(f"{path}/write-off", json={"reason": "insolvent", "preview": True})
    assert written.json()["amount"] == invoice["open"]
    assert operator.post(f"{path}/write-off", json={"reason": "insolvent"}).json()["invoice"] == invoice["number"]
    assert operator.post(f"{path}/write-off", json={"reason": "insolvent"}).status_code == 409
    assert operator.post(f"{path}/write-off/reverse", json={"reason": "solvent"}).json()["open"] == invoice["open"]
    operator.post(f"{path}/payments", json={"amount": invoice["open"], "source_id": "p"})
    operator.post(f"{path}/credit-notes", json={"reason": "outage", "amount": "0.05"})
    wanted = {"organization_id": doors.bolt, "amount": "0.05", "source_id": "r", "reason": "outage", "payment": "p"}
    assert operator.post("/v1/refunds", json=wanted | {"preview": True}).status_code == 201
    assert operator.get("/v1/refunds", params={"organization_id": doors.bolt}).json()["refunds"] == []
    assert operator.post("/v1/refunds", json=wanted | {"target": "cheque"}).status_code in (400, 422)
    made = operator.post("/v1/refunds", json=wanted).json()
    mine = doors.client(doors.bolt, "billing")
    assert mine.get("/v1/refunds").json()["refunds"] == [made]
    assert operator.post(f"{path}/netting", json={"source_id": "n", "reason": "agreed"}).status_code == 409
    assert operator.post(f"{path}/netting/undo", json={"source_id": "n", "reason": "no"}).status_code == 404
    for place, body in (
        ("/v1/refunds", wanted),
        (f"{path}/write-off", {"reason": "x"}),
        (f"{path}/write-off/reverse", {"reason": "x"}),
        (f"{path}/netting", {"source_id": "n", "reason": "x"}),
        (f"{path}/netting/undo", {"source_id": "n", "reason": "x"}),
        ("/v1/credits/crd_x/return", {"amount": "1", "reason": "x"}),
    ):
        assert mine.post(place, json=body).status_code == 403, place
        assert operator.post(place, json=body | {"surprise": 1}).status_code in (400, 422), place
    assert operator.post("/v1/credits/crd_x/return", json={"amount": "1", "reason": "x"}).status_code == 404
    assert mine.post("/v1/ledger/prove").json()["ok"]


def test_invoices_as_json_page_and_pdf(operator: TestClient) -> None:
    number = operator.post("/v1/ledger/prove").json()
    assert number["difference"] == "0.000000000" and number["subject"] == "everything"
    assert operator.get("/v1/invoices/INV-000001").json()["number"] == "INV-000001"
    assert "INV-000001" in operator.get("/v1/invoices/INV-000001", params={"format": "html"}).text
    assert operator.get("/v1/invoices/INV-000001", params={"format": "pdf"}).content.startswith(b"%PDF")
    assert operator.get("/v1/invoices/INV-000001", params={"format": "docx"}).status_code == 400
    assert operator.get("/v1/invoices/INV-000999").status_code == 404


def test_the_operator_runs_the_books(doors: Doors, operator: TestClient, clock: SimulatedClock) -> None:
    bolt = doors.bolt
    credit = {"organization_id": bolt, "amount": "5.25", "source_id": "x", "kind": "goodwill", "reason": "sorry"}
    assert operator.post("/v1/credits", json=credit).json()["amount"] == "5.250000000"
    assert operator.post("/v1/credits", json=credit | {"amount": "NaN"}).status_code in (400, 422)
    budget = operator.post("/v1/budgets", json={"organization_id": bolt, "limit": "10"}).json()
    listed = operator.get("/v1/budgets", params={"organization_id": bolt}).json()["budgets"]
    assert {entry["kind"] for entry in listed} == {"budget", "prepaid"}
    raised = operator.patch(f"/v1/budgets/{budget['id']}", json={"limit": "25"})
    assert (raised.status_code, raised.json()["limit"]) == (200, "25.000000000")
    assert operator.patch(f"/v1/budgets/{budget['id']}", json={"limit": "-1"}).status_code == 400
    assert operator.patch("/v1/budgets/bud_none", json={"limit": "1"}).status_code == 404
    assert operator.delete(f"/v1/budgets/{budget['id']}").status_code == 204
    assert operator.delete(f"/v1/budgets/{budget['id']}").status_code == 404
    profile = {"legal_name": "Bolt GmbH", "address": "Weg 1", "country": "DE", "payment_days": 14}
    assert operator.put(f"/v1/billing-profiles/{bolt}", json=profile).status_code == 200
    operator.post(
        "/v1/usage", content=json.dumps(envelope(bolt, clock, quantity=10**10)), headers={"content-type": STRUCTURED}
    )
    draft = operator.get("/v1/invoices/draft", params={"organization_id": bolt}).json()
    made = operator.post("/v1/invoices", json={"organization_id": bolt, "digest": draft["digest"]}).json()["invoice"]
    assert made["customer"]["name"] == "Bolt GmbH"
    paid = operator.post(f"/v1/invoices/{made['number']}/payments", json={"amount": made["due"], "source_id": "p"})
    assert paid.json()["status"] == "paid"
    assert operator.post(f"/v1/invoices/{made['number']}/void", json={"reason": "x"}).status_code == 409
    mistaken = {"source_id": "p", "reason": "of another customer"}
    opened = operator.post(f"/v1/invoices/{made['number']}/payments/reverse", json=mistaken)
    assert (opened.status_code, opened.json()["status"], opened.json()["paid"]) == (200, "final", "0.000000000")
    assert operator.post(f"/v1/invoices/{made['number']}/payments/reverse", json=mistaken).status_code == 409
    unknown = operator.post(f"/v1/invoices/{made['number']}/payments/reverse", json=mistaken | {"source_id": "q"})
    assert unknown.status_code == 404
    assert operator.post(f"/v1/periods/{bolt}/2026-03/close").status_code == 409
    assert operator.post(f"/v1/periods/{bolt}/2026-02/close").json()["closed_now"] is True
    assert operator.get("/v1/receivables").json()["receivables"]
    assert operator.get("/v1/ledger/health").json()["waiting"] == []
    export = operator.get("/v1/exports/focus-1.4", params={"since": "2026-01", "until": "2026-01"})
    assert export.text.startswith("BilledCost,")
    assert operator.get("/v1/exports/excel").status_code == 400
    for form in ("json", "parquet"):
        refused = operator.get("/v1/exports/gl-datev", params={"format": form})
        assert refused.status_code == 400 and "CSV only" in refused.text
    assert operator.get("/v1/exports/usage", params={"since": "January"}).status_code == 400


def test_prices_over_http(operator: TestClient) -> None:
    assert operator.put("/v1/prices", content=b"[[prices]]\nid = 5").status_code == 400
    assert operator.put("/v1/prices", content=b"\xff").status_code == 400
    gone = operator.put("/v1/prices", content=b"name = 'empty'")
    assert gone.status_code == 409 and "is missing" in gone.json()["error"]["message"]


@pytest.mark.parametrize(
    ("body", "words"),
    [(b"\xff\xfe", "UTF-8"), (b"#" * (PLAN_BYTES_MAX + 1), f"at most {PLAN_BYTES_MAX} bytes"), (b"id = ", "not TOML")],
)
def test_a_plan_that_can_not_be_read_is_refused(operator: TestClient, body: bytes, words: str) -> None:
    answer = operator.post("/v1/pricing-plans", content=body, headers={"content-type": "application/toml"})
    assert answer.status_code == 400 and words in answer.json()["error"]["message"], answer.text
    assert operator.get("/v1/pricing-plans").json()["plans"] == []


def test_a_correction_of_nothing_is_dismissed_by_the_operator_alone(
    doors: Doors, operator: TestClient, clock: SimulatedClock
) -> None:
    event = envelope(doors.bolt, clock, "fix", corrects={"source": "s", "id": "nowhere"})
    event["type"] = "sublet.usage.correction.v1"
    taken = operator.post("/v1/usage", content=json.dumps(event), headers={"content-type": STRUCTURED})
    assert taken.json()["accepted"] == 1
    given = {"source": event["source"], "id": "fix", "reason": "of no event"}
    customer = doors.client(doors.bolt, "billing")
    assert customer.post("/v1/ledger/dismissals", json=given).status_code == 403
    assert customer.get("/v1/ledger/dismissals").status_code == 403
    done = operator.post("/v1/ledger/dismissals", json=given)
    assert (done.status_code, done.json()["reason"]) == (201, "of no event")
    assert operator.post("/v1/ledger/dismissals", json=given).status_code == 409
    assert operator.post("/v1/ledger/dismissals", json=given | {"id": "none"}).status_code == 404
    assert operator.get("/v1/ledger/dismissals").json()["dismissed"] == [done.json()]
    assert operator.get("/v1/ledger/health").json()["waiting_events"] == 0
    assert operator.post("/v1/ledger/prove").json()["ok"]
