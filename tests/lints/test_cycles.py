"""The rule about circles finds modules that import each other, however the import is hidden, and lets a line of them be."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.docs.manual import tool

cycles = tool("cycles")


def found(tmp_path: Path, **sources: str) -> list[str]:
    package = tmp_path / "house"
    (package / "room").mkdir(parents=True)
    for name in ("__init__", "room/__init__", "a", "b", "c", "room/d"):
        (package / f"{name}.py").write_text(sources.get(name.replace("/", "_"), ""))
    return list(cycles.breaches(tmp_path, "house"))


@pytest.mark.parametrize(
    "back",
    [
        "from house.a import thing\n",
        "from house import a\n",
        "import house.a\n",
        "def later():\n    from house.a import thing\n",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from house.a import Thing\n",
    ],
)
def test_a_circle_is_found_however_it_is_hidden(tmp_path: Path, back: str) -> None:
    (told,) = found(tmp_path, a="from house import b\n", b="from house.room.d import x\n", room_d=back)
    assert told.startswith("3 modules import each other: house.a imports house.b; house.b imports house.room.d")


def test_two_circles_are_two(tmp_path: Path) -> None:
    told = found(
        tmp_path, a="import house.b\n", b="import house.a\n", c="import house.room.d\n", room_d="import house.c\n"
    )
    assert [line.split(":")[0] for line in told] == ["2 modules import each other"] * 2


def test_a_line_is_none(tmp_path: Path) -> None:
    assert found(tmp_path, a="from house import b, c\n", b="from house import c\n", c="import json\n") == []
