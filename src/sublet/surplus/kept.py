"""Which kinds of promise of a class must be earned by a record, and which record applies to a promise."""

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
    """Whether the class's promises by window are limited by what its record has earned: if it is never reclaimed and promises
    anything."""
    return policy.take_back is TakeBack.NEVER and policy.risk < 1


def kinds_of(policy: ServiceClass) -> tuple[Kind, ...]:
    """The kinds of deadline orders of a class; empty for other classes."""
    return () if policy.by_window else tuple(Kind(hours, within) for hours, within in policy.orders)


def sells(policy: ServiceClass, window_s: float) -> bool:
    """Whether windows of that length are sold by a forecast at all."""
    return policy.sell and policy.by_window and not too_long(policy, window_s)


def too_long(policy: ServiceClass, window_s: float) -> bool:
    """Whether windows of that length are sold by a forecast only if the operator enables it."""
    return budgeted(policy) and not policy.long_windows and window_s >= LONG_WINDOW_S


def record_hours(policy: ServiceClass, window_s: float) -> int:
    """The length, in hours, of the record that applies to a window: the longest offered length that is not longer, or else the
    shortest."""
    able = [length for length in policy.windows_s if length <= window_s and sells(policy, length)]
    return max(1, (able[0] if able else policy.shortest_s) // HOUR_S)


def weight(policy: ServiceClass, window_s: float) -> float:
    """How many promises of its record's length a window counts as, because a longer window is exposed for longer."""
    return max(1.0, window_s / HOUR_S / record_hours(policy, window_s))


def pace_of(policy: ServiceClass, hours: int, within: int = 0) -> Pace:
    """How fast promises of that length earn: deadline orders if `within` is set, or else windows."""
    return Kind(hours, within).pace(policy.risk) if within else firm_pace(hours, policy.risk)


def rule_name(policy: ServiceClass, patience_hours: int) -> str:
    """Identifies the rule behind a record. A record of another rule, risk or patience does not apply."""
    return f"{RULE_VERSION}:{policy.broken_per_1000_max:g}:{patience_hours}"


def promised(policy: ServiceClass) -> list[Key]:
    """Each kind of promise of the class that has a record."""
    if not policy.sell:
        return []
    if not policy.by_window:
        return [(policy.name, kind.hours, kind.within) for kind in kinds_of(policy)]
    lengths = [length // HOUR_S for length in policy.windows_s if length % HOUR_S == 0 and sells(policy, length)]
    return [(policy.name, hours, 0) for hours in lengths if budgeted(policy) and hours <= RECORD_HOURS_MAX]
