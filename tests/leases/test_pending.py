"""What waits is listed with the plan: each lease, backend, accelerator and reclaim by what becomes of it next."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace
from typing import Any

from tests.leases.test_planner import active, view
from tests.leases.test_reclaim import NOW

from sublet.leases.model import LeaseState, Timing
from sublet.leases.plan.failures import FailedUnit, Failure
from sublet.leases.plan.pending import pending
from sublet.leases.plan.planner import Quarantined
from sublet.values.plan import Step
from sublet.values.windows import Window

HOUR = timedelta(hours=1)


def told(found: Any, *reclaims: Any) -> list[Step]:
    return list(pending(found, reclaims))


def of(state: LeaseState, **changes: Any) -> Any:
    return active(state=state, window=Window(NOW + HOUR, NOW + 3 * HOUR), **changes)


def reclaimed(held: int, start: timedelta, end: timedelta) -> Any:
    return SimpleNamespace(id="rcl_1", held=held, start_at=NOW + start, end_at=NOW + end, reason="the owner trains")


def test_each_lease_waits_for_what_its_state_comes_to() -> None:
    opens = NOW + HOUR - timedelta(seconds=Timing().prepare_s)
    for lease, kind, at in (
        (of(LeaseState.SCHEDULED), "prepare", opens),
        (of(LeaseState.PREPARING), "activate", None),
        (of(LeaseState.ACTIVE), "end", NOW + 3 * HOUR),
        (of(LeaseState.ENDING), "finish", None),
        (of(LeaseState.NOTICE, reclaim_at=NOW + HOUR), "end", NOW + HOUR),
        (of(LeaseState.ACTIVE, reclaim_at=NOW + 4 * HOUR), "end", NOW + 3 * HOUR),
    ):
        (step,) = told(view(lease))
        assert (step.kind, step.subject, step.at) == (kind, lease.id, at), lease.state
    (step,) = told(view(of(LeaseState.NOTICE, reclaim_at=NOW + HOUR)))
    assert "under notice" in step.reason


def test_a_lease_whose_accelerator_failed_before_its_start_waits_for_that() -> None:
    lease = of(LeaseState.SCHEDULED)
    unit = FailedUnit("unit_1", "nvidia:0", "it gives no answer", NOW)
    for spares, kind in ((("unit_9",), "replace"), ((), "fail")):
        (step,) = told(view(lease, failures={lease.id: Failure(lease.id, (unit,), spares)}))
        assert step.kind == kind and "it gives no answer" in step.reason
        assert step.at == NOW + HOUR - timedelta(seconds=Timing().prepare_s)


def test_a_backend_that_does_not_answer_and_what_is_not_proved_clean_are_named() -> None:
    lease = of(LeaseState.ACTIVE)
    unclean = (
        Quarantined("unit_1", "pool_1", lease.id, "a process is left"),
        Quarantined("unit_2", "pool_1", "lse_gone", None),
    )
    _, silent, *units = told(view(lease, silent=True, quarantined=unclean))
    assert (silent.kind, silent.subject) == ("observe", "local")
    assert [(step.kind, step.subject) for step in units] == [("release_unit", "unit_1"), ("release_unit", "unit_2")]
    assert (
        units[0].reason == "in quarantine until what its lease left is gone and it is proved clean: a process is left"
    )
    assert units[1].reason == "in quarantine until its lease is over and it is proved clean: not proved clean"


def test_a_reclaim_is_kept_from_its_start_and_released_at_its_end() -> None:
    ahead = told(view(), reclaimed(4, HOUR, 2 * HOUR))
    assert [(step.kind, step.at) for step in ahead] == [("keep", NOW + HOUR), ("release", NOW + 2 * HOUR)]
    begun = told(view(), reclaimed(4, -HOUR, 2 * HOUR))
    assert [(step.kind, step.at) for step in begun] == [("release", NOW + 2 * HOUR)]
    assert told(view(), reclaimed(0, HOUR, 2 * HOUR)) == [], "leases were broken for a block; nothing is kept"


def test_hours_by_a_deadline_wait_for_accelerators_for_a_pause_or_for_their_end() -> None:
    hours: dict[str, Any] = {"service_s": 3600, "metered_s": 0, "accelerators": 1}
    waiting = of(LeaseState.PAUSED, unit_ids=(), **hours)
    hours |= {"unit_ids": ("unit_1",)}
    paused_soon = of(LeaseState.ACTIVE, reclaim_at=NOW + HOUR, reclaim_reason="the owner trains", **hours)
    planned = of(LeaseState.ACTIVE, reclaim_at=NOW + HOUR, **hours)
    runs = of(LeaseState.ACTIVE, **hours)
    for lease, kind, at, words in (
        (waiting, "resume", NOW + 2 * HOUR, "waits for idle accelerators; 1.0 of 1 h are left"),
        (paused_soon, "pause", NOW + HOUR, "the owner trains; 1.0 of 1 h are left"),
        (planned, "pause", NOW + HOUR, "a pause is planned"),
        (runs, "end", NOW + 3 * HOUR, "it runs until all its hours are delivered"),
    ):
        (step,) = told(view(lease))
        assert (step.kind, step.at) == (kind, at) and words in step.reason, step
