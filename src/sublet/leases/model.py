"""Raw capacity sold: quotes, leases, and the states they and their accelerators go through."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from typing import Any

from sublet.leases.records import SoldWindow as SoldWindow
from sublet.leases.records import Transition as Transition
from sublet.leases.records import image_as_json
from sublet.leases.redaction import told_to_tenant as told_to_tenant
from sublet.leases.states import TERMINAL as TERMINAL
from sublet.leases.states import TRANSITIONS as TRANSITIONS
from sublet.leases.states import UNIT_STATE_OF as UNIT_STATE_OF
from sublet.leases.states import LeaseState as LeaseState
from sublet.leases.states import OnFailure as OnFailure
from sublet.leases.states import OnReclaim as OnReclaim
from sublet.leases.states import UnitState as UnitState
from sublet.leases.terms import GiveBack as GiveBack
from sublet.leases.terms import HandingBack as HandingBack
from sublet.leases.terms import Moved as Moved
from sublet.leases.terms import PlannedMove as PlannedMove
from sublet.leases.terms import PriceStep as PriceStep
from sublet.values.clock import format_time
from sublet.values.errors import ConflictError, InvalidInputError, SubletError
from sublet.values.ids import derived_id
from sublet.values.money import text_from_nano
from sublet.values.windows import Window

HOUR_S = 3600
QUOTE_S = 60
"""For how long the price of a quote stands."""
WINDOW_S_MIN = 60
FORECAST_WINDOW_S_MAX = 90 * 24 * HOUR_S
"""The longest lease that is sold without a block: further ahead nothing is known of the owner's demand."""
WINDOW_S_MAX = 3 * 366 * 24 * HOUR_S
AHEAD_S_MAX = 3 * 366 * 24 * HOUR_S
ACCELERATORS_PER_LEASE_MAX = 4096
METER_STEP_S = 60
COMPLETED, LATE = "completed", "late"
"""The end_reason of a lease with a deadline that delivered all its hours, and of one that did not."""
TURN = "turn"
ACCELERATOR_FAILED = "accelerator_failed"
"""The end_reason of a lease that ended because its accelerators failed."""


class NoCapacityError(ConflictError):
    """Not enough capacity for that window; `details.alternatives` lists what is available, smallest change first."""

    code = "no_capacity"


class QuoteExpiredError(ConflictError):
    """The quote has expired or was canceled; request a new quote and accept it before it expires."""

    code = "quote_expired"


class WrongStateError(ConflictError):
    """The lease's state does not allow this; read the lease again."""

    code = "wrong_state"


class FirmLeaseError(SubletError):
    """Only firm leases are left to reclaim; to break them at the stated penalty, repeat with force and a reason."""

    code = "firm_lease"
    status = 409


def checked_transition(before: LeaseState, after: LeaseState) -> LeaseState:
    """`after`, if `before` may lead to it. Raises WrongStateError."""
    if after not in TRANSITIONS[before]:
        raise WrongStateError(f"a lease can't change from {before} to {after}")
    return after


FORCED_NOTICE_S = 300
"""The notice that a firm lease gets when it is broken by force."""


@dataclass(frozen=True, slots=True)
class Timing:
    """The gaps around a lease in which its accelerators are nobody's, and how long things may take."""

    prepare_s: int = 0
    clean_s: int = 5
    start_grace_s: int = 600
    unreachable_s: int = 60

    def fence(self, window: Window) -> Window:
        """The sold window with the gap to prepare before it and the gap to clean after it."""
        return Window(window.start - timedelta(seconds=self.prepare_s), window.end + timedelta(seconds=self.clean_s))


@dataclass(frozen=True, slots=True)
class Quote:
    """A price that stands until `expires_at`, with capacity held until `held_until`.

    `price_nano` is per accelerator-hour and fixed for the lease."""

    id: str
    organization_id: str
    pool_id: str
    class_name: str
    notice_s: int | None
    accelerators: int
    window: Window
    price_nano: int
    currency: str
    created_at: datetime
    expires_at: datetime
    credit_ratio: Decimal = Decimal(0)
    free_s: int = 0
    held_until: datetime | None = None
    """Until when the capacity is held; None where the quote is a price alone."""
    on_failure: OnFailure = OnFailure.SHRINK
    block_id: str | None = None
    """The block that it is sold from; None where it is sold by the forecast of the owner's demand."""
    network: tuple[str, ...] = ()
    """The allow lists whose hosts the lease may reach."""
    volumes: tuple[tuple[str, str], ...] = ()
    """Ids and names of the volumes that the lease is to have."""
    service_s: int | None = None
    """Of a quote with a deadline, the end of `window`: the seconds of service of each accelerator. None for a window."""
    likely: float | None = None
    """Of a quote with a deadline: the share of possible paths on which it ends in time."""
    give_back: GiveBack = field(default_factory=GiveBack)
    """What it costs to give some of it back before it is over."""
    image: tuple[str, str, str] | None = None
    """Id, name and digest of the image that it runs on."""
    on_reclaim: OnReclaim = OnReclaim.END
    notice_rule: str = ""
    """How its own, longer notice is priced; empty for the class's notice."""

    @property
    def billable_s(self) -> int:
        """The seconds of each accelerator that are billed if all is delivered."""
        return int(self.window.seconds) if self.service_s is None else self.service_s

    @property
    def sold_from(self) -> str:
        """What stands behind the promise, for the customer."""
        if self.block_id is not None:
            return "a block that the owner has put up for sale: no forecast stands behind it"
        return "the ladder: idle capacity, by the forecast of the owner's demand"

    @property
    def total_nano(self) -> int:
        """What it costs if all of it is delivered."""
        return value_nano(self.price_nano, self.accelerators, self.billable_s)

    def as_dict(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "pool_id": self.pool_id,
            "class": self.class_name,
            "notice_s": self.notice_s,
            "accelerators": self.accelerators,
            "start": format_time(self.window.start),
            "end": format_time(self.window.end),
            "price_per_accelerator_hour": text_from_nano(self.price_nano),
            "total": text_from_nano(self.total_nano),
            "currency": self.currency,
            "credit_ratio": str(self.credit_ratio),
            "on_failure": self.on_failure.value,
            "on_reclaim": self.on_reclaim.value,
            "block_id": self.block_id,
            "sold_from": self.sold_from,
            "network": list(self.network),
            "deadline": None
            if self.service_s is None
            else {
                "service_s": self.service_s,
                "latest_start": format_time(self.window.end - timedelta(seconds=self.service_s)),
                "likely": self.likely,
            },
            "volumes": [{"id": one, "name": name} for one, name in self.volumes],
            "image": image_as_json(self.image),
            "held_until": format_time(self.held_until) if self.held_until else None,
            "expires_at": format_time(self.expires_at),
            "give_back": self.give_back.as_dict(self.window.start),
            "notice_rule": self.notice_rule,
        }


@dataclass(frozen=True, slots=True)
class Outage:
    """An accelerator of a lease did not work during `[start, end)`: it isn't billed, whatever the sandbox delivered."""

    unit_id: str
    start: datetime
    end: datetime

    def as_dict(self) -> dict[str, str]:
        return {"unit_id": self.unit_id, "start": format_time(self.start), "end": format_time(self.end)}


@dataclass(frozen=True, slots=True)
class Lease:
    """`accelerators` of a pool for a window, sold to one organization. `devices[i]` is what `unit_ids[i]` is on its node."""

    id: str
    organization_id: str
    pool_id: str
    quote_id: str
    class_name: str
    notice_s: int | None
    accelerators: int
    unit_ids: tuple[str, ...]
    devices: tuple[str, ...]
    window: Window
    price_nano: int
    currency: str
    state: LeaseState
    ssh_public_keys: tuple[str, ...]
    created_at: datetime
    credit_ratio: Decimal = Decimal(0)
    free_s: int = 0
    active_at: datetime | None = None
    ended_at: datetime | None = None
    end_reason: str | None = None
    reclaim_at: datetime | None = None
    reclaim_reason: str | None = None
    credit_nano: int = 0
    metered_until: datetime | None = None
    metered_s: int = 0
    endpoint: Mapping[str, Any] | None = None
    guarantees: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    last_error: str | None = None
    on_failure: OnFailure = OnFailure.SHRINK
    shrunk_by: int = 0
    """How many accelerators fewer it has than were sold, since they failed and none was free."""
    outages: tuple[Outage, ...] = ()
    block_id: str | None = None
    """The block that it was sold from."""
    reclaim_origin: str | None = None
    """`engine` where its engine takes it back by itself: nobody here can withdraw that. `turn` where a lease with a deadline is to
    be paused for a booking or for another lease with less slack, rather than for the owner."""
    engine: Mapping[str, Any] | None = None
    """What its engine said of it last (`plan.engines.engine_facts`)."""
    network: tuple[str, ...] = ()
    """The allow lists whose hosts it may reach."""
    volumes: tuple[tuple[str, str], ...] = ()
    """Ids and names of the volumes that it has."""
    image: tuple[str, str, str] | None = None
    """Id, name and digest of the image that it runs on."""
    traffic: Mapping[str, int] = field(default_factory=dict)
    """What went out and came in: bytes_out, bytes_in, connections, refused."""
    service_s: int | None = None
    """Of a lease with a deadline, the end of `window`: the seconds of service that were sold of each accelerator."""
    pauses: int = 0
    turned_at: datetime | None = None
    """Of a lease with a deadline: since when it runs or waits."""
    at_risk_at: datetime | None = None
    """When its tenant was told that it may be late."""
    give_back: GiveBack = field(default_factory=GiveBack)
    """What it costs to give some of it back before it is over."""
    price_steps: tuple[PriceStep, ...] = ()
    """Prices of the times that it was extended by, where they differ from `price_nano`."""
    handing_back: HandingBack | None = None
    """The accelerators that its tenant gives back at a moment to come."""
    handed_back: int = 0
    """How many accelerators its tenant has given back since it was sold."""
    fee_nano: int = 0
    """What was charged for what its tenant gave back."""
    hold_number: int = 0
    """Which of its reservations against the budgets stands: one for each time that its terms were changed."""
    hold_from_s: int = 0
    """`metered_s` when that reservation was made."""
    on_reclaim: OnReclaim = OnReclaim.END
    move: PlannedMove | None = None
    """Where it goes on when it is taken back, while it is under notice."""
    moves: tuple[Moved, ...] = ()
    name: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def device_of(self) -> dict[str, str]:
        """The devices that were sold, by their accelerators' ids."""
        return dict(zip(self.unit_ids, self.devices, strict=True))

    @property
    def sold(self) -> int:
        """How many accelerators were sold, with those that it has no longer."""
        return self.accelerators + self.shrunk_by + self.handed_back

    def held_at(self, at: datetime) -> int:
        """How many accelerators it holds at a moment of its window."""
        handing = self.handing_back
        return self.accelerators - (len(handing.unit_ids) if handing and handing.at <= at else 0)

    def price_number(self, at: datetime) -> int:
        """Which of its prices holds at a moment: 0 for the first."""
        return sum(step.start <= at for step in self.price_steps)

    def price_at(self, at: datetime) -> int:
        """Nano-units per accelerator-hour at a moment."""
        number = self.price_number(at)
        return self.price_steps[number - 1].price_nano if number else self.price_nano

    def worth(self, start: datetime, end: datetime) -> Fraction:
        """What `[start, end)` of it costs if all is delivered, in nano-units."""
        return worth(self, start, end)

    @property
    def billable_s(self) -> int:
        """The seconds of each accelerator that are billed if all is delivered."""
        return int(self.window.seconds) if self.service_s is None else self.service_s

    @property
    def waits(self) -> bool:
        """It has a deadline and holds no accelerator now."""
        return self.service_s is not None and not self.unit_ids

    @property
    def undelivered_s(self) -> int:
        """Of a lease with a deadline: the accelerator-seconds that are still to be metered; 0 of another."""
        return max(0, (self.service_s or 0) * self.sold - self.metered_s)

    @property
    def left_s(self) -> float:
        """Of a lease with a deadline: the seconds of service still to be metered on each accelerator; 0 of another."""
        return self.undelivered_s / self.sold

    def may_be_asked(self, by: datetime) -> bool:
        """Whether it could be asked to leave by then: it holds something and is not to leave by then already."""
        earlier = self.service_s is not None and self.reclaim_at is not None and self.reclaim_at > by
        return not self.waits and (self.reclaim_at is None or earlier)

    def slack_s(self, now: datetime) -> float:
        """How long a lease with a deadline could wait from `now` on and still be in time; negative where it will be late."""
        return (self.window.end - now).total_seconds() - self.left_s

    @property
    def placed_on(self) -> list[str]:
        """Where it is: as its engine picked, or the accelerators that were sold."""
        return list((self.engine or {}).get("devices") or self.devices)

    @property
    def reclaimable(self) -> bool:
        """Whether its class lets the owner take it back; any other lease is taken back by force alone."""
        return self.notice_s is not None

    @property
    def deadline(self) -> datetime:
        """When access closes: the end of the window, or earlier when it is taken back."""
        return self.window.end if self.reclaim_at is None else min(self.window.end, self.reclaim_at)

    def as_dict(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "organization_id": self.organization_id,
            "pool_id": self.pool_id,
            "quote_id": self.quote_id,
            "state": self.state.value,
            "class": self.class_name,
            "notice_s": self.notice_s,
            "accelerators": self.accelerators,
            "devices": self.placed_on,
            "start": format_time(self.window.start),
            "end": format_time(self.window.end),
            "reclaim_at": format_time(self.reclaim_at) if self.reclaim_at else None,
            "reclaim_reason": self.reclaim_reason,
            "reclaim_origin": self.reclaim_origin,
            "price_per_accelerator_hour": text_from_nano(self.price_nano),
            "currency": self.currency,
            "credit": text_from_nano(self.credit_nano),
            "accelerator_seconds": self.metered_s,
            "metered_until": format_time(self.metered_until) if self.metered_until else None,
            "created_at": format_time(self.created_at),
            "active_at": format_time(self.active_at) if self.active_at else None,
            "ended_at": format_time(self.ended_at) if self.ended_at else None,
            "end_reason": self.end_reason,
            "ssh": dict(self.endpoint) if self.endpoint and self.state.served else None,
            "doors": list((self.engine or {}).get("endpoints", ())) if self.state.served else [],
            "fenced": (self.engine or {}).get("fenced"),
            "guarantees": {name: dict(value) for name, value in self.guarantees.items()},
            "last_error": self.last_error,
            "on_failure": self.on_failure.value,
            "on_reclaim": self.on_reclaim.value,
            "move": self.move.as_dict() if self.move else None,
            "moves": [item.as_dict() for item in self.moves],
            "shrunk_by": self.shrunk_by,
            "block_id": self.block_id,
            "network": list(self.network),
            "volumes": [{"id": one, "name": name} for one, name in self.volumes],
            "image": image_as_json(self.image),
            "traffic": dict(self.traffic),
            "deadline": self._deadline_dict(),
            "name": self.name,
            "labels": dict(self.labels),
            "give_back": self.give_back.as_dict(self.window.start),
            "handing_back": self.handing_back.as_dict(self.device_of) if self.handing_back else None,
            "handed_back": self.handed_back,
            "price_steps": [step.as_dict() for step in self.price_steps],
            "fees": text_from_nano(self.fee_nano),
        }

    def _deadline_dict(self) -> dict[str, Any] | None:
        if self.service_s is None:
            return None
        return {
            "service_s": self.service_s,
            "delivered_s": self.metered_s // self.sold,
            "latest_start": format_time(self.window.end - timedelta(seconds=self.left_s)),
            "pauses": self.pauses,
            "since": format_time(self.turned_at) if self.turned_at else None,
        }

    def keys_as_dict(self) -> dict[str, Any]:
        return {"lease_id": self.id, "ssh_public_keys": list(self.ssh_public_keys)}


@dataclass(frozen=True, slots=True)
class Fence:
    """One accelerator kept for a holder, a lease or a quote: `window` is what is sold, `fenced` what nobody else may have."""

    holder_id: str
    unit_id: str
    pool_id: str
    class_name: str
    organization_id: str
    window: Window
    fenced: Window
    expires_at: datetime | None = None
    block_id: str | None = None


OWNER_NEEDS = "the owner needs the accelerators"
"""What a tenant is told of why; for what the owner needs them is the owner's own affair."""


def value_nano(price_nano: int, accelerators: int, seconds: int) -> int:
    """What `seconds` of `accelerators` are worth at `price_nano` per accelerator-hour, half to even: for showing and for
    credits. The ledger rates usage by itself."""
    return round(Fraction(price_nano * accelerators * seconds, HOUR_S))


def worth(lease: Lease, start: datetime, end: datetime) -> Fraction:
    """What `[start, end)` of a lease costs if all is delivered, in nano-units: whole seconds, each at its price, of the
    accelerators that it has then."""
    handing = lease.handing_back
    edges = [step.start for step in lease.price_steps] + ([handing.at] if handing else [])
    cuts = [start, *sorted(edge for edge in edges if start < edge < end), end]
    total = 0
    for first, last in pairwise(cuts):
        count = lease.accelerators - (len(handing.unit_ids) if handing and first >= handing.at else 0)
        total += lease.price_at(first) * count * max(0, int((last - first).total_seconds()))
    return Fraction(total, HOUR_S)


def credit_nano(lease: Lease, reclaim_at: datetime) -> int:
    """What the terms that the lease was sold with promise when the owner takes it back at `reclaim_at`, in nano-units."""
    rest = lease.worth(max(reclaim_at, lease.window.start), lease.window.end)
    credit = rest * Fraction(lease.credit_ratio)
    began = lease.active_at or lease.window.start
    if (reclaim_at - began).total_seconds() < lease.free_s:
        credit += lease.worth(began, reclaim_at)
    return round(credit)


def late_credit_nano(lease: Lease, accelerator_s: int) -> int:
    """What is owed where `accelerator_s` accelerator-seconds of a lease with a deadline are not delivered in time."""
    return round(Fraction(lease.price_nano * accelerator_s, HOUR_S) * Fraction(lease.credit_ratio))


def credit_id(lease_id: str) -> str:
    """What the credit for taking that lease back is known by: it is given once."""
    return derived_id("crd", lease_id, "reclaim")


def checked_ahead(start: datetime, now: datetime) -> datetime:
    """`start`, if anybody may plan for it now. Raises InvalidInputError."""
    if start > now + timedelta(seconds=AHEAD_S_MAX):
        raise InvalidInputError(f"start {format_time(start)} is more than three years ahead; choose an earlier one")
    return start


def checked_window(window: Window, now: datetime) -> Window:
    """`window`, if such a lease can be sold. Raises InvalidInputError."""
    if window.start < now - timedelta(seconds=METER_STEP_S):
        raise InvalidInputError(f"start {format_time(window.start)} is in the past; the time is {format_time(now)}")
    checked_ahead(window.start, now)
    if not WINDOW_S_MIN <= window.seconds <= WINDOW_S_MAX:
        raise InvalidInputError(
            f"a lease lasts {WINDOW_S_MIN} seconds to {WINDOW_S_MAX // 86400} days; "
            f"{format_time(window.start)} to {format_time(window.end)} does not"
        )
    return window
