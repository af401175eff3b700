"""Routes in the console: what a name comes to is shown first, then it is served, changed, audited and removed."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.app.test_console_acts import ORIGIN, Console
from tests.app.test_console_maintenance import text_of

from sublet.models.catalog import BUILT_IN
from sublet.simulation.world import World

PATH = "/model-routes"
MODEL = BUILT_IN.name


@pytest.fixture
def console(tmp_path: Path) -> Iterator[Console]:
    world = World(tmp_path / "w")
    yield Console(world)
    world.close()


def test_a_route_is_shown_first_then_made_once_changed_and_removed(console: Console) -> None:
    browser, routes = console.browsers["operator"], console.system.routes
    assert "No name is served by several models yet" in text_of(browser.get(PATH))
    fields = {"name": "chat", "model_0": MODEL, "weight_0": "2.5", "priority_0": "0", "affinity": "yes"}
    shown = browser.send(PATH, "plan", **fields)
    assert shown.status_code == 200 and "Add route" in text_of(shown.text) and "chat, completions" in shown.text
    assert not routes.all(), "nothing changes by looking"
    hidden = dict(re.findall(r'type="hidden" name="([a-z_0-9]+)" value="([^"]*)"', shown.text.split("Cancel")[0]))
    assert {name: hidden[name] for name in fields} == fields
    first, second = (browser.client.post(PATH, data={**hidden, "act": "add"}, headers=ORIGIN) for _ in range(2))
    assert first.headers["location"] == PATH and second.status_code == 409
    [made] = routes.all()
    assert (made.route.upstreams[0].weight, made.route.spill, made.route.affinity) == (2.5, False, True)
    edited = browser.get(f"{PATH}?edit=chat")
    assert 'value="2.5"' in edited and 'value="chat"' in edited
    assert "Change route" in text_of(browser.send(PATH, "plan", **fields, spill="yes").text)
    assert browser.send(PATH, "change", once="c1", **{**fields, "spill": "yes"}).headers["location"] == PATH
    assert routes.route("chat").route.spill
    assert "on failure or when busy" in text_of(browser.get(PATH))
    assert browser.send(PATH, "remove", route="chat").headers["location"] == PATH
    assert not routes.all()
    log = text_of(browser.get("/audit"))
    assert "console.model-routes.add" in log and "console.model-routes.remove" in log


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"weight_0": "0"}, "must have a weight"),
        ({"weight_0": "much"}, "must be a number"),
        ({"priority_0": "-1"}, "whole number"),
        ({"model_0": ""}, "1 to 16 models"),
        ({"model_0": "nobody"}, "no model"),
        ({"name": "<b>x"}, "lower-case"),
    ],
)
def test_what_can_not_be_is_refused_beside_what_was_typed(
    console: Console, changes: dict[str, str], words: str
) -> None:
    fields = {"name": "chat", "model_0": MODEL, "weight_0": "1", "priority_0": "0", **changes}
    answer = console.browsers["operator"].send(PATH, "plan", **fields)
    assert 400 <= answer.status_code < 500 and words in text_of(answer.text) and "<b>x" not in answer.text
    assert f'value="{html.escape(fields["name"])}"' in answer.text


def test_customers_have_no_such_page(console: Console) -> None:
    assert console.browsers["acme"].client.get(PATH).status_code in (403, 404)


def test_a_customer_sees_the_models_that_may_be_called(console: Console) -> None:
    browser, system = console.browsers["acme"], console.system
    assert "No model is offered to you now" in text_of(browser.get("/models"))
    system.models.deploy(MODEL, console.world.pool.id)
    shown = text_of(browser.get("/models"))
    assert MODEL in shown and "unavailable" in shown and "flex" in shown
    assert f"at most {system.settings.gateway.requests_per_minute_max} requests per minute" in shown
