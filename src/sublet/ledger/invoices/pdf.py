"""An invoice as PDF, drawn with fpdf2: on several pages with running totals, in the customer's language."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from fpdf import FPDF
from fpdf.enums import XPos, YPos

from sublet.ledger.invoices.fonts import FOLDERS, Face, faces_for
from sublet.ledger.invoices.logos import Logo
from sublet.ledger.invoices.open_items import FINAL, ISSUED
from sublet.ledger.invoices.page import ROUNDING, bank_of, dates_of, ids_of, said_of, status_of, summary, title_of
from sublet.ledger.invoices.parties import address_lines
from sublet.ledger.invoices.readable import Readable, readable

BUILT_IN = "Helvetica"
_WIDTHS = (72, 42, 50, 26)
_LINE_MM = 4
_GAP_MM = 1
"""Above and below each line of the table."""
_FOOT_MM = 26
"""What stays free at the foot of a page: for the running total and the page's number."""
_MARGIN_MM = 18
_TAIL_MM = 18
"""What follows the sums besides the bank details: how amounts are rounded, and where the exact ones are."""
_LOGO_W, _LOGO_H = 60, 20


class Paper(FPDF):
    """A4 with the page's number at its foot, in a font that draws the document's names."""

    def __init__(self, faces: Sequence[Face], read: Readable, **how: Any) -> None:
        super().__init__(format="A4", **how)
        self._drawn = frozenset[int]().union(*(face.characters for face in faces))
        self._family = BUILT_IN
        self._words = read.words
        for place, face in enumerate(faces):
            for style, path in (("", face.path), ("B", face.bold or face.path)):
                self.add_font(f"face{place}", style, path)
        if faces:
            self._family = "face0"
            self.set_fallback_fonts([f"face{place}" for place in range(1, len(faces))])

    def write_in(self, size: int, style: Literal["", "B"] = "") -> None:
        self.set_font(self._family, style, size)

    def _render_styled_text_line(self, *given: Any, **how: Any) -> Any:
        # A text that ends in a fallback font leaves that set, and fpdf2 takes the next one's font for set already: it would
        # be drawn with the other font's glyphs.
        self.current_font_is_set_on_page = False
        return super()._render_styled_text_line(*given, **how)

    def drawable(self, text: str) -> str:
        """`text` with `?` for what no font of this machine has."""
        if self._family == BUILT_IN:
            return text.replace("–", "-").replace("’", "'").encode("latin-1", "replace").decode("latin-1")
        return "".join(sign if ord(sign) in self._drawn or sign.isspace() else "?" for sign in text)

    def line_of_text(self, text: str, height: int = 5, align: str = "L") -> None:
        self.multi_cell(0, height, self.drawable(text), align=align, new_x=XPos.LMARGIN, new_y=YPos.NEXT)

    def footer(self) -> None:
        self.set_y(-15)
        self.write_in(8)
        page = self._words("Page {page} of {pages}", page=self.page_no(), pages="{nb}")
        self.cell(0, 8, self.drawable(page), align="C")


def invoice_pdf(document: Mapping[str, Any], folders: Sequence[str] = FOLDERS, *, logo: Logo | None = None) -> bytes:
    """The PDF of an invoice, a credit note, or a draft of either. Names outside Latin-1 are drawn with fonts of this machine; a
    character that none of them has is written as `?`. `folders` are where fonts are looked for."""
    read = readable(document)
    paper = Paper(faces_for(texts_of(read), folders), read)
    draw(paper, read, logo)
    return bytes(paper.output())


def texts_of(read: Readable) -> str:
    """Every text that is drawn of a document, one after the other."""
    words, document = read.words, read.document
    found = [title_of(document, words), status_of(document, words), words(ROUNDING)]
    found += [words(text) for text in _HEADINGS]
    found += [part for pair in (*dates_of(read), *bank_of(read)) for part in pair]
    found += [*said_of(read), *(name + shown for name, shown, _ in summary(read))]
    found += [line.title + line.quantity + line.price for line in read.lines]
    found += [name for name, _ in read.projects]
    for party in (document["issuer"], document["customer"]):
        found += [party["name"], *address_lines(party), *ids_of(party, words)]
    return "".join(found)


_HEADINGS = tuple(
    "From|To|Description|Quantity|Price|Carried forward|Brought forward|By project|No project|Exact amounts|"
    "Page {page} of {pages}".split("|")
)


def draw(paper: Paper, read: Readable, logo: Logo | None = None) -> None:
    """Draw a document on paper."""
    words, document = read.words, read.document
    title = title_of(document, words)
    paper.set_auto_page_break(True, margin=_MARGIN_MM)
    paper.set_title(title)
    paper.set_lang(words.language)
    paper.add_page()
    if logo is not None:
        paper.image(
            logo.file(), x=paper.w - paper.r_margin - _LOGO_W, y=10, w=_LOGO_W, h=_LOGO_H, keep_aspect_ratio=True
        )
    paper.write_in(18, "B")
    state = "" if document["status"] in (FINAL, ISSUED) else f" ({status_of(document, words)})"
    paper.multi_cell(
        paper.epw - (_LOGO_W if logo else 0),
        10,
        paper.drawable(title + state),
        align="L",
        new_x=XPos.LMARGIN,
        new_y=YPos.NEXT,
    )
    if logo is not None:
        paper.set_y(max(paper.get_y(), 10 + _LOGO_H))
    paper.ln(2)
    _parties(paper, read)
    paper.write_in(10)
    for name, value in dates_of(read):
        paper.line_of_text(f"{name}: {value}")
    for text in said_of(read):
        paper.line_of_text(text)
    paper.ln(3)
    _lines(paper, read)
    _projects(paper, read)
    said = [f"{words(heading)}: {text}" for heading, text in bank_of(read)]
    _sums(paper, read, _TAIL_MM + 5 * len(said))
    paper.ln(4)
    paper.write_in(10)
    for text in said:
        paper.line_of_text(text)
    paper.ln(2)
    paper.write_in(8)
    paper.line_of_text(words(ROUNDING), 4)
    if document["number"]:
        paper.line_of_text(f"{words('Exact amounts')}: sublet ledger show {document['number']} --json", 4)


def _parties(paper: Paper, read: Readable) -> None:
    """Issuer and customer side by side, each line by line."""
    words, top = read.words, paper.get_y()
    lowest = top
    for place, (heading, name) in enumerate((("From", "issuer"), ("To", "customer"))):
        party = read.document[name]
        paper.set_y(top)
        lines = [party["name"], *address_lines(party), *ids_of(party, words), party.get("email", "")]
        for number, line in enumerate([words(heading), *(line for line in lines if line)]):
            paper.write_in(8 if not number else 10, "" if number != 1 else "B")
            paper.set_x(paper.l_margin + 95 * place)
            paper.multi_cell(90, 5, paper.drawable(line), align="L", new_x=XPos.LMARGIN, new_y=YPos.NEXT)
        lowest = max(lowest, paper.get_y())
    paper.set_y(lowest + 3)


def _heads(paper: Paper, read: Readable) -> None:
    words = read.words
    heads = [words(text) for text in ("Description", "Quantity", "Price")]
    _row(paper, (*heads, read.document["currency"]), strong=True)
    paper.line(paper.l_margin, paper.get_y(), paper.l_margin + sum(_WIDTHS), paper.get_y())


def _lines(paper: Paper, read: Readable) -> None:
    """The lines; where a page ends among them it says what they come to so far, and the next begins with that."""
    words = read.words
    _heads(paper, read)
    so_far = 0
    for line in read.lines:
        cells = (line.title, line.quantity, line.price, read.amount(line.cents))
        if paper.get_y() + _height(paper, cells) + 2 * _GAP_MM > paper.h - _FOOT_MM:
            _row(paper, (words("Carried forward"), "", "", read.amount(so_far)), strong=True)
            paper.add_page()
            _heads(paper, read)
            _row(paper, (words("Brought forward"), "", "", read.amount(so_far)), strong=True)
        _row(paper, cells)
        _rule(paper)
        so_far += line.cents


def _rule(paper: Paper) -> None:
    """A fine line below a row."""
    paper.set_draw_color(210)
    paper.set_line_width(1 / 10)
    paper.line(paper.l_margin, paper.get_y(), paper.l_margin + sum(_WIDTHS), paper.get_y())
    paper.set_draw_color(0)
    paper.set_line_width(1 / 5)


def _projects(paper: Paper, read: Readable) -> None:
    if not read.projects:
        return
    words = read.words
    paper.ln(2)
    _row(paper, (words("By project"), "", "", ""), strong=True)
    for name, cents in read.projects:
        if paper.get_y() + 2 * (_LINE_MM + _GAP_MM) > paper.h - _FOOT_MM:
            paper.add_page()
        _row(paper, (name or words("No project"), "", "", read.amount(cents)))


def _height(paper: Paper, cells: Sequence[str]) -> int:
    paper.write_in(8)
    most = 1
    for width, cell in zip(_WIDTHS, cells, strict=True):
        lines: Any = paper.multi_cell(width, _LINE_MM, paper.drawable(cell), dry_run=True, output="LINES")
        most = max(most, len(lines))
    return most * _LINE_MM


def _row(paper: Paper, cells: Sequence[str], *, strong: bool = False) -> None:
    height, top, left = _height(paper, cells) + 2 * _GAP_MM, paper.get_y(), paper.l_margin
    paper.write_in(8, "B" if strong else "")
    for place, (width, cell) in enumerate(zip(_WIDTHS, cells, strict=True)):
        paper.set_xy(left, top + _GAP_MM)
        if cell:
            align = "R" if place else "L"
            paper.multi_cell(width, _LINE_MM, paper.drawable(cell), align=align, new_x=XPos.RIGHT, new_y=YPos.TOP)
        left += width
    paper.set_xy(paper.l_margin, top + height)


def _sums(paper: Paper, read: Readable, tail_mm: int) -> None:
    """The sums, kept on one page with the `tail_mm` that follow them."""
    rows = summary(read)
    paper.ln(3)
    if paper.get_y() + 6 * len(rows) + tail_mm > paper.h - _MARGIN_MM:
        paper.add_page()
    for name, shown, strong in rows:
        paper.write_in(10, "B" if strong else "")
        paper.cell(140, 6, paper.drawable(name[:90]), align="R")
        paper.cell(0, 6, paper.drawable(shown), align="R", new_x=XPos.LMARGIN, new_y=YPos.NEXT)
