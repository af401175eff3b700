"""Where each number of a case stands in the workbook, and the ranges over which its lists are calculated."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from sublet.desk.sheet import Value
from sublet.desk.terms import Term, evaluate, spreadsheet_formula

LISTS = "Lists"
"""The sheet for lists whose elements don't stand in one column of their own: each element is a formula there."""

_PLACE = re.compile(r"('?[\w ]+'?)!\$([A-Z]+)\$(\d+)")


class Cells:
    """The cells of given and derived numbers. Lists that are met while formulas are written are collected in `lists`."""

    def __init__(self, given: Sequence[Value], derived: Sequence[Value]) -> None:
        self._cells = {value.name: f"Inputs!$B${row}" for row, value in enumerate(given, start=2)}
        self._cells |= {value.name: f"Values!$B${row}" for row, value in enumerate(derived, start=2)}
        self.lists: list[tuple[str, float] | None] = []
        """Formula and value of each cell of the sheet Lists from its second row; None is a gap between two lists."""
        self._known: dict[tuple[str, ...], str] = {}

    def __getitem__(self, name: str) -> str:
        return self._cells[name]

    def formula(self, term: Term, moved: Mapping[str, tuple[str, float]] | None = None) -> str:
        """A term as a spreadsheet formula; `moved` gives the cells that stand in for some values, and the numbers in them."""
        cells = {name: cell for name, (cell, _) in (moved or {}).items()}
        return self._formula(term, self._cells | cells, {name: number for name, (_, number) in (moved or {}).items()})

    def _formula(self, term: Term, places: Mapping[str, str], numbers: Mapping[str, float]) -> str:
        return spreadsheet_formula(term, places.__getitem__, lambda terms: self._range(terms, places, numbers))

    def _range(self, terms: Sequence[Term], places: Mapping[str, str], numbers: Mapping[str, float]) -> str:
        formulas = tuple(self._formula(term, places, numbers) for term in terms)
        found = [_PLACE.fullmatch(formula) for formula in formulas]
        if all(found):
            sheets = {(place[1], place[2]) for place in found if place}
            rows = [int(place[3]) for place in found if place]
            if len(sheets) == 1 and rows == list(range(rows[0], rows[0] + len(rows))):
                return f"{formulas[0]}:{formulas[-1].partition('!')[2]}"
        if formulas not in self._known:
            first = len(self.lists) + 2
            values = [float(evaluate(term, dict(numbers), {})) for term in terms]
            self.lists += list(zip(formulas, values, strict=True))
            self._known[formulas] = f"{LISTS}!$B${first}:$B${first + len(formulas) - 1}"
            self.lists.append(None)
        return self._known[formulas]
