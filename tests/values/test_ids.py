"""Ids say what they are; a derived id is the same for the same parts, and another for others."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sublet.values.ids import PREFIXES, derived_id, new_id

parts = st.lists(st.text(max_size=8), max_size=4)


@pytest.mark.parametrize("prefix", PREFIXES)
def test_every_id_carries_its_prefix_and_120_bits(prefix: str) -> None:
    pattern = rf"{prefix}_[0-9a-hjkmnp-tv-z]{{24}}"
    assert re.fullmatch(pattern, new_id(prefix))
    assert re.fullmatch(pattern, derived_id(prefix, "part"))


def test_random_ids_differ() -> None:
    assert len({new_id("lse") for _ in range(10_000)}) == 10_000


@given(parts, parts)
def test_derived_ids_are_equal_exactly_where_their_parts_are(one: list[str], other: list[str]) -> None:
    assert (derived_id("evt", *one) == derived_id("evt", *other)) == (one == other)


@pytest.mark.parametrize(
    ("one", "other"), [(["a", "b"], ["ab"]), (["a\x1fb"], ["a", "b"]), (["1:a"], ["a"]), ([], [""])]
)
def test_parts_do_not_run_together(one: list[str], other: list[str]) -> None:
    assert derived_id("evt", *one) != derived_id("evt", *other)


def test_the_prefix_is_part_of_the_name() -> None:
    assert derived_id("evt", "a")[4:] == derived_id("txn", "a")[4:]
    assert derived_id("evt", "a") != derived_id("txn", "a")


@pytest.mark.parametrize("make", [new_id, derived_id])
def test_an_unknown_prefix_is_refused(make: object) -> None:
    with pytest.raises(ValueError, match="not a known id prefix"):
        make("xyz")  # type: ignore[operator]
