"""Passkeys in a real Chromium with a virtual authenticator: added, used alone, after a password, and to prove again who one is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from tests.console.serving import TIMEOUT_MS, chromium, free_port, serving

from sublet.accounts.oidc.service import SignInElsewhere
from sublet.accounts.passkeys.service import Passkeys
from sublet.accounts.people.service import People
from sublet.accounts.people.sessions import Sessions
from sublet.accounts.service import Accounts
from sublet.console.account import account_screen
from sublet.console.doors import Doors
from sublet.console.frame import Pages
from sublet.console.pages import router
from sublet.console.passkeys import passkey_router, passkeys_screen
from sublet.console.signing import signing_router
from sublet.store import Store
from sublet.store.audit import Wanted, page
from sublet.store.paging import PageRequest
from sublet.store.sealing import sealing_of
from sublet.values.clock import SimulatedClock

pytestmark = pytest.mark.real
ADA, GOOD = "ada@example.com", "a long walk by the sea"


@pytest.fixture
def doors(store: Store, tmp_path: Path) -> Doors:
    accounts = Accounts(store)
    people, sessions = People(accounts), Sessions(accounts)
    acme = accounts.create_organization("acme")
    people.accept(people.invite(acme, ADA, "customer_admin", "k").secret, "Ada <b>Lovelace", GOOD, "")
    elsewhere = SignInElsewhere(accounts, sessions, {}, "", lambda: sealing_of(tmp_path))
    return Doors(sessions, people, elsewhere, Passkeys(accounts, sessions))


@pytest.fixture
def port(doors: Doors, store: Store) -> Iterator[int]:
    shown = (account_screen(doors), passkeys_screen(doors))
    pages, app = Pages(shown), FastAPI()
    app.include_router(signing_router(doors, pages))
    app.include_router(passkey_router(doors, pages))
    app.include_router(router(Accounts(store), doors.sessions, pages, shown))
    with serving(app, free_port()) as found:
        yield found


def opened(browser: Any) -> Any:
    context = browser.new_context(viewport={"width": 400, "height": 900})
    context.set_default_timeout(TIMEOUT_MS)
    found = context.new_page()
    found.complaints = []
    found.on("console", lambda message: found.complaints.append(message.text))
    found.on("pageerror", lambda error: found.complaints.append(str(error)))
    tools = context.new_cdp_session(found)
    tools.send("WebAuthn.enable")
    options = {
        "protocol": "ctap2",
        "transport": "internal",
        "hasResidentKey": True,
        "hasUserVerification": True,
        "isUserVerified": True,
        "automaticPresenceSimulation": True,
    }
    made = tools.send("WebAuthn.addVirtualAuthenticator", {"options": options})
    found.tools, found.authenticator = tools, made["authenticatorId"]
    return found


def sign_in(tab: Any, home: str) -> None:
    tab.goto(f"{home}/login")
    tab.fill("#email", ADA)
    tab.fill("#password", GOOD)
    tab.press("#password", "Enter")


def sign_out(tab: Any, home: str) -> None:
    tab.goto(f"{home}/account")
    tab.click("header button:has-text('Sign out')")
    tab.wait_for_url(f"{home}/login*")


def add(tab: Any, home: str, name: str) -> None:
    tab.goto(f"{home}/account/passkeys")
    tab.fill("#name", name)
    tab.click("main button:has-text('Add a passkey')")


def test_a_passkey_from_the_first_to_the_last(port: int, doors: Doors, store: Store, clock: SimulatedClock) -> None:
    home = f"http://localhost:{port}"
    with chromium() as browser:
        tab = opened(browser)
        sign_in(tab, home)
        add(tab, home, "Ada's <i>phone")
        tab.wait_for_selector("td:has-text('phone')")
        assert "<i>phone" in tab.inner_text("table")
        add(tab, home, "again")
        assert "already has a passkey" in tab.inner_text("[data-complaint]:visible")
        sign_out(tab, home)
        sent: list[str] = []
        tab.on("request", lambda asked: sent.append(asked.post_data or "") if asked.method == "POST" else None)
        tab.click("text=Sign in with a passkey")
        tab.click("text=Continue with a passkey")
        tab.wait_for_url(f"{home}/account")
        assert ADA in tab.inner_text("main")
        # What was signed is of no use a second time, not even in the same browser.
        tab.goto(f"{home}/login/passkey")
        replayed = tab.evaluate(
            "body => fetch('/login/passkey', {method: 'POST', body, headers: {'Content-Type': "
            "'application/x-www-form-urlencoded'}}).then(answer => answer.status)",
            sent[-1],
        )
        assert replayed == 401
        clock.advance(700)
        tab.goto(f"{home}/account/passkeys")
        assert "/verify" in tab.url
        tab.click("text=Confirm with a passkey")
        tab.wait_for_url(f"{home}/account/passkeys")
        tab.click("text=Ask for a passkey after my password")
        tab.wait_for_selector("text=Let the password alone sign me in")
        tab.click("button:has-text('Remove')")
        assert "your last passkey" in tab.inner_text("[role=alert]:visible")
        sign_out(tab, home)
        sign_in(tab, home)
        tab.wait_for_url(f"{home}/login/second")
        assert all(item["name"] != "sublet_session" for item in tab.context.cookies())
        tab.click("text=Continue with a passkey")
        tab.wait_for_url(f"{home}/account")
        stranger = opened(browser)
        sign_in(stranger, home)
        stranger.wait_for_url(f"{home}/login/second")
        stranger.click("text=Continue with a passkey")
        assert "was not used" in stranger.inner_text("[data-complaint]:visible")
        assert [text for text in tab.complaints if "401" not in text and "409" not in text] == []
    with store.read() as connection:
        did = [item["operation"] for item in page(connection, Wanted(), PageRequest(100)).items]
    for operation in ("console.sign_in", "console.sign_in_refused", "console.sign_out", "console.verify"):
        assert operation in did


def test_an_address_without_a_name_has_no_passkeys(port: int) -> None:
    with chromium() as browser:
        tab = opened(browser)
        home = f"http://127.0.0.1:{port}"
        tab.goto(f"{home}/login/passkey")
        assert "http://localhost" in tab.inner_text("[role=alert]")
        sign_in(tab, home)
        tab.goto(f"{home}/account/passkeys")
        assert "http://localhost" in tab.inner_text("[role=status]")


def test_what_is_no_passkey_is_refused(doors: Doors, port: int) -> None:
    import httpx2

    home = f"http://localhost:{port}"
    with httpx2.Client() as client:
        for credential in ("", "x", "[]", "{}", json.dumps({"id": "x"}), "9" * 13_000, '{"id": 7}', "[" * 5_000):
            client.get(f"{home}/login/passkey")
            answer = client.post(f"{home}/login/passkey", data={"credential": credential})
            assert answer.status_code in (401, 429), credential[:20]
        assert "sublet_session" not in client.cookies
        foreign = client.post(
            f"{home}/login/passkey", data={"credential": "{}"}, headers={"Origin": "http://evil.test"}
        )
        assert foreign.status_code == 403
