"""Two different requests under one idempotency key at once: one is carried out, the other is refused, on every POST."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, update
from tests.api.conftest import Service
from tests.leases.world import KEY

from sublet.client.operations import ALL
from sublet.config.settings import Settings
from sublet.notifications.fanout import begin, fan_out
from sublet.notifications.service import Owner
from sublet.simulation import world as simulated
from sublet.simulation.world import World
from sublet.store import outbox
from sublet.store.once import IN_FLIGHT_MAX, Once, request_digest
from sublet.store.tables.idempotency import idempotent_answers
from sublet.store.tables.leases import unit_states, volume_snapshots, volumes
from sublet.values.clock import format_time
from sublet.values.errors import ConflictError, LimitExceededError

MODEL = "smollm2-135m-instruct"
EVENT = "application/cloudevents+json"
TOML = "application/toml"
LEFT_OUT = {"ledger.credit_invoice"}
"""It leaves nothing to pay or to void for the requests after it. It keeps its answer with its effect, as those do."""
PREVIEWED = ("ledger.return_deposit", "ledger.refund", "ledger.net", "ledger.write_off", "models.add_route")
BOOK = """
name = "ours"
[[prices]]
id = "input"
meter = "tokens.input"
kind = "per_unit"
from = 2020-01-01T00:00:00Z
amount = "0.05"
currency = "USD"
per = 1000000
"""
Wanted = tuple[str, str, Any]
"""Who asks, the path, and the body: JSON, or (content type, bytes)."""


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.real)])
def anywhere(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    """The whole API on either database."""
    if request.param == "postgres":
        url, before = request.getfixturevalue("postgres_url"), simulated.settings_for

        def there(*args: Any, **more: Any) -> Settings:
            return Settings.model_validate(before(*args, **more).model_dump() | {"database": {"url": url}})

        monkeypatch.setattr(simulated, "settings_for", there)
    world = World(tmp_path / "w")
    world.remember(days=8, need=0.3, spread=0.05)
    yield Service(world)
    world.close()


class Prepared:
    """What the requests need to be there."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.acme, self.bolt = service.organizations["acme"], service.organizations["bolt"]
        self.pool = service.world.pool
        self.spares = [service.system.accounts.create_organization(name).id for name in ("spare", "other")]
        self.ended = [self.lease(), self.lease()]
        self.jobs = [str(self.ask("acme", "/v1/jobs", self.job("z"))["jobs"][0]["id"]) for _ in range(2)]
        headers = {"Authorization": f"Bearer {service.keys['operator']}", "content-type": TOML}
        assert service.client.put("/v1/prices", content=BOOK, headers=headers).status_code == 200
        self.invoice, self.mistaken = self.invoiced(self.acme), self.invoiced(self.bolt)
        for name in ("p1", "p2"):
            self.ask("operator", f"/v1/invoices/{self.invoice}/payments", {"amount": "0.01", "source_id": name})
        self.quotes = [self.quote() for _ in range(4)]
        self.reclaims = [self.ask("team", "/v1/reclaims", self.order(f"r{number}"))["id"] for number in range(2)]
        self.units = [unit.id for unit in service.system.fleet.units(self.pool.id)[:2]]
        for unit in self.units:
            service.system.store.write(lambda connection, unit=unit: self.quarantine(connection, unit))
        for name in ("fix1", "fix2"):
            content = self.event(name, "usage.correction", corrects={"source": "/meter", "id": "nowhere"})
            self.ask("operator", "/v1/usage", (EVENT, content))
        service.system.ledger.rate()
        subscriptions = "/v1/subscriptions"
        begin(service.system.store)
        self.subscriptions = [self.ask("operator", subscriptions, hook(name))["id"] for name in ("h1", "h2")]
        for _ in range(2):
            self.ask("operator", f"{subscriptions}/{self.subscriptions[0]}/test", None)
        while outbox.number(service.system.store) or fan_out(service.system.store):
            continue
        listed = service.ask("operator", "GET", f"{subscriptions}/{self.subscriptions[0]}/deliveries").json()
        self.deliveries = [item["id"] for item in listed["deliveries"]][:2]
        self.block = self.ask("operator", "/v1/blocks", self.part("mine"))["id"]
        self.windows = [
            self.ask("operator", "/v1/maintenance", self.away(name))["maintenance"]["id"] for name in ("w1", "w2")
        ]
        for name in ("v1", "v2", "v3", "v4"):
            self.ask("acme", "/v1/volumes", volume(self.pool.id, name))
        store = service.system.store
        store.write(lambda connection: connection.execute(update(volumes).values(state="ready")))
        for name in ("v3", "v4"):
            self.ask("acme", f"/v1/volumes/{name}/snapshots", {"name": "first"})
        store.write(lambda connection: connection.execute(update(volume_snapshots).values(state="ready")))
        store.write(lambda connection: connection.execute(update(volumes).values(busy_with=None, busy_until=None)))
        self.settle()
        self.ask("operator", "/v1/pricing-plans", (TOML, plan("p1")))
        made = self.ask("operator", "/v1/plan-subscriptions", subscribed(self.bolt, 1))
        self.subscribed = f"/v1/plan-subscriptions/{made['id']}"

    def away(self, reason: str) -> dict[str, Any]:
        """Maintenance of one accelerator, far ahead."""
        day = self.service.world.clock.now() + timedelta(days=90)
        end = day + timedelta(hours=1)
        return {
            "pool": self.pool.id,
            "accelerators": 1,
            "start": format_time(day),
            "end": format_time(end),
            "reason": reason,
        }

    def confirmations(self) -> tuple[Wanted, Wanted]:
        told, asked = self.service.system.notifications, []
        for name in self.subscriptions:
            found = told.subscription(Owner(None), name)
            code = told.links.confirmation(found, self.service.world.clock.now()).code
            asked.append(("operator", f"/v1/subscriptions/{name}/confirm", {"code": code}))
        return asked[0], asked[1]

    def settle(self) -> None:
        """An invoice with something open, a deposit of which some is owed back, and netting to undo."""
        self.open = self.invoiced(self.acme, "more")
        deposit = credit(self.acme, "1000") | {"kind": "prepaid", "source_id": "deposit"}
        self.deposit = self.ask("operator", "/v1/credits", deposit)["id"]
        self.ask("operator", f"/v1/credits/{self.deposit}/return", {"amount": "5", "reason": "asked for"})
        for name in ("n1", "n2"):
            self.ask("operator", f"/v1/invoices/{self.open}/netting", netting(name))

    def ask(self, who: str, path: str, body: Any) -> Any:
        answer = send(self.service, (who, path, body), None)
        assert answer.status_code < 300, f"{path}: {answer.text}"
        return answer.json()

    def invoiced(self, organization: str, name: str = "") -> str:
        used = self.event(f"used by {organization} {name}", organization=organization, quantity=40_000_000)
        self.ask("operator", "/v1/usage", (EVENT, used))
        return str(self.ask("operator", "/v1/invoices", {"organization_id": organization})["invoice"]["id"])

    def quote(self) -> str:
        return str(self.ask("acme", "/v1/quotes", self.quote_body(7200))["id"])

    def job(self, name: str) -> dict[str, Any]:
        # Far ahead, where nothing else of this story is.
        start = format_time(self.service.world.clock.now() + timedelta(days=30))
        return {**self.quote_body(600), "start": start, "command": ["true"], "name": name}

    def quote_body(self, duration_s: int) -> dict[str, Any]:
        return {"pool": self.pool.name, "class": "spot", "duration_s": duration_s}

    def lease(self) -> str:
        return str(self.ask("acme", "/v1/leases", self.accept(self.quote()))["id"])

    def accept(self, quote: str) -> dict[str, Any]:
        return {"quote_id": quote, "ssh_public_keys": [KEY]}

    def part(self, reason: str) -> dict[str, Any]:
        start = self.service.world.clock.now() + timedelta(days=90)
        span = {"start": format_time(start), "end": format_time(start + timedelta(days=90))}
        return {"pool": self.pool.name, "accelerators": 1, "reason": reason} | span

    def order(self, reason: str) -> dict[str, Any]:
        return {"pool": self.pool.name, "accelerators": 1, "duration_s": 600, "reason": reason}

    def quarantine(self, connection: Connection, unit: str) -> None:
        connection.execute(unit_states.delete().where(unit_states.c.unit_id == unit))
        row = {"unit_id": unit, "pool_id": self.pool.id, "state": "quarantined", "reason": "left"}
        connection.execute(unit_states.insert().values(row | {"changed_at": self.service.world.clock.now()}))

    def event(self, name: str, kind: str = "usage", **more: Any) -> bytes:
        data = {"organization": self.acme, "meter": "tokens.input", "quantity": 12} | more
        now = format_time(self.service.world.clock.now())
        event = {"specversion": "1.0", "id": name, "source": "/meter", "type": f"sublet.{kind}.v1", "time": now}
        return json.dumps(event | {"data": data}).encode()

    def claim(self, count: int) -> dict[str, Any]:
        start = self.service.world.clock.now() + timedelta(days=40)
        end = start + timedelta(hours=1)
        return {"pool": self.pool.id, "accelerators": count, "start": format_time(start), "end": format_time(end)}

    def sample(self, in_use: int) -> dict[str, Any]:
        now = format_time(self.service.world.clock.now())
        return {"samples": [{"time": now, "capacity": 16, "in_use": in_use}]}

    def pairs(self) -> dict[str, tuple[Wanted, Wanted]]:
        """For every POST operation two requests that would both be carried out."""
        op, acme, bolt, invoice = "operator", self.acme, self.bolt, f"/v1/invoices/{self.invoice}"
        rate: Wanted = (op, "/v1/ledger/rate", None)
        settled = f"/v1/invoices/{self.open}"
        deployment = {"model": MODEL, "pool_id": self.pool.id}

        def of(who: str, path: str, first: Any, second: Any) -> tuple[Wanted, Wanted]:
            return (who, path, first), (who, path, second)

        def at(who: str, path: str, places: list[str], body: Any = None) -> tuple[Wanted, Wanted]:
            first, second = (path.format(place) for place in places)
            return (who, first, body), (who, second, body)

        return {
            "accounts.create_organization": of(op, "/v1/organizations", {"name": "x"}, {"name": "y"}),
            "accounts.create_key": of(op, "/v1/organizations/acme/keys", {"name": "x"}, {"name": "y"}),
            "accounts.create_service_account": of(op, "/v1/organizations/acme/service-accounts", robot("x"), robot("y")),
            "accounts.suspend": at(op, "/v1/organizations/{}/suspend", self.spares),
            "accounts.resume": at(op, "/v1/organizations/{}/resume", self.spares),
            "accounts.invite": of(op, "/v1/organizations/acme/invitations", guest("a"), guest("b")),
            "demand.record": of(op, f"/v1/demand/{self.pool.id}/samples", self.sample(3), self.sample(4)),
            "demand.add_claim": of("team", "/v1/claims", self.claim(1), self.claim(2)),
            "volumes.create": of("acme", "/v1/volumes", volume(self.pool.id, "x"), volume(self.pool.id, "y")),
            "volumes.copy_in": of("acme", "/v1/volumes/v1/copies", sent("a"), sent("b")),
            "volumes.snapshot": at("acme", "/v1/volumes/{}/snapshots", ["v1", "v2"], {"name": "before-the-upgrade"}),
            "volumes.restore": at("acme", "/v1/volumes/{}/snapshots/first/restore", ["v3", "v4"]),
            "images.create": of("acme", "/v1/images", image("x"), image("y")),
            "jobs.submit": of("acme", "/v1/jobs", self.job("x"), self.job("y")),
            "jobs.cancel": at("acme", "/v1/jobs/{}/cancel", self.jobs),
            "waitlist.join": of("acme", "/v1/waitlist", {"quote": self.quote_body(600)}, {"quote": self.quote_body(601)}),
            "leases.quote": of("acme", "/v1/quotes", self.quote_body(600), self.quote_body(601)),
            "leases.cancel_quote": at("acme", "/v1/quotes/{}/cancel", self.quotes[:2]),
            "leases.accept": of("acme", "/v1/leases", self.accept(self.quotes[2]), self.accept(self.quotes[3])),
            "leases.change": of("acme", f"/v1/leases/{self.ended[1]}/changes", {"project": "a"}, {"project": "b"}),
            "leases.preview_change": of("acme", f"/v1/leases/{self.ended[1]}/changes/preview", {"project": "a"}, {"project": "b"}),
            "leases.preview_end": at("acme", "/v1/leases/{}/end/preview", [self.ended[1], self.ended[0]]),
            "leases.end": at("acme", "/v1/leases/{}/end", self.ended),
            "leases.reclaim": of("team", "/v1/reclaims", self.order("a"), self.order("b")),
            "leases.preview": of("team", "/v1/reclaims/preview", self.order("a"), self.order("b")),
            "leases.withdraw": at("team", "/v1/reclaims/{}/withdraw", self.reclaims),
            "leases.release": at(op, "/v1/quarantine/{}/release", self.units, {"reason": "looked at it"}),
            "models.deploy": of(op, "/v1/deployments", deployment | {"replicas_max": 2}, deployment | {"replicas_max": 3}),
            "models.add_models": of(op, "/v1/catalog", (TOML, toml("one")), (TOML, toml("two"))),
            "models.add_route": of(op, "/v1/model-routes", named("r1"), named("r2")),
            "models.pull": ((op, f"/v1/catalog/{MODEL}/pull", None), rate),
            "ledger.take_usage": of(op, "/v1/usage", (EVENT, self.event("e1")), (EVENT, self.event("e2"))),
            "ledger.give_credit": of(op, "/v1/credits", credit(acme, "1"), credit(acme, "2")),
            "ledger.receive_payment": of(op, "/v1/payments", received(acme, "w1"), received(acme, "w2")),
            "ledger.publish_plan": of(op, "/v1/pricing-plans", (TOML, plan("p2")), (TOML, plan("p3"))),
            "ledger.subscribe_to_plan": of(op, "/v1/plan-subscriptions", subscribed(acme, 1), subscribed(acme, 2)),
            "ledger.change_plan_subscription": of(op, f"{self.subscribed}/change", {"seats": 3}, {"seats": 4}),
            "ledger.end_plan_subscription": of(op, f"{self.subscribed}/end", {}, {"withdraw": True}),
            "ledger.close_period": at(op, f"/v1/periods/{acme}/{{}}/close", ["2024-01", "2024-02"]),
            "ledger.close_all_periods": at(op, "/v1/periods/{}/close", ["2024-03", "2024-04"]),
            "ledger.rerate_period": at(op, f"/v1/periods/{acme}/{{}}/rerate", ["2024-05", "2024-06"]),
            "ledger.pay_invoice": of(op, f"{invoice}/payments", payment("p3"), payment("p4")),
            "ledger.reverse_payment": of(op, f"{invoice}/payments/reverse", slip("p1"), slip("p2")),
            "ledger.return_deposit": of(op, f"/v1/credits/{self.deposit}/return", returned("1"), returned("2")),
            "ledger.refund": of(op, "/v1/refunds", refund(acme, "f1"), refund(acme, "f2")),
            "ledger.net": of(op, f"{settled}/netting", netting("n3"), netting("n4")),
            "ledger.undo_netting": of(op, f"{settled}/netting/undo", slip("n1"), slip("n2")),
            "ledger.write_off": of(op, f"{settled}/write-off", {"reason": "gone"}, {"reason": "lost"}),
            "ledger.reinstate": of(op, f"{settled}/write-off/reverse", {"reason": "found"}, {"reason": "back"}),
            # After what needs an invoice with something open: an invoice for acme pays it from the deposit.
            "ledger.make_invoice": of(op, "/v1/invoices", {"organization_id": bolt}, {"organization_id": acme}),
            "ledger.create_budget": of(op, "/v1/budgets", budget(acme, "5"), budget(acme, "6")),
            "accounts.create_limit": of(op, "/v1/limits", rate_limit("a"), rate_limit("b")),
            "ledger.dismiss": of(op, "/v1/ledger/dismissals", dismissal("fix1"), dismissal("fix2")),
            "ledger.rate": (rate, (op, f"/v1/ledger/prove?organization_id={bolt}", None)),
            "ledger.prove": at(op, "/v1/ledger/prove?organization_id={}", [acme, bolt]),
            "notifications.subscribe": of(op, "/v1/subscriptions", hook("h3"), hook("h4")),
            "notifications.rotate": at(op, "/v1/subscriptions/{}/rotate", self.subscriptions),
            "notifications.confirm": self.confirmations(),
            "notifications.send_test": at(op, "/v1/subscriptions/{}/test", self.subscriptions),
            "notifications.redeliver": at(op, "/v1/deliveries/{}/redeliver", self.deliveries),
            "blocks.create": of(op, "/v1/blocks", self.part("a"), self.part("b")),
            "blocks.preview": of(op, f"/v1/blocks/{self.block}/preview", least("1"), least("2")),
            "blocks.change": of(op, f"/v1/blocks/{self.block}/change", least("1"), least("2")),
            "maintenance.add": of(op, "/v1/maintenance", self.away("a"), self.away("b")),
            "maintenance.preview": of(op, "/v1/maintenance/preview", self.away("a"), self.away("b")),
            "maintenance.cancel": at(op, "/v1/maintenance/{}/cancel", self.windows),
            "ledger.void_invoice": of(op, f"/v1/invoices/{self.mistaken}/void", {"reason": "a slip"}, {"reason": "an error"}),
        }  # fmt: skip


def named(name: str) -> dict[str, Any]:
    return {"name": name, "upstreams": [{"model": MODEL}]}


def toml(name: str) -> bytes:
    return f"[[models]]\nname='{name}'\nengine='openai_url'\nsource={{url='http://one/v1'}}\n".encode()


def volume(pool: str, name: str) -> dict[str, Any]:
    return {"name": name, "size_mib": 64, "pool": pool}


def sent(path: str) -> dict[str, Any]:
    return {"path": path, "size_bytes": 5, "sha256": "0" * 64}


def image(name: str) -> dict[str, Any]:
    return {"name": name, "size_bytes": 5, "sha256": "0" * 64}


def hook(name: str) -> dict[str, Any]:
    return {"address": f"https://hooks.example.com/{name}", "kinds": ["*"], "name": name}


def least(price: str) -> dict[str, Any]:
    return {"min_price_per_accelerator_hour": price}


def plan(name: str) -> bytes:
    return f'id = "{name}"\ncurrency = "USD"\namount = "20"\nseat_amount = "2"\n'.encode()


def received(organization: str, source: str) -> dict[str, Any]:
    return {"organization_id": organization, "amount": "0.01", "source_id": source}


def subscribed(organization: str, seats: int) -> dict[str, Any]:
    return {"organization_id": organization, "plan_id": "p1", "seats": seats}


def credit(organization: str, amount: str) -> dict[str, Any]:
    return {"organization_id": organization, "amount": amount, "source_id": f"c{amount}"}


def rate_limit(model: str) -> dict[str, Any]:
    return {"scope": "model", "model": model, "requests_per_minute": 5}


def budget(organization: str, limit: str) -> dict[str, Any]:
    return {"organization_id": organization, "limit": limit}


def guest(name: str) -> dict[str, Any]:
    return {"email": f"{name}@example.com", "role": "customer_admin"}


def robot(name: str) -> dict[str, Any]:
    return {"name": name, "role": "customer_developer"}


def payment(name: str) -> dict[str, Any]:
    return {"amount": "0.01", "source_id": name}


def slip(name: str) -> dict[str, Any]:
    return {"source_id": name, "reason": "a slip"}


def returned(amount: str) -> dict[str, Any]:
    return {"amount": amount, "reason": "asked for"}


def refund(organization: str, name: str) -> dict[str, Any]:
    return {
        "organization_id": organization,
        "amount": "1",
        "source_id": name,
        "reason": "asked for",
        "payment": "deposit",
    }


def netting(name: str) -> dict[str, Any]:
    return {"source_id": name, "reason": "both are due", "amount": "0.01"}


def dismissal(name: str) -> dict[str, Any]:
    return {"source": "/meter", "id": name, "reason": "names no event"}


def send(service: Service, wanted: Wanted, key: str | None) -> Any:
    who, path, body = wanted
    headers = {"Authorization": f"Bearer {service.keys[who]}"} | ({"Idempotency-Key": key} if key else {})
    if isinstance(body, tuple):
        return service.client.post(path, content=body[1], headers=headers | {"content-type": body[0]})
    return service.client.post(path, json=body, headers=headers)


def test_of_two_requests_under_one_key_at_once_one_is_carried_out(
    anywhere: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = Prepared(anywhere).pairs()
    assert set(pairs) | LEFT_OUT == {operation.id for operation in ALL if operation.method == "POST"}
    for name in PREVIEWED:
        first, second = ((who, path, body | {"preview": True}) for who, path, body in pairs[name])
        race(anywhere, f"{name} preview", (first, second), monkeypatch)
    for name, pair in pairs.items():
        race(anywhere, name, pair, monkeypatch)


def race(anywhere: Service, name: str, pair: tuple[Wanted, Wanted], monkeypatch: pytest.MonkeyPatch) -> None:
    """Sends both under one key at once: one is carried out, and stays the only one that the key stands for."""
    looked = Once.refuse_or_replay
    both = threading.Barrier(2, timeout=60)

    def look(once: Once, both: threading.Barrier = both) -> None:
        # Both have looked, and found nothing, before either goes on.
        looked(once)
        both.wait()

    with monkeypatch.context() as patch, ThreadPoolExecutor(2) as pool:
        patch.setattr(Once, "refuse_or_replay", look)
        answers = list(pool.map(lambda wanted, key=name: send(anywhere, wanted, key), pair))
    good = [answer for answer in answers if answer.status_code < 300]
    refused = [answer for answer in answers if answer.status_code >= 300]
    assert len(good) == 1, f"{name}: {[answer.text for answer in answers]}"
    assert (refused[0].status_code, refused[0].json()["error"]["code"]) == (409, "idempotency_key_reused"), name
    first, second = pair if answers[0] is good[0] else pair[::-1]
    again = send(anywhere, first, name)
    assert (again.status_code, again.content) == (good[0].status_code, good[0].content), name
    assert again.headers["idempotency-replayed"] == "true", name
    assert send(anywhere, second, name).json()["error"]["code"] == "idempotency_key_reused", name


def test_what_is_refused_gives_the_key_back(service: Service) -> None:
    lease = Prepared(service).ended[0]
    assert send(service, ("acme", "/v1/leases/lse_none/end", None), "k").status_code == 404
    assert send(service, ("acme", f"/v1/leases/{lease}/end", {"reason": "x"}), "k").status_code == 400
    assert send(service, ("acme", f"/v1/leases/{lease}/end", None), "k").status_code == 200


def _once(service: Service, body: bytes) -> Once:
    digest = request_digest("POST", "/x", "", body)
    return Once(service.system.store, "org_1", "k", digest, 200, None, "sublet_secret")


def test_a_key_stays_with_its_request_after_a_crash_and_while_any_of_its_kind_lives(service: Service) -> None:
    first, again, other = _once(service, b'{"a": 1}'), _once(service, b'{"a": 1}'), _once(service, b'{"a": 2}')
    first.begin()
    # As after a crash: nobody says how it ended. The same may be tried again, nothing else.
    again.begin()
    again.give_back()
    with pytest.raises(ConflictError):
        other.begin()
    first.give_back()
    other.begin()
    other.keep(200, b'{"done": 2}')
    first.keep(200, b'{"done": 1}')
    with pytest.raises(ConflictError):
        first.begin()
    with service.system.store.read() as connection:
        assert [row.answer for row in connection.execute(idempotent_answers.select())] == ['{"done": 2}']


def test_the_same_request_is_carried_out_so_many_times_at_once(service: Service) -> None:
    for _ in range(IN_FLIGHT_MAX):
        _once(service, b"{}").begin()
    with pytest.raises(LimitExceededError):
        _once(service, b"{}").begin()
