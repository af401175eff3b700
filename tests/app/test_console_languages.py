"""The customer's pages in each language, in a real Chromium, at both widths and in both color schemes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.app.test_console_acts import GOOD, Console, rented
from tests.console.serving import TIMEOUT_MS, chromium, keep_picture, serving

from sublet.simulation.world import World

pytestmark = pytest.mark.real
PATHS = ("/offers", "/leases", "/playground", "/usage", "/billing", "/keys", "/people", "/account")


@pytest.fixture
def console(tmp_path: Path) -> Iterator[Console]:
    world = World(tmp_path / "w")
    world.remember(days=8, need=0.3, spread=0.05)
    yield Console(world)
    world.close()


@pytest.mark.parametrize(
    ("width", "scheme", "locale", "tag", "leases"),
    [(1280, "light", "zh-CN", "zh-Hans", "租约"), (400, "dark", "zh-TW", "zh-Hant", "租約")],
)
def test_the_pages_fit_in_each_language(
    console: Console, width: int, scheme: str, locale: str, tag: str, leases: str
) -> None:
    lease = rented(console, "acme")
    with chromium() as browser, serving(console.api) as port:
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, locale=locale)
        context.set_default_timeout(TIMEOUT_MS)
        page = context.new_page()
        complaints: list[str] = []
        page.on("console", lambda message: complaints.append(message.text))
        home = f"http://localhost:{port}"
        page.goto(f"{home}/login")
        assert page.evaluate("document.documentElement.lang") == tag
        keep_picture(page, f"sign-in-{tag}-{width}")
        page.fill("#email", "acme@example.com")
        page.fill("#password", GOOD)
        page.press("#password", "Enter")
        page.wait_for_selector(f"nav >> text={leases}")
        for path in (*PATHS, lease):
            page.goto(home + path)
            assert page.evaluate("document.documentElement.scrollWidth") <= width, path
            assert page.evaluate("document.documentElement.lang") == tag
            keep_picture(page, f"{path.strip('/').split('/')[0]}{len(path.split('/')) - 1}-{tag}-{width}")
        assert complaints == []
        context.close()
