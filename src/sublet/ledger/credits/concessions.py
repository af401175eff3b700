"""What credit notes took off invoiced months without a change of usage: it burns like a credit, first or after what was given.

Because it is part of the same pure function of grants and usage, usage that is canceled after a note is never credited twice,
and what a note frees of a credit is there again, with its old end.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqlalchemy import Connection, select

from sublet.ledger import store as sql
from sublet.ledger.credits.burning import BY_AMOUNT, BY_LINE, Grant
from sublet.ledger.credits.crediting import NOTED, Credit
from sublet.ledger.model import Party
from sublet.ledger.periods import month_of
from sublet.store.tables.ledger import concessions, invoices
from sublet.values.clock import to_micros


def concessions_of(connection: Connection, party: Party) -> list[Credit]:
    """What credit notes took off, one for each month and account that they lower, the oldest first."""
    columns = concessions.c
    statement = (
        select(concessions, invoices.c.number)
        .join(invoices, invoices.c.id == columns.note_id)
        .where(columns.organization_id == party.id)
        .order_by(columns.granted_at, columns.id)
    )
    return [
        Credit(
            row.id,
            row.organization_id,
            NOTED,
            row.note_id,
            f"Credit note {row.number}",
            row.nano,
            row.nano,
            row.granted_at,
            None,
            row.period_start,
            account=row.account,
            noted=BY_AMOUNT if row.by_amount else BY_LINE,
        )
        for row in connection.execute(statement)
    ]


def insert_concessions(
    connection: Connection, invoice_id: str, credits: Sequence[Credit], lines: Sequence[str]
) -> None:
    """Keep what a note takes off an invoice; `lines` are the ids of the lines that each stands for."""
    for credit, line_id in zip(credits, lines, strict=True):
        sql.insert_row(
            connection,
            concessions,
            id=credit.id,
            note_id=credit.source_id,
            organization_id=credit.organization_id,
            invoice_id=invoice_id,
            line_id=line_id,
            period_start=credit.starts_at,
            account=credit.account,
            nano=credit.nano,
            by_amount=credit.noted == BY_AMOUNT,
            granted_at=credit.granted_at,
        )


def taken_off_lines(connection: Connection, invoice_id: str) -> dict[str, int]:
    """What notes took off each line of an invoice, by the line's id, in nano-units."""
    found: dict[str, int] = {}
    statement = select(concessions.c.line_id, concessions.c.nano).where(concessions.c.invoice_id == invoice_id)
    for row in connection.execute(statement):
        found[row.line_id] = found.get(row.line_id, 0) + row.nano
    return found


def grants_of(party: Party, credits: Iterable[Credit]) -> list[Grant]:
    """Credits, and what notes took off, as burn-down knows them."""
    found = []
    for credit in credits:
        ends = to_micros(credit.expires_at) if credit.expires_at else None
        if credit.noted:
            ends = to_micros(month_of(credit.starts_at, party.timezone).end)
        found.append(
            Grant(
                credit.id,
                credit.nano - credit.taken_nano - credit.refunded_nano,
                to_micros(credit.starts_at),
                ends,
                to_micros(credit.granted_at),
                credit.is_prepaid,
                credit.is_deposit,
                credit.noted,
            )
        )
    return found
