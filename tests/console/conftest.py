"""A console served in the test's own process, with three keys that open it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from tests.console.sample import sample_budgets, sample_overview, sample_record

from sublet.accounts.model import ApiKey, secret_sha256
from sublet.accounts.oidc.service import SignInElsewhere
from sublet.accounts.passkeys.service import Passkeys
from sublet.accounts.people.service import People
from sublet.accounts.people.sessions import Sessions
from sublet.accounts.service import Accounts
from sublet.accounts.store import insert_key
from sublet.console import Overview, Page, Screen
from sublet.console.account import account_screen
from sublet.console.budgets import budgets_page
from sublet.console.doors import Doors
from sublet.console.frame import Pages
from sublet.console.model import RecordView
from sublet.console.overview import overview_page
from sublet.console.pages import router
from sublet.console.passkeys import passkey_router, passkeys_screen
from sublet.console.record import record_page
from sublet.console.signing import signing_router
from sublet.store import Store
from sublet.store.sealing import sealing_of
from sublet.values.clock import SimulatedClock
from sublet.values.errors import NotFoundError

OPERATOR_KEY = "sublet_operator"
CUSTOMER_KEY = "sublet_customer"
INTERNAL_KEY = "sublet_internal"


def named_record(pool: str | None, at: datetime) -> RecordView:
    """The sample's record; of a pool that nobody has filled there is none."""
    if pool not in (None, "h100-berlin", "not-seen-yet"):
        raise NotFoundError(f"there is no pool {pool!r}; choose another one")
    found = sample_record(at)
    return found if pool != "not-seen-yet" else replace(found, record=None)


@pytest.fixture
def accounts(store: Store) -> Accounts:
    """One organization of each kind, with a key that the tests know."""
    found = Accounts(store)
    for kind, secret, scope in (
        ("operator", OPERATOR_KEY, "operate"),
        ("customer", CUSTOMER_KEY, "leases"),
        ("internal", INTERNAL_KEY, "claims"),
    ):
        owner = found.create_organization(f"the {kind}", kind)
        key = ApiKey(f"key_{kind}", owner.id, kind, secret[-4:], (scope,), store.clock.now(), None, None)
        store.write(lambda connection, key=key, secret=secret: insert_key(connection, key, secret_sha256(secret)))
    return found


@pytest.fixture
def sessions(accounts: Accounts) -> Sessions:
    return Sessions(accounts)


@pytest.fixture
def people(accounts: Accounts, tmp_path: Path) -> People:
    return People(accounts, "http://console.test", lambda: sealing_of(tmp_path))


@pytest.fixture
def elsewhere(accounts: Accounts, sessions: Sessions, tmp_path: Path) -> SignInElsewhere:
    return SignInElsewhere(accounts, sessions, {}, "http://console.test", lambda: sealing_of(tmp_path))


@pytest.fixture
def console(
    accounts: Accounts, sessions: Sessions, people: People, elsewhere: SignInElsewhere
) -> Callable[..., FastAPI]:
    """Makes a console of the given pages, and of the account's."""

    def made(*given: Page | Screen) -> FastAPI:
        app = FastAPI()
        doors = Doors(sessions, people, elsewhere, Passkeys(accounts, sessions))
        shown = (*given, account_screen(doors), passkeys_screen(doors))
        pages = Pages(shown)
        app.include_router(signing_router(doors, pages))
        app.include_router(passkey_router(doors, pages))
        app.include_router(router(accounts, sessions, pages, shown))
        return app

    return made


@pytest.fixture
def serve(console: Callable[..., FastAPI], clock: SimulatedClock) -> Callable[[Callable[[], Overview]], TestClient]:
    """Makes a client of a console that shows what the given function gathers; redirects are not followed."""

    def start(overview: Callable[[], Overview]) -> TestClient:
        app = console(
            overview_page(overview),
            budgets_page(lambda query: sample_budgets(clock.now(), query)),
            record_page(lambda pool: named_record(pool, clock.now())),
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
