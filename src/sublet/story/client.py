"""A client of Sublet's own HTTP interface that tries again while a process is being restarted."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import httpx2

from sublet.values.errors import SubletError, UnavailableError

AGAIN_S_MAX = 60.0


class RefusedError(SubletError):
    """Sublet refused the request; its message says why."""

    code = "refused"
    status = 400


class Client:
    """Calls with one key. `address` is asked at each call, since a restart may move the port."""

    def __init__(self, address: Callable[[], str], key: str) -> None:
        self._address = address
        self.key = key

    def get(self, path: str, **query: Any) -> dict[str, Any]:
        return self._call("GET", path, query=query)

    def post(self, path: str, body: dict[str, Any] | None = None, idempotency_key: str | None = None) -> dict[str, Any]:
        """Without an idempotency key the call is made again only where it can't have arrived."""
        return self._call("POST", path, body=body or {}, idempotency_key=idempotency_key)

    def _call(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        query: dict[str, Any] | None = None,
        idempotency_key: str | None = None,
    ) -> dict[str, Any]:
        headers = {"authorization": f"Bearer {self.key}"}
        if idempotency_key:
            headers["idempotency-key"] = idempotency_key
        deadline = time.monotonic() + AGAIN_S_MAX
        repeatable = method == "GET" or idempotency_key is not None
        while True:
            try:
                answer = httpx2.request(
                    method,
                    self._address() + path,
                    json=body,
                    params=query,
                    headers=headers,
                    timeout=15,
                    trust_env=False,
                )
            except (httpx2.TransportError, UnavailableError) as error:
                if time.monotonic() > deadline or not (repeatable or isinstance(error, httpx2.ConnectError)):
                    raise UnavailableError(f"the control plane is not responding: {error}") from error
                time.sleep(0.2)
                continue
            if answer.status_code in (502, 503) and repeatable and time.monotonic() < deadline:
                time.sleep(0.2)
                continue
            return _content(answer)


def _content(answer: Any) -> dict[str, Any]:
    if answer.status_code >= 400:
        try:
            raise RefusedError(answer.json()["error"]["message"], status=answer.status_code)
        except (ValueError, KeyError) as error:
            raise RefusedError(f"HTTP {answer.status_code}") from error
    found: dict[str, Any] = answer.json() if answer.content else {}
    return found
