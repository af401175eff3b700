"""Every page of the console in a real Chromium under axe-core: nothing serious by WCAG 2.2 AA, wide and narrow, light and dark."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.app.test_console_acts import GOOD, Console, rented
from tests.console.serving import TIMEOUT_MS, chromium, serving

from sublet.console.page import Page
from sublet.reporting.console_pages import console_pages
from sublet.reporting.overview import Overviews
from sublet.simulation.world import World

pytestmark = pytest.mark.real
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python holds axe-core")
RULES = {
    "resultTypes": ["violations"],
    "runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]},
}
SERIOUS = ("serious", "critical")
OUTSIDE = ("/login", "/login/passkey", "/forgot")


@pytest.fixture
def console(tmp_path: Path) -> Iterator[Console]:
    world = World(tmp_path / "w")
    world.remember(days=8, need=0.3, spread=0.05)
    yield Console(world)
    world.close()


def paths(console: Console, who: str) -> list[str]:
    """Every page that is listed for somebody, and those of single things."""
    shown = console_pages(console.system, Overviews(console.system, dict))
    session = console.system.sessions.find(console.browsers[who].client.cookies["sublet_session"])
    assert session is not None
    open_to = [item for item in shown if "{" not in item.path and item.opens_for(session.actor)]
    found = [item.path for item in open_to if isinstance(item, Page) or not item.tenants or who != "operator"]
    if who == "operator":
        acme = console.organization("acme")
        found += [f"/organizations/{acme}{page}" for page in ("", "/keys", "/people")]
    else:
        found += [rented(console, who), "/verify", "/organizations"]
    return found


def faults(page: Any) -> list[str]:
    """What axe finds that is serious, with where."""
    found = axe.Axe().run(page, options=RULES).response["violations"]
    return [
        f"{item['id']}: {item['nodes'][0]['html'][:160]} ({len(item['nodes'])})"
        for item in found
        if item["impact"] in SERIOUS
    ]


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (400, "dark"), (400, "light"), (1280, "dark")])
def test_axe_finds_nothing_serious_on_any_page(console: Console, width: int, scheme: str) -> None:
    complaints = {}
    with chromium() as browser, serving(console.api) as port:
        home = f"http://localhost:{port}"
        for who in ("acme", "operator"):
            context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
            context.set_default_timeout(TIMEOUT_MS)
            page = context.new_page()
            for path in OUTSIDE if who == "acme" else ():
                page.goto(home + path)
                complaints[path] = faults(page)
            page.goto(f"{home}/login")
            page.fill("#email", f"{who}@example.com")
            page.fill("#password", GOOD)
            page.press("#password", "Enter")
            page.wait_for_selector("header.top")
            for path in paths(console, who):
                page.goto(home + path)
                page.evaluate("document.querySelectorAll('details').forEach(item => { item.open = true; })")
                complaints[f"{who} {path}"] = faults(page)
            context.close()
    assert {path: found for path, found in complaints.items() if found} == {}
