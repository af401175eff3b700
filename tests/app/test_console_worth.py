"""The desk in the console: finance reads what the surplus is worth and moves the numbers of a case; others can't."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.app.test_console_acts import GOOD, Browser, Console

from sublet.simulation.world import World


@pytest.fixture
def console(tmp_path: Path) -> Iterator[Console]:
    world = World(tmp_path / "w")
    world.remember(days=8, need=0.3, spread=0.05)
    yield Console(world)
    world.close()


@pytest.fixture
def finance(console: Console) -> Browser:
    owner = console.system.accounts.organization("operator")
    made = console.system.people.invite(owner, "finance@example.com", "finance", "test")
    console.system.people.accept(made.secret, "Grace of finance", GOOD, "")
    browser = Browser(console.api)
    assert browser.sign_in("finance@example.com").status_code == 303
    return browser


def cells(text: str) -> dict[str, tuple[str, str]]:
    """By result, what it was in the case and what it is now."""
    rows = re.findall(r'class="head">(.*?)</td>.*?class="number">(.*?)</td>.*?class="number">(.*?)</td>', text)
    return {html.unescape(label): (before, re.sub("<.*?>", "", after)) for label, before, after in rows}


def test_finance_finds_both_pages_and_customers_neither(console: Console, finance: Browser) -> None:
    text = finance.get("/worth")
    assert "What the surplus is worth" in text and 'href="/worth/what-if"' in text
    assert 'href="/worth"' in console.browsers["operator"].get("/")
    for path in ("/worth", "/worth/what-if"):
        assert console.browsers["acme"].client.get(path).status_code == 403
        assert f'href="{path}"' not in console.browsers["acme"].get("/offers")
    assert finance.client.get("/worth?days=<script>").status_code == 200
    assert "last 90 days</option>" in finance.get("/worth?days=90")


def test_numbers_are_moved_without_a_script_and_shared_by_their_address(finance: Browser) -> None:
    plain = finance.get("/worth/what-if")
    assert all(before == after for before, after in cells(plain).values())
    assert "[[scenarios]]" not in plain
    moved = finance.get("/worth/what-if?in.price=16&term=2&something=else")
    found = cells(moved)
    assert found["Contribution of one year"][0] != found["Contribution of one year"][1]
    link = re.search(r'id="share" href="([^"]*)"', moved)
    assert link is not None and cells(finance.get(html.unescape(link[1]))) == found
    assert "&#34;in.price&#34; = 16" in moved


def test_a_number_out_of_range_says_which_to_give(finance: Browser) -> None:
    text = finance.get("/worth/what-if?in.price=99999")
    assert 'role="alert"' in text and "give a number from 8 to 20" in text
    evil = finance.get("/worth/what-if?in.price=<script>alert(1)</script>")
    assert "<script>alert" not in evil
