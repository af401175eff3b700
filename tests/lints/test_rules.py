"""Each of our own rules finds what it is there to find, and lets be what it should."""

from __future__ import annotations

import ast
import subprocess
from pathlib import Path

import pytest
from tests.docs.manual import tool

lint = tool("lint")
NAME = Path("src/sublet/ledger/model.py")


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(lint, "ROOT", tmp_path)
    (tmp_path / "src" / "sublet" / "ledger").mkdir(parents=True)
    (tmp_path / "src" / "sublet" / "ledger" / "README.md").write_text("# ledger")
    return tmp_path


def _code(tree: Path, path: str, source: str) -> list[str]:
    (tree / path).write_text(source)
    return list(lint.code_rules())


@pytest.mark.parametrize(
    "source",
    [
        "rate = 0.5\n",
        "rate = float('1')\n",
        "def f(rate: float) -> None: ...\n",
        "x = isinstance(y, float)\n",
        "r = 1e3\n",
    ],
)
def test_no_float_in_an_exact_package(tree: Path, source: str) -> None:
    assert len(_code(tree, "src/sublet/ledger/model.py", source)) == 1
    assert "exact package" in _code(tree, "src/sublet/ledger/model.py", source)[0]


def test_integers_and_decimals_are_exact(tree: Path) -> None:
    assert _code(tree, "src/sublet/ledger/model.py", "from decimal import Decimal\nrate = Decimal('0.5') * 2\n") == []


def test_floats_elsewhere_are_fine(tree: Path) -> None:
    (tree / "src" / "sublet" / "demand").mkdir()
    assert _code(tree, "src/sublet/demand/model.py", "rate = 0.5\n") == []


@pytest.mark.parametrize(
    "source",
    ['asked["messages"]\n', "found = body.max_tokens\n", "class A:\n    choices: list\n", "TAIL = b'\"choices\":['\n"],
)
def test_a_request_under_way_has_no_field_of_a_vendors_body(tree: Path, source: str) -> None:
    for room in ("requests", "upstream"):
        (tree / "src" / "sublet" / "gateway" / room).mkdir(parents=True)
    (found,) = _code(tree, "src/sublet/gateway/requests/model.py", source)
    assert "a field of OpenAI's" in found
    (tree / "src/sublet/gateway/requests/model.py").unlink()
    assert _code(tree, "src/sublet/gateway/upstream/model.py", source) == []


@pytest.mark.parametrize("call", ["datetime.now()", "datetime.now(UTC)", "datetime.utcnow()", "date.today()"])
def test_the_present_comes_from_a_clock(tree: Path, call: str) -> None:
    (found,) = _code(tree, "src/sublet/ledger/model.py", f"moment = {call}\n")
    assert "injected Clock" in found


def test_an_injected_clock_may_be_asked_and_the_clock_itself_may_ask(tree: Path) -> None:
    assert _code(tree, "src/sublet/ledger/model.py", "moment = self.clock.now()\n") == []
    assert list(lint.naive_time(Path("src/sublet/values/clock.py"), ast.parse("datetime.now(UTC)"))) == []


def test_functions_and_files_have_a_length(tree: Path) -> None:
    body = "".join(f"    x{number} = {number}\n" for number in range(lint.FUNCTION_LINES_MAX))
    (found,) = _code(tree, "src/sublet/ledger/model.py", f"def long():\n{body}")
    assert "long has 71 lines, at most 70" in found
    assert _code(tree, "src/sublet/ledger/model.py", f"def fits():\n{body[: body.rindex('    x')]}") == []
    (found,) = _code(tree, "src/sublet/ledger/model.py", "x = 1\n" * (lint.FILE_LINES_MAX + 1))
    assert "501 lines, at most 500" in found


def test_no_drawer_for_everything(tree: Path) -> None:
    (found,) = _code(tree, "src/sublet/ledger/utils.py", "x = 1\n")
    assert "name it after what is in it" in found


def test_a_package_has_a_readme(tree: Path) -> None:
    (tree / "src" / "sublet" / "desk").mkdir()
    (tree / "src" / "sublet" / "desk" / "model.py").write_text("")
    (tree / "src" / "sublet" / "ledger" / "model.py").write_text("")
    assert [found.split(":")[0] for found in lint.package_rules()] == ["src/sublet/desk"]


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("docs/install.md", "from https://py" + "pi.org/simple", "package registry"),
        ("requirements.txt", "https://files.python" + "hosted.org/x", "package registry"),
        ("src/a.py", "x = 1  # TO" + "DO later", "unfinished"),
        ("tests/a.py", "# FIX" + "ME", "unfinished"),
        ("uv.lock", "", "lock file"),
    ],
)
def test_text_that_must_not_be_kept(
    tree: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str, words: str
) -> None:
    (tree / name).parent.mkdir(parents=True, exist_ok=True)
    (tree / name).write_text(text)

    class Listed:
        stdout = f"{name}\n"

    monkeypatch.setattr(lint.subprocess, "run", lambda *arguments, **named: Listed)
    (found,) = lint.text_rules()
    assert found.startswith(name)
    assert words in found


@pytest.mark.parametrize("source", ["typer.echo(x)\n", "click.secho(x)\n", "print(x)\n", "screen = Console()\n"])
def test_only_one_place_writes_to_a_terminal(tree: Path, source: str) -> None:
    (tree / "src" / "sublet" / "output.py").write_text(source)
    (tree / "src" / "sublet" / "commands.py").write_text("say(x)\nscreen.print(x)\nScreen().print(x)\n")
    assert list(lint.code_rules()) == []
    assert "past sublet.output" in _code(tree, "src/sublet/commands.py", source)[0]


@pytest.mark.parametrize("source", ["from pydantic import BaseModel\n", "import pydantic\n"])
def test_a_module_of_routes_has_no_bodies_of_its_own(tree: Path, source: str) -> None:
    (found,) = _code(tree, "src/sublet/ledger/api.py", source)
    assert "@body" in found
    assert _code(tree, "src/sublet/ledger/api.py", "from sublet.ledger.wire import NewCredit\n") == []
    (tree / "src/sublet/ledger/api.py").unlink()
    assert _code(tree, "src/sublet/ledger/model.py", source) == []


@pytest.mark.parametrize(
    ("told", "refused"),
    [
        (" -> dict[str, object]", True),
        (" -> Any", True),
        ("", True),
        (" -> Response", True),
        (" -> None", True),
        (" -> wire.Quote", False),
        (" -> Tagged[wire.Quote]", False),
        (" -> wire.EventList | Response", False),
    ],
)
def test_an_operation_declares_a_wire_type(tree: Path, told: str, refused: bool) -> None:
    source = f'@routes.get("/v1/quotes", status_code=200)\ndef list_quotes(){told}:\n    return answer\n'
    found = _code(tree, "src/sublet/ledger/api.py", source)
    assert ["/v1/quotes answers with" in line for line in found] == [True] * refused


def test_an_operation_without_content_or_with_a_file_needs_no_type(tree: Path) -> None:
    nothing = (
        '@routes.delete("/v1/keys/{key_id}", status_code=204)\ndef revoke(key_id: str) -> None:\n    gone(key_id)\n'
    )
    file = '@routes.get("/v1/exports/{name}")\ndef export(name: str) -> Response:\n    return rows(name)\n'
    assert _code(tree, "src/sublet/ledger/api.py", nothing + file) == []


def test_a_british_spelling_is_told_and_its_american_form_is_not(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    british, american = "organi" + "sation", "organization"
    (tree / "src" / "page.md").write_text(f"an {american}\nan {british}\n")
    monkeypatch.setattr(
        lint.subprocess, "run", lambda *words, **options: subprocess.CompletedProcess(words, 0, "src/page.md\n", "")
    )
    assert [line.split(": ")[0] for line in lint.text_rules()] == ["src/page.md:2"]


def test_a_phrase_that_reads_like_a_translation_is_told_in_sources_and_manual(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = "Who" + "ever asks"
    (tree / "src" / "page.md").write_text(f"Anyone who asks\n{bad}\n")
    (tree / "CHANGELOG.md").write_text(f"{bad}\n")
    monkeypatch.setattr(
        lint.subprocess,
        "run",
        lambda *words, **options: subprocess.CompletedProcess(words, 0, "src/page.md\nCHANGELOG.md\n", ""),
    )
    assert [line.split(": ")[0] for line in lint.text_rules()] == ["src/page.md:2"]
