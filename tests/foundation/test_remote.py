"""What the commands make of the running service's answers."""

from __future__ import annotations

from collections.abc import Callable

import httpx2
import pytest

from sublet.client.remote import Remote
from sublet.values.errors import InvalidInputError, NotFoundError, SubletError, UnavailableError

Answering = Callable[[httpx2.Response], Remote]


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch) -> Answering:
    """A client whose service gives this answer to everything, and notes what it was asked."""
    monkeypatch.setenv("SUBLET_KEY", "the-key")
    monkeypatch.setenv("SUBLET_URL", "http://sublet.test/")

    def with_answer(answer: httpx2.Response) -> Remote:
        remote = Remote()

        def handle(request: httpx2.Request) -> httpx2.Response:
            answer.headers["x-asked"] = f"{request.method} {request.url}"
            return answer

        remote._client = httpx2.Client(base_url=remote.url, transport=httpx2.MockTransport(handle))
        return remote

    return with_answer


def test_without_a_key_it_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SUBLET_KEY", raising=False)
    with pytest.raises(InvalidInputError, match="set SUBLET_KEY"):
        Remote()


@pytest.mark.parametrize("key", ["sublet_\u2026", "\u00e9", "sublet_1\n"])
def test_what_can_be_no_key_is_refused(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setenv("SUBLET_KEY", key)
    with pytest.raises(InvalidInputError, match="copy the key as it was shown"):
        Remote()


def test_what_can_be_no_address_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUBLET_KEY", "the-key")
    monkeypatch.setenv("SUBLET_URL", "http://[::1")
    with pytest.raises(InvalidInputError, match=r"SUBLET_URL is 'http://\[::1', which is no address"):
        Remote()


@pytest.mark.parametrize(("status", "told"), [(409, 409), (429, 429), (418, 400), (500, 500), (507, 507)])
def test_an_error_of_an_unknown_code_is_told_by_its_status(answering: Answering, status: int, told: int) -> None:
    refusal = httpx2.Response(status, json={"error": {"code": "of_a_part_not_loaded", "message": "no"}})
    with pytest.raises(SubletError, match="no") as raised:
        answering(refusal).get("/v1/quotes")
    assert raised.value.status == told


def test_a_document_comes_back_and_what_is_not_given_is_not_asked(answering: Answering) -> None:
    answer = httpx2.Response(200, json={"pools": []})
    assert answering(answer).get("/v1/record", days=7, pool=None) == {"pools": []}
    assert answer.headers["x-asked"] == "GET http://sublet.test/v1/record?days=7"
    assert answering(httpx2.Response(200, text="<p>page</p>")).text("/page") == "<p>page</p>"


def test_the_services_own_error_comes_back_by_its_code(answering: Answering) -> None:
    refusal = httpx2.Response(404, json={"error": {"code": "not_found", "message": "there is no pool 'x'"}})
    for call in (Remote.get, Remote.text, Remote.post):
        with pytest.raises(NotFoundError, match="there is no pool 'x'"):
            call(answering(refusal), "/v1/pools/x")


@pytest.mark.parametrize("body", [{"error": "no"}, {"error": None}, [], {}])
def test_a_refusal_of_another_shape_is_told_by_its_status(answering: Answering, body: object) -> None:
    with pytest.raises(SubletError, match="Sublet answered 502"):
        answering(httpx2.Response(502, json=body)).get("/v1/pools")


def test_what_is_not_sublet_is_named_as_such(answering: Answering) -> None:
    for status in (200, 500):
        with pytest.raises(UnavailableError, match="is not Sublet; check SUBLET_URL"):
            answering(httpx2.Response(status, text="<html>welcome</html>")).get("/v1/pools")
