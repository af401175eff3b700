"""What leases need of the rest of Sublet: each a call that `wiring` fills in. Every one runs inside the caller's transaction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from sqlalchemy import Connection

from sublet.leases.backends.engine import PLAIN, Traits
from sublet.leases.images.service import ImageSite
from sublet.leases.lifecycle.metering import UsageInterval
from sublet.leases.model import Lease, Timing
from sublet.leases.quotes.holds import HoldLimits
from sublet.leases.reclaim.victims import Occupant
from sublet.leases.volumes.model import StorageHour, VolumeLimits
from sublet.leases.waitlist.limits import WaitlistLimits
from sublet.surplus.deadlines.admission import Answer
from sublet.surplus.deadlines.book import Offer
from sublet.surplus.model import Promised, StandingBlock
from sublet.surplus.rule.patience import Waiting
from sublet.values.egress import EgressPolicy
from sublet.values.service_classes import SHIPPED, ServiceClasses
from sublet.values.windows import Window


class Sellable(Protocol):
    def __call__(self, connection: Connection, pool_id: str, class_name: str, window: Window, /) -> int:
        """How many more accelerators the surplus lets be sold, on top of the book as that very transaction sees it."""
        ...


class SellableWithNotice(Protocol):
    def __call__(self, connection: Connection, pool_id: str, class_name: str, window: Window, notice_s: int, /) -> int:
        """The same, with a notice of the tenant's own that is longer than the class's."""
        ...


def _none_with_notice(connection: Connection, pool_id: str, class_name: str, window: Window, notice_s: int, /) -> int:
    return 0


class Offers(Protocol):
    def __call__(
        self, connection: Connection, pool_id: str, class_name: str, wanted: Promised, without: str, /
    ) -> Offer:
        """Whether an order may be promised by its deadline, beside all that is promised but for the order `without`."""
        ...


class Price(Protocol):
    def __call__(
        self, connection: Connection, pool_id: str, class_name: str, window: Window, organization_id: str, /
    ) -> tuple[int, str]:
        """Nano-units per accelerator-hour and their currency, which is the organization's."""
        ...


class MayStay(Protocol):
    def __call__(self, connection: Connection, pool_id: str, window: Window, calm_s: float, /) -> int:
        """How many accelerators tenants may go on holding, replicas beyond the floors among them: as the owner's need has
        lasted, or with `calm_s` as it was at its highest of so many seconds."""
        ...


class Need(Protocol):
    def __call__(self, connection: Connection, pool_id: str, /) -> float:
        """The owner's need as it has lasted, in accelerators."""
        ...


class OwnerWaits(Protocol):
    def __call__(self, connection: Connection, pool_id: str, held: int, /) -> Waiting:
        """Who of the owner's side waits, where tenants hold so many accelerators now."""
        ...


class RoomWhileWaiting(Protocol):
    def __call__(self, connection: Connection, pool_id: str, window: Window, /) -> int:
        """How many accelerators tenants may go on holding where the pool's own demand waits for the rest."""
        ...


class BlockRooms(Protocol):
    def __call__(self, connection: Connection, pool_id: str, window: Window, /) -> Sequence[tuple[StandingBlock, int]]:
        """The blocks that cover all of the window, and how many accelerators a lease over it may have of each, as that very
        transaction sees it."""
        ...


class Occupants(Protocol):
    def __call__(self, connection: Connection, pool_id: str, /) -> Sequence[Occupant]:
        """The replicas that hold accelerators of the pool."""
        ...


class GiveNotice(Protocol):
    def __call__(self, connection: Connection, replica_id: str, reclaim_at: datetime, reason: str, /) -> None:
        """Have the replica leave by `reclaim_at`."""
        ...


class WithdrawNotice(Protocol):
    def __call__(self, connection: Connection, replica_id: str, reason: str, /) -> bool:
        """Let the replica stay; False where it was under no notice."""
        ...


class Emit(Protocol):
    def __call__(self, connection: Connection, interval: UsageInterval, /) -> None:
        """Book a usage interval. The same id again must change nothing."""
        ...


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


class PostCredit(Protocol):
    def __call__(self, connection: Connection, note: CreditNote, /) -> None:
        """Post a credit. The same id again must change nothing."""
        ...


class Authorize(Protocol):
    def __call__(self, connection: Connection, organization_id: str, total_nano: int, currency: str, /) -> None:
        """Raise a typed error where the organization may not owe so much more."""
        ...


class Reserve(Protocol):
    def __call__(self, connection: Connection, lease: Lease, key_id: str, project: str, /) -> None:
        """Reserve what the whole window of a lease that is being sold costs. Raises LimitExceededError where a budget or the
        prepaid credit has not enough left; nothing is then sold."""
        ...


class Rebook(Protocol):
    def __call__(self, connection: Connection, before: Lease, after: Lease, buyer: tuple[str, str] | None, /) -> None:
        """The terms of a lease change: what was reserved for `before` is released, and what the rest of `after` costs is
        reserved under its `hold_number`, for the same API key and project or for `buyer`. Raises LimitExceededError where a
        budget has not enough left."""
        ...


@dataclass(frozen=True, slots=True)
class Fee:
    """What a tenant owes for time of `lease` that it gives back. One per lease and `which`."""

    lease: Lease
    which: str
    amount_nano: int
    at: datetime


class Charge(Protocol):
    def __call__(self, connection: Connection, fee: Fee, /) -> None:
        """Book a fee. The same again must change nothing."""
        ...


class ProjectOf(Protocol):
    def __call__(self, connection: Connection, lease: Lease, /) -> str:
        """The project that pays for a lease; empty for the organization itself."""
        ...


class Settle(Protocol):
    def __call__(self, connection: Connection, lease: Lease, /) -> None:
        """A lease is over and all its usage is reported: what was reserved for the rest of its window is released."""
        ...


class Shareable(Protocol):
    def __call__(self, connection: Connection, pool_id: str, /) -> bool:
        """False where two organizations may not hold accelerators of the pool at the same time."""
        ...


class EngineOf(Protocol):
    def __call__(self, connection: Connection, pool_id: str, /) -> Traits:
        """What the engine that runs the pool's leases does of its own."""
        ...


def _plain_engine(connection: Connection, pool_id: str) -> Traits:
    return PLAIN


class Features(Protocol):
    def __call__(self, backend: str, /) -> frozenset[str]:
        """What leases of a backend may have beyond accelerators and SSH: `network`, `volumes`, `pauses`, `jobs`, `moves`."""
        ...


def _every_feature(backend: str, /) -> frozenset[str]:
    return frozenset({"network", "volumes", "pauses", "jobs", "images", "moves"})


class EmitStorage(Protocol):
    def __call__(self, connection: Connection, hour: StorageHour, /) -> None:
        """Book an hour of a volume. The same id again must change nothing."""
        ...


def _free_storage(connection: Connection, hour: StorageHour, /) -> None:
    return None


def _no_occupants(connection: Connection, pool_id: str) -> Sequence[Occupant]:
    return ()


def _no_notice(connection: Connection, replica_id: str, reclaim_at: datetime, reason: str) -> None:
    return None


def _nothing_to_withdraw(connection: Connection, replica_id: str, reason: str) -> bool:
    return False


def _no_blocks(connection: Connection, pool_id: str, window: Window, /) -> Sequence[tuple[StandingBlock, int]]:
    return ()


def _no_offer(connection: Connection, pool_id: str, class_name: str, wanted: Promised, without: str, /) -> Offer:
    return Offer(Answer(False, 0, "not_on_sale", "nothing is sold by a deadline here.", 0), 0.0)


def _nobody_waits(connection: Connection, pool_id: str, held: int, /) -> Waiting:
    return Waiting()


def _no_room(connection: Connection, pool_id: str, window: Window, /) -> int:
    return 0


def _no_need(connection: Connection, pool_id: str) -> float:
    return 0.0


def _reserve_nothing(connection: Connection, lease: Lease, key_id: str, project: str) -> None:
    return None


def _rebook_nothing(connection: Connection, before: Lease, after: Lease, buyer: tuple[str, str] | None) -> None:
    return None


def _charge_nothing(connection: Connection, fee: Fee) -> None:
    return None


def _no_project(connection: Connection, lease: Lease) -> str:
    return ""


def _release_nothing(connection: Connection, lease: Lease) -> None:
    return None


def _allowed(connection: Connection, organization_id: str, total_nano: int, currency: str) -> None:
    return None


def _any_key(connection: Connection, key_id: str) -> bool:
    return True


def _shared(connection: Connection, pool_id: str) -> bool:
    return True


class Remembering(Protocol):
    def __call__(self, ports: LeasePorts, /) -> LeasePorts:
        """The same calls for many questions inside one transaction that sells nothing: what they read of a pool, they read once."""
        ...


def _as_they_are(ports: LeasePorts, /) -> LeasePorts:
    return ports


@dataclass(frozen=True, slots=True)
class ModelPorts:
    """The replicas of managed models, which rent spot capacity: who is there, and how notice is given and withdrawn."""

    occupants: Occupants = _no_occupants
    give_notice: GiveNotice = _no_notice
    withdraw: WithdrawNotice = _nothing_to_withdraw


@dataclass(frozen=True, slots=True)
class LeasePorts:
    """The calls, the classes of service and the timing that one system of leases runs with.

    `class_default` is the class of a quote that names none.
    """

    sellable: Sellable
    price: Price
    may_stay: MayStay
    emit: Emit
    post_credit: PostCredit
    sellable_with_notice: SellableWithNotice = _none_with_notice
    authorize: Authorize = _allowed
    reserve: Reserve = _reserve_nothing
    settle: Settle = _release_nothing
    rebook: Rebook = _rebook_nothing
    project_of: ProjectOf = _no_project
    key_stands: Callable[[Connection, str], bool] = _any_key
    """Whether what was asked for with the key of that id may still be bought: not after it was revoked or has expired."""
    charge: Charge = _charge_nothing
    need: Need = _no_need
    waiting: OwnerWaits = _nobody_waits
    room_while_waiting: RoomWhileWaiting = _no_room
    block_rooms: BlockRooms = _no_blocks
    offer: Offers = _no_offer
    models: ModelPorts = field(default_factory=ModelPorts)
    shareable: Shareable = _shared
    egress: EgressPolicy = field(default_factory=EgressPolicy)
    features: Features = _every_feature
    emit_storage: EmitStorage = _free_storage
    volumes: VolumeLimits = field(default_factory=VolumeLimits)
    images: ImageSite = field(default_factory=ImageSite)
    holds: HoldLimits = field(default_factory=HoldLimits)
    waitlist: WaitlistLimits = field(default_factory=WaitlistLimits)
    classes: ServiceClasses = SHIPPED
    class_default: str = "notice"
    timing: Timing = field(default_factory=Timing)
    engine_of: EngineOf = _plain_engine
    remembering: Remembering = _as_they_are

    def own_notice_of(self, class_name: str, notice_s: int | None) -> int | None:
        """`notice_s`, if it is longer than the notice of that class; None if it is the class's, or the class is gone."""
        known = self.classes.get(class_name)
        if known is None or known.notice_s is None or notice_s is None or notice_s <= known.notice_s:
            return None
        return notice_s

    def keeps_notice(
        self, connection: Connection, pool_id: str, sold: tuple[str, int | None], window: Window, count: int
    ) -> bool:
        """Whether `count` more accelerators may be sold with the class and notice of `sold`. Always, for the class's own notice: that
        is what `sellable` says."""
        class_name, notice_s = sold
        own = self.own_notice_of(class_name, notice_s)
        return own is None or self.sellable_with_notice(connection, pool_id, class_name, window, own) >= count

    def timing_of(self, connection: Connection, pool_id: str) -> Timing:
        """The gaps around leases of that pool, and the patience with them."""
        return self.engine_of(connection, pool_id).timing or self.timing
