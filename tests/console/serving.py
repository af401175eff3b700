"""A console on a port of its own, for browsers."""

from __future__ import annotations

import os
import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn

SWITCHES = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
)
TIMEOUT_MS = 60_000


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@contextmanager
def serving(app: Any, port: int = 0) -> Iterator[int]:
    """The port that `app` is served on meanwhile."""
    listener = socket.create_server(("127.0.0.1", port))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield int(listener.getsockname()[1])
    finally:
        server.should_exit = True
        thread.join(timeout=10)
        listener.close()


@contextmanager
def chromium() -> Iterator[Any]:
    """A browser, where there is one."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="the playwright package drives the browser")
    program = os.environ.get("SUBLET_TEST_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("there is no Chromium; SUBLET_TEST_CHROMIUM may name one")
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=program, args=list(SWITCHES))
        yield opened
        opened.close()


def keep_picture(page: Any, name: str) -> None:
    """A screenshot in the folder that SUBLET_TEST_SCREENSHOTS names, where it names one."""
    folder = os.environ.get("SUBLET_TEST_SCREENSHOTS")
    if folder:
        page.screenshot(path=str(Path(folder) / f"{name}.png"), full_page=True)
