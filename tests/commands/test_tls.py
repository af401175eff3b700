"""`sublet tls` as a person uses it: files in the data directory, settings to copy, and no second authority by mistake."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sublet.cli import app

runner = CliRunner()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SUBLET_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "data" / "tls"


def test_what_init_prints_can_be_copied_into_the_settings(folder: Path, tmp_path: Path) -> None:
    done = runner.invoke(app, ["tls", "init", "sublet.example.com"])
    assert done.exit_code == 0, done.output
    printed = done.output[done.output.index("[tls]") :].split("\n\n")[0]
    assert tomllib.loads(printed) == {
        "tls": {"certificate": str(folder / "server.pem"), "private_key": str(folder / "server.key")}
    }
    (tmp_path / "sublet.toml").write_text(printed)
    shown = runner.invoke(app, ["tls", "show", "--json"])
    told = json.loads(shown.output)
    assert told["names"] == ["sublet.example.com", "localhost", "127.0.0.1", "::1"] and not told["expires_soon"]
    assert told["ca_file"] == str(folder / "ca.pem")
    renewed = json.loads(runner.invoke(app, ["tls", "renew", "--json"]).output)
    assert renewed["names"] == told["names"] and renewed["sha256"] != told["sha256"]


def test_mistakes_change_nothing(folder: Path, tmp_path: Path) -> None:
    bad = runner.invoke(app, ["tls", "init", "http://sublet.example.com"])
    assert bad.exit_code != 0 and not folder.exists()
    none = runner.invoke(app, ["tls", "show"])
    assert none.exit_code != 0 and "Traceback" not in none.output and not folder.exists()
    assert runner.invoke(app, ["tls", "init"]).exit_code == 0
    before = (folder / "ca.key").read_bytes()
    again = runner.invoke(app, ["tls", "init"])
    assert again.exit_code != 0 and (folder / "ca.key").read_bytes() == before
    elsewhere = runner.invoke(app, ["tls", "init", "--folder", str(tmp_path / "other"), "--json"])
    assert elsewhere.exit_code == 0 and (tmp_path / "other" / "ca.pem").exists()
