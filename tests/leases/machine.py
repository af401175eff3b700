"""This machine as the tests see it: small leases, a customer's key, and an SSH client."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncssh

from sublet.leases.backends.base import Observation, RunState, StartOrder
from sublet.leases.backends.local.backend import MIB, LocalBackend, LocalSettings
from sublet.leases.backends.local.files import LeaseFiles, process_started
from sublet.values.ids import new_id

MEMORY_BYTES = 256 * MIB
DISK_BYTES = 64 * MIB
PROCESSES_MAX = 64
WAIT_S = 60.0


def local_settings(base: Path, **changes: Any) -> LocalSettings:
    values = {"base": base, "accelerators": 2, "memory_bytes": MEMORY_BYTES, "disk_bytes": DISK_BYTES,
              "processes_max": PROCESSES_MAX, "allow_soft_isolation": True}  # fmt: skip
    return LocalSettings(**{**values, **changes})


def kill_shim(base: Path, lease_id: str) -> None:
    """SIGKILL to the shim, by the pid that it wrote, and wait until it is gone."""
    state = LeaseFiles(base, lease_id).read_state()
    assert state is not None
    kill(state.pid)


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + WAIT_S
    while process_started(pid) and time.monotonic() < deadline:
        time.sleep(0.005)
    assert not process_started(pid)


@dataclass
class Tenant:
    """A running lease and the key that opens it."""

    backend: LocalBackend
    lease_id: str
    key: Path
    base: Path

    @property
    def seen(self) -> Observation:
        return self.backend.observe(self.lease_id)

    @property
    def port(self) -> int:
        endpoint = self.seen.endpoint
        assert endpoint is not None, self.seen
        return endpoint.port

    def arguments(self, port_flag: str = "-p") -> list[str]:
        return [port_flag, str(self.port), "-i", str(self.key), "-F", "none", "-o", "IdentitiesOnly=yes",
                "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"]  # fmt: skip

    def run(self, command: str, timeout_s: float = 60) -> tuple[int, str]:
        """Exit status and all that it printed."""
        done = subprocess.run(
            ["ssh", *self.arguments(), "tenant@127.0.0.1", command],
            capture_output=True, text=True, timeout=timeout_s, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        return done.returncode, (done.stdout + done.stderr).strip()

    def background(self, command: str, *, terminal: bool = False) -> subprocess.Popen[str]:
        flags = ["-tt"] if terminal else []
        return subprocess.Popen(
            ["ssh", *flags, *self.arguments(), "tenant@127.0.0.1", command],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True,
        )  # fmt: skip

    def stop(self) -> Observation:
        return self.backend.stop(self.lease_id, "test", 0.0)

    def wait(self, state: RunState) -> Observation:
        deadline = time.monotonic() + WAIT_S
        while (seen := self.seen).state is not state:
            assert time.monotonic() < deadline, seen
            time.sleep(0.01)
        return seen


def client_key(directory: Path) -> Path:
    """A fresh key pair; its path."""
    pair = asyncssh.generate_private_key("ssh-ed25519", comment="someone")
    path = directory / "client_key"
    path.touch(mode=0o600)
    path.write_bytes(pair.export_private_key())
    path.with_name("client_key.pub").write_bytes(pair.export_public_key())
    return path


def tenant(
    backend: LocalBackend, base: Path, key: Path, device: str = "cpu:0", seconds: float = 300, who: str = "org_a"
) -> Tenant:
    """Start a lease and wait until it runs."""
    line = key.with_name("client_key.pub").read_text()
    order = StartOrder(new_id("lse"), who, (device,), (line,), datetime.now(UTC) + timedelta(seconds=seconds))
    backend.start(order)
    found = Tenant(backend, order.lease_id, key, base)
    found.wait(RunState.RUNNING)
    return found
