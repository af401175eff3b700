"""The running service as the commands see it: one address, one key, and Sublet's own errors back."""

from __future__ import annotations

import os
from typing import Any

import httpx2

from sublet.values.errors import (
    ConflictError,
    ForbiddenError,
    InvalidInputError,
    LimitExceededError,
    NotFoundError,
    StorageFullError,
    SubletError,
    UnauthenticatedError,
    UnavailableError,
    all_error_types,
)

URL_VARIABLE = "SUBLET_URL"
KEY_VARIABLE = "SUBLET_KEY"
URL_DEFAULT = "http://127.0.0.1:8080"
TIMEOUT_S = 60.0

# Not every command knows every part's errors: one of an unknown code is at least told by its status.
_BY_STATUS: dict[int, type[SubletError]] = {
    kind.status: kind
    for kind in (
        InvalidInputError,
        UnauthenticatedError,
        ForbiddenError,
        NotFoundError,
        ConflictError,
        LimitExceededError,
        UnavailableError,
        StorageFullError,
    )
}


class Remote:
    """Calls with the key of SUBLET_KEY to the service at SUBLET_URL.

    Each call raises the service's own error by its code, and UnavailableError where no Sublet answers.
    """

    def __init__(self) -> None:
        """Raises InvalidInputError where there is no key that could be one, or no address."""
        key = os.environ.get(KEY_VARIABLE, "")
        if not key:
            raise InvalidInputError(f"set {KEY_VARIABLE} to your key (and {URL_VARIABLE} to where Sublet runs)")
        if not (key.isascii() and key.isprintable()):
            raise InvalidInputError(f"{KEY_VARIABLE} holds characters that no key has; copy the key as it was shown")
        self.url = os.environ.get(URL_VARIABLE, URL_DEFAULT).rstrip("/")
        try:
            self._client = httpx2.Client(
                base_url=self.url, headers={"Authorization": f"Bearer {key}"}, timeout=TIMEOUT_S, trust_env=False
            )
        except httpx2.InvalidURL as error:
            raise InvalidInputError(
                f"{URL_VARIABLE} is {self.url!r}, which is no address ({error}); write it like {URL_DEFAULT}"
            ) from error

    def get(self, path: str, **params: Any) -> dict[str, Any]:
        return self._document(self._call("GET", path, params=_given(params)))

    def text(self, path: str, **params: Any) -> str:
        """The body as it came, such as a page."""
        answer = self._call("GET", path, params=_given(params))
        if not answer.is_success:
            self._document(answer)
        return str(answer.text)

    def post(self, path: str, body: dict[str, Any] | None = None, idempotency_key: str | None = None) -> dict[str, Any]:
        headers = {"Idempotency-Key": idempotency_key} if idempotency_key else {}
        return self._document(self._call("POST", path, json=body if body is not None else {}, headers=headers))

    def _call(self, method: str, path: str, **options: Any) -> httpx2.Response:
        try:
            return self._client.request(method, path, **options)
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise UnavailableError(
                f"Sublet does not answer at {self.url} ({error}); start it with `sublet up` or set {URL_VARIABLE}"
            ) from error

    def _document(self, answer: httpx2.Response) -> dict[str, Any]:
        try:
            found = answer.json() if answer.content else {}
        except ValueError as error:
            raise UnavailableError(f"what answers at {self.url} is not Sublet; check {URL_VARIABLE}") from error
        if answer.is_success and isinstance(found, dict):
            return found
        told = found.get("error", {}) if isinstance(found, dict) else {}
        told = told if isinstance(told, dict) else {}
        unknown = InvalidInputError if answer.is_client_error else SubletError
        by_status = _BY_STATUS.get(answer.status_code, unknown)
        kind = all_error_types().get(str(told.get("code")), by_status)
        raise kind(told.get("message") or f"Sublet answered {answer.status_code}", **(told.get("details") or {}))


def _given(params: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in params.items() if value is not None}
