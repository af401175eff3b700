"""Which kinds of promise a class of service makes that a record has to earn, and which record speaks for which promise."""

from __future__ import annotations

from sublet.surplus.budget import Pace
from sublet.surplus.deadlines.kinds import Kind
from sublet.surplus.terms import RULE_VERSION, firm_pace
from sublet.values.service_classes import HOUR_S, ServiceClass, TakeBack

LONG_WINDOW_S = 12 * HOUR_S
"""Windows so long and longer that can't be taken back fail on fleets that nobody knows yet: no forecast is sold on for them
unless the operator asks for it."""

RECORD_HOURS_MAX = 7 * 24

Key = tuple[str, int, int]
"""A class, a length in hours, and the hours until the deadline: 0 for windows that can't be taken back."""


def budgeted(policy: ServiceClass) -> bool:
    """Whether what the class promises by windows is bounded by what its record has earned: where it is never taken back and
    promises anything."""
    return policy.take_back is TakeBack.NEVER and policy.risk < 1


def kinds_of(policy: ServiceClass) -> tuple[Kind, ...]:
    """The deadline orders of a class that may be paused until a deadline; none of other classes."""
    return () if policy.by_window else tuple(Kind(hours, within) for hours, within in policy.orders)


def sells(policy: ServiceClass, window_s: float) -> bool:
    """Whether windows so long are sold by a forecast at all."""
    return policy.sell and policy.by_window and not too_long(policy, window_s)


def too_long(policy: ServiceClass, window_s: float) -> bool:
    """Whether no forecast is sold on for so long unless the operator asks for it."""
    return budgeted(policy) and not policy.long_windows and window_s >= LONG_WINDOW_S


def record_hours(policy: ServiceClass, window_s: float) -> int:
    """The length, in hours, whose record speaks for a window: the longest on offer that is no longer, else the shortest."""
    able = [length for length in policy.windows_s if length <= window_s and sells(policy, length)]
    return max(1, (able[0] if able else policy.shortest_s) // HOUR_S)


def weight(policy: ServiceClass, window_s: float) -> float:
    """How many promises of its record's length a window counts as: a longer one is exposed for longer."""
    return max(1.0, window_s / HOUR_S / record_hours(policy, window_s))


def pace_of(policy: ServiceClass, hours: int, within: int = 0) -> Pace:
    """How fast promises of so many hours earn: orders of that kind with `within`, else windows."""
    return Kind(hours, within).pace(policy.risk) if within else firm_pace(hours, policy.risk)


def rule_name(policy: ServiceClass, patience_hours: int) -> str:
    """What a record is of: one made by another rule, at another risk or patience says nothing about this one."""
    return f"{RULE_VERSION}:{policy.broken_per_1000_max:g}:{patience_hours}"


def promised(policy: ServiceClass) -> list[Key]:
    """Each kind of promise of the class that has a record."""
    if not policy.sell:
        return []
    if not policy.by_window:
        return [(policy.name, kind.hours, kind.within) for kind in kinds_of(policy)]
    lengths = [length // HOUR_S for length in policy.windows_s if length % HOUR_S == 0 and sells(policy, length)]
    return [(policy.name, hours, 0) for hours in lengths if budgeted(policy) and hours <= RECORD_HOURS_MAX]
