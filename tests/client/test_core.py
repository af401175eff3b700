"""What needs no connection: what is tried again, how requests are written, and how answers are read."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import msgspec
import pytest

from sublet.client.core import Answer, NoAnswerError, answer_of, document_of, pause_s, plain_request, request_of
from sublet.client.operations import OPERATIONS
from sublet.leases.wire import NewQuote, QuoteList
from sublet.values.errors import ConflictError, InvalidInputError, NotFoundError, SubletError, UnavailableError

GET = plain_request("GET", "/x")
POST = plain_request("POST", "/x", {})
PATCH = plain_request("PATCH", "/x", {})
PUT = plain_request("PUT", "/x", {})
URL = "http://sublet"


def answered(status: int, **headers: str) -> Answer:
    return Answer(status, {name.replace("_", "-"): value for name, value in headers.items()}, b"")


@pytest.mark.parametrize("request_", [GET, POST, PUT], ids=["GET", "POST", "PUT"])
def test_what_may_be_repeated_is_tried_again(request_: object) -> None:
    for status in (502, 504):
        assert 0 < (pause_s(request_, 1, answered(status)) or 0) <= 0.2  # type: ignore[arg-type]
    assert pause_s(request_, 1, answered(429, retry_after="3")) == 3.0  # type: ignore[arg-type]
    assert pause_s(request_, 1, NoAnswerError("reset", begun=True)) is not None  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "answer",
    [
        answered(200),
        answered(400),
        answered(404),
        answered(409),
        answered(500),
        answered(507),
        answered(429),
        answered(503),
        answered(503, retry_after="3600"),
        answered(503, retry_after="Wed, 21 Oct 2026 07:28:00 GMT"),
        answered(503, retry_after="-1"),
        NoAnswerError("nobody listens", begun=False),
    ],
)
def test_what_will_not_change_soon_is_told_at_once(answer: Answer | NoAnswerError) -> None:
    assert pause_s(GET, 1, answer) is None


def test_what_might_be_carried_out_twice_is_never_tried_again() -> None:
    for outcome in (answered(502), answered(503, retry_after="1"), NoAnswerError("reset", begun=True)):
        assert pause_s(PATCH, 1, outcome) is None


def test_tries_end_and_pauses_grow() -> None:
    assert pause_s(GET, 4, answered(502)) is None
    assert 0.4 <= (pause_s(GET, 3, answered(502)) or 0) <= 0.8


def test_every_post_has_a_key_of_its_own_or_the_one_that_is_given() -> None:
    keys = {plain_request("POST", "/x").headers["Idempotency-Key"] for _ in range(3)}
    assert len(keys) == 3
    assert plain_request("POST", "/x", idempotency_key="mine").headers["Idempotency-Key"] == "mine"
    assert "Idempotency-Key" not in GET.headers


def test_a_name_in_the_path_can_not_be_another_path() -> None:
    show = OPERATIONS["fleet.show_pool"]
    assert request_of(show, ("a/b?c#d é",)).target == "/v1/pools/a%2Fb%3Fc%23d%20%C3%A9"
    for name in ("", ".", ".."):
        with pytest.raises(InvalidInputError, match="not a valid id or name"):
            request_of(show, (name,))


def test_what_an_operation_does_not_have_is_refused() -> None:
    pools = OPERATIONS["fleet.list_pools"]
    with pytest.raises(TypeError, match="takes no argument"):
        request_of(pools, ("main",))
    with pytest.raises(TypeError, match="takes no body"):
        request_of(pools, (), {})
    with pytest.raises(TypeError, match="takes no page"):
        request_of(pools, (), query={"page": 1})


def test_queries_and_bodies_are_written_as_the_api_reads_them() -> None:
    start = datetime(2026, 7, 2, 14, tzinfo=UTC)
    forecast = request_of(OPERATIONS["surplus.forecast"], ("p",), query={"horizon_s": [60, 3600], "quantile": None})
    assert forecast.target == "/v1/demand/p/forecast?horizon_s=60&horizon_s=3600"
    listed = request_of(OPERATIONS["leases.list_leases"], (), query={"live": True})
    assert listed.target == "/v1/leases?live=true"
    wanted = NewQuote(pool="main", accelerators=2, class_="spot", duration_s=3600, start=start)
    body = msgspec.json.decode(request_of(OPERATIONS["leases.quote"], (), wanted).body or b"")
    assert (body["class"], body["start"]) == ("spot", "2026-07-02T14:00:00Z")
    assert "class_" not in body


def test_a_typed_answer_has_times_and_python_names_and_grows_quietly() -> None:
    quote = {name: "x" for name in QuoteList.__annotations__}
    answer = Answer(200, {}, msgspec.json.encode({"quotes": [], "next": None, "new_in_a_later_version": quote}))
    assert answer_of(OPERATIONS["leases.list_quotes"], answer, URL) == QuoteList(quotes=[], next=None)
    broken = Answer(200, {}, b'{"quotes": 5}')
    with pytest.raises(UnavailableError, match=r"leases\.list_quotes does not have the format"):
        answer_of(OPERATIONS["leases.list_quotes"], broken, URL)


@pytest.mark.parametrize(
    ("status", "body", "kind", "told"),
    [
        (404, b'{"error": {"code": "not_found", "message": "no pool", "details": {}}}', NotFoundError, "no pool"),
        (409, b'{"error": {"code": "unheard_of", "message": "no"}}', ConflictError, "no"),
        (418, b'{"error": null}', InvalidInputError, "answered 418"),
        (502, b"{}", SubletError, "answered 502"),
        (502, b"<html>", UnavailableError, "is not Sublet"),
        (200, b"\xff\xfe", UnavailableError, "is not Sublet"),
        (500, b'{"error": {"code": "internal", "message": ["x"], "details": 5}}', SubletError, "x"),
    ],
)
def test_a_refusal_is_the_services_own_error(status: int, body: bytes, kind: type[SubletError], told: str) -> None:
    with pytest.raises(kind, match=told) as raised:
        document_of(Answer(status, {}, body), URL)
    assert type(raised.value) is kind


def test_decimals_are_written_exactly() -> None:
    body = plain_request("POST", "/x", {"amount": Decimal("0.10")}).body
    assert body == b'{"amount":"0.10"}'


def test_an_error_keeps_its_code_though_its_class_is_not_loaded_here() -> None:
    body = msgspec.json.encode({"error": {"code": "unheard_of", "message": "no", "details": {"since": "noon"}}})
    with pytest.raises(ConflictError, match="no") as caught:
        document_of(Answer(409, {}, body), URL)
    assert caught.value.code == "unheard_of" and caught.value.as_dict()["error"]["details"] == {"since": "noon"}
    assert ConflictError.code == ConflictError("another").code == "conflict"
