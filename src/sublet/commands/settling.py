"""`sublet ledger note`, `notes`, and what else settles invoices besides payments."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from sublet.client.remote import connect, organization_id
from sublet.commands.budgets import Organization
from sublet.output import JsonFlag, print_fields, print_json, print_rows, say
from sublet.shown import Columns, money, money_text, time

Reason = Annotated[str, typer.Option(help="Reason, printed on the document.")]
Final = Annotated[bool, typer.Option("--final", help="Carry it out; without this option, only a preview is shown.")]


def note(
    invoice_id: Annotated[str, typer.Argument(help="Id or number, as shown by `sublet ledger invoices`.")],
    reason: Reason,
    line: Annotated[
        list[str] | None,
        typer.Option(help="Line by position or id, or LINE=AMOUNT for part of its net; can be repeated."),
    ] = None,
    amount: Annotated[str, typer.Option(help="Gross amount instead of lines; by default, all that is left.")] = "",
    final: Final = False,
    digest: Annotated[
        str, typer.Option(help="With --final: only if the note is still the same as in this preview.")
    ] = "",
    as_json: JsonFlag = False,
) -> None:
    """Preview a credit note that reduces an invoice; with --final, issue it. The usage is not changed."""
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
    from sublet.ledger.invoices.readable import readable

    read = readable(document)
    say(f"{document['number'] or 'draft credit note'} for {document['customer']['name']}")
    for text in said_of(read):
        say(text)
    columns: Columns = {
        "position": "line",
        "description": "what",
        "used": "used in",
        "amount": money(document["currency"]),
    }
    print_rows(document["lines"], columns, "no lines")
    print_fields({name: shown for name, shown, _ in summary(read)})
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
    print_rows(rows, columns, "no credit notes; preview one with `sublet ledger note INVOICE --reason WHY`")


def reverse_payment(
    invoice_id: Annotated[str, typer.Argument(help="Id or number, as shown by `sublet ledger invoices`.")],
    source: Annotated[str, typer.Option(help="Source under which the payment was recorded.")],
    reason: Annotated[str, typer.Option(help="Why.")],
    as_json: JsonFlag = False,
) -> None:
    """Reverse a payment that was recorded by mistake, with today's date; the invoice is open again."""
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
    amount: Annotated[str, typer.Argument(help="Amount of the balance owed to the customer, such as 12.50.")],
    source: Annotated[str, typer.Option(help="Unique name of the refund, such as a bank reference.")],
    reason: Reason,
    payment: Annotated[str, typer.Option(help="Source of the payment or prepayment to refund.")] = "",
    wallet: Annotated[
        bool, typer.Option("--wallet", help="Move the amount to the wallet instead, as prepaid money.")
    ] = False,
    final: Final = False,
    as_json: JsonFlag = False,
) -> None:
    """Preview a refund of the balance owed to a customer; with --final, record it, once per source."""
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
    credit_id: Annotated[str, typer.Argument(help="Id of the credit, as shown by `sublet ledger credits`.")],
    amount: Annotated[str, typer.Argument(help="Part of the remaining deposit, such as 12.50.")],
    reason: Reason,
    final: Final = False,
    as_json: JsonFlag = False,
) -> None:
    """Preview the return of a deposit; with --final, add it to the balance owed, so that it can be refunded."""
    wanted = {"amount": amount, "reason": reason, "preview": not final}
    made = connect().document("ledger.return_deposit", credit_id, body=wanted)
    note = f" by credit note {made['credit_note']}" if made["credit_note"] and final else ""
    text = f"{money_text(made['owed'])} owed back{note}, {money_text(made['left'])} left of the deposit"
    _tell(made, text, final, as_json)


def refunds(organization: Organization, as_json: JsonFlag = False) -> None:
    """List what was refunded to an organization, by which payment or to the wallet."""
    client = connect()
    found = client.collected("ledger.list_refunds", query={"organization_id": organization_id(client, organization)})
    if as_json:
        print_json(found)
        return
    columns: Columns = {"source_id": "source", "amount": money("amount"), "target": "to", "payment": "payment"}
    columns |= {"refunded_at": time("refunded"), "reason": "reason"}
    print_rows(found["refunds"], columns, "no refunds; `sublet ledger refund` previews one")


def receive(
    organization: Organization,
    amount: Annotated[str, typer.Argument(help="Amount in the customer's currency, such as 1200.")],
    source: Annotated[str, typer.Option(help="Unique name of the payment, such as a bank reference.")],
    invoice: Annotated[list[str] | None, typer.Option(help="An invoice that it pays; by default, the oldest.")] = None,
    final: Final = False,
    as_json: JsonFlag = False,
) -> None:
    """Preview a payment of a customer; with --final, record it. What is more than its invoices come to becomes prepaid money."""
    client = connect()
    wanted = {"organization_id": organization_id(client, organization), "amount": amount, "source_id": source}
    made = client.document("ledger.receive_payment", body=wanted | {"invoices": invoice or [], "preview": not final})
    paid = [f"{money_text(part['amount'])} of {part['invoice']}" for part in made["invoices"]]
    _tell(made, f"pays {', '.join(paid) or 'no invoice'}; {money_text(made['prepaid'])} prepaid", final, as_json)


def payments(organization: Organization, as_json: JsonFlag = False) -> None:
    """List the payments that were recorded for an organization as a whole."""
    client = connect()
    found = client.collected("ledger.list_payments", query={"organization_id": organization_id(client, organization)})
    if as_json:
        print_json(found)
        return
    columns: Columns = {"source_id": "source", "amount": money("amount"), "prepaid": money("prepaid of it")}
    columns |= {"invoices": "invoices", "received_at": time("received")}
    rows = [row | {"invoices": ", ".join(row["invoices"])} for row in found["payments"]]
    print_rows(rows, columns, "no payments; `sublet ledger receive` previews one")


def write_off(
    invoice_id: Annotated[str, typer.Argument(help="Id or number, as shown by `sublet ledger invoices`.")],
    reason: Reason,
    final: Final = False,
    as_json: JsonFlag = False,
) -> None:
    """Preview the write-off of an invoice; with --final, write it off. A later payment recovers it."""
    made = connect().document("ledger.write_off", invoice_id, body={"reason": reason, "preview": not final})
    loss, tax = money_text(made["bad_debt"]), money_text(made["tax"])
    text = f"{money_text(made['amount'])} of {made['invoice']}: {loss} bad debt, {tax} tax taken back"
    _tell(made, text, final, as_json)


def reinstate(
    invoice_id: Annotated[str, typer.Argument(help="Id or number, as shown by `sublet ledger invoices`.")],
    reason: Reason,
    as_json: JsonFlag = False,
) -> None:
    """Reverse a write-off; the invoice is open again."""
    made = connect().document("ledger.reinstate", invoice_id, body={"reason": reason})
    _tell(made, f"{made['number']} is {made['status']}, open {money_text(made['open'])}", True, as_json)


def net(
    invoice_id: Annotated[str, typer.Argument(help="Id or number, as shown by `sublet ledger invoices`.")],
    source: Annotated[str, typer.Option(help="Unique name of the netting.")],
    reason: Reason,
    amount: Annotated[str, typer.Option(help="Amount; by default, as much as possible.")] = "",
    undo: Annotated[bool, typer.Option("--undo", help="Undo the netting of this source.")] = False,
    final: Final = False,
    as_json: JsonFlag = False,
) -> None:
    """Preview paying an invoice from the balance owed to the customer; with --final, do it; with --undo, reverse it."""
    client = connect()
    if undo:
        made = client.document("ledger.undo_netting", invoice_id, body={"source_id": source, "reason": reason})
        _tell(made, f"{money_text(made['amount'])} of {made['invoice']} is open again", True, as_json)
        return
    wanted = {"source_id": source, "reason": reason, "amount": amount or None, "preview": not final}
    made = client.document("ledger.net", invoice_id, body=wanted)
    _tell(
        made,
        f"{money_text(made['amount'])} paid on {made['invoice']} from the balance owed to the customer",
        final,
        as_json,
    )


def _tell(made: dict[str, Any], text: str, final: bool, as_json: bool) -> None:
    if as_json:
        print_json(made)
    else:
        say(text if final else f"would be: {text}; --final carries it out")
