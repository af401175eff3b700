"""The owner waits instead of taking leases back: what the plan counts and shows of it, and who is paused meanwhile. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from sublet.leases.reclaim.victims import ReclaimPlan, Victim
from sublet.surplus.rule.patience import Begun, Wait, Waiting
from sublet.values.plan import Step

COUNT_S = 60
"""What is waited for is counted at least so often, and whenever it changes."""


def wait_steps(waiting: Waiting, now: datetime) -> Iterator[Step]:
    """What is to be counted of who waits on a pool."""
    for wait in waiting.waits:
        if _due(wait, waiting.begun.get(wait.claim_id), now):
            yield _step(wait)
    for begun, kept in waiting.over:
        if not kept or begun.accelerators:
            why = "nobody waits any more" if not kept else "the need is gone, or its patience is spent"
            details = {"pool_id": begun.pool_id, "claim_id": begun.claim_id or None, "kept": kept}
            yield Step("wait_over", begun.claim_id or begun.pool_id, why, now, details)


def pending_waits(waits: Sequence[Wait]) -> Iterator[Step]:
    """Everything that waits, until when at the latest: for the plan that people read."""
    return (_step(wait) for wait in waits)


def pauses_alone(plan: ReclaimPlan | None) -> list[Victim]:
    """Of the victims of a plan, the leases whose pause breaks nothing: they make room while the owner would wait."""
    if plan is None:
        return []
    return [
        victim
        for victim in plan.victims
        if isinstance(victim, Victim) and victim.lease.service_s is not None and victim.cost.left_s == 0
    ]


def _due(wait: Wait, begun: Begun | None, now: datetime) -> bool:
    if begun is None or begun.accelerators != wait.accelerators:
        return True
    return (now - begun.counted_until).total_seconds() >= COUNT_S


def _step(wait: Wait) -> Step:
    details: dict[str, Any] = wait.as_dict()
    return Step("wait", wait.subject, wait.sentence, wait.until, details)
