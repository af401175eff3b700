"""A key is shown once, kept as a hash, and opens exactly what its scopes say for as long as it lives."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import update
from tests.store.notes import WAIT_S, spawn

from sublet.accounts.model import SCOPES_BY_KIND, Actor, new_secret, secret_sha256
from sublet.accounts.permissions import PERMISSIONS, SCOPES
from sublet.accounts.service import Accounts
from sublet.config import logs
from sublet.store import Store
from sublet.store.tables.accounts import organizations
from sublet.values.clock import SimulatedClock
from sublet.values.errors import (
    ForbiddenError,
    InvalidInputError,
    LimitExceededError,
    NotFoundError,
    UnauthenticatedError,
)


@pytest.fixture
def accounts(any_store: Store) -> Accounts:
    return Accounts(any_store)


@pytest.fixture
def file_log(tmp_path: Path) -> Iterator[Path]:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    logs.configure("test", tmp_path / "data", "debug")
    yield tmp_path / "data" / "logs" / "test.log"
    for handler in root.handlers:
        handler.close()
    root.handlers[:], root.level = before


def test_a_secret_has_256_bits_and_only_its_hash_is_compared() -> None:
    secret = new_secret()
    assert secret.startswith("sublet_")
    assert len(secret.removeprefix("sublet_")) == 43, "32 bytes in URL-safe base 64"
    assert secret_sha256(secret) == hashlib.sha256(secret.encode()).hexdigest()
    assert len({new_secret() for _ in range(1000)}) == 1000


def test_the_key_opens_what_its_organization_owns(accounts: Accounts) -> None:
    acme = accounts.create_organization("Acme")
    key, secret = accounts.create_key(acme.id, "laptop", ["leases"])
    assert accounts.authenticate(secret) == Actor(
        key.id, acme.id, "customer", frozenset({"leases"}), role="customer_admin"
    )
    assert key.hint == secret[-4:]


def test_a_key_counts_for_its_project(accounts: Accounts) -> None:
    acme = accounts.create_organization("Acme")
    key, secret = accounts.create_key(acme.id, "laptop", project=" search ")
    assert accounts.authenticate(secret).project == "search"
    assert [found.as_dict()["project"] for found in accounts.keys(acme.id)] == ["search"]
    assert key.project == "search"
    for wrong in ("x" * 81, "a\nb"):
        with pytest.raises(InvalidInputError, match="project"):
            accounts.create_key(acme.id, project=wrong)


def test_the_secret_is_nowhere_in_the_database_or_the_log(store: Store, tmp_path: Path, file_log: Path) -> None:
    accounts = Accounts(store)
    operator = accounts.ensure_operator()
    assert operator is not None
    secrets = [operator, *(accounts.create_key("operator", f"key {number}")[1] for number in range(5))]
    for secret in secrets:
        accounts.authenticate(secret)
        logging.getLogger("sqlalchemy.engine").warning("bound %s", secret)
    store.close()
    kept = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"sublet.db", "test.log"} <= {path.name for path in kept}
    for path in kept:
        content = path.read_bytes()
        for secret in secrets:
            assert secret.encode() not in content, path.name
            assert secret.removeprefix("sublet_").encode() not in content, path.name
    assert file_log.read_text().count("sublet_…") == len(secrets)
    database = (tmp_path / "sublet.db").read_bytes()
    assert all(secret_sha256(secret).encode() in database for secret in secrets)


def test_every_bad_key_gets_the_same_answer(accounts: Accounts, clock: SimulatedClock) -> None:
    accounts.create_organization("Acme")
    revoked, revoked_secret = accounts.create_key("Acme")
    accounts.revoke_key(revoked.id)
    _, expired_secret = accounts.create_key("Acme", expires_at=clock.now() + timedelta(seconds=1))
    clock.advance(1)
    _, good = accounts.create_key("Acme")
    bad = [None, "", "sublet_", new_secret(), revoked_secret, expired_secret, good[:-1], good + "x", good.upper()]
    bad += [
        "sublet_" + "x" * 100_000,
        "sublet_é",
        "sublet_\ud800",
        good.removeprefix("sublet_"),
        f" {good}",
        "' OR 1=1",
    ]
    answers = set()
    for secret in bad:
        with pytest.raises(UnauthenticatedError) as caught:
            accounts.authenticate(secret)
        answers.add(json.dumps(caught.value.as_dict()))
    assert len(answers) == 1
    assert accounts.authenticate(good).kind == "customer"


def test_a_key_opens_until_the_moment_it_expires(accounts: Accounts, clock: SimulatedClock) -> None:
    accounts.create_organization("Acme")
    expires_at = clock.now() + timedelta(hours=1)
    _, secret = accounts.create_key("Acme", expires_at=expires_at)
    clock.set(expires_at - timedelta(microseconds=1))
    accounts.authenticate(secret)
    clock.set(expires_at)
    with pytest.raises(UnauthenticatedError):
        accounts.authenticate(secret)


def test_a_key_expires_in_the_future_and_says_in_which_zone(accounts: Accounts, clock: SimulatedClock) -> None:
    accounts.create_organization("Acme")
    with pytest.raises(InvalidInputError, match="later expires_at"):
        accounts.create_key("Acme", expires_at=clock.now())
    with pytest.raises(InvalidInputError, match=r"expires_at: .*no offset"):
        accounts.create_key("Acme", expires_at=datetime(2030, 1, 1))  # noqa: DTZ001
    made, _ = accounts.create_key("Acme", expires_at=datetime.fromisoformat("2030-01-01T02:00:00+02:00"))
    assert made.as_dict()["expires_at"] == "2030-01-01T00:00:00Z"


def test_revoking_is_once_and_for_all(accounts: Accounts) -> None:
    accounts.create_organization("Acme")
    key, secret = accounts.create_key("Acme")
    accounts.revoke_key(key.id)
    with pytest.raises(UnauthenticatedError):
        accounts.authenticate(secret)
    for unknown in (key.id, "key_nobody"):
        with pytest.raises(NotFoundError, match="no live key"):
            accounts.revoke_key(unknown)
    assert accounts.keys(key.organization_id)[0].revoked_at is not None


def test_the_keys_of_an_organization_that_is_not_active_open_nothing(accounts: Accounts, any_store: Store) -> None:
    acme = accounts.create_organization("Acme")
    _, secret = accounts.create_key("Acme")
    suspend = update(organizations).where(organizations.c.id == acme.id).values(status="suspended")
    any_store.write(lambda connection: connection.execute(suspend))
    with pytest.raises(UnauthenticatedError):
        accounts.authenticate(secret)


@pytest.mark.parametrize("kind", SCOPES_BY_KIND)
def test_a_key_carries_its_kinds_scopes_and_no_others(accounts: Accounts, kind: str) -> None:
    accounts.create_organization("somebody", kind)
    default, _ = accounts.create_key("somebody")
    assert default.scopes == SCOPES_BY_KIND[kind]
    for scope in SCOPES:
        if scope in SCOPES_BY_KIND[kind]:
            assert accounts.create_key("somebody", scopes=[scope, scope])[0].scopes == (scope,)
        else:
            with pytest.raises(InvalidInputError, match=f"scope '{scope}' is not for an organization of kind {kind}"):
                accounts.create_key("somebody", scopes=[scope])
    with pytest.raises(InvalidInputError, match="at least one scope"):
        accounts.create_key("somebody", scopes=[])


def test_only_the_operator_operates() -> None:
    assert [kind for kind, scopes in SCOPES_BY_KIND.items() if "operate" in scopes] == ["operator"]
    assert {scope for scopes in SCOPES_BY_KIND.values() for scope in scopes} == set(SCOPES)


@given(st.sets(st.sampled_from(sorted(SCOPES))), st.sampled_from(PERMISSIONS))
def test_an_actor_may_do_exactly_what_its_scopes_say(scopes: set[str], wanted: str) -> None:
    actor = Actor("key_1", "org_1", "operator", frozenset(scopes))
    assert actor.is_operator == ("operate" in scopes)
    if any(SCOPES[scope].reach(wanted) for scope in scopes):
        assert actor.require(wanted).reach in ("own", "all")
        return
    with pytest.raises(ForbiddenError, match=f"lacks the permission '{wanted}'") as caught:
        actor.require(wanted)
    assert caught.value.details == {"permission": wanted}


def test_a_key_whose_scopes_narrow_its_role_is_told_so() -> None:
    team = Actor("key_1", "org_1", "internal", frozenset({"claims"}), role="team")
    with pytest.raises(ForbiddenError, match=r"its role team has it, but its scopes \(claims\) do not"):
        team.require("surplus:read")
    with pytest.raises(ForbiddenError, match=r"a key with one of these roles has it: operator, operator_read_only$"):
        team.require("plans:read")


def test_an_organization_has_a_limit_of_keys(accounts: Accounts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sublet.accounts.service.KEYS_PER_ORGANIZATION_MAX", 3)
    accounts.create_organization("Acme")
    attempts = [spawn(lambda: accounts.create_key("Acme")) for _ in range(8)]
    failures = [error for done in attempts if (error := done.exception(WAIT_S)) is not None]
    assert [type(error) for error in failures] == [LimitExceededError] * 5


def test_the_operators_first_key_is_given_once_even_to_a_crowd(accounts: Accounts) -> None:
    found = [done.result(WAIT_S) for done in [spawn(accounts.ensure_operator) for _ in range(6)]]
    (secret,) = [secret for secret in found if secret is not None]
    assert accounts.authenticate(secret).is_operator
    assert [item.kind for item in accounts.organizations()] == ["operator"]
    assert accounts.ensure_operator() is None
