"""Operations on the whole: whether it runs, what it is worth, and what it plans."""

from __future__ import annotations

from sublet.client.operation import Operation

SYSTEM: tuple[Operation, ...] = (
    Operation("system.health", "GET", "/health", answer="api:Liveness"),
    Operation("system.full_health", "GET", "/v1/health", answer="api:Health"),
    Operation("system.worth_line", "GET", "/v1/desk/worth", query=("days",), answer="api:Worth"),
    Operation("system.actuals_figures", "GET", "/v1/desk/actuals", query=("days",), answer="api:ActualFigures"),
    Operation("system.actuals_page", "GET", "/v1/desk/actuals.html", query=("days",), answer="bytes"),
    Operation("system.next_plan", "GET", "/v1/plan", answer="api:Plans"),
)
