"""What a command loads before it does anything: modules, which are steadier than milliseconds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

HEAVY = ("sqlalchemy", "alembic", "pydantic", "rich", "httpx2", "fastapi", "numpy", "asyncio")
MODULES_MAX = 300
CODE = """
import json, sys
sys.argv = ["sublet", *json.loads(sys.argv[1])]
from sublet.cli import main
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
print(json.dumps(sorted(sys.modules)), file=sys.stderr)
"""


def loaded(*words: str, **environment: str) -> tuple[str, list[str]]:
    """What a command prints, and the modules that it has loaded by then."""
    clean = {name: text for name, text in os.environ.items() if not name.startswith("SUBLET_")}
    done = subprocess.run(
        [sys.executable, "-c", CODE, json.dumps(words)],
        env=clean | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    modules: list[str] = json.loads(done.stderr.splitlines()[-1])
    return done.stdout, modules


def check(modules: list[str]) -> None:
    assert [name for name in modules if name in HEAVY] == []
    assert len(modules) <= MODULES_MAX, len(modules)


@pytest.mark.parametrize("words", [("--help",), ("profile", "ls"), ("lease", "--help")], ids=" ".join)
def test_a_command_loads_little(words: tuple[str, ...], tmp_path: Path) -> None:
    printed, modules = loaded(*words, XDG_CONFIG_HOME=str(tmp_path))
    assert printed
    check(modules)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_offers_commands_and_loads_little(shell: str) -> None:
    asked = {"COMP_WORDS": "sublet le", "COMP_CWORD": "1", "_TYPER_COMPLETE_ARGS": "sublet le"}
    printed, modules = loaded(_SUBLET_COMPLETE=f"complete_{shell}", _TYPER_COMPLETE_FISH_ACTION="get-args", **asked)
    assert "lease" in printed and "ledger" in printed and "models" not in printed
    # Typer itself takes Rich to describe commands to zsh and fish.
    assert [name for name in modules if name in HEAVY] == ([] if shell == "bash" else ["rich"])
    script, _ = loaded(_SUBLET_COMPLETE=f"source_{shell}")
    assert "_SUBLET_COMPLETE" in script


class Leases(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"leases": [], "pools": []}')

    def log_message(self, *_: Any) -> None:
        pass


def test_a_remote_command_loads_little_and_makes_no_file(tmp_path: Path) -> None:
    server = HTTPServer(("127.0.0.1", 0), Leases)
    Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        url = f"http://127.0.0.1:{server.server_port}"
        home = {"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path)}
        printed, modules = loaded("lease", "ls", SUBLET_URL=url, SUBLET_KEY="key", **home)
        assert "no leases" in printed
        check(modules)
        assert list(tmp_path.iterdir()) == []
    finally:
        server.shutdown()
        server.server_close()
