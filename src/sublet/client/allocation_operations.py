"""The operations of yield."""

from __future__ import annotations

from sublet.client.operation import Operation

ALLOCATION: tuple[Operation, ...] = (
    Operation("allocation.plan", "GET", "/v1/yield", answer="allocation:YieldPlan"),
    Operation("allocation.explain", "GET", "/v1/yield/{pool}", answer="allocation:YieldWorth"),
    Operation(
        "allocation.report",
        "GET",
        "/v1/yield-report",
        query=("weeks", "pool"),
        answer="allocation:YieldReport",
    ),
    Operation(
        "allocation.read_chargeback",
        "GET",
        "/v1/chargeback",
        query=("month", "basis"),
        answer="allocation:Chargeback",
    ),
    Operation(
        "allocation.export_chargeback",
        "GET",
        "/v1/chargeback/export",
        query=("month", "basis", "format"),
        answer="bytes",
    ),
)
