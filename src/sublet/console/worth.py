"""What the surplus is worth: what was really earned, and what would follow from other numbers."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date

from sublet.console.page import Drawn, Screen, Visit
from sublet.desk.actuals import Actuals, raw_against_managed, worth
from sublet.desk.report.actuals_page import actuals_json
from sublet.desk.whatif import Cases, what_if
from sublet.values.errors import InvalidInputError

WORTH, WHAT_IF = "/worth", "/worth/what-if"
BASES = {
    "IT": "at IT level", "facility": "at facility level", "utility": "at utility level", "unknown": "basis not stated",
}  # fmt: skip
"""At which point of the power chain a comparable counts its watts, as the page says it."""
DAYS = (7, 30, 90, 365)
DAYS_DEFAULT = 30
ASKED_MAX = 20
TEXT_MAX = 40


class Worth:
    """Two screens for people who read the books of every organization."""

    def __init__(self, actuals: Callable[[int], list[Actuals]], cases: Cases, today: Callable[[], date]) -> None:
        self._actuals, self._cases, self._today = actuals, cases, today

    def screens(self) -> tuple[Screen, ...]:
        """`/worth`, actuals by pool, channel and customer, and `/worth/what-if`, a case with sliders."""
        return (
            Screen(WORTH, "Worth", "desk:read", self._worth, everywhere=True),
            Screen(WHAT_IF, "What if", "desk:read", self._what_if, everywhere=True),
        )

    def _worth(self, visit: Visit) -> Drawn:
        text = visit.query.get("days", "")
        days = next((days for days in DAYS if str(days) == text), DAYS_DEFAULT)
        found = self._actuals(days)
        shown = [
            {**actuals_json(item, self._today()), "sentence": worth(item).sentence, "pairs": raw_against_managed(item)}
            for item in found
        ]
        return Drawn("worth.html", {"found": shown, "days": days, "choices": DAYS, "bases": BASES})

    def _what_if(self, visit: Visit) -> Drawn:
        asked = {key: visit.query[key][:TEXT_MAX] for key in list(visit.query)[:ASKED_MAX]}
        desk, error = self._cases.desk(), None
        try:
            found = what_if(desk, asked, visit.language)
        except InvalidInputError as refused:
            found, error = what_if(desk, {}, visit.language), refused
        return Drawn("what_if.html", {"found": found, "refused": error})
