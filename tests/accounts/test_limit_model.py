"""Limits as values: what one covers, what an organization's own leaves open, and where one may stand."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from sublet.accounts.limits.model import Allowed, Limit, checked_place
from sublet.values.errors import InvalidInputError

NOW = datetime(2026, 1, 5, tzinfo=UTC)
LIMIT = Limit("lim_1", "org_a", "project", "p", "", Allowed(concurrency=3), by_operator=False, created_at=NOW)


def test_a_limit_covers_the_calls_of_its_place_alone() -> None:
    assert LIMIT.covers("org_a", "p", "key_1") and not LIMIT.covers("org_a", "q", "key_1")
    assert not LIMIT.covers("org_b", "p", "key_1")
    assert replace(LIMIT, scope="key", scope_id="key_1").covers("org_a", "q", "key_1")
    assert replace(LIMIT, scope="organization", scope_id="").covers("org_a", "q", "key_2")
    assert replace(LIMIT, organization_id="", scope="model", scope_id="", model="m").covers("org_b", "", "key_9")


@pytest.mark.parametrize(
    ("own", "most", "word"),
    [
        (Allowed(concurrency=4), Allowed(concurrency=3), "concurrency may be 3 at most"),
        (Allowed(models=("a", "b")), Allowed(models=("a",)), "may not call b"),
        (Allowed(expires_at=NOW + timedelta(seconds=1)), Allowed(expires_at=NOW), "expires_at may be 2026-01-05"),
        (
            Allowed(concurrency=3, models=("a",), expires_at=NOW),
            Allowed(concurrency=3, models=("a",), expires_at=NOW),
            "",
        ),
        (Allowed(concurrency=3), Allowed(), ""),
    ],
)
def test_what_is_more_than_the_organization_allows_is_said(own: Allowed, most: Allowed, word: str) -> None:
    found = own.within(most)
    assert word in found if word else found == ""


@pytest.mark.parametrize(
    ("place", "word"),
    [
        (("team", "", ""), "not one of"),
        (("key", "", ""), "needs the key's id"),
        (("project", "", ""), "needs the project's name"),
        (("organization", "p", ""), "has no scope_id"),
        (("model", "p", "m"), "has no scope_id"),
        (("model", "", ""), "needs the name of a model"),
    ],
)
def test_a_place_that_cannot_be_is_refused(place: tuple[str, str, str], word: str) -> None:
    with pytest.raises(InvalidInputError, match=word):
        checked_place(("org_a", *place))
