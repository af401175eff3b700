"""The routes of demand take what is meant and refuse the rest with the field's name."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
from fastapi.testclient import TestClient
from tests.permissions import everybody

from sublet.accounts.model import Actor
from sublet.api.http import frame
from sublet.demand.api import router
from sublet.demand.service import Demand
from sublet.store import Store
from sublet.values.clock import SimulatedClock, format_time

EDGES = [
    "0001-01-01T00:00:00Z",
    "0001-01-01T00:00:00+05:00",
    "9999-12-31T23:59:59Z",
    "9999-12-31T23:59:59-05:00",
]


@pytest.fixture
def client(store: Store, clock: SimulatedClock) -> Iterator[TestClient]:
    api = frame("demand")
    api.include_router(router(Demand(store), everybody, clock.now))
    with TestClient(api, raise_server_exceptions=False) as opened:
        yield opened


def claim(clock: SimulatedClock) -> dict[str, object]:
    start = clock.now() + timedelta(hours=1)
    return {"pool": "p", "accelerators": 3, "start": format_time(start), "end": format_time(start + timedelta(hours=1))}


def test_a_team_gives_up_only_its_own_claims(store: Store, clock: SimulatedClock) -> None:
    who = ["org_a", "team"]
    api = frame("demand")
    api.include_router(
        router(
            Demand(store), lambda *_, **__: lambda: Actor("", who[0], "internal", frozenset(), role=who[1]), clock.now
        )
    )
    with TestClient(api, raise_server_exceptions=False) as client:
        made = client.post("/v1/claims", json=claim(clock)).json()["id"]
        path = f"/v1/claims/{made}"
        who[0] = "org_b"
        assert made in client.get("/v1/claims").text, "the others see what is claimed"
        replaced = client.post("/v1/claims", json={**claim(clock), "accelerators": 1, "replaces": made})
        assert (client.delete(path).status_code, replaced.status_code) == (403, 403)
        assert [item["accelerators"] for item in client.get("/v1/claims").json()["claims"]] == [3]
        who[0] = "org_a"
        changed = client.post("/v1/claims", json={**claim(clock), "accelerators": 1, "replaces": made}).json()["id"]
        who[:] = ["org_operator", "operator"]
        assert client.delete(f"/v1/claims/{changed}").status_code == 200
        assert client.get("/v1/claims").json()["claims"] == []


def refusal(client: TestClient, path: str, body: object) -> str:
    answer = client.post(path, json=body)
    assert answer.status_code == 400, answer.text
    return str(answer.json()["error"]["message"])


@pytest.mark.parametrize("edge", EDGES)
def test_times_at_the_ends_of_the_calendar_are_refused(client: TestClient, clock: SimulatedClock, edge: str) -> None:
    for name in ("since", "until"):
        answer = client.get("/v1/demand/p/samples", params={name: edge})
        assert answer.status_code == 400, answer.text
        assert "is outside the years 1970 to 8999" in answer.json()["error"]["message"]
    for name in ("start", "end"):
        assert refusal(client, "/v1/claims", {**claim(clock), name: edge}).startswith(f"{name}: time {edge[:19]}")
    samples = {"samples": [{"time": edge, "capacity": 8, "in_use": 1}]}
    assert refusal(client, "/v1/demand/p/samples", samples).startswith("samples.0.time: time")


@pytest.mark.parametrize("edge", ["1970-01-01T00:00:00Z", "8999-12-31T23:59:59Z"])
def test_history_up_to_the_bounds_is_empty(client: TestClient, edge: str) -> None:
    for name in ("since", "until"):
        answer = client.get("/v1/demand/p/samples", params={name: edge})
        assert (answer.status_code, answer.json().get("samples")) == (200, []), answer.text


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"reson": "typing error"}, "reson: there is no such field; did you mean reason?"),
        ({"accelerators": True}, "accelerators: input should be a valid integer"),
        ({"accelerators": "3"}, "accelerators: input should be a valid integer"),
        ({"accelerators": 3.0}, "accelerators: input should be a valid integer"),
        ({"start": 1767600000}, "start: this is not a time; use the form 2026-07-02T14:00:00Z"),
        ({"start": "1767600000"}, "start: '1767600000' is not a time"),
        ({"duration_s": 60}, "send either end or duration_s"),
        ({"end": None}, "send either end or duration_s"),
        ({"pool_id": "p"}, "pool_id: there is no such field; did you mean pool?"),
    ],
)
def test_a_claim_is_what_it_says_or_refused(
    client: TestClient, clock: SimulatedClock, changed: dict[str, object], words: str
) -> None:
    assert words in refusal(client, "/v1/claims", {**claim(clock), **changed})
    assert client.get("/v1/claims").json() == {"claims": [], "next": None}
    assert client.post("/v1/claims", json=claim(clock)).status_code == 201


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"pendng": 4}, "samples.0.pendng: there is no such field; did you mean pending?"),
        ({"in_use": True}, "samples.0.in_use: input should be a valid number"),
        ({"time": 1767600000}, "samples.0.time: this is not a time"),
    ],
)
def test_a_sample_is_what_it_says_or_refused(
    client: TestClient, clock: SimulatedClock, changed: dict[str, object], words: str
) -> None:
    sample = {"time": format_time(clock.now()), "capacity": 8, "in_use": 1.5}
    assert words in refusal(client, "/v1/demand/p/samples", {"samples": [{**sample, **changed}]})
    answer = client.post("/v1/demand/p/samples", json={"samples": [sample]})
    assert answer.json()["taken"] == 1
