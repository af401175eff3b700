"""Names that several models serve, by command and in the API."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.api.conftest import Service
from tests.commands.conftest import Say

from sublet.commands.model_routes import upstream_of
from sublet.models.catalog import BUILT_IN
from sublet.values.errors import ConflictError, ForbiddenError, InvalidInputError, NotFoundError, SubletError

ENTRY = '[[models]]\nname = "far"\nengine = "openai_url"\nsource = {url = "http://127.0.0.1:9/v1"}\n'


def test_a_route_is_made_changed_listed_and_removed(say: Say, service: Service, tmp_path: Path) -> None:
    file = tmp_path / "models.toml"
    file.write_text(ENTRY)
    say("models", "add", str(file))
    shown = say("models", "route", "add", "chat", f"{BUILT_IN.name},weight=3", "far,priority=1", "--dry-run")
    assert f"chat would be served by {BUILT_IN.name} × 3, then far" in shown and "is deployed" in shown
    assert "no routes" in say("models", "route", "ls")
    made = say("models", "route", "add", "chat", f"{BUILT_IN.name},weight=3", "far,priority=1", "--json")
    assert made["source"] == "operator" and made["capabilities"] == ["chat", "completions"]
    changed = say("models", "route", "set", "chat", "--spill", "--no-affinity", "--json")
    assert [changed[name] for name in ("spill", "affinity", "upstreams")] == [True, False, made["upstreams"]]
    assert "chat is served by far" in say("models", "route", "set", "chat", "far")
    assert say("models", "route", "ls", "--json")["routes"][0]["spill"] is True, "what is left out stays"
    assert "far" in say("models", "route", "ls")
    with pytest.raises(ConflictError, match="'chat' leads to far"):
        say("models", "rm", "far")
    audited = service.ask("operator", "GET", "/v1/audit?limit=200").json()["entries"]
    [change] = [
        item for entry in audited for item in entry["changes"] if item["kind"] == "model_routes" and item["before"]
    ][:1]
    assert change["id"] == "chat"
    assert "was removed" in say("models", "route", "rm", "chat")
    with pytest.raises(NotFoundError, match="no route 'chat'"):
        say("models", "route", "rm", "chat")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("chat", "chat"), "lead to itself"),
        (("chat", f"{BUILT_IN.name},weight=0"), "weight"),
        (("chat", "nobody"), "no model 'nobody'"),
        (("Chat", BUILT_IN.name), "lower-case"),
    ],
)
def test_what_can_not_be_is_refused(say: Say, words: tuple[str, ...], told: str) -> None:
    with pytest.raises(SubletError, match=told):
        say("models", "route", "add", *words)


@pytest.mark.parametrize("text", ["a,weight", "a,weight=x", "a,priority=1.5", "a,share=1", "a,weight=1,weight=2"])
def test_what_can_not_be_read_as_an_upstream_is_refused(text: str) -> None:
    with pytest.raises(InvalidInputError, match="a,"):
        upstream_of(text)


def test_customers_may_not_see_or_change_routes(say: Say) -> None:
    for words in (("ls",), ("add", "chat", BUILT_IN.name), ("rm", "chat")):
        with pytest.raises(ForbiddenError):
            say("models", "route", *words, who="acme")
