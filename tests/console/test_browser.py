"""The console in a real Chromium: at two widths, in two color schemes, with and without JavaScript."""

from __future__ import annotations

import itertools
import os
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta

import pytest
import uvicorn
from fastapi import FastAPI
from tests.console.sample import sample_budgets, sample_overview, sample_record
from tests.console.serving import keep_picture

from sublet.console import Overview
from sublet.console.budgets import budgets_page
from sublet.console.model import BudgetsQuery, BudgetsView, Told
from sublet.console.overview import overview_page
from sublet.console.record import record_page
from sublet.values.clock import SimulatedClock
from sublet.values.errors import StorageFullError
from sublet.values.money import Money

pytestmark = pytest.mark.real
sync_api = pytest.importorskip("playwright.sync_api", reason="the playwright package drives the browser")

EVIL = "<script>document.title='broken in'</script>"
TIMEOUT_MS = 60_000
"""How long to wait for what must come. It comes much sooner; a loaded machine is no failure."""
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
def served(console: Callable[..., FastAPI], clock: SimulatedClock) -> Iterator[Served]:
    sample = sample_overview(clock.now())
    hostile = replace(sample.leases[0], organization=EVIL + "w" * 120)
    assert sample.budgets is not None
    rows = (replace(sample.budgets.rows[0], organization=EVIL + "w" * 120), *sample.budgets.rows[1:])
    shown = Served(
        "",
        replace(sample, leases=(hostile, *sample.leases[1:]), budgets=replace(sample.budgets, rows=rows)),
        None,  # type: ignore[arg-type]
    )
    app = console(
        overview_page(shown.gather),
        budgets_page(lambda query: hostile_budgets(clock, query)),
        record_page(lambda pool: sample_record(clock.now())),
    )
    listener = socket.create_server(("127.0.0.1", 0))
    shown.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    shown.server = uvicorn.Server(uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=1))
    thread = threading.Thread(target=shown.server.run, kwargs={"sockets": [listener]})
    thread.start()
    yield shown
    shown.server.should_exit = True
    thread.join(timeout=10)
    listener.close()


def hostile_budgets(clock: SimulatedClock, query: BudgetsQuery) -> BudgetsView:
    """The sample's budgets with names and figures that nobody would choose."""
    found = sample_budgets(clock.now(), query)
    if query.find:
        return found
    odd = replace(
        found.rows[0],
        organization=EVIL + "w" * 120,
        subject="معهد " + "ж" * 80,
        limit=Money(2**62),
        spent=Money(2**63),
        told=(Told(80, clock.now(), f"webhook given up: {EVIL}{'x' * 200}"),),
    )
    return replace(found, rows=(odd, *found.rows[1:]))


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
    context.set_default_timeout(TIMEOUT_MS)
    page = context.new_page()
    page.complaints = []
    page.on("console", lambda message: page.complaints.append(message.text))
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.goto(served.url)
    sign_in(page, "sublet_operator")
    page.wait_for_selector("#live")
    return page


def sign_in(page, key: str) -> None:  # type: ignore[no-untyped-def]
    page.click("summary")
    page.fill("#key", key)
    page.press("#key", "Enter")


def assert_fits(page, width: int, beside: str) -> None:  # type: ignore[no-untyped-def]
    """Nothing reaches beyond the page's right edge, but for what lies in elements that match `beside`; nor does it with all
    details open."""
    assert_nothing_sticks_out(page, width, beside)
    opened = page.evaluate(
        "[...document.querySelectorAll('main details:not([open])')].map(n => { n.open = true; return n.id; })"
    )
    assert_nothing_sticks_out(page, width, beside)
    page.evaluate("ids => ids.forEach(id => document.getElementById(id).open = false)", opened)


def assert_nothing_sticks_out(page, width: int, beside: str) -> None:  # type: ignore[no-untyped-def]
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    too_wide = page.evaluate(
        "([w, beside]) => [...document.querySelectorAll('main *')].filter(n => !n.closest(beside)"
        " && n.getBoundingClientRect().right > w + 0.5).map(n => n.outerHTML.slice(0, 80))",
        [width, beside],
    )
    assert too_wide == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 768, 400, 320])
def test_the_page_fits_and_says_nothing_to_the_console(browser, served: Served, width: int, scheme: str) -> None:  # type: ignore[no-untyped-def]
    page = open_page(browser, served, width, color_scheme=scheme)
    assert_fits(page, width, beside=".scroll, .unseen, thead")
    assert page.title() == "Overview · Sublet"
    assert EVIL in page.locator("table.cards").first.inner_text()
    assert page.locator("figure.chart svg[role=img]").count() == 2
    assert page.complaints == []
    keep_picture(page, f"overview-{scheme}-{width}")
    page.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 1010, 768, 400, 320])
def test_the_record_fits(browser, served: Served, width: int, scheme: str) -> None:  # type: ignore[no-untyped-def]
    page = open_page(browser, served, width, color_scheme=scheme)
    page.click("text=Record")
    page.wait_for_selector("h1:has-text('Promises and outcomes')")
    assert page.title() == "Record · Sublet"
    assert_fits(page, width, beside=".unseen, thead")
    shares = page.eval_on_selector_all(
        ".told .why", "nodes => nodes.map(n => n.getBoundingClientRect().width / n.closest('ul').clientWidth)"
    )
    assert len(shares) >= 7 and min(shares) > 0.5
    assert page.complaints == []
    keep_picture(page, f"record-{scheme}-{width}")
    page.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 1010, 768, 400, 320])
def test_the_budgets_fit(browser, served: Served, width: int, scheme: str) -> None:  # type: ignore[no-untyped-def]
    page = open_page(browser, served, width, color_scheme=scheme)
    page.click("text=Budgets")
    page.wait_for_selector("h1:has-text('Budgets and what is left')")
    assert page.title() == "Budgets · Sublet"
    assert_fits(page, width, beside=".unseen, thead")
    for bar in page.locator("svg.use").all():
        assert bar.bounding_box()["width"] >= 100
    assert EVIL in page.locator("table.cards").first.inner_text()
    assert page.complaints == []
    keep_picture(page, f"budgets-{scheme}-{width}")
    page.context.close()


def test_budgets_are_found_and_ordered_without_javascript(browser, served: Served) -> None:  # type: ignore[no-untyped-def]
    page = open_page(browser, served, 400, java_script_enabled=False)
    page.click("text=Budgets")
    assert page.locator("svg.use").count() == 6
    page.fill("#find", "kestrel")
    page.press("#find", "Enter")
    page.wait_for_url("**/budgets?find=kestrel")
    assert page.locator("svg.use").count() == 1
    assert "2,189,000.00" in page.locator("main").inner_text()
    page.click("text=By organization")
    page.wait_for_url("**/budgets?find=kestrel&order=organization")
    page.fill("#find", "<b>")
    page.click("text=Find")
    assert "No budget of an organization, project or key with <b>" in page.locator("main").inner_text()
    page.context.close()


def test_what_is_typed_is_not_renewed_away(browser, served: Served) -> None:  # type: ignore[no-untyped-def]
    page = open_page(browser, served)
    page.clock.install()
    page.goto(f"{served.url}/budgets")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if request.resource_type == "fetch" else None)
    page.type("#find", "kes")
    page.clock.run_for(120_000)
    assert asked == []
    assert page.input_value("#find") == "kes"
    page.fill("#find", "")
    with page.expect_response("**/budgets"):
        page.clock.run_for(15_000)
    page.context.close()


def test_who_moves_by_keyboard_stays_where_they_are(browser, served: Served) -> None:  # type: ignore[no-untyped-def]
    page = open_page(browser, served)
    page.clock.install()
    page.goto(served.url)
    page.focus("main a[href='/budgets']")
    page.evaluate("document.activeElement.old = true")
    page.clock.run_for(6_000)
    page.wait_for_function("() => document.activeElement.matches('main a') && !document.activeElement.old")
    assert page.evaluate("document.activeElement.getAttribute('href')") == "/budgets"
    page.context.close()


REACHED = """() => { const n = document.activeElement, s = getComputedStyle(n);
  return [n.outerHTML.slice(0, 120), s.outlineStyle !== 'none' && parseFloat(s.outlineWidth) >= 2]; }"""
REACHABLE = """() => [...document.querySelectorAll('a[href], button, input, summary, [tabindex]')].filter(
  n => n.tabIndex >= 0 && n.type !== 'hidden' && n.checkVisibility()).map(n => n.outerHTML.slice(0, 120))"""


@pytest.mark.parametrize("path", ["/", "/budgets", "/record"])
def test_the_keyboard_reaches_everything_and_is_seen_where_it_is(browser, served: Served, path: str) -> None:  # type: ignore[no-untyped-def]
    page = open_page(browser, served)
    # Without its script the page stands still.
    page.route("**/console.*.js", lambda route: route.abort())
    page.goto(served.url + path)
    page.evaluate("document.querySelectorAll('details').forEach(node => node.open = true)")
    wanted = page.evaluate(REACHABLE)
    assert len(wanted) >= 5
    reached = []
    for _ in wanted:
        page.keyboard.press("Tab")
        name, seen = page.evaluate(REACHED)
        reached.append(name)
        assert seen, (name, sorted(set(wanted) - set(reached)))
    assert sorted(reached) == sorted(wanted)
    assert "skip" in reached[0]
    page.context.close()


TOO_FAINT = """() => {
  const paint = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const over = (colors) => {
    paint.fillStyle = '#fff'; paint.fillRect(0, 0, 1, 1);
    for (const color of colors) { paint.fillStyle = color; paint.fillRect(0, 0, 1, 1); }
    return [...paint.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const light = (color) => {
    const [r, g, b] = color.map(v => v / 255).map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
    return .2126 * r + .7152 * g + .0722 * b;
  };
  const grounds = (node) => {
    const found = [];
    for (let at = node; at; at = at.parentElement) found.unshift(getComputedStyle(at).backgroundColor);
    return found;
  };
  const found = [], walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  let seen = 0;
  while (walk.nextNode()) {
    const text = walk.currentNode.data.trim(), node = walk.currentNode.parentElement;
    if (!text || !node.checkVisibility({visibilityProperty: true}) || node.closest('title, desc, noscript, script, .unseen')) continue;
    const style = getComputedStyle(node), svg = node instanceof SVGElement;
    let opacity = 1;
    for (let at = node; at; at = at.parentElement) opacity *= Number(getComputedStyle(at).opacity);
    const ground = over(grounds(svg ? node.closest('svg').parentElement.closest(':not(svg)') : node));
    const ink = over([`rgb(${ground})`, svg ? style.fill : style.color]).map((v, i) => v * opacity + ground[i] * (1 - opacity));
    const [low, high] = [light(ink), light(ground)].sort((a, b) => a - b);
    const ratio = (high + .05) / (low + .05), size = parseFloat(style.fontSize);
    seen++;
    if (ratio < 4.5 || size < 11.5) found.push([text.slice(0, 40), +ratio.toFixed(2), size, node.className.baseVal ?? node.className]);
  }
  return [seen, found];
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_that_is_drawn_can_be_read(browser, served: Served, scheme: str) -> None:  # type: ignore[no-untyped-def]
    """WCAG 2.2, 1.4.3: text stands out from its ground by 4.5 to 1. And none is smaller than 11.5 pixels."""
    page = open_page(browser, served, color_scheme=scheme)
    page.route("**/console.*.js", lambda route: route.abort())
    for path, least in (("/", 150), ("/budgets", 60), ("/record", 100), ("/record?pool=x", 40)):
        page.goto(served.url + path)
        seen, faint = page.evaluate(TOO_FAINT)
        assert (path, faint) == (path, [])
        assert seen >= least
    page.context.clear_cookies()
    page.goto(served.url)
    sign_in(page, "sublet_wrong")
    page.wait_for_selector("[role=alert]")
    seen, faint = page.evaluate(TOO_FAINT)
    assert (seen >= 6, faint) == (True, [])
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
    sign_in(page, "sublet_mistyped")
    assert "unknown, expired or revoked" in page.locator("[role=alert]").inner_text()
    page.close()


def test_the_page_renews_itself_and_keeps_what_is_open(browser, served: Served, clock: SimulatedClock) -> None:  # type: ignore[no-untyped-def]
    page = open_page(browser, served)
    page.locator("summary").first.click()
    served.overview = replace(sample_overview(clock.now() + timedelta(hours=1)), alerts=())
    page.wait_for_selector("section.alerts", state="detached")
    assert "01:00:00 UTC" in page.locator("#stamp").inner_text()
    assert page.locator("details").first.get_attribute("open") is not None
    assert page.complaints == []
    page.context.close()


def test_countdowns_run(browser, served: Served) -> None:  # type: ignore[no-untyped-def]
    page = open_page(browser, served)
    page.wait_for_function("() => Number(/(\\d+) s/.exec(document.querySelector('[data-left-s]').textContent)[1]) < 31")
    page.context.close()


def test_pointing_at_a_chart_shows_the_figures_of_that_moment(browser, served: Served) -> None:  # type: ignore[no-untyped-def]
    page = open_page(browser, served)
    # Time stands still, so that nothing is renewed meanwhile.
    page.clock.install()
    page.goto(served.url)
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
    page.wait_for_selector("#stamp.stale:has-text('00:00:00 UTC: the disk is full; free space there')")
    served.broken = ""
    page.wait_for_selector("#stamp:not(.stale)")
    page.context.close()


def test_when_the_console_stops_the_page_says_since_when(browser, served: Served) -> None:  # type: ignore[no-untyped-def]
    page = open_page(browser, served)
    served.server.should_exit = True
    page.wait_for_selector("#stamp.stale")
    assert page.locator("#stamp").inner_text().startswith("Not updating since 5 Jan 2026 00:00:00 UTC")
    assert page.locator("figure.chart").count() == 2
    page.context.close()
