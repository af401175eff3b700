"""`sublet webhook`, `sublet notifications`, `sublet lease watch` and the rotation of the key, as typed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.api.conftest import Service
from tests.api.conftest import service as service
from tests.notifications.test_api import lease
from tests.terminal import sit_at
from typer.testing import CliRunner, Result

from sublet.commands import leases
from sublet.commands.admin import app as admin
from sublet.commands.notifications import notifications, webhook
from sublet.notifications.fanout import begin, fan_out
from sublet.notifications.service import NewSubscription, Owner
from sublet.simulation.world import World
from sublet.store import outbox
from sublet.store.sealing import sealing_of
from sublet.values.errors import InvalidInputError, NotFoundError

Run = Callable[..., Any]


@pytest.fixture
def run(service: Service, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    def invoke(of: Any, *words: str, who: str = "acme") -> Any:
        sit_at(monkeypatch, service.api, service.keys[who])
        result: Result = CliRunner().invoke(of, list(words))
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout) if "--json" in words else result.stdout

    yield invoke


def test_the_life_of_a_webhook(service: Service, run: Run) -> None:
    shown = run(webhook, "add", "https://hooks.example.com/x", "--kind", "lease.*", "--name", "ops")
    name = shown.split()[0]
    assert "whsec_" in shown and "shown only once" in shown
    assert name in run(webhook, "ls") and "lease.*" in run(notifications, "ls")
    assert "whsec_" not in run(webhook, "show", name)
    assert run(webhook, "rotate", name).startswith("whsec_")
    begin(service.system.store)
    assert "was queued" in run(webhook, "test", name)
    outbox.number(service.system.store)
    fan_out(service.system.store)
    log = run(webhook, "deliveries", name, "--json")["deliveries"]
    assert "subscription.test" in run(webhook, "deliveries", name)
    assert "waiting" in run(webhook, "redeliver", log[0]["id"])
    run(webhook, "disable", name)
    assert "disabled by its owner" in run(webhook, "ls")
    run(webhook, "enable", name)
    assert run(webhook, "ls", "--json")["subscriptions"][0]["enabled"]
    run(webhook, "rm", name)
    assert "there are no subscriptions" in run(webhook, "ls")
    with pytest.raises(NotFoundError):
        run(webhook, "show", name)
    with pytest.raises(InvalidInputError, match="did you mean"):
        run(webhook, "add", "https://hooks.example.com/x", "--kind", "leese.ready")


def test_the_operators_file_and_an_organizations_webhook(service: Service, run: Run) -> None:
    made = run(notifications, "add", "file", "events.jsonl", "--json", who="operator")
    assert (made["secret"], made["organization_id"], made["kinds"]) == (None, None, ["*"])
    run(webhook, "add", "https://hooks.example.com/x", "--organization", "acme", who="operator")
    assert "hooks.example.com" in run(webhook, "ls")
    assert "reclaim.missed" in run(notifications, "kinds", who="operator")
    assert "reclaim.missed" not in run(notifications, "kinds")


def test_a_lease_is_watched_until_it_ends(service: Service, run: Run) -> None:
    name = lease(service)
    service.system.leases.end(name, None)
    service.world.pass_time(60)
    outbox.number(service.system.store)
    shown = run(leases.app, "watch", name, "--since", "0")
    assert "lease.ready" in shown and "lease.ended" in shown.splitlines()[-1]


def test_stored_secrets_get_a_new_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path / "w")
    hook = NewSubscription("webhook", "https://hooks.example.com/", ("*",))
    made = world.system.notifications.create(Owner("org_1"), hook, "key_1")
    before = (tmp_path / "w" / "secrets.key").read_text()
    world.close()
    monkeypatch.setenv("SUBLET_DATA_DIR", str(tmp_path / "w"))
    result = CliRunner().invoke(admin, ["rotate-secrets", "--json"])
    assert result.exit_code == 0 and json.loads(result.stdout) == {"resealed": 1}, result.output
    after = (tmp_path / "w" / "secrets.key").read_text()
    assert len(after.split()) == 1 and after != before
    again = World.__new__(World)
    again.__dict__.update(world.__dict__, _system=None)
    again.crash()
    found = again.system.notifications.subscription(Owner("org_1"), made.subscription.id)
    assert found.secret is not None
    assert sealing_of(tmp_path / "w").open(found.secret, found.id) == made.secret
    again.close()
