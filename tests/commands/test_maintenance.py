"""Maintenance by command: what it takes back is shown and asked about first, and what the settings state is listed beside it."""

from __future__ import annotations

from datetime import timedelta

import pytest
from tests.api.conftest import Service
from tests.commands.conftest import Say
from tests.terminal import sit_at
from typer.testing import CliRunner

from sublet import cli
from sublet.leases.quotes.admission import QuoteRequest
from sublet.simulation.world import SSH_KEY
from sublet.values.clock import format_time
from sublet.values.errors import ForbiddenError, InvalidInputError


def words(service: Service, from_h: float, to_h: float, *more: str) -> list[str]:
    now = service.system.clock.now()
    begin, end = (format_time(now + timedelta(hours=hours)) for hours in (from_h, to_h))
    return ["maintenance", "add", service.world.pool.name, "--from", begin, "--to", end, *more]


def test_what_it_takes_back_is_shown_and_asked_about(
    say: Say, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.world.observe()
    acme, pool = service.organizations["acme"], service.world.pool
    end = service.system.clock.now() + timedelta(hours=6)
    quote = service.system.leases.quote(acme, QuoteRequest(2, "spot", end, None, pool.id))
    lease = service.system.leases.accept(acme, quote.id, [SSH_KEY])
    told = say(*words(service, 2, 4, "--dry-run"))
    assert "1 lease ends early" in told and "notice goes at once" in told
    assert say("maintenance", "ls", "--json")["maintenance"] == []
    sit_at(monkeypatch, service.api, service.keys["operator"])
    refused = CliRunner().invoke(cli.app, words(service, 2, 4), input="n\n")
    assert (
        refused.exit_code == 1
        and lease.id in refused.output
        and say("maintenance", "ls", "--json")["maintenance"] == []
    )
    made = say(*words(service, 2, 4, "-n", "15", "--reason", "new racks", "--yes", "--json"))
    assert [item["lease_id"] for item in made["takes_back"]] == [lease.id]
    assert "new racks" in say("maintenance", "ls") and made["maintenance"]["id"] in say("plan")
    say("maintenance", "cancel", made["maintenance"]["id"])
    assert "no maintenance" in say("maintenance", "ls")
    assert [item["state"] for item in say("maintenance", "ls", "--all", "--json")["maintenance"]] == ["canceled"]


def test_bad_input_is_refused_in_a_sentence(say: Say, service: Service) -> None:
    with pytest.raises(InvalidInputError, match="--to: "):
        say("maintenance", "add", service.world.pool.name, "--to", "tomorrow")
    with pytest.raises(InvalidInputError, match="is past"):
        say(*words(service, -3, 1, "--yes"))
    with pytest.raises(ForbiddenError):
        say(*words(service, 1, 2, "--yes"), who="team")
