"""What a person at a terminal has: an address and a key, and behind the address an API that answers in this process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient
from starlette.types import ASGIApp

from sublet.client import clients
from sublet.client.core import Answer, Request

URL = "http://sublet.test"


class InProcess:
    """Carries requests to an application in this process."""

    def __init__(self, app: ASGIApp, headers: dict[str, str]) -> None:
        self._client = TestClient(app, base_url=URL, headers=headers, raise_server_exceptions=False)

    def send(self, request: Request) -> Answer:
        found = self._client.request(
            request.method, request.target, content=request.body, headers=request.headers, follow_redirects=False
        )
        return Answer(found.status_code, {name.lower(): text for name, text in found.headers.items()}, found.content)

    def stream(self, request: Request) -> tuple[Answer, Iterator[bytes]]:
        answer = self.send(request)
        return answer, iter([answer.body])

    def close(self) -> None:
        pass


def sit_at(monkeypatch: pytest.MonkeyPatch, app: ASGIApp, key: str) -> None:
    """From now on commands of this process talk to `app` with `key`."""
    monkeypatch.setenv("SUBLET_URL", URL)
    monkeypatch.setenv("SUBLET_KEY", key)
    monkeypatch.setattr(clients, "StandardTransport", lambda url, headers, timeout_s, ca_file: InProcess(app, headers))
