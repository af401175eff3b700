"""Capacity is taken back and released by command, by anyone who may."""

from __future__ import annotations

import pytest
from tests.api.conftest import Service
from tests.commands.conftest import Say
from tests.leases.world import KEY

from sublet.commands import reclaims
from sublet.values.errors import ForbiddenError, InvalidInputError, NotFoundError


def test_a_team_takes_capacity_back_and_releases_it(
    say: Say, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reclaims, "SystemClock", lambda: service.system.clock)
    pool = service.world.pool.name
    assert "sublet reclaim create" in say("reclaim", "ls", who="team")
    words = ("reclaim", "create", pool, "2", "--reason", "a deadline", "--hours", "2")
    for option in ("--preview", "--dry-run"):
        assert "run this without --preview" in say(*words, option, who="team")
    assert say("reclaim", "ls", "--json")["reclaims"] == []
    made = say(*words, "--json", who="team")
    assert made["id"] in say("reclaim", "ls", who="team")
    shown = say("reclaim", "show", made["id"], who="team")
    assert "a deadline" in shown and "stands" in shown
    assert say("reclaim", "show", made["id"], "--json")["accelerators"] == 2
    for _ in range(2):
        assert "is released" in say("reclaim", "release", made["id"], who="team")
    assert say("reclaim", "show", made["id"], "--json")["withdrawn"]
    assert "released" in say("reclaim", "ls")


def test_victims_are_named_with_when_and_what_it_costs(say: Say, service: Service) -> None:
    pool = service.world.pool
    wanted = {"pool": pool.name, "accelerators": 2, "class": "spot", "duration_s": 3600}
    quote = service.ask("acme", "POST", "/v1/quotes", wanted).json()
    lease = service.ask("acme", "POST", "/v1/leases", {"quote_id": quote["id"], "ssh_public_keys": [KEY]}).json()
    service.world.pass_time(120)
    plan = say("reclaim", "create", pool.name, str(pool.accelerators), "--reason", "all of it", "--preview")
    assert lease["id"] in plan and "everything is available at" in plan


def test_what_can_not_be_is_refused(say: Say) -> None:
    with pytest.raises(NotFoundError, match="sublet reclaim ls"):
        say("reclaim", "show", "clm_none")
    with pytest.raises(NotFoundError):
        say("reclaim", "create", "no-such-pool", "1", "--reason", "why")
    with pytest.raises(InvalidInputError, match="--start: "):
        say("reclaim", "create", "main", "1", "--reason", "why", "--start", "tomorrow")
    with pytest.raises(ForbiddenError):
        say("reclaim", "ls", who="acme")
