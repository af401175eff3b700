"""Signing in, and the ways in which a session ends."""

from __future__ import annotations

from typing import Any

import pytest

from sublet.console.sessions import FAILURES_MAX, SESSIONS_MAX, ConsoleForOperatorsError, Sessions, SignInLimitError
from sublet.values.clock import SimulatedClock
from sublet.values.errors import UnauthenticatedError

HERE = "127.0.0.1"


def test_a_session_is_found_by_its_token_alone(sessions: Sessions) -> None:
    token = sessions.open("  sublet_operator\n", HERE)
    found = sessions.find(token)
    assert found is not None
    assert found.actor.key_id == "key_operator"
    assert sessions.find(token + "x") is None
    assert sessions.find("") is None
    assert sessions.find(None) is None
    assert "sublet_operator" not in repr(vars(sessions))
    assert token not in repr(vars(sessions))


def test_tokens_and_form_tokens_differ(sessions: Sessions) -> None:
    first, second = sessions.open("sublet_operator", HERE), sessions.open("sublet_operator", HERE)
    assert first != second
    one, other = sessions.find(first), sessions.find(second)
    assert one is not None
    assert other is not None
    assert one.owns_form(one.form_token)
    assert not one.owns_form(other.form_token)
    assert not one.owns_form("é")


@pytest.mark.parametrize("key", ["sublet_customer", "sublet_internal"])
def test_only_the_operator_comes_in(sessions: Sessions, key: str) -> None:
    with pytest.raises(ConsoleForOperatorsError, match="the console is for the operator"):
        sessions.open(key, HERE)


def test_a_session_ends_by_sign_out_by_time_and_with_its_key(
    sessions: Sessions, clock: SimulatedClock, authority: Any
) -> None:
    left, late, revoked = (sessions.open("sublet_operator", HERE) for _ in range(3))
    sessions.close(left)
    assert sessions.find(left) is None
    clock.advance(12 * 3600 - 1)
    assert sessions.find(late) is not None
    clock.advance(1)
    assert sessions.find(late) is None
    fresh = sessions.open("sublet_operator", HERE)
    authority.revoked.add("key_operator")
    assert sessions.find(fresh) is None
    authority.revoked.clear()
    assert sessions.find(fresh) is None
    assert sessions.find(revoked) is None


def test_wrong_keys_are_counted_per_address_and_forgotten_after_a_minute(
    sessions: Sessions,
    clock: SimulatedClock,
    authority: Any,
) -> None:
    for _ in range(FAILURES_MAX):
        with pytest.raises(UnauthenticatedError):
            sessions.open("sublet_wrong", HERE)
    with pytest.raises(SignInLimitError):
        sessions.open("sublet_operator", HERE)
    assert authority.asked == FAILURES_MAX
    assert sessions.open("sublet_operator", "127.0.0.2")
    clock.advance(61)
    assert sessions.open("sublet_operator", HERE)


def test_an_ipv6_network_counts_as_one_address_and_a_mapped_address_as_itself(sessions: Sessions) -> None:
    for index in range(FAILURES_MAX):
        with pytest.raises(UnauthenticatedError):
            sessions.open("sublet_wrong", f"2001:db8::{index:x}")
    with pytest.raises(SignInLimitError):
        sessions.open("sublet_operator", "2001:db8::ffff")
    assert sessions.open("sublet_operator", "2001:db8:0:1::1")
    assert sessions.open("sublet_operator", "::ffff:127.0.0.9")


def test_there_is_an_end_to_how_many_sessions_are_kept(sessions: Sessions) -> None:
    first = sessions.open("sublet_operator", HERE)
    for _ in range(SESSIONS_MAX):
        last = sessions.open("sublet_operator", HERE)
    assert sessions.find(first) is None
    assert sessions.find(last) is not None
