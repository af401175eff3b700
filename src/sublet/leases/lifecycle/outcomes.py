"""The outcome of a lease as a promise: kept, given back early by the tenant, broken by the owner, or failed."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row

from sublet.leases.backends.job import JOB_DONE
from sublet.leases.model import ACCELERATOR_FAILED, COMPLETED, LATE
from sublet.surplus.record.calibration import Outcome, Promise
from sublet.values.windows import Window


def promise_of(row: Row[Any]) -> Promise | None:
    """The promise of a row of `store.over_since`, or None for a lease that its tenant canceled before it began.

    A tenant who leaves during the notice period counts as evicted, because the owner's notice came first.
    """
    over_at = min(row.ended_at, row.end_at)
    if row.service_s is not None:
        outcome = {LATE: Outcome.BROKEN, COMPLETED: Outcome.KEPT}.get(row.end_reason, Outcome.RELEASED)
        if row.state == "canceled":
            return None
    elif row.reclaim_at is not None and row.reclaim_at < row.end_at:
        outcome, over_at = Outcome.BROKEN, min(over_at, row.reclaim_at)
    elif row.state == "canceled":
        return None
    elif row.end_reason in ("start_failed", "sandbox_failed", ACCELERATOR_FAILED) or row.shrunk_by:
        outcome = Outcome.FAILED
    elif row.end_reason in ("released", JOB_DONE) and row.ended_at < row.end_at:
        outcome = Outcome.RELEASED
    else:
        outcome = Outcome.KEPT
    if row.service_s is not None:
        return Promise(
            row.class_name,
            row.accelerators + row.shrunk_by + row.handed_back,
            Window(row.start_at, row.end_at),
            outcome,
            max(over_at, row.start_at),
            row.notice_s,
        )
    told_s = (row.reclaim_at - row.told_at).total_seconds() if row.told_at is not None and row.reclaim_at else None
    return Promise(
        row.class_name,
        row.accelerators + row.shrunk_by + row.handed_back,
        Window(row.start_at, row.end_at),
        outcome,
        max(over_at, row.start_at),
        row.notice_s,
        told_s,
    )
