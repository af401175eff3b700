"""The operations of yield."""

from __future__ import annotations

from sublet.client.operation import Operation

ALLOCATION: tuple[Operation, ...] = (
    Operation("allocation.plan", "GET", "/v1/yield", answer="allocation:YieldPlan"),
    Operation("allocation.explain", "GET", "/v1/yield/{pool}", answer="allocation:YieldWorth"),
)
