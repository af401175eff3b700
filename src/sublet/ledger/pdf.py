"""An invoice as PDF, drawn with fpdf2."""

from __future__ import annotations

from typing import Any

from fpdf import FPDF
from fpdf.enums import XPos, YPos

from sublet.ledger.page import summary
from sublet.ledger.typeset import amount, day, money, short

_WIDTHS = (78, 18, 34, 26, 30)


class _Paper(FPDF):
    """A4 with the page's number at its foot."""

    def footer(self) -> None:
        self.set_y(-15)
        self.set_font("Helvetica", size=8)
        self.cell(0, 8, f"Page {self.page_no()} of {{nb}}", align="C")


def invoice_pdf(document: dict[str, Any]) -> bytes:
    """The PDF of an invoice or draft. Characters outside Latin-1 are written as `?`: the built-in fonts have none."""
    paper = _Paper(format="A4")
    paper.set_auto_page_break(True, margin=18)
    title = f"Invoice {document['number']}" if document["number"] else "Draft invoice"
    paper.set_title(title)
    paper.add_page()
    paper.set_font("Helvetica", "B", 18)
    paper.cell(0, 10, latin(f"{title} ({document['status']})"), new_x=XPos.LMARGIN, new_y=YPos.NEXT)
    paper.set_font("Helvetica", size=10)
    for heading, party in (("From", document["issuer"]), ("To", document["customer"])):
        lines = [party["name"], *party["address"].splitlines(), party["tax_number"]]
        paper.multi_cell(
            0, 5, latin(f"{heading}: " + ", ".join(line for line in lines if line)), new_x=XPos.LMARGIN, new_y=YPos.NEXT
        )
    period = document["period"]
    paper.cell(0, 5, latin(f"Period: {period['label']} ({period['timezone']})"), new_x=XPos.LMARGIN, new_y=YPos.NEXT)
    due = f"   Due: {day(document, 'due_at')}" if document.get("due_at") else ""
    paper.cell(0, 5, f"Issued: {day(document, 'issued_at')}{due}", new_x=XPos.LMARGIN, new_y=YPos.NEXT)
    paper.ln(4)
    _lines(paper, document)
    _sums(paper, document)
    paper.ln(4)
    paper.set_font("Helvetica", size=8)
    paper.multi_cell(0, 4, latin(document["rounding_rule"]), new_x=XPos.LMARGIN, new_y=YPos.NEXT)
    paper.multi_cell(0, 4, f"Digest {document['digest']}", new_x=XPos.LMARGIN, new_y=YPos.NEXT)
    return bytes(paper.output())


def latin(text: str) -> str:
    """Text that the built-in fonts can draw."""
    return text.encode("latin-1", "replace").decode("latin-1")


def _lines(paper: FPDF, document: dict[str, Any]) -> None:
    paper.set_font("Helvetica", size=8)
    headings = ("What", "Used in", "Quantity", "Price", document["currency"])
    with paper.table(
        col_widths=_WIDTHS, text_align=("LEFT", "LEFT", "RIGHT", "RIGHT", "RIGHT"), line_height=5
    ) as table:
        table.row(headings)
        for line in document["lines"]:
            quantity = f"{short(line['quantity'])} {line['unit']}".strip()
            cells = (
                line["description"],
                line["used"],
                quantity,
                line["unit_price"],
                amount(line["amount"], document["currency"]),
            )
            table.row(tuple(latin(cell) for cell in cells))


def _sums(paper: FPDF, document: dict[str, Any]) -> None:
    currency = document["currency"]
    paper.ln(3)
    for name, value, strong in summary(document):
        paper.set_font("Helvetica", "B" if strong else "", 10)
        shown = money(value, currency)
        paper.cell(140, 6, latin(name)[:90], align="R")
        paper.cell(0, 6, shown, align="R", new_x=XPos.LMARGIN, new_y=YPos.NEXT)
