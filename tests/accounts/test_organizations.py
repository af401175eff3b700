"""An organization has a name of its own, one kind, one currency and a known time zone."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.store.notes import WAIT_S, spawn

from sublet.accounts.model import NAME_LENGTH_MAX, SCOPES_BY_KIND, checked_name, checked_organization
from sublet.accounts.service import Accounts
from sublet.store import Store
from sublet.values.clock import SimulatedClock
from sublet.values.errors import ConflictError, InvalidInputError, NotFoundError
from sublet.values.ids import new_id
from sublet.values.text import visible


@pytest.fixture
def accounts(any_store: Store) -> Accounts:
    return Accounts(any_store)


def test_an_organization_is_found_by_id_and_by_name(accounts: Accounts, clock: SimulatedClock) -> None:
    made = accounts.create_organization("  Acme GmbH ", "customer", "EUR", "Europe/Berlin")
    assert (made.name, made.currency, made.timezone, made.status) == ("Acme GmbH", "EUR", "Europe/Berlin", "active")
    assert made.created_at == clock.now()
    assert accounts.organization(made.id) == accounts.organization("Acme GmbH") == made
    assert accounts.organizations() == [made]


def test_an_unknown_organization_is_not_found(accounts: Accounts) -> None:
    with pytest.raises(NotFoundError, match="`sublet org ls` lists them"):
        accounts.organization("nobody")


def test_a_name_is_taken_once_even_in_a_race(accounts: Accounts) -> None:
    attempts = [spawn(lambda: accounts.create_organization("Acme")) for _ in range(6)]
    failures = [error for done in attempts if (error := done.exception(WAIT_S)) is not None]
    assert [type(error) for error in failures] == [ConflictError] * 5
    assert len(accounts.organizations()) == 1


def test_the_operators_name_is_the_operators(accounts: Accounts) -> None:
    with pytest.raises(InvalidInputError, match="reserved for the operator"):
        accounts.create_organization("operator", "customer")
    accounts.create_organization("operator", "operator")
    secret = accounts.ensure_operator()
    assert accounts.authenticate(secret).is_operator


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (("Acme", "friend", "USD", "UTC"), "kind 'friend' is not one of operator, internal, customer"),
        (("Acme", "customer", "QQQ", "UTC"), "currency 'QQQ' is not known"),
        (("Acme", "customer", "usd", "UTC"), "currency 'usd' is not known"),
        (("Acme", "customer", "USD", "Mars/Olympus"), "unknown timezone 'Mars/Olympus'"),
        (("Acme", "customer", "USD", ""), "unknown timezone ''"),
        (("Acme", "customer", "USD", "Europe"), "unknown timezone 'Europe'"),
        (("Acme", "customer", "USD", "../../etc/passwd"), "timezone"),
        (("Acme", "customer", "USD", "x" * 5000), "timezone"),
        (("", "customer", "USD", "UTC"), "an organization's name must have 1 to"),
        (("org_acme", "customer", "USD", "UTC"), "'org_acme' looks like an id"),
        ((new_id("key"), "customer", "USD", "UTC"), "looks like an id"),
    ],
)
def test_a_wrong_field_is_named_and_nothing_is_written(
    accounts: Accounts, fields: tuple[str, str, str, str], message: str
) -> None:
    with pytest.raises(InvalidInputError, match=message):
        accounts.create_organization(*fields)
    assert accounts.organizations() == []


@given(st.text(max_size=NAME_LENGTH_MAX + 5))
@example("a\x00b")
@example("a\nb")
@example("\x1b[31mred")
@example(" " * 10)
@example("a" * (NAME_LENGTH_MAX + 1))
@example("Ünï çødé 加速器")
def test_a_name_that_is_taken_can_be_printed_on_one_line(name: str) -> None:
    try:
        kept = checked_name(name, "a name")
    except InvalidInputError:
        plain = name.isascii() and name.strip().isprintable()
        assert not plain or not 0 < len(name.strip()) <= NAME_LENGTH_MAX, "plain ASCII is never refused"
        return
    assert kept == kept.strip() == checked_name(kept, "a name")
    assert 0 < len(kept) <= NAME_LENGTH_MAX
    assert len(kept.splitlines()) == 1
    assert visible(kept) == kept
    kept.encode()


@given(st.text(max_size=60))
def test_any_time_zone_is_known_or_refused_with_one_sentence(timezone: str) -> None:
    try:
        assert checked_organization("Acme", "customer", "USD", timezone)[3] == timezone
    except InvalidInputError as error:
        assert "use a name such as UTC or Europe/Berlin" in error.message


@pytest.mark.parametrize("kind", SCOPES_BY_KIND)
def test_every_kind_can_be_created(accounts: Accounts, kind: str) -> None:
    assert accounts.create_organization("somebody", kind).kind == kind


def test_a_kept_organization_belongs_to_the_database_not_to_the_process(any_store: Store) -> None:
    made = Accounts(any_store).create_organization("Acme")
    again = Store(any_store.url.render_as_string(hide_password=False), any_store.clock)
    assert Accounts(again).organization("Acme") == made
    again.close()
