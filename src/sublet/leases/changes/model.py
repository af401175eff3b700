"""What can be changed of a lease, and what the change costs or saves. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from fractions import Fraction
from typing import Any

from sublet.leases.model import (
    WINDOW_S_MIN,
    HandingBack,
    Lease,
    LeaseState,
    NoCapacityError,
    PriceStep,
    WrongStateError,
)
from sublet.values.clock import format_time
from sublet.values.errors import ConflictError, InvalidInputError
from sublet.values.money import price_from_nano, text_from_nano
from sublet.values.text import checked_line

NAME_MAX = 80
LABELS_MAX = 16
LABEL_KEY_MAX, LABEL_VALUE_MAX = 40, 80
CHANGES_MAX = 1_000
"""Changes of one lease: each stays in its history, and keeps a reservation of its own."""
PRICE_STEPS_MAX = 64
"""Prices that one lease may have had; an extension beyond is a new lease."""
NOT_BEGUN = (LeaseState.SCHEDULED,)


class ExtensionRefusedError(NoCapacityError):
    """The lease can't be extended that far; `details.longest_end` is the latest end that can be had, null for none."""

    code = "extension_refused"


class PriceChangedError(ConflictError):
    """The price is higher than the most that you would pay; look at the change again and repeat it with the new price."""

    code = "price_changed"


class ChangeKind(StrEnum):
    """What a change does to a lease."""

    EXTEND = "extend"
    SHORTEN = "shorten"
    SHRINK = "shrink"
    MOVE = "move"
    END = "end"
    CANCEL = "cancel"


@dataclass(frozen=True, slots=True)
class ChangeRequest:
    """One change: another `end`, fewer `accelerators` from `at` on (now if None) without `devices` (the last ones if empty), or
    another `project`. `most_nano` is the most that an accelerator-hour of an extension may cost."""

    end: datetime | None = None
    accelerators: int | None = None
    at: datetime | None = None
    devices: tuple[str, ...] = ()
    project: str | None = None
    most_nano: int | None = None

    def kind_for(self, lease: Lease) -> ChangeKind:
        """Raises InvalidInputError where it is none or several at once."""
        asked = [name for name in ("end", "accelerators", "project") if getattr(self, name) is not None]
        if len(asked) != 1:
            raise InvalidInputError("change one thing at a time: end, accelerators, or project")
        if (self.at is not None or self.devices) and asked != ["accelerators"]:
            raise InvalidInputError("at and devices are for fewer accelerators", field="at")
        if self.project is not None:
            return ChangeKind.MOVE
        if self.accelerators is not None:
            return ChangeKind.SHRINK
        if self.end == lease.window.end:
            raise InvalidInputError(f"the lease ends at {format_time(lease.window.end)} already", field="end")
        assert self.end is not None
        return ChangeKind.EXTEND if self.end > lease.window.end else ChangeKind.SHORTEN


@dataclass(frozen=True, slots=True)
class LeaseChange:
    """A change and what it comes to. `lease` is the lease as it will be; `costs` and `saves` are the price of the time that comes
    and goes, `fee` what giving it back costs, in nano-units."""

    kind: ChangeKind
    before: Lease
    lease: Lease
    price_nano: int
    costs: Fraction = Fraction(0)
    saves: Fraction = Fraction(0)
    fee_nano: int = 0
    restarts: bool = False
    project: str | None = None
    given: tuple[str, ...] = ()
    at: datetime | None = None

    @property
    def sentence(self) -> str:
        """What happens, and by which price rule."""
        name, currency = self.before.id, self.before.currency
        if self.kind is ChangeKind.EXTEND:
            return (
                f"{name} goes on until {format_time(self.lease.window.end)} on the same accelerators. The added time costs "
                f"{price_from_nano(self.price_nano)} {currency} per accelerator-hour, today's price; the time until "
                f"{format_time(self.before.window.end)} keeps its own."
            )
        if self.kind is ChangeKind.MOVE:
            whose = f"project {self.project!r}" if self.project else "no project"
            return f"From now on {name} counts for {whose}: its usage, and what its rest may cost. Its price stays."
        rule = self.before.give_back.sentence
        fee = f" This costs {price_from_nano(self.fee_nano)} {currency}." if self.fee_nano else " This costs nothing."
        if self.kind is ChangeKind.SHRINK:
            gone = len(self.given)
            again = " It restarts then with its home directory: what runs on it ends." if self.restarts else ""
            when = format_time(self.at) if self.at else "now on"
            return (
                f"{name} gives back {gone} of {self.before.accelerators} accelerators from {when}.{again} {rule}{fee}"
            )
        what = {
            ChangeKind.SHORTEN: f"{name} ends at {format_time(self.lease.window.end)}",
            ChangeKind.END: f"{name} ends now and everything on it is deleted; what was delivered is billed to the second",
            ChangeKind.CANCEL: f"{name} is canceled before it begins",
        }[self.kind]
        return f"{what}. {rule}{fee}"

    def as_dict(self) -> dict[str, Any]:
        """Amounts are exact decimals as text."""
        devices = self.before.device_of
        return {
            "kind": self.kind.value,
            "lease_id": self.before.id,
            "accelerators": self.before.accelerators - len(self.given),
            "start": format_time(self.before.window.start),
            "end": format_time(self.lease.window.end),
            "at": format_time(self.at) if self.at else None,
            "devices": [devices[unit] for unit in self.given],
            "project": self.project,
            "price_per_accelerator_hour": text_from_nano(self.price_nano),
            "costs": text_from_nano(round(self.costs)),
            "saves": text_from_nano(round(self.saves)),
            "fee": text_from_nano(self.fee_nano),
            "currency": self.before.currency,
            "restarts": self.restarts,
            "sentence": self.sentence,
        }


def checked_name(name: str) -> str:
    """A lease's name, in any script. Raises InvalidInputError."""
    return checked_line(name, "name", NAME_MAX)


def checked_labels(labels: Iterable[tuple[str, str]]) -> dict[str, str]:
    """A lease's labels, in any script and in the order of their keys. Raises InvalidInputError."""
    checked: dict[str, str] = {}
    for key, value in labels:
        key = checked_line(key, "a label's key", LABEL_KEY_MAX, 1)
        if key in checked:
            raise InvalidInputError(f"label {key!r} is given twice; a lease has each label once", field="labels")
        checked[key] = checked_line(value, "a label's value", LABEL_VALUE_MAX)
        if len(checked) > LABELS_MAX:
            raise InvalidInputError(f"a lease has at most {LABELS_MAX} labels", field="labels")
    return dict(sorted(checked.items()))


def refuse_change(lease: Lease, kind: ChangeKind) -> None:
    """Raises WrongStateError where nothing of the lease can be changed that way, InvalidInputError where it has no window."""
    if lease.state.terminal or lease.state is LeaseState.ENDING or lease.end_reason is not None:
        raise WrongStateError(f"lease {lease.id} is {lease.state}; nothing of it can be changed any more")
    if kind is ChangeKind.MOVE:
        return
    if lease.service_s is not None:
        raise InvalidInputError("a lease with a deadline runs by its own plan; end it, or order more hours")
    if lease.reclaim_at is not None:
        raise WrongStateError(f"lease {lease.id} is under notice: it ends at {format_time(lease.reclaim_at)}")
    if lease.handing_back is not None and kind is not ChangeKind.SHORTEN:
        raise WrongStateError(
            f"lease {lease.id} gives back accelerators at {format_time(lease.handing_back.at)}; change it after that"
        )


def shortened(lease: Lease, end: datetime, now: datetime) -> LeaseChange:
    """To an earlier end. Raises InvalidInputError where that leaves less than the shortest lease, or is over."""
    least = max(now, lease.window.start)
    if end <= now or (end - least).total_seconds() < WINDOW_S_MIN:
        raise InvalidInputError(
            f"end must be {WINDOW_S_MIN} seconds or more after {format_time(least)}; to give all of it back, end the lease",
            field="end",
        )
    worth = lease.worth(end, lease.window.end)
    handing = lease.handing_back if lease.handing_back and lease.handing_back.at < end else None
    after = replace(
        lease,
        window=replace(lease.window, end=end),
        price_steps=tuple(step for step in lease.price_steps if step.start < end),
        handing_back=handing,
    )
    fee = _fee_nano(lease, lease.worth, end, now)
    return LeaseChange(ChangeKind.SHORTEN, lease, after, lease.price_at(end), saves=worth, fee_nano=fee)


def shrunk(lease: Lease, request: ChangeRequest, step: int, now: datetime) -> LeaseChange:
    """To fewer accelerators from a moment on. `step` is of how many accelerators its engine leases. Raises InvalidInputError."""
    count = request.accelerators or 0
    if not 0 < count < lease.accelerators or count % step:
        if lease.accelerators <= step:
            only = "one accelerator" if lease.accelerators == 1 else f"{lease.accelerators} accelerators"
            raise InvalidInputError(
                f"the lease has only {only}, the fewest possible; to give it back, end the lease", field="accelerators"
            )
        whole = f", in steps of {step}" if step > 1 else ""
        raise InvalidInputError(
            f"accelerators must be 1 to {lease.accelerators - 1}{whole}: fewer than now; to give all back, end the lease",
            field="accelerators",
        )
    at = max(request.at or now, lease.window.start, now)
    if request.at is not None and request.at < now and request.at < lease.window.start:
        raise InvalidInputError(f"at {format_time(request.at)} is over", field="at")
    if (lease.window.end - at).total_seconds() < WINDOW_S_MIN:
        raise InvalidInputError(f"at must be {WINDOW_S_MIN} seconds or more before the lease's end", field="at")
    given = _given(lease, request.devices, lease.accelerators - count)
    before_it_begins = lease.state in NOT_BEGUN and at <= lease.window.start
    handing = HandingBack(at, given)
    planned = replace(lease, handing_back=handing)
    smaller = planned

    def given_up(start: datetime, end: datetime) -> Fraction:
        return lease.worth(start, end) - smaller.worth(start, end)

    if before_it_begins:
        kept = [(unit, device) for unit, device in zip(lease.unit_ids, lease.devices, strict=True) if unit not in given]
        planned = replace(
            lease,
            accelerators=count,
            unit_ids=tuple(unit for unit, _ in kept),
            devices=tuple(device for _, device in kept),
            handed_back=lease.handed_back + len(given),
        )
    return LeaseChange(
        ChangeKind.SHRINK,
        lease,
        planned,
        lease.price_at(at),
        saves=given_up(at, lease.window.end),
        fee_nano=_fee_nano(lease, given_up, at, now),
        restarts=not before_it_begins,
        given=given,
        at=at,
    )


def _given(lease: Lease, devices: tuple[str, ...], many: int) -> tuple[str, ...]:
    if not devices:
        return lease.unit_ids[-many:]
    by_device = dict(zip(lease.devices, lease.unit_ids, strict=True))
    unknown = [device for device in devices if device not in by_device]
    if unknown or len(set(devices)) != many:
        raise InvalidInputError(
            f"devices must name {many} of the lease's own: {', '.join(lease.devices[:16])}", field="devices"
        )
    return tuple(by_device[device] for device in dict.fromkeys(devices))


def given_back(lease: Lease, now: datetime) -> LeaseChange:
    """All of it, now: what ending or canceling it costs."""
    kind = ChangeKind.CANCEL if lease.active_at is None else ChangeKind.END
    begins = max(now, lease.window.start)
    worth = lease.worth(begins, lease.window.end) if begins < lease.window.end else Fraction(0)
    fee = _fee_nano(lease, lease.worth, begins, now)
    shortest = lease.window.start + timedelta(seconds=1)
    after = replace(lease, window=replace(lease.window, end=min(lease.window.end, max(now, shortest))))
    over = lease.state.terminal or lease.state is LeaseState.ENDING
    saves = Fraction(0) if over or lease.service_s is not None else worth
    return LeaseChange(kind, lease, after, lease.price_at(begins), saves=saves, fee_nano=fee)


def _fee_nano(lease: Lease, worth: Callable[[datetime, datetime], Fraction], begins: datetime, now: datetime) -> int:
    """What giving back what is `worth` so much from `begins` on costs. Nobody pays for a lease that is under notice, that failed, or
    that could not be logged in to a minute after its start."""
    unserved = lease.active_at is None and (now - lease.window.start).total_seconds() > WINDOW_S_MIN
    free = (
        lease.service_s is not None
        or lease.reclaim_at is not None
        or lease.state in (LeaseState.DEGRADED, LeaseState.ENDING)
        or lease.state.terminal
        or lease.end_reason is not None
        or unserved
    )
    return 0 if free else lease.give_back.fee_nano(worth, begins, lease.window.end, now)


def extended(lease: Lease, end: datetime, price_nano: int) -> LeaseChange:
    """To a later end, at `price_nano` per accelerator-hour of the added time."""
    step = PriceStep(lease.window.end, price_nano)
    steps = lease.price_steps if lease.price_at(lease.window.end) == price_nano else (*lease.price_steps, step)
    # What it gave up for good stays given up.
    outages = tuple(replace(item, end=end) if item.end == lease.window.end else item for item in lease.outages)
    after = replace(lease, window=replace(lease.window, end=end), price_steps=steps, outages=outages)
    return LeaseChange(
        ChangeKind.EXTEND, lease, after, price_nano, costs=after.worth(lease.window.end, end), at=lease.window.end
    )
