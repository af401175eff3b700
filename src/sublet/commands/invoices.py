"""`sublet ledger invoice` and `show`: an invoice on the terminal, as a page, as PDF or as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from sublet.client.remote import connect, organization_id
from sublet.commands import settling
from sublet.commands.budgets import Organization
from sublet.output import JsonFlag, print_fields, print_json, print_rows, say
from sublet.shown import Columns, cost_text
from sublet.values.errors import InvalidInputError

Month = Annotated[
    str, typer.Option(help="Month such as 2026-11, in the organization's time zone; by default the current one.")
]


def invoice(
    organization: Organization,
    period: Month = "",
    final: Annotated[bool, typer.Option("--final", help="Make it final: numbered, posted, credits used.")] = False,
    digest: Annotated[str, typer.Option(help="With --final: only if the draft still has this digest.")] = "",
    out: Annotated[Path | None, typer.Option(help="Write it to a .json, .html or .pdf file.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Show the invoice that would be issued now; with --final, issue it."""
    client = connect()
    owner = organization_id(client, organization)
    if final:
        wanted = {"organization_id": owner, "period": period, "digest": digest}
        made = client.document("ledger.make_invoice", body=wanted)
        document = made["invoice"]
        if made["credit_note"] is not None and not as_json:
            amount = cost_text(made["credit_note"]["total"], made["credit_note"]["currency"])
            say(f"credit note {made['credit_note']['number']} of {amount} was made")
    else:
        document = client.document("ledger.read_draft", query={"organization_id": owner, "period": period})
    if document is None:
        say("nothing to invoice")
        return
    if document["credit_note"] is not None and not as_json:
        settling.show_note(document["credit_note"])
    _show(document, out, as_json)


def show(
    invoice_id: Annotated[str, typer.Argument(help="An id or number of an invoice or credit note.")],
    out: Annotated[
        Path | None, typer.Option(help="Write it to a .json, .html or .pdf file, or as an e-invoice (UBL) to .xml.")
    ] = None,
    factur_x: Annotated[
        bool, typer.Option("--factur-x", help="With --out FILE.pdf: a PDF/A-3 with the e-invoice embedded.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Show a final invoice or credit note, or write it as a page, PDF, JSON, or e-invoice."""
    kind = "note" if invoice_id.upper().startswith(("CN-", "CRN_")) else "invoice"
    if factur_x and (out is None or out.suffix != ".pdf"):
        raise InvalidInputError("--factur-x needs --out FILE.pdf")
    client = connect()
    if out is not None and out.suffix == ".pdf":
        # Made where the issuer's logo and fonts are.
        wanted = {"format": "factur-x" if factur_x else "pdf"}
        out.write_bytes(b"".join(client.bytes(f"ledger.read_{kind}", invoice_id, query=wanted)))
        say(f"written to {out}")
        return
    _show(client.document(f"ledger.read_{kind}", invoice_id), out, as_json)


def _show(document: dict[str, Any], out: Path | None, as_json: bool) -> None:
    from sublet.ledger.invoices.page import invoice_page, summary
    from sublet.ledger.invoices.readable import readable

    if out is not None:
        if out.suffix == ".pdf":
            from sublet.ledger.invoices.pdf import invoice_pdf

            out.write_bytes(invoice_pdf(document))
        elif out.suffix == ".html":
            out.write_text(invoice_page(document))
        elif out.suffix == ".xml":
            from sublet.ledger.invoices.ubl import ubl_xml

            out.write_bytes(ubl_xml(document))
        elif out.suffix == ".json":
            out.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
        else:
            raise InvalidInputError(f"--out {out} must end in .json, .html, .pdf or .xml")
        say(f"written to {out}")
        return
    if as_json:
        print_json(document)
        return
    read = readable(document)
    columns: Columns = {
        "title": "what",
        "quantity": "quantity",
        "price": "price",
        "amount": document["currency"],
    }
    lines = [
        {"title": line.title, "quantity": line.quantity, "price": line.price, "amount": read.amount(line.cents)}
        for line in read.lines
    ]
    say(f"{document['number'] or 'draft'} for {document['customer']['name']}, {document['period']['label']}")
    print_rows(lines, columns, "no lines")
    if read.projects:
        shares = {name or read.words("No project"): read.amount(cents) for name, cents in read.projects}
        print_fields({f"{read.words('Project')} {name}": shown for name, shown in shares.items()})
    print_fields({name: shown for name, shown, _ in summary(read)})
    say(f"digest {document['digest']}")
