"""Two people edit the same thing: the second one's change is refused, and what it would have undone stays."""

from __future__ import annotations

import re
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.api.conftest import Service
from tests.api.test_idempotency_races import BOOK, MODEL, TOML
from tests.api.test_idempotency_races import anywhere as anywhere
from tests.client.test_paging import Direct
from tests.leases.world import KEY

from sublet.api.contract import EDITS, TAGGED
from sublet.client import Client
from sublet.client.operations import ALL
from sublet.conformance.backends import SSH_KEY
from sublet.values.clock import format_time
from sublet.values.errors import InvalidInputError
from sublet.values.etags import Condition, PreconditionFailedError, tag_of

OWN = BOOK.replace('"input"', '"own-input"')
Edit = tuple[str, str, str, list[Any]]
"""The path that shows it, the method and the path that change it, and two changes."""


def edits(service: Service) -> dict[str, Edit]:
    acme, model = service.organizations["acme"], f"/v1/deployments/{MODEL}"
    unit = f"/v1/units/{service.system.fleet.units(service.world.pool.id)[0].id}"
    made = service.ask("operator", "POST", "/v1/budgets", {"organization_id": acme, "limit": "5"}).json()["id"]
    assert (
        service.ask(
            "operator", "POST", "/v1/deployments", {"model": MODEL, "pool_id": service.world.pool.id}
        ).status_code
        < 300
    )
    profile, card = f"/v1/billing-profiles/{acme}", f"/v1/rate-cards/{acme}"
    quote = service.ask(
        "acme", "POST", "/v1/quotes", {"pool": service.world.pool.name, "class": "spot", "duration_s": 600}
    )
    accepted = {"quote_id": quote.json()["id"], "ssh_public_keys": [KEY]}
    keys = f"/v1/leases/{service.ask('acme', 'POST', '/v1/leases', accepted).json()['id']}/ssh-keys"
    name = keys.replace("/ssh-keys", "/name")
    hook = {"address": "https://hooks.example.com/a", "kinds": ["*"]}
    start = service.world.clock.now() + timedelta(days=90)
    part = {"pool": service.world.pool.name, "accelerators": 1, "start": format_time(start)}
    part["end"] = format_time(start + timedelta(days=30))
    block = f"/v1/blocks/{service.ask('operator', 'POST', '/v1/blocks', part).json()['id']}"
    least = "min_price_per_accelerator_hour"
    limit = service.ask("operator", "POST", "/v1/limits", {"organization_id": acme, "concurrency": 5}).json()["id"]
    terms = 'id = "p"\ncurrency = "USD"\namount = "1"\nseat_amount = "1"\n'
    headers = {"Authorization": f"Bearer {service.keys['operator']}", "content-type": TOML}
    assert service.client.post("/v1/pricing-plans", content=terms, headers=headers).status_code == 201
    taken = service.ask("operator", "POST", "/v1/plan-subscriptions", {"organization_id": acme, "plan_id": "p"})
    seats = f"/v1/plan-subscriptions/{taken.json()['id']}"
    route = {"name": "chat", "upstreams": [{"model": MODEL}]}
    assert service.ask("operator", "POST", "/v1/model-routes", route).status_code == 201
    routed = "/v1/model-routes/chat"
    told = f"/v1/subscriptions/{service.ask('operator', 'POST', '/v1/subscriptions', hook).json()['id']}"
    return {
        "ssh keys": (keys, "PUT", keys, [{"ssh_public_keys": [SSH_KEY]}, {"ssh_public_keys": [SSH_KEY, KEY]}]),
        "name": (name, "PUT", name, [{"name": "訓練"}, {"name": "b", "labels": [{"key": "équipe", "value": "ασ"}]}]),
        "prices": ("/v1/prices", "PUT", "/v1/prices", [BOOK, BOOK.replace("ours", "mine")]),
        "rate card": (card, "PUT", card, [OWN, OWN.replace("ours", "theirs")]),
        "plan": (seats, "POST", f"{seats}/change", [{"seats": 1}, {"seats": 2}]),
        "end of a plan": (seats, "POST", f"{seats}/end", [{"at": "2026-06-01T00:00:00Z"}, {"at": "2026-07-01T00:00:00Z"}]),
        "profile": (profile, "PUT", profile, [{"legal_name": "Acme"}, {"legal_name": "Acme Inc."}]),
        "budget": (f"/v1/budgets/{made}", "PATCH", f"/v1/budgets/{made}", [{"limit": "6"}, {"limit": "7"}]),
        "limit": (f"/v1/limits/{limit}", "PUT", f"/v1/limits/{limit}", [{"concurrency": 6}, {"concurrency": 7}]),
        "deployment": (model, "PUT", f"{model}/scale", [{"replicas": 1}, {"replicas": 2}]),
        "block": (block, "POST", f"{block}/change", [{least: "1"}, {least: "2"}]),
        "route": (routed, "PUT", routed, [
            {"upstreams": [{"model": MODEL, "weight": weight}], "spill": True} for weight in (2, 3)
        ]),
        "subscription": (told, "PATCH", told, [{"kinds": ["lease.*"]}, {"name": "b"}]),
        "unit": (unit, "PUT", f"{unit}/service", [{"in_service": False, "reason": "a"}, {"in_service": False, "reason": "b"}]),
    }  # fmt: skip


def change(service: Service, edit: Edit, body: Any, tags: list[str] | str | None) -> Any:
    headers = {"Authorization": f"Bearer {service.keys['operator']}"}
    sent = [("If-Match", tag) for tag in ([tags] if isinstance(tags, str) else tags or [])]
    if isinstance(body, str):
        return service.client.request(
            edit[1], edit[2], content=body, headers=[*headers.items(), ("content-type", TOML), *sent]
        )
    return service.client.request(edit[1], edit[2], json=body, headers=[*headers.items(), *sent])


def seen(service: Service, edit: Edit) -> str:
    answer = service.ask("operator", "GET", edit[0])
    assert answer.status_code == 200, answer.text
    return str(answer.headers["etag"])


def test_of_two_who_read_the_same_one_changes_it(anywhere: Service) -> None:
    for name, edit in edits(anywhere).items():
        tag = seen(anywhere, edit)
        both = threading.Barrier(2, timeout=60)

        def send(body: Any, edit: Edit = edit, tag: str = tag, both: threading.Barrier = both) -> Any:
            both.wait()
            return change(anywhere, edit, body, tag)

        with ThreadPoolExecutor(2) as pool:
            answers = list(pool.map(send, edit[3]))
        assert sorted(answer.status_code for answer in answers) in ([200, 412], [204, 412]), name
        (refused,) = [answer for answer in answers if answer.status_code == 412]
        assert refused.json()["error"]["code"] == "precondition_failed", name
        assert refused.headers["etag"] == seen(anywhere, edit) != tag, name


def test_headers_mean_what_they_say(service: Service) -> None:
    found = edits(service)
    for name, edit in found.items():
        first, second = edit[3]
        tag = seen(service, edit)
        for wrong in ('"other"', f"W/{tag}", '"a", "b"', '""'):
            assert change(service, edit, first, wrong).status_code == 412, f"{name} {wrong}"
        for broken in ("other", '"a" "b"', "*, *", "", '"a', 'w/"a"', ",", '"a"' + ', "a"' * 60):
            assert change(service, edit, first, broken).status_code == 400, f"{name} {broken}"
        assert seen(service, edit) == tag, f"{name}: what was refused changed nothing"
        done = change(service, edit, first, f'"x", {tag},, W/"y"')
        assert done.status_code < 300, f"{name} {done.text}"
        if done.status_code == 200:
            assert done.headers["etag"] == seen(service, edit), name
        assert change(service, edit, second, ['"x"', seen(service, edit)]).status_code < 300, name
        if name != "prices":
            assert change(service, edit, first, "*").status_code < 300, name
            assert change(service, edit, second, None).status_code < 300, name
    for path in (found[name][0] for name in ("budget", "limit", "deployment", "subscription")):
        assert service.ask("operator", "DELETE", path, headers={"If-Match": '"old"'}).status_code == 412
        tag = service.ask("operator", "GET", path).headers["etag"]
        assert service.ask("operator", "DELETE", path, headers={"If-Match": tag}).status_code == 204
        assert service.ask("operator", "GET", path).status_code == 404


def test_what_one_has_is_not_sent_again(service: Service) -> None:
    shown = [edit[0] for edit in edits(service).values()] + [f"/v1/pools/{service.world.pool.id}"]
    for path in shown:
        tag = service.ask("operator", "GET", path).headers["etag"]
        for known in (tag, f"W/{tag}", f'"x", {tag}', "*"):
            again = service.ask("operator", "GET", path, headers={"If-None-Match": known})
            assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag), path
        assert service.ask("operator", "GET", path, headers={"If-None-Match": '"x"'}).status_code == 200
        assert service.ask("operator", "GET", path, headers={"If-None-Match": "x"}).status_code == 400
    mine, theirs = (service.ask(who, "GET", "/v1/prices").headers["etag"] for who in ("acme", "bolt"))
    assert mine != theirs, "one's own prices are no other's"


def test_another_organizations_budget_is_as_if_there_were_none(service: Service) -> None:
    path = edits(service)["budget"][0]
    assert service.ask("acme", "GET", path).status_code == 200
    assert service.ask("bolt", "GET", path).status_code == 404


def test_the_document_says_which_operations_know_tags(service: Service) -> None:
    paths = service.client.get("/v1/openapi.json").json()["paths"]
    for (method, path), kind in service.answers.items():
        told = paths[path.replace(":path}", "}")][method.lower()]
        headers = {item["name"] for item in told.get("parameters", []) if item["in"] == "header"}
        assert ("If-None-Match" in headers) == ("304" in told["responses"]) == (method == "GET" and path in TAGGED), (
            path
        )
        if ("If-Match" in headers) or "412" in told["responses"]:
            assert (method, path) in EDITS, kind
    assert all(shown in TAGGED for shown in EDITS.values())
    known = {(item.method, re.sub(r"{(model|route)}", r"{\1:path}", item.path)) for item in ALL if item.edits}
    assert known == set(EDITS)


def test_every_change_in_place_knows_if_match(service: Service) -> None:
    """PUT and PATCH change what is there; those that do not know If-Match say why."""
    added = {
        ("PUT", "/v1/demand/{pool_id}/history"): "adds history and changes none",
        ("PUT", "/v1/images/{image}/content"): "adds a part of an upload, and names the byte at which it begins",
        (
            "PUT",
            "/v1/volumes/{volume}/copies/{copy_id}/content",
        ): "adds a part of a copy, and names the byte at which it begins",
        (
            "PUT",
            "/v1/organizations/{organization}/people/{person_id}/role",
        ): "a role is one word, and is set as a whole",
    }
    changing = {
        (method, route.path)
        for route in service.routes()
        for method in route.methods or ()
        if method in ("PUT", "PATCH")
    }
    assert changing - set(EDITS) == set(added)


def test_the_client_changes_what_it_has_read(service: Service) -> None:
    edits(service)
    client = Client("http://sublet", "key", transport=Direct(service))  # type: ignore[arg-type]
    _, tag = client.tagged("models.show_deployment", MODEL)
    assert client.models.scale(MODEL, {"replicas": 1}, if_match=tag).scale == 1
    with pytest.raises(PreconditionFailedError) as raised:
        client.models.scale(MODEL, {"replicas": 2}, if_match=tag)
    assert raised.value.details["etag"] == client.tagged("models.show_deployment", MODEL)[1]
    with pytest.raises(TypeError):
        client.call("fleet.list_pools", if_match=tag)


@given(st.lists(st.text(max_size=20), max_size=3))
def test_no_header_breaks_the_reader(values: list[str]) -> None:
    try:
        found = Condition.read("If-Match", values)
    except InvalidInputError:
        return
    assert (found.tags is None) == (not values)
    if found.tags is not None and found.tags != {"*"}:
        with pytest.raises(PreconditionFailedError):
            found.require({"nobody": "has this"})
    assert not Condition.read("If-Match", ['"a", W/"b"']).holds(tag_of(1))
