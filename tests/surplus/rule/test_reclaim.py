"""Who is taken back: enough, in time, and with the least value destroyed."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sublet.surplus.rule import reclaim
from sublet.surplus.rule.reclaim import Holding, least_destroyed, youngest_first
from sublet.values.money import NANO


def holding(name: str, accelerators: int = 1, **others: int) -> Holding:
    told = {"rate_nano": NANO, "credit_nano": 0, "served_s": 3600, "left_s": 3600, "drain_s": 60, **others}
    return Holding(name, accelerators, "spot", **told)  # type: ignore[arg-type]


def taken(holdings: list[Holding], count: int, by_s: int = 600) -> list[str]:
    return [item.id for item in least_destroyed(holdings, count, by_s)]


def test_young_cheap_and_uncredited_go_first() -> None:
    assert taken([holding("old", served_s=36_000), holding("young", served_s=60)], 1) == ["young"]
    assert taken([holding("dear", rate_nano=5 * NANO), holding("cheap")], 1) == ["cheap"]
    assert taken([holding("credited", credit_nano=NANO), holding("plain")], 1) == ["plain"]
    assert taken([holding("saved", served_s=36_000, checkpoint_age_s=60), holding("unsaved", served_s=7200)], 1) == [
        "saved"
    ]


def test_a_large_one_alone_is_better_than_two_and_a_large_one() -> None:
    assert taken([holding("a", served_s=0), holding("b", served_s=0), holding("eight", 8)], 8) == ["eight"]


held = st.tuples(st.integers(1, 8), st.integers(0, 9000), st.integers(0, 9000), st.integers(0, 5 * NANO))


def of(told: list[tuple[int, int, int, int]], **others: int) -> list[Holding]:
    return [
        holding(f"h{index:02}", size, served_s=served, left_s=left, credit_nano=credit, **others)
        for index, (size, served, left, credit) in enumerate(told)
    ]


def freed(holdings: list[Holding]) -> int:
    return sum(item.accelerators for item in holdings)


def destroyed(holdings: list[Holding]) -> int:
    return sum(item.destroyed_nano for item in holdings)


def test_the_sentence_says_what_is_destroyed() -> None:
    item = holding("a", 2, credit_nano=NANO // 2)
    assert (
        item.sentence == "frees 2 in 60 s and destroys 4.50: credit 0.5000, 60 min of income 2.00, 60 min of work 2.00"
    )


def test_the_whole_is_weighed_and_not_each_by_itself() -> None:
    """By value per accelerator `three` would go first, and `two` after it: 7 for what 6 can give."""
    told = [
        holding("three", 3, served_s=0, left_s=0, credit_nano=3 * NANO),
        holding("two", 2, served_s=0, left_s=0, credit_nano=4 * NANO),
        holding("four", 4, served_s=0, left_s=0, credit_nano=6 * NANO),
    ]
    assert [item.id for item in least_destroyed(told, 4)] == ["four"]


@given(st.lists(st.tuples(held, st.sampled_from([10, 700])), max_size=12), st.integers(1, 30))
def test_enough_is_freed_where_enough_can_be_and_nothing_is_needless(
    told: list[tuple[tuple[int, int, int, int], int]], count: int
) -> None:
    holdings = [
        holding(f"h{index}", size, served_s=served, left_s=left, credit_nano=credit, drain_s=drain)
        for index, ((size, served, left, credit), drain) in enumerate(told)
    ]
    found = least_destroyed(holdings, count, 600)
    able = freed([item for item in holdings if item.drain_s <= 600])
    late = [item for item in found if item.drain_s > 600]
    assert freed(found) >= min(count, freed(holdings))
    assert bool(late) == (able < min(count, freed(holdings)))
    assert all(freed(found) - item.accelerators < count for item in found)
    assert found == least_destroyed(list(reversed(holdings)), count, 600)


@given(st.lists(held, max_size=8), st.integers(1, 40))
def test_no_other_set_that_frees_enough_destroys_less(told: list[tuple[int, int, int, int]], count: int) -> None:
    holdings = of(told)
    found = least_destroyed(holdings, count)
    enough = [
        list(some)
        for many in range(len(holdings) + 1)
        for some in combinations(holdings, many)
        if freed(list(some)) >= min(count, freed(holdings))
    ]
    best = min((destroyed(some), len(some)) for some in enough)
    if freed(holdings) >= count:
        assert (destroyed(found), len(found)) == best
    else:
        assert freed(found) == freed(holdings)


@given(st.lists(st.tuples(held, st.integers(0, 2)), max_size=12), st.integers(1, 60))
def test_a_firmer_class_gives_only_what_the_looser_ones_can_not(
    told: list[tuple[tuple[int, int, int, int], int]], count: int
) -> None:
    holdings = [
        holding(f"h{index:02}", size, served_s=served, left_s=left, credit_nano=credit, turn=turn)
        for index, ((size, served, left, credit), turn) in enumerate(told)
    ]
    found = least_destroyed(holdings, count)
    plain = youngest_first(holdings, count)
    for turn in range(3):
        looser = freed([item for item in holdings if item.turn < turn])
        mine = [item for item in found if item.turn == turn]
        assert not mine or looser < count
        theirs = [item for item in plain if item.turn == turn]
        assert destroyed(mine) <= destroyed(theirs)
    assert destroyed(found) <= destroyed(plain)
    assert all(freed(found) - item.accelerators < count for item in found)


@given(st.lists(held, min_size=1, max_size=30), st.integers(1, 120), st.sampled_from([0, 20, 200]))
def test_where_there_are_too_many_to_weigh_them_all_nothing_is_worse_than_the_plain_order(
    told: list[tuple[int, int, int, int]], count: int, cells: int
) -> None:
    holdings = of(told)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reclaim, "EXACT_CELLS_MAX", cells)
        found = least_destroyed(holdings, count)
        again = least_destroyed(holdings[::-1], count)
    assert freed(found) >= min(count, freed(holdings))
    assert all(freed(found) - item.accelerators < count for item in found)
    assert destroyed(found) <= destroyed(youngest_first(holdings, count))
    assert found == again


def test_who_is_late_goes_after_who_drains_in_time() -> None:
    late = holding("late", 2, drain_s=900, served_s=0, left_s=0)
    prompt = holding("prompt", 2, drain_s=100, served_s=90_000)
    assert least_destroyed([late, prompt], 2, by_s=600) == [prompt]
    assert least_destroyed([late, prompt], 4, by_s=600) == [prompt, late]
    assert least_destroyed([late, prompt], 2) == [late]


def test_amounts_beyond_any_machine_word_are_weighed() -> None:
    dear = [holding(f"h{index}", 4096, rate_nano=10**15, left_s=90 * 86_400) for index in range(40)]
    cheap = [holding(f"i{index}", 4096, rate_nano=10**14, left_s=90 * 86_400) for index in range(2)]
    assert least_destroyed([*dear, *cheap], 8192) == cheap
