"""The HTTP interface: scopes, whose leases, idempotency, errors."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi.testclient import TestClient
from tests.leases.world import KEY, World

from sublet.accounts.service import Accounts
from sublet.api.http import frame, requirement
from sublet.leases import api as leases_api
from sublet.leases.backends.simulated import Faults
from sublet.leases.model import OWNER_NEEDS
from sublet.leases.redaction import told_to_tenant


class Site:
    """The routes of leases with one key of each kind."""

    def __init__(self, world: World) -> None:
        accounts = Accounts(world.store)
        app = frame("test")
        app.include_router(leases_api.router(world.leases, requirement(accounts)))
        self.client = TestClient(app)
        self.keys = {}
        for name, kind in (("operator", "operator"), ("team", "internal"), ("alice", "customer"), ("bob", "customer")):
            organization = accounts.create_organization(name, kind)
            self.keys[name] = accounts.create_key(organization.id)[1]

    def call(self, who: str, method: str, path: str, body: Any = None, key: str | None = None) -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {self.keys[who]}"} | ({"Idempotency-Key": key} if key else {})
        answer = self.client.request(method, path, json=body, headers=headers)
        return answer.status_code, answer.json() if answer.content else None

    def take(self, who: str, world: World, **asked: Any) -> dict[str, Any]:
        body = {"pool": world.pool.name, "class": "notice", "duration_s": 3600, **asked}
        _, quote = self.call(who, "POST", "/v1/quotes", body)
        status, lease = self.call(who, "POST", "/v1/leases", {"quote_id": quote["id"], "ssh_public_keys": [KEY]})
        assert status == 201
        world.run(4)
        return dict(lease)


@pytest.fixture
def site(world: World) -> Site:
    return Site(world)


def test_quote_accept_show_end(site: Site, world: World) -> None:
    lease = site.take("alice", world, accelerators=2)
    status, shown = site.call("alice", "GET", f"/v1/leases/{lease['id']}")
    assert status == 200 and shown["state"] == "active" and shown["ssh"]["user"] == "tenant"
    assert [item["to"] for item in shown["history"]] == ["requested", "scheduled", "preparing", "active"]
    assert site.call("alice", "POST", f"/v1/leases/{lease['id']}/end")[1]["state"] == "ending"
    world.run(2)
    assert site.call("alice", "POST", f"/v1/leases/{lease['id']}/end")[1]["state"] == "ended"
    _, page = site.call("alice", "GET", "/v1/leases?limit=1")
    assert page["leases"][0]["end_reason"] == "released" and page["next"] is None
    assert site.call("alice", "GET", f"/v1/leases?limit=1&after={lease['id']}")[0] == 400


def test_the_same_request_again_is_the_same_quote_though_time_passed(site: Site, world: World) -> None:
    body = {"pool": world.pool.name, "class": "spot", "duration_s": 600}
    _, first = site.call("alice", "POST", "/v1/quotes", body, "k")
    world.clock.advance(3)
    assert site.call("alice", "POST", "/v1/quotes", body, "k") == (201, first)
    status, refused = site.call("alice", "POST", "/v1/quotes", {**body, "duration_s": 601}, "k")
    assert (status, refused["error"]["code"]) == (409, "idempotency_key_reused")


def test_nobody_sees_anothers_lease_but_the_operator(site: Site, world: World) -> None:
    lease = site.take("alice", world)
    path = f"/v1/leases/{lease['id']}"
    assert site.call("bob", "GET", path)[0] == 404
    assert site.call("bob", "POST", f"{path}/end")[0] == 404
    assert site.call("bob", "GET", "/v1/leases")[1]["leases"] == []
    assert site.call("operator", "GET", path)[0] == 200
    assert len(site.call("operator", "GET", "/v1/leases")[1]["leases"]) == 1


@pytest.mark.parametrize(
    ("who", "method", "path"),
    [("team", "POST", "/v1/quotes"), ("alice", "POST", "/v1/reclaims"), ("alice", "GET", "/v1/lease-plan"),
     ("team", "GET", "/v1/quarantine"), ("team", "GET", "/v1/leases"), ("alice", "GET", "/v1/reclaims")],
)  # fmt: skip
def test_a_key_without_the_scope_is_refused(site: Site, who: str, method: str, path: str) -> None:
    assert site.call(who, method, path, {} if method == "POST" else None)[0] == 403


@pytest.mark.parametrize(
    "wrong",
    [{"accelerators": 0}, {"class": "gold"}, {"start": "2026-07-02T14:00:00"}, {"duration_s": None}, {"end": "soon"},
     {"end": "2030-01-01T00:00:00Z"}, {"generation": "h100"}, {"surprise": 1}],
)  # fmt: skip
def test_a_bad_quote_is_refused(site: Site, world: World, wrong: dict[str, Any]) -> None:
    body = {"pool": world.pool.name, "class": "notice", "duration_s": 600, **wrong}
    status, answer = site.call("alice", "POST", "/v1/quotes", body)
    assert status in (400, 422) and answer["error"]["message"]


FAR = [
    ({"start": "9999-12-31T23:59:59Z", "duration_s": 21600}, "is outside the years"),
    ({"start": "9999-12-31T23:59:59-05:00", "duration_s": 21600}, "is outside the years"),
    ({"start": "2999-12-31T12:00:00Z", "duration_s": 21600}, "more than three years ahead"),
    ({"start": "2999-12-31T12:00:00Z", "end": "2999-12-31T23:59:59Z"}, "more than three years ahead"),
]


@pytest.mark.parametrize(("window", "why"), FAR)
def test_a_start_beyond_all_plans_is_refused_with_a_sentence(
    site: Site, world: World, window: dict[str, Any], why: str
) -> None:
    asked = {"pool": world.pool.name, **window}
    order = {**asked, "accelerators": 4, "reason": "x"}
    for who, path, body in (
        ("alice", "/v1/quotes", asked),
        ("team", "/v1/reclaims/preview", order),
        ("team", "/v1/reclaims", order),
    ):
        status, answer = site.call(who, "POST", path, body)
        assert (status, answer["error"]["code"]) == (400, "invalid_input")
        assert why in answer["error"]["message"]
    assert site.call("team", "GET", "/v1/reclaims")[1]["reclaims"] == []


@pytest.mark.parametrize("body", ["{", "not json", ""])
def test_a_body_that_is_not_json_is_said_to_be_none(site: Site, body: str) -> None:
    headers = {"Authorization": f"Bearer {site.keys['alice']}", "Content-Type": "application/json"}
    answer = site.client.post("/v1/quotes", content=body, headers=headers)
    error = answer.json()["error"]
    assert answer.status_code == 400
    if body:
        assert error["message"].startswith("the body is not JSON: ")
    else:
        assert error["message"] == "the body must be a JSON object, sent with content-type application/json"


def test_a_reclaim_may_name_any_time_in_the_past_and_any_end(site: Site, world: World) -> None:
    site.take("alice", world)
    order = {"pool": world.pool.name, "accelerators": 1, "start": "1970-01-01T00:00:00Z", "reason": "x"}
    status, plan = site.call("team", "POST", "/v1/reclaims/preview", {**order, "end": "8999-12-31T23:59:59Z"})
    assert status == 200 and plan["short"] == 0


@pytest.mark.parametrize(
    "key", ["", "ssh-ed25519", "ssh-ed25519 AAAA", f"command=x {KEY}", KEY + "\nssh-rsa x", "x" * 20_000]
)
def test_a_bad_public_key_is_refused(site: Site, world: World, key: str) -> None:
    _, quote = site.call("alice", "POST", "/v1/quotes", {"pool": world.pool.name, "duration_s": 600})
    status, _ = site.call("alice", "POST", "/v1/leases", {"quote_id": quote["id"], "ssh_public_keys": [key]})
    assert status in (400, 422)
    assert site.call("alice", "GET", "/v1/leases")[1]["leases"] == []


def test_a_team_takes_capacity_back_and_gives_it_up_again(site: Site, world: World) -> None:
    lease = site.take("alice", world, accelerators=4)
    body = {"pool": world.pool.name, "accelerators": 2, "duration_s": 7200, "reason": "training run"}
    _, preview = site.call("team", "POST", "/v1/reclaims/preview", body)
    assert preview["victims"][0]["lease_id"] == lease["id"]
    status, made = site.call("team", "POST", "/v1/reclaims", body, "r1")
    assert status == 201 and site.call("team", "POST", "/v1/reclaims", body, "r1")[1]["id"] == made["id"]
    _, noticed = site.call("alice", "GET", f"/v1/leases/{lease['id']}")
    assert (noticed["state"], noticed["reclaim_reason"]) == ("notice", OWNER_NEEDS)
    assert "training run" not in str(noticed), "the owner's plans are the owner's"
    assert site.call("operator", "GET", f"/v1/leases/{lease['id']}")[1]["reclaim_reason"].startswith("training run")
    _, plan = site.call("operator", "GET", "/v1/lease-plan")
    assert [step["kind"] for step in plan["steps"]] == ["notify"]
    site.call("team", "POST", f"/v1/reclaims/{made['id']}/withdraw")
    assert site.call("alice", "GET", f"/v1/leases/{lease['id']}")[1]["state"] == "active"
    assert site.call("team", "POST", "/v1/reclaims", {**body, "force": True})[0] == 403
    assert site.call("team", "GET", "/v1/reclaims")[1]["reclaims"][0]["withdrawn"] is True


def test_no_capacity_offers_alternatives(site: Site, world: World) -> None:
    world.surplus = 2
    status, answer = site.call(
        "alice", "POST", "/v1/quotes", {"pool": world.pool.name, "accelerators": 3, "duration_s": 600}
    )
    assert (status, answer["error"]["code"]) == (409, "no_capacity")
    assert answer["error"]["details"]["alternatives"][0]["accelerators"] == 2


HOST = "the sandbox did not start: bwrap: Can't mkdir /srv/sublet/leases/lse_1/root: uid 2100003, 10.1.2.3:22001, [fe80::1]:22"


def test_why_a_lease_did_not_start_is_told_to_its_tenant_without_the_host(site: Site, world: World) -> None:
    world.backend._faults = Faults(start_fails=1.0)
    lease = site.take("alice", world)
    path = f"/v1/leases/{lease['id']}"
    failed = site.call("alice", "GET", path)[1]
    assert (failed["state"], failed["end_reason"]) == ("failed", "start_failed")
    assert failed["last_error"] == "it did not start: simulated start failure"
    world.leases._transitions.note(lease["id"], HOST)
    told = site.call("alice", "GET", path)[1]["last_error"]
    assert told.startswith("the sandbox did not start: bwrap: Can't mkdir a path of the host")
    for secret in ("/srv", "2100003", "10.1.2.3", "fe80", "22"):
        assert secret not in told
    assert site.call("alice", "GET", "/v1/leases")[1]["leases"][0]["last_error"] == told
    assert site.call("operator", "GET", path)[1]["last_error"] == HOST


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("/dev/nvidia3 is not there; take it out", "a path of the host is not there; take it out"),
        (
            "every port from 22000 to 22999 on 127.0.0.1 is taken",
            "every port of the host on an address of the host is taken",
        ),
        (
            'it said:\nTraceback (most recent call last):\n  File "/opt/x.py", line 1\nOSError: no',
            "it said: OSError: no",
        ),
        ("no answer at 12:30:05; tokens/s 3.5, 1/2", "no answer at 12:30:05; tokens/s 3.5, 1/2"),
        ("", ""),
    ],
)
def test_what_a_tenant_is_told_keeps_the_words_and_drops_the_host(reason: str, told: str) -> None:
    assert told_to_tenant(reason) == told
