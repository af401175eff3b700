"""A console served in the test's own process, and an authority that knows three keys."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from tests.console.sample import sample_budgets, sample_overview, sample_record

from sublet.accounts.model import Actor
from sublet.console import Overview, Sessions, router
from sublet.console.budgets import budgets_page
from sublet.console.model import RecordView
from sublet.console.overview import overview_page
from sublet.console.record import record_page
from sublet.values.clock import SimulatedClock
from sublet.values.errors import NotFoundError, UnauthenticatedError

OPERATOR_KEY = "sublet_operator"
CUSTOMER_KEY = "sublet_customer"
INTERNAL_KEY = "sublet_internal"


def named_record(pool: str | None, at: datetime) -> RecordView:
    """The sample's record; of a pool that nobody has filled there is none."""
    if pool not in (None, "h100-berlin", "not-seen-yet"):
        raise NotFoundError(f"there is no pool {pool!r}; open the record of another")
    found = sample_record(at)
    return found if pool != "not-seen-yet" else replace(found, record=None)


@dataclass
class Authority:
    """Stands for accounts: who holds a key, and which keys were revoked since."""

    revoked: set[str] = field(default_factory=set)
    asked: int = 0

    def authenticate(self, secret: str) -> Actor:
        self.asked += 1
        known = {
            OPERATOR_KEY: Actor("key_operator", "org_operator", "operator", frozenset({"operate"})),
            CUSTOMER_KEY: Actor("key_customer", "org_customer", "customer", frozenset({"leases"})),
            INTERNAL_KEY: Actor("key_internal", "org_internal", "internal", frozenset({"claims"})),
        }
        if secret not in known:
            raise UnauthenticatedError()
        return known[secret]

    def still_valid(self, actor: Actor) -> bool:
        return actor.key_id not in self.revoked


@pytest.fixture
def authority() -> Authority:
    return Authority()


@pytest.fixture
def sessions(clock: SimulatedClock, authority: Authority) -> Sessions:
    return Sessions(clock, authority.authenticate, authority.still_valid)


@pytest.fixture
def serve(sessions: Sessions) -> Callable[[Callable[[], Overview]], TestClient]:
    """Makes a client of a console that shows what the given function gathers; redirects are not followed."""

    def start(overview: Callable[[], Overview]) -> TestClient:
        app = FastAPI()
        now = sessions._clock.now
        app.include_router(
            router(
                sessions,
                (
                    overview_page(overview),
                    budgets_page(lambda query: sample_budgets(now(), query)),
                    record_page(lambda pool: named_record(pool, now())),
                ),
            )
        )
        return TestClient(app, base_url="http://console.test", follow_redirects=False)

    return start


@pytest.fixture
def client(serve: Callable[[Callable[[], Overview]], TestClient], clock: SimulatedClock) -> TestClient:
    return serve(lambda: sample_overview(clock.now()))


@pytest.fixture
def signed_in(client: TestClient) -> TestClient:
    assert client.post("/login", data={"key": OPERATOR_KEY}).status_code == 303
    return client
