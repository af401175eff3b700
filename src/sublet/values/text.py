"""What text is accepted from outside, and how text that others wrote is shown on a terminal.

Every name, label, project, reason and comment goes through `checked_line` on its way in: one line in any script, in one
normal form, without characters that a terminal, a file name, a log or a reader would take for something else.
"""

from __future__ import annotations

import re
import unicodedata

from sublet.values.errors import InvalidInputError

MARKS_MAX = 8
"""How many combining marks one letter may carry. Hebrew with cantillation and Tibetan need about five; a pile of hundreds
covers the lines above and below it."""

_JOINERS = "\u200c\u200d"
"""Zero-width non-joiner and joiner: Persian, the Indic scripts and emoji can't be written without them."""
_FILLERS = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
"""Letters and marks that Unicode has draw nothing: two names could look the same, or look empty."""
_REFUSED_CATEGORIES = frozenset({"Cc", "Cf", "Co", "Cs", "Zl", "Zp"})


def checked_line(text: str, what: str, max_chars: int, min_chars: int = 0) -> str:
    """`text` in Unicode's normal form C, without surrounding space, its spaces plain ones: `min_chars` to `max_chars`
    characters of one line.

    Refused are control and formatting characters (line breaks, escape sequences, bidirectional overrides, invisible ones),
    private-use and unpaired code units, letters that draw nothing, and letters under a pile of marks. Raises
    InvalidInputError that names `what` and the first character at fault by its number.
    """
    if not isinstance(text, str):
        raise InvalidInputError(f"{what} must be text")
    if not text.isascii() or not text.isprintable():
        # Nothing of a text that is far too long is looked at; NFC makes no text more than three times as long.
        if len(text) > 4 * max_chars:
            raise InvalidInputError(f"{what} must have at most {max_chars} characters, not {len(text)}")
        refuse_unsafe(text.strip(), what)
        text = unicodedata.normalize("NFC", "".join(_plain_space(sign) for sign in text))
    text = text.strip()
    if not min_chars <= len(text) <= max_chars:
        wanted = f"must have {min_chars} to {max_chars}" if min_chars else f"must have at most {max_chars}"
        raise InvalidInputError(f"{what} {wanted} characters, not {len(text)}")
    return text


def refuse_unsafe(text: str, what: str) -> None:
    """The same rule for text that must stay as it is, such as an event's identity: checks, changes nothing. Raises
    InvalidInputError."""
    if text.isascii() and text.isprintable():
        return
    marks = 0
    for sign in text:
        category = unicodedata.category(sign)
        if _is_refused(sign, category):
            raise InvalidInputError(
                f"{what} holds U+{ord(sign):04X}, a character that is invisible or changes how others are "
                "displayed; remove it"
            )
        marks = marks + 1 if category in ("Mn", "Me") else 0
        if marks > MARKS_MAX:
            raise InvalidInputError(f"{what} has more than {MARKS_MAX} combining marks on one letter; remove some")


def normal_form(text: str) -> str:
    """`text` in Unicode's normal form C, in which names are kept: for looking one up."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def cleaned_line(text: str, max_chars: int) -> str:
    """`text` without what `checked_line` refuses, cut at `max_chars`: for text that is worth keeping and not worth refusing,
    such as the comment of a public key."""
    kept = []
    marks = 0
    for sign in text[: 4 * max_chars]:
        category = unicodedata.category(sign)
        marks = marks + 1 if category in ("Mn", "Me") else 0
        if not _is_refused(sign, category) and marks <= MARKS_MAX:
            kept.append(_plain_space(sign))
    return unicodedata.normalize("NFC", "".join(kept))[:max_chars].strip()


def visible(text: str) -> str:
    """`text` for a terminal, a log or a page, no matter who wrote it: escape sequences, other controls, bidirectional overrides and
    what else can't be seen are spelled out (`\\x1b`, `\\u202e`) instead of obeyed. Line breaks and tabs stay."""
    if text.isascii() and text.isprintable():
        return text
    return _HIDDEN.sub(lambda found: _escaped(found[0]), text)


def visible_json(text: str) -> str:
    """JSON text with the same characters as `\\uXXXX`: harmless to look at, and the same data to anyone who parses it."""
    return _HIDDEN.sub(lambda found: _json_escaped(found[0]), text)


def _is_refused(sign: str, category: str) -> bool:
    noncharacter = ord(sign) & 0xFFFE == 0xFFFE or 0xFDD0 <= ord(sign) <= 0xFDEF
    return (category in _REFUSED_CATEGORIES and sign not in _JOINERS) or sign in _FILLERS or noncharacter


def _plain_space(sign: str) -> str:
    return " " if unicodedata.category(sign) == "Zs" else sign


def _escaped(sign: str) -> str:
    number = ord(sign)
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def _json_escaped(sign: str) -> str:
    number = ord(sign)
    if number < 0x10000:
        return f"\\u{number:04x}"
    number -= 0x10000
    return f"\\u{0xD800 + (number >> 10):04x}\\u{0xDC00 + (number & 0x3FF):04x}"


# Controls but tab and line feed; formatting characters but the joiners; line and paragraph separators; unpaired surrogates;
# noncharacters of the basic plane. A table instead of a look at each character: every line of output goes through it.
_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180e\u200b\u200e\u200f"
    "\u2028-\u202e\u2060-\u206f\ufdd0-\ufdef\ufeff\ufff9-\ufffb\ufffe\uffff\ud800-\udfff"
    "\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0001-\U000e007f]"
)
