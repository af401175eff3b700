"""Orders in the console: hours by a deadline for a customer, and blocks for the owner, each with what it means shown before."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from tests.app.test_console_acts import ORIGIN, Console
from tests.app.worlds import recorded
from tests.leases.world import KEY

from sublet.console.moments import typed_moment
from sublet.leases.blocks.service import NewBlockRequest
from sublet.leases.quotes.admission import QuoteRequest
from sublet.simulation.world import SSH_KEY, World


@pytest.fixture
def console(tmp_path: Path) -> Iterator[Console]:
    sold = {"broken_per_1000_max": 20, "orders": [[1, 8], [4, 24]]}
    world = recorded(World, tmp_path / "w", days=20, need=0.25, deadline=sold)
    yield Console(world)
    world.close()


def text_of(page: str) -> str:
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page)))


def order(console: Console, hours: int, within: float, count: int = 1) -> dict[str, str]:
    by = typed_moment(console.world.clock.now() + timedelta(hours=within))
    common = {"pool": console.world.pool.name, "class": "deadline"}
    return common | {"accelerators": str(count), "hours": str(hours), "by": by}


def test_a_customer_orders_hours_by_a_deadline(console: Console) -> None:
    browser = console.browsers["acme"]
    offers = text_of(browser.get("/offers"))
    assert "Hours by a deadline" in offers and re.search(r"1 h within 8 h: \d+ available", offers)
    wanted = order(console, 2, 26, 3)
    asked = browser.send("/offers", "quote", **wanted)
    assert asked.status_code == 303, text_of(asked.text)
    path = asked.headers["location"]
    quote = text_of(browser.get(path))
    for words in (
        "2 h on each accelerator",
        "Latest start, UTC",
        "In time on 100 %",
        "the capacity is held",
        "If it is late",
    ):
        assert words in quote, words
    taken = browser.send(path, "accept", ssh_key=KEY, **wanted)
    assert taken.status_code == 303, text_of(taken.text)
    lease = console.system.leases.lease(taken.headers["location"].rpartition("/")[2])
    assert (lease.class_name, lease.service_s, lease.accelerators) == ("deadline", 7200, 3)
    assert "deadline" in text_of(browser.get(f"/leases/{lease.id}"))


def test_a_late_click_shows_the_same_order_anew(console: Console) -> None:
    browser = console.browsers["acme"]
    wanted = order(console, 1, 12)
    path = browser.send("/offers", "quote", **wanted).headers["location"]
    data = {**browser.hidden(path), "act": "accept", "ssh_key": KEY, **wanted}
    console.world.clock.advance(90)
    late = browser.client.post(path, data=data, headers=ORIGIN)
    assert late.status_code == 200 and "1 h on each accelerator" in text_of(late.text)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"by": "tomorrow"}, "write a date and a time of UTC"),
        ({"by": "2020-01-01T00:00"}, "the deadline"),
        ({"hours": "0"}, "hours must be a whole number"),
        ({"hours": "9999"}, "hours must be a whole number from 1 to 168"),
        ({"accelerators": "4000"}, "the pool has 8"),
        ({"hours": "3"}, "earliest deadline that can be promised is"),
    ],
)
def test_what_can_not_be_ordered_is_said_and_what_was_typed_stays(
    console: Console, changed: dict[str, str], said: str
) -> None:
    answer = console.browsers["acme"].send("/offers", "quote", **{**order(console, 3, 6), **changed})
    assert answer.status_code >= 400 and said in text_of(answer.text)
    assert 'name="by"' in answer.text and 'value="notice" required checked' in answer.text


def block(console: Console, count: int, days: int = 30, **more: str) -> dict[str, str]:
    end = typed_moment(console.world.clock.now() + timedelta(days=days))
    return {"pool": console.world.pool.name, "accelerators": str(count), "end": end, "reason": "term", **more}


def test_the_owner_sees_what_a_block_means_and_then_creates_it_once(console: Console) -> None:
    browser = console.browsers["operator"]
    assert "No part of a pool is a block now." in browser.get("/blocks")
    wanted = block(console, 4, min_price="5.00")
    shown = browser.send("/blocks", "plan", **wanted)
    assert shown.status_code == 200, text_of(shown.text)
    told = text_of(shown.text)
    for words in (
        "Own work that would have waited",
        "Penalty",
        "at 5.00 per accelerator-hour",
        "nothing is for sale yet",
    ):
        assert words in told, words
    hours = 4 * 30 * 24
    assert f"{5 * hours:,}" in told and f"{5 * hours * 5 // 4:,}" in told, (
        "the income, and a quarter more as its penalty"
    )
    assert console.system.blocks.page().items == []
    fields = dict(
        re.findall(r'name="(form_token|once|pool|accelerators|end|min_price|reason)" value="([^"]*)"', shown.text)
    )
    data = {name: html.unescape(value) for name, value in fields.items()} | {"act": "create", **wanted}
    answers = [browser.client.post("/blocks", data=data, headers=ORIGIN) for _ in range(2)]
    answers.append(browser.client.post("/blocks", data=data | {"accelerators": "2"}, headers=ORIGIN))
    assert answers[0].headers["location"] == "/blocks"
    assert all("already been submitted" in text_of(answer.text) for answer in answers[1:])
    [made] = console.system.blocks.page().items
    assert (made.block.accelerators, made.block.min_price_nano, made.block.reason) == (4, 5_000_000_000, "term")
    listed = browser.get("/blocks")
    assert made.block.id in listed and f"<bdi>{console.world.pool.name}</bdi>" in listed
    conflict = browser.send("/blocks", "plan", **block(console, 6))
    assert conflict.status_code >= 400 and made.block.id in text_of(conflict.text), (
        "refused before anything is confirmed"
    )
    assert 'value="6"' in conflict.text, "what was typed stays"


def test_the_calendar_is_drawn_and_its_table_has_the_same_figures(console: Console) -> None:
    """A lease from a block, in a window that ends within the calendar."""
    world, browser = console.world, console.browsers["operator"]
    end = world.clock.now() + timedelta(days=40)
    world.system.blocks.create(NewBlockRequest(world.pool.name, 4, end), "operator")
    rented = world.clock.now() + timedelta(days=10)
    quote = console.system.leases.quote(
        console.organization("acme"), QuoteRequest(3, "firm", rented, None, world.pool.id)
    )
    console.system.leases.accept(console.organization("acme"), quote.id, [SSH_KEY])
    shown = browser.get(f"/blocks?pool={world.pool.name}&days=90")
    figure = shown.partition('<figure class="chart booked">')[2].partition("</figure>")[0]
    rows = re.findall(r'<tr><th scope="row">(.*?)</th><td>(.*?)</td>(.*?)</tr>', figure)
    figures = [re.findall(r'<td class="number">(.*?)</td>', row[2]) for row in rows]
    heads = re.findall(r'<th scope="col"(?: class="number")?>(.*?)</th>', figure)
    assert heads == [
        "From, UTC", "Until, UTC", "Capacity", "Sold from blocks", "Unsold in blocks", "Left", "Too many",
    ]  # fmt: skip
    assert figures == [["8", "3", "1", "4", "0"], ["8", "0", "4", "4", "0"], ["8", "0", "0", "8", "0"]]
    # The plot is 1,000 wide for 90 days, and 10 high for 8 accelerators and the room above them.
    paths = dict(re.findall(r'<path class="layer (\S+)" d="(.*?)"/>', figure))
    assert set(paths) == {"class-g", "sale"}
    assert paths["class-g"].startswith("M0 1000V") and f"H{1000 * 10 / 90:.1f}" in paths["class-g"]
    assert f"H{1000 * 40 / 90:.1f}" in paths["sale"]
    assert "next 30 days" in text_of(browser.get("/blocks?pool=nowhere&days=x")), "what is unknown is not looked for"


@pytest.mark.parametrize("days", [0.5, 1, 3, 60])
def test_what_the_history_is_too_short_for_is_called_unknown(console: Console, days: float) -> None:
    """20 days of history have 20 spans of a day: enough for half and 9 of 10 of them, and not for 99 of 100."""
    end = typed_moment(console.world.clock.now() + timedelta(days=days))
    shown = console.browsers["operator"].send("/blocks", "plan", **block(console, 2) | {"end": end})
    told = text_of(shown.text)
    assert shown.status_code == 200 and "not known" in told and "nothing is for sale yet" in told


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"pool": "nowhere"}, "there is no pool"),
        ({"accelerators": "99"}, "8"),
        ({"accelerators": "x"}, "accelerators must be a whole number"),
        ({"end": "soon"}, "write a date and a time of UTC"),
        ({"end": "2020-01-01T00:00"}, "end"),
        *[
            ({"min_price": text}, "is not an amount")
            for text in ("cheap", "NaN", "Infinity", "1e3", "_1_0", "\u0661", "1" * 40)
        ],
        ({"min_price": "-1"}, "min_price_per_accelerator_hour must be 0"),
    ],
)
def test_a_block_that_can_not_be_is_refused_with_the_reason(
    console: Console, changed: dict[str, str], said: str
) -> None:
    answer = console.browsers["operator"].send("/blocks", "plan", **{**block(console, 2), **changed})
    assert answer.status_code >= 400 and said in text_of(answer.text)


def test_a_customer_orders_no_blocks(console: Console) -> None:
    browser = console.browsers["acme"]
    assert browser.client.get("/blocks").status_code in (403, 404)
    assert "/blocks" not in browser.get("/offers")
