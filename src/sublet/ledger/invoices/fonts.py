"""Fonts of this machine for names that a PDF's built-in ones can't draw: those write Latin-1 alone."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from fontTools.ttLib import TTFont, TTLibError

# Tables that only screens need are left out of an embedded font; that is nothing to warn of.
logging.getLogger("fontTools.subset").setLevel(logging.ERROR)

FILES_MAX = 2_000
LATIN_1_MAX = 0xFF
FOLDERS = (
    "/usr/share/fonts",
    "/usr/local/share/fonts",
    "~/.local/share/fonts",
    "~/.fonts",
    "/Library/Fonts",
    "/System/Library/Fonts",
)
# Plain upright faces of wide coverage: the first that is there and can draw what is still missing is taken.
_KNOWN = (
    "DejaVuSans.ttf",
    "NotoSans-Regular.ttf",
    "LiberationSans-Regular.ttf",
    "Arial.ttf",
    "NotoSansCJK-Regular.ttc",
    "NotoSansCJKsc-Regular.otf",
    "wqy-zenhei.ttc",
    "DroidSansFallbackFull.ttf",
    "Arial Unicode.ttf",
    "unifont.ttf",
)
_BOLD = {
    "DejaVuSans.ttf": "DejaVuSans-Bold.ttf",
    "NotoSans-Regular.ttf": "NotoSans-Bold.ttf",
    "LiberationSans-Regular.ttf": "LiberationSans-Bold.ttf",
    "Arial.ttf": "Arial Bold.ttf",
    "NotoSansCJK-Regular.ttc": "NotoSansCJK-Bold.ttc",
    "NotoSansCJKsc-Regular.otf": "NotoSansCJKsc-Bold.otf",
}
SYMBOLS_FROM, CJK_FROM, CJK_END = 0x0530, 0x3040, 0xA000


@dataclass(frozen=True, slots=True)
class Face:
    """A font file, and the characters that it draws."""

    path: Path
    characters: frozenset[int]
    bold: Path | None = None
    """The bold face beside it, if it draws the same characters."""


def faces_for(text: str, folders: Sequence[str] = FOLDERS) -> list[Face]:
    """As few fonts as needed, in their order, that together draw what they can of `text`; none for Latin-1 alone."""
    missing = {ord(sign) for sign in text if not sign.isspace()}
    if max(missing, default=0) <= LATIN_1_MAX:
        return []
    chosen = []
    for face in _faces(tuple(folders)):
        if not missing:
            break
        if missing & face.characters:
            chosen.append(face)
            missing -= face.characters
    return chosen


@lru_cache(maxsize=4)
def _faces(folders: tuple[str, ...]) -> tuple[Face, ...]:
    found: dict[str, Path] = {}
    for path in _files(folders):
        found.setdefault(path.name, path)
    return tuple(face for name in _KNOWN if name in found and (face := _face(found[name])) is not None)


def _files(folders: tuple[str, ...]) -> Iterator[Path]:
    seen = 0
    for folder in folders:
        for place, _, names in os.walk(Path(folder).expanduser()):
            for name in names:
                if name in _KNOWN:
                    yield Path(place) / name
                seen += 1
            if seen > FILES_MAX:
                return


def _face(path: Path) -> Face | None:
    drawn = _characters(path)
    if drawn is None:
        return None
    beside = path.with_name(_BOLD[path.name]) if path.name in _BOLD else None
    bold = _characters(beside) if beside is not None and beside.is_file() else None
    return Face(path, drawn, beside if bold and _common(drawn) <= bold else None)


def _common(characters: frozenset[int]) -> set[int]:
    """What texts of invoices consist of: the bold face may lack symbols."""
    return {sign for sign in characters if sign < SYMBOLS_FROM or CJK_FROM <= sign < CJK_END}


def _characters(path: Path) -> frozenset[int] | None:
    try:
        with TTFont(path, fontNumber=0, lazy=True) as font:
            return frozenset(font.getBestCmap() or ())
    except (OSError, TTLibError, AssertionError):
        return None
