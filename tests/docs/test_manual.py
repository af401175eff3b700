"""The manual says what the code says: every setting with its default, every error code, every command and option."""

from __future__ import annotations

import re

import pytest
from tests.docs.manual import DOCS, manual

from sublet.config.described import describe
from sublet.config.settings import Settings
from sublet.values.errors import all_error_types


@pytest.mark.parametrize("page", ["README.md", "settings.md", "errors.md", "commands.md", "events.md"])
def test_the_generated_part_is_what_make_manual_writes(page: str) -> None:
    text = (DOCS / page).read_text(encoding="utf-8")
    assert manual.with_generated(text, manual.PAGES[page]()) == text, "run `make manual`"


def test_every_setting_is_in_the_manual_with_its_default_and_its_meaning() -> None:
    rows = _tables((DOCS / "settings.md").read_text(encoding="utf-8"))
    for name, default, meaning in describe(Settings):
        section, _, key = name.rpartition(".")
        found = rows[section][f"`{key}`"]
        assert default in found[0]
        assert found[1] == meaning
    assert sum(len(keys) for keys in rows.values()) == len(describe(Settings)), "and nothing that is none"


def _tables(page: str) -> dict[str, dict[str, list[str]]]:
    tables: dict[str, dict[str, list[str]]] = {}
    section = ""
    for line in page.partition(manual.BEGIN)[2].splitlines():
        if line.startswith("## "):
            named = re.fullmatch(r"## `\[+([A-Za-z_.]+)\]+`", line)
            section = named[1] if named else ""
        elif line.startswith("| `"):
            key, *rest = (cell.strip() for cell in line.strip("|").split(" | "))
            tables.setdefault(section, {})[key] = rest
    return tables


def test_every_error_code_is_in_the_manual_with_its_status_and_its_sentence() -> None:
    kinds = manual.error_types()
    page = (DOCS / "errors.md").read_text(encoding="utf-8")
    for kind in kinds:
        sentence = " ".join(kind.__doc__.split()).replace("|", "\\|")
        assert f"| `{kind.code}` | {kind.status} | {sentence} |" in page
    assert {kind.code for kind in kinds} == {
        code for code, kind in all_error_types().items() if kind.__module__.startswith("sublet.")
    }


def test_every_error_has_a_code_of_its_own_and_a_sentence_that_says_what_to_do() -> None:
    kinds = manual.error_types()
    statuses: dict[str, int] = {}
    for kind in kinds:
        where = f"{kind.__module__}.{kind.__name__}"
        assert "code" in vars(kind), f"{where} has no code of its own"
        assert re.fullmatch(r"[a-z][a-z0-9_]*", kind.code), f"{where}: {kind.code}"
        assert statuses.setdefault(kind.code, kind.status) == kind.status, f"{kind.code} has two statuses: {where}"
        assert 400 <= kind.status < 600, where
        assert "__doc__" in vars(kind), where
        sentence = " ".join((kind.__doc__ or "").split())
        assert sentence.endswith("."), where
        assert len(sentence.split()) >= 5, f"{where}: {sentence!r} tells nobody what to do"


def test_every_command_and_option_is_in_the_manual() -> None:
    page = (DOCS / "commands.md").read_text(encoding="utf-8")
    seen = 0
    for path, command in manual.walk_commands():
        words = " ".join(path)
        section = re.search(rf"^## `{re.escape(words)}(?: [^`]*)?`$(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
        assert section, f"`{words}` is not in docs/commands.md; run `make manual`"
        assert command.help, f"`{words}` has no help"
        for parameter in command.params:
            if not getattr(parameter, "hidden", False):
                for name in manual.option_names(parameter):
                    assert f"`{name}`" in section[1], f"`{words} {name}` is not in docs/commands.md; run `make manual`"
        seen += 1
    assert seen > 10


def test_every_argument_and_option_says_what_it_is_for() -> None:
    silent = [
        f"{' '.join(path)} {manual.option_names(parameter)[0]}"
        for path, command in manual.walk_commands()
        for parameter in command.params
        if not getattr(parameter, "hidden", False) and not parameter.help
    ]
    assert silent == []


def test_a_page_without_its_marks_is_refused() -> None:
    with pytest.raises(ValueError, match="lacks the lines"):
        manual.with_generated("# Settings", "table")


def test_what_stands_around_the_generated_part_is_kept() -> None:
    page = f"before\n{manual.BEGIN}\nold\n{manual.END}\nafter\n"
    assert manual.with_generated(page, "new") == f"before\n{manual.BEGIN}\n\nnew\n\n{manual.END}\nafter\n"
