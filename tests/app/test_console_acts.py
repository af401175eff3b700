"""The console's screens on a whole control plane: a customer rents, an operator lets people in, and an attacker gets nowhere."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from httpx2 import Response
from tests.leases.world import KEY

from sublet.accounts.people.model import LANGUAGES
from sublet.console.languages import CATALOGS, NAMED, chosen, used
from sublet.console.page import Page
from sublet.control.plane import ControlPlane, build_api
from sublet.ledger.plans.model import plan_from_dict
from sublet.ledger.plans.service import Wanted
from sublet.reporting.console_pages import console_pages
from sublet.reporting.overview import Overviews
from sublet.simulation.world import World
from sublet.store.paging import PageRequest

GOOD = "a long walk by the sea"
EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>{{7*7}}"
ORIGIN = {"Origin": "http://testserver"}


class Browser:
    """Somebody at the console, without JavaScript: a page's forms are sent as they are."""

    def __init__(self, api: Any) -> None:
        self.client = TestClient(api, follow_redirects=False, raise_server_exceptions=False)

    def sign_in(self, email: str, password: str = GOOD, **more: str) -> Response:
        return self.client.post("/login", data={"email": email, "password": password, **more}, headers=ORIGIN)

    def get(self, path: str) -> str:
        answer = self.client.get(path)
        assert answer.status_code == 200, f"{path}: {answer.status_code} {answer.text[-400:]}"
        return answer.text

    def hidden(self, path: str) -> dict[str, str]:
        found = re.findall(r'name="(form_token|once)" value="([^"]*)"', self.get(path))
        return {name: html.unescape(value) for name, value in found}

    def send(self, path: str, act: str, **fields: Any) -> Response:
        return self.client.post(path, data={**self.hidden(path), "act": act, **fields}, headers=ORIGIN)


class Console:
    """A control plane with a person in each of two customers and one operator."""

    def __init__(self, world: World) -> None:
        self.world, self.system = world, world.system
        self.api = build_api(world.system, ControlPlane(world.system))
        self.system.accounts.ensure_operator()
        self.browsers: dict[str, Browser] = {}
        self.people: dict[str, str] = {}
        for name, kind in (("operator", ""), ("acme", "customer"), ("bolt", "customer")):
            owner = (
                self.system.accounts.create_organization(name, kind)
                if kind
                else self.system.accounts.organization(name)
            )
            role = "customer_admin" if kind else "operator"
            made = self.system.people.invite(owner, f"{name}@example.com", role, "test")
            self.people[name] = self.system.people.accept(made.secret, f"Ada of {name}", GOOD, "").id
            self.browsers[name] = Browser(self.api)
            assert self.browsers[name].sign_in(f"{name}@example.com").status_code == 303

    def organization(self, name: str) -> str:
        return self.system.accounts.organization(name).id


@pytest.fixture
def console(tmp_path: Path) -> Iterator[Console]:
    world = World(tmp_path / "w")
    world.remember(days=8, need=0.3, spread=0.05)
    yield Console(world)
    world.close()


def rented(console: Console, who: str) -> str:
    """The path of a lease, got as a customer gets it: choose, accept."""
    browser = console.browsers[who]
    wanted = {"pool": console.world.pool.name, "class": "spot", "accelerators": "1", "hours": "2"}
    quote = browser.send("/offers", "quote", **wanted)
    assert quote.status_code == 303, quote.text
    taken = browser.send(quote.headers["location"], "accept", ssh_key=KEY, **wanted)
    assert taken.status_code == 303, taken.text
    return taken.headers["location"]


def test_a_customer_rents_logs_in_and_ends(console: Console) -> None:
    browser = console.browsers["acme"]
    assert browser.client.get("/").headers["location"] == "/offers"
    text = browser.get("/offers")
    assert "available" in text and console.world.pool.name in text
    path = rented(console, "acme")
    lease_id = path.rpartition("/")[2]
    for _ in range(20):
        console.world.clock.advance(1)
        console.system.leases.tick()
    text = browser.get(path)
    assert re.search(r"ssh -p \d+ \S+@", html.unescape(text)), "the line to log in with"
    assert "data-left-s=" in text and f"after={lease_id}" in text
    assert lease_id in browser.get("/leases")
    again = browser.send(
        "/offers", "quote", pool=console.world.pool.name, hours="1", after=lease_id, **{"class": "spot"}
    )
    assert again.status_code == 303, again.text
    refused = browser.send(path, "end")
    assert refused.status_code == 400 and "select the checkbox" in refused.text
    assert browser.send(path, "end", sure="yes").headers["location"] == path
    assert console.system.leases.lease(lease_id).state.value in ("ending", "ended")
    plan = {"id": "team", "name": "Team", "currency": "USD", "begins": "calendar", "amount": "20"}
    console.system.ledger.plans.publish(plan_from_dict(plan, "test"))
    owner = console.system.ledger.plans.subscribe(console.system.accounts.organization("acme").id, Wanted("team"))
    text = browser.get("/billing")
    assert "This month so far" in text
    assert "Your plan" in text and "20.00 USD" in text and owner["period_end"][:10] in text


def test_a_double_click_makes_one_quote_and_a_changed_form_another(console: Console) -> None:
    browser = console.browsers["acme"]
    wanted = {"pool": console.world.pool.name, "class": "spot", "accelerators": "1", "hours": "2"}
    data = {**browser.hidden("/offers"), "act": "quote", **wanted}
    twice = [browser.client.post("/offers", data=data, headers=ORIGIN).headers["location"] for _ in range(2)]
    assert twice[0] == twice[1]
    changed = browser.client.post("/offers", data=data | {"hours": "3"}, headers=ORIGIN).headers["location"]
    assert changed != twice[0]
    again = {**browser.hidden(twice[0]), "act": "quote", **wanted}
    later = {browser.client.post(twice[0], data=again, headers=ORIGIN).headers["location"] for _ in range(2)}
    assert len(later) == 1 and later.isdisjoint({*twice, changed})
    assert len(console.system.leases.open_quotes(console.organization("acme"))) == 3
    without = {name: text for name, text in data.items() if name != "once"}
    assert browser.client.post("/offers", data=without, headers=ORIGIN).status_code == 403


def test_a_double_click_on_accept_makes_one_lease_and_a_late_one_shows_the_new_price(console: Console) -> None:
    browser = console.browsers["acme"]
    wanted = {"pool": console.world.pool.name, "class": "spot", "accelerators": "1", "hours": "2"}
    path = browser.send("/offers", "quote", **wanted).headers["location"]
    data = {**browser.hidden(path), "act": "accept", "ssh_key": KEY, **wanted}
    first, second = (browser.client.post(path, data=data, headers=ORIGIN) for _ in range(2))
    assert first.headers["location"] == second.headers["location"]
    path = browser.send("/offers", "quote", **wanted).headers["location"]
    data = {**browser.hidden(path), "act": "accept", "ssh_key": KEY, **wanted}
    console.world.clock.advance(90)
    late = browser.client.post(path, data=data, headers=ORIGIN)
    assert late.status_code == 200 and "The price had expired" in late.text
    assert KEY in html.unescape(late.text), "what was pasted is still there"
    assert len(console.system.leases.leases(console.organization("acme"))) == 1
    assert browser.client.get(path).status_code == 404


def test_keys_are_made_once_shown_once_and_revoked(console: Console) -> None:
    browser = console.browsers["acme"]
    data = {**browser.hidden("/keys"), "act": "create", "name": "ci", "role": "customer_developer", "days": "30"}
    made = browser.client.post("/keys", data=data, headers=ORIGIN)
    secret = re.search(r"<code>(sublet_[\w-]+)</code>", made.text)
    assert made.status_code == 200 and secret is not None
    assert browser.client.post("/keys", data=data, headers=ORIGIN).status_code == 409, "the form was sent already"
    assert secret[1] not in browser.get("/keys")
    headers = {"Authorization": f"Bearer {secret[1]}"}
    assert browser.client.get("/v1/whoami", headers=headers).json()["role"] == "customer_developer"
    (key,) = console.system.accounts.keys(console.organization("acme"))
    assert browser.send("/keys", "revoke", key=key.id).status_code == 303
    assert browser.client.get("/v1/whoami", headers=headers).status_code == 401


def test_a_person_s_key_ends_with_the_membership_and_a_service_s_does_not(console: Console) -> None:
    accounts, people = console.system.accounts, console.system.people
    acme = accounts.organization("acme")
    made = people.invite(acme, "bob@example.com", "customer_admin", "test")
    bob_id = people.accept(made.secret, "Bob", GOOD, "").id
    bob = Browser(console.api)
    assert bob.sign_in("bob@example.com").status_code == 303
    bob.send("/keys", "create", name="laptop", belongs_to="person")
    bob.send("/keys", "create", name="pipeline", belongs_to="organization")

    def held() -> dict[str, Any]:
        return {key.name: key for key in accounts.keys(acme.id)}

    assert (held()["laptop"].person_id, held()["laptop"].created_by) == (bob_id, bob_id)
    assert (held()["pipeline"].person_id, held()["pipeline"].created_by) == ("", bob_id)
    assert console.browsers["acme"].send("/people", "remove", person=bob_id).status_code == 303
    assert held()["laptop"].revoked_at is not None and held()["pipeline"].revoked_at is None
    page = console.browsers["acme"].get("/keys")
    assert "laptop" in page and "the organization" in page
    operator = console.browsers["operator"]
    operator.send(f"/organizations/{acme.id}/keys", "create", name="for them", belongs_to="person")
    assert held()["for them"].person_id == "", "nobody owns a key of an organization they are not in"


def test_dangerous_acts_ask_for_the_password_again(console: Console) -> None:
    browser = console.browsers["acme"]
    console.world.clock.advance(601)
    refused = browser.send("/keys", "create", name="ci", role="customer_developer")
    assert refused.headers["location"] == "/verify?next=/keys"
    token = browser.hidden("/keys")["form_token"]
    answer = {"form_token": token, "next": "/keys", "password": "a wrong password"}
    assert browser.client.post("/verify", data=answer, headers=ORIGIN).status_code == 401
    answer["password"] = GOOD
    assert browser.client.post("/verify", data=answer, headers=ORIGIN).headers["location"] == "/keys"
    assert browser.send("/keys", "create", name="ci", role="customer_developer").status_code == 200
    answer["next"] = "//evil.example"
    assert browser.client.post("/verify", data=answer, headers=ORIGIN).headers["location"] == "/"


def test_an_operator_makes_an_organization_invites_its_first_person_and_suspends_it(console: Console) -> None:
    browser = console.browsers["operator"]
    made = browser.send("/organizations", "create", name="Delta", kind="customer", currency="USD", timezone="UTC")
    path = made.headers["location"]
    invited = browser.send(f"{path}/people", "invite", email="dan@example.com", role="customer_admin")
    link = re.search(r"http://testserver(/join\?secret=[\w-]+)", html.unescape(invited.text))
    assert invited.status_code == 200 and link is not None
    dan = Browser(console.api)
    assert "Delta" in dan.get(link[1]) and "dan@example.com" in dan.get(link[1])
    form = {"secret": link[1].partition("=")[2], "name": "Dan", "password": GOOD, "again": "another password"}
    assert "enter the same one twice" in dan.client.post("/join", data=form, headers=ORIGIN).text
    form["again"] = GOOD
    assert dan.client.post("/join", data=form, headers=ORIGIN).headers["location"] == "/offers"
    assert dan.client.get(link[1]).status_code == 409, "it works once"
    assert dan.client.post("/join", data=form, headers=ORIGIN).status_code == 409
    assert "Delta" in dan.get("/people")
    assert browser.send(path, "suspend").status_code == 400
    assert browser.send(path, "suspend", sure="yes").status_code == 303
    assert dan.client.get("/people").headers["location"] == "/login?next=/people"
    assert browser.send(path, "resume").status_code == 303
    person = console.system.people.member_page(path.rpartition("/")[2], _page()).items[0].person.id
    last = browser.send(f"{path}/people", "remove", person=person)
    assert last.status_code == 409 and "last person" in last.text


def _page() -> Any:
    from sublet.store.paging import PageRequest

    return PageRequest()


def test_another_tenants_ids_are_as_if_there_were_none(console: Console) -> None:
    theirs, bolt = rented(console, "bolt"), console.organization("bolt")
    key = console.system.accounts.create_key("bolt")[0].id
    wanted = {"pool": console.world.pool.name, "class": "spot", "accelerators": "1", "hours": "2"}
    quote = console.browsers["bolt"].send("/offers", "quote", **wanted).headers["location"]
    browser = console.browsers["acme"]
    token = browser.hidden("/offers")["form_token"]
    for path in (theirs, quote, "/leases/lse_none", f"/offers?after={theirs.rpartition('/')[2]}"):
        assert browser.client.get(path).status_code == 404, path
    for path in ("/organizations", f"/organizations/{bolt}", f"/organizations/{bolt}/keys", f"/organizations/{bolt}/people",
                 "/budgets", "/record"):  # fmt: skip
        answer = browser.client.get(path)
        assert answer.status_code == 403 and "bolt@example.com" not in answer.text, path
    for path, act, fields in (
        (theirs, "end", {"sure": "yes"}),
        (quote, "accept", {"ssh_key": KEY}),
        ("/keys", "revoke", {"key": key}),
        ("/people", "remove", {"person": console.people["bolt"]}),
        ("/people", "role", {"person": console.people["bolt"], "role": "customer_billing"}),
        ("/account", "switch", {"organization": bolt}),
        ("/account", "revoke", {"session": "ses_000000000000000000000000"}),
        (f"/organizations/{bolt}", "suspend", {"sure": "yes"}),
        (f"/organizations/{bolt}/keys", "create", {"name": "x", "role": "customer_admin", "once": "a" * 32}),
    ):
        answer = browser.client.post(path, data={"form_token": token, "act": act, **fields}, headers=ORIGIN)
        assert answer.status_code in (403, 404), f"{path} {act}: {answer.status_code}"
    assert not console.system.leases.lease(theirs.rpartition("/")[2]).state.terminal
    assert console.system.accounts.organization("bolt").status == "active"


def test_who_signed_in_with_a_project_s_key_acts_for_that_project_alone(console: Console) -> None:
    _, secret = console.system.accounts.create_key("acme", project="blue", role="customer_admin")
    browser = Browser(console.api)
    assert browser.client.post("/login", data={"key": secret}, headers=ORIGIN).status_code == 303
    theirs = rented(console, "acme")
    for path, act, fields in (
        (theirs, "end", {"sure": "yes"}),
        ("/keys", "create", {"name": "a way out", "role": "customer_admin", "project": ""}),
    ):
        refused = browser.send(path, act, **fields)
        assert refused.status_code == 403, (path, refused.status_code, refused.text[-400:])
    assert not console.system.leases.lease(theirs.rpartition("/")[2]).state.terminal


def test_a_form_without_its_token_changes_nothing(console: Console) -> None:
    mine, other = console.browsers["acme"], console.browsers["bolt"]
    stolen = other.hidden("/keys")
    for fields, headers in (
        ({"act": "create", "name": "x", "role": "customer_admin", "once": "a" * 32}, ORIGIN),
        ({**stolen, "act": "create", "name": "x", "role": "customer_admin"}, ORIGIN),
        ({**mine.hidden("/keys"), "act": "create", "name": "x"}, {"Origin": "https://evil.example"}),
        ({**mine.hidden("/keys"), "act": "create", "name": "x"}, {"Sec-Fetch-Site": "same-site"}),
        ({**mine.hidden("/keys"), "act": "create", "name": "x"}, {"Origin": "null"}),
        ({**mine.hidden("/keys"), "act": "create", "name": "x", "once": ""}, ORIGIN),
    ):
        assert mine.client.post("/keys", data=fields, headers=headers).status_code == 403
    assert console.system.accounts.keys(console.organization("acme")) == []
    assert (
        mine.client.post("/login", data={"email": "a@b.cd", "password": GOOD}, headers={"Origin": "null"}).status_code
        == 403
    )


def test_markup_in_names_is_inert_on_every_screen(console: Console) -> None:
    accounts, people = console.system.accounts, console.system.people
    owner = accounts.create_organization(EVIL[:110])
    made = people.invite(owner, "eve@example.com", "customer_admin", "t")
    people.accept(made.secret, EVIL[:100], GOOD, "")
    accounts.create_key(owner.id, EVIL[:110], project=EVIL[:60])
    eve = Browser(console.api)
    eve.client.headers["user-agent"] = EVIL
    eve.sign_in("eve@example.com")
    operator = console.browsers["operator"]
    texts = [eve.get(path) for path in ("/offers", "/leases", "/billing", "/keys", "/people", "/account")]
    texts += [
        operator.get(f"/organizations{path}")
        for path in ("", *(f"/{owner.id}{rest}" for rest in ("", "/keys", "/people")))
    ]
    texts.append(eve.send("/keys", "create", name=EVIL, role=EVIL, project=EVIL, scope=EVIL).text)
    texts.append(eve.send("/people", "invite", email=EVIL, role=EVIL).text)
    texts.append(eve.send("/offers", "quote", pool=EVIL, hours=EVIL, accelerators=EVIL, **{"class": EVIL}).text)
    texts.append(operator.send("/organizations", "create", name=EVIL, kind=EVIL, currency=EVIL[:3], timezone=EVIL).text)
    texts.append(Browser(console.api).sign_in(EVIL, next=EVIL).text)
    for text in texts:
        assert "<script>alert" not in text and "<img src=x" not in text and ">49<" not in text
        assert "style=" not in text and not re.search(r"<[^>]+\son\w+=", re.sub(r'"[^"]*"', '""', text))


@pytest.mark.parametrize(
    "where", ["//evil.example", "/\\evil.example", "https://evil.example", "javascript:x", "/%0d\n", "x" * 600]
)
def test_signing_in_leads_to_own_pages_alone(console: Console, where: str) -> None:
    browser = Browser(console.api)
    assert browser.sign_in("acme@example.com", next=where).headers["location"] == "/offers"
    assert browser.client.get("/login", params={"next": where}).headers["location"] == "/offers"
    assert Browser(console.api).sign_in("acme@example.com", next="/keys").headers["location"] == "/keys"


def test_signing_in_makes_a_new_session_and_ends_the_one_before(console: Console) -> None:
    browser = Browser(console.api)
    browser.client.cookies.set("sublet_session", "chosen by somebody else")
    assert browser.sign_in("acme@example.com").status_code == 303
    first = browser.client.cookies.get("sublet_session", domain="testserver.local")
    assert first and first != "chosen by somebody else"
    assert browser.sign_in("acme@example.com").status_code == 303
    again = Browser(console.api)
    again.client.cookies.set("sublet_session", first)
    assert again.client.get("/account").status_code == 303


def test_a_reset_says_the_same_for_everybody(console: Console) -> None:
    browser = Browser(console.api)
    answers = [
        browser.client.post("/forgot", data={"email": email}, headers=ORIGIN)
        for email in ("acme@example.com", "x@y.zz")
    ]
    assert answers[0].text == answers[1].text and answers[0].status_code == 200
    wrong = [browser.sign_in(email, "a wrong password") for email in ("acme@example.com", "nobody@example.com")]
    texts = [answer.text.replace("acme@example.com", "").replace("nobody@example.com", "") for answer in wrong]
    assert texts[0] == texts[1] and {answer.status_code for answer in wrong} == {401}
    assert browser.client.get("/reset?secret=guess").status_code == 409


def test_a_changed_password_signs_out_everywhere(console: Console) -> None:
    browser, other = console.browsers["acme"], Browser(console.api)
    other.sign_in("acme@example.com")
    new = "another long walk"
    wrong = browser.send("/account", "password", password="wrong password", new_password=new, again_password=new)
    assert wrong.status_code == 401 and "the password is wrong" in wrong.text
    done = browser.send("/account", "password", password=GOOD, new_password=new, again_password=new)
    assert done.headers["location"] == "/login?done=password"
    assert other.client.get("/account").status_code == 303
    assert Browser(console.api).sign_in("acme@example.com", new).status_code == 303


def test_every_screen_is_refused_to_who_is_not_signed_in_and_every_page_says_who_may(console: Console) -> None:
    pages = console_pages(console.system, Overviews(console.system, lambda: {"failing": []}))
    stranger = Browser(console.api)
    for page in pages:
        path = re.sub(r"\{\w+\}", "x", page.path)
        assert stranger.client.get(path).headers["location"].startswith("/login"), path
        assert page.permission
        if not isinstance(page, Page):
            assert stranger.client.post(path, data={"act": "x"}, headers=ORIGIN).headers["location"] == "/login"
            assert all(act.permission for act in page.acts.values())


def test_a_language_has_a_text_for_every_one_that_is_used() -> None:
    texts = used()
    assert len(texts) > 80
    for language, catalog in CATALOGS.items():
        if language != "en":
            assert set(catalog) == texts | NAMED, language
            for text in catalog:
                assert catalog[text].strip(), text
                assert set(re.findall(r"\{\w+\}", catalog[text])) == set(re.findall(r"\{\w+\}", text)), text
    assert set(CATALOGS) == set(LANGUAGES) == {"en", "zh-Hans", "zh-Hant"}
    assert chosen("") == chosen("de-DE") == chosen("en-GB,zh;q=0.5") == "en"
    assert chosen("zh-TW,zh;q=0.9,en;q=0.8") == chosen("zh-HK") == chosen("zh-Hant-SG") == "zh-Hant"
    assert chosen("zh-CN,zh;q=0.9") == chosen("zh") == chosen("de, zh-SG") == "zh-Hans"
    only_simplified = set("账数据录码链户请务为与发报费会设个条记计时间页网络钥约区块")
    only_traditional = set("帳數據錄碼鏈戶請務為與發報費會設個條記計時間頁網絡鑰約區塊")
    assert not only_simplified & set("".join(CATALOGS["zh-Hant"].values()))
    assert not only_traditional & set("".join(CATALOGS["zh-Hans"].values()))


def test_a_person_chooses_a_language_and_others_get_what_the_browser_asks_for(console: Console) -> None:
    browser = console.browsers["acme"]
    asks = {"Accept-Language": "zh-TW,zh;q=0.9"}
    assert '<html lang="zh-Hant">' in browser.client.get("/leases", headers=asks).text
    assert "登入" in browser.client.get("/forgot", headers=asks).text
    assert "登录" in browser.client.get("/forgot", headers={"Accept-Language": "zh-CN"}).text
    assert browser.send("/account", "language", language="xx").status_code == 400
    assert browser.send("/account", "language", language="zh-Hans").headers["location"] == "/account"
    text = browser.client.get("/leases", headers=asks).text
    assert '<html lang="zh-Hans">' in text and "您还没有租约" in text and "可租资源" in text
    # Pages that are not translated say which language they are in.
    operator = console.browsers["operator"]
    assert operator.send("/account", "language", language="zh-Hant").status_code == 303
    for path in ("/", "/maintenance"):
        assert '<main lang="en"' in operator.get(path) or ' lang="en">' in operator.get(path), path
    assert 'lang="en"' not in operator.get("/worth") + operator.get("/worth/what-if")
    assert browser.send("/account", "language", language="").status_code == 303
    assert '<html lang="en">' in browser.get("/leases")


def test_an_admin_reads_the_own_organization_s_log_and_the_operator_verifies_all(console: Console) -> None:
    acme, bolt, operator = (console.browsers[name] for name in ("acme", "bolt", "operator"))
    bolt.send("/keys", "create", name=EVIL[:100])
    key = console.system.accounts.key_page(console.organization("bolt"), PageRequest()).items[0]
    seen = bolt.get("/audit")
    assert "console.keys.create" in seen and key.id in seen and "console.sign_in" in seen and "Ada of bolt" in seen
    assert EVIL not in seen and "<script>alert" not in seen
    for query in (
        "",
        f"?organization={console.organization('bolt')}",
        f"?to={key.id}",
        f"?who={console.people['bolt']}",
    ):
        assert key.id not in acme.get(f"/audit{query}").replace(f'value="{key.id}"', "")
    assert acme.send("/audit", "verify").status_code == 403
    assert "accounts.list_audit" in bolt.get("/audit?did=accounts."), "reading is an entry"
    assert key.id in operator.get(f"/audit?organization={console.organization('bolt')}&did=console.keys")
    assert "No entries match" in operator.get("/audit?until=2001-01-01")
    assert operator.client.get("/audit?from=yesterday").status_code == 400
    assert "entries are unchanged" in operator.send("/audit", "verify").text
