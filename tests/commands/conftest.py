"""A person at a terminal, logged in to a running service as the operator, a team or a customer."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.api.conftest import Service
from tests.api.conftest import service as service
from tests.terminal import sit_at
from typer.testing import CliRunner

from sublet import cli

Say = Callable[..., Any]


@pytest.fixture
def say(service: Service, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Say]:
    """Runs a command as somebody: what it prints, as JSON where that is asked for."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CONFIG_HOME", "")
    monkeypatch.chdir(home)

    def run(*words: str, who: str = "operator") -> Any:
        sit_at(monkeypatch, service.api, service.keys[who])
        result = CliRunner().invoke(cli.app, words, catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout) if "--json" in words else result.stdout

    yield run
    assert list(home.iterdir()) == [], "remote commands leave no file"
