"""What an operator states about a pool is heeded where it is decided what may be sold."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from sublet.config.settings import Settings, SettingsError, load
from sublet.demand.model import Sample
from sublet.values.clock import SimulatedClock
from sublet.values.windows import Window
from sublet.wiring.system import Sublet


def system_of(folder: Path, clock: SimulatedClock, stated: dict[str, Any]) -> tuple[Sublet, str]:
    pool = {"name": "lab", "backend": "simulated", "accelerators": 20, "watts": 300, "generation": "h100", **stated}
    content = {"data_dir": folder, "models": {"default": ""}, "pools": [pool]}
    system = Sublet(Settings.model_validate(content), clock, {})
    [found] = system.sync_fleet()
    hours = [Sample(clock.now() - timedelta(hours=hour), 20, 4) for hour in range(40 * 24, -1, -1)]
    system.demand.record_samples(found.id, hours)
    return system, found.id


def withheld(system: Sublet, pool_id: str, window_s: int = 3600, class_name: str = "spot") -> dict[str, int]:
    [rung] = [
        item
        for item in system.surplus.ladder(pool_id).alone
        if (item.class_name, item.window_s) == (class_name, window_s)
    ]
    return {item.reason_code: item.count for item in rung.withheld}


def test_what_is_kept_back_is_told_apart(tmp_path: Path, clock: SimulatedClock) -> None:
    system, pool_id = system_of(tmp_path, clock, {"reserve": 3, "failure_reserve": 2})
    found = withheld(system, pool_id)
    assert (found["never_sell"], found["failure_reserve"], found["in_use"]) == (3, 2, 4)
    assert system.surplus.ladder(pool_id).count("spot") == 11
    with system.store.read() as connection:
        assert system.capacity.may_stay(connection, pool_id, Window.starting(clock.now(), 3600)) == 13
    system.close()


def test_a_pool_that_may_not_be_relet_sells_nothing_for_a_reason_of_its_own(
    tmp_path: Path, clock: SimulatedClock
) -> None:
    stated = {"tenure": "leased_in", "relet": False, "reserve": 3, "failure_reserve": 2}
    system, pool_id = system_of(tmp_path, clock, stated)
    assert withheld(system, pool_id) == {"not_relet": 20}
    assert system.surplus.ladder(pool_id).total == 0
    system.close()
    with pytest.raises(ValueError, match="use reserve instead"):
        system_of(tmp_path / "owned", clock, {"relet": False})


def test_nothing_is_sold_over_maintenance(tmp_path: Path, clock: SimulatedClock) -> None:
    def away(start: datetime, count: int) -> dict[str, Any]:
        return {"start": start, "end": start + timedelta(hours=6), "accelerators": count, "reason": "new cooling"}

    soon = clock.now() + timedelta(hours=3)
    system, pool_id = system_of(tmp_path, clock, {"maintenance": [away(soon, 5), away(soon + timedelta(days=2), 0)]})
    free = system.surplus.ladder(pool_id).count("spot")
    assert free == 16
    assert "maintenance" not in withheld(system, pool_id, 3600, "firm")
    assert withheld(system, pool_id, 4 * 3600, "firm")["maintenance"] == 5
    clock.advance(3 * 3600)
    system.demand.record_samples(pool_id, [Sample(clock.now(), 20, 4)])
    assert system.surplus.ladder(pool_id).count("spot") == 11
    [sentence] = [
        item.sentence for item in system.surplus.ladder(pool_id).alone[-1].withheld if item.reason_code == "maintenance"
    ]
    assert "5 away" in sentence and "new cooling" in sentence
    clock.advance(46 * 3600)
    system.demand.record_samples(pool_id, [Sample(clock.now(), 20, 4)])
    assert withheld(system, pool_id, 12 * 3600, "firm")["maintenance"] == 20
    system.close()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("start = 2026-12-01T08:00:00\nend = 2026-12-01T09:00:00Z", "has no offset"),
        ("start = 2026-12-01T08:00:00Z\nend = 2026-12-01T08:00:00Z", "must end after it starts"),
        ("start = 2026-12-01T08:00:00Z\nend = 2026-12-01T09:00:00Z\naccelerators = -1", "greater than or equal to 0"),
        ("start = 2026-12-01T08:00:00Z\nuntil = 2026-12-01T09:00:00Z", "maintenance"),
    ],
)
def test_maintenance_that_makes_no_sense_is_refused(tmp_path: Path, line: str, words: str) -> None:
    path = tmp_path / "sublet.toml"
    path.write_text(f'[[pools]]\nname = "lab"\n[[pools.maintenance]]\n{line}\n')
    with pytest.raises(SettingsError, match=words):
        load(path)
