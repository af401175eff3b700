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
