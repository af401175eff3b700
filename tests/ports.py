"""Ports that stay free until a test takes them."""

from __future__ import annotations

import random
import socket

# Below what Linux gives to connections and to anyone who asks for port 0.
FIRST, LAST = 15_000, 32_000


def free_port() -> int:
    """A port of the loopback that nobody else on a busy machine is handed by chance."""
    while True:
        port = random.SystemRandom().randint(FIRST, LAST)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
