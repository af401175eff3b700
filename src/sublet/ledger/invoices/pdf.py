"""An invoice as PDF, drawn with fpdf2."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from fpdf import FPDF
from fpdf.enums import XPos, YPos

from sublet.ledger.invoices.fonts import FOLDERS, Face, faces_for
from sublet.ledger.invoices.page import said_of, summary, title_of
from sublet.ledger.invoices.typeset import amount, day, money, short

_WIDTHS = (78, 18, 34, 26, 30)


BUILT_IN = "Helvetica"


class _Paper(FPDF):
    """A4 with the page's number at its foot, in a font that draws the document's names."""

    def __init__(self, faces: Sequence[Face]) -> None:
        super().__init__(format="A4")
        self._drawn = frozenset[int]().union(*(face.characters for face in faces))
        self._family = BUILT_IN
        for place, face in enumerate(faces):
            for style in ("", "B"):
                self.add_font(f"face{place}", style, face.path)
        if faces:
            self._family = "face0"
            self.set_fallback_fonts([f"face{place}" for place in range(1, len(faces))])

    def write_in(self, size: int, style: Literal["", "B"] = "") -> None:
        self.set_font(self._family, style, size)

    def drawable(self, text: str) -> str:
        """`text` with `?` for what no font of this machine has."""
        if self._family == BUILT_IN:
            return text.encode("latin-1", "replace").decode("latin-1")
        return "".join(sign if ord(sign) in self._drawn or sign.isspace() else "?" for sign in text)

    def footer(self) -> None:
        self.set_y(-15)
        self.write_in(8)
        self.cell(0, 8, f"Page {self.page_no()} of {{nb}}", align="C")


def invoice_pdf(document: dict[str, Any], folders: Sequence[str] = FOLDERS) -> bytes:
    """The PDF of an invoice, a credit note, or a draft of either. Names outside Latin-1 are drawn with fonts of this machine; a
    character that none of them has is written as `?`. `folders` are where fonts are looked for."""
    paper = _Paper(faces_for(_all_text(document), folders))
    paper.set_auto_page_break(True, margin=18)
    title = title_of(document)
    paper.set_title(title)
    paper.add_page()
    paper.write_in(18, "B")
    paper.cell(0, 10, paper.drawable(f"{title} ({document['status']})"), new_x=XPos.LMARGIN, new_y=YPos.NEXT)
    paper.write_in(10)
    for heading, party in (("From", document["issuer"]), ("To", document["customer"])):
        lines = [party["name"], *party["address"].splitlines(), party["tax_number"]]
        paper.multi_cell(
            0,
            5,
            paper.drawable(f"{heading}: " + ", ".join(line for line in lines if line)),
            new_x=XPos.LMARGIN,
            new_y=YPos.NEXT,
        )
    period = document["period"]
    paper.cell(
        0, 5, paper.drawable(f"Period: {period['label']} ({period['timezone']})"), new_x=XPos.LMARGIN, new_y=YPos.NEXT
    )
    due = f"   Due: {day(document, 'due_at')}" if document.get("due_at") else ""
    paper.cell(0, 5, f"Issued: {day(document, 'issued_at')}{due}", new_x=XPos.LMARGIN, new_y=YPos.NEXT)
    for text in said_of(document):
        paper.multi_cell(0, 5, paper.drawable(text), new_x=XPos.LMARGIN, new_y=YPos.NEXT)
    paper.ln(4)
    _lines(paper, document)
    _sums(paper, document)
    paper.ln(4)
    paper.write_in(8)
    paper.multi_cell(0, 4, paper.drawable(document["rounding_rule"]), new_x=XPos.LMARGIN, new_y=YPos.NEXT)
    paper.multi_cell(0, 4, f"Digest {document['digest']}", new_x=XPos.LMARGIN, new_y=YPos.NEXT)
    return bytes(paper.output())


def _all_text(found: Any) -> str:
    """Every text of a document, one after the other."""
    if isinstance(found, dict):
        return "".join(_all_text(item) for item in found.values())
    if isinstance(found, list):
        return "".join(_all_text(item) for item in found)
    return found if isinstance(found, str) else ""


def _lines(paper: _Paper, document: dict[str, Any]) -> None:
    paper.write_in(8)
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
            table.row(tuple(paper.drawable(cell) for cell in cells))


def _sums(paper: _Paper, document: dict[str, Any]) -> None:
    currency = document["currency"]
    paper.ln(3)
    for name, value, strong in summary(document):
        paper.write_in(10, "B" if strong else "")
        shown = money(value, currency)
        paper.cell(140, 6, paper.drawable(name[:90]), align="R")
        paper.cell(0, 6, shown, align="R", new_x=XPos.LMARGIN, new_y=YPos.NEXT)
