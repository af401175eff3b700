"""Blocks by command: the page's year-long example runs as it stands, and a forced change shows its penalty first."""

from __future__ import annotations

import json
import re
import shlex
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.api.conftest import Service
from tests.commands.conftest import Say
from tests.docs.manual import DOCS
from tests.leases.world import KEY
from tests.terminal import sit_at
from typer.testing import CliRunner

from sublet import cli
from sublet.commands import blocks
from sublet.values.clock import format_time
from sublet.values.errors import ConflictError, ForbiddenError, InvalidInputError, NotFoundError

EXAMPLE = re.compile(r"```sh\n(.*?)```", re.DOTALL)


@pytest.fixture(autouse=True)
def present(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "SystemClock", lambda: service.system.clock)
    service.world.observe()


@pytest.fixture
def key(tmp_path: Path) -> str:
    path = tmp_path / "acme.pub"
    path.write_text(KEY)
    return str(path)


def test_the_manuals_year_is_sold_in_one_command_and_seen_everywhere(say: Say, service: Service, key: str) -> None:
    page = (DOCS / "blocks.md").read_text(encoding="utf-8").partition("## Put a block up for sale")[0]
    printed: dict[str, str] = {}
    for line in "".join(EXAMPLE.findall(page)).splitlines():
        words = [key if word == "acme.pub" else word for word in shlex.split(line)[1:]]
        printed[" ".join(words[:2])] = say(*words)
    service.world.pass_time(60)
    [made] = say("block", "ls", "--json")["blocks"]
    assert made["id"] in printed["block create"] and "sold entirely to acme" in printed["block create"]
    [lease] = made["leases"]
    assert (made["sold"], lease["accelerators"], lease["organization_id"]) == (4, 4, service.organizations["acme"])
    assert "unknown" in printed["block advise"] and "need" in printed["block advise"]
    assert made["id"] in printed["block ls"]
    assert made["id"] in printed["plan"]
    assert "sold from blocks" in printed["pool calendar"] and "█" in printed["pool calendar"]
    until = format_time(service.world.clock.now() + timedelta(days=400))
    sold, rest = say("pool", "calendar", "simulated", "--to", until, "--json", who="team")["steps"]
    assert (sold["end"], sold["blocks"], sold["sold_from_blocks"], sold["left"]) == (made["end"], 4, 4, 12)
    assert (rest["end"], rest["blocks"], rest["sold_from_blocks"], rest["left"]) == (until, 0, 0, 16)
    months = say("ledger", "backlog", "--json")["months"]
    assert len(months) in (12, 13) and months[0]["amount"] == months[0]["from_blocks"]
    # 4 accelerators at 1.80 for 365 days, less the minute that has passed.
    assert sum(float(month["amount"]) for month in months) == pytest.approx(4 * 1.8 * 24 * 365, rel=1e-4)
    [held] = say("lease", "ls", "--json")["leases"]
    assert (held["block_id"], held["price_per_accelerator_hour"]) == (made["id"], "1.800000000")
    figures = service.ask("operator", "GET", "/v1/desk/actuals").json()
    assert figures["backlog"]["remaining"]["value"] > 60_000


def test_a_block_lives_by_command(say: Say, service: Service) -> None:
    made = say("block", "create", "simulated", "-n", "4", "--days", "30", "--min-price", "1.5", "--json")
    assert (made["state"], made["min_price_per_accelerator_hour"], made["lease"]) == ("active", "1.500000000", None)
    block = made["id"]
    assert "6 accelerators" in say("block", "widen", block, "-n", "6", "--reason", "more")
    assert "5 accelerators" in say("block", "shrink", block, "-n", "5")
    end = format_time(service.world.clock.now() + timedelta(days=40))
    assert "was moved" in say("block", "move", block, "--to", end)
    assert "was repriced" in say("block", "reprice", block, "--min-price", "2")
    shown = say("block", "show", block)
    for word in ("created", "widened", "shrunk", "moved", "repriced", "2.00 USD", "more"):
        assert word in shown
    for _ in range(2):
        assert "is withdrawn" in say("block", "withdraw", block)
    assert "no blocks" in say("block", "ls")
    assert "withdrawn" in say("block", "ls", "--all")


def test_the_penalty_is_shown_and_asked_for_before_anything_is_broken(
    say: Say, service: Service, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = say(
        "block", "create", "simulated", "-n", "4", "--days", "100", "--to-organization", "acme", "--key", key, "--json"
    )
    with pytest.raises(ConflictError, match="1 sold lease of 4 accelerators would be broken, for credits of"):
        say("block", "withdraw", made["id"])
    sit_at(monkeypatch, service.api, service.keys["operator"])
    refused = CliRunner().invoke(cli.app, ["block", "withdraw", made["id"], "--force"], input="n\n")
    assert refused.exit_code == 1 and made["lease"]["id"] in refused.output and "credits: " in refused.output
    assert say("block", "show", made["id"], "--json")["state"] == "active"
    done = CliRunner().invoke(cli.app, ["block", "withdraw", made["id"], "--force"], input="y\n")
    assert done.exit_code == 0 and "are being broken" in done.output
    assert say("block", "show", made["id"], "--json")["state"] == "withdrawn"
    service.world.pass_time(600)
    assert say("lease", "show", made["lease"]["id"], "--json")["state"] in ("ended", "canceled")


def test_pages_and_who_may(say: Say, service: Service) -> None:
    ids = []
    for _ in range(3):
        ids.append(say("block", "create", "simulated", "-n", "2", "--days", "3", "--json")["id"])
        service.world.clock.advance(1)
    first = say("block", "ls", "--limit", "2", "--json", who="team")
    rest = say("block", "ls", "--limit", "2", "--after", first["next"], "--json", who="team")
    assert [item["id"] for item in (*first["blocks"], *rest["blocks"])] == ids[::-1] and rest["next"] is None
    with pytest.raises(ForbiddenError):
        say("block", "create", "simulated", "-n", "2", "--days", "3", who="team")
    with pytest.raises(ForbiddenError):
        say("block", "ls", who="acme")
    assert service.ask("acme", "GET", "/v1/backlog").status_code == 403
    assert service.ask("acme", "GET", "/v1/calendar?pool=simulated").status_code == 403
    for query, status, words in (
        ("", 400, "pool"),
        ("?pool=nowhere", 404, "nowhere"),
        ("?pool=simulated&until=2020-01-01T00:00:00Z", 400, "must be after"),
        ("?pool=simulated&until=2036-01-01T00:00:00Z", 400, "three years"),
        ("?pool=simulated&since=tomorrow", 400, "since"),
    ):
        refused = service.ask("operator", "GET", f"/v1/calendar{query}")
        assert refused.status_code == status and words in refused.json()["error"]["message"], query


def test_the_same_request_makes_one_block(service: Service) -> None:
    end = format_time(service.world.clock.now() + timedelta(days=3))
    body: dict[str, Any] = {"pool": "simulated", "accelerators": 2, "end": end}
    first = service.ask("operator", "POST", "/v1/blocks", body, headers={"Idempotency-Key": "k"})
    again = service.ask("operator", "POST", "/v1/blocks", body, headers={"Idempotency-Key": "k"})
    assert first.status_code == 201 and first.json() == again.json()
    assert len(service.ask("operator", "GET", "/v1/blocks").json()["blocks"]) == 1
    change = {"accelerators": 1}
    path = f"/v1/blocks/{first.json()['id']}/change"
    one, two = (
        service.ask("operator", "POST", path, change, headers={"Idempotency-Key": "c"}).json() for _ in range(2)
    )
    assert one == two and one["kind"] == "shrunk"


def test_what_can_not_be_is_refused_in_a_sentence(say: Say, key: str) -> None:
    create = ("block", "create", "simulated", "-n", "2")
    for words, sentence in (
        ((), "either --to or --days"),
        (("--days", "3", "--min-price", "nan"), "--min-price: 'nan' is not a finite amount"),
        (("--days", "3", "--min-price", "-1"), "--min-price is -1; it must be 0 or more"),
        (("--to", "tomorrow"), "--to: "),
        (("--days", "2000"), "three years"),
        (("--days", "3", "--price", "2"), "set to_organization"),
        (("--days", "3", "--to-organization", "acme"), "--key: specify the public key"),
        (
            ("--days", "3", "--to-organization", "acme", "--key", key, "--min-price", "2", "--price", "1"),
            "below the block's minimum",
        ),
    ):
        with pytest.raises(InvalidInputError, match=sentence):
            say(*create, *words)
    with pytest.raises(NotFoundError, match="there is no pool"):
        say("block", "create", "nowhere", "-n", "2", "--days", "3")
    with pytest.raises(NotFoundError, match="nobody"):
        say(*create, "--days", "3", "--to-organization", "nobody", "--key", key)
    with pytest.raises(NotFoundError, match="sublet block ls"):
        say("block", "show", "blk_none")
    assert say("block", "ls", "--json")["blocks"] == []


def test_advice_names_sizes_and_lengths(say: Say, tmp_path: Path) -> None:
    found = say("block", "advise", "simulated", "-n", "2", "-n", "16", "--days", "1", "--json")
    assert [(row["accelerators"], row["days"], row["basis"]) for row in found["rows"]] == [
        (2, 1, "observed"),
        (16, 1, "observed"),
    ]
    assert found["rows"][0]["displaced_h_50"] == 0.0 and found["rows"][1]["displaced_h_50"] > 50
    assert found["rows"][0]["displaced_h_99"] is None
    assert json.dumps(found["notes"])
    page = tmp_path / "advice.html"
    assert "charts:" in say("block", "advise", "simulated", "-n", "2", "-n", "16", "--days", "1", "--page", str(page))
    assert "1 day: accelerator-hours displaced" in page.read_text() and "<svg" in page.read_text()
    with pytest.raises(InvalidInputError, match="can't be written"):
        say("block", "advise", "simulated", "-n", "2", "--page", str(tmp_path))
    with pytest.raises(InvalidInputError, match="accelerators is 17"):
        say("block", "advise", "simulated", "-n", "17")
