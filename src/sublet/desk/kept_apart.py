"""Statements that their own rows keep apart: `not_with`, for the whole of a row and for its parts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

_NAMED = re.compile(r"\b([a-z]\d\d[a-z]?)(?:-([a-z]\d\d))?\b")
_PARTS = ("low", "high", "recomputed")


def named_in(not_with: Sequence[str]) -> tuple[str, ...]:
    """The ids in a row's `not_with`, with ranges such as b04-b06 spelled out: a text that is an id, or that holds short ones."""
    found = [*not_with]
    for first, last in _NAMED.findall(" ".join(not_with)):
        if last:
            found += [f"{first[0]}{number:02d}" for number in range(int(first[1:3]), int(last[1:3]) + 1)]
        else:
            found.append(first)
    return tuple(dict.fromkeys(found))


class KeptApart:
    """Which statements must not be combined. An end of a row's range and an item of its list stand for the whole row."""

    def __init__(self) -> None:
        self._apart: dict[str, frozenset[str]] = {}
        self._rows: set[str] = set()

    def add(self, row: str, not_with: Sequence[str]) -> None:
        """A row and its `not_with`."""
        self._rows.add(row)
        self._apart[row] = frozenset(named_in(not_with))

    def between(self, left: Iterable[str], right: Iterable[str]) -> tuple[str, str] | None:
        """Two rows, one on each side, of which the first says not to combine it with the second."""
        sides = (frozenset(map(self._row_of, left)), frozenset(map(self._row_of, right)))
        for one, other in (sides, sides[::-1]):
            for row in sorted(one & self._apart.keys()):
                met = (self._apart[row] & other) - {row}
                if met:
                    return row, min(met)
        return None

    def within(self, names: Iterable[str]) -> tuple[str, str] | None:
        """Two rows among `names` that must not be combined."""
        listed = tuple(names)
        return self.between(listed, listed)

    def _row_of(self, name: str) -> str:
        stem, _, part = name.rpartition(".")
        is_part = part in _PARTS or part.isdigit()
        return stem if is_part and stem in self._rows and name not in self._rows else name
