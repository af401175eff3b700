"""Every error has a code, a status and a sentence that tells the reader what to do."""

from __future__ import annotations

from sublet.values.errors import InvalidInputError, SubletError, UnauthenticatedError


def test_the_docstring_is_the_message_on_one_line() -> None:
    error = UnauthenticatedError()
    assert error.message == str(error)
    assert "\n" not in error.message
    assert error.as_dict() == {"error": {"code": "unauthenticated", "message": error.message, "details": {}}}


def test_a_message_and_details_reach_the_caller() -> None:
    error = InvalidInputError("hours: write a number above 0", field="hours")
    assert error.as_dict()["error"] == {
        "code": "invalid_input",
        "message": "hours: write a number above 0",
        "details": {"field": "hours"},
    }


def test_details_belong_to_one_error_alone() -> None:
    assert SubletError(a=1).details == {"a": 1}
    assert SubletError().details == {}
