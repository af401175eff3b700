"""What an order, the reports of its nodes and its end say together, field by field. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sublet.leases.backends.slurm.files import Final, Order, Report
from sublet.leases.backends.slurm.records import Job


def told(reports: Sequence[Report], name: str, wanted: Any) -> Any:
    """What the tenants are told: where one of the nodes does not tell what is wanted, that, so that it is told again."""
    values = [getattr(report, name) for report in reports]
    return next((value for value in values if value != wanted), wanted)


def end_reason(order: Order, reports: Sequence[Report], final: Final | None) -> str | None:
    """Why it is over: the first cause wins."""
    if final is not None:
        return final.reason
    return next((report.reason for report in reports if report.reason), order.reason or None)


def proof(reports: Sequence[Report], final: Final | None) -> bool | None:
    """Whether nothing is left on any node; None where one has not said."""
    if final is not None:
        return final.clean
    if any(report.clean is False for report in reports):
        return False
    return True if reports and all(report.clean for report in reports) else None


def trouble(reports: Sequence[Report], final: Final | None, waits: Job | None) -> str | None:
    """What went wrong, or what a job waits for."""
    if final is not None and final.error:
        return final.error
    errors = [f"{report.node}: {report.error}" for report in reports if report.error]
    if waits is not None and waits.state == "PENDING" and waits.reason not in ("None", ""):
        errors.append(f"its job waits: {waits.reason}")
    return "; ".join(errors)[:500] or None
