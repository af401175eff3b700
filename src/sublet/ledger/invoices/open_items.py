"""What is still to pay on an invoice, and the state that follows from it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, select, update

from sublet.ledger import events
from sublet.store.tables.ledger import invoices
from sublet.values.clock import format_time

FINAL, PAID, VOID, CREDITED, WRITTEN_OFF, ISSUED = "final", "paid", "void", "credited", "written_off", "issued"
OPEN_PARTS = ("paid_nano", "credited_nano", "netted_nano", "written_off_nano")


def open_nano(row: Row[Any]) -> int:
    """What is still to pay: what was due, less payments, credit notes, netting and write-offs. A credit note is owed nothing."""
    return int(row.due_nano) - sum(int(getattr(row, name)) for name in OPEN_PARTS)


def change_open(connection: Connection, row: Row[Any], now: datetime, **values: int) -> None:
    """Set columns of OPEN_PARTS on an invoice, and the state that follows from them."""
    found = {name: int(values.get(name, getattr(row, name))) for name in OPEN_PARTS}
    left = int(row.due_nano) - sum(found.values())
    state = FINAL if left else _settled(found)
    change = found | {"status": state, "settled_at": None if left else row.settled_at or now}
    connection.execute(update(invoices).where(invoices.c.id == row.id).values(**change))
    if state == PAID and row.status != PAID:
        after = connection.execute(select(invoices).where(invoices.c.id == row.id)).one()
        events.record_invoice(connection, events.INVOICE_PAID, after, now, format_time(now))


def _settled(found: dict[str, int]) -> str:
    if found["written_off_nano"]:
        return WRITTEN_OFF
    if found["credited_nano"] and not found["paid_nano"] and not found["netted_nano"]:
        return CREDITED
    return PAID
