"""Set, change, list and remove limits."""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy import Connection

from sublet.accounts import store as accounts_sql
from sublet.accounts.limits import store as sql
from sublet.accounts.limits.model import (
    KEY,
    LIMITS_PER_ORGANIZATION_MAX,
    MODEL,
    Allowed,
    Limit,
    check_allowed,
    check_may_set,
    checked_place,
)
from sublet.accounts.model import Actor, ApiKey
from sublet.store import Store
from sublet.store.paging import Page, PageRequest
from sublet.values.errors import ConflictError, InvalidInputError, LimitExceededError, NotFoundError
from sublet.values.etags import Condition
from sublet.values.ids import new_id


class Limits:
    """The use cases of limits. What is set holds on every gateway within a second."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def page(self, organization_id: str | None, wanted: PageRequest) -> Page[Limit]:
        """A page of an organization's limits, or of all where None is given, the oldest first."""
        with self._store.read() as connection:
            return sql.limit_page(connection, organization_id, wanted)

    def limit(self, actor: Actor, limit_id: str) -> Limit:
        """Raises NotFoundError, the same for another organization's."""
        with self._store.read() as connection:
            return _found(connection, actor, limit_id)

    def create(self, actor: Actor, place: tuple[str, str, str, str], allowed: Allowed) -> Limit:
        """A new limit for an organization, scope, scope's id and model. Raises InvalidInputError, ForbiddenError, NotFoundError,
        ConflictError where that has one already, LimitExceededError."""
        organization_id, scope, scope_id, model = checked_place(place)
        if scope != MODEL and not organization_id:
            raise InvalidInputError(f"a limit of scope {scope} needs an organization_id")
        limit = self._new(actor, (organization_id, scope, scope_id, model), allowed)

        def write(connection: Connection) -> Limit:
            if organization_id and accounts_sql.organization_by(connection, id=organization_id) is None:
                raise NotFoundError(f"there is no organization {organization_id!r}")
            if scope == KEY and not accounts_sql.is_key_of(connection, organization_id, scope_id):
                raise NotFoundError(f"there is no key {scope_id!r}; `sublet key ls` lists them")
            return self._insert(connection, actor, limit)

        return self._store.write(write)

    def create_for(self, connection: Connection, actor: Actor, key: ApiKey, allowed: Allowed) -> None:
        """The limit of a key that is made in the same transaction. Raises as `create` does."""
        self._insert(connection, actor, self._new(actor, (key.organization_id, KEY, key.id, ""), allowed))

    def change(self, actor: Actor, limit_id: str, allowed: Allowed, seen: Condition) -> Limit:
        """Allow that from now on, and nothing else. Raises InvalidInputError, ForbiddenError, NotFoundError,
        PreconditionFailedError."""
        now = self._store.clock.now()

        def write(connection: Connection) -> Limit:
            found = _found(connection, actor, limit_id, lock=True)
            seen.require(found.as_dict())
            check_allowed(allowed, found.model, now)
            wanted = replace(found, allowed=allowed, by_operator=found.by_operator or actor.everywhere)
            check_may_set(actor, wanted, sql.limits_of(connection, found.organization_id))
            sql.change_limit(connection, limit_id, allowed, wanted.by_operator)
            return wanted

        return self._store.write(write)

    def remove(self, actor: Actor, limit_id: str, seen: Condition) -> None:
        """Limit no more. Raises ForbiddenError, NotFoundError, PreconditionFailedError."""

        def write(connection: Connection) -> None:
            found = _found(connection, actor, limit_id, lock=True)
            seen.require(found.as_dict())
            check_may_set(actor, found, ())
            sql.delete_limit(connection, limit_id)

        self._store.write(write)

    def _new(self, actor: Actor, place: tuple[str, str, str, str], allowed: Allowed) -> Limit:
        now = self._store.clock.now()
        check_allowed(allowed, place[3], now)
        return Limit(new_id("lim"), *place, allowed, actor.everywhere, now)

    def _insert(self, connection: Connection, actor: Actor, limit: Limit) -> Limit:
        self._store.lock(connection, f"limits {limit.organization_id}")
        others = sql.limits_of(connection, limit.organization_id)
        check_may_set(actor, limit, others)
        if any(other.place == limit.place for other in others):
            raise ConflictError("there is such a limit already; `sublet limit ls` lists them, and set changes it")
        if len(others) >= LIMITS_PER_ORGANIZATION_MAX:
            raise LimitExceededError(f"there are {LIMITS_PER_ORGANIZATION_MAX} limits already; remove one")
        sql.insert_limit(connection, limit)
        return limit


def _found(connection: Connection, actor: Actor, limit_id: str, lock: bool = False) -> Limit:
    found = sql.limit_by_id(connection, limit_id, None if actor.everywhere else actor.organization_id, lock)
    if found is None:
        raise NotFoundError(f"there is no limit {limit_id!r}; `sublet limit ls` lists them")
    return found
