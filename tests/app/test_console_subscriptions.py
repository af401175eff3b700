"""Keys, service accounts and notifications in the console: secrets are shown once, and nobody reaches another's."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import update
from tests.app.test_console_acts import EVIL, Console

from sublet.notifications.fanout import begin, fan_out
from sublet.simulation.world import World
from sublet.store import outbox
from sublet.store.tables.notifications import deliveries
from sublet.values.errors import UnauthenticatedError

URL = "https://hooks.example.com/sublet"


@pytest.fixture
def console(tmp_path: Path) -> Iterator[Console]:
    world = World(tmp_path / "w")
    yield Console(world)
    world.close()


def test_an_admin_makes_keys_of_a_service_account_and_ends_them_with_it(console: Console) -> None:
    acme, bolt, accounts = console.browsers["acme"], console.browsers["bolt"], console.system.accounts
    made = acme.send("/keys", "add-service", name="nightly", role="customer_developer", project="search")
    assert made.status_code == 303, made.text
    again = acme.send("/keys", "add-service", name="nightly", role="customer_developer")
    assert again.status_code == 409 and "already has a service account" in again.text
    (service,) = set(re.findall(r"sva_\w+", acme.get("/keys")))
    assert service not in bolt.get("/keys")
    wanted = {"name": "ci", "belongs_to": service, "role": "customer_admin", "models": "small, large,", "days": "30"}
    issued = acme.send("/keys", "create", **wanted)
    secret = re.search(r"<code>(sublet_[\w-]+)</code>", issued.text)
    assert issued.status_code == 200 and secret is not None
    actor = accounts.authenticate(secret.group(1))
    assert (actor.role, actor.project) == ("customer_developer", "search")
    (key,) = accounts.keys(console.organization("acme"))
    assert key.models == ("small", "large") and key.created_by == console.people["acme"]
    text = acme.get("/keys")
    assert secret.group(1) not in text and "small, large" in text and "nightly" in text
    foreign = bolt.send("/keys", "create", **wanted)
    assert foreign.status_code == 404
    assert bolt.send("/keys", "remove-service", service=service).status_code == 404
    assert acme.send("/keys", "remove-service", service=service).status_code == 303
    with pytest.raises(UnauthenticatedError):
        accounts.authenticate(secret.group(1))
    path = f"/organizations/{console.organization('acme')}/keys"
    assert console.browsers["operator"].send(path, "add-service", name=EVIL, role="customer_billing").status_code == 303
    assert EVIL not in acme.get("/keys") and "&lt;script&gt;" in acme.get("/keys")


def test_a_customer_subscribes_tests_rotates_and_sends_again(console: Console) -> None:
    acme, bolt, store = console.browsers["acme"], console.browsers["bolt"], console.system.store
    begin(store)
    wanted = {"channel": "standard", "kinds": "lease.*, invoice.*", "name": EVIL}
    for address in (
        "https://127.0.0.1/x",
        "https://[::ffff:10.0.0.1]/",
        "http://169.254.169.254/",
        "https://2130706433/",
    ):
        refused = acme.send("/notifications", "create", address=address, **wanted)
        assert refused.status_code == 400 and "public" in refused.text, address
    made = acme.send("/notifications", "create", address=URL, **wanted)
    secret = re.search(r"<code>(whsec_[^<]+)</code>", made.text)
    assert made.status_code == 200 and secret is not None and EVIL not in made.text
    listed = acme.get("/notifications")
    (name,) = set(re.findall(r"/notifications/(sub_\w+)", listed))
    assert secret.group(1) not in listed and name not in bolt.get("/notifications")
    path = f"/notifications/{name}"
    for act in ("test", "rotate", "disable", "enable", "remove", "kinds"):
        data = {**bolt.hidden("/notifications"), "act": act, "sure": "yes", "kinds": "*"}
        refused = bolt.client.post(path, data=data, headers={"Origin": "http://testserver"})
        assert refused.status_code == 404, act
    assert acme.send(path, "test").headers["location"] == f"{path}?done=test"
    while outbox.number(store) or fan_out(store):
        continue
    (delivery,) = set(re.findall(r"whk_\w+", acme.get(path)))
    store.write(lambda connection: connection.execute(update(deliveries).values(state="given_up", attempts=1)))
    assert delivery in acme.get(f"{path}?state=given_up") and delivery not in acme.get(f"{path}?state=delivered")
    assert acme.send(path, "redeliver", delivery=delivery).status_code == 303
    assert delivery in acme.get(f"{path}?state=waiting")
    rotated = acme.send(path, "rotate")
    assert "whsec_" in rotated.text and secret.group(1) not in rotated.text
    assert acme.send(path, "kinds", kinds="nothing.*", name="").status_code == 400
    assert acme.send(path, "kinds", kinds="invoice.*", name="books").status_code == 303 and "books" in acme.get(path)
    assert acme.send(path, "disable").status_code == 303 and acme.send(path, "test").status_code == 409
    assert acme.send(path, "remove").status_code == 400
    assert acme.send(path, "remove", sure="yes").headers["location"] == "/notifications"
    assert acme.client.get(path).status_code == 404
