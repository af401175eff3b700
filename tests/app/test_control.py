"""The control plane's loops, one round at a time."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sublet.config.settings import Settings, SettingsError, load
from sublet.control.collecting import Collecting
from sublet.control.plane import NIGHTLY_S, ControlPlane, PushedDemand
from sublet.demand.feeds.local import LocalSampler
from sublet.demand.feeds.prometheus import PrometheusCollector, PrometheusError, PrometheusUnreachableError
from sublet.demand.model import Sample
from sublet.ledger.invoices.month_end import months_due
from sublet.notifications.channels import channels_of
from sublet.simulation.world import World
from sublet.values.clock import SystemClock
from sublet.values.errors import InvalidInputError
from sublet.wiring.system import Sublet


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path / "w")
    yield made
    made.close()


def test_everything_is_proved_once_a_day_whatever_restarts(world: World) -> None:
    ledger = world.system.ledger
    rounds = {loop.name: loop for loop in ControlPlane(world.system).loops}
    assert rounds["bookkeeping"].once()
    first = ledger.proved_at()
    assert first == world.clock.now()
    world.clock.advance(NIGHTLY_S - 1)
    assert {loop.name: loop for loop in ControlPlane(world.system).loops}["bookkeeping"].once()
    assert ledger.proved_at() == first, "proved twice on one day"
    world.clock.advance(2)
    assert {loop.name: loop for loop in ControlPlane(world.system).loops}["bookkeeping"].once()
    assert ledger.proved_at() == first + timedelta(seconds=NIGHTLY_S + 1)


def test_a_loop_that_fails_is_counted_and_tried_again(world: World) -> None:
    plane = ControlPlane(world.system)
    loop = plane.loops[0]
    broken = loop.round
    loop.round = lambda: 1 / 0  # type: ignore[assignment]
    assert not loop.once() and not loop.once()
    assert plane.health()["failing"][0]["failing"] == 2
    loop.round = broken
    assert loop.once()
    assert plane.health()["failing"] == []


def test_pushed_samples_keep_the_local_ones_away(world: World) -> None:
    plane = ControlPlane(world.system)
    pool = world.pool.id
    assert not plane._is_pushed(pool)
    PushedDemand(plane).record_samples(pool, [Sample(world.clock.now(), 16, 1.0)])
    assert plane._is_pushed(pool)
    world.clock.advance(61)
    assert not plane._is_pushed(pool)


def test_a_mail_server_is_used_where_one_is_set() -> None:
    with pytest.raises(InvalidInputError, match=r"mail\.host"):
        channels_of(Settings.model_validate({}))["email"].checked_address("ops@example.com", internal=False)
    set_up = Settings.model_validate(
        {"mail": {"host": "mx", "sender": "a@b.example", "user": "u", "password": "geheim"}}
    )
    mail = channels_of(set_up)["email"]
    assert mail.checked_address("ops@example.com", internal=False) and mail.receiver("ops@example.com") == "mx"
    assert "geheim" not in repr(set_up)


def test_a_mail_server_without_a_sender_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "sublet.toml"
    path.write_text('[mail]\nhost = "mx"\n')
    with pytest.raises(SettingsError, match="sender must be an address"):
        load(path)


def test_where_demand_is_measured_elsewhere_the_machines_own_load_is_not_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LocalSampler, "sample", lambda self: Sample(SystemClock().now(), 1, 0.5))
    pools = [
        {"name": "here", "accelerators": 1},
        {"name": "there", "accelerators": 1, "prometheus": {"url": "http://127.0.0.1:9", "in_use": "up"}},
    ]
    system = Sublet(Settings.model_validate({"data_dir": tmp_path, "models": {"default": ""}, "pools": pools}))
    try:
        ids = {pool.name: pool.id for pool in system.sync_fleet()}
        plane = ControlPlane(system)
        loops = {loop.name: loop for loop in plane.loops}
        plane._sample()
        assert system.demand.pools() == [ids["here"]]
        assert not loops["collecting"].once()
        (failing,) = plane.health()["failing"]
        assert failing["name"] == "collecting" and "does not answer" in failing["last_error"]
    finally:
        system.close()


def test_a_feed_without_a_query_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "sublet.toml"
    path.write_text('[[pools]]\nname = "a"\n[pools.prometheus]\nurl = "http://127.0.0.1:9090"\n')
    with pytest.raises(SettingsError, match="set an exporter or in_use"):
        load(path)


def test_months_close_by_themselves_unless_the_operator_wants_to(world: World) -> None:
    system = world.system
    organization = system.accounts.create_organization("acme").id
    system.store.write(lambda connection: system.ledger.credit(connection, organization, 10**9, "sorry", "c-1"))
    begun = world.clock.now()

    def open_months() -> int:
        with system.store.read() as connection:
            return len(months_due(connection, system.ledger, world.clock.now() - timedelta(hours=48)))

    world.clock.advance((datetime(begun.year, begun.month + 1, 3, tzinfo=UTC) - begun).total_seconds())
    assert open_months() == 1
    for close_months, left in ((False, 1), (True, 0)):
        plane = ControlPlane(system)
        billing = plane.settings.billing.model_copy(update={"close_months": close_months})
        plane.settings = plane.settings.model_copy(update={"billing": billing})
        assert {loop.name: loop for loop in plane.loops}["months"].once()
        assert open_months() == left


def test_a_prometheus_that_hangs_is_waited_for_once_a_round(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def samples(self: PrometheusCollector, *rest: object) -> list[Sample]:
        asked.append(self._url)
        if self._url.endswith(":1"):
            raise PrometheusUnreachableError("it hangs")
        raise PrometheusError("the query is wrong")

    monkeypatch.setattr(PrometheusCollector, "samples", samples)
    pools = [
        {"name": f"p{number}", "backend": "simulated", "accelerators": 1, "generation": "H100", "watts": 700,
         "prometheus": {"url": f"http://127.0.0.1:{port}", "in_use": "up"}}
        for number, port in enumerate((1, 2, 1, 2))
    ]  # fmt: skip
    system = Sublet(Settings.model_validate({"data_dir": tmp_path, "models": {"default": ""}, "pools": pools}))
    try:
        system.sync_fleet()
        with pytest.raises(PrometheusError):
            Collecting(system).round()
        assert sorted(url[-1] for url in asked) == ["1", "2", "2"]
    finally:
        system.close()
