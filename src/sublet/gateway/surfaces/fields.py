"""What becomes of the fields of a vendor's requests: the tables of the manual are made of these."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

HONORED, IGNORED, REFUSED = "honored", "ignored", "refused"


class Field(NamedTuple):
    """One field of a request: what becomes of it, and how or why."""

    name: str
    fate: str
    words: str = ""


def tables(sections: Mapping[str, Iterable[Field]]) -> str:
    """A table under each title."""
    lines: list[str] = []
    for title, fields in sections.items():
        lines += ["", f"## {title}", "", "| field | | |", "| --- | --- | --- |"]
        lines += [f"| `{item.name}` | {item.fate} | {item.words} |" for item in fields]
    return "\n".join(lines)
