"""Subscriptions and events over HTTP: each sees and changes its own alone, secrets are shown once, streams go on where they were."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from tests.api.answers import same
from tests.api.conftest import Service
from tests.api.conftest import service as service
from tests.leases.world import KEY

from sublet.notifications import tailing
from sublet.notifications.fanout import begin, fan_out
from sublet.notifications.links import Links
from sublet.notifications.tailing import Tailing
from sublet.store import outbox
from sublet.store.outbox import Selection
from sublet.values.errors import LimitExceededError

URL = "https://hooks.example.com/sublet"
HOOK = {"address": URL, "kinds": ["lease.*", "quote.held"]}


def made(service: Service, who: str = "acme", **changes: Any) -> dict[str, Any]:
    answer = service.ask(who, "POST", "/v1/subscriptions", HOOK | changes)
    assert answer.status_code == 201, answer.text
    same(service.answers[("POST", "/v1/subscriptions")], answer.json(), "subscription")
    return dict(answer.json())


def quote(service: Service, who: str = "acme") -> str:
    quote_body = {"pool": service.world.pool.name, "class": "spot", "duration_s": 600}
    found = service.ask(who, "POST", "/v1/quotes", quote_body).json()["id"]
    outbox.number(service.system.store)
    return str(found)


def lease(service: Service, who: str = "acme") -> str:
    body = {"quote_id": quote(service, who), "ssh_public_keys": [KEY]}
    found = service.ask(who, "POST", "/v1/leases", body).json()["id"]
    service.world.pass_time(120)
    outbox.number(service.system.store)
    return str(found)


def test_a_secret_is_shown_once_and_rotated(service: Service) -> None:
    mine = made(service)
    assert mine["secret"].startswith("whsec_") and mine["organization_id"] == service.organizations["acme"]
    path = f"/v1/subscriptions/{mine['id']}"
    assert "secret" not in service.ask("acme", "GET", path).json()
    rotated = service.ask("acme", "POST", f"{path}/rotate").json()
    assert rotated["secret"] not in ("", mine["secret"]) and rotated["previous_secret_until"]
    with service.system.store.read() as connection:
        stored = connection.exec_driver_sql("SELECT secret, previous_secret FROM subscriptions").one()
    assert not any(item in str(stored) for item in (mine["secret"], rotated["secret"], "whsec_"))


def test_who_may_see_and_change_what(service: Service) -> None:
    mine, theirs, operators = made(service), made(service, "bolt"), made(service, "operator", kinds=["*"])
    assert operators["organization_id"] is None
    for other in (theirs["id"], operators["id"], "sub_nobody"):
        path = f"/v1/subscriptions/{other}"
        for method, where, body in (
            ("GET", path, None),
            ("PATCH", path, {"enabled": False}),
            ("DELETE", path, None),
            ("POST", f"{path}/rotate", None),
            ("POST", f"{path}/test", None),
            ("GET", f"{path}/deliveries", None),
        ):
            assert service.ask("acme", method, where, body).status_code == 404, where
    bolt = service.organizations["bolt"]
    refused: list[tuple[str, str, Any]] = [
        ("GET", f"/v1/subscriptions?organization_id={bolt}", None),
        ("POST", "/v1/subscriptions", HOOK | {"organization_id": bolt}),
        ("GET", f"/v1/events?organization_id={bolt}", None),
    ]
    for method, where, body in refused:
        assert service.ask("acme", method, where, body).status_code == 403, where
    assert [item["id"] for item in service.ask("acme", "GET", "/v1/subscriptions").json()["subscriptions"]] == [
        mine["id"]
    ]
    ours = service.ask("operator", "GET", "/v1/subscriptions").json()["subscriptions"]
    assert [item["id"] for item in ours] == [operators["id"]]
    named = service.ask("operator", "GET", "/v1/subscriptions?organization_id=bolt").json()["subscriptions"]
    assert [item["id"] for item in named] == [theirs["id"]]
    gone = service.ask("operator", "DELETE", f"/v1/subscriptions/{theirs['id']}?organization_id=bolt")
    assert gone.status_code == 204
    service.keys["developer"] = service.system.accounts.create_key("acme", role="customer_developer")[1]
    assert service.ask("developer", "GET", "/v1/subscriptions").status_code == 403
    assert service.ask("developer", "GET", "/v1/events").status_code == 403


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"address": "http://hooks.example.com/"}, "destination_refused"),
        ({"address": "https://127.0.0.1/"}, "destination_refused"),
        ({"address": "https://169.254.169.254/latest/meta-data"}, "destination_refused"),
        ({"address": "https://[::ffff:10.0.0.1]/"}, "destination_refused"),
        ({"address": "javascript:alert(1)"}, "invalid_input"),
        ({"address": ""}, "invalid_input"),
        ({"kinds": []}, "invalid_input"),
        ({"kinds": ["leese.ready"]}, "invalid_input"),
        ({"kinds": ["l*e"]}, "invalid_input"),
        ({"kinds": ["reclaim.made"]}, "invalid_input"),
        ({"channel": "file", "address": "x.jsonl"}, "invalid_input"),
        ({"channel": "pigeon"}, "invalid_input"),
        ({"channel": "email", "address": "ops@example.com"}, "invalid_input"),
        ({"format": "xml"}, "invalid_input"),
        ({"name": "a\nb"}, "invalid_input"),
        ({"secret": "mine"}, "invalid_input"),
    ],
)
def test_what_is_refused(service: Service, changes: dict[str, Any], code: str) -> None:
    answer = service.ask("acme", "POST", "/v1/subscriptions", HOOK | changes)
    assert answer.status_code == 400 and answer.json()["error"]["code"] == code, answer.text
    assert service.ask("acme", "GET", "/v1/subscriptions").json()["subscriptions"] == []


def test_a_near_name_is_named_and_there_are_not_too_many(service: Service) -> None:
    refused = service.ask("acme", "POST", "/v1/subscriptions", HOOK | {"kinds": ["lease.redy"]})
    assert "did you mean lease.ready?" in refused.json()["error"]["message"]
    for _ in range(50):
        made(service)
    assert service.ask("acme", "POST", "/v1/subscriptions", HOOK).status_code == 429
    assert made(service, "bolt")


def test_deliveries_and_redelivery(service: Service) -> None:
    mine = made(service)
    begin(service.system.store)
    sent = service.ask("acme", "POST", f"/v1/subscriptions/{mine['id']}/test")
    assert sent.status_code == 202
    quote(service)
    fan_out(service.system.store)
    path = f"/v1/subscriptions/{mine['id']}/deliveries"
    answer = service.ask("acme", "GET", path).json()
    same(service.answers[("GET", "/v1/subscriptions/{subscription_id}/deliveries")], answer, "deliveries")
    assert [item["type"] for item in answer["deliveries"]] == ["quote.held", "subscription.test"]
    assert answer["deliveries"][1]["event_id"] == sent.json()["event_id"]
    assert service.ask("acme", "GET", f"{path}?state=delivered").json()["deliveries"] == []
    assert service.ask("acme", "GET", f"{path}?state=lost").status_code == 400
    again = service.ask("acme", "POST", f"/v1/deliveries/{answer['deliveries'][0]['id']}/redeliver")
    assert (again.status_code, again.json()["state"]) == (202, "waiting")
    for who in ("bolt", "operator"):
        refused = service.ask(who, "POST", f"/v1/deliveries/{answer['deliveries'][0]['id']}/redeliver")
        assert refused.status_code == 404
    disabled = service.ask("acme", "PATCH", f"/v1/subscriptions/{mine['id']}", {"enabled": False, "name": "ops"})
    assert (disabled.json()["enabled"], disabled.json()["name"]) == (False, "ops")
    refused = service.ask("acme", "POST", f"/v1/subscriptions/{mine['id']}/test")
    assert refused.json()["error"]["code"] == "subscription_disabled"


def test_events_are_read_and_waited_for(service: Service) -> None:
    name = lease(service)
    quote(service, "bolt")
    answer = service.ask("acme", "GET", "/v1/events").json()
    same(service.answers[("GET", "/v1/events")], answer, "events")
    assert [item["type"] for item in answer["events"]] == ["quote.held", "lease.ready"]
    assert service.ask("acme", "GET", f"/v1/events?since={answer['last']}").json()["events"] == []
    one = service.ask("acme", "GET", "/v1/events?limit=1").json()
    assert one["last"] == one["events"][0]["sequence"]
    told = service.ask("acme", "GET", f"/v1/leases/{name}/events").json()
    assert [item["type"] for item in told["events"]] == ["lease.ready"]
    assert service.ask("bolt", "GET", f"/v1/leases/{name}/events").status_code == 404
    assert len(service.ask("operator", "GET", f"/v1/leases/{name}/events").json()["events"]) == 1
    everything = [item["organization"] for item in service.ask("operator", "GET", "/v1/events").json()["events"]]
    assert len(set(everything) - {None}) == 2
    begun = service.ask("acme", "GET", f"/v1/events?since={answer['last']}&wait_s=0.2")
    assert begun.json()["events"] == []
    for wrong in ("wait_s=31", "wait_s=-1", "since=-1", "since=x", "limit=0", "limit=201"):
        assert service.ask("acme", "GET", f"/v1/events?{wrong}").status_code == 400, wrong


def test_kinds(service: Service) -> None:
    answer = service.ask("acme", "GET", "/v1/event-kinds").json()
    same(service.answers[("GET", "/v1/event-kinds")], answer, "kinds")
    assert {kind["audience"] for kind in answer["kinds"]} == {"organization"}
    assert "reclaim.missed" in {
        kind["name"] for kind in service.ask("operator", "GET", "/v1/event-kinds").json()["kinds"]
    }


def pieces(text: str) -> list[tuple[str, dict[str, Any]]]:
    found = []
    for block in text.strip().split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if "data" in lines:
            found.append((lines["id"], json.loads(lines["data"])))
    return found


def test_a_stream_goes_on_where_its_reader_was(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tailing, "STREAM_S_MAX", 0.0)
    monkeypatch.setattr(tailing, "LOOK_S", 0.01)
    name = lease(service)
    stream = {"Accept": "text/event-stream"}

    def read(path: str, **headers: str) -> list[tuple[str, dict[str, Any]]]:
        monkeypatch.setattr(tailing, "STREAM_S_MAX", 0.3)
        answer = service.ask("acme", "GET", path, headers=stream | headers)
        assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/event-stream")
        return pieces(answer.text)

    first = read("/v1/events?since=0")
    assert [item["type"] for _, item in first] == ["quote.held", "lease.ready"]
    assert [item["type"] for _, item in read("/v1/events", **{"Last-Event-ID": first[0][0]})] == ["lease.ready"]
    assert read("/v1/events") == [], "without either it begins now"
    assert [item["subject"] for _, item in read(f"/v1/leases/{name}/events?since=0")] == [name]
    assert service.ask("bolt", "GET", f"/v1/leases/{name}/events", headers=stream).status_code == 404
    for wrong in ("-1", "9" * 5000):
        refused = service.ask("acme", "GET", "/v1/events", headers=stream | {"Last-Event-ID": wrong})
        assert refused.status_code == 400


def test_a_stream_tells_as_it_happens_and_there_are_not_too_many(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tailing, "LOOK_S", 0.01)
    monkeypatch.setattr(tailing, "KEEP_ALIVE_S", 0.05)
    tail = Tailing(service.system.store)
    whose = Selection(organization_id=service.organizations["acme"])

    async def follow() -> None:
        stream = tail.stream(0, whose, "acme")
        assert (await anext(stream)).startswith(b"retry: ")
        assert await anext(stream) == b": nothing new\n\n"
        await asyncio.to_thread(quote, service)
        told = b""
        while not told.startswith(b"id: "):
            told = await asyncio.wait_for(anext(stream), 10)
        assert pieces(told.decode())[0][1]["type"] == "quote.held"
        others = [tail.stream(0, whose, "acme") for _ in range(tailing.PER_OWNER)]
        for other in others[1:]:
            await anext(other)
        with pytest.raises(LimitExceededError):
            await anext(others[0])
        await stream.aclose()  # type: ignore[attr-defined]
        late = tail.stream(0, whose, "acme")
        await anext(late)
        for other in (*others, late):
            await other.aclose()  # type: ignore[attr-defined]
        assert tail._open == {}

    asyncio.run(follow())


def test_a_link_in_a_mail_ends_its_subscription_and_no_other(service: Service) -> None:
    notifications = service.system.notifications
    notifications.links = Links(service.system.sealing, "https://sublet.example.com")
    mine, other = made(service), made(service)
    with service.system.store.read() as connection:
        from sublet.notifications.store import subscription

        found = subscription(connection, mine["id"])
    assert found is not None
    path = notifications.links.leave_url(found).removeprefix("https://sublet.example.com")
    looked = service.client.get(path)
    assert looked.status_code == 200 and "default-src 'none'" in looked.headers["content-security-policy"]
    assert service.ask("acme", "GET", f"/v1/subscriptions/{mine['id']}").json()["enabled"], "a look changes nothing"
    wrong = path.replace(mine["id"], other["id"])
    for bad in (wrong, path[:-1] + ("0" if path[-1] != "0" else "1"), f"/unsubscribe/{mine['id']}/x"):
        assert service.client.post(bad).status_code == 404
    assert service.client.post(path, data={"List-Unsubscribe": "One-Click"}).status_code == 200
    ended = service.ask("acme", "GET", f"/v1/subscriptions/{mine['id']}").json()
    assert (ended["enabled"], ended["disabled_reason"]) == (False, "unsubscribed by a link in a mail")
    assert service.ask("acme", "GET", f"/v1/subscriptions/{other['id']}").json()["enabled"]
