"""The console in a real Chromium: at two widths, in two colour schemes, with and without JavaScript."""

from __future__ import annotations

import itertools
import os
import shutil
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest
import uvicorn
from fastapi import FastAPI

from sublet.console import Overview, Sessions, router
from sublet.console.sample import sample_budgets, sample_overview, sample_record
from sublet.values.clock import SimulatedClock
from sublet.values.errors import StorageFullError

pytestmark = pytest.mark.real
sync_api = pytest.importorskip("playwright.sync_api", reason="the playwright package drives the browser")

EVIL = "<script>document.title='broken in'</script>"
SWITCHES = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
)


@dataclass
class Served:
    """A console on a port of its own; what it shows can be changed while it runs."""

    url: str
    overview: Overview
    server: uvicorn.Server
    broken: str = ""

    def gather(self) -> Overview:
        if self.broken:
            raise StorageFullError(self.broken)
        return self.overview


@pytest.fixture
def served(sessions: Sessions, clock: SimulatedClock) -> Iterator[Served]:
    sample = sample_overview(clock.now())
    hostile = replace(sample.leases[0], organisation=EVIL + "w" * 120)
    shown = Served("", replace(sample, leases=(hostile, *sample.leases[1:])), None)  # type: ignore[arg-type]
    app = FastAPI()
    app.include_router(
        router(
            shown.gather,
            sessions,
            lambda pool: sample_record(clock.now()),
            lambda wish: sample_budgets(clock.now(), wish),
        )
    )
    listener = socket.create_server(("127.0.0.1", 0))
    shown.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    shown.server = uvicorn.Server(uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=shown.server.run, kwargs={"sockets": [listener]})
    thread.start()
    yield shown
    shown.server.should_exit = True
    thread.join(timeout=10)
    listener.close()


@pytest.fixture(scope="module")
def browser():  # type: ignore[no-untyped-def]
    program = os.environ.get("SUBLET_TEST_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("there is no Chromium; SUBLET_TEST_CHROMIUM may name one")
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=program, args=list(SWITCHES))
        yield opened
        opened.close()


def open_page(browser, served: Served, width: int = 1280, **options):  # type: ignore[no-untyped-def]
    """A signed-in page whose complaints are collected in `page.complaints`."""
    context = browser.new_context(viewport={"width": width, "height": 900}, **options)
    page = context.new_page()
    page.complaints = []
    page.on("console", lambda message: page.complaints.append(message.text))
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.goto(served.url)
    page.fill("#key", "sublet_operator")
    page.click("button[type=submit]")
    page.wait_for_selector("#live")
    return page


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 768, 400, 320])
def test_the_page_fits_and_says_nothing_to_the_console(browser, served: Served, width: int, scheme: str) -> None:  # type: ignore[no-untyped-def]
    page = open_page(browser, served, width, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    too_wide = page.evaluate(
        "w => [...document.querySelectorAll('main *')].filter(n => !n.closest('.scroll, .unseen, thead')"
        " && n.getBoundingClientRect().right > w + 0.5).map(n => n.outerHTML.slice(0, 80))",
        width,
    )
    assert too_wide == []
    assert page.title() == "Overview · Sublet"
    assert EVIL in page.locator("table.cards").first.inner_text()
    assert page.locator("figure.chart svg[role=img]").count() == 2
    assert page.complaints == []
    folder = os.environ.get("SUBLET_TEST_SCREENSHOTS")
    if folder:
        page.screenshot(path=str(Path(folder) / f"overview-{scheme}-{width}.png"), full_page=True)
    page.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 1010, 768, 400, 320])
def test_the_record_fits(browser, served: Served, width: int, scheme: str) -> None:  # type: ignore[no-untyped-def]
    page = open_page(browser, served, width, color_scheme=scheme)
    page.click("text=Record")
    page.wait_for_selector("h1:has-text('What was promised')")
    assert page.title() == "Record · Sublet"
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    too_wide = page.evaluate(
        "w => [...document.querySelectorAll('main *')].filter(n => !n.closest('.unseen, thead')"
        " && n.getBoundingClientRect().right > w + 0.5).map(n => n.outerHTML.slice(0, 80))",
        width,
    )
    assert too_wide == []
    assert page.complaints == []
    folder = os.environ.get("SUBLET_TEST_SCREENSHOTS")
    if folder:
        page.screenshot(path=str(Path(folder) / f"record-{scheme}-{width}.png"), full_page=True)
    page.context.close()


def test_the_record_is_whole_without_javascript(browser, served: Served) -> None:  # type: ignore[no-untyped-def]
    page = open_page(browser, served, 400, java_script_enabled=False)
    page.click("text=Record")
    assert page.locator("figure.curves path.line").count() == 11
    assert page.locator("svg.range").count() == 11
    assert "more than chance explains" in page.locator("main").inner_text()
    page.context.close()


@pytest.mark.parametrize("width", [1280, 400])
def test_labels_of_the_time_axis_do_not_touch(browser, served: Served, width: int) -> None:  # type: ignore[no-untyped-def]
    page = open_page(browser, served, width)
    for chart in page.locator(".plot").all():
        boxes = [label.bounding_box() for label in chart.locator("g.tick text").all() if label.is_visible()]
        assert len(boxes) >= 3
        for before, after in itertools.pairwise(boxes):
            assert before["x"] + before["width"] + 4 <= after["x"]
    page.context.close()


@pytest.mark.parametrize("width", [1280, 400])
def test_without_javascript_everything_is_there(browser, served: Served, width: int) -> None:  # type: ignore[no-untyped-def]
    page = open_page(browser, served, width, java_script_enabled=False)
    text = page.locator("main").inner_text()
    for words in ("h100-berlin", "2 min 31 s", "Qwen3-32B", "1,284.32", "drain replica", "gateway"):
        assert words in text
    assert page.locator("path.layer").count() >= 8
    page.locator("summary").first.click()
    assert page.locator("details table").first.is_visible()
    page.click("text=Sign out")
    assert page.url == f"{served.url}/login"
    page.goto(served.url)
    assert page.url == f"{served.url}/login"
    page.context.close()


def test_signing_out_ends_the_session(browser, served: Served) -> None:  # type: ignore[no-untyped-def]
    page = open_page(browser, served)
    page.click("text=Sign out")
    page.wait_for_url("**/login")
    page.go_back()
    page.wait_for_url("**/login")
    assert page.complaints == []
    page.context.close()


def test_a_wrong_key_is_answered_on_the_form(browser, served: Served) -> None:  # type: ignore[no-untyped-def]
    page = browser.new_page()
    page.goto(served.url)
    page.fill("#key", "sublet_customer")
    page.press("#key", "Enter")
    assert "the console is for the operator so far" in page.locator("[role=alert]").inner_text()
    page.close()


def test_the_page_renews_itself_and_keeps_what_is_open(browser, served: Served, clock: SimulatedClock) -> None:  # type: ignore[no-untyped-def]
    page = open_page(browser, served)
    page.locator("summary").first.click()
    served.overview = replace(sample_overview(clock.now() + timedelta(hours=1)), alerts=())
    page.wait_for_selector("section.alerts", state="detached", timeout=15_000)
    assert "01:00:00 UTC" in page.locator("#stamp").inner_text()
    assert page.locator("details").first.get_attribute("open") is not None
    assert page.complaints == []
    page.context.close()


def test_countdowns_run(browser, served: Served) -> None:  # type: ignore[no-untyped-def]
    page = open_page(browser, served)
    page.wait_for_function(
        "() => Number(/(\\d+) s/.exec(document.querySelector('[data-left-s]').textContent)[1]) < 31", timeout=10_000
    )
    page.context.close()


def test_pointing_at_a_chart_shows_the_figures_of_that_moment(browser, served: Served) -> None:  # type: ignore[no-untyped-def]
    page = open_page(browser, served)
    chart = page.locator("figure.chart").nth(1)
    capacity = chart.locator("[data-value=capacity]")
    assert capacity.inner_text() == "128"
    box = chart.locator(".plot > svg").bounding_box()
    page.mouse.move(box["x"] + 0.1 * box["width"], box["y"] + 50)
    assert capacity.inner_text() == "96"
    # A tenth of the thirty hours that begin on 4 January at 00:00, give or take a pixel.
    assert chart.locator(".pointer-label").text_content() in ("4 Jan 02:59", "4 Jan 03:00", "4 Jan 03:01")
    page.mouse.move(5, 5)
    assert capacity.inner_text() == "128"
    assert page.complaints == []
    page.context.close()


def test_when_the_overview_cannot_be_gathered_the_open_page_says_why(browser, served: Served) -> None:  # type: ignore[no-untyped-def]
    page = open_page(browser, served)
    served.broken = "the disk is full; free space there"
    page.wait_for_selector("#stamp.stale", timeout=20_000)
    assert page.locator("#stamp").inner_text().endswith("00:00:00 UTC: the disk is full; free space there")
    served.broken = ""
    page.wait_for_selector("#stamp:not(.stale)", timeout=20_000)
    page.context.close()


def test_when_the_console_stops_the_page_says_since_when(browser, served: Served) -> None:  # type: ignore[no-untyped-def]
    page = open_page(browser, served)
    served.server.should_exit = True
    page.wait_for_selector("#stamp.stale", timeout=20_000)
    assert page.locator("#stamp").inner_text().startswith("Not updating since 5 Jan 2026 00:00:00 UTC")
    assert page.locator("figure.chart").count() == 2
    page.context.close()
