"""Windows are half-open and end after they start."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sublet.values.errors import InvalidInputError
from sublet.values.windows import Window

START = datetime(2026, 3, 1, tzinfo=UTC)
seconds = st.integers(min_value=0, max_value=50)
windows = st.tuples(seconds, st.integers(min_value=1, max_value=20)).map(
    lambda pair: Window.starting(START + timedelta(seconds=pair[0]), pair[1])
)


@given(windows, windows)
def test_overlap_and_contents_agree(one: Window, other: Window) -> None:
    both = [
        offset
        for offset in range(80)
        if one.contains(START + timedelta(seconds=offset)) and other.contains(START + timedelta(seconds=offset))
    ]
    assert one.overlaps(other) == other.overlaps(one) == bool(both)


def test_the_end_is_not_inside_and_neighbors_do_not_overlap() -> None:
    first = Window.starting(START, 60)
    assert first.contains(first.start)
    assert not first.contains(first.end)
    assert not first.overlaps(Window.starting(first.end, 60))


@pytest.mark.parametrize("length_s", [0, -1])
def test_a_window_must_end_after_it_starts(length_s: int) -> None:
    with pytest.raises(InvalidInputError, match="must end after it starts; 2026-03-01T00:00:00Z to"):
        Window.starting(START, length_s)


def test_other_offsets_become_utc_and_none_is_refused() -> None:
    window = Window(datetime.fromisoformat("2026-03-01T01:00:00+01:00"), datetime.fromisoformat("2026-03-01T00:00:01Z"))
    assert window.start == START
    assert window.start.utcoffset() == timedelta(0)
    with pytest.raises(ValueError, match="no offset"):
        Window(datetime(2026, 3, 1), START)  # noqa: DTZ001
