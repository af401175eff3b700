"""The whole sign-in with a provider in a real Chromium: `oidc-provider` with its own pages, consent, sessions and logouts.

SUBLET_TEST_OIDC_PROVIDER names a folder with `provider.mjs` and what `npm ci` put beside it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
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
from sublet.config.identity import OidcProvider
from sublet.console.account import account_screen
from sublet.console.doors import Doors
from sublet.console.elsewhere import elsewhere_router
from sublet.console.frame import Pages
from sublet.console.pages import router
from sublet.console.running import Running
from sublet.console.signing import signing_router
from sublet.store import Store
from sublet.store.schema import migrate
from sublet.store.sealing import sealing_of
from sublet.values.clock import SystemClock

pytestmark = pytest.mark.real
CLIENT_SECRET = "for-tests-only-0123456789-0123456789"


@pytest.fixture
def ports() -> tuple[int, int]:
    return free_port(), free_port()


@pytest.fixture
def provider(ports: tuple[int, int]) -> Iterator[str]:
    folder = os.environ.get("SUBLET_TEST_OIDC_PROVIDER", "")
    node = shutil.which("node", path=f"{folder}/bin:{os.environ.get('PATH', '')}")
    if not folder or node is None:
        pytest.skip("there is no oidc-provider; SUBLET_TEST_OIDC_PROVIDER names the folder of one")
    console, own = ports
    known = {"PORT": str(own), "CONSOLE": f"http://127.0.0.1:{console}", "CLIENT_SECRET": CLIENT_SECRET}
    program = subprocess.Popen(
        [node, "provider.mjs"], cwd=folder, env={**os.environ, **known}, stdout=subprocess.PIPE, text=True
    )
    assert program.stdout is not None and program.stdout.readline().strip() == "ready"
    yield f"http://127.0.0.1:{own}"
    program.terminate()
    program.wait(timeout=10)
    program.stdout.close()


@pytest.fixture
def console(ports: tuple[int, int], provider: str, tmp_path: Path) -> Iterator[str]:
    store = Store(f"sqlite:///{tmp_path}/sublet.db", SystemClock())
    migrate(store)
    accounts = Accounts(store)
    accounts.create_organization("acme")
    sessions, people = Sessions(accounts), People(accounts)
    settings = OidcProvider.model_validate(
        {
            "label": "Acme",
            "issuer": provider,
            "client_id": "sublet",
            "client_secret": CLIENT_SECRET,
            "scopes": "openid email profile groups",
            "domains": ["acme.test"],
            "rules": [{"group": "admins", "organization": "acme", "role": "customer_admin"}],
        }
    )
    address = f"http://127.0.0.1:{ports[0]}"
    elsewhere = SignInElsewhere(accounts, sessions, {"real": settings}, address, lambda: sealing_of(tmp_path))
    doors = Doors(sessions, people, elsewhere, Passkeys(accounts, sessions))
    shown = (*Running(accounts, people).screens(), account_screen(doors))
    pages, app = Pages(shown), FastAPI()
    app.include_router(signing_router(doors, pages))
    app.include_router(elsewhere_router(doors, pages))
    app.include_router(router(accounts, sessions, pages, shown))
    with serving(app, ports[0]):
        yield address
    store.close()


def opened(browser: Any) -> Any:
    """A page that reaches nothing but this machine: the provider's pages ask for a font from elsewhere."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(TIMEOUT_MS)
    context.route(lambda url: not url.startswith("http://127.0.0.1"), lambda route: route.abort())
    page = context.new_page()
    page.complaints = []
    page.on(
        "console", lambda message: page.complaints.append(message.text) if "127.0.0.1" not in message.text else None
    )
    return page


def at_the_provider(page: Any, who: str, *, consents: bool = True) -> None:
    page.fill("input[name=login]", who)
    page.fill("input[name=password]", "any")
    page.click("button[type=submit]")
    if consents:
        page.click("button[type=submit]")


def test_sign_in_act_and_sign_out_everywhere(console: str) -> None:
    with chromium() as browser:
        page, used = opened(browser), []
        page.on("request", lambda request: used.append(request.url) if "/callback" in request.url else None)
        page.goto(f"{console}/people")
        page.click("text=Sign in with Acme")
        at_the_provider(page, "ada")
        page.wait_for_url(f"{console}/people")
        assert page.inner_text(".who") == "Ada Lovelace"
        (cookie,) = [item for item in page.context.cookies() if item["name"] == "sublet_session"]
        assert cookie["httpOnly"] and cookie["sameSite"] == "Lax"
        assert all(item["name"] != "sublet_sign_in" for item in page.context.cookies()), "it is used up"
        page.goto(used[0])
        assert "began in another browser" in page.inner_text("[role=alert]"), "the back button"
        other = opened(browser)
        other.goto(used[0])
        assert "began in another browser" in other.inner_text("[role=alert]"), "a copied answer"
        page.goto(f"{console}/account")
        assert "ada@acme.test" in page.inner_text("main")
        page.click("text=Sign out >> nth=0")
        page.click("button[value=yes]")
        page.wait_for_url(f"{console}/login*")
        page.goto(f"{console}/account")
        assert page.url.startswith(f"{console}/login")
        stranger = opened(browser)
        stranger.goto(f"{console}/login")
        stranger.click("text=Sign in with Acme")
        at_the_provider(stranger, "bob")
        assert "may not sign in addresses of that domain" in stranger.inner_text("[role=alert]")


def test_confirm_again_and_be_signed_out_by_the_provider(console: str, provider: str) -> None:
    with chromium() as browser:
        page = opened(browser)
        page.goto(f"{console}/login?next=//evil.test/")
        page.click("text=Sign in with Acme")
        at_the_provider(page, "ada")
        page.wait_for_url(f"{console}/**")
        page.goto(f"{console}/verify?next=/people")
        assert page.locator("input[type=password]").count() == 0
        page.click("text=Confirm with Acme")
        at_the_provider(page, "ada", consents=False)
        page.wait_for_url(f"{console}/people")
        elsewhere = page.context.new_page()
        elsewhere.goto(f"{provider}/session/end")
        elsewhere.click("button[value=yes]")
        elsewhere.wait_for_load_state("networkidle")
        page.goto(f"{console}/people")
        assert page.url.startswith(f"{console}/login"), "the session ended with the provider's own"
