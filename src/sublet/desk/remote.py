"""Asking a running Sublet for its actuals, over its HTTP interface."""

from __future__ import annotations

import os

import httpx2

from sublet.values.errors import InvalidInputError, SubletError, UnavailableError, all_error_types

URL_DEFAULT = "http://127.0.0.1:8080"
TIMEOUT_S = 60.0


def ask(path: str, days: int) -> str:
    """The body of a page of the running system, at SUBLET_URL with the operator's key in SUBLET_KEY.

    Raises InvalidInputError without a key, UnavailableError where nobody answers, and what the system itself refuses.
    """
    url = os.environ.get("SUBLET_URL", URL_DEFAULT).rstrip("/")
    key = os.environ.get("SUBLET_KEY", "")
    if not key:
        raise InvalidInputError("set SUBLET_KEY to the operator's key (and SUBLET_URL to where Sublet runs)")
    try:
        with httpx2.Client(timeout=TIMEOUT_S, trust_env=False) as client:
            answer = client.get(f"{url}{path}", params={"days": days}, headers={"Authorization": f"Bearer {key}"})
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        raise UnavailableError(
            f"Sublet does not answer at {url} ({error}); start it with `sublet up` or set SUBLET_URL"
        ) from error
    if not answer.is_success:
        raise _refusal(answer)
    return str(answer.text)


def _refusal(answer: httpx2.Response) -> SubletError:
    try:
        told = answer.json()["error"]
        kind = all_error_types().get(str(told["code"]), SubletError)
        return kind(str(told["message"]))
    except (ValueError, KeyError, TypeError):
        return UnavailableError(f"Sublet answered {answer.status_code} where its actuals should be; check SUBLET_URL")
