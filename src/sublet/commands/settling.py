"""`sublet ledger note`, `notes`, and what else settles invoices besides payments."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from sublet.client.remote import connect, organization_id
from sublet.commands.budgets import Organization
from sublet.output import JsonFlag, print_fields, print_json, print_rows, say
from sublet.shown import Columns, cost_text, money, money_text

Reason = Annotated[str, typer.Option(help="Why; it stands on the document.")]
Final = Annotated[bool, typer.Option("--final", help="Carry it out; without it, show what would be done.")]


def note(
    invoice_id: Annotated[str, typer.Argument(help="As `sublet ledger invoices` shows it.")],
    reason: Reason,
    line: Annotated[
        list[str] | None,
        typer.Option(help="A line by its position or id, or LINE=AMOUNT for part of its net; repeat for more."),
    ] = None,
    amount: Annotated[
        str, typer.Option(help="A gross amount instead of lines; without either, all that is left.")
    ] = "",
    final: Final = False,
    digest: Annotated[str, typer.Option(help="With --final: only if it is still the note of this preview.")] = "",
    as_json: JsonFlag = False,
) -> None:
    """Show the credit note that would lower an invoice; with --final, make it. Its usage stands."""
    lines = []
    for entry in line or []:
        name, _, part = entry.partition("=")
        lines.append({"line": name, "amount": part or None})
    wanted = {"reason": reason, "lines": lines, "amount": amount or None, "preview": not final, "digest": digest}
    made = connect().document("ledger.credit_invoice", invoice_id, body=wanted)
    if as_json:
        print_json(made)
        return
    show_note(made)


def show_note(document: dict[str, Any]) -> None:
    """A credit note on the terminal."""
    from sublet.ledger.invoices.page import said_of, summary

    say(f"{document['number'] or 'draft credit note'} for {document['customer']['name']}")
    for text in said_of(document):
        say(text)
    columns: Columns = {
        "position": "line",
        "description": "what",
        "used": "used in",
        "amount": money(document["currency"]),
    }
    print_rows(document["lines"], columns, "no lines")
    print_fields({name: cost_text(value, document["currency"]) for name, value, _ in summary(document)})
    say(f"digest {document['digest']}")


def notes(organization: Organization, as_json: JsonFlag = False) -> None:
    """List an organization's credit notes."""
    client = connect()
    found = client.collected("ledger.list_notes", query={"organization_id": organization_id(client, organization)})
    if as_json:
        print_json(found)
        return
    rows = [
        entry | {"of": ", ".join(corrected["invoice"] for corrected in entry["corrects"])}
        for entry in found["credit_notes"]
    ]
    columns: Columns = {
        "number": "number",
        "of": "of",
        "total": money("total", "currency"),
        "balance": money("owed back", "currency"),
        "reason": "reason",
    }
    print_rows(rows, columns, "no credit notes; `sublet ledger note INVOICE --reason WHY` shows one before it is made")


def reverse_payment(
    invoice_id: Annotated[str, typer.Argument(help="As `sublet ledger invoices` shows it.")],
    source: Annotated[str, typer.Option(help="What the payment was recorded as.")],
    reason: Annotated[str, typer.Option(help="Why.")],
    as_json: JsonFlag = False,
) -> None:
    """Reverse a payment that was recorded by mistake, booked today; the invoice is open again."""
    wanted = {"source_id": source, "reason": reason}
    document = connect().document("ledger.reverse_payment", invoice_id, body=wanted)
    if as_json:
        print_json(document)
    else:
        say(
            f"{document['number']} is {document['status']}, paid {money_text(document['paid'])} of {money_text(document['due'])}"
        )


def refund(
    organization: Organization,
    amount: Annotated[str, typer.Argument(help="Of what is owed to the customer, like 12.50.")],
    source: Annotated[str, typer.Option(help="Unique name of the refund, such as a bank reference.")],
    reason: Reason,
    payment: Annotated[str, typer.Option(help="The payment or prepayment that it goes back by, by its source.")] = "",
    wallet: Annotated[bool, typer.Option("--wallet", help="Move it to the wallet instead, as prepaid money.")] = False,
    final: Final = False,
    as_json: JsonFlag = False,
) -> None:
    """Show a refund of what is owed to a customer; with --final, record it, once per source."""
    client = connect()
    wanted = {
        "organization_id": organization_id(client, organization),
        "amount": amount,
        "source_id": source,
        "reason": reason,
        "target": "wallet" if wallet else "payment",
        "payment": payment,
        "preview": not final,
    }
    made = client.document("ledger.refund", body=wanted)
    where = "to the wallet" if wallet else f"by payment {made['payment']}"
    _tell(made, f"{money_text(made['amount'])} {where}", final, as_json)


def return_deposit(
    credit_id: Annotated[str, typer.Argument(help="As `sublet ledger credits` shows it.")],
    amount: Annotated[str, typer.Argument(help="Of what is left of the deposit, like 12.50.")],
    reason: Reason,
    final: Final = False,
    as_json: JsonFlag = False,
) -> None:
    """Show what is owed back of a deposit; with --final, owe it, so that a refund can pay it out."""
    wanted = {"amount": amount, "reason": reason, "preview": not final}
    made = connect().document("ledger.return_deposit", credit_id, body=wanted)
    _tell(
        made, f"{money_text(made['amount'])} owed back, {money_text(made['left'])} left of the deposit", final, as_json
    )


def write_off(
    invoice_id: Annotated[str, typer.Argument(help="As `sublet ledger invoices` shows it.")],
    reason: Reason,
    final: Final = False,
    as_json: JsonFlag = False,
) -> None:
    """Show what a write-off of an invoice comes to; with --final, write it off. A later payment recovers it."""
    made = connect().document("ledger.write_off", invoice_id, body={"reason": reason, "preview": not final})
    loss, tax = money_text(made["bad_debt"]), money_text(made["tax"])
    text = f"{money_text(made['amount'])} of {made['invoice']}: {loss} bad debt, {tax} tax taken back"
    _tell(made, text, final, as_json)


def reinstate(
    invoice_id: Annotated[str, typer.Argument(help="As `sublet ledger invoices` shows it.")],
    reason: Reason,
    as_json: JsonFlag = False,
) -> None:
    """Take a write-off back; the invoice is open again."""
    made = connect().document("ledger.reinstate", invoice_id, body={"reason": reason})
    _tell(made, f"{made['number']} is {made['status']}, open {money_text(made['open'])}", True, as_json)


def net(
    invoice_id: Annotated[str, typer.Argument(help="As `sublet ledger invoices` shows it.")],
    source: Annotated[str, typer.Option(help="Unique name of the netting.")],
    reason: Reason,
    amount: Annotated[str, typer.Option(help="How much; without it, as much as can be.")] = "",
    undo: Annotated[bool, typer.Option("--undo", help="Take the netting of this source back.")] = False,
    final: Final = False,
    as_json: JsonFlag = False,
) -> None:
    """Show what is owed to a customer paying an invoice; with --final, do it, or with --undo, take it back."""
    client = connect()
    if undo:
        made = client.document("ledger.undo_netting", invoice_id, body={"source_id": source, "reason": reason})
        _tell(made, f"{money_text(made['amount'])} of {made['invoice']} is open again", True, as_json)
        return
    wanted = {"source_id": source, "reason": reason, "amount": amount or None, "preview": not final}
    made = client.document("ledger.net", invoice_id, body=wanted)
    _tell(
        made,
        f"{money_text(made['amount'])} paid on {made['invoice']} from what is owed to the customer",
        final,
        as_json,
    )


def _tell(made: dict[str, Any], text: str, final: bool, as_json: bool) -> None:
    if as_json:
        print_json(made)
    else:
        say(text if final else f"would be: {text}; --final carries it out")
