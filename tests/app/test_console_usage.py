"""The pages of usage: totals that lead to single requests, filters, CSV that runs no formula, and nothing of others."""

from __future__ import annotations

import csv
import html
import io
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from tests.app.test_console_acts import EVIL, GOOD, ORIGIN, Console
from tests.console.serving import TIMEOUT_MS, chromium, keep_picture, serving

from sublet.ledger.model import UsageEvent
from sublet.simulation.world import World

FORMULA = '=HYPERLINK("http://evil","x")'


@pytest.fixture
def console(tmp_path: Path) -> Iterator[Console]:
    world = World(tmp_path / "w")
    made = Console(world)
    use(made)
    yield made
    world.close()


def use(console: Console) -> None:
    """A week of tokens by two keys, some for a project with a hostile name, and a request of another tenant."""
    system, now = console.system, console.world.clock.now()
    acme, bolt = console.organization("acme"), console.organization("bolt")
    key, _ = system.accounts.create_key(acme, "the batch job")
    events = []
    for day in range(7):
        for number, (key_id, project, model) in enumerate(
            ((key.id, "", "llama"), ("", FORMULA, "llama"), ("", EVIL[:80], "other"))
        ):
            at, name = now - timedelta(days=day, hours=1), f"req_{day}_{number}"
            for meter, amount in (("tokens.input", 1_000_000 * (day + 1)), ("tokens.output", 50_000)):
                dims = {"model": model}
                events.append(UsageEvent("g", f"{name}/{meter}", acme, meter, amount, at, name, project, key_id, dims))
    events.append(UsageEvent("g", "theirs", bolt, "tokens.input", 5, now, "req_theirs", "", "", {"model": "llama"}))
    assert system.ledger.take_now(events).refused == ()
    system.ledger.rate()


def links(text: str, begins: str) -> list[str]:
    return [found for found in map(html.unescape, re.findall(r'href="([^"]+)"', text)) if found.startswith(begins)]


def test_from_the_total_to_a_request(console: Console) -> None:
    browser = console.browsers["acme"]
    text = browser.get("/usage")
    # 3 events a day of 1 to 7 million input tokens.
    assert "84,000,000" in text and "1,050,000" in text
    day = next(link for link in links(text, "/usage/records?") if "by=day" in link and "since=" in link)
    assert day in links(text, "/usage/records?")
    by_model = browser.get("/usage?by=item")
    assert by_model.index("llama") < by_model.index(">other<"), "the most expensive first"
    [narrowed] = [link for link in links(by_model, "/usage?") if "item=llama" in link]
    inside = browser.get(narrowed)
    assert "56,000,000" in inside and "Remove the filter Model or class" in inside
    by_key = browser.get("/usage?by=key_id")
    assert "the batch job" in by_key
    page = browser.get(max(links(text, "/usage/records?"), key=len))
    record = links(page, "/usage/records/req_")[0]
    shown = browser.get(record)
    assert "Input tokens" in shown and "Output tokens" in shown and "not rated yet" not in shown
    name = record.split("/")[-1].split("?")[0]
    assert name in browser.get(f"/usage/records/{name}"), "found without its day too"
    meters = browser.get("/usage?by=meter")
    assert "Cached input tokens" not in meters and "Input tokens" in meters


def test_the_csv_has_every_row_and_runs_no_formula(console: Console) -> None:
    answer = console.browsers["acme"].client.get("/usage/export.csv")
    assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/csv")
    assert answer.headers["content-disposition"] == 'attachment; filename="usage.csv"'
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert len(rows) == 7 * 3 * 2
    assert {row["project"] for row in rows} == {"", f"'{FORMULA}", EVIL[:80]}
    assert sum(int(row["quantity"]) for row in rows if row["meter"] == "tokens.input") == 84_000_000
    only = console.browsers["acme"].client.get("/usage/export.csv?item=other").text
    assert len(only.splitlines()) == 1 + 7 * 2


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("since=yesterday", 400),
        ("since=2026-01-02&until=2026-01-01", 400),
        ("since=2000-01-01", 400),
        ("until=0001-01-01", 400),
        ("by=nothing&item=%00&project=' OR 1=1 --", 200),
        ("item=" + "x" * 5000, 200),
        ("until=9999-12-31&since=9999-12-31", 400),
    ],
)
def test_odd_addresses_are_answered(console: Console, query: str, status: int) -> None:
    client = console.browsers["acme"].client
    for path in ("/usage", "/usage/export.csv", "/usage/records"):
        assert client.get(f"{path}?{query}").status_code == status, path
    assert client.get("/usage/records?after=%21").status_code == 400


def test_nothing_of_another_tenant_or_project_is_shown(console: Console) -> None:
    acme, bolt = console.browsers["acme"], console.browsers["bolt"]
    assert acme.client.get("/usage/records/req_theirs").status_code == 404
    assert "req_theirs" in bolt.get("/usage/records/req_theirs")
    assert "84,000,000" not in bolt.get("/usage")
    stranger = TestClient(console.api, follow_redirects=False)
    assert stranger.get("/usage/export.csv").headers["location"].startswith("/login")
    owner = console.organization("acme")
    _, secret = console.system.accounts.create_key(owner, "for a project", None, None, FORMULA)
    of_project = TestClient(console.api, follow_redirects=False)
    assert of_project.post("/login", data={"key": secret}, headers=ORIGIN).status_code == 303
    assert "28,000,000" in of_project.get("/usage?project=another").text
    assert of_project.get("/usage/records/req_0_0").status_code == 404
    assert of_project.get("/usage/records/req_0_1").status_code == 200
    assert "llama" in of_project.get("/usage/export.csv").text
    assert "other" not in of_project.get("/usage/export.csv").text


def test_markup_in_names_stays_text(console: Console) -> None:
    for path in ("/usage?by=project", "/usage/records"):
        text = console.browsers["acme"].get(path)
        assert "<script>alert" not in text and "<img src=x" not in text and "{{7*7}}" not in text.replace("{{7*7}}", "")


@pytest.mark.real
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (400, "dark")])
def test_the_pages_fit(console: Console, width: int, scheme: str) -> None:
    with chromium() as browser, serving(console.api) as port:
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        context.set_default_timeout(TIMEOUT_MS)
        page = context.new_page()
        complaints: list[str] = []
        page.on("console", lambda message: complaints.append(message.text))
        home = f"http://localhost:{port}"
        page.goto(f"{home}/login")
        page.fill("#email", "acme@example.com")
        page.fill("#password", GOOD)
        page.press("#password", "Enter")
        page.wait_for_selector("header.top")
        for name, path in (("days", "/usage"), ("projects", "/usage?by=project"), ("records", "/usage/records")):
            page.goto(home + path)
            assert page.evaluate("document.documentElement.scrollWidth") <= width, path
            keep_picture(page, f"usage-{name}-{scheme}-{width}")
        page.click("td.head a >> nth=0")
        page.wait_for_selector("h1.id")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        keep_picture(page, f"usage-record-{scheme}-{width}")
        assert complaints == []
        context.close()
