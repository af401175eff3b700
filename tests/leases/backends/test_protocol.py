"""A shim of another version: an older one is understood and served with what it knows, a newer one refused in a sentence."""

from __future__ import annotations

import json
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from sublet.leases.backends.base import BackendFailedError
from sublet.leases.backends.local.control import ask
from sublet.leases.backends.local.files import PROTOCOL, LeaseFiles, Run, State, short_path
from sublet.values.ids import new_id

OF_0_1: dict[str, Any] = {
    "state": "active", "ends_at_us": 9, "reclaim_at_us": None, "pid": 7, "pid_started": "1", "init_pid": 8,
    "init_started": "2", "boot_id": "b", "port": 22000, "runs": [{"started_us": 1, "alive_us": 5, "closed": False}],
    "guarantees": {"memory": {"kind": "hard"}}, "reason": None, "clean": None, "error": None, "left": [],
}  # fmt: skip
"""The state as a shim of 0.1 writes it."""


@pytest.fixture
def files(tmp_path: Path) -> LeaseFiles:
    made = LeaseFiles(tmp_path, new_id("lse"))
    made.control.mkdir(parents=True)
    return made


def writes(files: LeaseFiles, **changes: Any) -> State:
    (files.root / "state.json").write_text(json.dumps(OF_0_1 | {"lease_id": files.lease_id} | changes))
    found = files.read_state()
    assert found is not None
    return found


def answers(files: LeaseFiles) -> list[dict[str, Any]]:
    """What the next request was, to somebody who says yes to it."""
    heard: list[dict[str, Any]] = []
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with short_path(files.control / "socket") as name:
        server.bind(name)
    server.listen()

    def serve() -> None:
        with server, server.accept()[0] as connection:
            heard.append(json.loads(connection.makefile().readline()))
            connection.sendall(b'{"ok": true}\n')

    threading.Thread(target=serve, daemon=True).start()
    return heard


def test_a_shim_of_0_1_is_understood_and_told_what_it_knows(files: LeaseFiles) -> None:
    state = writes(files)
    assert (state.protocol, state.port, state.runs) == (1, 22000, [Run(1, 5)])
    with pytest.raises(BackendFailedError, match="older version that does not support 'pause'"):
        ask(files, {"op": "pause"})
    heard = answers(files)
    ask(files, {"op": "terms", "ends_at_us": 9, "reclaim_at_us": 8})
    assert heard == [{"op": "terms", "ends_at_us": 9, "reclaim_at_us": 8}]


def test_a_newer_shim_is_read_as_far_as_it_is_known_and_told_nothing(files: LeaseFiles) -> None:
    run = {"started_us": 1, "alive_us": 5, "closed": False, "accelerators": 2, "mood": "calm"}
    state = writes(files, protocol=PROTOCOL + 1, mood="calm", runs=[run])
    assert state.runs == [Run(1, 5, accelerators=2)]
    with pytest.raises(
        BackendFailedError, match=f"uses protocol {PROTOCOL + 1}, and this version supports up to {PROTOCOL}"
    ):
        ask(files, {"op": "stop", "reason": "over"})
