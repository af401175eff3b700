"""The SQL of the waiting list."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, delete, func, insert, select, update

from sublet.leases.waitlist.model import Entry, EntryState, request_of
from sublet.store.paging import Listing, Page, PageRequest
from sublet.store.tables.leases import quotes, waitlist_entries

ENTRIES = Listing("waitlist", (waitlist_entries.c.created_at, waitlist_entries.c.id), descending=True)
_STANDING = [EntryState.WAITING.value, EntryState.OFFERED.value]


def insert_entry(connection: Connection, entry: Entry) -> None:
    connection.execute(
        insert(waitlist_entries).values(
            id=entry.id,
            organization_id=entry.organization_id,
            request=entry.request.as_dict(),
            price_max_nano=entry.price_max_nano,
            currency=entry.currency,
            ssh_public_keys=list(entry.ssh_public_keys) or None,
            key_id=entry.key_id,
            created_at=entry.created_at,
            **_changing(entry),
        )
    )


def entry(connection: Connection, entry_id: str, organization_id: str | None = None) -> Entry | None:
    """The entry, of any organization or of the one given."""
    query = select(waitlist_entries).where(waitlist_entries.c.id == entry_id)
    if organization_id is not None:
        query = query.where(waitlist_entries.c.organization_id == organization_id)
    row = connection.execute(query).first()
    return _entry(row) if row else None


def page(connection: Connection, organization_id: str | None, wanted: PageRequest) -> Page[Entry]:
    """A page of entries, the newest first."""
    query = select(waitlist_entries)
    if organization_id is not None:
        query = query.where(waitlist_entries.c.organization_id == organization_id)
    return ENTRIES.read(connection, query, wanted).map(_entry)


def standing(connection: Connection, limit: int) -> list[Entry]:
    """Entries that wait or have an open offer, the longest waiting first."""
    query = select(waitlist_entries).where(waitlist_entries.c.state.in_(_STANDING))
    found = connection.execute(query.order_by(waitlist_entries.c.since, waitlist_entries.c.id).limit(limit))
    return [_entry(row) for row in found]


def count_standing(connection: Connection, organization_id: str | None = None) -> int:
    """How many entries wait or have an open offer: of one organization, or of all."""
    query = select(func.count()).select_from(waitlist_entries).where(waitlist_entries.c.state.in_(_STANDING))
    if organization_id is not None:
        query = query.where(waitlist_entries.c.organization_id == organization_id)
    return int(connection.execute(query).scalar_one())


def keep(connection: Connection, changed: Entry, before: EntryState) -> bool:
    """Write what has become of an entry that is still in the state `before`; False if it is not."""
    where = (waitlist_entries.c.id == changed.id) & (waitlist_entries.c.state == before.value)
    return connection.execute(update(waitlist_entries).where(where).values(**_changing(changed))).rowcount == 1


def note(connection: Connection, entry_id: str, reason: str) -> None:
    """Write down why an entry waits."""
    where = (waitlist_entries.c.id == entry_id) & (waitlist_entries.c.state == EntryState.WAITING.value)
    connection.execute(update(waitlist_entries).where(where).values(reason=reason[:500]))


def extend_quote(connection: Connection, quote_id: str, expires_at: datetime) -> None:
    """Let the price of an offer stand until then."""
    connection.execute(update(quotes).where(quotes.c.id == quote_id).values(expires_at=expires_at))


def old(connection: Connection, before: datetime, limit: int) -> list[str]:
    """Entries that are over and expired before then."""
    over = [state.value for state in EntryState if state.over]
    query = select(waitlist_entries.c.id).where(
        waitlist_entries.c.state.in_(over), waitlist_entries.c.expires_at < before
    )
    return list(connection.execute(query.limit(limit)).scalars())


def beyond(connection: Connection, organization_id: str, kept: int) -> list[str]:
    """An organization's entries that are over, but for the newest `kept`."""
    columns = waitlist_entries.c
    over = [state.value for state in EntryState if state.over]
    query = select(columns.id).where(columns.organization_id == organization_id, columns.state.in_(over))
    return list(
        connection.execute(query.order_by(columns.created_at.desc(), columns.id).offset(kept).limit(kept)).scalars()
    )


def forget(connection: Connection, entry_ids: Sequence[str]) -> None:
    connection.execute(delete(waitlist_entries).where(waitlist_entries.c.id.in_(entry_ids)))


def _changing(entry: Entry) -> dict[str, Any]:
    return {
        "state": entry.state.value,
        "since": entry.since,
        "expires_at": entry.expires_at,
        "quote_id": entry.quote_id,
        "lease_id": entry.lease_id,
        "offers": entry.offers,
        "reason": entry.reason[:500],
    }


def _entry(row: Row[Any]) -> Entry:
    return Entry(
        row.id,
        row.organization_id,
        request_of(row.request),
        EntryState(row.state),
        row.created_at,
        row.since,
        row.expires_at,
        row.price_max_nano,
        row.currency,
        tuple(row.ssh_public_keys or ()),
        row.key_id,
        row.quote_id,
        row.lease_id,
        row.offers,
        row.reason,
    )
