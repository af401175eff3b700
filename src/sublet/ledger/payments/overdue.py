"""Records events for invoices that were not paid by their due date."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import Connection

from sublet.ledger import events
from sublet.ledger.invoices.invoicing import overdue
from sublet.store import Store, outbox

OVERDUE_TOLD_DAYS = 7


def tell_overdue(store: Store) -> int:
    """Record an event for each overdue invoice, once. Returns how many are overdue by less than OVERDUE_TOLD_DAYS."""
    now = store.clock.now()
    since = now - timedelta(days=OVERDUE_TOLD_DAYS)
    with store.read() as connection:
        rows = overdue(connection, since, now)
        told = outbox.existing(connection, [events.INVOICE_OVERDUE.id_of((row.id,)) for row in rows])
    untold = [row for row in rows if events.INVOICE_OVERDUE.id_of((row.id,)) not in told]

    def write(connection: Connection) -> None:
        for row in untold:
            events.record_invoice(connection, events.INVOICE_OVERDUE, row, now)

    if untold:
        store.write(write)
    return len(rows)
