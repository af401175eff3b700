"""Budgets on the console: bars that are right, words that round nothing away, and addresses that can't ask for too much."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st
from tests.console.sample import sample_budgets, sample_overview

from sublet.console.budgets import BudgetRow, budgets_page, draw_budget, draw_budgets
from sublet.console.figures import per_cent
from sublet.console.model import FIND_LENGTH_MAX, OFFSET_MAX, ROWS_MAX, BudgetsQuery, BudgetsView, BudgetView, Told
from sublet.console.overview import overview_page
from sublet.values.clock import SimulatedClock
from sublet.values.money import Money

NOW = datetime(2026, 1, 5, tzinfo=UTC)


def budget(limit: int, spent: int = 0, held: int = 0, **fields: object) -> BudgetView:
    amounts = (Money(nano) for nano in (limit, spent, held))
    return BudgetView("bud_1", "acme", "organization", "", "month", *amounts, **fields)  # type: ignore[arg-type]


def drawn(limit: int, spent: int = 0, held: int = 0, **fields: object) -> BudgetRow:
    return draw_budget(budget(limit, spent, held, **fields))


def test_spent_and_held_follow_one_another_and_thresholds_stand_where_they_are_reached() -> None:
    row = drawn(200, 90, 30, thresholds=(45, 50, 100), told=(Told(45, NOW),))
    assert (row.spent, row.held, row.limit_at, row.percent) == (45.0, 15.0, None, "60 %")
    assert [(tick.at, tick.reached) for tick in row.ticks] == [(45.0, True), (50.0, False)]


def test_what_passes_the_limit_makes_the_whole_longer() -> None:
    row = drawn(100, 150, 50, thresholds=(50,))
    assert (row.spent, row.held, row.limit_at, row.percent) == (75.0, 25.0, 50.0, "200 %")
    assert [tick.at for tick in row.ticks] == [25.0]


@pytest.mark.parametrize(
    ("spent", "held", "fields", "tone", "word"),
    [
        (0, 0, {}, "good", "ok"),
        (79, 0, {}, "good", "ok"),
        (50, 0, {"told": (Told(50, NOW),)}, "quiet", "50 % reached"),
        (79, 1, {}, "busy", "nearly used up"),
        (85, 0, {"told": (Told(50, NOW), Told(80, NOW))}, "busy", "80 % reached"),
        (60, 40, {}, "bad", "refuses work"),
        (100, 0, {}, "bad", "refuses work"),
        (100, 0, {"hard": False}, "busy", "limit reached"),
        (100, 0, {"prepaid": True}, "bad", "refuses work"),
    ],
)
def test_the_word_says_what_follows(spent: int, held: int, fields: dict[str, object], tone: str, word: str) -> None:
    row = drawn(100, spent, held, **fields)
    assert (row.tone, row.word) == (tone, word)


def test_a_budget_of_nothing_refuses_and_divides_by_nothing() -> None:
    assert drawn(0).word == "refuses work"
    assert (drawn(0).percent, drawn(0, 5).percent, drawn(0, 5).limit_at, drawn(0, thresholds=(50,)).ticks) == (
        "0 %",
        "over",
        None,
        (),
    )


@given(
    st.integers(0, 2**62),
    st.integers(-(10**6), 2**63),
    st.integers(0, 2**63),
    st.lists(st.integers(1, 1000), max_size=10),
)
def test_no_bar_leaves_its_rail(limit: int, spent: int, held: int, thresholds: list[int]) -> None:
    row = drawn(limit, spent, held, thresholds=tuple(thresholds))
    assert row.spent >= 0 and row.held >= 0 and row.spent + row.held <= 100.0001
    assert row.limit_at is None or 0 <= row.limit_at <= 100
    assert all(0 <= tick.at <= 100 for tick in row.ticks)
    assert (row.word in ("refuses work", "limit reached")) == (spent + held >= limit)


@pytest.mark.parametrize(
    ("part", "whole", "text"),
    [
        (0, 0, "0 %"),
        (0, 9, "0 %"),
        (-3, 9, "0 %"),
        (1, 0, "over"),
        (1, 10**9, "< 0.1 %"),
        (1, 1000, "0.1 %"),
        (335, 1000, "33.5 %"),
        (9_999, 10_000, "99.9 %"),
        (10_000, 10_000, "100 %"),
        (10_001, 10_000, "100 %"),
        (10_000, 100, "10,000 %"),
        (18_000, 100, "> 10,000 %"),
    ],
)
def test_percent(part: int, whole: int, text: str) -> None:
    assert per_cent(part, whole) == text


@given(st.integers(0, 2**63), st.integers(1, 2**63))
def test_only_what_is_all_used_is_written_as_100(part: int, whole: int) -> None:
    text = per_cent(part, whole)
    assert (text == "0 %") == (part == 0)
    if part < whole:
        assert text not in ("100 %", "over")


@pytest.mark.parametrize(
    ("find", "order", "offset", "query"),
    [
        ("", "", "", BudgetsQuery()),
        (" acme\n", "organization", "100", BudgetsQuery("acme", "organization", 100)),
        ("a\x00b\u202e", "drop table", "-5", BudgetsQuery("ab")),
        ("x" * 999, "use", "9" * 400, BudgetsQuery("x" * FIND_LENGTH_MAX)),
        ("", "", "٣", BudgetsQuery()),
        ("", "", "1e3", BudgetsQuery()),
        ("", "", str(OFFSET_MAX * 9), BudgetsQuery(offset=OFFSET_MAX)),
    ],
)
def test_an_address_can_ask_for_no_more_than_there_is(find: str, order: str, offset: str, query: BudgetsQuery) -> None:
    assert BudgetsQuery.of(find, order, offset) == query


def test_pages_lead_on_and_back_and_keep_what_was_asked_for() -> None:
    rows = (budget(1),) * ROWS_MAX
    query = BudgetsQuery("a & b", "organization", 200)
    page = draw_budgets(BudgetsView(NOW, rows, 412, query=query))
    assert page.earlier == "/budgets?find=a+%26+b&order=organization&offset=100"
    assert page.later == "/budgets?find=a+%26+b&order=organization&offset=300"
    assert page.by_use == "/budgets?find=a+%26+b"
    only = draw_budgets(BudgetsView(NOW, rows, ROWS_MAX))
    assert (only.earlier, only.later, only.by_use) == (None, None, "/budgets")


def test_the_page_shows_each_budget_and_what_needs_somebody(signed_in: TestClient) -> None:
    text = signed_in.get("/budgets").text
    for words in (
        "Small Lab", "notebooks …_Crw", "168 %", "refuses work", "-13.60", "112 %", "limit reached", "soft, per day",
        "95.1 %", "webhook will be tried again: ConnectionError: the receiver answered 503",
        "4,000,000,000.00", "&lt; 0.1 %", "prepaid", "never", ">9 d 04 h<", "250,000",
        "Alerts raised at 50, 80 and 100 %; nobody is subscribed to them.",
        "33.60 spent, 0.00 held, 13.60 over the limit of 20.00 USD. Alerts at 50 %, 80 %, 100 %.",
    ):  # fmt: skip
        assert words in text, words
    assert '<noscript><meta http-equiv="refresh" content="60"></noscript>' in text
    for place in re.findall(r'(?:x1|x2|x|width)="([0-9.]+)%"', text):
        assert 0 <= float(place) <= 100


def test_what_is_looked_for_is_found_or_named(signed_in: TestClient) -> None:
    text = signed_in.get("/budgets", params={"find": "kestrel"}).text
    assert "Kestrel Bio" in text and "Small Lab" not in text and 'value="kestrel"' in text
    assert "1</dd><dt>budget<" in text.replace("\n", "").replace("  ", "")
    none = signed_in.get("/budgets", params={"find": '"><script>alert(1)</script>'}).text
    assert "<script>alert" not in none and "&lt;script&gt;alert(1)" in none
    assert "No budget of an organization" in none
    assert signed_in.get("/budgets?order=organization&offset=x&find=%00").status_code == 200


def test_who_is_not_signed_in_sees_no_budget(client: TestClient) -> None:
    answer = client.get("/budgets")
    assert (answer.status_code, answer.headers["location"], answer.text) == (303, "/login?next=/budgets", "")
    client.post("/login", data={"key": "sublet_customer"})
    assert client.get("/budgets").status_code == 403


def test_the_overview_shows_the_most_used_and_leads_to_all(signed_in: TestClient, clock: SimulatedClock) -> None:
    text = signed_in.get("/").text
    assert "1 refuses work" in text and 'href="/budgets">All 6 budgets<' in text
    assert "121.15 left of 2,500.00 USD, hard, per month" in text
    assert "Kestrel Bio" not in text.partition('id="budgets"')[2].partition("</section>")[0]


def test_amounts_of_two_currencies_are_each_in_their_own() -> None:
    row = draw_budget(sample_budgets(NOW).rows[-1])
    assert row.words == "0 spent, 0 held, 250,000 left of 250,000 JPY."


def test_an_alert_that_could_not_be_told_is_named_and_others_are_not() -> None:
    told = (Told(50, NOW), Told(80, NOW - timedelta(hours=1), "e-mail given up: it bounced"))
    row = drawn(100, 85, told=told, channels=1)
    assert row.trouble == (("80 %", "e-mail given up: it bounced"),)
    assert row.told == "Alerts raised at 50 and 80 %."
    same = tuple(Told(percent, NOW, "webhook given up: gone") for percent in (50, 80, 90))
    assert drawn(100, 95, told=same).trouble == (("50, 80 and 90 %", "webhook given up: gone"),)
    assert draw_budget(replace(row.view, told=told[:1])).told == "Alerts raised at 50 %."


def test_hostile_names_are_inert(console: Callable[..., FastAPI], clock: SimulatedClock) -> None:
    evil = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>{{7*7}}"
    row = replace(
        sample_budgets(clock.now()).rows[0],
        id=evil,
        organization=evil,
        scope=evil,
        subject=evil,
        period=evil,
        told=(Told(50, clock.now(), evil),),
    )
    view = BudgetsView(clock.now(), (row,), 1, query=BudgetsQuery(evil))
    app = console(overview_page(lambda: sample_overview(clock.now())), budgets_page(lambda query: view))
    client = TestClient(app, base_url="http://console.test")
    client.post("/login", data={"key": "sublet_operator"})
    text = client.get("/budgets").text
    assert text.count("<script") == 1 and "<img src=x" not in text and "{{7*7}}" in text
    assert text.count(html.escape("<script>alert(1)</script>")) >= 6
