"""A moment in what comes from outside is read as everywhere else, or refused in one sentence."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from pydantic import BaseModel, ValidationError

from sublet.values.moments import Moment


class Body(BaseModel):
    at: Moment


@pytest.mark.parametrize(
    "value", ["2026-07-02T16:00:00+02:00", datetime(2026, 7, 2, 16, tzinfo=timezone(timedelta(hours=2)))]
)
@pytest.mark.parametrize("strict", [True, False])
def test_text_and_datetimes_become_utc(value: object, strict: bool) -> None:
    at = Body.model_validate({"at": value}, strict=strict).at
    assert (at, at.tzinfo) == (datetime(2026, 7, 2, 14, tzinfo=UTC), UTC)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("9999-12-31T23:59:59-05:00", "is outside the years 1970 to 8999"),
        (datetime(1, 1, 1, tzinfo=UTC), "is outside the years 1970 to 8999"),
        ("2026-07-02T14:00:00", "has no offset; write it as 2026-07-02T14:00:00Z"),
        (datetime(2026, 7, 2), "has no offset"),  # noqa: DTZ001
        ("1751464800", "use the form 2026-07-02T14:00:00Z"),
        (1751464800, "use the form 2026-07-02T14:00:00Z"),
        (date(2026, 7, 2), "use the form 2026-07-02T14:00:00Z"),
        (True, "use the form 2026-07-02T14:00:00Z"),
        (None, "use the form 2026-07-02T14:00:00Z"),
    ],
)
def test_anything_else_is_refused_in_one_sentence(value: object, words: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Body.model_validate({"at": value})
    [error] = caught.value.errors()
    assert words in error["msg"] and not error["msg"].startswith("Value error")


def test_the_interface_says_that_it_is_a_time() -> None:
    assert Body.model_json_schema()["properties"]["at"]["format"] == "date-time"
