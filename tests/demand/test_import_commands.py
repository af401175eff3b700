"""What the commands that bring samples in say about them: how many came, how many expired, and why none did."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from tests.terminal import sit_at
from typer.testing import CliRunner, Result

from sublet.accounts.service import Accounts
from sublet.api.http import frame, requirement
from sublet.commands import demand as commands
from sublet.demand import api as demand_api
from sublet.demand.feeds import prometheus
from sublet.demand.feeds.csv_series import BadSeriesError, read_series, series_text
from sublet.demand.feeds.prometheus import PrometheusCollector
from sublet.demand.feeds.slurm import SACCT_FIELDS, BadSlurmOutputError
from sublet.demand.service import Demand
from sublet.fleet import api as fleet_api
from sublet.fleet.model import PoolSpec
from sublet.fleet.service import Fleet
from sublet.store import Store
from sublet.values.clock import SimulatedClock, format_time
from sublet.values.errors import InvalidInputError, NotFoundError


@pytest.fixture(autouse=True)
def beta(store: Store, clock: SimulatedClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """A running service with a pool of that name, whose samples are kept for ten days."""
    fleet, accounts = Fleet(store), Accounts(store)
    fleet.sync([PoolSpec("beta", "here", "H100", "simulated", ("s:0",), Decimal(700), "stated", 10**9, "USD", "owned")])
    api, require = frame("test"), requirement(accounts)
    demand = Demand(store, 10, lambda: None)
    api.include_router(demand_api.router(demand, require, clock.now, lambda pool: fleet.pool(pool).id))
    api.include_router(fleet_api.router(fleet, require))
    sit_at(monkeypatch, api, accounts.ensure_operator() or "")
    monkeypatch.setattr(commands, "SystemClock", lambda: clock)
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()


def run(*arguments: str) -> Result:
    return CliRunner().invoke(commands.app, list(arguments))


def said(*arguments: str) -> str:
    found = run(*arguments)
    assert found.exit_code == 0, found.output
    return found.stdout


def hours(path: Path, clock: SimulatedClock, first_day: int, count: int) -> str:
    rows = [clock.now() - timedelta(days=first_day) + timedelta(hours=hour) for hour in range(count)]
    path.write_text("time,capacity,in_use\n" + "".join(f"{format_time(at)},16,4\n" for at in rows))
    return str(path)


def test_an_import_says_what_is_in_and_what_expired(tmp_path: Path, clock: SimulatedClock) -> None:
    assert said("import", "beta", hours(tmp_path / "one.csv", clock, 9, 1)) == "1 sample of beta is in\n"
    assert said("import", "beta", hours(tmp_path / "new.csv", clock, 4, 25)) == "25 samples of beta are in\n"
    old = hours(tmp_path / "old.csv", clock, 90, 1200)
    first = f"{clock.now() - timedelta(days=13):%Y-%m-%d %H:%M} UTC"
    assert said("import", "beta", old) == (
        f"1,200 samples of beta were taken, and 1,200 expired: what is from before {first} is too old relative to the pool's "
        "newest sample; to keep more, raise demand.history_days\n"
    )
    told = json.loads(said("import", "beta", old, "--json"))
    assert (told["taken"], told["expired"]) == (1200, 1200)


@pytest.mark.parametrize(
    ("in_use", "capacity", "words"),
    [
        ("NaN", "8", "in_use gives no number at any time of it"),
        ("", "8", "in_use gives no number at any time of it"),
        ("3", "NaN", "capacity gives no number at any time of it"),
    ],
)
def test_prometheus_without_a_number_is_told_with_its_cause(
    monkeypatch: pytest.MonkeyPatch, in_use: str, capacity: str, words: str
) -> None:
    def fetch(url: str, parameters: Mapping[str, str]) -> bytes:
        value = in_use if parameters["query"] == "busy" else capacity
        series = [{"values": [[float(parameters["end"]), value]]}] if value else []
        return json.dumps({"status": "success", "data": {"resultType": "matrix", "result": series}}).encode()

    monkeypatch.setattr(prometheus, "PrometheusCollector", lambda url: PrometheusCollector(url, fetch))
    arguments = ("prometheus", "beta", "http://prom:9090", "--in-use", "busy", "--capacity", "all", "--hours", "1")
    assert said(*arguments) == (
        f"no samples were found for beta: from 2026-01-04 23:00 UTC to 2026-01-05 00:00 UTC {words}\n"
        "  try this in the Prometheus UI: busy and all\n"
    )
    assert json.loads(said(*arguments, "--json"))["taken"] == 0


@pytest.mark.parametrize(
    ("option", "words"),
    [
        (("--capacity", "-5"), "capacity is -5; use a number above 0 or a PromQL query"),
        (("--hours", "1e300"), r"--hours is 1e\+300"),
    ],
)
def test_prometheus_is_not_asked_for_what_can_not_be(option: tuple[str, str], words: str) -> None:
    found = run("prometheus", "beta", "http://127.0.0.1:9", "--in-use", "busy", *option)
    with pytest.raises(InvalidInputError, match=words):
        raise found.exception or AssertionError(found.output)


def test_a_claim_that_no_date_can_end_is_refused() -> None:
    for hours in ("1e300", "1e9"):
        found = run("claim", "beta", "1", "--hours", hours)
        assert isinstance(found.exception, InvalidInputError), found.output
        assert found.exception.message.startswith("--hours is")
    found = run("claim", "beta", "1", "--start", "9999-12-31T23:59:59-05:00")
    assert isinstance(found.exception, InvalidInputError), found.output
    assert found.exception.message.startswith("--start: time 9999-12-31T23:59:59-05:00 is outside the years")


def test_rows_of_the_first_year_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "y1.csv"
    path.write_text("time,capacity,in_use\n0001-01-01T00:00:00Z,16,1\n")
    found = run("import", "beta", str(path))
    assert isinstance(found.exception, BadSeriesError), found.output
    assert "line 2: time 0001-01-01T00:00:00Z is outside the years" in found.exception.message


def test_what_sacct_printed_is_read_with_its_mark_and_blank_lines_and_refused_by_line(
    tmp_path: Path, clock: SimulatedClock
) -> None:
    at = [format_time(clock.now() - timedelta(hours=back)).removesuffix("Z") for back in (9, 8, 7, 2)]
    head = "|".join(SACCT_FIELDS)
    jobs = f"1|g|C|{at[0]}|{at[1]}|{at[2]}|gres/gpu=4||60|acc\n2|g|C|{at[0]}|{at[2]}|{at[3]}|gres/gpu=4||60|acc\n"
    path = tmp_path / "sacct.txt"
    path.write_text(f"\ufeff{head}\n{jobs}\n", encoding="utf-8")
    assert said("sacct", "beta", str(path), "--capacity", "16") == "5 samples of beta are in\n"
    path.write_text(f"{head}\n{jobs}".replace(at[0], "0001-01-01T00:00:00+05:00"))
    found = run("sacct", "beta", str(path), "--capacity", "16")
    assert isinstance(found.exception, BadSlurmOutputError), found.output
    path.write_text(f"{head}\n{jobs}".replace("gpu=4", f"gpu={'9' * 400}"))
    found = run("sacct", "beta", str(path), "--capacity", "16")
    assert isinstance(found.exception, BadSlurmOutputError), found.output


def test_files_come_over_the_network_as_they_are(tmp_path: Path, clock: SimulatedClock) -> None:
    plain = hours(tmp_path / "h.csv", clock, 4, 25)
    packed = tmp_path / "h.csv.gz"
    packed.write_bytes(gzip.compress(Path(plain).read_bytes()))
    assert said("import", "beta", str(packed)) == "25 samples of beta are in\n"
    found = json.loads(said("samples", "beta", "--hours", "200", "--limit", "30", "--json"))["samples"]
    assert [row["in_use"] for row in found] == [4] * 25
    assert "no samples in the last 1 h" in said("samples", "beta", "--hours", "1")
    packed.write_bytes(packed.read_bytes()[:-9])
    for path, words in ((packed, "damaged or truncated"), (tmp_path / "none.csv", "can't be read")):
        found = run("import", "beta", str(path))
        assert isinstance(found.exception, InvalidInputError) and found.exception.message.startswith(f"{path} ")
        assert words in found.exception.message
    assert isinstance(run("import", "gamma", plain).exception, NotFoundError)


def test_work_that_waits_survives_the_way(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_text("time,capacity,in_use,pending\n2026-01-01T00:00:00Z,16,4,3\n2026-01-01T01:00:00Z,16,4,0\n")
    assert series_text(read_series(path)).split() == path.read_text().split()


def test_more_than_a_page_of_samples_is_listed(
    tmp_path: Path, clock: SimulatedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    said("import", "beta", hours(tmp_path / "h.csv", clock, 4, 90))
    monkeypatch.setattr(commands, "SAMPLES_PER_PAGE", 40)
    found = json.loads(said("samples", "beta", "--hours", "200", "--limit", "85", "--json"))["samples"]
    times = [row["time"] for row in found]
    assert len(times) == 85 and times == sorted(set(times))


def test_claims_are_made_listed_and_withdrawn(clock: SimulatedClock) -> None:
    made = json.loads(said("claim", "beta", "2", "--hours", "3", "--reason", "training", "--json"))
    assert (made["accelerators"], made["start"], made["end"]) == (2, "2026-01-05T00:00:00Z", "2026-01-05T03:00:00Z")
    shown = said("claims")
    assert made["id"] in shown and "beta" in shown and "2026-01-05 03:00" in shown
    assert "beta has only 1: until it has more" in said("claim", "beta", "2")
    said("withdraw", made["id"])
    assert made["id"] not in said("claims", "--pool", "beta")
