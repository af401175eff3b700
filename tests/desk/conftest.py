"""The worked case, opened once, and the values it must give."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sublet.desk.desk import Desk, build_case, open_case
from sublet.desk.documents import parse_document


def told(text: str) -> list[str]:
    """What a sound file's numbers do not have, each with its line; the rest of the case stands."""
    return [problem.message for problem in build_case(parse_document(text.encode(), "case.toml")).problems]


EXAMPLES = Path(__file__).parents[2] / "examples"
DATA = Path(__file__).parent / "data"


@pytest.fixture(scope="session")
def hyperscaler() -> Desk:
    return open_case(EXAMPLES / "hyperscaler-2026.toml")


@pytest.fixture(scope="session")
def expected() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((DATA / "expected.json").read_text())
    return found
