"""The team's page: who makes way and what it costs is shown before anything is claimed, and a team reaches its own claims alone."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from tests.app.test_console_acts import EVIL, GOOD, ORIGIN, Browser, Console, rented

from sublet.simulation.world import World
from sublet.values.errors import ConflictError, InvalidInputError
from sublet.values.windows import Window


@pytest.fixture
def console(tmp_path: Path) -> Iterator[Console]:
    world = World(tmp_path / "w")
    world.remember(days=8, need=0.3, spread=0.05)
    yield Console(world)
    world.close()


def team(console: Console, name: str) -> Browser:
    owner = console.system.accounts.create_organization(name, "internal")
    made = console.system.people.invite(owner, f"{name}@example.com", "team", "test")
    console.system.people.accept(made.secret, f"Ada of {name}", GOOD, "")
    browser = Browser(console.api)
    assert browser.sign_in(f"{name}@example.com").status_code == 303
    return browser


def confirmed(browser: Browser, page: str, act: str, **fields: str) -> str:
    """Send the form that a plan ends with; where it leads."""
    form = page[page.index('aria-labelledby="plan"') :].partition("</form>")[0]
    hidden = {name: html.unescape(value) for name, value in re.findall(r'name="([\w]+)" value="([^"]*)"', form)}
    assert hidden["act"] == act
    return str(browser.client.post("/claims", data=hidden | fields, headers=ORIGIN).headers["location"])


def test_a_team_sees_who_makes_way_claims_changes_and_releases(console: Console) -> None:
    rented(console, "acme")
    console.world.pass_time(60, tick_s=5)
    lab, other, demand = team(console, "lab"), team(console, "other"), console.system.demand
    pool = console.world.pool
    assert lab.client.get("/").headers["location"] == "/claims"
    wanted = {"pool": pool.name, "accelerators": str(pool.accelerators), "hours": "6", "patience": "15", "reason": EVIL}
    plan = lab.send("/claims", "plan", **wanted)
    assert plan.status_code == 200 and "nothing is claimed yet" in plan.text and EVIL not in plan.text
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", plan.text))
    assert "1 of those below, with 1 accelerators" in text and "spot" in text and "15 minutes of patience" in text
    assert console.organization("acme") not in plan.text, "a team learns what makes way, and not whose it is"
    assert not demand.claims()
    assert confirmed(lab, plan.text, "claim") == "/claims"
    (claim,) = demand.claims()
    now = console.world.clock.now()
    assert (claim.count, claim.patience_s, claim.reason) == (pool.accelerators, 900, EVIL)
    assert claim.window == Window(now, now + timedelta(hours=6))
    assert claim.id in lab.get("/claims") and claim.id not in other.get("/claims")
    assert other.send("/claims", "release", claim=claim.id).status_code == 400
    changing = lab.get(f"/claims?change={claim.id}")
    assert f'name="replaces" value="{claim.id}"' in changing and 'value="15"' in changing
    plan = lab.send("/claims", "plan", **wanted | {"accelerators": "2", "replaces": claim.id})
    assert confirmed(lab, plan.text, "claim") == "/claims"
    (changed,) = demand.claims()
    assert changed.count == 2 and changed.id != claim.id and changed.team == claim.team
    foreign = other.send("/claims", "plan", **wanted | {"replaces": changed.id})
    assert foreign.status_code == 200
    refused = other.send("/claims", "claim", once="a1", **wanted | {"replaces": changed.id})
    assert refused.status_code == 400 and "another team" in refused.text and demand.claims() == [changed]
    assert lab.send("/claims", "release", claim=changed.id).status_code == 303 and not demand.claims()


@pytest.mark.parametrize(
    "wrong", [{"accelerators": "0"}, {"hours": "0"}, {"hours": "99999"}, {"patience": "1441"}, {"pool": "none"}]
)
def test_what_can_not_be_claimed_is_refused_before_anything_changes(console: Console, wrong: dict[str, str]) -> None:
    operator = console.browsers["operator"]
    wanted = {"pool": console.world.pool.name, "accelerators": "1", "hours": "1"}
    assert operator.send("/claims", "plan", **wanted | wrong).status_code == 400
    assert operator.send("/claims", "claim", once="a1", **wanted | wrong).status_code == 400
    assert not console.system.demand.claims()
    assert console.browsers["acme"].client.get("/claims").status_code == 403


def test_of_two_changes_of_a_claim_one_counts(console: Console) -> None:
    demand, pool, now = console.system.demand, console.world.pool, console.world.clock.now()
    window = Window(now, now + timedelta(hours=1))
    first = demand.add_claim(pool.id, 1, window, "a", team="org_lab")
    second = demand.change_claim(first.id, 3, window, "b", 60)
    assert (second.team, second.pool_id, second.patience_s) == ("org_lab", pool.id, 60)
    with pytest.raises(ConflictError):
        demand.change_claim(first.id, 4, window, "c")
    with pytest.raises(InvalidInputError):
        demand.change_claim(second.id, 0, window, "c")
    assert demand.claims() == [second]
