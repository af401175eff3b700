"""Who is taken back: enough, in time, and with the least value destroyed."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from sublet.surplus.reclaim import Holding, reclaim_plan
from sublet.values.money import NANO
from sublet.values.plan import diff

AT = datetime(2026, 3, 1, tzinfo=UTC)


def holding(name: str, accelerators: int = 1, **others: int) -> Holding:
    told = {"rate_nano": NANO, "credit_nano": 0, "served_s": 3600, "left_s": 3600, "drain_s": 60, **others}
    return Holding(name, accelerators, "spot", **told)  # type: ignore[arg-type]


def taken(holdings: list[Holding], count: int, by_s: int = 600) -> list[str]:
    return [step.subject for step in reclaim_plan(holdings, count, by_s, AT).steps]


def test_young_cheap_and_uncredited_go_first() -> None:
    assert taken([holding("old", served_s=36_000), holding("young", served_s=60)], 1) == ["young"]
    assert taken([holding("dear", rate_nano=5 * NANO), holding("cheap")], 1) == ["cheap"]
    assert taken([holding("credited", credit_nano=NANO), holding("plain")], 1) == ["plain"]
    assert taken([holding("saved", served_s=36_000, checkpoint_age_s=60), holding("unsaved", served_s=7200)], 1) == [
        "saved"
    ]


def test_who_cannot_drain_in_time_is_left_alone_and_the_rest_is_said() -> None:
    plan = reclaim_plan([holding("slow", drain_s=3600), holding("quick")], 3, 600, AT)
    assert [(step.kind, step.subject) for step in plan.steps] == [("reclaim", "quick"), ("short", "owner")]
    assert plan.steps[-1].details == {"missing": 2}


def test_a_large_one_alone_is_better_than_two_and_a_large_one() -> None:
    assert taken([holding("a", served_s=0), holding("b", served_s=0), holding("eight", 8)], 8) == ["eight"]


def test_a_plan_can_be_diffed() -> None:
    before = reclaim_plan([holding("a"), holding("b", served_s=7200)], 1, 600, AT)
    after = reclaim_plan([holding("a", served_s=9000), holding("b", served_s=7200)], 1, 600, AT)
    assert [line[:11] for line in diff(before, after)] == ["- reclaim a", "+ reclaim b"]


@given(
    st.lists(
        st.tuples(st.integers(1, 8), st.integers(0, 9000), st.integers(0, 9000), st.sampled_from([10, 700])),
        max_size=12,
    ),
    st.integers(1, 30),
)
def test_enough_is_freed_where_enough_can_be_and_nothing_is_needless(
    told: list[tuple[int, int, int, int]], count: int
) -> None:
    holdings = [
        holding(f"h{index}", size, served_s=served, left_s=left, drain_s=drain)
        for index, (size, served, left, drain) in enumerate(told)
    ]
    plan = reclaim_plan(holdings, count, 600, AT)
    freed = [step.details["accelerators"] for step in plan.steps if step.kind == "reclaim"]
    able = sum(item.accelerators for item in holdings if item.drain_s <= 600)
    assert sum(freed) >= min(count, able)
    assert (plan.steps[-1].kind == "short") == (able < count) if plan.steps else count == 0
    assert all(sum(freed) - size < count for size in freed)
    assert plan == reclaim_plan(list(reversed(holdings)), count, 600, AT)
