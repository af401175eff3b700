"""The commands of accounts and fleet, and how the command line says that something went wrong."""

from __future__ import annotations

import json
import os
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from tests.fleet.specs import spec
from typer.testing import CliRunner

from sublet import cli
from sublet.accounts.service import Accounts
from sublet.commands import accounts, fleet
from sublet.fleet.service import Fleet
from sublet.store import Store
from sublet.values.errors import InvalidInputError, SubletError, UnavailableError


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in list(os.environ):
        if name.startswith("SUBLET_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SUBLET_DATA_DIR", str(tmp_path / "data"))
    return tmp_path / "data"


def run(app: Any, *words: str) -> Any:
    """What the command prints, as JSON where it is asked for."""
    result = CliRunner().invoke(app, words, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout) if "--json" in words else result.stdout


def test_an_organization_and_its_key_by_command(folder: Path) -> None:
    made = run(accounts.org, "create", "Acme", "--currency", "EUR", "--timezone", "Europe/Berlin", "--json")
    assert [item["id"] for item in run(accounts.org, "ls", "--json")["organizations"]] == [made["id"]]
    key = run(accounts.key, "create", "Acme", "--scope", "models", "--expires", "2090-01-01T00:00:00Z", "--json")
    assert (key["scopes"], key["expires_at"]) == (["models"], "2090-01-01T00:00:00Z")
    store = Store(f"sqlite:///{folder}/sublet.db")
    assert Accounts(store).authenticate(key["secret"]).organization_id == made["id"]
    assert key["secret"] not in run(accounts.key, "ls", "Acme")
    run(accounts.key, "revoke", key["id"])
    (listed,) = run(accounts.key, "ls", "Acme", "--json")["keys"]
    assert listed["revoked_at"] is not None
    store.close()


def test_a_secret_is_printed_once_with_a_word_about_it() -> None:
    run(accounts.org, "create", "Acme")
    printed = run(accounts.key, "create", "Acme")
    assert printed.count("sublet_") == 1
    assert "shown once" in printed


@pytest.mark.parametrize("expires", ["tomorrow", "2090-01-01T00:00:00"])
def test_a_wrong_option_is_named(expires: str) -> None:
    run(accounts.org, "create", "Acme")
    with pytest.raises(InvalidInputError, match="--expires: "):
        run(accounts.key, "create", "Acme", "--expires", expires)


def test_an_accelerator_is_drained_and_restored_by_command(folder: Path) -> None:
    assert "no pools yet" in run(fleet.app, "ls")
    store = Store(f"sqlite:///{folder}/sublet.db")
    (pool,) = Fleet(store).sync([spec("main", 2)])
    unit = Fleet(store).units(pool.id)[0]
    run(fleet.app, "drain", unit.id, "fan broken")
    shown = run(fleet.app, "show", "main", "--json")
    assert [(unit["in_service"], unit["out_reason"]) for unit in shown["units"]] == [
        (False, "fan broken"),
        (True, None),
    ]
    assert run(fleet.app, "ls", "--json")["pools"][0]["in_service"] == 1
    assert "fan broken" in run(fleet.app, "show", "main")
    run(fleet.app, "restore", unit.id)
    assert Fleet(store).pool("main") == pool
    store.close()


@pytest.mark.parametrize(
    ("error", "code"),
    [(InvalidInputError("hours: write a number"), 2), (UnavailableError("later"), 1), (SubletError(), 1)],
)
def test_an_error_is_one_sentence_and_an_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: SubletError, code: int
) -> None:
    def fails(**named: Any) -> None:
        raise error

    monkeypatch.setattr(cli, "app", fails)
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == code
    printed = capsys.readouterr()
    assert printed.out == ""
    assert error.message in printed.err
    assert "Traceback" not in printed.err
    assert len(printed.err.splitlines()) == 1


def test_a_running_system_tells_its_own_plan(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    step: dict[str, Any] = {
        "kind": "restart",
        "subject": "lse_7",
        "reason": "its sandbox is gone",
        "at": None,
        "details": {},
    }
    told = json.dumps({"next": {"made_at": "2026-01-01T00:00:00Z", "steps": [step]}, "last": []}).encode()

    class Control(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known = self.path == "/v1/plan" and self.headers["Authorization"] == "Bearer the-key"
            self.send_response(200 if known else 404)
            self.end_headers()
            self.wfile.write(told if known else b"{}")

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Control) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("SUBLET_URL", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("SUBLET_KEY", "the-key")
        assert [item["subject"] for item in run(cli.app, "plan", "--json")["steps"]] == ["lse_7"]
        server.shutdown()
    assert run(cli.app, "plan", "--json")["steps"] == []


def test_a_plan_is_compared_with_an_earlier_one(folder: Path, tmp_path: Path) -> None:
    now = run(cli.app, "plan", "--json")
    earlier = tmp_path / "before.json"
    gone: dict[str, Any] = {"kind": "reclaim", "subject": "lse_1", "reason": "why", "at": None, "details": {}}
    earlier.write_text(json.dumps({**now, "steps": [*now["steps"], gone]}))
    assert "- reclaim lse_1: why" in run(cli.app, "plan", "--since", str(earlier), "--json")["changes"]
    assert "- reclaim lse_1: why" in run(cli.app, "plan", "--since", str(earlier))
    earlier.write_text('{"steps": "none"}')
    with pytest.raises(InvalidInputError, match="no plan"):
        run(cli.app, "plan", "--since", str(earlier))
