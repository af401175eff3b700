"""A small blocking HTTP client for infrequent requests to an engine: health, tokens, metrics."""

from __future__ import annotations

import http.client
import json
import socket
from typing import Any
from urllib.parse import urlsplit

ANSWER_BYTES_MAX = 4 * 1024 * 1024


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout_s: float) -> None:
        super().__init__("engine", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def connected(endpoint: str, timeout_s: float) -> http.client.HTTPConnection:
    """A connection to `endpoint` (in the form of `Engine.endpoint`), opened with its first request."""
    if endpoint.startswith("unix://"):
        return _UnixConnection(endpoint.removeprefix("unix://"), timeout_s)
    parts = urlsplit(endpoint)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    return kind(parts.hostname or "", parts.port, timeout=timeout_s)


def headers_of(endpoint: str, path: str, key: str | None) -> tuple[str, dict[str, str]]:
    """The path that is asked for at the endpoint, and the headers of a request with JSON."""
    headers = {"content-type": "application/json"}
    if key:
        headers["authorization"] = f"Bearer {key}"
    return ("" if endpoint.startswith("unix://") else urlsplit(endpoint).path.rstrip("/")) + path, headers


def ask(
    endpoint: str, method: str, path: str, body: Any = None, *, key: str | None = None, timeout_s: float = 2.0
) -> tuple[int, bytes]:
    """Status and body of one request to `endpoint` (in the form of `Engine.endpoint`). Raises OSError if it fails."""
    connection = connected(endpoint, timeout_s)
    path, headers = headers_of(endpoint, path, key)
    try:
        connection.request(method, path, json.dumps(body) if body is not None else None, headers)
        answer = connection.getresponse()
        return answer.status, answer.read(ANSWER_BYTES_MAX)
    except http.client.HTTPException as error:
        raise OSError(f"the engine's response is not HTTP ({type(error).__name__})") from error
    finally:
        connection.close()
