"""Talk to the shim of a lease, and end one that does not obey."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import time
from collections.abc import Callable
from typing import Any

from sublet.leases.backends.base import BackendFailedError
from sublet.leases.backends.local.files import PROTOCOL, SINCE, LeaseFiles, short_path
from sublet.leases.backends.local.teardown import shim_alive

ANSWER_TIMEOUT_S = 5.0
_POLL_S = 0.01


def ask(files: LeaseFiles, request: dict[str, Any]) -> None:
    """One request to the shim. Raises BackendFailedError where it does not answer or refuses, and where one of them is too old for
    the other."""
    state = files.read_state()
    spoken = state.protocol if state is not None else PROTOCOL
    if spoken > PROTOCOL:
        raise BackendFailedError(
            f"the shim of {files.lease_id} uses protocol {spoken}, and this version supports up to {PROTOCOL}: a newer "
            "version of Sublet started "
            "the lease; run that version until the lease ends"
        )
    if spoken < SINCE.get(request["op"], 1):
        raise BackendFailedError(
            f"the shim of {files.lease_id} was started by an older version that does not support {request['op']!r}; leases "
            "that start from now on support it"
        )
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(ANSWER_TIMEOUT_S)
            _connect(connection, files)
            connection.sendall(json.dumps(request).encode() + b"\n")
            answer = json.loads(connection.makefile().readline() or "{}")
    except (OSError, ValueError) as error:
        raise BackendFailedError(f"the shim of {files.lease_id} is not responding: {error}") from error
    if not answer.get("ok"):
        raise BackendFailedError(
            f"the shim of {files.lease_id} refused the request: {answer.get('error', 'no response')}"
        )


def _connect(connection: socket.socket, files: LeaseFiles) -> None:
    """The shim may hold its lock a moment before it listens, and a moment after."""
    deadline = time.monotonic() + ANSWER_TIMEOUT_S
    while True:
        try:
            with short_path(files.control / "socket") as name:
                connection.connect(name)
            return
        except (FileNotFoundError, ConnectionRefusedError):
            if time.monotonic() >= deadline or not files.held():
                raise
            time.sleep(_POLL_S)


def kill_shim(files: LeaseFiles) -> None:
    """End a shim that does not obey, by the pid and start time that it wrote itself. The kernel then ends the sandbox."""

    def gone() -> bool:
        state = files.read_state()
        if state is not None and shim_alive(state):
            with contextlib.suppress(ProcessLookupError):
                os.kill(state.pid, signal.SIGKILL)
        return not files.held()

    wait_until(gone, ANSWER_TIMEOUT_S)


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(_POLL_S)
    return True
