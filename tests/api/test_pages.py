"""Every list of the API has pages of one shape, or stands in the short list of those that are bounded, with the reason."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from typing import Any, get_args, get_origin, get_type_hints

import pytest
from sqlalchemy import Connection
from tests.api.conftest import Service
from tests.leases.world import KEY

from sublet.api.contract import BOUNDED
from sublet.client.operations import ALL, Operation
from sublet.notifications.fanout import begin, fan_out
from sublet.store import outbox
from sublet.store.paging import PAGE_MAX
from sublet.store.tables.leases import unit_states
from sublet.values.clock import format_time

PAGED = [operation for operation in ALL if operation.items]
ROWS = 3
SEVERAL = {
    "accounts.list_organizations", "accounts.list_keys", "fleet.list_units", "demand.list_samples", "demand.list_claims",
    "leases.list_quotes", "leases.list_leases", "leases.list_reclaims", "leases.list_quarantine", "ledger.list_credits",
    "ledger.list_budgets", "accounts.list_limits", "volumes.list_volumes", "volumes.list_snapshots", "images.list_images",
    "jobs.list_jobs",
}  # fmt: skip
"""Lists of which this test makes several rows."""
USERS = {"leases.list_quotes": "acme", "volumes.list_snapshots": "acme"}


def _lists(kind: type) -> list[str]:
    """The fields that hold several things with fields of their own."""
    hints = get_type_hints(kind)
    return [
        name
        for name, hint in hints.items()
        if get_origin(hint) is list and (dataclasses.is_dataclass(get_args(hint)[0]) or get_origin(get_args(hint)[0]) is dict)
    ]  # fmt: skip


def _has_pages(kind: type) -> bool:
    return get_type_hints(kind).get("next") == (str | None)


def test_every_list_has_pages_or_says_what_bounds_it(service: Service) -> None:
    document = service.client.get("/v1/openapi.json").json()
    bounded = set()
    for (method, path), kind in service.answers.items():
        if method != "GET" or not _lists(kind):
            continue
        told = document["paths"][path.replace(":path}", "}")]["get"]
        names = {item["name"] for item in told.get("parameters", [])}
        if _has_pages(kind):
            assert {"limit", "after"} <= names, f"{path} has a next page that nobody can ask for"
            assert len(_lists(kind)) == 1, f"{path}: which of its lists has pages?"
            (limit,) = [item["schema"] for item in told["parameters"] if item["name"] == "limit"]
            assert limit["minimum"] == 1 and limit["maximum"] <= 5_000 and 0 < limit["default"] <= limit["maximum"], (
                path
            )
        else:
            assert path in BOUNDED, f"{path} answers with a list without pages; give it some or say what bounds it"
            assert told["x-bounded"] == BOUNDED[path]
            bounded.add(path)
    assert set(BOUNDED) == bounded, "a path in BOUNDED has pages, or is no more"


def test_the_client_knows_every_list(service: Service) -> None:
    paged = {path for (method, path), kind in service.answers.items() if method == "GET" and _has_pages(kind)}
    assert {operation.path for operation in PAGED} == paged
    assert len(paged) >= 18


def _quarantine(connection: Connection, row: dict[str, Any]) -> None:
    connection.execute(unit_states.delete().where(unit_states.c.unit_id == row["unit_id"]))
    connection.execute(unit_states.insert().values(row))


@pytest.fixture
def filled(service: Service) -> Service:
    """Some of everything that is listed."""
    system, pool, acme = service.system, service.world.pool, service.organizations["acme"]
    for number in range(ROWS):
        service.system.accounts.create_key("acme", f"k{number}")
        volume = {"name": f"v{number}", "size_mib": 64, "pool": pool.name}
        assert service.ask("acme", "POST", "/v1/volumes", volume).status_code == 201
        image = {"name": f"i{number}", "size_bytes": 5, "sha256": "0" * 64}
        assert service.ask("acme", "POST", "/v1/images", image).status_code == 201
        service.ask("acme", "POST", "/v1/quotes", {"pool": pool.name, "class": "spot", "duration_s": 600})
        quote = service.ask(
            "acme", "POST", "/v1/quotes", {"pool": pool.name, "class": "spot", "duration_s": 600}
        ).json()
        lease = service.ask("acme", "POST", "/v1/leases", {"quote_id": quote["id"], "ssh_public_keys": [KEY]})
        assert lease.status_code == 201, lease.text
        job = {"pool": pool.name, "class": "spot", "duration_s": 600, "command": ["true"]}
        made = service.ask("acme", "POST", "/v1/jobs", job)
        assert made.status_code == 201, made.text
        # Canceled before it began, it gives its accelerator back and stays in the list.
        service.ask("acme", "POST", f"/v1/jobs/{made.json()['jobs'][0]['id']}/cancel")
        start = system.clock.now() + timedelta(days=30 + number)
        claim = {
            "pool": pool.id,
            "accelerators": 1,
            "start": format_time(start),
            "end": format_time(start + timedelta(hours=1)),
        }
        assert service.ask("team", "POST", "/v1/claims", claim).status_code == 201
        order = {"pool": pool.name, "accelerators": 1, "duration_s": 600, "reason": "r"}
        assert service.ask("team", "POST", "/v1/reclaims", order).status_code == 201
        credit = {"organization_id": acme, "amount": "1", "source_id": f"c{number}"}
        assert service.ask("operator", "POST", "/v1/credits", credit).status_code == 201
        budget = {"organization_id": acme, "limit": "5", "scope": "project", "scope_id": f"p{number}"}
        assert service.ask("operator", "POST", "/v1/budgets", budget).status_code == 201
        limit = {"organization_id": acme, "model": f"m{number}", "requests_per_minute": 5}
        assert service.ask("operator", "POST", "/v1/limits", limit).status_code == 201
        wanted = {"address": f"https://hooks.example.com/{number}", "kinds": ["*"], "organization_id": acme}
        hook = service.ask("operator", "POST", "/v1/subscriptions", wanted)
        assert hook.status_code == 201, hook.text
        service.subscription = hook.json()["id"]
        service.ask("acme", "POST", "/v1/quotes", {"pool": pool.name, "class": "spot", "duration_s": 600})
    system.leases.tick()
    for number in range(ROWS):
        assert service.ask("acme", "POST", "/v1/volumes/v0/snapshots", {"name": f"s{number}"}).status_code == 201
        system.leases.tick()
    begin(system.store)
    for unit in system.fleet.units(pool.id)[:ROWS]:
        row = {"unit_id": unit.id, "pool_id": pool.id, "state": "quarantined", "reason": "left", "changed_at": start}
        system.store.write(lambda connection, row=row: _quarantine(connection, row))
    service.ask("acme", "POST", f"/v1/subscriptions/{service.subscription}/test")
    service.ask("acme", "POST", f"/v1/subscriptions/{service.subscription}/test")
    outbox.number(system.store)
    fan_out(system.store)
    return service


def test_pages_of_one_row_make_the_whole_list_and_bad_cursors_are_refused(filled: Service) -> None:
    for operation in PAGED:
        if operation.id == "accounts.list_audit":
            continue  # reading it adds a row; tests/api/test_audit.py pages through it
        if "subscription_id" in operation.parameters:
            continue  # tests/notifications has subscriptions
        _walk(filled, operation)


def _walk(filled: Service, operation: Operation) -> None:
    who, where = USERS.get(operation.id, "operator"), operation.id
    path = operation.path.format(
        organization="acme",
        pool=filled.world.pool.id,
        pool_id=filled.world.pool.id,
        subscription_id=filled.subscription,
        volume="v0",
    )
    query: dict[str, Any] = {}
    if "organization_id" in operation.query:
        query["organization_id"] = filled.organizations["acme"]

    def ask(**more: Any) -> Any:
        answer = filled.ask(who, "GET", path, params={**query, **more})
        assert answer.status_code == 200, f"{where}: {answer.text}"
        return answer.json()

    whole = ask(limit=PAGE_MAX)[operation.items][:6]
    assert len(whole) > 1 or operation.id not in SEVERAL, f"{where}: there is nothing to page through"
    rows: list[Any] = []
    after: dict[str, str] = {}
    for _ in whole:
        page = ask(limit=1, **after)
        rows += page[operation.items]
        after = {"after": page["next"]} if page["next"] else {}
    assert rows == whole, where
    for wrong in ("", "x", rows[0].get("id", "y") if rows else "y", "bnVsbA", "a" * 2_000):
        refused = filled.ask(who, "GET", path, params={**query, "after": wrong})
        assert refused.status_code == 400, f"{where}: {wrong[:20]}: {refused.text}"
    for limit in (0, -1, 5_001, "many"):
        assert filled.ask(who, "GET", path, params={**query, "limit": limit}).status_code == 400, where


def test_a_cursor_of_one_list_is_refused_in_another(filled: Service) -> None:
    after = filled.ask("operator", "GET", "/v1/leases?limit=1").json()["next"]
    refused = filled.ask("operator", "GET", f"/v1/reclaims?after={after}")
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "invalid_cursor")


def test_a_cursor_opens_nothing_of_another_organization(filled: Service) -> None:
    after = filled.ask("acme", "GET", "/v1/leases?limit=1").json()["next"]
    assert filled.ask("bolt", "GET", f"/v1/leases?after={after}").json() == {"leases": [], "next": None}
