"""Creates organizations and keys, and authenticates callers by their secret."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime

import structlog
from sqlalchemy import Connection

from sublet.accounts import store as sql
from sublet.accounts.model import (
    KEY_PREFIX,
    KEYS_PER_ORGANIZATION_MAX,
    Actor,
    ApiKey,
    IssuedKey,
    KeyOwner,
    Organization,
    checked_expiry,
    checked_name,
    checked_organization,
    checked_project,
    checked_role,
    checked_scopes,
    new_secret,
    secret_sha256,
    signing_secret_of,
)
from sublet.accounts.permissions import reach
from sublet.accounts.service_accounts.model import ServiceAccount
from sublet.accounts.service_accounts.store import account_by
from sublet.store import Store
from sublet.store.audit import unrecorded
from sublet.store.paging import Page, PageRequest
from sublet.store.sealing import Sealing
from sublet.values.errors import (
    ConflictError,
    InvalidInputError,
    LimitExceededError,
    NotFoundError,
    SubletError,
    UnauthenticatedError,
)
from sublet.values.ids import new_id
from sublet.values.text import normal_form

LIST_MAX = 10_000
OPERATOR_NAME = "operator"
_SECRET_LENGTH_MAX = 256
ORGANIZATIONS_OWN = KeyOwner()

log = structlog.get_logger(__name__)


class Accounts:
    """The use cases of accounts."""

    def __init__(self, store: Store, sealing: Callable[[], Sealing] | None = None) -> None:
        """`sealing` encrypts the secrets that sign requests. Without it, new keys can't sign."""
        self._store = store
        self._sealing = sealing

    @property
    def store(self) -> Store:
        """The store of accounts, and of responses by idempotency key."""
        return self._store

    def create_organization(
        self, name: str, kind: str = "customer", currency: str = "USD", timezone: str = "UTC"
    ) -> Organization:
        """Create an organization. Raises InvalidInputError, and ConflictError if the name is taken."""
        name, kind, currency, timezone = checked_organization(name, kind, currency, timezone)
        if name == OPERATOR_NAME and kind != "operator":
            raise InvalidInputError(f"the name {OPERATOR_NAME!r} is reserved for the operator; choose a different name")
        organization = Organization(new_id("org"), name, kind, currency, timezone, "active", self._store.clock.now())

        def write(connection: Connection) -> Organization:
            self._store.lock(connection, "organizations")
            if sql.organization_by(connection, name=name):
                raise ConflictError(f"an organization named {name!r} already exists; choose a different name")
            sql.insert_organization(connection, organization)
            return organization

        return self._store.write(write)

    def organization(self, id_or_name: str) -> Organization:
        """Raises NotFoundError."""
        id_or_name = normal_form(id_or_name)
        with self._store.read() as connection:
            found = sql.organization_by(connection, id=id_or_name) or sql.organization_by(connection, name=id_or_name)
        if found is None:
            raise NotFoundError(f"there is no organization {id_or_name!r}; `sublet org ls` lists them")
        return found

    def suspend(self, id_or_name: str) -> Organization:
        """Suspend an organization: its keys and people are refused from now on, by the gateway within a second. What already
        runs for it continues and is billed. Raises NotFoundError, and ConflictError for the operator's own organization."""
        owner = self.organization(id_or_name)
        if owner.kind == "operator":
            raise ConflictError("an operator organization can't be suspended, because nobody could resume it")
        return self._set_status(owner, "suspended")

    def resume(self, id_or_name: str) -> Organization:
        """Resume a suspended organization. Raises NotFoundError."""
        return self._set_status(self.organization(id_or_name), "active")

    def _set_status(self, owner: Organization, status: str) -> Organization:
        def write(connection: Connection) -> Organization:
            sql.set_status(connection, owner.id, status)
            return replace(owner, status=status)

        return self._store.write(write)

    def organizations(self) -> list[Organization]:
        with self._store.read() as connection:
            return sql.all_organizations(connection, LIST_MAX)

    def organization_page(self, wanted: PageRequest, only: str | None = None) -> Page[Organization]:
        """A page of organizations, oldest first; only the one with the id `only` if it is given."""
        with self._store.read() as connection:
            return sql.organization_page(connection, wanted, only)

    def create_key(
        self,
        organization: str,
        name: str = "default",
        scopes: Iterable[str] | None = None,
        expires_at: datetime | None = None,
        project: str = "",
        role: str = "",
        *,
        belongs: KeyOwner = ORGANIZATIONS_OWN,
        also: Callable[[Connection, ApiKey], ApiKey] | None = None,
    ) -> tuple[ApiKey, str]:
        """Create a key, and return its secret, which is shown only once: only its hash is stored. Usage with it counts for
        `project`. A service account gives its keys its role and project. `also` runs in the same transaction
        and returns the key as it is shown. Raises
        InvalidInputError, NotFoundError, LimitExceededError."""
        owner = self.organization(organization)
        account = self.service_account(owner, belongs.service_account) if belongs.service_account else None
        if account is not None:
            role, project = _of_account(account, role, project)
        key, secret = _new_key(owner, name, scopes, expires_at, self._store.clock.now(), (project, role))
        key = replace(
            key,
            person_id=belongs.person_id,
            created_by=belongs.created_by[:40],
            service_account_id=account.id if account else "",
            owner_name=account.name if account else "",
        )
        sealed = self._sealed(key, secret)

        def write(connection: Connection) -> IssuedKey:
            self._store.lock(connection, f"keys {owner.id}")
            if sql.count_keys(connection, owner.id) >= KEYS_PER_ORGANIZATION_MAX:
                raise LimitExceededError(
                    f"{owner.name} already has {KEYS_PER_ORGANIZATION_MAX} keys, the maximum; revoke one or reuse one"
                )
            made = key
            if account is not None and account_by(connection, account.id) is None:
                raise NotFoundError(f"there is no service account {account.name!r} any more")
            if belongs.person_id:
                found = sql.member_name(connection, owner.id, belongs.person_id)
                if found is None:
                    raise NotFoundError(f"there is no person {belongs.person_id!r} in {owner.name}")
                made = replace(key, owner_name=found)
            sql.insert_key(connection, made, secret_sha256(secret), sealed)
            return IssuedKey(made if also is None else also(connection, made), secret)

        return self._store.write(write).key, secret

    def service_account(self, organization: Organization, id_or_name: str) -> ServiceAccount:
        """Raises NotFoundError."""
        with self._store.read() as connection:
            found = account_by(connection, normal_form(id_or_name), organization.id)
        if found is None:
            raise NotFoundError(f"{organization.name} has no service account {id_or_name[:120]!r}")
        return found

    def _sealed(self, key: ApiKey, secret: str) -> str | None:
        if self._sealing is None or not reach(key.role, key.scopes, "inference:use"):
            return None
        return self._sealing().seal(signing_secret_of(secret), key.id)

    def keys(self, organization_id: str) -> list[ApiKey]:
        with self._store.read() as connection:
            return sql.keys_of(connection, organization_id)

    def key_page(self, organization_id: str, wanted: PageRequest) -> Page[ApiKey]:
        """A page of the keys of an organization, oldest first."""
        with self._store.read() as connection:
            return sql.key_page(connection, organization_id, wanted)

    def key_names(self, organization_id: str, ids: Iterable[str]) -> dict[str, str]:
        """The names of an organization's keys with these ids."""
        with self._store.read() as connection:
            return sql.key_names(connection, organization_id, ids)

    def revoke_key(
        self, key_id: str, organization_id: str | None = None, permit: Callable[[ApiKey], None] | None = None
    ) -> None:
        """Revoke a key, effective immediately. `permit` raises if the caller may not revoke it. Raises NotFoundError if there
        is no such live key, or if it does not belong to the given organization."""
        now = self._store.clock.now()

        def write(connection: Connection) -> bool:
            done = sql.revoke(connection, key_id, now, organization_id)
            if done and permit is not None and (key := sql.key_by_id(connection, key_id)) is not None:
                permit(key)
            return done

        if not self._store.write(write):
            raise NotFoundError(f"there is no live key {key_id!r}; `sublet key ls` lists them")

    def authenticate(self, secret: str | None) -> Actor:
        """The holder of `secret`. Raises the same UnauthenticatedError for a missing, unknown, expired or revoked key."""
        if not secret or not secret.startswith(KEY_PREFIX) or len(secret) > _SECRET_LENGTH_MAX or not secret.isascii():
            raise UnauthenticatedError()
        with self._store.read() as connection:
            found = sql.key_by_sha256(connection, secret_sha256(secret))
        if found is None or not found[0].usable(self._store.clock.now()) or found[1].status != "active":
            raise UnauthenticatedError()
        key, owner = found
        self._note_use(key)
        return Actor(key.id, owner.id, owner.kind, frozenset(key.scopes), key.project, key.role)

    def _note_use(self, key: ApiKey) -> None:
        """A key was used: at most one write in a minute. A database that can't be written does not refuse who may only read."""
        now = self._store.clock.now()
        if key.last_used_at is not None and now - key.last_used_at < sql.USE_INTERVAL:
            return
        try:
            with unrecorded():
                self._store.write(lambda connection: sql.note_uses(connection, [key.id], now))
        except SubletError as error:
            log.warning("the last use of a key could not be stored", key=key.id, error=error.message)

    def ensure_operator(self) -> str | None:
        """On an empty system, create the operator and return its first secret. Afterward, returns None.

        If several control planes start at once on one database, one of them gets the secret.
        """
        now = self._store.clock.now()
        fresh = Organization(new_id("org"), OPERATOR_NAME, "operator", "USD", "UTC", "active", now)

        def write(connection: Connection) -> str | None:
            self._store.lock(connection, "organizations")
            owner = sql.organization_by(connection, name=OPERATOR_NAME)
            if owner is None:
                sql.insert_organization(connection, fresh)
            elif sql.count_keys(connection, owner.id):
                return None
            key, secret = _new_key(owner or fresh, "first key", None, None, now, ("", ""))
            sql.insert_key(connection, key, secret_sha256(secret))
            return secret

        return self._store.write(write)


def reseal_keys(store: Store, sealing: Sealing) -> int:
    """Encrypt the signing secrets of keys with the current sealing key. Returns how many were not. Raises SealingKeyError if
    one can't be decrypted."""

    def write(connection: Connection) -> int:
        old = [item for item in sql.signing_secrets(connection) if not sealing.is_current(item[1])]
        for key_id, sealed in old:
            sql.set_signing_secret(connection, key_id, sealing.seal(sealing.open(sealed, key_id), key_id))
        return len(old)

    return store.write(write)


def _of_account(account: ServiceAccount, role: str, project: str) -> tuple[str, str]:
    """The role and the project of a key of a service account. Raises InvalidInputError where others are asked for."""
    if role and role != account.role:
        raise InvalidInputError(
            f"the service account {account.name} has the role {account.role}, and so do its keys; leave the role out",
            field="role",
        )
    project = checked_project(project)
    if account.project and project and project != account.project:
        raise InvalidInputError(
            f"the service account {account.name} acts for project {account.project!r}, and so do its keys; leave the project out",
            field="project",
        )
    return account.role, account.project or project


def _new_key(
    owner: Organization,
    name: str,
    scopes: Iterable[str] | None,
    expires_at: datetime | None,
    now: datetime,
    use: tuple[str, str],
) -> tuple[ApiKey, str]:
    project, role = use
    secret = new_secret()
    key = ApiKey(
        new_id("key"),
        owner.id,
        checked_name(name, "a key's name"),
        secret[-4:],
        checked_scopes(owner.kind, scopes, role),
        now,
        checked_expiry(expires_at, now),
        None,
        checked_project(project),
        checked_role(owner.kind, role),
    )
    return key, secret
