"""Keys belong to a person, a service account or the organization, say when they were last used, and end with their owner."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import func, select

from sublet.accounts.limits.model import Allowed
from sublet.accounts.limits.service import Limits
from sublet.accounts.model import Actor, KeyOwner, Organization
from sublet.accounts.people.service import People
from sublet.accounts.permissions import covers
from sublet.accounts.service import Accounts
from sublet.accounts.service_accounts import service
from sublet.accounts.service_accounts.service import ServiceAccounts
from sublet.store import Store
from sublet.store.audit import Acting, act, head
from sublet.store.paging import PageRequest
from sublet.store.tables.accounts import key_uses
from sublet.values.clock import SimulatedClock
from sublet.values.errors import (
    ConflictError,
    InvalidInputError,
    LimitExceededError,
    NotFoundError,
    StorageFullError,
    UnauthenticatedError,
)

DEVELOPER = "customer_developer"


@pytest.fixture
def accounts(any_store: Store) -> Accounts:
    return Accounts(any_store)


@pytest.fixture
def services(any_store: Store) -> ServiceAccounts:
    return ServiceAccounts(any_store)


@pytest.fixture
def acme(accounts: Accounts) -> Organization:
    return accounts.create_organization("Acme")


def ada(accounts: Accounts, acme: Organization, role: str = "customer_admin") -> str:
    people = People(accounts)
    secret = people.invite(acme, "ada@example.com", role, "key_1").secret
    return people.accept(secret, "Ada", "a long walk by the sea", "").id


def test_keys_say_whom_they_belong_to(accounts: Accounts, services: ServiceAccounts, acme: Organization) -> None:
    person = ada(accounts, acme)
    made = services.create(acme, "nightly", DEVELOPER, created_by=person)
    accounts.create_key(acme.id, "shared")
    accounts.create_key(acme.id, "laptop", belongs=KeyOwner(person, created_by=person))
    key, secret = accounts.create_key(acme.id, "ci", belongs=KeyOwner(service_account="nightly", created_by=person))
    told = {item.name: item.as_dict() for item in accounts.keys(acme.id)}
    owners = {name: (item["owner"], item["owner_id"], item["owner_name"]) for name, item in told.items()}
    assert owners == {
        "shared": ("organization", acme.id, ""),
        "laptop": ("person", person, "Ada"),
        "ci": ("service_account", made.id, "nightly"),
    }
    assert key.as_dict() == told["ci"] and told["ci"]["created_by"] == person
    assert [item.as_dict() for item in accounts.key_page(acme.id, PageRequest(10)).items] == list(told.values())
    assert accounts.authenticate(secret).role == DEVELOPER


def test_a_persons_keys_end_when_they_leave_and_a_service_accounts_do_not(
    accounts: Accounts, services: ServiceAccounts, acme: Organization
) -> None:
    first = ada(accounts, acme)
    people = People(accounts)
    secret = people.invite(acme, "ben@example.com", "customer_admin", first).secret
    ben = people.accept(secret, "Ben", "a long walk by the lake", "").id
    services.create(acme, "nightly", DEVELOPER, created_by=ben)
    _, own = accounts.create_key(acme.id, belongs=KeyOwner(ben, created_by=ben))
    _, its = accounts.create_key(acme.id, belongs=KeyOwner(service_account="nightly", created_by=ben))
    people.remove(acme, ben)
    with pytest.raises(UnauthenticatedError):
        accounts.authenticate(own)
    assert accounts.authenticate(its).role == DEVELOPER
    with pytest.raises(NotFoundError):
        accounts.create_key(acme.id, belongs=KeyOwner(ben, created_by=ben))


def test_a_persons_keys_end_when_their_role_no_longer_covers_them(accounts: Accounts, acme: Organization) -> None:
    ada(accounts, acme)
    people = People(accounts)
    secret = people.invite(acme, "ben@example.com", "customer_admin", "key_1").secret
    ben = people.accept(secret, "Ben", "a long walk by the lake", "").id
    keys = {
        role: accounts.create_key(acme.id, role=role, belongs=KeyOwner(ben))[1]
        for role in ("customer_admin", DEVELOPER, "customer_billing")
    }
    people.set_role(acme, ben, DEVELOPER)
    assert accounts.authenticate(keys[DEVELOPER])
    for role in ("customer_admin", "customer_billing"):
        with pytest.raises(UnauthenticatedError):
            accounts.authenticate(keys[role])
    assert covers("operator", "auditor") and not covers("auditor", "operator") and not covers("", "auditor")


def test_a_removed_service_account_takes_its_keys_with_it(
    accounts: Accounts, services: ServiceAccounts, acme: Organization
) -> None:
    made = services.create(acme, "nightly", DEVELOPER, "search")
    key, secret = accounts.create_key(acme.id, belongs=KeyOwner(service_account=made.id))
    assert key.project == "search"
    bolt = accounts.create_organization("Bolt")
    for other in (bolt.id, acme.id):
        with pytest.raises(NotFoundError):
            services.remove(made.id if other == bolt.id else "sva_none", other)
    services.remove(made.id, acme.id)
    with pytest.raises(UnauthenticatedError):
        accounts.authenticate(secret)
    assert services.page(acme.id, PageRequest(10)).items == []
    with pytest.raises(NotFoundError):
        accounts.create_key(acme.id, belongs=KeyOwner(service_account="nightly"))
    again = services.create(acme, "nightly", DEVELOPER)
    with pytest.raises(NotFoundError):
        accounts.create_key(bolt.id, belongs=KeyOwner(service_account=again.id))


def test_what_a_service_account_can_not_be(
    accounts: Accounts, services: ServiceAccounts, acme: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = services.create(acme, " nightly ", DEVELOPER, "search")
    assert made.name == "nightly"
    for name, role, project in (
        ("", DEVELOPER, ""), ("a\nb", DEVELOPER, ""), ("x" * 121, DEVELOPER, ""), ("x", "", ""), ("x", "operator", ""),
        ("x", DEVELOPER, "p" * 81), (made.id, DEVELOPER, ""),
    ):  # fmt: skip
        with pytest.raises(InvalidInputError):
            services.create(acme, name, role, project)
    with pytest.raises(ConflictError):
        services.create(acme, "nightly", DEVELOPER)
    own = KeyOwner(service_account="nightly")
    for role, project in (("customer_admin", ""), ("", "ads")):
        with pytest.raises(InvalidInputError):
            accounts.create_key(acme.id, role=role, project=project, belongs=own)
    assert accounts.create_key(acme.id, role=DEVELOPER, project="search", belongs=own)
    monkeypatch.setattr(service, "PER_ORGANIZATION_MAX", 1)
    with pytest.raises(LimitExceededError):
        services.create(acme, "weekly", DEVELOPER)


def test_the_last_use_is_written_once_a_minute(
    accounts: Accounts, services: ServiceAccounts, acme: Organization, clock: SimulatedClock, any_store: Store
) -> None:
    services.create(acme, "nightly", DEVELOPER)
    _, secret = accounts.create_key(acme.id, belongs=KeyOwner(service_account="nightly"))
    assert accounts.keys(acme.id)[0].last_used_at is None
    began = clock.now()
    with act(Acting("key_1", acme.id, DEVELOPER, "test.reads")):
        for _ in range(5):
            accounts.authenticate(secret)
            clock.advance(10)
    assert accounts.keys(acme.id)[0].last_used_at == began
    clock.advance(10)
    accounts.authenticate(secret)
    assert accounts.keys(acme.id)[0].last_used_at == began + timedelta(minutes=1)
    (listed,) = services.page(acme.id, PageRequest(10)).items
    assert (listed.live_keys, listed.last_used_at) == (1, began + timedelta(minutes=1))
    with any_store.read() as connection:
        assert connection.execute(select(func.count()).select_from(key_uses)).scalar_one() == 1
        assert head(connection)[0] == 0, "to use a key is no change"


def test_a_full_disk_refuses_nobody(
    accounts: Accounts, acme: Organization, any_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, secret = accounts.create_key(acme.id)

    def full(fn: object) -> None:
        raise StorageFullError()

    monkeypatch.setattr(any_store, "write", full)
    assert accounts.authenticate(secret).organization_id == acme.id


def test_a_key_says_which_models_it_may_call(accounts: Accounts, acme: Organization, any_store: Store) -> None:
    admin = Actor("key_1", acme.id, "customer", frozenset(), role="customer_admin").require("limits:write")
    key, _ = accounts.create_key(acme.id)
    limits = Limits(any_store)
    any_store.write(lambda connection: limits.create_for(connection, admin, key, Allowed(models=("small", "large"))))
    other, _ = accounts.create_key(acme.id)
    assert {item.id: item.models for item in accounts.keys(acme.id)} == {key.id: ("small", "large"), other.id: None}
