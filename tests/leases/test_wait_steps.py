"""Waits as steps of the plan."""

from __future__ import annotations

from sublet.leases.plan.waits import pauses_alone


def test_without_a_plan_to_reclaim_nothing_is_paused_for_the_owner() -> None:
    assert pauses_alone(None) == []
