"""Managed models by command: the catalog, deployments, files."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.api.conftest import Service
from tests.commands.conftest import Say

from sublet.models.catalog import BUILT_IN
from sublet.models.service import Models
from sublet.values.errors import ForbiddenError, InvalidInputError, LimitExceededError, NotFoundError

ENTRY = '[[models]]\nname = "far"\nengine = "openai_url"\nsource = {url = "http://127.0.0.1:9/v1"}\n'


def test_a_model_is_added_scaled_and_removed(say: Say, service: Service, tmp_path: Path) -> None:
    file = tmp_path / "models.toml"
    file.write_text(ENTRY)
    assert "`sublet models scale far 1` deploys it" in say("models", "add", str(file))
    assert [entry["name"] for entry in say("models", "add", str(file), "--json")["models"]] == ["far"]
    assert "far: 1 replica wanted" in say("models", "scale", "far", "1")
    deployed = next(row for row in say("models", "ls", "--json")["models"] if row["name"] == "far")["deployment"]
    assert (deployed["scale"], deployed["pool_id"]) == (1, service.world.pool.id)
    assert "far was changed" in say("models", "add", str(file))
    assert say("models", "scale", "far", "auto", "--json")["scale"] is None
    assert "automatic" in say("models", "ls")
    assert "far drains" in say("models", "rm", "far")
    assert "was removed from the catalog" in say("models", "rm", "far")
    assert "far" not in say("models", "ls")


def test_a_pool_is_named_as_people_name_it(say: Say, service: Service) -> None:
    found = say("models", "scale", BUILT_IN.name, "2", "--pool", service.world.pool.name, "--json")
    assert (found["pool_id"], found["scale"]) == (service.world.pool.id, 2)
    with pytest.raises(NotFoundError, match="no pool 'elsewhere'"):
        service.ask("operator", "DELETE", f"/v1/deployments/{BUILT_IN.name}")
        say("models", "scale", BUILT_IN.name, "1", "--pool", "elsewhere")


@pytest.mark.parametrize(
    ("content", "words"), [(ENTRY + "nonsense = 1\n", "unknown field"), ("[[models", "models.toml")]
)
def test_a_file_that_can_not_be_is_refused_by_its_name(say: Say, tmp_path: Path, content: str, words: str) -> None:
    file = tmp_path / "models.toml"
    file.write_text(content)
    with pytest.raises(InvalidInputError) as caught:
        say("models", "add", str(file))
    assert caught.value.message.startswith(str(file)) and words in caught.value.message
    with pytest.raises(InvalidInputError, match="specify a readable TOML file"):
        say("models", "add", str(tmp_path / "none.toml"))


def test_a_models_file_is_fetched_where_sublet_runs(
    say: Say, service: Service, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    inner = []

    def pull(models: Models, name: str) -> Path:
        # While one is under way, another is refused.
        inner.append(service.ask("operator", "POST", f"/v1/catalog/{name}/pull"))
        return tmp_path / "weights.gguf"

    monkeypatch.setattr(Models, "pull", pull)
    assert str(tmp_path / "weights.gguf") in say("models", "pull", BUILT_IN.name)
    assert inner[0].status_code == LimitExceededError.status
    monkeypatch.setattr(Models, "pull", lambda models, name: None)
    assert "served elsewhere" in say("models", "pull", "far")
    with pytest.raises(ForbiddenError):
        say("models", "pull", BUILT_IN.name, who="acme")
