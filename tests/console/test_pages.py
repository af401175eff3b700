"""The console over HTTP: what it shows, to whom, and with which headers."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from fastapi.testclient import TestClient
from tests.console.sample import empty_overview, sample_overview

from sublet.console import Overview
from sublet.console.cookies import COOKIE
from sublet.console.forms import FORM_BYTES_MAX
from sublet.console.model import (
    Alert,
    BudgetsView,
    BudgetView,
    LeaseView,
    ModelView,
    PlanLine,
    PoolView,
    ProcessView,
    Told,
    Withheld,
)
from sublet.values.clock import SimulatedClock
from sublet.values.errors import UnavailableError
from sublet.values.money import Money

Serve = Callable[[Callable[[], Overview]], TestClient]
EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>{{7*7}}"


class Elements(HTMLParser):
    """Every start tag with its attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def page(serve: Serve, overview: Overview) -> str:
    client = serve(lambda: overview)
    assert client.post("/login", data={"key": "sublet_operator"}).status_code == 303
    answer = client.get("/")
    assert answer.status_code == 200
    return answer.text


def test_a_stranger_is_sent_to_sign_in_and_sees_nothing(client: TestClient) -> None:
    answer = client.get("/")
    assert (answer.status_code, answer.headers["location"], answer.text) == (303, "/login", "")
    assert "Nordlicht" not in client.get("/login").text


def test_the_operator_signs_in_looks_and_signs_out(client: TestClient) -> None:
    answer = client.post("/login", data={"key": "sublet_operator"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    cookie = answer.headers["set-cookie"]
    for attribute in ("HttpOnly", "SameSite=lax", "Max-Age=43200", "Path=/"):
        assert attribute in cookie
    assert "Secure" not in cookie
    assert "sublet_operator" not in cookie
    first = client.get("/")
    assert "Nordlicht Robotics" in first.text
    assert client.get("/login").headers["location"] == "/"
    token = re.search(r'name="form_token" value="([^"]+)"', first.text)
    assert token is not None
    kept = client.cookies[COOKIE]
    gone = client.post("/logout", data={"form_token": html.unescape(token[1])})
    assert (gone.status_code, gone.headers["location"]) == (303, "/login")
    assert COOKIE not in client.cookies
    client.cookies.set(COOKIE, kept)
    assert client.get("/").status_code == 303


def test_over_https_the_cookie_is_for_https_only(client: TestClient) -> None:
    answer = client.post("https://console.test/login", data={"key": "sublet_operator"})
    assert "Secure" in answer.headers["set-cookie"]
    assert answer.headers["set-cookie"].startswith("__Host-sublet_session=")
    assert client.get("https://console.test/").status_code == 200
    assert client.get("http://console.test/").status_code == 303


@pytest.mark.parametrize(
    ("key", "status", "sentence"),
    [
        ("sublet_wrong", 401, "unknown, expired or revoked; use another one"),
        ("", 401, "unknown, expired or revoked"),
        ("x" * FORM_BYTES_MAX, 413, "form is too long"),
    ],
)
def test_other_keys_are_refused_with_a_sentence(client: TestClient, key: str, status: int, sentence: str) -> None:
    answer = client.post("/login", data={"key": key})
    assert answer.status_code == status
    assert sentence in answer.text
    assert "set-cookie" not in answer.headers
    assert key == "" or key not in answer.text


def test_too_many_wrong_keys_have_to_wait(client: TestClient) -> None:
    for _ in range(10):
        assert client.post("/login", data={"key": "sublet_wrong"}).status_code == 401
    answer = client.post("/login", data={"key": "sublet_operator"})
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "60")


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://elsewhere.test"},
        {"Origin": "null"},
        {"Origin": "http://console.test:81"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_forms_of_other_sites_change_nothing(signed_in: TestClient, headers: dict[str, str]) -> None:
    assert signed_in.post("/logout", data={"form_token": "x"}, headers=headers).status_code == 403
    assert signed_in.get("/").status_code == 200
    assert signed_in.post("/login", data={"key": "sublet_operator"}, headers=headers).status_code == 403


def test_signing_out_needs_the_pages_own_token(signed_in: TestClient) -> None:
    for data in ({}, {"form_token": ""}, {"form_token": "guess"}):
        assert signed_in.post("/logout", data=data, headers={"Origin": "http://console.test"}).status_code == 403
    assert signed_in.get("/").status_code == 200


def test_every_answer_keeps_itself_to_itself(signed_in: TestClient) -> None:
    style = re.search(r'href="(/static/console\.[0-9a-f]{12}\.css)"', signed_in.get("/").text)
    assert style is not None
    pages = ("/", "/budgets", "/budgets?find=nobody", "/record", "/record?pool=nowhere", "/login")
    answers = [signed_in.get(path) for path in (*pages, style[1], "/static/nothing.css")]
    answers += [signed_in.post(path, data={"form_token": "x"}) for path in ("/logout", "/login")]
    signed_in.cookies.clear()
    answers += [signed_in.get(path) for path in pages]
    assert {answer.status_code for answer in answers} == {200, 303, 401, 403, 404}
    for answer in answers:
        headers = answer.headers
        policy = headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self';")
        assert "frame-ancestors 'none'" in policy and "base-uri 'none'" in policy and "form-action 'self'" in policy
        assert "unsafe" not in policy
        assert headers["x-frame-options"] == "DENY"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "same-origin"
        if not answer.url.path.startswith("/static/console"):
            assert headers["cache-control"] == "no-store"


def test_static_files_are_kept_by_their_hash_and_nothing_else_is_served(signed_in: TestClient) -> None:
    text = signed_in.get("/").text
    paths = set(re.findall(r'"(/static/[^"]+)"', text))
    assert len(paths) == 3
    for path in paths:
        answer = signed_in.get(path)
        assert answer.status_code == 200
        assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    for path in ("console.css", "console.000000000000.css", "..%2fmodel.py", "%2e%2e/pages.py", "model.py"):
        assert signed_in.get(f"/static/{path}").status_code == 404


def test_the_page_shows_what_the_overview_says(serve: Serve, clock: SimulatedClock) -> None:
    text = page(serve, sample_overview(clock.now()))
    for words in (
        "h100-berlin",
        "No samples yet: the first comes within 15 s.",
        "2 min 31 s",
        "taken back",
        "3 of 4",
        "2,480",
        "1,284.32",
        "28,671.44",
        "drain replica",
        "next round",
        "Port 22014 is taken",
        "Forecast, 99 % quantile",
        "fenced until 18:20",
    ):
        assert words in text, words
    assert text.index("Nordlicht Robotics") < text.index("Small Lab") < text.index("Atelier Dumont")
    assert '<noscript><meta http-equiv="refresh" content="15"></noscript>' in text


def test_a_new_system_says_what_to_do(serve: Serve, clock: SimulatedClock) -> None:
    text = page(serve, empty_overview(clock.now()))
    for words in ("No lease is running", "No managed model", "Nothing earned yet", "Nothing to do"):
        assert words in text
    assert "No pool yet" in page(serve, Overview(as_of=clock.now()))


def test_hostile_names_are_inert(serve: Serve, clock: SimulatedClock) -> None:
    now = clock.now()
    sample = sample_overview(now)
    lease = replace(sample.leases[0], organization=EVIL, pool=EVIL, class_of_service=EVIL, state=EVIL, id=EVIL)
    amount = Money.of(1)
    budget = BudgetView(EVIL, EVIL, EVIL, EVIL, EVIL, amount, amount, amount, told=(Told(1, now, EVIL),))
    hostile = Overview(
        as_of=now,
        pools=(
            replace(
                sample.pools[0],
                id=EVIL,
                name=EVIL,
                generation=EVIL,
                site=EVIL,
                on_sale=((EVIL, 1),),
                withheld=(Withheld(1, EVIL),),
            ),
        ),
        leases=(lease,),
        models=(ModelView(EVIL, 1, EVIL, 1, 1, 1),),
        money=(replace(sample.money[0], by_product=((EVIL, Money.of(1)),)),),
        plan=(PlanLine(now, EVIL, EVIL, EVIL),),
        alerts=(Alert(EVIL, EVIL),),
        processes=(ProcessView(EVIL, EVIL, EVIL),),
        budgets=BudgetsView(now, (budget,), 1),
    )
    text = page(serve, hostile)
    elements = Elements(text).found
    scripts = [attributes for tag, attributes in elements if tag == "script"]
    assert [list(attributes) for attributes in scripts] == [["src", "defer"]]
    assert all(attributes.get("src") != "x" for _, attributes in elements)
    assert not [name for _, attributes in elements for name in attributes if name.startswith("on")]
    assert html.escape("<script>alert(1)</script>") in text
    assert "{{7*7}}" in text


def test_nothing_on_the_page_needs_an_inline_style_or_script(serve: Serve, clock: SimulatedClock) -> None:
    for tag, attributes in Elements(page(serve, sample_overview(clock.now()))).found:
        assert "style" not in attributes
        assert tag != "style"
        assert tag != "script" or "src" in attributes


def test_ids_are_unique_and_every_label_points_somewhere(serve: Serve, clock: SimulatedClock) -> None:
    elements = Elements(page(serve, sample_overview(clock.now()))).found
    ids = [attributes["id"] for _, attributes in elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in elements:
        for name in (attributes.get("aria-labelledby") or "").split():
            assert name in ids


def test_long_lists_are_cut_and_say_so(serve: Serve, clock: SimulatedClock) -> None:
    now = clock.now()
    leases = tuple(
        LeaseView(f"lse_{n}", "org", "p", "spot", 1, "active", now, now, None, float(n)) for n in reversed(range(1_250))
    )
    pools = tuple(PoolView(f"pool_{n}", f"p{n}", "g", "s", 1, None) for n in range(103))
    text = page(serve, Overview(as_of=now, leases=leases, pools=pools))
    assert "and 1,150 more" in text
    assert "and 3 more" in text
    assert "lse_99<" in text
    assert "lse_100<" not in text


def test_two_currencies_stand_apart(serve: Serve, clock: SimulatedClock) -> None:
    sample = sample_overview(clock.now())
    yen = Money.of(1999, "JPY")
    text = page(
        serve,
        replace(
            sample, money=(*sample.money, replace(sample.money[0], today=yen, this_month=yen, credits=yen, open=yen))
        ),
    )
    assert "<small>USD</small>" in text
    assert "1,999 <small>JPY</small>" in text


def test_when_the_overview_cannot_be_gathered_the_page_says_why(serve: Serve) -> None:
    def fail() -> Overview:
        raise UnavailableError("the database does not answer; start it, or check database.url")

    client = serve(fail)
    client.post("/login", data={"key": "sublet_operator"})
    answer = client.get("/")
    assert answer.status_code == 503
    assert "the database does not answer" in answer.text
    assert "http-equiv" in answer.text
