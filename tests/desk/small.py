"""The beginning of a small case, for tests that need one of their own."""

from __future__ import annotations

import json
from collections.abc import Sequence


def head(results: Sequence[str] = (), **sources: str) -> str:
    """The case and its sources: the date of each by its name; `s`, of the day before the case, where none is named."""
    lines = [
        "",
        "[case]",
        'name = "t"',
        'title = "T"',
        'owner = "O"',
        "as_of = 2026-07-02",
        'version = "1"',
        'summary = "s"',
    ]
    lines.append(f"results = {json.dumps([*results])}")
    for name, date in (sources or {"s": "2026-07-01"}).items():
        lines += [f"[sources.{name}]", f'title = "{name.capitalize()}"', f"date = {date}"]
    return "\n".join([*lines, ""])
