"""Pages of a list: every row that was there is shown once, in order, whatever is inserted or deleted meanwhile."""

from __future__ import annotations

import contextlib
import random
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import insert, select

from sublet.store import Store
from sublet.store.paging import InvalidCursorError, Listing, Page, PageRequest, decode, encode, page_of
from sublet.store.tables.accounts import organizations
from sublet.values.clock import SimulatedClock

EXAMPLES = 25
COLUMNS = (organizations.c.created_at, organizations.c.id)


def _insert(store: Store, numbers: list[tuple[int, int]]) -> None:
    start = store.clock.now()
    rows = [
        {"id": f"org_{number}", "name": f"n{number}", "kind": "customer", "currency": "USD", "timezone": "UTC",
         "status": "active", "created_at": start + timedelta(microseconds=at)}
        for number, at in numbers
    ]  # fmt: skip
    if rows:
        store.write(lambda connection: connection.execute(insert(organizations), rows) and None)


def _page(store: Store, listing: Listing, limit: int, after: str | None) -> Page[str]:
    with store.read() as connection:
        return listing.read(connection, select(organizations), PageRequest(limit, after)).map(lambda row: str(row.id))


@pytest.mark.parametrize("descending", [False, True])
def test_rows_that_were_there_come_once_and_in_order_while_others_come_and_go(
    any_store: Store, descending: bool
) -> None:
    listing = Listing("organizations", COLUMNS, descending)
    for seed in range(EXAMPLES):
        chance = random.Random(seed)
        any_store.write(lambda connection: connection.execute(organizations.delete()) and None)
        # Few moments, so that many rows share one and the id decides.
        first = [(number, chance.randrange(4)) for number in chance.sample(range(100), chance.randrange(14))]
        _insert(any_store, first)
        expected = sorted((at, f"org_{number}") for number, at in first)
        seen: list[str] = []
        after: str | None = None
        fresh = iter(range(100, 200))
        for _ in range(200):
            page = _page(any_store, listing, chance.randrange(1, 6), after)
            seen += page.items
            after = page.next
            if after is None:
                break
            assert page.items, f"seed {seed}"
            _insert(any_store, [(next(fresh), chance.randrange(4)) for _ in range(chance.randrange(2))])
        assert after is None and len(set(seen)) == len(seen), f"seed {seed}"
        old = [item for item in seen if int(item[4:]) < 100]
        wanted = [name for _, name in expected]
        assert old == (wanted[::-1] if descending else wanted), f"seed {seed}"


def test_a_page_reads_no_more_than_it_shows(store: Store, clock: SimulatedClock) -> None:
    _insert(store, [(number, number) for number in range(30)])
    listing = Listing("organizations", COLUMNS)
    page = _page(store, listing, 10, None)
    assert len(page.items) == 10 and page.next is not None
    assert _page(store, listing, 20, page.next).next is None, "exactly the rest is the last page"


@given(st.lists(st.one_of(st.integers(-(2**61), 2**61), st.text(st.characters(blacklist_characters="\0"))), max_size=4))
def test_a_cursor_says_its_key(key: list[int | str]) -> None:
    assert decode("things", encode("things", key)) == key
    with pytest.raises(InvalidCursorError):
        decode("others", encode("things", key))


GOOD = encode("things", [1, "a"])
BROKEN = [
    "", "x", "lse_01", "====", "é", "W10", "bnVsbA", "WyJ0aGluZ3MiLHRydWVd", "WyJ0aGluZ3MiLDEuNV0", "W1tbW1tb" * 50,
    encode("other", [1, "a"]), GOOD + "=", " " + GOOD, GOOD[:-1], encode("things", [1, "a\0"]), encode("things", [2**63, "a"]),
]  # fmt: skip


@pytest.mark.parametrize("cursor", BROKEN)
def test_what_is_no_cursor_is_refused(cursor: str) -> None:
    with pytest.raises(InvalidCursorError):
        decode("things", cursor)


@settings(max_examples=200)
@given(st.text(max_size=60))
def test_nothing_that_is_sent_as_a_cursor_breaks(sent: str) -> None:
    with contextlib.suppress(InvalidCursorError):
        assert encode("things", decode("things", sent)) == sent


@pytest.mark.parametrize("key", [[], [1], ["a", "b"], [1, 2], [-1, "a"], [2**60, "a"], [1, "a", "b"]])
def test_a_cursor_of_another_shape_is_refused(store: Store, key: list[int | str]) -> None:
    with pytest.raises(InvalidCursorError):
        _page(store, Listing("things", COLUMNS), 1, encode("things", key))


@given(st.sets(st.text(max_size=3)), st.integers(1, 4))
def test_a_list_in_memory_has_the_same_pages(names: set[str], limit: int) -> None:
    clean = {name for name in names if "\0" not in name and not any("\ud800" <= letter <= "\udfff" for letter in name)}
    seen: list[str] = []
    after: str | None = None
    while True:
        page = page_of("names", clean, str, PageRequest(limit, after))
        assert len(page.items) <= limit
        seen += page.items
        after = page.next
        if after is None:
            break
    assert seen == sorted(clean)
