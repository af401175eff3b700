"""The model of budgets and of holds on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from sublet.ledger.budgets.ceilings import Ceiling, Most
from sublet.ledger.model import amount_text
from sublet.ledger.periods import month_of
from sublet.values.clock import EPOCH, format_time
from sublet.values.errors import InvalidInputError, LimitExceededError
from sublet.values.text import refuse_unsafe
from sublet.values.windows import Window

SCOPES = ("organization", "project", "key")
PERIODS = ("day", "month", "ever")
THRESHOLDS = (50, 80, 100)
THRESHOLDS_MAX = 10
LIMIT_NANO_MAX = 2**62
HOLD_S_MAX = 86_400
"""A hold lasts at most so long, or so much longer than its window."""
HOLD_WINDOW_DAYS_MAX = 3 * 366
"""As long as the longest lease: three years from a block, of which each day may be a period of a budget."""
PREPAID, CREDIT = "prepaid", "credit"
KINDS = ("budget", CREDIT)
"""Kinds that can be created; a prepaid budget comes with the first prepayment."""
_MICROSECOND = timedelta(microseconds=1)


class BudgetExceededError(LimitExceededError):
    """A hard budget would be exceeded; the message names it. Raise its limit, or wait until it resets."""

    code = "budget_exceeded"


@dataclass(frozen=True, slots=True)
class Budget:
    """A limit of `limit_nano` in each period for an organization, or for one of its projects or keys.

    A `hard` budget refuses reservations above the limit. A soft one only sends alerts. A `prepaid` budget is money paid in
    advance: its limit increases with each payment, and it never resets. The limit of a `credit` budget is on what the organization
    owes or is going to owe (`exposure`), and it never resets either.
    """

    id: str
    organization_id: str
    scope: str
    scope_id: str
    period: str
    limit_nano: int
    hard: bool
    thresholds: tuple[int, ...]
    kind: str = "budget"

    def __post_init__(self) -> None:
        if self.scope not in SCOPES or (self.scope == "organization") != (not self.scope_id):
            raise InvalidInputError("scope must be organization, or project or key with a scope_id")
        if self.period not in PERIODS:
            raise InvalidInputError(f"period {self.period!r} must be one of {', '.join(PERIODS)}")
        if not 0 <= self.limit_nano <= LIMIT_NANO_MAX:
            raise InvalidInputError("a budget's limit must be from 0 to 4.6 billion")
        if len(self.thresholds) > THRESHOLDS_MAX or any(not 0 < percent <= 1000 for percent in self.thresholds):
            raise InvalidInputError(f"thresholds are at most {THRESHOLDS_MAX} percentages from 1 to 1000")
        if self.credit and (self.scope != "organization" or self.period != "ever" or not self.hard):
            raise InvalidInputError(
                "a credit limit is hard, for the whole organization, and never resets", field="kind"
            )
        refuse_unsafe(self.scope_id, "scope_id")

    @property
    def prepaid(self) -> bool:
        return self.kind == PREPAID

    @property
    def credit(self) -> bool:
        """Whether it limits what is owed, not what is spent."""
        return self.kind == CREDIT

    def covers(self, project: str, key_id: str) -> bool:
        if self.scope == "organization":
            return True
        return self.scope_id == (project if self.scope == "project" else key_id)

    def period_start(self, moment: datetime, timezone: str) -> datetime:
        """The start of the budget's period that contains `moment`, in the organization's time zone."""
        if self.period == "ever":
            return EPOCH
        if self.period == "month":
            return month_of(moment, timezone).start
        local = moment.astimezone(ZoneInfo(timezone))
        return local.replace(hour=0, minute=0, second=0, microsecond=0).astimezone(UTC)

    def period_end(self, start: datetime, timezone: str) -> datetime | None:
        """The end of the period that starts at `start`, or None for a budget that never resets."""
        if self.period == "ever":
            return None
        if self.period == "month":
            return month_of(start, timezone).end
        local = start.astimezone(ZoneInfo(timezone)).replace(tzinfo=None) + timedelta(days=1)
        return local.replace(tzinfo=ZoneInfo(timezone)).astimezone(UTC)

    def shares(self, nano: int, span: Window | datetime, timezone: str) -> list[tuple[datetime, int]]:
        """How `nano` is divided among the budget's periods, by their starts. For a moment, all of it goes to its period. For a
        window, each period gets its share of the time, rounded up."""
        if not isinstance(span, Window):
            return [(self.period_start(span, timezone), nano)]
        found: list[tuple[datetime, int]] = []
        at = span.start
        while at < span.end:
            start = self.period_start(at, timezone)
            until = min(self.period_end(start, timezone) or span.end, span.end)
            found.append(
                (start, -(-nano * ((until - at) // _MICROSECOND) // ((span.end - span.start) // _MICROSECOND)))
            )
            at = until
        return found

    def as_dict(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "organization_id": self.organization_id,
            "scope": self.scope,
            "scope_id": self.scope_id,
            "period": self.period,
            "kind": self.kind,
            "limit": amount_text(self.limit_nano),
            "hard": self.hard,
            "thresholds": list(self.thresholds),
        }


@dataclass(frozen=True, slots=True)
class BudgetState:
    """A budget in one of its periods: what was spent (of a credit limit: what is owed or will be), and what is held for running
    work."""

    budget: Budget
    period_start: datetime
    spent_nano: int
    held_nano: int

    @property
    def free_nano(self) -> int:
        return self.budget.limit_nano - self.spent_nano - self.held_nano

    def as_dict(self) -> dict[str, Any]:
        return {
            **self.budget.as_dict(),
            "period_start": format_time(self.period_start),
            "spent": amount_text(self.spent_nano),
            "held": amount_text(self.held_nano),
            "free": amount_text(self.free_nano),
        }


@dataclass(frozen=True, slots=True)
class HoldRequest:
    """Hold the worst case of some work, until it is settled or `expires_at` has passed: `nano`, and the most that `usage`
    can cost at the prices of `at`.

    `at` (the present where it is None) is the moment of the usage, which decides the periods that it falls into. Work
    that lasts has a `window` instead: its cost falls to the periods in proportion to the time. A hold that many pieces of
    work share is for `times` as much, at the dearest prices from `at` `until`, and for only so much that `spare` times of it
    were free.
    """

    hold_id: str
    organization_id: str
    nano: int
    expires_at: datetime
    project: str = ""
    key_id: str = ""
    usage: tuple[Most, ...] = ()
    at: datetime | None = None
    window: Window | None = None
    times: int = 1
    until: datetime | None = None
    spare: int = 1


@dataclass(frozen=True, slots=True)
class Settlement:
    """The cost of a hold's work.

    If `events` is above 0, that many usage events name this hold. `nano` stays held until they are rated. Their rated amounts are
    what is spent, and they are released as they arrive. If `events` is 0, `nano` is spent at once.
    """

    hold_id: str
    nano: int
    events: int = 0


@dataclass(frozen=True, slots=True)
class HoldOutcome:
    """`error` is None if the hold was placed or settled. `overrun_nano` is the amount above what was held. For a shared hold,
    `ceiling` is the most that one piece of its work costs, and `nano` is the amount held."""

    hold_id: str
    error: Exception | None = None
    overrun_nano: int = 0
    details: Mapping[str, Any] = field(default_factory=dict)
    ceiling: Ceiling | None = None
    nano: int = 0
