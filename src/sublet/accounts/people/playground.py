"""The key that the console's playground calls the model API with, for the person who is signed in. No browser ever gets it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from sqlalchemy import Connection, delete, insert, select, update

from sublet.accounts.model import ApiKey, Organization, new_secret, secret_sha256
from sublet.accounts.people.model import Session
from sublet.accounts.store import insert_key
from sublet.store import Store
from sublet.store.audit import unrecorded
from sublet.store.sealing import Sealing, SealingKeyError
from sublet.store.tables.accounts import api_keys, playground_keys
from sublet.values.errors import ForbiddenError
from sublet.values.ids import new_id

NAME = "playground"
LIFE = timedelta(hours=1)
RENEWED_BEFORE = timedelta(minutes=20)
"""A key that expires sooner is replaced: an answer may take a quarter of an hour."""


class PlaygroundPersonError(ForbiddenError):
    """The playground uses a key of its own for each person; sign in as a person, or call the model API with your key."""

    code = "playground_person"


class PlaygroundKeys:
    """One key per person and organization, whose secret is sealed in the database: every control plane uses the same one. It can
    only call models, expires within LIFE, ends with the membership, and is not listed with the organization's keys."""

    def __init__(self, store: Store, sealing: Callable[[], Sealing]) -> None:
        self._store = store
        self._sealing = sealing

    def secret_of(self, session: Session) -> str:
        """The secret of the key for somebody who is signed in. Raises ForbiddenError where they may not call models, and
        PlaygroundPersonError for a session that a key opened: its own limits and budgets would not count."""
        session.actor.require("inference:use")
        if session.person is None:
            raise PlaygroundPersonError()
        person_id = session.person.id
        with self._store.read() as connection:
            found = self._present(connection, session.organization.id, person_id)
        if found is not None:
            return found
        with unrecorded():
            return self._store.write(
                lambda connection: self._renewed(connection, session.organization, person_id, session.actor.role)
            )

    def _present(self, connection: Connection, organization_id: str, person_id: str) -> str | None:
        """The secret, if the key is usable for a while longer and can be opened."""
        row = connection.execute(
            select(playground_keys.c.key_id, playground_keys.c.secret, api_keys.c.role, api_keys.c.expires_at)
            .join(api_keys, api_keys.c.id == playground_keys.c.key_id)
            .where(
                playground_keys.c.organization_id == organization_id,
                playground_keys.c.person_id == person_id,
                api_keys.c.revoked_at.is_(None),
            )
        ).first()
        if row is None or row.expires_at - self._store.clock.now() < RENEWED_BEFORE:
            return None
        try:
            return self._sealing().open(row.secret, row.key_id)
        except SealingKeyError:
            return None

    def _renewed(self, connection: Connection, owner: Organization, person_id: str, role: str) -> str:
        self._store.lock(connection, f"keys {owner.id}")
        # Somebody else may have renewed it since it was looked up.
        found = self._present(connection, owner.id, person_id)
        if found is not None:
            return found
        now, secret = self._store.clock.now(), new_secret()
        mine = (playground_keys.c.organization_id == owner.id) & (playground_keys.c.person_id == person_id)
        row = connection.execute(
            select(playground_keys.c.key_id, api_keys.c.revoked_at)
            .join(api_keys, api_keys.c.id == playground_keys.c.key_id)
            .where(mine)
        ).first()
        if row is not None and row.revoked_at is None:
            # The same id: usage and limits of the playground stay together, and rows don't pile up.
            key_id = row.key_id
            values = {"sha256": secret_sha256(secret), "hint": secret[-4:], "role": role, "expires_at": now + LIFE}
            connection.execute(update(api_keys).where(api_keys.c.id == key_id).values(values))
        else:
            key_id = new_id("key")
            key = ApiKey(key_id, owner.id, NAME, secret[-4:], ("models",), now, now + LIFE, None, "", role)
            insert_key(connection, key, secret_sha256(secret))
            held = {"person_id": person_id, "created_by": person_id}
            connection.execute(update(api_keys).where(api_keys.c.id == key_id).values(held))
        connection.execute(delete(playground_keys).where(mine))
        sealed = self._sealing().seal(secret, key_id)
        connection.execute(
            insert(playground_keys).values(key_id=key_id, organization_id=owner.id, person_id=person_id, secret=sealed)
        )
        return secret
