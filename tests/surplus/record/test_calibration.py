"""What was promised against what happened: counted right, with what is known of it, and no more than that."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.classes import a_class

from sublet.surplus.model import HOUR_S
from sublet.surplus.record.calibration import (
    PARTS,
    Day,
    Outcome,
    Promise,
    Tuning,
    Verdict,
    figures,
    figures_of_leases,
    interval,
    survival,
)
from sublet.values.windows import Window

FIRM = a_class("firm", None, 10)
NOTICE = a_class("notice", 300, 10)
NOW = datetime(2026, 3, 14, tzinfo=UTC)


def day(number: int, over: int, broken: int = 0, accepted: float = 10.0) -> Day:
    return Day(number, over, over - broken, broken, accepted * over, broken_after={0: broken} if broken else {})


def test_windows_that_do_not_overlap_are_counted_as_wilson_counts_them() -> None:
    """One window of a day's length on each of 200 days, 4 broken: Wilson's 95 % interval is 7.8 to 50.3 per 1,000."""
    found = interval([day(number, 1, number % 50 == 0) for number in range(200)], 24 * HOUR_S)
    assert found.occasions == pytest.approx(200, rel=0.01)
    assert (found.low, found.high) == (pytest.approx(7.8, abs=0.2), pytest.approx(50.3, abs=0.3))


def test_windows_that_break_together_tell_less_than_their_number() -> None:
    """The same rate of 10 in 1,000: spread evenly, or all in one bad hour."""
    spread = [day(number, 100, 1) for number in range(60)]
    burst = [day(number, 100, 60 if number == 30 else 0) for number in range(60)]
    even, bad = interval(spread, HOUR_S), interval(burst, HOUR_S)
    assert even.occasions == 60 * 24, "not more than fit one after the other"
    assert bad.occasions < 200
    assert bad.low < even.low < 10 < even.high < bad.high


def test_with_none_broken_the_interval_says_how_little_that_tells() -> None:
    few, many = interval([day(1, 500)], 24 * HOUR_S), interval([day(n, 500) for n in range(365)], 24 * HOUR_S)
    assert few.low == many.low == 0
    assert few.high > 700 and 9 < many.high < 11
    assert interval([], HOUR_S).high == 1000


@given(
    st.lists(st.tuples(st.integers(1, 300), st.floats(0, 1)), min_size=1, max_size=60),
    st.sampled_from([1, 4, 12, 24, 720]),
)
def test_the_interval_holds_what_happened_and_stays_within_its_bounds(
    told: list[tuple[int, float]], hours: int
) -> None:
    days = [day(number, over, int(share * over)) for number, (over, share) in enumerate(told)]
    found = interval(days, hours * HOUR_S)
    rate = 1000 * sum(item.broken for item in days) / sum(item.over for item in days)
    assert -1e-9 <= found.low <= rate + 1e-6 and rate - 1e-6 <= found.high <= 1000 + 1e-9
    assert 0 < found.occasions <= sum(item.over for item in days) + 1e-9


def test_the_interval_covers_the_truth_where_windows_break_in_bursts() -> None:
    """200 histories of 90 days in which one hour in 100 breaks half of all windows: at least nine in ten are covered."""
    random = np.random.default_rng(5)
    covered = 0
    for _ in range(200):
        bad = random.random(90 * 24) < 0.01
        days = [day(n, 24 * 20, int(bad[24 * n : 24 * n + 24].sum()) * 10) for n in range(90)]
        found = interval(days, HOUR_S)
        covered += found.low <= 5 <= found.high
    assert covered >= 180


def test_survival_counts_who_gave_back_for_as_long_as_it_held() -> None:
    days = [
        Day(1, 10, kept=4, broken=2, released=4, broken_after={0: 1, 2: 1}, released_after={1: 4}),
    ]
    # Ten are held; one breaks of ten; four leave of nine; one breaks of five.
    assert survival(days, 4) == (0.9, 0.9, 0.72, 0.72)
    assert survival([], 4) == ()


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(0, 9), st.integers(0, 3)), max_size=9))
def test_survival_never_rises_and_without_leavers_ends_at_the_share_kept(
    told: list[tuple[int, int, int, int]],
) -> None:
    days = [
        Day(n, kept=kept, broken=broken, released=released, broken_after={part: broken}, released_after={3: released})
        for n, (kept, broken, released, part) in enumerate(told)
    ]
    found = survival(days, 4)
    assert all(later <= earlier for earlier, later in zip((1.0, *found), found, strict=False))
    over = sum(item.over for item in days)
    if over and not any(item.released for item in days):
        assert found[-1] == pytest.approx(1 - sum(item.broken for item in days) / over, abs=1e-5)


@pytest.mark.parametrize(
    ("days", "verdict", "words"),
    [
        ([], Verdict.NOTHING, "none was sold"),
        ([day(1, 41)], Verdict.OPEN, "can't tell yet: 0 of 41 broke, worth 24 that do not overlap"),
        ([day(n, 24) for n in range(30)], Verdict.WITHIN, "0 of 1,000 broke where 10 were accepted: kept (0 to 5.3)"),
        (
            [day(n, 24, 2) for n in range(60)],
            Verdict.ABOVE,
            "83.3 of 1,000 broke where 10 were accepted: more than chance",
        ),
    ],
)
def test_what_can_be_said_and_what_not_yet(days: list[Day], verdict: Verdict, words: str) -> None:
    told = figures(FIRM, HOUR_S, days, 1)
    assert told.verdict is verdict
    assert told.sentence.startswith(words)
    json.dumps(told.as_dict(), allow_nan=False)


def test_a_class_that_may_be_taken_back_has_no_accepted_share() -> None:
    told = figures(NOTICE, HOUR_S, [day(n, 24, 12) for n in range(9)], 1)
    assert (told.verdict, told.accepted_per_1000) == (Verdict.RECALLABLE, None)
    assert told.sentence.startswith("500 of 1,000 were taken back")


def test_what_happened_once_in_very_many_is_not_told_as_never() -> None:
    once = figures(NOTICE, HOUR_S, [day(1, 40_000, 1)], 1)
    assert once.sentence.startswith("less than 0.1 of 1,000 were taken back")
    assert figures(NOTICE, HOUR_S, [day(1, 40_000)], 1).sentence.startswith("0 of 1,000 were taken back")


def test_a_risk_that_was_changed_counts_as_it_was_when_the_window_was_sold() -> None:
    assert figures(FIRM, HOUR_S, [day(1, 10, accepted=2), day(2, 30, accepted=10)], 1).accepted_per_1000 == 8


def promise(outcome: Outcome, hours: float, held: float, name: str = "firm", told_s: float | None = None) -> Promise:
    window = Window.starting(NOW, hours * HOUR_S)
    over_at = NOW + timedelta(hours=held)
    return Promise(name, 2, window, outcome, over_at, None if name == "firm" else 300, told_s)


def test_leases_count_under_the_shortest_window_that_covers_them() -> None:
    promises = [
        promise(Outcome.KEPT, 0.5, 0.5),
        promise(Outcome.KEPT, 1, 1),
        promise(Outcome.BROKEN, 3, 1.5),
        promise(Outcome.RELEASED, 24, 6),
        promise(Outcome.KEPT, 25, 25),
        promise(Outcome.FAILED, 24, 0),
    ]
    found = {item.window_s // HOUR_S: item for item in figures_of_leases([FIRM], promises)}
    assert sorted(found) == [1, 4, 24, 720]
    assert (found[1].windows, found[1].kept, found[1].hours_sold) == (2, 2, 3.0)
    assert (found[4].broken, found[4].hours_lost) == (1, 3.0)
    assert found[4].survival[PARTS // 2 - 1] == 1.0 and found[4].survival[PARTS // 2] == 0.0
    assert (found[24].released, found[24].failed, found[24].windows) == (1, 1, 1), "who failed is not in the risk set"
    assert found[24].broken_per_1000 == 0


def test_a_notice_that_was_too_short_is_counted() -> None:
    kept = [promise(Outcome.BROKEN, 1, 0.5, "notice", 300), promise(Outcome.BROKEN, 1, 0.5, "notice", None)]
    (told,) = figures_of_leases([NOTICE], kept)
    assert told.short_notices == 0 and told.sentence.endswith("each with its notice")
    (told,) = figures_of_leases([NOTICE], [*kept, promise(Outcome.BROKEN, 1, 0.5, "notice", 120)])
    assert told.short_notices == 1 and "1 of them with less than its notice" in told.sentence


def test_tightening_says_since_when_and_why() -> None:
    tight = Tuning(4 * HOUR_S, 1.4, 1 / math.sqrt(1.4), NOW, None)
    assert tight.sentence == (
        "windows of 4 h: tightened since 14 March 2026: 1.40 times as many broke as was forecast, so they are sold at 0.85 "
        "of the risk accepted"
    )
    changed = Tuning(4 * HOUR_S, 2.0, 0.71, NOW, NOW)
    assert changed.sentence.startswith("windows of 4 h: demand changed, noticed on 14 March 2026")
    lately = figures(FIRM, 4 * HOUR_S, [day(1, 1000, 18)], 4)
    assert replace(tight, latest=lately).sentence == (
        f"{tight.sentence}; on paper 18 of 1,000 broke in the last 30 days where 10 were accepted"
    )
    assert "as forecast" in Tuning(HOUR_S, 1.0, 1.0, None, None).sentence
