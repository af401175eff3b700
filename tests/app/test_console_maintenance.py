"""Maintenance in the console: what a window costs is shown first, then it is scheduled, drawn, audited, and canceled."""

from __future__ import annotations

import html
import os
import re
import shutil
import socket
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import uvicorn
from sqlalchemy import update
from tests.app.test_console_acts import GOOD, ORIGIN, Console
from tests.app.worlds import recorded
from tests.leases.world import KEY

from sublet.console.moments import typed_moment
from sublet.leases.quotes.request import QuoteRequest
from sublet.reporting.overview import Overviews
from sublet.simulation.world import World
from sublet.store.tables.fleet import pools

PATH = "/maintenance"
SWITCHES = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking")


@pytest.fixture
def console(tmp_path: Path) -> Iterator[Console]:
    world = recorded(World, tmp_path / "w", days=20, need=0.0)
    yield Console(world)
    world.close()


def text_of(page: str) -> str:
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page)))


def leased(console: Console, service_class: str = "notice") -> str:
    pool = console.world.pool
    request = QuoteRequest(pool.accelerators // 2, service_class, duration_s=3600, pool=pool.name)
    quote = console.system.leases.quote(console.organization("acme"), request)
    lease = console.system.leases.accept(console.organization("acme"), quote.id, [KEY])
    console.world.pass_time(60, tick_s=5)
    return lease.id


def window(console: Console, **more: str) -> dict[str, str]:
    start = console.world.clock.now() + timedelta(minutes=15)
    return {
        "pool": console.world.pool.name,
        "accelerators": "",
        "start": typed_moment(start),
        "end": typed_moment(start + timedelta(hours=2)),
        "reason": "new <b>firmware</b>",
        **more,
    }


def test_a_window_is_shown_with_its_cost_then_scheduled_once_and_canceled(console: Console) -> None:
    browser, lease_id = console.browsers["operator"], leased(console)
    assert "No maintenance is scheduled" in text_of(browser.get(PATH))
    shown = browser.send(PATH, "plan", **window(console))
    plan = text_of(shown.text)
    assert shown.status_code == 200 and lease_id in plan and "Leases reclaimed 1" in plan, plan
    assert re.search(r"Credits owed [\d.]+ USD", plan) and "<b>firmware" not in shown.text
    assert not console.system.maintenance.page().items, "nothing is scheduled by looking"
    fields = dict(re.findall(r'name="(form_token|once)" value="([^"]*)"', shown.text))
    data = {**fields, "act": "add", **window(console)}
    first, second = (browser.client.post(PATH, data=data, headers=ORIGIN) for _ in range(2))
    assert first.headers["location"] == PATH and second.status_code == 409
    [made] = console.system.maintenance.page().items
    assert console.system.leases.lease(lease_id).reclaim_at is not None
    listed = text_of(browser.get(PATH))
    assert made.id in listed and "planned" in listed and "firmware" in listed
    [pool] = Overviews(console.system, lambda: {"ok": True, "failing": [], "backends": []}).now().pools
    assert [(item.accelerators, item.window.start) for item in pool.away] == [(pool.capacity, made.window.start)]
    assert 'class="away"' in browser.get("/")
    assert browser.send(PATH, "cancel", window=made.id).headers["location"] == PATH
    console.world.pass_time(10, tick_s=5)
    assert "canceled" in text_of(browser.get(PATH)) and 'class="away"' not in browser.get("/")
    log = text_of(browser.get("/audit"))
    assert "console.maintenance.add" in log and "console.maintenance.cancel" in log
    assert made.id in log, "the log names the window"
    offline = update(pools).values(offline_at=console.world.clock.now())
    console.system.store.write(lambda connection: connection.execute(offline))
    page = browser.get(PATH)
    assert f"<bdi>{console.world.pool.name}</bdi>" in page and "<option" not in page, "it has a name, and takes no more"


def test_firm_leases_are_named_and_broken_by_force_alone(console: Console) -> None:
    browser, lease_id = console.browsers["operator"], leased(console, "firm")
    plan = text_of(browser.send(PATH, "plan", **window(console)).text)
    assert "are promised firmly" in plan and "Schedule maintenance" in plan
    refused = browser.send(PATH, "add", once="a1", **window(console))
    assert refused.status_code == 409 and "promised firmly" in text_of(refused.text)
    assert lease_id in text_of(browser.send(PATH, "plan", **window(console, force="yes")).text)
    assert browser.send(PATH, "add", once="a2", **window(console, force="yes")).headers["location"] == PATH


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"end": ""}, "a date and a time"), ({"accelerators": "9999"}, "not 9999"), ({"end": "2001-01-01T00:00"}, "end")],
)
def test_what_can_not_be_is_refused_beside_what_was_typed(
    console: Console, changes: dict[str, str], words: str
) -> None:
    answer = console.browsers["operator"].send(PATH, "plan", **window(console, **changes))
    assert answer.status_code == 400 and words in text_of(answer.text) and "firmware" in html.unescape(answer.text)


def test_customers_have_no_such_page(console: Console) -> None:
    assert console.browsers["acme"].client.get(PATH).status_code in (403, 404)


@pytest.mark.real
@pytest.mark.parametrize("width", [400, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_works_in_a_browser_without_javascript(console: Console, width: int, scheme: str, tmp_path: Path) -> None:
    sync_api = pytest.importorskip("playwright.sync_api", reason="the playwright package drives the browser")
    lease_id = leased(console)
    held = socket.socket()
    held.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(console.api, log_config=None, lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [held]}, daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{held.getsockname()[1]}"
    try:
        with sync_api.sync_playwright() as driver:
            path = shutil.which("chromium") or shutil.which("chromium-browser")
            browser = driver.chromium.launch(executable_path=path, args=list(SWITCHES))
            context = browser.new_context(
                java_script_enabled=False, color_scheme=scheme, viewport={"width": width, "height": 900}
            )
            page = context.new_page()
            page.goto(f"{url}/login")
            page.fill("input[name=email]", "operator@example.com")
            page.fill("input[name=password]", GOOD)
            page.press("input[name=password]", "Enter")
            page.goto(url + PATH)
            planned = window(console)
            page.fill("input[name=start]", planned["start"])
            page.fill("input[name=end]", planned["end"])
            page.fill("input[name=reason]", "new firmware")
            page.click("text=Show what it means")
            assert lease_id in page.inner_text("main") and "Credits owed" in page.inner_text("main")
            _look(page, width, tmp_path / "plan.png")
            page.click("main section form button")
            assert "planned" in page.inner_text("main table")
            _look(page, width, tmp_path / "listed.png")
            console.world.pass_time(10, tick_s=5)
            page.goto(f"{url}/")
            assert page.locator(".plot .away").count() >= 1
            _look(page, width, tmp_path / "chart.png")
            browser.close()
    finally:
        server.should_exit = True
        thread.join(10)
        held.close()


def _look(page: object, width: int, path: Path) -> None:
    """Nothing is wider than the window. With SUBLET_SHOTS a picture is kept."""
    box = page.locator("body").bounding_box()  # type: ignore[attr-defined]
    assert box is not None and box["width"] <= width
    folder = os.environ.get("SUBLET_SHOTS")
    if folder:
        page.screenshot(path=f"{folder}/{path.parent.name}-{path.name}", full_page=True)  # type: ignore[attr-defined]
