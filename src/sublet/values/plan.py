"""A plan: what a planner decided, in an order that an executor can carry out and a person can read and diff."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from sublet.values.clock import format_time, parse_time

LAST = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do. `kind` names an executor's method, `subject` the object's id, `reason` says why in a sentence."""

    kind: str
    subject: str
    reason: str
    at: datetime | None = None
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, str]:
        """What makes two steps the same step: a diff compares by it."""
        return (self.kind, self.subject)

    def as_dict(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "subject": self.subject,
            "reason": self.reason,
            "at": format_time(self.at) if self.at else None,
            "details": self.details,
        }


@dataclass(frozen=True, slots=True)
class Plan:
    """Steps in order, made at one moment from one view of the world.

    `pending` are the changes that wait: for their time, for room, or for somebody else. They are shown, not carried out.
    """

    made_at: datetime
    steps: tuple[Step, ...]
    pending: tuple[Step, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        return {
            "made_at": format_time(self.made_at),
            "steps": [step.as_dict() for step in self.steps],
            "pending": [step.as_dict() for step in self.pending],
        }


def plan_from_dict(told: dict[str, Any]) -> Plan:
    """The plan that `as_dict` gave. Raises KeyError, TypeError or InvalidInputError for anything else."""
    steps, pending = (
        tuple(
            Step(
                str(step["kind"]),
                str(step["subject"]),
                str(step["reason"]),
                parse_time(str(step["at"])) if step["at"] else None,
                dict(step["details"]),
            )
            for step in found
        )
        for found in (told["steps"], told.get("pending", []))
    )
    return Plan(parse_time(str(told["made_at"])), steps, pending)


def in_time(steps: Iterable[Step], limit: int) -> tuple[Step, ...]:
    """At most `limit` steps: those that wait for no time first, then in the order of their times."""
    order = sorted(steps, key=lambda step: (step.at is not None, step.at or LAST, step.kind, step.subject))
    return tuple(order[:limit])


def diff(before: Plan, after: Plan) -> list[str]:
    """Lines that turn `before` into `after`: `+` new, `-` gone, `~` same step with other details."""
    old = {step.key: step for step in (*before.pending, *before.steps)}
    new = {step.key: step for step in (*after.pending, *after.steps)}
    lines = [f"- {kind} {subject}: {old[kind, subject].reason}" for kind, subject in old if (kind, subject) not in new]
    for key, step in new.items():
        if key not in old:
            lines.append(f"+ {step.kind} {step.subject}: {step.reason}")
        elif old[key] != step:
            lines.append(f"~ {step.kind} {step.subject}: {step.reason}")
    return lines
