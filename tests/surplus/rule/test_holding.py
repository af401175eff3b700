"""All sold windows together hold what each of them holds alone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.classes import a_class

from sublet.surplus.model import Sold
from sublet.surplus.rule.holding import Spans, hold
from sublet.values.clock import to_micros
from sublet.values.windows import Window

POLICIES = {
    policy.name: policy
    for policy in (a_class("firm", None, 10), a_class("notice", 300, 10), a_class("spot", 120, 1000))
}
END = datetime(2026, 3, 1, tzinfo=UTC)


@given(
    sold=st.lists(
        st.tuples(
            st.integers(-3 * 86_400, 3 * 86_400),
            st.integers(1, 3 * 86_400),
            st.integers(1, 9),
            st.sampled_from(["firm", "notice", "spot", "block"]),
        ),
        max_size=30,
    ),
    slot_s=st.sampled_from([60, 300, 3600]),
    passed_s=st.integers(0, 3599),
    at_us=st.integers(0, 999_999),
)
@settings(deadline=None)
def test_all_sold_windows_at_once_hold_what_they_hold_one_by_one(
    sold: list[tuple[int, int, int, str]], slot_s: int, passed_s: int, at_us: int
) -> None:
    at, slots = END + timedelta(microseconds=at_us), 40
    book = [Sold(many, name, Window.starting(at + timedelta(seconds=ahead), long)) for ahead, long, many, name in sold]
    grid = at - timedelta(seconds=passed_s % slot_s)
    expected = np.zeros(slots)
    for item in book:
        span, count = hold(item, POLICIES, at)
        if span.end <= at:
            continue
        for slot in range(slots):
            begin = grid + timedelta(seconds=slot * slot_s)
            if max(span.start, at) < begin + timedelta(seconds=slot_s) and span.end > begin:
                expected[slot] += count
    spans = Spans.of(book, POLICIES, to_micros(at))
    assert spans.held(to_micros(grid), slot_s, slots).tolist() == expected.tolist()
