"""Links lead somewhere, packages and decisions have their shape, and the project speaks of itself alone."""

from __future__ import annotations

import re
import subprocess
from functools import cache
from pathlib import Path

import pytest
from tests.docs.manual import DOCS, ROOT

HEADINGS = ("**Owns**", "**Does not own**", "**Invariants**", "**Failure**")
PARTS = ("## Context", "## Choice", "## Alternatives", "## Consequences")
# Where somebody happened to work on it, and what drafts are told to say; put together so that this file is not one of them.
FORBIDDEN = [
    re.compile(pattern) for pattern in (r"(?<![\w.])/wo" + r"rk/\w", r"/tmp/br" + r"ief", "(?i)lorem ip" + "sum")
]


@cache
def _kept() -> tuple[Path, ...]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return tuple(path for line in listed.splitlines() if (path := ROOT / line).is_file())


def _pages() -> list[Path]:
    return [path for path in _kept() if path.suffix == ".md"]


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("page", _pages(), ids=_name)
def test_links_resolve(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    text = re.sub(r"`[^`\n]*`", "", text)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        found = (page.parent / file).resolve() if file else page
        assert found.exists(), f"{_name(page)} links to {target}, which is not there"
        if anchor:
            assert anchor in _anchors(found), f"{_name(page)} links to {target}, which has no such heading"


def _anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_page_of_the_manual_is_in_its_list_of_contents() -> None:
    contents = (DOCS / "README.md").read_text(encoding="utf-8")
    for page in sorted(DOCS.glob("*.md")):
        if page.name != "README.md":
            assert f"]({page.name})" in contents, f"docs/README.md does not name {page.name}"


@pytest.mark.parametrize(
    "package",
    sorted(
        path.parent
        for path in (ROOT / "src" / "sublet").glob("*/__init__.py")
        if len(list(path.parent.glob("*.py"))) > 1
    ),
    ids=lambda path: path.name,
)
def test_every_package_says_what_it_owns_and_how_it_fails(package: Path) -> None:
    text = (package / "README.md").read_text(encoding="utf-8")
    places = [text.find(heading) for heading in HEADINGS]
    assert -1 not in places, f"{package.name}/README.md lacks {HEADINGS[places.index(-1)]}"
    assert places == sorted(places), f"{package.name}/README.md has another order than {HEADINGS}"
    assert text.startswith(f"# {package.name}\n")
    assert len(text.splitlines()) <= 60, "half a page"


def test_decisions_are_numbered_without_a_gap_and_each_is_listed() -> None:
    decisions = sorted((DOCS / "decisions").glob("[0-9]*.md"))
    assert [int(path.name[:4]) for path in decisions] == list(range(1, len(decisions) + 1))
    contents = (DOCS / "README.md").read_text(encoding="utf-8")
    for path in decisions:
        assert f"](decisions/{path.name})" in contents, f"docs/README.md does not name {path.name}"


@pytest.mark.parametrize("decision", sorted((DOCS / "decisions").glob("[0-9]*.md")), ids=lambda path: path.name)
def test_a_decision_has_context_choice_alternatives_and_consequences_on_one_page(decision: Path) -> None:
    text = decision.read_text(encoding="utf-8")
    places = [text.find(f"\n{part}\n") for part in PARTS]
    assert -1 not in places, f"{decision.name} lacks {PARTS[places.index(-1)]}"
    assert places == sorted(places)
    assert text.startswith(f"# {int(decision.name[:4])}. ")
    assert len(text.splitlines()) <= 70, "one page"


def test_nothing_names_the_place_where_it_was_written() -> None:
    found = []
    for path in _kept():
        if path.suffix in (".png", ".gz", ".parquet", ".pdf", ".xlsx", ".woff2"):
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
            found += [f"{_name(path)}:{number}: {line.strip()[:80]}" for words in FORBIDDEN if words.search(line)]
    assert found == []


def test_the_license_is_whole() -> None:
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text
