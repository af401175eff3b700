"""The audit log: every change leaves an entry in its own transaction, and a changed log is found out."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, delete, update
from tests.api.conftest import Service

from sublet.accounts.service import Accounts
from sublet.api.http import UNRECORDED, api_routes
from sublet.commands.audit import cef
from sublet.store import Store, audit
from sublet.store.metadata import metadata
from sublet.store.paging import PageRequest
from sublet.store.tables.audit import audit_entries as entries
from sublet.values.clock import SimulatedClock
from sublet.values.errors import ConflictError

ADA = audit.Acting("per_ada", "org_1", "operator", "accounts.create_organization", "/v1/organizations", "192.0.2.7")


def listed(store: Store) -> list[dict[str, Any]]:
    with store.read() as connection:
        return audit.page(connection, audit.Wanted(), PageRequest()).items


def verified(store: Store, clock: SimulatedClock) -> audit.Verified:
    with store.read() as connection:
        return audit.verify(connection, clock.now() - timedelta(days=731))


def test_a_change_and_its_entry_are_one(any_store: Store) -> None:
    accounts = Accounts(any_store)
    with audit.act(ADA):
        made = accounts.create_organization("acme")
        with pytest.raises(ConflictError):
            accounts.create_organization("acme")
        accounts.suspend(made.id)
    accounts.resume(made.id)
    second, first = listed(any_store)
    assert (first["seq"], first["actor"]["id"], first["source"]) == (1, "per_ada", "192.0.2.7")
    assert first["organization_id"] == made.id
    (created,) = first["changes"]
    assert (created["kind"], created["id"], created["before"]) == ("organizations", made.id, None)
    assert created["after"]["name"] == "acme"
    assert second["changes"] == [
        {"kind": "organizations", "id": made.id, "before": {"status": "active"}, "after": {"status": "suspended"}}
    ]


def test_several_writers_make_one_chain(any_store: Store, clock: SimulatedClock) -> None:
    accounts, together = Accounts(any_store), threading.Barrier(4, timeout=60)

    def write(writer: int) -> None:
        together.wait()
        for number in range(6):
            with audit.act(audit.Acting(f"per_{writer}", "org_1", "operator", "x")):
                accounts.create_organization(f"o {writer} {number}")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    found = verified(any_store, clock)
    assert (found.ok, found.entries, found.first, found.last) == (True, 24, 1, 24)


@pytest.mark.parametrize("how", ["body", "actor", "gone", "rewritten", "first gone"])
def test_a_changed_log_is_found_out(store: Store, clock: SimulatedClock, how: str) -> None:
    accounts = Accounts(store)
    with audit.act(ADA):
        for number in range(5):
            accounts.create_organization(f"o{number}")

    def tamper(connection: Connection) -> None:
        third = entries.c.seq == 3
        if how == "body":
            connection.execute(update(entries).where(third).values(body=entries.c.body + " "))
        elif how == "actor":
            connection.execute(update(entries).where(third).values(actor_id="per_eve"))
        elif how == "gone":
            connection.execute(delete(entries).where(third))
        elif how == "first gone":
            connection.execute(delete(entries).where(entries.c.seq < 3))
        else:
            row = connection.execute(entries.select().where(third)).one()
            body = row.body.replace("per_ada", "per_eve")
            connection.execute(
                update(entries)
                .where(third)
                .values(body=body, actor_id="per_eve", sha256=audit._hash(row.previous, body))
            )

    assert verified(store, clock).ok
    store.write(tamper)
    found = verified(store, clock)
    assert not found.ok and found.broken_at in (3, 4) and found.reason


def test_old_entries_go_and_the_rest_still_verifies(store: Store, clock: SimulatedClock) -> None:
    accounts = Accounts(store)
    with audit.act(ADA):
        accounts.create_organization("older")
        accounts.create_organization("old")
        clock.advance(800 * 24 * 3600)
        accounts.create_organization("new")
    before = clock.now() - timedelta(days=731)
    assert store.write(lambda connection: audit.forget(connection, before)) == 1
    assert [item["seq"] for item in listed(store)] == [3, 2]
    assert verified(store, clock).ok
    store.write(lambda connection: connection.execute(delete(entries).where(entries.c.seq == 2)))
    found = verified(store, clock)
    assert not found.ok and "gone" in found.reason, "a young first entry"


def test_recorded_tables_and_hidden_columns_exist() -> None:
    assert set(metadata.tables) >= audit.RECORDED
    for name, columns in audit.PERSONAL.items():
        assert {column.name for column in metadata.tables[name].columns} >= columns - {"tax_number"}, name


def test_operations_leave_entries_without_secrets(service: Service) -> None:
    service.keys["admin"] = service.system.accounts.create_key("acme", "admin", role="customer_admin")[1]
    made = service.ask("admin", "POST", "/v1/organizations/acme/keys", {"role": "customer_developer"}).json()
    invited = service.ask(
        "admin", "POST", "/v1/organizations/acme/invitations", {"email": "ada@example.com", "role": "customer_admin"}
    ).json()
    budget = service.ask(
        "operator", "POST", "/v1/budgets", {"organization_id": service.organizations["acme"], "limit": "5"}
    ).json()["id"]
    service.ask("operator", "PATCH", f"/v1/budgets/{budget}", {"limit": "6"})
    refused = service.ask("admin", "PATCH", f"/v1/budgets/{budget}", {"limit": "7"})
    assert refused.status_code == 403
    answer = service.ask("operator", "GET", "/v1/audit").json()
    done = [item["operation"] for item in answer["entries"]]
    assert done == ["ledger.change_budget", "ledger.create_budget", "accounts.invite", "accounts.create_key"]
    change = answer["entries"][0]["changes"][0]
    assert change["id"] == budget and change["before"] != change["after"]
    text = json.dumps(answer)
    for secret in (made["secret"], invited["secret"], "ada@example.com", 'sha256": "$'):
        assert secret not in text
    key = answer["entries"][3]["changes"][0]
    assert key["id"] == made["id"] and "sha256" not in key["after"]
    assert (
        service.ask("operator", "GET", "/v1/audit?operation=accounts.inv").json()["entries"][0]["operation"]
        == "accounts.invite"
    )
    again = service.ask("operator", "GET", "/v1/audit").json()["entries"]
    assert again[0]["operation"] == "accounts.list_audit", "reading is an entry, too"
    page = service.ask("operator", "GET", "/v1/audit?limit=2&operation=accounts.c").json()
    assert len(page["entries"]) == 1 and page["next"] is None
    assert service.ask("operator", "GET", "/v1/audit/verify").json()["ok"]


def test_volumes_and_images_are_named_and_an_image_keeps_its_variables(service: Service) -> None:
    volume = {"name": "data", "size_mib": 64, "pool": service.world.pool.name}
    assert service.ask("acme", "POST", "/v1/volumes", volume).status_code == 201
    image = {"name": "mine", "size_bytes": 5, "sha256": "0" * 64}
    assert service.ask("acme", "POST", "/v1/images", image).status_code == 201
    for kind, name in (("volumes", "data"), ("images", "mine")):
        (entry,) = service.ask("operator", "GET", f"/v1/audit?operation={kind}").json()["entries"]
        (told,) = entry["changes"]
        assert (told["kind"], told["after"]["name"]) == (kind, name) and "environment" not in told["after"]


def test_a_job_is_named_and_its_command_is_not_told(service: Service) -> None:
    job = {"command": ["train", "--token", "hush"], "class": "spot", "duration_s": 600, "pool": service.world.pool.name}
    made = service.ask("acme", "POST", "/v1/jobs", job)
    assert made.status_code == 201, made.text
    entries = service.ask("operator", "GET", "/v1/audit?operation=jobs").json()["entries"]
    assert "jobs" in {told["kind"] for told in entries[0]["changes"]}
    assert "hush" not in json.dumps(entries)


def test_a_customer_reads_what_concerns_it_alone(service: Service) -> None:
    service.keys["admin"] = service.system.accounts.create_key("acme", "admin", role="customer_admin")[1]
    service.ask("operator", "POST", "/v1/organizations/bolt/keys", {})
    service.ask("operator", "POST", "/v1/organizations/acme/keys", {})
    service.ask("operator", "POST", "/v1/organizations", {"name": "third"})
    found = service.ask("admin", "GET", "/v1/audit").json()["entries"]
    assert {item["organization_id"] for item in found} == {service.organizations["acme"]}
    assert service.ask("admin", "GET", f"/v1/audit?organization_id={service.organizations['bolt']}").status_code == 404
    assert service.ask("admin", "GET", "/v1/audit/verify").status_code == 403
    assert service.ask("acme", "GET", "/v1/audit").status_code == 403


def test_what_is_not_recorded_is_named_with_a_reason(service: Service) -> None:
    routes = {(method, route.path) for route in api_routes(service.api) for method in route.methods or ()}
    assert set(UNRECORDED) <= routes and all(UNRECORDED.values())


def test_an_entry_in_cef_can_not_break_out_of_its_line() -> None:
    line = cef(
        {
            "seq": 1, "at": "2026-01-05T00:00:00Z", "actor": {"id": "a|b=c\nd"}, "organization_id": None,
            "operation": "x|y\\z", "path": "/v1/a?b=c\n", "source": "", "changes": [{"kind": "k", "id": "i"}], "sha256": "0",
        }
    )  # fmt: skip
    assert "\n" not in line and line.startswith("CEF:0|Sublet|Sublet|1|x\\|y\\\\z|")
    assert "suser=a|b\\=c\\nd" in line and "src=" not in line
