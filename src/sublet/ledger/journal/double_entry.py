"""Double entry: post entries at the end of the hash chain, keep balances, and verify the chain."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import datetime

from sqlalchemy import Connection, select, text

from sublet.ledger import store as sql
from sublet.ledger.model import GENESIS, Entry, Posting, Transaction, postings_of
from sublet.store.tables.ledger import balances, postings, transactions
from sublet.values.clock import to_micros
from sublet.values.errors import NotFoundError
from sublet.values.ids import derived_id

CHAIN = "chain"
PAGE = 2_000
_SPLIT = 10**9


def post(connection: Connection, entries: Sequence[Entry], now: datetime) -> list[Transaction]:
    """Append `entries` to the journal, in order. The head of the chain is held until the transaction ends."""
    if not entries:
        return []
    number, previous = sql.lock_head(connection, CHAIN)
    posted: list[Transaction] = []
    hashes: list[str] = []
    for entry in entries:
        number += 1
        identifier = derived_id("txn", entry.organization_id, entry.kind, entry.source_id)
        transaction = Transaction(number, identifier, entry, now, previous)
        previous = transaction.hash
        posted.append(transaction)
        hashes.append(previous)
    _insert(connection, posted, hashes)
    _add_to_balances(connection, entries)
    sql.move_head(connection, CHAIN, number, previous)
    return posted


def reversal(transaction: Transaction, kind: str, period_start: datetime, memo: str) -> Entry:
    """The entry that takes `transaction` back and names it."""
    entry = transaction.entry
    turned = tuple(Posting(posting.account, -posting.nano) for posting in entry.postings)
    return Entry(
        entry.organization_id,
        entry.currency,
        kind,
        f"reversal of {transaction.number}",
        period_start,
        memo,
        turned,
        transaction.number,
    )


def number_of(connection: Connection, organization_id: str, kind: str, source_id: str) -> int | None:
    """The number of a transaction by what makes it unique."""
    columns = transactions.c
    return connection.execute(
        select(columns.transaction_no).where(
            columns.organization_id == organization_id, columns.kind == kind, columns.source_id == source_id
        )
    ).scalar_one_or_none()


def transaction(connection: Connection, number: int) -> Transaction:
    """Raises NotFoundError."""
    for found, _ in walk(connection, number - 1, number):
        return found
    raise NotFoundError(f"there is no transaction {number}")


def walk(connection: Connection, after: int = 0, through: int | None = None) -> Iterator[tuple[Transaction, str]]:
    """Transactions in the order of the chain, each with the hash that was stored, a page at a time."""
    position = after
    while True:
        statement = select(transactions).where(transactions.c.transaction_no > position)
        if through is not None:
            statement = statement.where(transactions.c.transaction_no <= through)
        rows = connection.execute(statement.order_by(transactions.c.transaction_no).limit(PAGE)).all()
        if not rows:
            return
        parts = _postings_between(connection, rows[0].transaction_no, rows[-1].transaction_no)
        for row in rows:
            entry = object.__new__(Entry)
            # A tampered row may not balance; it is rebuilt as it lies so that the proof can say so.
            for name, value in (
                ("organization_id", row.organization_id),
                ("currency", row.currency),
                ("kind", row.kind),
                ("source_id", row.source_id),
                ("period_start", row.period_start),
                ("memo", row.memo),
                ("postings", tuple(parts.get(row.transaction_no, ()))),
                ("reverses", row.reverses),
                ("lines_digest", row.lines_digest),
            ):
                object.__setattr__(entry, name, value)
            yield Transaction(row.transaction_no, row.id, entry, row.booked_at, row.previous_hash), row.hash
        position = rows[-1].transaction_no


def _postings_between(connection: Connection, first: int, last: int) -> dict[int, list[Posting]]:
    statement = (
        select(postings)
        .where(postings.c.transaction_no.between(first, last))
        .order_by(postings.c.transaction_no, postings.c.position)
    )
    found: dict[int, list[Posting]] = defaultdict(list)
    for row in connection.execute(statement):
        found[row.transaction_no].append(Posting(row.account, row.nano))
    return found


def broken_link(connection: Connection) -> str | None:
    """The first place where the chain does not hold, in a sentence, or None where all of it does."""
    number, previous = 0, GENESIS
    for transaction, stored in walk(connection):
        number += 1
        if transaction.number != number:
            return f"transaction {number} is missing: {transaction.number} follows {number - 1}"
        if transaction.previous_hash != previous:
            return f"transaction {number} does not name the hash of the one before"
        if transaction.hash != stored:
            return f"transaction {number} ({transaction.id}) was changed after it was posted: its hash differs"
        if sum(posting.nano for posting in transaction.entry.postings):
            return f"the postings of transaction {number} do not sum to zero"
        previous = stored
    if (number, previous) != sql.read_head(connection, CHAIN):
        return f"the chain ends at transaction {number}, but its head says otherwise: the last ones were removed"
    return None


def balance(connection: Connection, organization_id: str, account: str) -> int:
    """The running balance of one account in nano-units; debit is positive."""
    found = connection.execute(
        select(balances.c.nano).where(balances.c.organization_id == organization_id, balances.c.account == account)
    ).scalar_one_or_none()
    return found or 0


def balances_of(connection: Connection, organization_id: str) -> dict[str, int]:
    """Every running balance of an organization, by account."""
    rows = connection.execute(select(balances).where(balances.c.organization_id == organization_id))
    return {row.account: row.nano for row in rows}


def summed_balances(connection: Connection, organization_id: str | None = None) -> dict[tuple[str, str], int]:
    """The balances again, from every posting. Sums are taken in two halves, so that none passes 2**63."""
    condition = "WHERE t.organization_id = :organization" if organization_id else ""
    statement = text(
        f"SELECT t.organization_id, p.account, sum(p.nano / {_SPLIT}), sum(p.nano % {_SPLIT}) FROM ledger_postings p "
        f"JOIN ledger_transactions t ON t.transaction_no = p.transaction_no {condition} GROUP BY 1, 2"
    )
    rows = connection.execute(statement, {"organization": organization_id} if organization_id else {})
    return {(row[0], row[1]): int(row[2]) * _SPLIT + int(row[3]) for row in rows}


def _insert(connection: Connection, posted: Sequence[Transaction], hashes: Sequence[str]) -> None:
    rows = []
    parts = []
    for transaction, digest in zip(posted, hashes, strict=True):
        entry = transaction.entry
        rows.append(
            (
                transaction.number,
                transaction.id,
                entry.organization_id,
                entry.currency,
                entry.kind,
                entry.source_id,
                to_micros(transaction.booked_at),
                to_micros(entry.period_start),
                entry.memo,
                entry.reverses,
                entry.lines_digest,
                transaction.previous_hash,
                digest,
            )
        )
        parts += [
            (transaction.number, position, posting.account, posting.nano)
            for position, posting in enumerate(entry.postings)
        ]
    sql.bulk_insert(connection, transactions, rows)
    sql.bulk_insert(connection, postings, parts)


def _add_to_balances(connection: Connection, entries: Sequence[Entry]) -> None:
    change: dict[tuple[str, str], int] = defaultdict(int)
    for entry in entries:
        for posting in entry.postings:
            change[entry.organization_id, posting.account] += posting.nano
    for part in sql.chunks(sorted({organization for organization, _ in change})):
        wanted = set(part)
        rows = connection.execute(select(balances).where(balances.c.organization_id.in_(part)))
        known = {(row.organization_id, row.account): row.nano for row in rows}
        changed = [
            (organization, account, str(known.get((organization, account), 0) + nano))
            for (organization, account), nano in change.items()
            if organization in wanted
        ]
        sql.bulk_insert(
            connection, balances, changed, "ON CONFLICT (organization_id, account) DO UPDATE SET nano = excluded.nano"
        )


def entry_of(
    organization_id: str,
    currency: str,
    kind: str,
    source_id: str,
    period_start: datetime,
    memo: str,
    amounts: dict[str, int],
) -> Entry:
    """An entry from amounts by account, each split where it is more than one posting holds."""
    return Entry(organization_id, currency, kind, source_id, period_start, memo, postings_of(amounts))
