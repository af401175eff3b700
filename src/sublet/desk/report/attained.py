"""What pools could have earned, as a section of the page of actuals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sublet.desk.report.blocks import Cell, Paragraph, Section, TableBlock

WEEKS_SHOWN_MAX = 100
CAUSES = {
    "withheld": "withheld",
    "load_misjudged": "load misjudged",
    "unsold": "unsold",
    "broken": "broken",
    "priced_low": "priced low",
}


def attained_section(weeks: Sequence[Mapping[str, Any]]) -> Section:
    """The weeks of the yield report (`/v1/yield-report`), newest first; a week that nobody could value shows what was earned."""
    shown = weeks[:WEEKS_SHOWN_MAX]
    rows: list[tuple[Cell, ...]] = [
        (
            f"{item['pool']}, week of {item['week'][:10]}, {item['currency']}",
            _shown(item["realized"]),
            _shown(item["attainable"]),
            "unknown" if item["share"] is None else f"{item['share']:.0%}",
            *(_shown((item["lost"] or {}).get(cause)) for cause in CAUSES),
        )
        for item in shown
    ]
    columns = ("pool and week", "realized", "attainable", "share", *(f"lost: {words}" for words in CAUSES.values()))
    caption = (
        "After credits and energy, against each hour's best use in hindsight. The causes add up to the difference."
    )
    table = TableBlock(columns, tuple(rows), caption)
    blocks = (table,) if rows else (Paragraph("No hour of this window is booked yet."),)
    return Section(
        "attained", "Realized against attainable", "What pools could have earned, and where the rest went.", blocks
    )


def _shown(value: float | None) -> str:
    return "unknown" if value is None else f"{round(value, 2) + 0.0:,.2f}"
