"""The first page: every pool over time, leases, models, money, the next plan."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from sublet.console import chart
from sublet.console.budgets import draw_budget
from sublet.console.model import ROWS_MAX, Overview
from sublet.console.page import Page

REFRESH_S = 5


def overview_page(gather: Callable[[], Overview]) -> Page:
    def drawn(query: Mapping[str, str]) -> Mapping[str, object]:
        view = gather()
        charts = {pool.id: chart.draw(pool, view.as_of) for pool in view.pools[:ROWS_MAX]}
        budgets = [draw_budget(item) for item in view.budgets.rows] if view.budgets else []
        return {"view": view, "charts": charts, "budgets": budgets}

    return Page("/", "Overview", "overview.html", REFRESH_S, drawn)
