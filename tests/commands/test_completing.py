"""The shell offers what the service lists, under the caller's own key, and says nothing where there is none."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import typer
from tests.api.conftest import Service
from tests.api.conftest import service as service
from tests.client.test_startup import HEAVY, loaded
from tests.leases.world import KEY
from tests.terminal import sit_at
from typer._completion_classes import BashComplete as ShellComplete

from sublet import cli
from sublet.client.operations import OPERATIONS
from sublet.commands import COMPLETING
from sublet.commands.completing import LISTED


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch) -> ShellComplete:
    monkeypatch.setenv(COMPLETING, "complete_bash")
    return ShellComplete(typer.main.get_command(cli.app), {}, "sublet", COMPLETING)


def offered(shell: ShellComplete, line: str) -> list[str]:
    *before, last = line.split(" ")
    return [item.value for item in shell.get_completions(before, last)]


def test_ids_and_names_are_offered(service: Service, shell: ShellComplete, monkeypatch: pytest.MonkeyPatch) -> None:
    quote_body = {"pool": service.world.pool.name, "class": "spot", "duration_s": 7200}
    quote = service.ask("acme", "POST", "/v1/quotes", quote_body).json()["id"]
    lease = service.ask("acme", "POST", "/v1/leases", {"quote_id": quote, "ssh_public_keys": [KEY]}).json()["id"]
    sit_at(monkeypatch, service.api, service.keys["operator"])
    assert offered(shell, "ledger credits a") == ["acme"]
    assert offered(shell, "key ls org_") != [] and offered(shell, "key ls zz") == []
    assert offered(shell, "surplus ") == [service.world.pool.name] == offered(shell, "pool show si")
    assert offered(shell, f"surplus {service.world.pool.id[:8]}") == [service.world.pool.id]
    assert "smollm2-135m-instruct" in offered(shell, "models scale smol")
    assert offered(shell, "lease show lse_") == [lease]
    assert "lease.ready" in offered(shell, "webhook add https://x.example.com --kind lease.r")
    sit_at(monkeypatch, service.api, service.keys["bolt"])
    assert offered(shell, "lease show lse_") == [], "another organization's are not offered"
    assert "spot" in offered(shell, "lease quote --class ")


def test_every_list_that_is_named_exists_and_has_the_fields(service: Service) -> None:
    document = service.api.openapi()
    for operation_id, fields in LISTED.values():
        answers = document["paths"][OPERATIONS[operation_id].path]["get"]["responses"]["200"]
        page = document["components"]["schemas"][
            answers["content"]["application/json"]["schema"]["$ref"].rsplit("/")[-1]
        ]
        [rows] = [field for field in page["properties"].values() if field.get("type") == "array"]
        row = document["components"]["schemas"][rows["items"]["$ref"].rsplit("/")[-1]]
        assert set(fields) <= set(row["properties"]), operation_id


@pytest.mark.parametrize("deaf", [False, True], ids=["nobody", "silence"])
def test_without_a_service_nothing_is_offered_and_nothing_said(deaf: bool, tmp_path: Path) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        if deaf:
            server.listen()
        clean = {name: text for name, text in os.environ.items() if not name.startswith("SUBLET_")}
        asked = {"COMP_WORDS": "sublet lease show lse", "COMP_CWORD": "3", COMPLETING: "complete_bash"}
        where = {"SUBLET_URL": f"http://127.0.0.1:{server.getsockname()[1]}", "SUBLET_KEY": "sublet_x"}
        begun = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-c", "import sys; sys.argv = ['sublet']; from sublet.cli import main; main()"],
            env=clean | asked | where | {"XDG_CONFIG_HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "", "")
    assert time.monotonic() - begun < 30 and list(tmp_path.iterdir()) == []


def test_completing_an_id_loads_little(tmp_path: Path) -> None:
    asked = {"COMP_WORDS": "sublet lease show lse", "COMP_CWORD": "3", COMPLETING: "complete_bash"}
    _, modules = loaded(**asked, XDG_CONFIG_HOME=str(tmp_path), SUBLET_URL="http://127.0.0.1:1", SUBLET_KEY="sublet_x")
    assert [name for name in modules if name in HEAVY] == []
