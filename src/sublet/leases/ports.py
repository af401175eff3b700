"""What leases need of the rest of Sublet, as calls that the application hands in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Connection

from sublet.leases.lifecycle.metering import UsageInterval
from sublet.leases.model import Lease, Timing
from sublet.leases.quotes.holds import HoldLimits
from sublet.leases.reclaim.victims import Occupant
from sublet.values.service_classes import SHIPPED, ServiceClasses
from sublet.values.windows import Window

Sellable = Callable[[Connection, str, str, Window], int]
"""(connection, pool_id, class_name, window) to how many more accelerators the surplus lets be sold, on top of the book as
that very transaction sees it."""

Price = Callable[[Connection, str, str, Window, str], tuple[int, str]]
"""(connection, pool_id, class_name, window, organization_id) to nano-units per accelerator-hour and their currency, which is
the organization's."""

MayStay = Callable[[Connection, str, Window, float], int]
"""(connection, pool_id, window, calm_s) to how many accelerators tenants may go on holding, replicas beyond the floors among
them: as the owner's need has lasted, or with `calm_s` as it was at its highest of so many seconds."""

Need = Callable[[Connection, str], float]
"""(connection, pool_id) to the owner's need as it has lasted, in accelerators."""


def _no_occupants(connection: Connection, pool_id: str) -> Sequence[Occupant]:
    return ()


def _no_notice(connection: Connection, replica_id: str, reclaim_at: datetime, reason: str) -> None:
    return None


def _nothing_to_withdraw(connection: Connection, replica_id: str, reason: str) -> bool:
    return False


@dataclass(frozen=True, slots=True)
class ModelPorts:
    """The replicas of managed models, which rent spot capacity: who is there, and how notice is given and withdrawn."""

    occupants: Callable[[Connection, str], Sequence[Occupant]] = _no_occupants
    give_notice: Callable[[Connection, str, datetime, str], None] = _no_notice
    withdraw: Callable[[Connection, str, str], bool] = _nothing_to_withdraw


def _no_need(connection: Connection, pool_id: str) -> float:
    return 0.0


Emit = Callable[[Connection, UsageInterval], None]
"""Book a usage interval. The same id again must change nothing."""


@dataclass(frozen=True, slots=True)
class CreditNote:
    """What the owner owes the customer for taking a lease back. One per lease: `id` follows from the lease."""

    id: str
    lease_id: str
    organization_id: str
    amount_nano: int
    currency: str
    reason: str
    at: datetime


PostCredit = Callable[[Connection, CreditNote], None]
"""Post a credit. The same id again must change nothing."""

Authorize = Callable[[Connection, str, int, str], None]
"""(connection, organization_id, total_nano, currency): raise a typed error where the organization may not owe so much more."""


Reserve = Callable[[Connection, Lease, str, str], None]
"""(connection, lease, key_id, project): put by what the whole window of a lease that is being sold costs. Raises
LimitExceededError where a budget or the prepaid credit has not enough left; nothing is then sold."""

Settle = Callable[[Connection, Lease], None]
"""A lease is over and all its usage is told: what was put by for the rest of its window is free again."""


def _reserve_nothing(connection: Connection, lease: Lease, key_id: str, project: str) -> None:
    return None


def _release_nothing(connection: Connection, lease: Lease) -> None:
    return None


def _allowed(connection: Connection, organization_id: str, total_nano: int, currency: str) -> None:
    return None


def _shared(connection: Connection, pool_id: str) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class LeasePorts:
    """The calls, the classes of service and the timing that one system of leases runs with.

    `shareable(connection, pool_id)` is False where two organizations may not hold accelerators of the pool at the same time.
    `class_default` is the class of a quote that names none.
    """

    sellable: Sellable
    price: Price
    may_stay: MayStay
    emit: Emit
    post_credit: PostCredit
    authorize: Authorize = _allowed
    reserve: Reserve = _reserve_nothing
    settle: Settle = _release_nothing
    need: Need = _no_need
    models: ModelPorts = field(default_factory=ModelPorts)
    shareable: Callable[[Connection, str], bool] = _shared
    holds: HoldLimits = field(default_factory=HoldLimits)
    classes: ServiceClasses = SHIPPED
    class_default: str = "notice"
    timing: Timing = field(default_factory=Timing)
