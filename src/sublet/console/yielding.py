"""Yield: the last mix with its reasons and prices, and where what was not earned went."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sublet.console.page import Drawn, Screen, Visit

PATH = "/yield"
CAUSES = (
    ("withheld", "Withheld from sale"),
    ("load_misjudged", "Load misjudged"),
    ("unsold", "On sale, unsold"),
    ("broken", "Credits for broken promises"),
    ("priced_low", "Not the best prices"),
)
WEEKS = (4, 13, 26)
BARS_MAX = 60


class Yielding:
    """The screen of yield, for the operator and finance. `latest` is the last round's document, or None; `report` gives the weeks."""

    def __init__(self, latest: Callable[[], Mapping[str, Any] | None], report: Callable[[int], dict[str, Any]]) -> None:
        self._latest, self._report = latest, report

    def screen(self) -> Screen:
        return Screen(PATH, "Yield", "yield:read", self._show, everywhere=True)

    def _show(self, visit: Visit) -> Drawn:
        weeks = next((each for each in WEEKS if str(each) == visit.query.get("weeks", "")), WEEKS[0])
        found = self._report(weeks)["weeks"]
        return Drawn(
            "yield.html",
            {
                "round": self._latest(),
                "weeks": weeks,
                "choices": WEEKS,
                "causes": CAUSES,
                "found": [_bars(item) for item in found[:BARS_MAX]],
                "more": max(0, len(found) - BARS_MAX),
            },
        )


def _bars(item: dict[str, Any]) -> dict[str, Any]:
    """A week with the parts of its bar, in percent of what was attainable: what was realized, then each cause. A part below zero
    is not drawn; the table has it."""
    if not item["attainable"] or item["attainable"] <= 0:
        return {**item, "parts": []}
    parts, left = [], 0.0
    for name, label, amount in (
        ("realized", "Realized", item["realized"]),
        *((cause, label, item["lost"][cause]) for cause, label in CAUSES),
    ):
        share = min(100.0 - left, max(0.0, 100 * amount / item["attainable"]))
        if share > 0:
            parts.append(
                {"name": name.replace("_", "-"), "label": label, "amount": amount, "left": left, "share": share}
            )
            left += share
    return {**item, "parts": parts}
