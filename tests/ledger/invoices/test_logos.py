"""The issuer's logo: pictures of a bounded size that load and run nothing."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image
from pypdf import PdfReader
from tests.ledger.invoices.test_fonts import document

from sublet.ledger.invoices.logos import LOGO_BYTES_MAX, read_logo
from sublet.ledger.invoices.pdf import invoice_pdf
from sublet.values.errors import InvalidInputError

SVG = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 30 10"><path d="M0 0 L30 0 L30 10 Z" fill="#123456"/></svg>'


def png(path: Path, width: int = 60, height: int = 20) -> Path:
    Image.new("RGBA", (width, height), (200, 0, 0, 0)).save(path)
    return path


def test_a_logo_is_drawn_on_the_first_page(tmp_path: Path) -> None:
    logo = read_logo(png(tmp_path / "logo.png"))
    with Image.open(logo.file()) as shown:
        assert shown.mode == "RGB" and shown.getpixel((0, 0)) == (255, 255, 255)
    reader = PdfReader(io.BytesIO(invoice_pdf(document("acme"), logo=logo)))
    assert len(reader.pages[0].images) == 1 and "Invoice 2026-1" in reader.pages[0].extract_text()
    (tmp_path / "logo.svg").write_text(SVG)
    drawn = PdfReader(io.BytesIO(invoice_pdf(document("acme"), logo=read_logo(tmp_path / "logo.svg"))))
    assert "0.0706 0.2039 0.3373 rg" in drawn.pages[0].get_contents().get_data().decode("latin-1")  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"GIF89a", "neither a PNG nor an SVG"),
        (b"\x89PNG\r\n\x1a\n broken", "not a whole PNG"),
        (b" " * (LOGO_BYTES_MAX + 1), "larger than 512 KiB"),
        (SVG.replace("<path", "<script>x</script><path").encode(), "scripts, styles, pictures or links"),
        (
            SVG.replace("<path", '<image href="file:///etc/passwd"/><path').encode(),
            "scripts, styles, pictures or links",
        ),
        (b'<?xml version="1.0"?><!DOCTYPE svg [<!ENTITY a "b">]>' + SVG.encode(), "scripts, styles, pictures or links"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "logo").write_bytes(content)
    with pytest.raises(InvalidInputError, match=said):
        read_logo(tmp_path / "logo")


def test_a_picture_that_is_too_large_or_missing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="2001 x 2000 pixels"):
        read_logo(png(tmp_path / "large.png", 2001, 2000))
    with pytest.raises(InvalidInputError, match="can't be read"):
        read_logo(tmp_path / "nowhere.png")
