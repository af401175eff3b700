"""The audit log: who did what to what, from where, before and after, written in the transaction that does it.

The code that serves a request that changes something says so once (`acting`); from then on every write of that request adds an
entry, with the rows that it changed. An entry holds the hash of the one before, so that none can be changed or taken out unseen.
Secrets and what identifies people are left out: the log holds ids.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import Connection, Delete, Engine, Insert, Table, Update, and_, delete, event, func, insert, select

from sublet.store.paging import Listing, Page, PageRequest
from sublet.store.tables.audit import audit_entries as entries
from sublet.values.clock import format_time

T = TypeVar("T")

FIRST = "0" * 64
CHANGES_MAX = 20
"""Rows of one transaction whose change is told; `more` counts those beyond."""
TEXT_MAX = 500
ROWS_AT_ONCE = 1_000
FORGOTTEN_MAX = 1_000
LOCK = "audit"
_MARK = "sublet_audit"

RECORDED = frozenset(
    "organizations api_keys persons memberships invitations oidc_identities passkeys sessions blocks demand_claims "
    "demand_imports deployments images jobs ledger_books ledger_budgets ledger_credits ledger_invoices ledger_nettings "
    "ledger_payments ledger_periods ledger_profiles ledger_refunds ledger_write_offs leases maintenance_windows models model_routes "
    "quotes rate_limits reclaims service_accounts subscriptions unit_states units volumes waitlist_entries".split()
)
"""Tables whose rows are told, before and after. Others hold what follows from these, what a loop observed, or secrets alone."""
SECRET = frozenset(
    (
        "sha256 link_sha256 mail_sha256 id_token password secret previous_secret form_secret signing_secret content idempotency_key"
    ).split()
)
PERSONAL: dict[str, frozenset[str]] = {
    "persons": frozenset({"email", "name"}),
    "invitations": frozenset({"email"}),
    "sessions": frozenset({"address", "user_agent", "seen_at", "provider_session"}),
    "oidc_identities": frozenset({"subject"}),
    "passkeys": frozenset({"name", "credential_id", "credential_sha256", "public_key", "sign_count", "last_used_at"}),
    "subscriptions": frozenset({"address"}),
    "ledger_profiles": frozenset({"legal_name", "address", "email", "tax_number"}),
    "leases": frozenset({"ssh_public_keys"}),
    "jobs": frozenset({"command", "environment"}),
    "waitlist_entries": frozenset({"ssh_public_keys"}),
    "images": frozenset({"environment", "last_error"}),
}
"""Columns that are left out, with which table they belong to."""


@dataclass(slots=True)
class Acting:
    """Somebody doing something: an id of a person or a key, `admin` or `system`; `organization_id` is theirs."""

    actor_id: str
    organization_id: str
    role: str
    operation: str
    path: str = ""
    source: str = ""
    request_id: str = ""
    told: bool = False


acting: ContextVar[Acting | None] = ContextVar("acting", default=None)
"""Who is doing what in this request, if it changes something."""


@contextmanager
def act(who: Acting) -> Iterator[Acting]:
    """Everything that is written inside is that one's doing."""
    before = acting.set(who)
    try:
        yield who
    finally:
        acting.reset(before)


@contextmanager
def unrecorded() -> Iterator[None]:
    """What is written inside is a means, and no act: it leaves no entry."""
    before = acting.set(None)
    try:
        yield
    finally:
        acting.reset(before)


@dataclass(slots=True)
class _Rows:
    """The rows that a transaction changes."""

    before: dict[tuple[str, tuple[Any, ...]], dict[str, Any] | None] = field(default_factory=dict)
    tables: dict[str, Table] = field(default_factory=dict)
    more: int = 0
    looking: bool = False

    def note(self, table: Table, key: tuple[Any, ...], row: dict[str, Any] | None) -> None:
        place = (table.name, key)
        if place in self.before:
            return
        if len(self.before) >= CHANGES_MAX:
            self.more += 1
            return
        self.before[place] = row
        self.tables[table.name] = table


def watch(engine: Engine) -> None:
    """See what the statements of audited transactions change."""

    @event.listens_for(engine, "before_execute")
    def before(connection: Connection, statement: Any, many: Any, params: Any, options: Any) -> None:
        rows: _Rows | None = connection.info.get(_MARK)
        if rows is None or rows.looking or not isinstance(statement, Update | Delete):
            return
        table = statement.table
        if not isinstance(table, Table) or table.name not in RECORDED or many or params:
            return
        if statement.whereclause is None or len(rows.before) >= CHANGES_MAX:
            rows.more += 1
            return
        rows.looking = True
        try:
            for row in connection.execute(select(table).where(statement.whereclause).limit(CHANGES_MAX + 1)):
                rows.note(table, _key(table, row._mapping), _told(table, row._mapping))
        finally:
            rows.looking = False

    @event.listens_for(engine, "after_execute")
    def after(connection: Connection, statement: Any, many: Any, params: Any, options: Any, result: Any) -> None:
        rows: _Rows | None = connection.info.get(_MARK)
        if rows is None or not isinstance(statement, Insert) or statement.table.name not in RECORDED:
            return
        table = statement.table
        assert isinstance(table, Table)
        if result.context.executemany:
            keys = [tuple(item[column.name] for column in table.primary_key) for item in many]
        else:
            keys = [tuple(result.inserted_primary_key or ())]
        for key in keys:
            if key and None not in key:
                rows.note(table, key, None)


def carried_out(
    connection: Connection,
    who: Acting,
    now: datetime,
    lock: Callable[[Connection, str], None],
    fn: Callable[[Connection], T],
) -> T:
    """Run a write and append what it did. The entry comes last, so that the log's lock is held for a moment."""
    rows = _Rows()
    connection.info[_MARK] = rows
    try:
        result = fn(connection)
    finally:
        connection.info.pop(_MARK, None)
    changes, owners = _changes(connection, rows)
    # What belongs to no organization, such as a passkey, concerns that of the person who did it.
    owners = owners or {who.organization_id or None}
    concerned = next(iter(owners)) if len(owners) == 1 else None
    if changes or not who.told:
        append(connection, who, now, lock, changes, concerned, rows.more)
    return result


def append(
    connection: Connection,
    who: Acting,
    now: datetime,
    lock: Callable[[Connection, str], None],
    changes: list[dict[str, Any]],
    concerned: str | None,
    more: int = 0,
) -> None:
    """One more entry."""
    lock(connection, LOCK)
    seq, previous = _head(connection)
    document = {
        "seq": seq + 1,
        "at": format_time(now),
        "actor": {"id": who.actor_id, "organization_id": who.organization_id, "role": who.role},
        "organization_id": concerned,
        "operation": who.operation,
        "path": who.path[:TEXT_MAX],
        "source": who.source,
        "request_id": who.request_id,
        "changes": changes,
        "more": more,
    }
    body = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    connection.execute(
        insert(entries).values(
            seq=seq + 1,
            at=now,
            organization_id=concerned,
            actor_id=who.actor_id[:40],
            operation=who.operation[:80],
            subject=changes[0]["id"][:80] if changes else "",
            body=body,
            previous=previous,
            sha256=_hash(previous, body),
        )
    )


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which entries are asked for; empty: any. `organization_id` is whom they concern."""

    organization_id: str = ""
    actor_id: str = ""
    operation: str = ""
    subject: str = ""
    since: datetime | None = None
    until: datetime | None = None


LISTING = Listing("audit", (entries.c.seq,), descending=True)


def page(connection: Connection, wanted: Wanted, page_wanted: PageRequest) -> Page[dict[str, Any]]:
    """Entries, the newest first. Raises InvalidCursorError."""
    query = select(entries)
    for column in ("organization_id", "actor_id", "subject"):
        value = getattr(wanted, column)
        if value:
            query = query.where(entries.c[column] == value)
    if wanted.operation:
        query = query.where(entries.c.operation.startswith(wanted.operation, autoescape=True))
    if wanted.since is not None:
        query = query.where(entries.c.at >= wanted.since)
    if wanted.until is not None:
        query = query.where(entries.c.at < wanted.until)
    return LISTING.read(connection, query, page_wanted).map(lambda row: {**json.loads(row.body), "sha256": row.sha256})


@dataclass(frozen=True, slots=True)
class Verified:
    """What the chain is worth: how many entries were checked, from which to which, and the first that is wrong."""

    ok: bool
    entries: int
    first: int
    last: int
    head: str
    broken_at: int | None
    reason: str

    def as_dict(self) -> dict[str, Any]:
        return {
            "ok": self.ok,
            "entries": self.entries,
            "first": self.first,
            "last": self.last,
            "head": self.head,
            "broken_at": self.broken_at,
            "reason": self.reason,
        }


def verify(connection: Connection, kept_since: datetime) -> Verified:
    """Compute every hash again. Entries from before `kept_since` may be gone; others may not."""
    count, first, seq, previous = 0, 0, None, None
    while True:
        query = select(entries).order_by(entries.c.seq).limit(ROWS_AT_ONCE)
        rows = connection.execute(query if seq is None else query.where(entries.c.seq > seq)).all()
        for row in rows:
            if seq is None:
                first = row.seq
                if first > 1 and row.at > kept_since:
                    return Verified(False, count, first, row.seq, row.sha256, row.seq, "the entries before it are gone")
            wrong = _fault(row, seq, previous)
            if wrong:
                return Verified(False, count, first, row.seq, row.sha256, row.seq, wrong)
            count, seq, previous = count + 1, row.seq, row.sha256
        if len(rows) < ROWS_AT_ONCE:
            return Verified(True, count, first, seq or 0, previous or FIRST, None, "")


def forget(connection: Connection, before: datetime) -> int:
    """Delete the oldest entries from before that moment, at most FORGOTTEN_MAX. The newest of them stays, so that the first that
    is kept is always an old one: a young first one means that somebody took out those before it."""
    last = connection.execute(select(func.max(entries.c.seq)).where(entries.c.at < before)).scalar_one()
    old = select(entries.c.seq).where(entries.c.seq < (last or 0)).order_by(entries.c.seq)
    rows = [row.seq for row in connection.execute(old.limit(FORGOTTEN_MAX))]
    if rows:
        connection.execute(delete(entries).where(entries.c.seq <= rows[-1]))
    return len(rows)


def head(connection: Connection) -> tuple[int, str]:
    """The number and the hash of the newest entry: what to keep elsewhere, so that a rewritten log is found out."""
    return _head(connection)


def _fault(row: Any, seq: int | None, previous: str | None) -> str:
    if seq is not None and row.seq != seq + 1:
        return f"entries {seq + 1} to {row.seq - 1} are gone"
    if previous is not None and row.previous != previous:
        return "it does not follow the entry before it"
    if row.sha256 != _hash(row.previous, row.body):
        return "its content is not what was written"
    told = json.loads(row.body)
    copies = (row.seq, format_time(row.at), row.organization_id, row.actor_id, row.operation)
    if copies != (told["seq"], told["at"], told["organization_id"], told["actor"]["id"][:40], told["operation"][:80]):
        return "its columns are not what was written"
    return ""


def _head(connection: Connection) -> tuple[int, str]:
    row = connection.execute(select(entries.c.seq, entries.c.sha256).order_by(entries.c.seq.desc()).limit(1)).first()
    return (row.seq, row.sha256) if row else (0, FIRST)


def _hash(previous: str, body: str) -> str:
    return hashlib.sha256(f"{previous}\n{body}".encode()).hexdigest()


def _changes(connection: Connection, rows: _Rows) -> tuple[list[dict[str, Any]], set[str | None]]:
    """What became of the rows, and the organizations that they concern."""
    found: list[dict[str, Any]] = []
    concerned: set[str | None] = set()
    for (name, key), before in rows.before.items():
        table = rows.tables[name]
        mine = and_(*(column == value for column, value in zip(table.primary_key, key, strict=True)))
        row = connection.execute(select(table).where(mine)).first()
        after = _told(table, row._mapping) if row is not None else None
        for document in (before, after):
            if document:
                owner = document.get("id") if name == "organizations" else document.get("organization_id")
                concerned |= {owner} if owner else set()
        if before == after:
            continue
        if before is not None and after is not None:
            same = {column for column in before if before[column] == after[column]}
            before = {column: value for column, value in before.items() if column not in same}
            after = {column: value for column, value in after.items() if column not in same}
        found.append({"kind": name, "id": "/".join(str(part) for part in key), "before": before, "after": after})
    return found, concerned


def _key(table: Table, row: Any) -> tuple[Any, ...]:
    return tuple(row[column] for column in table.primary_key)


def _told(table: Table, row: Any) -> dict[str, Any]:
    """A row as the log shows it."""
    hidden = SECRET | PERSONAL.get(table.name, frozenset())
    return {column.name: _plain(row[column]) for column in table.columns if column.name not in hidden}


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return format_time(value)
    if isinstance(value, bool | int) or value is None:
        return value
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str, ensure_ascii=False)
    return text if len(text) <= TEXT_MAX else f"{text[:TEXT_MAX]}…"
