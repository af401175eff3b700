"""Creates and removes service accounts."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Connection

from sublet.accounts.model import Organization, checked_name, checked_project, checked_role
from sublet.accounts.service_accounts import store as sql
from sublet.accounts.service_accounts.model import PER_ORGANIZATION_MAX, ServiceAccount
from sublet.store import Store
from sublet.store.paging import Page, PageRequest
from sublet.values.errors import ConflictError, InvalidInputError, LimitExceededError, NotFoundError
from sublet.values.ids import is_id, new_id


class ServiceAccounts:
    """The use cases of service accounts."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def create(
        self, organization: Organization, name: str, role: str, project: str = "", created_by: str = ""
    ) -> ServiceAccount:
        """Raises InvalidInputError, ConflictError if the name is taken, LimitExceededError."""
        name = checked_name(name, "a service account's name")
        if is_id(name):
            raise InvalidInputError(f"{name!r} looks like an id; choose a different name", field="name")
        if not role:
            raise InvalidInputError("a service account needs a role", field="role")
        made = ServiceAccount(
            new_id("sva"),
            organization.id,
            name,
            checked_role(organization.kind, role),
            checked_project(project),
            self._store.clock.now(),
            created_by[:40],
        )

        def write(connection: Connection) -> ServiceAccount:
            self._store.lock(connection, f"keys {organization.id}")
            if sql.account_by(connection, name, organization.id) is not None:
                raise ConflictError(
                    f"{organization.name} already has a service account named {name!r}; choose a different name"
                )
            if sql.count_accounts(connection, organization.id) >= PER_ORGANIZATION_MAX:
                raise LimitExceededError(
                    f"{organization.name} already has {PER_ORGANIZATION_MAX} service accounts, the maximum; remove one"
                )
            sql.insert_account(connection, made)
            return made

        return self._store.write(write)

    def page(self, organization_id: str, wanted: PageRequest) -> Page[ServiceAccount]:
        """A page of an organization's service accounts, oldest first."""
        with self._store.read() as connection:
            return sql.account_page(connection, organization_id, wanted, self._store.clock.now())

    def remove(
        self,
        account_id: str,
        organization_id: str | None = None,
        permit: Callable[[ServiceAccount], None] | None = None,
    ) -> None:
        """Remove a service account and revoke its keys, effective immediately. `permit` raises if the caller may not. Raises
        NotFoundError where there is none, or it is not the organization's."""
        now = self._store.clock.now()

        def write(connection: Connection) -> None:
            found = sql.account_by(connection, account_id)
            if found is None or organization_id not in (None, found.organization_id):
                raise NotFoundError(
                    f"there is no service account {account_id[:40]!r}; `sublet service-account ls` lists them"
                )
            if permit is not None:
                permit(found)
            self._store.lock(connection, f"keys {found.organization_id}")
            sql.remove_account(connection, found.id, now)

        self._store.write(write)
