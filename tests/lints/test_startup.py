"""The rule about startup follows imports as Python does when a command is loaded."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.docs.manual import tool

startup = tool("startup")


def found(tmp_path: Path, command: str, **others: str) -> list[str]:
    package = tmp_path / "src" / "sublet"
    for name, source in {"commands/__init__": "", "commands/pools": command, "ledger/__init__": "", **others}.items():
        path = package / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
    return list(startup.breaches(tmp_path / "src"))


@pytest.mark.parametrize(
    "command",
    [
        "def run():\n    import numpy\n",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import sqlalchemy\n",
        "import json\nimport typer\n",
        "from sublet.ledger import light\n",
    ],
)
def test_what_is_loaded_when_it_is_used_is_fine(tmp_path: Path, command: str) -> None:
    assert found(tmp_path, command, **{"ledger/light": "import json\n"}) == []


@pytest.mark.parametrize(
    ("command", "line", "way"),
    [
        ("import numpy.typing\n", 1, "numpy"),
        ("\nfrom sqlalchemy import select, text\n", 2, "sqlalchemy"),
        ("try:\n    import rich\nexcept ImportError:\n    pass\n", 2, "rich"),
        ("from sublet.ledger import store\n", 1, "sublet.ledger.store → sqlalchemy"),
        ("import sublet.ledger.store\n", 1, "sublet.ledger.store → sqlalchemy"),
        ("class A:\n    from sublet.ledger.store import x\n", 2, "sublet.ledger.store → sqlalchemy"),
    ],
)
def test_what_is_heavy_is_told_with_the_way_to_it(tmp_path: Path, command: str, line: int, way: str) -> None:
    (told,) = found(tmp_path, command, **{"ledger/store": "import sqlalchemy\n"})
    assert told.startswith(f"src/sublet/commands/pools.py:{line}: loads {way}")


def test_a_package_loads_its_own_init(tmp_path: Path) -> None:
    told = found(
        tmp_path, "from sublet.ledger import light\n", **{"ledger/__init__": "import numpy\n", "ledger/light": ""}
    )
    assert [line.partition(";")[0] for line in told] == ["src/sublet/commands/pools.py:1: loads sublet.ledger → numpy"]
