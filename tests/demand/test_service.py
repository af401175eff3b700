"""Samples are kept once, claims stand until withdrawn, and history is the past alone."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from tests.permissions import everybody

from sublet.api.http import frame
from sublet.demand import service
from sublet.demand.api import router
from sublet.demand.model import Sample, Tally, claimed
from sublet.demand.service import Demand
from sublet.store import Store
from sublet.values.clock import SimulatedClock, format_time
from sublet.values.errors import ConflictError, InvalidInputError, NotFoundError
from sublet.values.windows import Window


def test_samples_are_kept_once_and_the_higher_need_stays(any_store: Store, clock: SimulatedClock) -> None:
    demand = Demand(any_store)
    now = clock.now()
    first = [Sample(now - timedelta(minutes=minute), 8, minute) for minute in range(5)]
    assert demand.record_samples("pool_a", first).taken == 5
    demand.record_samples("pool_a", first)
    demand.record_samples("pool_a", [Sample(now, 6, 7, 2)])
    series = demand.history("pool_a", now - timedelta(hours=1), now + timedelta(seconds=1))
    assert series.in_use.tolist() == [4, 3, 2, 1, 7]
    assert (series.capacity[-1], series.pending[-1]) == (6, 2)
    latest = demand.latest("pool_a")
    assert latest is not None
    assert latest.in_use == 7
    assert demand.history("pool_a", now - timedelta(hours=1), now).in_use.tolist() == [4, 3, 2, 1]
    assert list(demand.pools()) == ["pool_a"]


def test_old_samples_expire_as_new_ones_come(store: Store, clock: SimulatedClock) -> None:
    demand = Demand(store, history_days=10)
    now = clock.now()
    demand.record_samples("pool_a", [Sample(now - timedelta(days=15), 8, 1), Sample(now - timedelta(days=9), 8, 1)])
    assert demand.record_samples("pool_a", [Sample(now, 8, 1)]).expired == 1
    assert len(demand.history("pool_a", now - timedelta(days=30), now + timedelta(seconds=1))) == 2


def test_a_tally_tells_what_came_between_and_what_was_corrected(any_store: Store, clock: SimulatedClock) -> None:
    demand = Demand(any_store)
    now = clock.now()
    numbers = [0.0, 0.1, 0.0005, 2.49951, 7.9995, 1_234_567.891, 10_000_000.0]
    samples = [
        Sample(now - timedelta(minutes=place), 10_000_000 - number, number) for place, number in enumerate(numbers)
    ]
    demand.record_samples("pool_a", samples)
    demand.record_samples("pool_b", [Sample(now, 8, 1)])
    first, middle = now - timedelta(minutes=6), now - timedelta(minutes=3)
    series = demand.history("pool_a", first, now + timedelta(seconds=1))
    for valued_from in (None, middle, now + timedelta(minutes=1)):
        told = demand.tally("pool_a", first, now, valued_from)
        assert told == Tally.of(series, valued_from or first)
        assert told.count == 7
    before = demand.tally("pool_a", first, now)
    assert demand.tally("pool_a", first, now - timedelta(minutes=1)).count == 6
    assert demand.tally("pool_a", now - timedelta(days=2), now - timedelta(days=1)) == Tally()
    demand.record_samples("pool_a", samples)
    assert demand.tally("pool_a", first, now) == before
    demand.record_samples("pool_a", [Sample(middle, 10_000_000, 2.5)])
    needed = demand.tally("pool_a", first, now)
    assert (needed.in_use - before.in_use, needed.capacity) == (0, before.capacity), "less than a thousandth"
    demand.record_samples("pool_a", [Sample(middle, 10_000_000, 2.502)])
    assert demand.tally("pool_a", first, now).in_use - before.in_use == 2
    demand.record_samples("pool_a", [Sample(middle, 9_000_000, 0)])
    assert demand.tally("pool_a", first, now).capacity < before.capacity
    assert demand.tally("pool_a", first, now).count == 7


def test_a_sample_from_the_future_is_refused(store: Store, clock: SimulatedClock) -> None:
    demand = Demand(store)
    with pytest.raises(InvalidInputError, match="is in the future"):
        demand.record_samples("pool_a", [Sample(clock.now() + timedelta(hours=1), 8, 1)])
    assert demand.latest("pool_a") is None


@pytest.mark.parametrize("values", [(-1, 0, 0), (1, float("nan"), 0), (1, 1, float("inf"))])
def test_a_sample_that_is_no_count_is_refused(clock: SimulatedClock, values: tuple[float, float, float]) -> None:
    with pytest.raises(InvalidInputError):
        Sample(clock.now(), *values)


def test_csv_is_imported_whole_or_not_at_all(store: Store, clock: SimulatedClock, tmp_path: Path) -> None:
    demand = Demand(store)
    path = tmp_path / "history.csv"
    path.write_text("time,capacity,in_use\n2025-12-01T00:00:00Z,4,1\n2025-12-01T01:00:00Z,4,x\n")
    with pytest.raises(InvalidInputError, match="line 3"):
        demand.import_history("pool_a", path.read_bytes())
    assert demand.latest("pool_a") is None
    path.write_text("time,capacity,in_use\n2025-12-01T00:00:00Z,4,1\n2025-12-01T01:00:00Z,4,2\n")
    assert demand.import_history("pool_a", path.read_bytes()).taken == 2
    path.write_text("time,capacity,in_use\n2025-12-02T00:00:00Z,4,1\n2062-12-02T01:00:00Z,4,2\n")
    with pytest.raises(InvalidInputError, match=r"the file: the row at 2062-12-02T01:00:00Z is in the future"):
        demand.import_history("pool_a", path.read_bytes())
    assert len(demand.history("pool_a", clock.now() - timedelta(days=90), clock.now())) == 2


def test_claims_stand_until_withdrawn(any_store: Store, clock: SimulatedClock) -> None:
    demand = Demand(any_store)
    monday = clock.now() + timedelta(days=7)
    claim = demand.add_claim("pool_a", 512, Window.starting(monday, 21 * 86_400), "training run")
    other = demand.add_claim("pool_b", 8, Window.starting(clock.now(), 3600), "")
    assert [item.id for item in demand.claims("pool_a")] == [claim.id]
    assert [item.id for item in demand.claims(window=Window.starting(clock.now(), 3600))] == [other.id]
    assert claimed(demand.claims("pool_a"), monday) == 512
    assert claimed(demand.claims("pool_a"), monday + timedelta(days=21)) == 0
    assert demand.withdraw_claim(claim.id).withdrawn_at == clock.now()
    assert demand.withdraw_claim(claim.id).withdrawn_at == clock.now()
    assert demand.claims("pool_a") == []
    with pytest.raises(NotFoundError):
        demand.withdraw_claim("clm_none")


def test_claims_that_make_no_sense_are_refused(store: Store, clock: SimulatedClock) -> None:
    demand = Demand(store)
    now = clock.now()
    with pytest.raises(InvalidInputError, match="count is 0"):
        demand.add_claim("pool_a", 0, Window.starting(now, 60), "")
    with pytest.raises(InvalidInputError, match="past"):
        demand.add_claim("pool_a", 1, Window.starting(now - timedelta(hours=2), 3600), "")
    with pytest.raises(InvalidInputError, match="characters"):
        demand.add_claim("pool_a", 1, Window.starting(now, 60), "x" * 501)
    with pytest.raises(InvalidInputError, match="ten years"):
        demand.add_claim("pool_a", 1, Window.starting(now, 11 * 366 * 86_400), "")


def test_claims_that_are_over_are_not_listed(store: Store, clock: SimulatedClock) -> None:
    demand = Demand(store)
    began = clock.now()
    claim = demand.add_claim("pool_a", 8, Window.starting(began, 3600), "")
    clock.advance(3600)
    assert demand.claims("pool_a") == []
    assert [item.id for item in demand.claims("pool_a", Window.starting(began, 60))] == [claim.id]


def test_no_claim_of_a_pool_is_overlooked(store: Store, clock: SimulatedClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "CLAIMS_MAX", 2)
    demand = Demand(store)
    for day in (1, 2):
        demand.add_claim("pool_a", 8, Window.starting(clock.now() + timedelta(days=day), 60), "")
    with pytest.raises(ConflictError, match="2 current claims, the maximum"):
        demand.add_claim("pool_a", 8, Window.starting(clock.now() + timedelta(days=3), 60), "")


def test_the_routes_know_a_pool_by_its_name_and_refuse_one_that_nobody_has(store: Store, clock: SimulatedClock) -> None:
    def id_of(pool: str) -> str:
        if pool not in ("lab", "pool_a"):
            raise NotFoundError(f"there is no pool {pool!r}")
        return "pool_a"

    demand = Demand(store)
    api = frame("demand")
    api.include_router(router(demand, everybody, clock.now, id_of))
    start, end = format_time(clock.now() + timedelta(hours=1)), format_time(clock.now() + timedelta(hours=2))
    sample = {"samples": [{"time": format_time(clock.now()), "capacity": 8, "in_use": 1}]}
    with TestClient(api) as client:
        for pool, status in (("lab", 201), ("elsewhere", 404)):
            claim = {"pool": pool, "accelerators": 3, "start": start, "end": end}
            assert client.post("/v1/claims", json=claim).status_code == status
            assert client.post(f"/v1/demand/{pool}/samples", json=sample).status_code == (200 if status == 201 else 404)
            assert client.get(f"/v1/demand/{pool}/samples").status_code == (200 if status == 201 else 404)
            assert client.get("/v1/claims", params={"pool_id": pool}).status_code == (200 if status == 201 else 404)
    assert [claim.pool_id for claim in demand.claims()] == ["pool_a"]
    assert list(demand.pools()) == ["pool_a"]


@pytest.mark.parametrize("older_days", [0, 20])
def test_a_long_import_lets_others_write_between_its_parts(
    any_store: Store, clock: SimulatedClock, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, older_days: int
) -> None:
    monkeypatch.setattr(service, "SAMPLES_AT_ONCE", 10)
    pauses: list[int] = []

    def others_write() -> None:
        pauses.append(len(pauses))
        Demand(any_store).record_samples("pool_b", [Sample(clock.now() - timedelta(minutes=len(pauses)), 8, 1)])

    demand = Demand(any_store, history_days=1, pause=others_write)
    demand.record_samples("pool_a", [Sample(clock.now(), 8, 2)])
    end = clock.now() - timedelta(hours=1, days=older_days)
    rows = [f"{format_time(end - timedelta(hours=hour))},8,{hour % 5}" for hour in range(35)]
    path = tmp_path / "long.csv"
    path.write_text("time,capacity,in_use\n" + "\n".join(rows) + "\n")

    recorded = demand.import_history("pool_a", path.read_bytes())
    kept = demand.history("pool_a", clock.now() - timedelta(days=60), clock.now())
    if older_days:
        assert (recorded.taken, recorded.expired, len(kept), len(pauses)) == (35, 35, 0, 0)
    else:
        assert (recorded.taken, recorded.expired, len(kept), len(pauses)) == (35, 11, 24, 2)
        assert kept.in_use.tolist() == [hour % 5 for hour in reversed(range(24))]
    assert len(demand.history("pool_b", end, clock.now())) == len(pauses)
    assert demand.import_history("pool_a", path.read_bytes()).taken == 35
