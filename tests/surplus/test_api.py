"""The routes of the surplus answer every time that there is, or say why not."""

from __future__ import annotations

import pytest
from fastapi.testclient import TestClient
from tests.classes import a_class
from tests.permissions import everybody

from sublet.api.http import frame
from sublet.demand.service import Demand
from sublet.store import Store
from sublet.surplus.api import router
from sublet.surplus.model import PoolFacts
from sublet.surplus.service import Surplus
from sublet.values.clock import SimulatedClock
from sublet.values.service_classes import WINDOW_S_MAX

POLICIES = (a_class("firm", None, 10), a_class("notice", 300, 10), a_class("spot", 120, 1000))


@pytest.mark.parametrize(
    ("start", "words"),
    [
        ("0001-01-01T00:00:00+23:59", "start: time 0001-01-01T00:00:00+23:59 is outside the years 1970 to 8999"),
        ("0001-01-01T00:00:00Z", "is outside the years 1970 to 8999"),
        ("9999-12-31T23:59:59Z", "is outside the years 1970 to 8999"),
        ("9999-12-31T23:59:59-05:00", "is outside the years 1970 to 8999"),
        ("1970-01-01T00:00:00Z", "in the past"),
        ("8999-12-31T23:59:59Z", "days ahead, beyond the forecast"),
    ],
)
def test_a_start_at_the_ends_of_the_calendar_is_refused(
    store: Store, clock: SimulatedClock, start: str, words: str
) -> None:
    surplus = Surplus(Demand(store), lambda _, __: PoolFacts("p", "new", 8), lambda _, __: (), POLICIES, clock)
    api = frame("surplus")
    api.include_router(router(surplus, everybody, clock.now))
    with TestClient(api, raise_server_exceptions=False) as client:
        answer = client.get("/v1/surplus/p/firm", params={"start": start, "window_s": WINDOW_S_MAX})
    assert answer.status_code == 400, answer.text
    assert words in answer.json()["error"]["message"]
