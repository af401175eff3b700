"""A plan can be read, kept and diffed."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from sublet.values.plan import Plan, Step, diff, plan_from_dict

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def _plan(*steps: Step) -> Plan:
    return Plan(NOW, steps)


def test_equal_plans_have_no_difference_even_when_made_later() -> None:
    step = Step("reclaim", "lse_1", "claim clm_1 needs it", NOW, {"notice_s": 300})
    assert diff(_plan(step), Plan(NOW + timedelta(hours=1), (step,))) == []


def test_new_gone_and_changed_steps_are_told_apart() -> None:
    before = _plan(Step("start", "rep_1", "surplus grew"), Step("reclaim", "lse_1", "claim", NOW))
    after = _plan(
        Step("reclaim", "lse_1", "claim moved", NOW + timedelta(seconds=1)), Step("drain", "rep_2", "surplus shrank")
    )
    assert diff(before, after) == [
        "- start rep_1: surplus grew",
        "~ reclaim lse_1: claim moved",
        "+ drain rep_2: surplus shrank",
    ]
    assert diff(_plan(), before) == ["+ start rep_1: surplus grew", "+ reclaim lse_1: claim"]


def test_a_step_of_the_same_kind_on_another_subject_is_another_step() -> None:
    assert diff(_plan(Step("start", "a", "r")), _plan(Step("start", "b", "r"))) == ["- start a: r", "+ start b: r"]


def test_details_alone_are_a_change() -> None:
    assert diff(_plan(Step("k", "s", "r", details={"n": 1})), _plan(Step("k", "s", "r", details={"n": 2}))) == [
        "~ k s: r"
    ]


def test_a_plan_becomes_json() -> None:
    plan = _plan(Step("reclaim", "lse_1", "why", NOW, {"notice_s": 300}), Step("start", "rep_1", "why"))
    assert json.loads(json.dumps(plan.as_dict())) == {
        "made_at": "2026-03-01T00:00:00Z",
        "steps": [
            {
                "kind": "reclaim",
                "subject": "lse_1",
                "reason": "why",
                "at": "2026-03-01T00:00:00Z",
                "details": {"notice_s": 300},
            },
            {"kind": "start", "subject": "rep_1", "reason": "why", "at": None, "details": {}},
        ],
        "pending": [],
    }


def test_a_plan_is_read_back_as_it_was_written() -> None:
    plan = _plan(Step("reclaim", "lse_1", "why", NOW, {"notice_s": 300}), Step("start", "rep_1", "why"))
    assert plan_from_dict(json.loads(json.dumps(plan.as_dict()))) == plan


@pytest.mark.parametrize(
    "told", [{}, [], {"made_at": "x", "steps": []}, {"made_at": "2026-01-01T00:00:00Z", "steps": [1]}]
)
def test_what_is_no_plan_is_refused(told: object) -> None:
    with pytest.raises((ValueError, KeyError, TypeError)):
        plan_from_dict(told)  # type: ignore[arg-type]
