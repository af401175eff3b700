"""People: invited, taken in, changed, removed; their passwords and the mail that they get."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from sublet.accounts.model import Organization
from sublet.accounts.people import letters, passwords
from sublet.accounts.people.model import (
    InvitationOverError,
    LastPersonError,
    ResetOverError,
    SignInLimitError,
    WrongPasswordError,
)
from sublet.accounts.people.service import People
from sublet.accounts.people.sessions import Sessions
from sublet.accounts.service import Accounts
from sublet.store import Store
from sublet.store.metadata import metadata
from sublet.store.paging import PageRequest
from sublet.store.sealing import Sealing, sealing_of
from sublet.store.tables.accounts import letters as letters_table
from sublet.values.clock import SimulatedClock
from sublet.values.emails import checked_email
from sublet.values.errors import ConflictError, InvalidInputError, NotFoundError, UnavailableError

GOOD = "a long walk by the sea"
HERE = "192.0.2.7"
LINK = re.compile(r"http://sublet\.test/(\w+)\?secret=(\S+)")


@pytest.fixture
def sealing(tmp_path: Path) -> Sealing:
    return sealing_of(tmp_path)


@pytest.fixture
def accounts(any_store: Store) -> Accounts:
    return Accounts(any_store)


@pytest.fixture
def people(accounts: Accounts, sealing: Sealing) -> People:
    return People(accounts, "http://sublet.test/", lambda: sealing)


@pytest.fixture
def acme(accounts: Accounts) -> Organization:
    return accounts.create_organization("acme")


def mailed(store: Store, sealing: Sealing) -> list[tuple[str, str, str]]:
    """Send every letter that waits."""
    sent: list[tuple[str, str, str]] = []
    letters.send_letters(store, sealing, lambda *letter: sent.append(letter))
    return sent


def joined(people: People, acme: Organization, email: str = "ada@example.com", role: str = "customer_admin") -> str:
    made = people.invite(acme, email, role, "key_1")
    return people.accept(made.secret, "Ada Lovelace", GOOD, HERE).id


def test_somebody_invited_joins_once_and_signs_in(people: People, accounts: Accounts, acme: Organization) -> None:
    made = people.invite(acme, " Ada@Example.com ", "customer_admin", "key_1")
    assert made.link == f"http://sublet.test/join?secret={made.secret}" and made.mailed
    offer = people.offer(made.secret)
    assert (offer.organization.name, offer.invitation.role, offer.known, offer.mailed) == (
        "acme",
        "customer_admin",
        False,
        False,
    )
    person = people.accept(made.secret, "Ada  Lovelace", GOOD, HERE)
    assert (person.email, person.email_verified_at) == ("ada@example.com", None)
    with pytest.raises(InvitationOverError):
        people.accept(made.secret, "Eve", GOOD, HERE)
    sessions = Sessions(accounts)
    session = sessions.find(sessions.open_with_password("ADA@example.com", GOOD, HERE))
    assert session is not None and session.person is not None
    assert (session.actor.role, session.actor.person_id, session.actor.id) == ("customer_admin", person.id, person.id)
    assert session.actor.may("leases:write") == "own" and session.actor.may("organizations:write") == ""


def test_the_link_in_the_mail_proves_the_address_and_the_shown_one_does_not(
    people: People, any_store: Store, sealing: Sealing, acme: Organization
) -> None:
    made = people.invite(acme, "ada@example.com", "customer_billing", "key_1")
    ((address, subject, body),) = mailed(any_store, sealing)
    assert (address, "acme" in subject, made.secret in body) == ("ada@example.com", True, False)
    found = LINK.search(body)
    assert found is not None and found[1] == "join"
    person = people.accept(found[2], "Ada", GOOD, HERE)
    assert person.email_verified_at is not None
    with pytest.raises(InvitationOverError):
        people.offer(made.secret)


def test_invitations_end(people: People, acme: Organization, clock: SimulatedClock) -> None:
    first = people.invite(acme, "ada@example.com", "customer_admin", "key_1")
    second = people.invite(acme, "ada@example.com", "customer_billing", "key_1")
    with pytest.raises(InvitationOverError):
        people.offer(first.secret)
    people.revoke_invitation(second.invitation.id, acme.id)
    with pytest.raises(InvitationOverError):
        people.offer(second.secret)
    with pytest.raises(NotFoundError):
        people.revoke_invitation(second.invitation.id)
    third = people.invite(acme, "ada@example.com", "customer_billing", "key_1")
    clock.advance(timedelta(days=7).total_seconds())
    for secret in (third.secret, "", "guess", "x" * 300):
        with pytest.raises(InvitationOverError):
            people.accept(secret, "Ada", GOOD, HERE)
    page = people.invitation_page(acme.id, PageRequest())
    assert {item.state(clock.now()) for item in page.items} == {"revoked", "expired"}


def test_an_invitation_to_a_suspended_organization_opens_nothing(
    people: People, accounts: Accounts, acme: Organization
) -> None:
    made = people.invite(acme, "ada@example.com", "customer_admin", "key_1")
    accounts.suspend(acme.id)
    with pytest.raises(InvitationOverError):
        people.offer(made.secret)
    accounts.resume("acme")
    assert people.offer(made.secret).organization.id == acme.id
    with pytest.raises(ConflictError, match="can't be suspended"):
        accounts.suspend(accounts.create_organization("us", "operator").id)


def test_somebody_in_two_organizations_joins_with_the_password_that_they_have(
    people: People, accounts: Accounts, acme: Organization, clock: SimulatedClock
) -> None:
    person = joined(people, acme)
    clock.advance(1)
    bolt = accounts.create_organization("bolt")
    made = people.invite(bolt, "ada@example.com", "customer_billing", "key_2")
    assert people.offer(made.secret).known
    with pytest.raises(WrongPasswordError, match="already has an account"):
        people.accept(made.secret, "Mallory", "another password", HERE)
    assert people.accept(made.secret, "", GOOD, HERE).id == person
    assert [(owner.name, member.role) for member, owner in people.memberships(person)] == [
        ("acme", "customer_admin"),
        ("bolt", "customer_billing"),
    ]
    with pytest.raises(ConflictError, match="already"):
        people.invite(bolt, "ada@example.com", "customer_admin", "key_2")
    sessions = Sessions(accounts)
    token = sessions.open_with_password("ada@example.com", GOOD, HERE)
    session = sessions.find(token)
    assert session is not None and session.organization.name == "acme"
    sessions.switch(session, bolt.id)
    moved = sessions.find(token)
    assert moved is not None and (moved.organization.name, moved.actor.role) == ("bolt", "customer_billing")
    other = accounts.create_organization("other")
    for nowhere in (other.id, "org_none"):
        with pytest.raises(NotFoundError):
            sessions.switch(moved, nowhere)


def test_the_last_who_may_manage_people_stays(people: People, accounts: Accounts, acme: Organization) -> None:
    ada = joined(people, acme)
    bob = joined(people, acme, "bob@example.com", "customer_developer")
    for change in (lambda: people.set_role(acme, ada, "customer_billing"), lambda: people.remove(acme, ada)):
        with pytest.raises(LastPersonError):
            change()
    assert people.set_role(acme, bob, "customer_admin").role == "customer_admin"
    people.remove(acme, ada)
    with pytest.raises(NotFoundError):
        people.remove(acme, ada)
    with pytest.raises(InvalidInputError, match="not for an organization of kind customer"):
        people.set_role(acme, bob, "operator")
    with pytest.raises(WrongPasswordError, match="not a member of an active organization"):
        Sessions(accounts).open_with_password("ada@example.com", GOOD, HERE)


def test_a_reset_goes_by_mail_once_and_signs_out_everywhere(
    people: People, accounts: Accounts, any_store: Store, sealing: Sealing, acme: Organization, clock: SimulatedClock
) -> None:
    joined(people, acme)
    mailed(any_store, sealing)
    sessions = Sessions(accounts)
    token = sessions.open_with_password("ada@example.com", GOOD, HERE)
    people.ask_reset("nobody@example.com", HERE)
    people.ask_reset("not an address", HERE)
    assert mailed(any_store, sealing) == []
    people.ask_reset("Ada@example.com", HERE)
    ((_, _, body),) = mailed(any_store, sealing)
    found = LINK.search(body)
    assert found is not None and found[1] == "reset"
    with pytest.raises(InvalidInputError):
        people.reset(found[2], "short")
    person = people.reset(found[2], "another long walk")
    assert sessions.find(token) is None
    with pytest.raises(ResetOverError):
        people.reset(found[2], GOOD)
    with pytest.raises(WrongPasswordError):
        sessions.open_with_password("ada@example.com", GOOD, HERE)
    assert sessions.open_with_password(person.email, "another long walk", HERE)
    for _ in range(5):
        people.ask_reset("ada@example.com", HERE)
    assert len(mailed(any_store, sealing)) == 2, "three mails an hour"
    clock.advance(3601)
    people.ask_reset("ada@example.com", HERE)
    ((_, _, body),) = mailed(any_store, sealing)
    late = LINK.search(body)
    clock.advance(3600)
    assert late is not None
    with pytest.raises(ResetOverError):
        people.reset_person(late[2])


def test_nothing_in_the_database_opens_anything(
    people: People, accounts: Accounts, any_store: Store, acme: Organization
) -> None:
    made = people.invite(acme, "ada@example.com", "customer_admin", "key_1")
    people.accept(people.invite(acme, "bob@example.com", "customer_admin", "k").secret, "Bob", GOOD, HERE)
    people.ask_reset("bob@example.com", HERE)
    token = Sessions(accounts).open_with_password("bob@example.com", GOOD, HERE)
    with any_store.read() as connection:
        stored = [str(row) for table in metadata.sorted_tables for row in connection.execute(select(table))]
    assert any("$argon2id$v=19$m=19456,t=2,p=1$" in row for row in stored)
    for secret in (made.secret, token, GOOD, "reset?secret"):
        assert not any(secret in row for row in stored), secret


def test_letters_are_tried_again_and_given_up_after_a_day(
    people: People, any_store: Store, sealing: Sealing, acme: Organization, clock: SimulatedClock
) -> None:
    people.invite(acme, "ada@example.com", "customer_admin", "key_1")

    def refuse(address: str, subject: str, body: str) -> None:
        raise UnavailableError("the mail server can't be reached")

    assert letters.send_letters(any_store, sealing, refuse) == 0
    assert mailed(any_store, sealing) == [], "not before it is due"
    clock.advance(15)
    assert letters.send_letters(any_store, sealing, refuse) == 0
    clock.advance(24 * 3600)
    assert mailed(any_store, sealing) == []
    with any_store.read() as connection:
        assert connection.execute(select(letters_table)).all() == []


@pytest.mark.parametrize(
    ("password", "told"),
    [
        ("short", "at least 10 characters"),
        ("x" * 129, "at most 128"),
        ("Password123", "too common"),
        ("pass-word-123", "too common"),
        ("aaaaaaaaaaaa", "too common"),
        ("abcdefghijkl", "too common"),
        ("9876543210", "too common"),
        ("ada.lovelace@example.com", "must not be your name"),
        ("lovelacelovelace1", "must not be your name"),
    ],
)
def test_passwords_that_are_guessed_first_are_refused(password: str, told: str) -> None:
    with pytest.raises(InvalidInputError, match=told) as caught:
        passwords.checked_password(password, email="ada.lovelace@example.com", name="Ada Lovelace")
    assert password not in caught.value.message


def test_the_built_in_list_has_nothing_that_the_length_refuses_anyway() -> None:
    assert len(passwords.COMMON) > 100
    assert all(len(item) >= passwords.LENGTH_MIN for item in passwords.COMMON)


def test_passwords_are_compared_in_one_normal_form() -> None:
    stored = passwords.hashed("caf\u00e9 au lait, deux")
    assert passwords.fits("cafe\u0301 au lait, deux", stored) and not passwords.fits("cafe au lait, deux", stored)
    assert not passwords.fits("anything at all", None)
    assert not passwords.is_outdated(stored) and passwords.is_outdated("$argon2id$v=19$m=8,t=1,p=1$a$b")


@pytest.mark.parametrize("email", ["", "ada", "ada@", "@example.com", "a da@example.com", "ada@localhost", "é@example.com",
                                   "a@b.c\nBcc: x@y.z", "a" * 250 + "@b.cd", "<ada@example.com>", "a\u202e@example.com"])  # fmt: skip
def test_addresses_that_mail_can_not_reach_are_refused(email: str) -> None:
    with pytest.raises(InvalidInputError):
        checked_email(email)


def test_invitation_links_can_not_be_used_to_guess_passwords(
    people: People, accounts: Accounts, acme: Organization, any_store: Store
) -> None:
    joined(people, acme)
    made = people.invite(accounts.create_organization("bolt"), "ada@example.com", "customer_admin", "k")
    for _ in range(5):
        with pytest.raises(WrongPasswordError):
            people.accept(made.secret, "", "a wrong password", "198.51.100.1")
    with pytest.raises(SignInLimitError):
        people.accept(made.secret, "", GOOD, "198.51.100.1")
    assert people.accept(made.secret, "", GOOD, HERE)


def test_a_letter_is_resealed_when_the_key_changes(
    people: People, any_store: Store, sealing: Sealing, acme: Organization
) -> None:
    people.invite(acme, "ada@example.com", "customer_admin", "key_1")
    other = Sealing([b"k" * 32, *sealing._keys.values()])
    assert letters.reseal_letters(any_store, other) == 1
    assert len(mailed(any_store, Sealing([b"k" * 32]))) == 1
