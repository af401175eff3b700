"""The issuer's logo on PDFs: a PNG or SVG file of a bounded size, checked when the service starts."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from sublet.values.errors import InvalidInputError

LOGO_BYTES_MAX = 512 * 1024
LOGO_PIXELS_MAX = 4_000_000
_PNG = b"\x89PNG\r\n\x1a\n"
_REFUSED = re.compile(rb"<!|<\?xml-|<script|<image|<foreignObject|<style|\bhref\b|\burl\(", re.IGNORECASE)
"""What an SVG could load or run, and what defines entities."""


@dataclass(frozen=True, slots=True)
class Logo:
    """A picture as it is drawn: an SVG, or a PNG without transparency."""

    data: bytes

    def file(self) -> io.BytesIO:
        """A new file of it."""
        return io.BytesIO(self.data)


def read_logo(path: Path) -> Logo:
    """Raises InvalidInputError for a file that is not there, too large, or neither a PNG nor a plain SVG."""
    try:
        with path.expanduser().open("rb") as file:
            data = file.read(LOGO_BYTES_MAX + 1)
    except OSError as error:
        raise InvalidInputError(f"billing.issuer_logo: {path} can't be read ({error.strerror})") from error
    if len(data) > LOGO_BYTES_MAX:
        raise InvalidInputError(f"billing.issuer_logo: {path} is larger than {LOGO_BYTES_MAX // 1024} KiB")
    if data.startswith(_PNG):
        return Logo(_opaque(path, data))
    text = data.removeprefix(b"\xef\xbb\xbf").lstrip()
    if not text.startswith((b"<svg", b"<?xml ")) or b"<svg" not in text:
        raise InvalidInputError(f"billing.issuer_logo: {path} is neither a PNG nor an SVG")
    if _REFUSED.search(text):
        raise InvalidInputError(
            f"billing.issuer_logo: {path} has scripts, styles, pictures or links; export it as plain paths"
        )
    return Logo(text)


def _opaque(path: Path, data: bytes) -> bytes:
    """A PNG on white: PDF/A readers differ in what they make of transparency."""
    try:
        with Image.open(io.BytesIO(data), formats=("PNG",)) as picture:
            if picture.width * picture.height > LOGO_PIXELS_MAX:
                raise InvalidInputError(
                    f"billing.issuer_logo: {path} has {picture.width} x {picture.height} pixels; "
                    f"at most {LOGO_PIXELS_MAX:,} in all are drawn"
                )
            shown = picture.convert("RGBA")
    except (OSError, SyntaxError, ValueError) as error:
        raise InvalidInputError(f"billing.issuer_logo: {path} is not a whole PNG") from error
    ground = Image.new("RGB", shown.size, "white")
    ground.paste(shown, mask=shown)
    found = io.BytesIO()
    ground.save(found, "PNG")
    return found.getvalue()
