"""Reading the audit log: whose entries somebody may see, and the entry that the reading is itself."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from sqlalchemy import Connection

from sublet.accounts.model import Actor
from sublet.store import Store, audit
from sublet.store.paging import Page, PageRequest
from sublet.values.errors import ForbiddenError

RETENTION = timedelta(days=731)


class AuditLog:
    """The log as people and programs read it. What is read is not part of what the reading adds."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def read(self, actor: Actor, wanted: audit.Wanted, page: PageRequest) -> Page[dict[str, Any]]:
        """Entries, the newest first. `wanted.organization_id` must be one that the actor may see. Raises InvalidCursorError."""
        with self._store.read() as connection:
            found = audit.page(connection, wanted, page)
        self._note(actor, "accounts.list_audit", wanted.organization_id or None)
        return found

    def verify(self, actor: Actor) -> audit.Verified:
        """Compute the hash of every entry again. Raises ForbiddenError for those who don't see every organization's."""
        if not actor.everywhere:
            raise ForbiddenError(
                "only the operator or an auditor can verify the log, because it is verified as a whole"
            )
        with self._store.read() as connection:
            found = audit.verify(connection, self._store.clock.now() - RETENTION)
        self._note(actor, "accounts.verify_audit", None)
        return found

    def _note(self, actor: Actor, operation: str, concerned: str | None) -> None:
        who = audit.Acting(actor.id, actor.organization_id, actor.role, operation)

        def write(connection: Connection) -> None:
            audit.append(connection, who, self._store.clock.now(), self._store.lock, [], concerned)

        self._store.write(write)
