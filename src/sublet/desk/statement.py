"""What was earned in one currency, all of it, and how it reconciles with the journal to the billionth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sublet.values.money import decimal_from_nano

REVENUE = ("leases", "models", "energy", "fees", "commitments")
"""The parts of a statement that customers are billed for."""


@dataclass(frozen=True, slots=True)
class Statement:
    """Everything that was earned in a window, in billionths of the currency.

    `parts` has usage by product, by the time of its use, and the rest by the time of its booking: fees, commitments, what
    expired unused, rounding and, below zero, what was credited. `journal_nano` is what the journal's accounts of income
    and expense have in the window; `moved` says by how much it differs, and why.
    """

    currency: str
    parts: Mapping[str, int] = field(default_factory=dict)
    journal_nano: int = 0
    moved: Mapping[str, int] = field(default_factory=dict)
    unrated: int = 0
    """Usage events that wait for a price or for what they correct: they are in neither total."""

    @property
    def total_nano(self) -> int:
        return sum(self.parts.values())

    @property
    def revenue_nano(self) -> int:
        """What customers are billed for, before credits."""
        return sum(self.parts.get(name, 0) for name in REVENUE)

    @property
    def unexplained_nano(self) -> int:
        """What no reason accounts for: anything but 0 is a fault in the books."""
        return self.journal_nano - self.total_nano - sum(self.moved.values())

    @property
    def sentence(self) -> str:
        """Whether it reconciles, in words."""
        difference = self.journal_nano - self.total_nano
        moved = f"The journal differs by {_text(difference)} {self.currency}"
        if not difference and not self.unexplained_nano:
            found = "The total is what the journal has, to the billionth."
        elif self.unexplained_nano:
            found = f"{moved}, of which {_text(self.unexplained_nano)} can't be explained: run `sublet ledger prove`."
        else:
            found = f"{moved}, for the reasons above and no others."
        if self.unrated:
            found += f" {self.unrated:,} usage events that wait to be priced are in neither."
        return found

    def as_dict(self) -> dict[str, Any]:
        """Amounts as exact decimal strings in major units."""
        return {
            "currency": self.currency,
            "parts": {name: _text(nano) for name, nano in self.parts.items()},
            "total": _text(self.total_nano),
            "moved": {reason: _text(nano) for reason, nano in self.moved.items()},
            "journal": _text(self.journal_nano),
            "unexplained": _text(self.unexplained_nano),
            "unrated_events": self.unrated,
            "sentence": self.sentence,
        }

    def rows(self) -> list[tuple[str, str]]:
        """Its lines in the order of reading, each with its exact amount."""
        return [
            *((name, _text(nano)) for name, nano in self.parts.items()),
            ("total", _text(self.total_nano)),
            *((reason, _text(nano)) for reason, nano in self.moved.items()),
            ("journal", _text(self.journal_nano)),
        ]


def _text(nano: int) -> str:
    return format(decimal_from_nano(nano), "f")
