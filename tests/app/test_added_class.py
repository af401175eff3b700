"""A class of service that the settings alone add: quoted, sold, taken back in its place, credited, invoiced and drawn."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from tests.api.conftest import Service
from tests.leases.world import KEY

from sublet.simulation.world import World
from sublet.values.clock import parse_time

BRONZE = {
    "take_back": "notice",
    "notice_s": 60,
    "strictness": 150,
    "price_ratio": "0.6",
    "credit_ratio": "0.2",
    "description": "A minute's notice, at six tenths of the price.",
}
HOURS_2 = 7200


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    world = World(tmp_path / "w", 3, bronze=BRONZE)
    world.remember(days=30, need=0.1, spread=0.02)
    world.observe()
    made = Service(world)
    made.client.follow_redirects = False
    yield made
    world.close()


def _ok(service: Service, who: str, method: str, path: str, body: Any = None) -> Any:
    answer = service.ask(who, method, path, body)
    assert answer.status_code < 300, f"{method} {path}: {answer.text}"
    return answer.json()


def _sell(service: Service, class_name: str, accelerators: int) -> Any:
    wanted = {"pool": "simulated", "class": class_name, "accelerators": accelerators, "duration_s": HOURS_2}
    quote = _ok(service, "acme", "POST", "/v1/quotes", wanted)
    return _ok(service, "acme", "POST", "/v1/leases", {"quote_id": quote["id"], "ssh_public_keys": [KEY]})


def _victims(service: Service, accelerators: int) -> list[str]:
    order = {"pool": "simulated", "accelerators": accelerators, "duration_s": 600, "reason": "a run of our own"}
    return [item["class"] for item in _ok(service, "operator", "POST", "/v1/reclaims/preview", order)["victims"]]


def test_it_is_listed_and_offered_in_its_place(service: Service) -> None:
    listed = _ok(service, "acme", "GET", "/v1/classes")["classes"]
    assert [item["name"] for item in listed] == ["firm", "notice", "deadline", "bronze", "spot"]
    assert listed[3]["description"] == BRONZE["description"]
    rungs = _ok(service, "operator", "GET", f"/v1/surplus/{service.world.pool.id}")["rungs"]
    alone = {(item["class"], item["window_s"]): item["alone"] for item in rungs}
    for window_s in {window_s for _, window_s in alone}:
        counts = [alone[name, window_s] for name in ("firm", "notice", "bronze", "spot")]
        assert counts == sorted(counts), f"stricter never sells more: {counts} for {window_s} s"
    assert alone["bronze", 3600] > 0
    answer = service.ask("acme", "POST", "/v1/quotes", {"pool": "simulated", "class": "tin", "duration_s": 600})
    assert answer.status_code == 400
    assert "firm, notice, deadline, bronze, spot" in answer.json()["error"]["message"]


def test_it_is_sold_taken_back_in_its_order_credited_invoiced_and_drawn(service: Service) -> None:
    world = service.world
    # 16 accelerators, of which the owner uses 1 or 2; 8 are sold.
    bronze, _ = _sell(service, "bronze", 2), _sell(service, "bronze", 2)
    _sell(service, "notice", 2)
    _sell(service, "spot", 2)
    assert (bronze["price_per_accelerator_hour"], bronze["notice_s"]) == ("1.200000000", 60)
    world.pass_time(600)
    free = 16 - 8 - round(world.in_use)

    assert _victims(service, free + 2) == ["spot"]
    assert sorted(_victims(service, free + 4)) == ["bronze", "spot"]
    assert sorted(_victims(service, free + 8)) == ["bronze", "bronze", "notice", "spot"]

    service.client.post("/login", data={"key": service.keys["operator"]})
    page = service.client.get("/").text
    assert "Sold bronze" in page and "layer class-d" in page

    now = world.clock.now()
    order = {"pool": "simulated", "accelerators": free + 6, "duration_s": HOURS_2, "reason": "a run of our own"}
    reclaim = _ok(service, "operator", "POST", "/v1/reclaims", order)
    assert {item["class"]: _after(item["reclaim_at"], now) for item in reclaim["victims"]} == {
        "bronze": 60,
        "spot": 120,
    }
    world.pass_time(300)
    ended = _ok(service, "acme", "GET", f"/v1/leases/{bronze['id']}")
    assert (ended["state"], ended["end_reason"]) == ("ended", "reclaimed")
    rest_s = HOURS_2 - 660
    assert ended["credit"] == f"{0.2 * 2 * 1.2 * rest_s / 3600:.9f}"

    draft = _ok(service, "operator", "GET", f"/v1/invoices/draft?organization_id={service.organizations['acme']}")
    [line] = [line for line in draft["lines"] if bronze["id"] in line["description"]]
    # It started a minute after it was sold and was served for ten: 2 accelerators at 1.20 an hour.
    assert line["amount"] == "0.400000000" and draft["credits"]
    assert _ok(service, "operator", "GET", "/v1/record")["pools"][0]["leases"]
    world.prove()


def test_a_need_that_rises_takes_the_less_strict_class_although_its_notice_is_longer(service: Service) -> None:
    """bronze could be gone after 60 seconds and spot only after 120, but spot promises less."""
    world = service.world
    bronze, spot = _sell(service, "bronze", 2), _sell(service, "spot", 2)
    world.pass_time(600)
    world.in_use = 13.0
    # As far as the room of spot goes, nobody else is asked, now or in any later round.
    for _ in range(8):
        world.observe()
        world.pass_time(30, tick_s=10)
    states = {item["id"]: _ok(service, "acme", "GET", f"/v1/leases/{item['id']}")["state"] for item in (bronze, spot)}
    assert states == {bronze["id"]: "active", spot["id"]: "ended"}


def _after(moment: str, now: datetime) -> int:
    return round((parse_time(moment) - now).total_seconds())
