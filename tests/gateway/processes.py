"""Gateways as processes of their own, for tests that kill them or run several."""

from __future__ import annotations

import subprocess


def start_gateway(command: list[str], children: list[subprocess.Popen[str]]) -> tuple[str, int]:
    """Start a gateway among `children`, which the caller ends; its host and port once it serves."""
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    children.append(child)
    assert child.stdout is not None
    for line in child.stdout:
        if line.startswith("READY"):
            host, port = line.split()[1].removeprefix("http://").split(":")
            return host, int(port)
    raise AssertionError("the gateway did not start")
