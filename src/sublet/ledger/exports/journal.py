"""The general ledger as CSV: one row for each posting, with the hash of its transaction."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from sublet.ledger.exports.charges import Charges
from sublet.ledger.journal import double_entry as journal
from sublet.ledger.periods import month_of
from sublet.values.money import decimal_from_nano

JOURNAL_COLUMNS = (
    "transaction",
    "transaction_id",
    "booked_at",
    "period",
    "organization_id",
    "organization",
    "currency",
    "kind",
    "memo",
    "account",
    "debit",
    "credit",
    "reverses",
    "hash",
)


def journal_rows(charges: Charges) -> Iterator[Mapping[str, Any]]:
    """Postings in the order of the journal; `debit` or `credit` is filled, never both."""
    position = 0
    while True:
        with charges.store.read() as connection:
            page = list(journal.walk(connection, position, position + journal.PAGE))
        if not page:
            return
        for transaction, digest in page:
            entry = transaction.entry
            position = transaction.number
            if charges.organization_id not in ("", entry.organization_id):
                continue
            party = charges.party(entry.organization_id)
            period = month_of(entry.period_start, party.timezone)
            if not charges.span.has(period.label):
                continue
            for posting in entry.postings:
                yield {
                    "transaction": transaction.number,
                    "transaction_id": transaction.id,
                    "booked_at": transaction.booked_at,
                    "period": period.label,
                    "organization_id": party.id,
                    "organization": party.name,
                    "currency": entry.currency,
                    "kind": entry.kind,
                    "memo": entry.memo,
                    "account": posting.account,
                    "debit": decimal_from_nano(posting.nano) if posting.nano > 0 else None,
                    "credit": decimal_from_nano(-posting.nano) if posting.nano < 0 else None,
                    "reverses": entry.reverses,
                    "hash": digest,
                }
