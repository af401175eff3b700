"""Names in any script stand on a PDF where this machine has a font for them; elsewhere `?` stands for each character."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from pypdf import PdfReader

from sublet.ledger.invoices.fonts import faces_for
from sublet.ledger.invoices.pdf import invoice_pdf

LATIN = "".join(map(chr, range(0x20, 0x7F)))


def write_font(path: Path, characters: str) -> None:
    """A font in which each of the characters is a square."""
    names = {ord(sign): f"u{ord(sign):04X}" for sign in characters}
    pen = TTGlyphPen(None)
    pen.moveTo((50, 0))
    for corner in ((50, 500), (450, 500), (450, 0)):
        pen.lineTo(corner)
    pen.closePath()
    square = pen.glyph()
    glyphs = [".notdef", *names.values()]
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder(glyphs)
    builder.setupCharacterMap(names)
    builder.setupGlyf(dict.fromkeys(glyphs, square))
    builder.setupHorizontalMetrics(dict.fromkeys(glyphs, (500, 50)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": path.stem, "styleName": "Regular"})
    builder.setupOS2(sTypoAscender=800, usWinAscent=800, usWinDescent=200)
    builder.setupPost()
    builder.save(path)


def document(name: str) -> dict[str, Any]:
    party = {"name": "Sublet Oy", "address": "", "tax_number": ""}
    line = {
        "id": "pst_1",
        "kind": "fee",
        "meter": "",
        "description": "Leases",
        "used": "3 h",
        "quantity": "3",
        "unit": "h",
        "unit_price": "8.40",
        "amount": "25.2",
    }
    return {
        "number": "2026-1", "status": "final", "currency": "USD", "issuer": party, "customer": {**party, "name": name},
        "lines": [line], "period": {"label": "2026-01", "timezone": "UTC"}, "issued_at": "2026-02-01T00:00:00Z",
        "due_at": None, "rounding_rule": "half up", "digest": "d", "credits": [], "taxes": [], "prepaid": [],
        **dict.fromkeys(("subtotal", "rounding", "net", "total", "carried", "due"), "25.200000000"),
    }  # fmt: skip


def text_of(name: str, folder: Path) -> str:
    return PdfReader(io.BytesIO(invoice_pdf(document(name), [str(folder)]))).pages[0].extract_text()


def test_a_name_is_drawn_with_the_fonts_that_have_its_characters(tmp_path: Path) -> None:
    write_font(tmp_path / "DejaVuSans.ttf", LATIN + "Łódź")
    (tmp_path / "cjk").mkdir()
    write_font(tmp_path / "cjk" / "wqy-zenhei.ttc", "東京")
    for name in ("Łódź & Sons", "Łódź 東京"):
        said = text_of(name, tmp_path)
        assert name in said and "25.20 USD" in said
    assert "Łódź ?" in text_of("Łódź 大", tmp_path)


def test_latin_names_need_no_font_and_others_are_marked_where_there_is_none(tmp_path: Path) -> None:
    write_font(tmp_path / "DejaVuSans.ttf", LATIN + "Ł")
    assert faces_for("Müller & Søn", [str(tmp_path)]) == []
    assert "Müller & Søn" in text_of("Müller & Søn", tmp_path)
    assert "To\n???" in text_of("東京都", tmp_path)


def test_what_is_no_font_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "DejaVuSans.ttf").write_bytes(b"\x00\x01\x00\x00 no font")
    (tmp_path / "LiberationSans-Regular.ttf").write_bytes(b"")
    assert "To\n?" in text_of("Ł", tmp_path)
    assert faces_for("Ł", [str(tmp_path / "nowhere")]) == []


def test_an_amount_beside_a_text_in_another_font_keeps_its_own(tmp_path: Path) -> None:
    write_font(tmp_path / "DejaVuSans.ttf", LATIN)
    write_font(tmp_path / "wqy-zenhei.ttc", "東京大阪")
    told = document("東京")
    told["lines"] = [line | {"description": "東京大阪東京大阪"} for line in told["lines"]]
    said = PdfReader(io.BytesIO(invoice_pdf(told, [str(tmp_path)]))).pages[0].extract_text()
    assert "東京大阪" in said and said.count("25.20") == 6


def test_headings_are_bold_where_the_font_has_a_bold_face(tmp_path: Path) -> None:
    write_font(tmp_path / "DejaVuSans.ttf", LATIN + "Ł")
    write_font(tmp_path / "DejaVuSans-Bold.ttf", LATIN)
    [face] = faces_for("Ł", [str(tmp_path)])
    assert face.bold is None
    other = tmp_path / "whole"
    other.mkdir()
    for name in ("DejaVuSans.ttf", "DejaVuSans-Bold.ttf"):
        write_font(other / name, LATIN + "Ł")
    [face] = faces_for("Ł", [str(other)])
    assert face.bold == other / "DejaVuSans-Bold.ttf"
