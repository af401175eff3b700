"""The manual says what the code says: every formula, every table and every key of a case is in it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from sublet.desk.desk import LANGUAGES, build_case
from sublet.desk.distributions import KINDS
from sublet.desk.documents import Table, read_document
from sublet.desk.formulas import FORMULAS
from sublet.desk.phrases import PARTS
from sublet.desk.sheet import Status

ROOT = Path(__file__).parents[2]
DESK = (ROOT / "docs" / "desk.md").read_text()
MODELS = (ROOT / "docs" / "desk-models.md").read_text()


@pytest.mark.parametrize("name", FORMULAS)
def test_every_formula_is_in_the_manual_with_its_unit(name: str) -> None:
    row = re.search(rf"^\| `{name}` \|.*\| ([^|]+) \|$", MODELS, re.MULTILINE)
    assert row is not None
    assert row[1].strip() in (FORMULAS[name].unit, {"yr": "years"}.get(FORMULAS[name].unit))


def test_the_manual_names_no_formula_that_is_not_there() -> None:
    assert set(re.findall(r"^\| `(\w+)` \|", MODELS, re.MULTILINE)) == set(FORMULAS)


def test_every_key_that_a_case_may_have_is_in_the_manual(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading the three examples asks for every key; what was asked for must be described."""
    asked: set[str] = set()
    finish = Table.finish

    def watched(table: Table) -> None:
        if not {"set", "titles"} & set(map(str, table.path[-1:])) and "distribution" not in table.path:
            asked.update(table.asked)
        finish(table)

    monkeypatch.setattr(Table, "finish", watched)
    for path in sorted((ROOT / "examples").glob("*.toml")):
        if "[case]" in path.read_text():
            build_case(read_document(path))
    words = set(re.findall(r"[\w-]+", DESK))
    missing = {key for key in asked if key not in words}
    assert len(asked) > 60
    assert missing <= set(), missing


def test_statuses_languages_parts_and_distributions_are_in_the_manual() -> None:
    for word in (*map(str, Status), *LANGUAGES, *PARTS, *KINDS):
        assert re.search(rf"\b{word}\b", DESK), word


def test_the_figures_in_the_manual_are_the_bench_s_own() -> None:
    found = json.loads((ROOT / "bench" / "results" / "desk.json").read_text())
    assert f"| {found['monte_carlo']['seconds']['desk']:.2f} s, {found['monte_carlo']['peak_mb']:.0f} MB |" in DESK
    assert f"{found['report']['seconds']['whole process']:.1f} s |" in DESK
