"""Charge-back of the running system: a month of a made-up owner with four teams, in the API, as CSV, and as a page."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from starlette.testclient import TestClient
from tests.app.test_console_acts import GOOD, Browser

from sublet.allocation.chargeback.service import Known, Wanted
from sublet.allocation.chargeback.statement import Basis
from sublet.allocation.report.weeks import CAUSES
from sublet.config.settings import Settings
from sublet.control.plane import ControlPlane, build_api
from sublet.demand.model import Sample, TeamUse
from sublet.leases.quotes.admission import QuoteRequest
from sublet.simulation.world import SSH_KEY, World
from sublet.values.windows import Window

SIZE = 16
TEAMS = ("pretraining", "product", "research", "safety")
MONTH = datetime(2026, 10, 1, tzinfo=UTC)
SECONDS = 31 * 24 * 3600


class Owner(World):
    """Sixteen accelerators with four teams over October: use by team, claims that are partly idle, an outage and a lease."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, accelerators=SIZE, start=MONTH - timedelta(hours=1))
        self.system.accounts.ensure_operator()
        self.api = build_api(self.system, ControlPlane(self.system))
        self.teams = {name: self.system.accounts.create_organization(name, "internal").id for name in TEAMS}

    def crash(self) -> None:
        told = self.settings.model_dump(include={"data_dir", "models", "pools"})
        pool = {name: value for name, value in told["pools"][0].items() if value is not None}
        pool["cost_per_accelerator_hour"] = "0.4123"
        changed = told | {"pools": [pool], "allocation": {"mode": "advise", "energy_price_per_kwh": "0.05"}}
        self.settings = Settings.model_validate(changed)
        super().crash()

    def lives(self, hours: int, step: int) -> None:
        """`hours` pass, with a round every `step` of them."""
        samples, told = [], []
        for hour in range(hours):
            now = self.clock.now()
            use = {name: self.chance.randrange(1 + place) for place, name in enumerate(TEAMS, 1)}
            samples.append(Sample(now, SIZE, float(sum(use.values()) + self.chance.randrange(2))))
            if self.chance.random() < 0.9:
                told += [TeamUse(now, self.teams[name], count) for name, count in use.items()]
            self.clock.advance(660)
            if hour % step == step - 1:
                self.system.demand.record_samples(self.pool.id, samples)
                self.system.demand.record_team_use(self.pool.id, told)
                samples, told = [], []
                self.system.allocation.tick()
            self.clock.advance(3600 - 660)
        assert not samples


def lived(folder: Path) -> Owner:
    owner = Owner(folder)
    system, pool_id = owner.system, owner.pool.id
    owner.lives(2, 1)
    owner.lives(24, 24)
    for name, count, hours in (("product", 3, 48), ("safety", 2, 300)):
        window = Window.starting(owner.clock.now() + timedelta(minutes=7), hours * 3600)
        system.demand.add_claim(pool_id, count, window, "a launch", team=owner.teams[name])
    unit = system.fleet.units(pool_id)[0]
    system.fleet.set_service(unit.id, False, "fan")
    owner.clock.advance(1234)
    system.fleet.set_service(unit.id, True)
    owner.clock.advance(3600 - 1234)
    customer = system.accounts.create_organization("customer").id
    quote = system.leases.quote(
        customer, QuoteRequest(2, "spot", owner.clock.now() + timedelta(hours=3), None, pool_id)
    )
    system.leases.accept(customer, quote.id, [SSH_KEY])
    owner.pass_time(3600 * 4, 600)
    owner.lives(4, 1)
    owner.lives(15 * 48, 48)
    return owner


@pytest.fixture(scope="module")
def owner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Owner]:
    made = lived(tmp_path_factory.mktemp("owner"))
    yield made
    made.close()


def keyed(owner: Owner, organization: str) -> TestClient:
    secret = owner.system.accounts.create_key(organization)[1]
    client = TestClient(owner.api, raise_server_exceptions=False)
    client.headers["Authorization"] = f"Bearer {secret}"
    return client


@pytest.mark.parametrize("basis", list(Basis))
def test_a_month_of_four_teams_adds_up_to_the_second_and_the_cent(owner: Owner, basis: Basis) -> None:
    found = owner.system.allocation.chargeback.statements(Wanted("2026-10", basis.value))
    assert (found["month"], found["basis"], len(found["statements"])) == ("2026-10", basis.value, 1)
    item = found["statements"][0]
    states = item["accelerators"]
    names = ("unavailable", "internal", "external", "draining", "starting", "withheld", "unsold")
    assert sum(states[f"{name}_s"] for name in names) == states["total_s"] == SIZE * SECONDS
    assert item["pool_hours"] == 31 * 24
    assert states["unavailable_s"] == 1234
    # Active within the minute, for three hours, and its end is within the month.
    assert 2 * 2.9 * 3600 < states["external_s"] + states["starting_s"] + states["draining_s"] < 2 * 3.1 * 3600
    teams = item["teams"]
    assert [team["name"] for team in teams] == list(TEAMS)
    assert sum(Decimal(team["charge"]) for team in teams) == Decimal(item["total"]) > 0
    assert sum(Decimal(team["displaced"]) for team in teams) == Decimal(item["displaced"]) > 0
    assert all(Decimal(team["charge"]) % Decimal("0.01") == 0 for team in teams)
    assert sum(team["used_s"] for team in teams) + states["internal_without_team_s"] == states["internal_s"]
    assert sum(team["claimed_idle_s"] for team in teams) == states["withheld_for_claims_s"]
    by_name = {team["name"]: team for team in teams}
    claimed = by_name["product"]["claimed_used_s"] + by_name["product"]["claimed_idle_s"]
    assert claimed == 3 * 48 * 3600
    if basis is Basis.COST:
        # 0.4123 and 1.275 kW at 0.05 an hour; used and claimed hours cost the same.
        seconds = sum(team["used_s"] + team["claimed_idle_s"] for team in teams)
        assert abs(Decimal(item["total"]) - Decimal(seconds) / 3600 * Decimal("0.47605")) < Decimal("0.01")
    if basis is Basis.OPPORTUNITY:
        assert item["total"] == item["displaced"]


def test_a_team_reads_its_own_line_and_nobody_elses(owner: Owner) -> None:
    found = keyed(owner, owner.teams["product"]).get("/v1/chargeback?month=2026-10").json()
    assert [team["name"] for team in found["statements"][0]["teams"]] == ["product"]
    assert found["statements"][0]["total"] is None and found["statements"][0]["accelerators"] is None
    other = owner.system.accounts.create_organization("reader").id
    assert keyed(owner, other).get("/v1/chargeback").status_code == 403


def test_the_csv_and_focus_rows_say_the_same(owner: Owner) -> None:
    finance = keyed(owner, "operator")
    item = finance.get("/v1/chargeback?month=2026-10&basis=market").json()["statements"][0]
    by_team = {team["team"]: Decimal(team["charge"]) for team in item["teams"]}
    for form, team, charge in (("csv", "team_id", "charge"), ("focus", "SubAccountId", "EffectiveCost")):
        answer = finance.get(f"/v1/chargeback/export?month=2026-10&basis=market&format={form}")
        assert answer.headers["content-type"].startswith("text/csv")
        rows = list(csv.DictReader(io.StringIO(answer.text)))
        assert {row[team]: Decimal(row[charge]) for row in rows} == by_team
    for row in rows:
        assert row["SubAccountType"] == "Team" and row["BillingCurrency"] == "USD" and Decimal(row["BilledCost"]) == 0
        product = Decimal(row["ContractedUnitPrice"]) * Decimal(row["PricingQuantity"])
        assert abs(product - Decimal(row["EffectiveCost"])) < Decimal("0.000001")
    for query in ("month=2026-13", "month=x", "basis=x", "format=x"):
        assert finance.get(f"/v1/chargeback/export?{query}").status_code == 400, query


def test_the_page_shows_the_month_and_a_person_of_a_team_sees_its_line(owner: Owner) -> None:
    operator = owner.system.accounts.organization("operator")
    pages = {}
    for organization, role in ((operator, "finance"), (owner.system.accounts.organization("research"), "team")):
        made = owner.system.people.invite(organization, f"{role}@example.com", role, "test")
        owner.system.people.accept(made.secret, f"Ada of {role}", GOOD, "")
        browser = Browser(owner.api)
        assert browser.sign_in(f"{role}@example.com").status_code == 303
        pages[role] = browser.get("/chargeback?month=2026-10&basis=opportunity")
        assert browser.get("/chargeback/export.csv?month=2026-10").startswith("month,basis")
    assert all(name in pages["finance"] for name in TEAMS) and "Every accelerator-hour" in pages["finance"]
    assert "research" in pages["team"] and "pretraining" not in pages["team"]
    assert "Every accelerator-hour" not in pages["team"] and "Charged to teams" not in pages["team"]


def test_samples_name_only_internal_teams(owner: Owner) -> None:
    operator = keyed(owner, "operator")
    now = owner.clock.now().isoformat()
    sample = {"time": now, "capacity": SIZE, "in_use": 3, "teams": [{"team": owner.teams["safety"], "in_use": 2}]}
    assert operator.post(f"/v1/demand/{owner.pool.id}/samples", json={"samples": [sample]}).status_code == 200
    customer = owner.system.accounts.organization("customer").id
    sample["teams"] = [{"team": customer, "in_use": 2}]
    refused = operator.post(f"/v1/demand/{owner.pool.id}/samples", json={"samples": [sample]})
    assert refused.status_code == 400 and "internal team" in refused.text
    sample |= {"in_use": 7, "teams": [{"team": owner.teams["safety"], "in_use": count} for count in (2, 3)]}
    refused = operator.post(f"/v1/demand/{owner.pool.id}/samples", json={"samples": [sample]})
    assert refused.status_code == 400 and "named twice" in refused.text
    latest = owner.system.demand.latest(owner.pool.id)
    assert latest is not None and latest.in_use == 3


def test_hours_are_booked_once(owner: Owner) -> None:
    chargeback = owner.system.allocation.chargeback
    before = chargeback.statements(Wanted("2026-10"))
    assert chargeback.tick(Known(owner.system.allocation.facts().state, {})) >= 0
    assert chargeback.statements(Wanted("2026-10")) == before


def test_a_week_says_what_was_attainable_and_where_the_rest_went(owner: Owner) -> None:
    found = keyed(owner, "operator").get("/v1/yield-report?weeks=6").json()
    weeks = {item["week"][:10]: item for item in found["weeks"]}
    week = weeks["2026-09-28"]
    assert week["pool"] == "simulated" and 0 < week["valued_hours"] < week["hours"]
    assert week["attainable"] > 0 and set(week["lost"]) == set(CAUSES)
    assert abs(week["attainable"] - week["realized"] - sum(week["lost"].values())) < 1e-3
    assert week["lost"]["withheld"] >= 0 and week["lost"]["load_misjudged"] >= 0
    raw = next(item for item in week["uses"] if item["use"] == "raw")
    # The lease of two accelerators for three hours, in the class spot at half of 2.00 an hour, and 1,275 W.
    assert 5 < raw["accelerator_hours"] <= 6 and raw["earned"] > 0
    assert raw["per_watt_year"] == pytest.approx(raw["per_accelerator_hour"] * 8760 / 1275, rel=1e-4)
    for item in found["weeks"]:
        assert item["share"] is None or item["share"] <= 1.0001
    page = keyed(owner, "operator").get("/v1/desk/actuals.html?days=60").text
    assert "Realized against attainable" in page and "week of 2026-09-28" in page
    assert keyed(owner, "operator").get("/v1/yield-report?pool=none").status_code == 404
    assert keyed(owner, owner.teams["safety"]).get("/v1/yield-report").status_code == 403


def test_the_page_of_yield_shows_the_mix_and_the_losses(owner: Owner) -> None:
    operator = owner.system.accounts.organization("operator")
    made = owner.system.people.invite(operator, "reader@example.com", "operator_read_only", "test")
    owner.system.people.accept(made.secret, "Ada", GOOD, "")
    browser = Browser(owner.api)
    assert browser.sign_in("reader@example.com").status_code == 303
    text = browser.get("/yield?weeks=13")
    assert "The mix" in text and "week of 2026-09-28" in text and "Withheld from sale" in text
