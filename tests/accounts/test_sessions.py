"""Signing in, the ways in which a session ends, and limits on guessing that lock nobody out."""

from __future__ import annotations

import statistics
import time

import pytest
from sqlalchemy import insert

from sublet.accounts.model import Organization
from sublet.accounts.passkeys.service import Passkeys
from sublet.accounts.passkeys.store import set_required
from sublet.accounts.people import attempts
from sublet.accounts.people.model import SecondStepError, SignInLimitError, VerificationNeededError, WrongPasswordError
from sublet.accounts.people.service import People
from sublet.accounts.people.sessions import OPEN_MAX, Sessions
from sublet.accounts.service import Accounts
from sublet.store import Store
from sublet.store.audit import Acting, Wanted, act, page
from sublet.store.paging import PageRequest
from sublet.store.tables.accounts import sign_in_attempts
from sublet.values.clock import SimulatedClock
from sublet.values.errors import ConflictError, NotFoundError, UnauthenticatedError

ADA, GOOD, HERE, THERE = "ada@example.com", "a long walk by the sea", "192.0.2.7", "198.51.100.9"


@pytest.fixture
def accounts(any_store: Store) -> Accounts:
    return Accounts(any_store)


@pytest.fixture
def acme(accounts: Accounts) -> Organization:
    return accounts.create_organization("acme")


@pytest.fixture
def sessions(accounts: Accounts, acme: Organization) -> Sessions:
    people = People(accounts)
    people.accept(people.invite(acme, ADA, "customer_admin", "k").secret, "Ada Lovelace", GOOD, HERE)
    return Sessions(accounts)


def test_a_session_is_found_by_its_token_alone(sessions: Sessions, accounts: Accounts, clock: SimulatedClock) -> None:
    token = sessions.open_with_password(ADA, GOOD, HERE, "Firefox\x1b[31m")
    found = sessions.find(token)
    assert found is not None and found.person is not None and found.person.email == ADA
    for wrong in (token + "x", token[:-1], "", None, "x" * 300, found.id):
        assert sessions.find(wrong) is None
    again = Sessions(accounts).find(token)
    assert again is not None and again.id == found.id, "another control plane knows it"
    clock.advance(1)
    other = sessions.find(sessions.open_with_password(ADA, GOOD, HERE))
    assert other is not None and other.form_token != found.form_token
    assert [item.user_agent for item in sessions.listed(found)] == ["", "Firefox[31m"]


def test_it_ends_by_sign_out_by_time_and_by_idleness(sessions: Sessions, clock: SimulatedClock) -> None:
    left, idle = sessions.open_with_password(ADA, GOOD, HERE), sessions.open_with_password(ADA, GOOD, HERE)
    sessions.close(left)
    assert sessions.find(left) is None
    clock.advance(2 * 3600)
    assert sessions.find(idle) is not None
    busy = sessions.open_with_password(ADA, GOOD, HERE)
    clock.advance(2 * 3600 + 1)
    assert sessions.find(busy) is None
    busy = sessions.open_with_password(ADA, GOOD, HERE)
    for _ in range(11):
        clock.advance(3600)
        found = sessions.find(busy)
        assert found is not None
        busy = found.fresh_token or busy
    clock.advance(3599)
    assert sessions.find(busy) is not None
    clock.advance(1)
    assert sessions.find(busy) is None


def test_the_token_rotates_and_a_copied_one_ends_the_session(sessions: Sessions, clock: SimulatedClock) -> None:
    first = sessions.open_with_password(ADA, GOOD, HERE)
    clock.advance(901)
    found = sessions.find(first)
    assert found is not None and found.fresh_token not in (None, first)
    tab = sessions.find(first)
    assert tab is not None and tab.fresh_token is None, "the other tab goes on with the old one"
    assert tab.form_token == found.form_token
    clock.advance(31)
    assert sessions.find(found.fresh_token) is not None
    assert sessions.find(first) is None, "it comes back too late: somebody has a copy"
    assert sessions.find(found.fresh_token) is None


def test_those_who_may_not_come_in_any_more_are_out_at_once(
    sessions: Sessions, accounts: Accounts, acme: Organization
) -> None:
    token = sessions.open_with_password(ADA, GOOD, HERE)
    accounts.suspend(acme.id)
    assert sessions.find(token) is None
    accounts.resume(acme.id)
    assert sessions.find(token) is not None
    key, secret = accounts.create_key("acme")
    by_key = sessions.open_with_key(f"  {secret}\n", HERE)
    found = sessions.find(by_key)
    assert found is not None and found.person is None and found.actor.key_id == key.id
    accounts.revoke_key(key.id)
    assert sessions.find(by_key) is None
    people = People(accounts)
    bob = people.accept(people.invite(acme, "bob@example.com", "customer_admin", "k").secret, "Bob", GOOD, HERE)
    bobs = sessions.open_with_password("bob@example.com", GOOD, HERE)
    people.set_role(acme, bob.id, "customer_billing")
    changed = sessions.find(bobs)
    assert changed is not None and changed.actor.may("leases:write") == ""
    people.remove(acme, bob.id)
    assert sessions.find(bobs) is None


def test_one_sees_and_ends_ones_own_sessions_alone(sessions: Sessions, accounts: Accounts, acme: Organization) -> None:
    people = People(accounts)
    people.accept(people.invite(acme, "bob@example.com", "customer_admin", "k").secret, "Bob", GOOD, HERE)
    ada, second = (sessions.find(sessions.open_with_password(ADA, GOOD, HERE)) for _ in range(2))
    token = sessions.open_with_password("bob@example.com", GOOD, HERE)
    bob = sessions.find(token)
    assert ada is not None and second is not None and bob is not None
    assert {item.id for item in sessions.listed(ada)} == {ada.id, second.id}
    with pytest.raises(NotFoundError):
        sessions.revoke(ada, bob.id)
    assert sessions.revoke_others(ada) == 1
    assert sessions.find(token) is not None
    assert [item.id for item in sessions.listed(ada)] == [ada.id]


def test_there_is_an_end_to_how_many_sessions_one_has(sessions: Sessions, accounts: Accounts) -> None:
    _, secret = accounts.create_key("acme")
    tokens = []
    for _ in range(OPEN_MAX + 1):
        sessions._store.clock.advance(1)  # type: ignore[attr-defined]
        tokens.append(sessions.open_with_key(secret, HERE))
    assert sessions.find(tokens[0]) is None and sessions.find(tokens[1]) is not None


def test_dangerous_acts_need_a_password_of_the_last_minutes(sessions: Sessions, clock: SimulatedClock) -> None:
    token = sessions.open_with_password(ADA, GOOD, HERE)
    found = sessions.find(token)
    assert found is not None
    sessions.require_verified(found)
    clock.advance(601)
    found = sessions.find(token)
    assert found is not None
    with pytest.raises(VerificationNeededError):
        sessions.require_verified(found)
    with pytest.raises(WrongPasswordError):
        sessions.verify(found, "a wrong password", HERE)
    sessions.verify(found, GOOD, HERE)
    found = sessions.find(token)
    assert found is not None
    sessions.require_verified(found)


def test_guesses_are_limited_by_source_and_forgotten_after_a_minute(sessions: Sessions, clock: SimulatedClock) -> None:
    for number in range(attempts.SOURCE_FAILURES_MAX):
        with pytest.raises(UnauthenticatedError):
            sessions.open_with_key(f"sublet_wrong{number}", THERE)
    with pytest.raises(SignInLimitError):
        sessions.open_with_password(ADA, GOOD, THERE)
    with pytest.raises(SignInLimitError):
        sessions.open_with_key("x", THERE)
    assert sessions.open_with_password(ADA, GOOD, HERE)
    clock.advance(61)
    assert sessions.open_with_password(ADA, GOOD, THERE)


def test_a_flood_on_an_account_does_not_lock_its_owner_out(
    sessions: Sessions, any_store: Store, clock: SimulatedClock
) -> None:
    """200 sources guess; the owner at a known place notices nothing, and at a new one waits at most five seconds."""
    sessions.open_with_password(ADA, GOOD, HERE)
    row = {"what": attempts.FAILED, "account_sha256": attempts.account_of(ADA), "at": clock.now()}
    rows = [{**row, "id": f"att_{number}", "source": f"203.0.113.{number}"} for number in range(200)]
    any_store.write(lambda connection: connection.execute(insert(sign_in_attempts), rows))
    assert sessions.open_with_password(ADA, GOOD, HERE)
    with pytest.raises(SignInLimitError) as caught:
        sessions.open_with_password(ADA, GOOD, "203.0.113.250")
    assert caught.value.details["retry_after_s"] == attempts.ACCOUNT_WAIT_S
    clock.advance(attempts.ACCOUNT_WAIT_S)
    assert sessions.open_with_password(ADA, GOOD, "203.0.113.250")


def test_one_source_that_guesses_one_account_waits_longer_each_time(sessions: Sessions, clock: SimulatedClock) -> None:
    waits = []
    for _ in range(9):
        try:
            sessions.open_with_password(ADA, "a wrong password", THERE)
        except SignInLimitError as error:
            waits.append(error.details["retry_after_s"])
            clock.advance(waits[-1])
            with pytest.raises(WrongPasswordError):
                sessions.open_with_password(ADA, "a wrong password", THERE)
        except WrongPasswordError:
            pass
    assert waits == [2, 4, 8, 16]
    assert sessions.open_with_password(ADA, GOOD, HERE), "the owner elsewhere is let in all the while"


def test_unknown_people_get_the_same_answer_after_the_same_time(sessions: Sessions, clock: SimulatedClock) -> None:
    def asked(email: str) -> tuple[str, float]:
        clock.advance(61)
        began = time.process_time()
        with pytest.raises(WrongPasswordError) as caught:
            sessions.open_with_password(email, "a wrong password", THERE)
        return caught.value.message, time.process_time() - began

    for _ in range(2):
        asked("first@example.com")
    known, unknown = [asked(ADA) for _ in range(3)], [asked("nobody@example.com") for _ in range(3)]
    assert {message for message, _ in known} == {message for message, _ in unknown}
    slow, fast = (statistics.median(seconds for _, seconds in found) for found in (known, unknown))
    assert 0.4 < slow / fast < 2.5, (slow, fast)


def test_an_ipv6_network_counts_as_one_place_and_a_mapped_address_as_itself() -> None:
    assert (
        attempts.source_of("2001:db8::1")
        == attempts.source_of("2001:db8::ffff")
        != attempts.source_of("2001:db8:0:1::1")
    )
    assert attempts.source_of("::ffff:192.0.2.7") == HERE
    assert attempts.source_of("testclient") == "unknown"


def test_what_is_long_over_is_forgotten(sessions: Sessions, any_store: Store, clock: SimulatedClock) -> None:
    sessions.open_with_password(ADA, GOOD, HERE)
    clock.advance(100 * 24 * 3600)
    sessions.forget()
    found = sessions.find(sessions.open_with_password(ADA, GOOD, HERE))
    assert found is not None and len(sessions.listed(found)) == 1


def test_a_password_alone_opens_nothing_where_a_passkey_must_follow(sessions: Sessions, accounts: Accounts) -> None:
    passkeys, store = Passkeys(accounts, sessions), accounts.store
    found = sessions.find(sessions.open_with_password(ADA, GOOD, HERE))
    assert found is not None and found.person is not None
    with pytest.raises(ConflictError, match="add a passkey first"):
        passkeys.require(found, True)
    person_id = found.person.id
    store.write(lambda connection: set_required(connection, person_id, True))
    with pytest.raises(SecondStepError) as needed:
        sessions.open_with_password(ADA, GOOD, HERE)
    assert needed.value.person_id == person_id and needed.value.details == {}
    with pytest.raises(WrongPasswordError):
        sessions.open_with_password(ADA, "wrong" + GOOD, HERE)
    assert passkeys.forget_all("ADA@example.com") == 0
    assert sessions.find(sessions.open_with_password(ADA, GOOD, HERE)) is not None
    with pytest.raises(NotFoundError):
        passkeys.forget_all("nobody@example.com")


def test_the_log_says_who_signed_in_and_whose_account_was_tried(sessions: Sessions, accounts: Accounts) -> None:
    def entry(operation: str) -> Acting:
        return Acting("", "", "", operation, "/login", HERE)

    with act(entry("console.sign_in")):
        sessions.open_with_password(ADA, GOOD, HERE)
    for email in (ADA, "nobody@example.com"):
        with act(entry("console.sign_in")), pytest.raises(WrongPasswordError):
            sessions.open_with_password(email, "wrong", HERE)
    with accounts.store.read() as connection:
        entries = page(connection, Wanted(operation="console."), PageRequest(10)).items
    told = [(item["operation"], bool(item["actor"]["id"]), bool(item["organization_id"])) for item in entries]
    refused = "console.sign_in_refused"
    assert told == [(refused, False, False), (refused, True, True), ("console.sign_in", True, True)]
    assert ADA not in str(entries) and GOOD not in str(entries)
