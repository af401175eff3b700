"""Proof of credit notes and of what is open: each note follows from its usage and invoices, and the accounts of a customer are what
the documents say."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, select

from sublet.ledger import store as sql
from sublet.ledger.credits.crediting import AT_USE, RETURNED
from sublet.ledger.credits.kinds import CREDIT_NOTE
from sublet.ledger.invoices.lines import lines_of
from sublet.ledger.invoices.notes import CHARGING, Prior, keeps_remainder, line_of_note, split
from sublet.ledger.invoices.open_items import VOID, open_nano
from sublet.ledger.invoices.prepayments import PREPAYMENT
from sublet.ledger.invoices.runs import as_stated, nano_of
from sublet.ledger.invoices.write_offs import written_off_nano
from sublet.ledger.journal import double_entry as journal
from sublet.ledger.model import Party, amount_text
from sublet.ledger.payments.netting import netted_nano
from sublet.ledger.prices.booking import Books
from sublet.ledger.proof.findings import Proof
from sublet.store.tables.ledger import (
    concessions,
    credit_burns,
    credit_grants,
    invoice_transactions,
    invoices,
    note_allocations,
    postings,
    transactions,
)


@dataclass(slots=True)
class _Stated:
    """What a note states of credits, in nano-units: those that lower the net, what it takes off itself, and deposits."""

    given: int = 0
    taken_off: int = 0
    deposits: int = 0


def prove_notes(connection: Connection, books: Books, proof: Proof, party: Party) -> None:
    """Every note of an organization in the order of their numbers, and that none takes more off an invoice than it charged."""
    columns = invoices.c
    statement = select(invoices).where(columns.organization_id == party.id, columns.kind == CREDIT_NOTE)
    prior: dict[str, Prior] = defaultdict(Prior)
    for row in connection.execute(statement.order_by(columns.number)).all():
        proof.notes += 1
        _note(connection, books, proof, party, row, prior)


def _note(
    connection: Connection, books: Books, proof: Proof, party: Party, row: Row[Any], prior: dict[str, Prior]
) -> None:
    document = row.document
    mapped = select(invoice_transactions.c.transaction_no).where(invoice_transactions.c.invoice_id == row.id)
    numbers = sorted(connection.execute(mapped).scalars())
    lines = lines_of(connection, books, party, numbers)
    shown = [line_of_note(line).as_dict(place) for place, line in enumerate(lines, 1)]
    if numbers and shown != document["lines"]:
        proof.differs(f"{row.number}: its lines derive otherwise", 1)
    unbilled = -sum(line.nano for line in lines)
    stated = _stated_by(connection, row.id)
    exact = unbilled + stated.given + stated.taken_off + _returned(connection, row)
    shares = connection.execute(select(note_allocations).where(note_allocations.c.note_id == row.id)).all()
    if sum(share.exact_nano for share in shares) != exact:
        derived = sum(share.exact_nano for share in shares)
        proof.differs(
            f"{row.number}: its invoices are lowered by {derived} nano-units, not by {exact}", derived - exact
        )
    gross = nano_of(document["total"]) if _is_of_an_amount(document) and len(shares) == 1 else None
    net = tax = receivable = kept = 0
    for share in shares:
        corrected = connection.execute(select(invoices).where(invoices.c.id == share.invoice_id)).one()
        before = prior[share.invoice_id]
        derived_net, taxes = split(corrected.document, party.currency, before, share.exact_nano, gross)
        if (share.net_nano, [int(value) for value in share.taxes_nano]) != (derived_net, list(taxes)):
            proof.differs(f"{row.number}: what it takes off {corrected.number} derives otherwise", 1)
        summed = tuple(one + other for one, other in zip(before.taxes or (0,) * len(taxes), taxes, strict=True))
        prior[share.invoice_id] = Prior(before.exact + share.exact_nano, before.net + derived_net, summed)
        over = prior[share.invoice_id].exact - as_stated(corrected.document)
        if over > 0:
            proof.differs(f"credit notes take {over} nano-units more off {corrected.number} than it charged", over)
        kept += derived_net - share.exact_nano if keeps_remainder(corrected.document) else 0
        net, tax, receivable = net + derived_net, tax + sum(taxes), receivable + share.receivable_nano
    _sums(proof, row, net, tax, receivable)
    _posted(connection, proof, row, (kept + (unbilled if numbers else 0), tax, receivable), stated)


def _stated_by(connection: Connection, note_id: str) -> _Stated:
    burns = credit_burns.c
    statement = (
        select(burns.nano, credit_grants.c.kind, credit_grants.c.tax_mode, concessions.c.note_id)
        .outerjoin(credit_grants, credit_grants.c.id == burns.credit_id)
        .outerjoin(concessions, concessions.c.id == burns.credit_id)
        .where(burns.invoice_id == note_id)
    )
    found = _Stated()
    for row in connection.execute(statement):
        if row.note_id == note_id:
            found.taken_off += row.nano
        elif row.kind in ("prepaid", RETURNED) and row.tax_mode == AT_USE:
            found.deposits += row.nano
        else:
            found.given += row.nano
    return found


def _returned(connection: Connection, row: Row[Any]) -> int:
    """What a note of a prepayment returns of it, as it was posted."""
    if [line["kind"] for line in row.document["lines"]] != [PREPAYMENT]:
        return 0
    posted = journal.transaction(connection, row.transaction_no).entry.postings
    return sum(posting.nano for posting in posted if posting.account == "deferred_revenue")


def prove_prepayments(connection: Connection, proof: Proof, party: Party) -> None:
    """The invoice of a prepayment says what was received and taxed, and its notes what was returned of it."""
    columns = invoices.c
    statement = select(invoices).where(columns.organization_id == party.id, columns.kind == PREPAYMENT)
    for row in connection.execute(statement).all():
        proof.invoices += 1
        posted: dict[str, int] = defaultdict(int)
        for posting in journal.transaction(connection, row.transaction_no).entry.postings:
            posted[posting.account] += posting.nano
        tax = sum(nano_of(line["amount"]) for line in row.document["taxes"])
        net, total = nano_of(row.document["net"]), nano_of(row.document["total"])
        said = {"cash": total, "deferred_revenue": -net, "taxes_payable": -tax}
        for account, nano in said.items():
            if posted[account] != nano:
                sentence = f"{row.number}: transaction {row.transaction_no} posts otherwise on {account}"
                proof.differs(sentence, posted[account] - nano)
        credit = connection.execute(
            select(credit_grants).where(credit_grants.c.id == row.document["lines"][0]["rate"])
        ).one()
        returned = _prior_of(connection, row.id)
        if credit.refunded_nano != returned:
            sentence = f"{row.number}: credit notes return {returned} nano-units of it, not {credit.refunded_nano}"
            proof.differs(sentence, credit.refunded_nano - returned)


def _prior_of(connection: Connection, invoice_id: str) -> int:
    columns = note_allocations.c
    statement = select(columns.exact_nano).where(columns.invoice_id == invoice_id)
    return sum(int(nano) for nano in connection.execute(statement).scalars())


def _is_of_an_amount(document: dict[str, Any]) -> bool:
    return [line["kind"] for line in document["lines"]] == ["allowance"]


def _sums(proof: Proof, row: Row[Any], net: int, tax: int, receivable: int) -> None:
    document = row.document
    for name, value in (("net", net), ("total", net + tax), ("receivable", receivable)):
        if document[name] != amount_text(value):
            proof.differs(f"{row.number}: {name} is {document[name]} and derives as {amount_text(value)}", 1)
    if sum(nano_of(line["amount"]) for line in document["taxes"]) != tax:
        proof.differs(f"{row.number}: its taxes are not those of its invoices", 1)


def _posted(connection: Connection, proof: Proof, row: Row[Any], expected: Sequence[int], stated: _Stated) -> None:
    """The transaction of a note posts what it says; what is owed to the customer is the rest of it."""
    posted: dict[str, int] = defaultdict(int)
    for posting in journal.transaction(connection, row.transaction_no).entry.postings:
        posted[posting.account] += posting.nano
    unbilled, tax, receivable = expected
    balance = nano_of(row.document["balance"])
    wanted = {"unbilled": unbilled, "taxes_payable": tax, "receivable": -receivable, "customer_balance": -balance}
    for account, nano in wanted.items():
        if posted[account] != nano:
            difference = posted[account] - nano
            proof.differs(f"{row.number}: transaction {row.transaction_no} posts otherwise on {account}", difference)
    back = nano_of(row.document["total"]) - receivable - balance
    if abs(back + stated.deposits) >= 10**9:
        proof.differs(f"{row.number}: {back} nano-units go back to deposits, and they state {-stated.deposits}", 1)


def prove_open_items(connection: Connection, proof: Proof, party: Party) -> None:
    """Receivables are invoices less payments, notes, netting and write-offs; taxes are those of invoices less notes."""
    columns = invoices.c
    statement = select(invoices).where(columns.organization_id == party.id, columns.status != VOID)
    open_items = balance = taxes = 0
    credited = _credited(connection, party)
    for row in connection.execute(statement).all():
        tax = sum(nano_of(line["amount"]) for line in row.document["taxes"])
        if row.kind == CREDIT_NOTE:
            balance += nano_of(row.document["balance"])
            taxes -= tax
            continue
        taxes += tax if row.kind in CHARGING else 0
        open_items += open_nano(row)
        if row.credited_nano != credited[row.id]:
            difference = row.credited_nano - credited[row.id]
            proof.differs(f"{row.number}: what is credited of it is not what its notes took off", difference)
        for name, stands, derived in (
            ("netted", row.netted_nano, netted_nano(connection, row.id)),
            ("written off", row.written_off_nano, written_off_nano(connection, row.id)),
        ):
            if stands != derived:
                proof.differs(f"{row.number}: {stands} nano-units stand as {name}, not {derived}", stands - derived)
    posted = _by_kind(connection, party)
    held = {account: sum(kinds.values()) for account, kinds in posted.items()}
    moved = posted.get("customer_balance", {})
    balance -= sum(nano for kind, nano in moved.items() if kind != "credit note")
    taxes -= sum(nano for kind, nano in posted.get("taxes_payable", {}).items() if kind not in _OF_DOCUMENTS)
    for account, nano in (("receivable", open_items), ("customer_balance", -balance), ("taxes_payable", -taxes)):
        if held.get(account, 0) != nano:
            sentence = f"{account} of {party.id} is {held.get(account, 0)} nano-units, and documents come to {nano}"
            proof.differs(sentence, held.get(account, 0) - nano)


_OF_DOCUMENTS = ("invoice", "void", "credit note")


def _credited(connection: Connection, party: Party) -> dict[str, int]:
    found: dict[str, int] = defaultdict(int)
    statement = (
        select(note_allocations.c.invoice_id, note_allocations.c.receivable_nano)
        .join(invoices, invoices.c.id == note_allocations.c.note_id)
        .where(invoices.c.organization_id == party.id)
    )
    for row in connection.execute(statement):
        found[row.invoice_id] += row.receivable_nano
    return found


def _by_kind(connection: Connection, party: Party) -> dict[str, dict[str, int]]:
    """What was posted on the accounts that documents move, by account and kind of transaction."""
    found: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    accounts = ("receivable", "customer_balance", "taxes_payable")
    statement = (
        select(transactions.c.kind, postings.c.account, postings.c.nano)
        .join(transactions, transactions.c.transaction_no == postings.c.transaction_no)
        .where(transactions.c.organization_id == party.id, postings.c.account.in_(accounts))
    )
    for part in connection.execute(statement).partitions(sql.CHUNK):
        for row in part:
            found[row.account][row.kind] += row.nano
    return found
