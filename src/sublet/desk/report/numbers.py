"""What stands above the list of every number: a filter by status that needs no script, and the list as a file."""

from __future__ import annotations

import base64
import csv
import io
from html import escape

from sublet.desk.report.wording import Wording
from sublet.desk.sheet import Sheet, Status

_FORMULA_STARTS = ("=", "+", "-", "@")
"""A spreadsheet takes a cell that begins with one of these for a formula of its own."""


def tools(sheet: Sheet, w: Wording) -> str:
    """Switches for one status at a time, and a link to the numbers as CSV, which the page carries in itself."""
    present = [status for status in Status if any(value.status is status for value in sheet)]
    switches = [_switch("all", w("every status"), True)]
    switches += [_switch(str(status), w.status(status), False) for status in present]
    link = f'<a download="numbers.csv" href="data:text/csv;charset=utf-8;base64,{_encoded(sheet)}">{escape(w("Save as CSV"))}</a>'
    rules = "".join(
        f'#numbers:has(#only-{status}:checked) tr[data-status]:not([data-status="{status}"]) {{ display: none; }}'
        for status in present
    )
    return f'<style>{rules}</style><div class="filter">{"".join(switches)}{link}</div>'


def _switch(key: str, words: str, checked: bool) -> str:
    mark = " checked" if checked else ""
    return f'<input type="radio" name="only" id="only-{key}"{mark}><label for="only-{key}">{escape(words)}</label>'


def _encoded(sheet: Sheet) -> str:
    return base64.b64encode(table(sheet).encode("utf-8-sig")).decode("ascii")


def table(sheet: Sheet) -> str:
    """Every number with unit, status, source, date and formula, as CSV."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("id", "value", "unit", "status", "source", "date", "formula"))
    for value in sheet:
        if value.is_number:
            texts = (value.name, value.unit, str(value.status), value.source, value.date, value.formula)
            name, unit, status, source, dated, formula = (
                f" {text}" if text.startswith(_FORMULA_STARTS) else text for text in texts
            )
            writer.writerow((name, repr(value.number), unit, status, source, dated, formula))
    return out.getvalue()
