"""The commands of accounts and fleet, and how the command line says that something went wrong."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from tests.fleet.specs import spec
from tests.terminal import sit_at
from typer.testing import CliRunner

from sublet import cli
from sublet.accounts import api as accounts_api
from sublet.accounts.service import Accounts
from sublet.api.http import frame, requirement
from sublet.commands import accounts, admin, fleet, ledger, node
from sublet.fleet import api as fleet_api
from sublet.fleet.nodes import Nodes
from sublet.fleet.service import Fleet
from sublet.store import Store
from sublet.store.schema import migrate
from sublet.values.errors import InvalidInputError, NotFoundError, SubletError, UnavailableError


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in list(os.environ):
        if name.startswith("SUBLET_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("SUBLET_DATA_DIR", str(tmp_path / "data"))
    return tmp_path / "data"


@pytest.fixture
def store(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """The database behind the API that the commands talk to, as the operator."""
    opened = Store(f"sqlite:///{folder}/sublet.db")
    migrate(opened)
    found = Accounts(opened)
    api, require = frame("test"), requirement(found)
    api.include_router(accounts_api.router(found, require))
    api.include_router(fleet_api.router(Fleet(opened), require))
    api.include_router(fleet_api.node_router(Nodes(opened), opened.clock.now, require))
    sit_at(monkeypatch, api, found.ensure_operator() or "")
    yield opened
    opened.close()


def run(app: Any, *words: str) -> Any:
    """What the command prints, as JSON where it is asked for."""
    result = CliRunner().invoke(app, words, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout) if "--json" in words else result.stdout


def test_an_organization_and_its_key_by_command(store: Store) -> None:
    made = run(accounts.org, "create", "Acme", "--currency", "EUR", "--timezone", "Europe/Berlin", "--json")
    assert run(accounts.org, "ls", "--json")["organizations"][-1]["id"] == made["id"]
    key = run(accounts.key, "create", "Acme", "--scope", "models", "--expires", "2090-01-01T00:00:00Z", "--json")
    assert (key["scopes"], key["expires_at"]) == (["models"], "2090-01-01T00:00:00Z")
    assert Accounts(store).authenticate(key["secret"]).organization_id == made["id"]
    assert key["secret"] not in run(accounts.key, "ls", "Acme")
    run(accounts.key, "revoke", key["id"])
    (listed,) = run(accounts.key, "ls", "Acme", "--json")["keys"]
    assert listed["revoked_at"] is not None


def test_a_secret_is_printed_once_with_a_word_about_it(store: Store) -> None:
    run(accounts.org, "create", "Acme")
    printed = run(accounts.key, "create", "Acme")
    assert printed.count("sublet_") == 1
    assert "shown only once" in printed


@pytest.mark.parametrize("expires", ["tomorrow", "2090-01-01T00:00:00"])
def test_a_wrong_option_is_named(expires: str, store: Store) -> None:
    run(accounts.org, "create", "Acme")
    with pytest.raises(InvalidInputError, match="--expires: "):
        run(accounts.key, "create", "Acme", "--expires", expires)


def test_an_accelerator_is_drained_and_restored_by_command(store: Store) -> None:
    assert "no pools yet" in run(fleet.app, "ls")
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
    with pytest.raises(InvalidInputError, match="say why"):
        run(fleet.app, "drain", unit.id, "")
    with pytest.raises(NotFoundError, match="no accelerator"):
        run(fleet.app, "restore", "unit_nobody_has")


def test_a_node_is_listed_and_forgotten_by_command(store: Store) -> None:
    assert "no nodes yet" in run(node.app, "ls")
    with pytest.raises(NotFoundError):
        run(node.app, "forget", "gone")


def test_a_lost_operators_key_is_made_again_and_no_database_by_surprise(folder: Path) -> None:
    for words in (("operator-key",), ("prove",), ("migrate",), ("pull", "own-model")):
        with pytest.raises(NotFoundError, match="there is no database"):
            run(admin.app, *words)
    assert not folder.exists()
    store = Store(f"sqlite:///{folder}/sublet.db")
    migrate(store)
    Accounts(store).ensure_operator()
    made = run(admin.app, "operator-key", "--json")
    assert Accounts(store).authenticate(made["secret"]).may("fleet:write") == "all"
    assert run(admin.app, "prove", "--json")["ok"]
    assert "database schema is up to date" in run(admin.app, "migrate")
    store.close()


def test_remote_commands_make_no_file(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUBLET_KEY", "key")
    monkeypatch.setenv("SUBLET_URL", "http://127.0.0.1:9")
    for app, word in ((fleet.app, "ls"), (accounts.org, "ls"), (node.app, "ls"), (ledger.app, "health")):
        with pytest.raises(UnavailableError, match="does not answer"):
            run(app, word)
    assert not folder.exists() and list(tmp_path.iterdir()) == []


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


STEP: dict[str, Any] = {
    "kind": "restart",
    "subject": "lse_7",
    "reason": "its sandbox is gone",
    "at": None,
    "details": {},
}


@pytest.fixture
def planning(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A running system that is about to do one step."""
    told = json.dumps({"next": {"made_at": "2026-01-01T00:00:00Z", "steps": [STEP]}, "last": []}).encode()

    class Control(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known = self.path == "/v1/plan" and self.headers["Authorization"] == "Bearer the-key"
            self.send_response(200 if known else 404)
            self.end_headers()
            self.wfile.write(told if known else b"{}")

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Control) as server:
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        monkeypatch.setenv("SUBLET_URL", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("SUBLET_KEY", "the-key")
        yield
        server.shutdown()


@pytest.mark.usefixtures("planning")
def test_a_running_system_tells_its_own_plan() -> None:
    assert [item["subject"] for item in run(cli.app, "plan", "--json")["steps"]] == ["lse_7"]
    assert "its sandbox is gone" in run(cli.app, "plan")


def test_no_database_is_opened_for_a_plan(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidInputError, match="sublet login"):
        run(cli.app, "plan")
    monkeypatch.setenv("SUBLET_KEY", "the-key")
    monkeypatch.setenv("SUBLET_URL", "http://127.0.0.1:9")
    with pytest.raises(UnavailableError, match="does not answer"):
        run(cli.app, "plan")
    assert not folder.exists()


@pytest.mark.usefixtures("planning")
def test_a_plan_is_compared_with_an_earlier_one(tmp_path: Path) -> None:
    now = run(cli.app, "plan", "--json")
    earlier = tmp_path / "before.json"
    gone: dict[str, Any] = {"kind": "reclaim", "subject": "lse_1", "reason": "why", "at": None, "details": {}}
    earlier.write_text(json.dumps({**now, "steps": [*now["steps"], gone]}))
    assert "- reclaim lse_1: why" in run(cli.app, "plan", "--since", str(earlier), "--json")["changes"]
    assert "- reclaim lse_1: why" in run(cli.app, "plan", "--since", str(earlier))
    earlier.write_text('{"steps": "none"}')
    with pytest.raises(InvalidInputError, match="not a plan"):
        run(cli.app, "plan", "--since", str(earlier))
