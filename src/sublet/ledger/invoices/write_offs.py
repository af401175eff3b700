"""Receivables that are written off, and what comes in of them after all.

A write-off is no credit note: the customer keeps owing, and nothing is sent. Where the state grants relief for bad debt (VAT
Directive, article 90), the tax in it is taken back from `taxes_payable` too, in the invoice's own proportion.
"""

from __future__ import annotations

from datetime import datetime
from fractions import Fraction
from typing import Any

from sqlalchemy import Connection, Row, func, select, update

from sublet.ledger import store as sql
from sublet.ledger.invoices.lines import smallest_unit
from sublet.ledger.invoices.open_items import FINAL, change_open, open_nano
from sublet.ledger.invoices.runs import nano_of
from sublet.ledger.journal import double_entry as journal
from sublet.ledger.model import Party, amount_text
from sublet.ledger.periods import month_of
from sublet.store.tables.ledger import invoices, note_allocations, write_offs
from sublet.values.clock import format_time
from sublet.values.errors import ConflictError
from sublet.values.ids import derived_id
from sublet.values.text import checked_line

WRITE_OFF, RECOVERY = "write-off", "recovery"


def write_off(connection: Connection, row: Row[Any], reason: str, now: datetime, *, tax_relief: bool) -> dict[str, Any]:
    """Write off what is open on an invoice. Raises ConflictError where nothing is, InvalidInputError without a reason."""
    nano = open_nano(row)
    if row.status != FINAL or nano <= 0:
        raise ConflictError(f"invoice {row.number} is {row.status}; it has no open amount to write off")
    reason = checked_line(reason, "the reason of the write-off", 500, 1)
    party = sql.party(connection, row.organization_id)
    assert party is not None
    tax = _tax_in(connection, row, nano) if tax_relief else 0
    count = connection.execute(
        select(func.count()).select_from(write_offs).where(write_offs.c.invoice_id == row.id)
    ).scalar_one()
    identifier = derived_id("wof", row.id, str(count))
    entry = journal.entry_of(
        party.id,
        party.currency,
        WRITE_OFF,
        identifier,
        month_of(now, party.timezone).start,
        f"write-off of {row.number}: {reason}",
        {"bad_debt": nano - tax, "taxes_payable": tax, "receivable": -nano},
    )
    [posted] = journal.post(connection, [entry], now)
    values = {"organization_id": party.id, "invoice_id": row.id, "reason": reason, "written_off_at": now}
    sql.insert_row(connection, write_offs, id=identifier, nano=nano, tax_nano=tax, **values)
    change_open(connection, row, now, written_off_nano=row.written_off_nano + nano)
    return {
        "id": identifier,
        "invoice": row.number,
        "amount": amount_text(nano),
        "bad_debt": amount_text(nano - tax),
        "tax": amount_text(tax),
        "reason": reason,
        "written_off_at": format_time(now),
        "transaction": posted.number,
    }


def _tax_in(connection: Connection, row: Row[Any], nano: int) -> int:
    """The tax in what is open on an invoice, by its own proportion after its credit notes; never more than these left."""
    total = int(row.total_nano)
    tax = sum(nano_of(line["amount"]) for line in row.document["taxes"])
    for share in connection.execute(select(note_allocations).where(note_allocations.c.invoice_id == row.id)):
        taken = sum(int(value) for value in share.taxes_nano)
        total, tax = total - share.net_nano - taken, tax - taken
    for earlier in connection.execute(select(write_offs).where(write_offs.c.invoice_id == row.id)):
        left = earlier.nano - earlier.recovered_nano
        total, tax = total - left, tax - (earlier.tax_nano - earlier.recovered_tax_nano)
    if total <= 0:
        return 0
    step = smallest_unit(row.currency)
    return max(0, min(tax, round(Fraction(nano * tax, total * step)) * step))


def recover(connection: Connection, row: Row[Any], nano: int, text: str, now: datetime) -> Row[Any]:
    """Open `nano` of what was written off of an invoice again, before it is paid or credited; the invoice's row as it is then. Parts
    of a write-off add up to its tax, to the cent."""
    party = sql.party(connection, row.organization_id)
    assert party is not None
    left = nano
    statement = select(write_offs).where(write_offs.c.invoice_id == row.id).order_by(write_offs.c.written_off_at.desc())
    for found in connection.execute(statement).all():
        part = min(left, found.nano - found.recovered_nano)
        if part:
            _recover(connection, party, row, found, part, text, now)
            left -= part
    assert not left, f"{left} nano-units more were to be recovered of {row.number} than were written off"
    change_open(connection, row, now, written_off_nano=row.written_off_nano - nano)
    return connection.execute(select(invoices).where(invoices.c.id == row.id)).one()


def _recover(
    connection: Connection, party: Party, row: Row[Any], found: Row[Any], nano: int, text: str, now: datetime
) -> None:
    step = smallest_unit(row.currency)
    recovered = found.recovered_nano + nano
    tax = found.tax_nano
    if recovered != found.nano:
        tax = round(Fraction(found.tax_nano * recovered, found.nano * step)) * step
    part = tax - found.recovered_tax_nano
    chain, _ = sql.lock_head(connection, journal.CHAIN)
    entry = journal.entry_of(
        party.id,
        party.currency,
        RECOVERY,
        f"{found.id} {chain + 1}",
        month_of(now, party.timezone).start,
        f"recovery of {row.number}: {text}",
        {"receivable": nano, "bad_debt": part - nano, "taxes_payable": -part},
    )
    journal.post(connection, [entry], now)
    change = update(write_offs).where(write_offs.c.id == found.id)
    connection.execute(change.values(recovered_nano=recovered, recovered_tax_nano=tax))


def written_off_nano(connection: Connection, invoice_id: str) -> int:
    """What is written off of an invoice and was not recovered."""
    statement = select(write_offs).where(write_offs.c.invoice_id == invoice_id)
    return sum(int(row.nano - row.recovered_nano) for row in connection.execute(statement))
