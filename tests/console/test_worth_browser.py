"""The desk's pages in a real browser, at a desk's and a telephone's width: sliders recalculate, and a button does without a script."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from tests.console.serving import chromium, serving
from tests.console.test_browser import TIMEOUT_MS, sign_in
from tests.desk.test_actuals import H100, NANO, WINDOW

from sublet.console.worth import WHAT_IF, WORTH, Worth
from sublet.desk.actuals import UsageRecord, gather
from sublet.desk.whatif import Cases

pytestmark = pytest.mark.real
CASE = Path(__file__).parents[2] / "examples" / "hyperscaler-2026.toml"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


@pytest.fixture
def url(console: Callable[..., FastAPI]) -> Iterator[str]:
    usage = [UsageRecord("h100", channel, "acme", 1000.0, 2500 * NANO) for channel in ("raw", "managed")]
    worth = Worth(lambda days: [gather("lab", WINDOW, [H100], usage)], Cases(CASE), lambda: date(2026, 7, 1))
    with serving(console(*worth.screens())) as port:
        yield f"http://127.0.0.1:{port}"


def opened(browser: Any, url: str, path: str, width: int, **options: Any) -> Any:
    context = browser.new_context(viewport={"width": width, "height": 900}, **options)
    context.set_default_timeout(TIMEOUT_MS)
    page = context.new_page()
    page.complaints = []
    page.on("console", lambda message: page.complaints.append(message.text))
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.goto(url + path)
    sign_in(page, "sublet_operator")
    page.wait_for_selector("h1")
    page.goto(url + path)
    return page


def fits(page: Any, width: int) -> bool:
    return bool(page.evaluate("document.documentElement.scrollWidth") <= width)


@pytest.mark.parametrize("width", [1280, 400])
def test_sliders_recalculate_and_the_address_keeps_them(browser: Any, url: str, width: int) -> None:
    page = opened(browser, url, WHAT_IF, width)
    first = page.locator("#results tbody tr").first
    assert "$2.97 a share" in first.inner_text() and fits(page, width)
    slider = page.locator('input[name="b20b"]')
    slider.evaluate("(input) => { input.value = '20'; input.dispatchEvent(new Event('input', { bubbles: true })); }")
    page.wait_for_selector("#results strong")
    assert "b20b=20" in page.url and "$20 per watt a year" in page.locator("#what-if output").first.inner_text()
    shown = first.inner_text()
    page.goto(page.url)
    assert page.locator("#results tbody tr").first.inner_text() == shown
    assert "[[scenarios]]" in page.locator("#results pre").inner_text()
    assert page.complaints == []


@pytest.mark.parametrize("width", [1280, 400])
def test_the_button_does_the_same_without_a_script(browser: Any, url: str, width: int) -> None:
    page = opened(browser, url, WHAT_IF, width, java_script_enabled=False)
    page.locator('input[name="b20b"]').focus()
    page.keyboard.press("Home")
    page.locator("#what-if button").click()
    page.wait_for_url("**b20b=12**")
    assert page.locator("#results strong").count() > 0


@pytest.mark.parametrize("width", [1280, 400])
@pytest.mark.parametrize(("locale", "tag", "told"), [("zh-TW", "zh-Hant", "收益"), ("zh-CN", "zh-Hans", "收益")])
def test_both_pages_fit_in_each_language(browser: Any, url: str, width: int, locale: str, tag: str, told: str) -> None:
    page = opened(browser, url, WORTH, width, locale=locale)
    assert told in page.inner_text("h1") and fits(page, width)
    assert page.evaluate("document.documentElement.lang") == tag
    page.goto(url + WHAT_IF)
    assert fits(page, width) and "美元" in page.locator("#what-if output").first.inner_text()
    assert page.complaints == []


@pytest.mark.parametrize("width", [1280, 400])
def test_actuals_can_be_read(browser: Any, url: str, width: int) -> None:
    page = opened(browser, url, WORTH, width)
    assert fits(page, width) and "accelerator-hour" in page.inner_text("main")
    page.locator("a", has_text="What if the price").click()
    page.wait_for_url(f"**{WHAT_IF}")
    assert page.complaints == []
