"""The states that leases and their accelerators go through."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class LeaseState(StrEnum):
    """The life of a lease. Nothing is billed before ACTIVE, nor for time in which the tenant could not log in.

    PAUSED is for leases with a deadline alone: nothing runs, its accelerators are free, and its home directory is kept.
    """

    REQUESTED = "requested"
    SCHEDULED = "scheduled"
    PREPARING = "preparing"
    ACTIVE = "active"
    DEGRADED = "degraded"
    NOTICE = "notice"
    PAUSED = "paused"
    ENDING = "ending"
    ENDED = "ended"
    REJECTED = "rejected"
    CANCELED = "canceled"
    FAILED = "failed"

    @property
    def terminal(self) -> bool:
        return self in TERMINAL

    @property
    def served(self) -> bool:
        """Whether the tenant has access."""
        return self in (LeaseState.ACTIVE, LeaseState.DEGRADED, LeaseState.NOTICE)


_S = LeaseState
TERMINAL = frozenset({_S.ENDED, _S.REJECTED, _S.CANCELED, _S.FAILED})
TRANSITIONS: Mapping[LeaseState, frozenset[LeaseState]] = {
    _S.REQUESTED: frozenset({_S.SCHEDULED, _S.REJECTED}),
    _S.SCHEDULED: frozenset({_S.PREPARING, _S.ENDING, _S.CANCELED, _S.FAILED}),
    _S.PREPARING: frozenset({_S.ACTIVE, _S.PAUSED, _S.ENDING, _S.FAILED, _S.CANCELED}),
    _S.ACTIVE: frozenset({_S.DEGRADED, _S.NOTICE, _S.PAUSED, _S.ENDING}),
    _S.DEGRADED: frozenset({_S.ACTIVE, _S.NOTICE, _S.PAUSED, _S.ENDING}),
    _S.NOTICE: frozenset({_S.ACTIVE, _S.DEGRADED, _S.PAUSED, _S.ENDING}),
    _S.PAUSED: frozenset({_S.PREPARING, _S.ENDING}),
    _S.ENDING: frozenset({_S.ENDED}),
    **{state: frozenset() for state in TERMINAL},
}


class OnFailure(StrEnum):
    """What happens to a running lease if an accelerator fails, as its tenant chose in the quote."""

    REPLACE = "replace"
    SHRINK = "shrink"
    END = "end"


class OnReclaim(StrEnum):
    """What happens to a lease that the owner reclaims, as its tenant chose in the quote: it ends, or it moves to another pool
    of the same generation with enough capacity."""

    END = "end"
    MOVE = "move"


class UnitState(StrEnum):
    """The life of an accelerator. Only a FREE one, or one FENCED for that very lease, may be handed out."""

    FREE = "free"
    FENCED = "fenced"
    PREPARING = "preparing"
    LEASED = "leased"
    DRAINING = "draining"
    SCRUBBING = "scrubbing"
    QUARANTINED = "quarantined"


UNIT_STATE_OF: Mapping[LeaseState, UnitState] = {
    _S.REQUESTED: UnitState.FENCED,
    _S.SCHEDULED: UnitState.FENCED,
    _S.PREPARING: UnitState.PREPARING,
    _S.ACTIVE: UnitState.LEASED,
    _S.DEGRADED: UnitState.LEASED,
    _S.NOTICE: UnitState.DRAINING,
    _S.ENDING: UnitState.SCRUBBING,
}
"""What an accelerator is while its lease is in that state; after a terminal state it is free or quarantined."""
