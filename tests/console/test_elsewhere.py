"""The pages of sign-in with a provider: cookies, where one ends up, and what others can make a browser do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from tests.accounts.lying_provider import ISSUER, LyingProvider

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
from sublet.console.signing import signing_router
from sublet.store import Store
from sublet.store.sealing import sealing_of

EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"


class Elsewhere:
    """A console behind https that trusts a provider, and a browser."""

    def __init__(self, store: Store, folder: Path, scheme: str = "https") -> None:
        accounts = Accounts(store)
        accounts.create_organization("acme")
        self.sessions, people = Sessions(accounts), People(accounts)
        self.provider = LyingProvider(store.clock)
        settings = OidcProvider.model_validate(
            {
                "label": EVIL[:60],
                "issuer": ISSUER,
                "client_id": "sublet",
                "domains": ["acme.test"],
                "rules": [{"organization": "acme", "role": "customer_admin"}],
            }
        )
        elsewhere = SignInElsewhere(
            accounts,
            self.sessions,
            {"sso": settings},
            f"{scheme}://console.test",
            lambda: sealing_of(folder),
            self.provider.http,
        )
        doors = Doors(self.sessions, people, elsewhere, Passkeys(accounts, self.sessions))
        shown = (account_screen(doors),)
        pages, app = Pages(shown), FastAPI()
        app.include_router(signing_router(doors, pages))
        app.include_router(elsewhere_router(doors, pages))
        app.include_router(router(accounts, self.sessions, pages, shown))
        self.app = app
        self.browser = TestClient(app, base_url=f"{scheme}://console.test", follow_redirects=False)

    def there_and_back(self, path: str = "/oidc/sso/start", browser: TestClient | None = None):  # type: ignore[no-untyped-def]
        page = self.browser.get(path)
        assert page.status_code == 303, page.text
        answer = self.provider.sign_in(page.headers["location"])
        return (browser or self.browser).get("/oidc/sso/callback", params=answer)


@pytest.fixture
def house(store: Store, tmp_path: Path) -> Iterator[Elsewhere]:
    yield Elsewhere(store, tmp_path)


def test_cookies_belong_to_this_host_over_https_and_the_one_of_the_way_is_used_up(house: Elsewhere) -> None:
    page = house.browser.get("/oidc/sso/start?next=/account")
    assert urlsplit(page.headers["location"]).netloc == "idp.test"
    cookie = page.headers["set-cookie"]
    assert cookie.startswith("__Host-sublet_sign_in=") and "Max-Age=600" in cookie
    for flag in ("HttpOnly", "Secure", "SameSite=lax", "Path=/"):
        assert flag in cookie
    assert "Domain" not in cookie
    back = house.browser.get("/oidc/sso/callback", params=house.provider.sign_in(page.headers["location"]))
    assert back.status_code == 303 and back.headers["location"] == "/account"
    kept = back.headers.get_list("set-cookie")
    assert any(item.startswith("__Host-sublet_session=") and "Secure" in item for item in kept)
    assert any(item.startswith('__Host-sublet_sign_in=""') for item in kept)
    assert "ada@acme.test" in house.browser.get("/account").text


@pytest.mark.parametrize(
    "then", ["//evil.test", "/\\evil.test", "https://evil.test", "/a%0d%0ab", "javascript:1", "x" * 600]
)
def test_one_ends_up_on_the_console_whatever_a_link_says(house: Elsewhere, then: str) -> None:
    for path in (f"/oidc/sso/start?next={then}", f"/oidc/sso/verify?next={then}"):
        assert house.there_and_back(path).headers["location"] in ("/", "/account")


def test_a_session_from_before_ends_and_another_browser_gets_nothing(house: Elsewhere) -> None:
    house.there_and_back()
    before = house.browser.cookies["__Host-sublet_session"]
    house.there_and_back()
    assert house.browser.cookies["__Host-sublet_session"] != before and house.sessions.find(before) is None
    victim = TestClient(house.app, base_url="https://console.test", follow_redirects=False)
    lured = house.there_and_back(browser=victim)
    assert lured.status_code == 401 and "sublet_session" not in lured.headers.get("set-cookie", "")


def test_markup_in_a_provider_or_an_answer_stays_text(house: Elsewhere) -> None:
    page = house.browser.get("/login").text
    assert "<script>alert" not in page and "&lt;script&gt;alert" in page
    refused = house.browser.get("/oidc/sso/callback", params={"error": EVIL, "error_description": EVIL, "state": EVIL})
    assert refused.status_code == 401 and "<script>alert" not in refused.text
    refused = house.browser.get("/oidc/sso/callback", params={"code": "x" * 9_000})
    assert refused.status_code == 401
    assert house.browser.get("/oidc/nobody/start").status_code == 404
    house.provider.lie = "away"
    away = house.browser.get("/oidc/sso/start")
    assert away.status_code == 503 and "does not answer" in away.text and away.headers["retry-after"]


def test_signing_out_needs_the_form_and_leads_on_by_a_page(house: Elsewhere) -> None:
    house.there_and_back()
    assert house.browser.post("/logout", data={"form_token": "x"}).status_code == 403
    page = house.browser.get("/account").text
    token = page.split('name="form_token" value="')[1].split('"')[0]
    out = house.browser.post("/logout", data={"form_token": token})
    assert out.status_code == 200 and f'content="0; url={ISSUER}/end?client_id=sublet&amp;' in out.text
    assert house.browser.get("/account").status_code == 303


def test_the_provider_signs_out_by_a_signed_token_alone(house: Elsewhere) -> None:
    house.there_and_back()
    for token in ("", "x", "a.b.c"):
        assert house.browser.post("/oidc/sso/backchannel", data={"logout_token": token}).status_code == 400
    assert house.browser.get("/account").status_code == 200
    said = house.browser.post("/oidc/sso/backchannel", data={"logout_token": house.provider.logout_token()})
    assert said.status_code == 200 and said.headers["cache-control"] == "no-store"
    assert house.browser.get("/account").status_code == 303
