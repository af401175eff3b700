"""Entries of the waiting list, the order in which they are served, and how long each is kept. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from sublet.leases.model import WINDOW_S_MIN, OnFailure, OnReclaim
from sublet.leases.quotes.request import QuoteRequest
from sublet.leases.waitlist.limits import WaitlistLimits
from sublet.values.clock import format_time, parse_time
from sublet.values.errors import ConflictError, InvalidInputError, LimitExceededError
from sublet.values.money import Money, text_from_nano

OFFERS_MAX = 3
"""An entry that let so many offers lapse leaves the list."""
DEFAULT_DAYS = 7


class WaitlistFullError(LimitExceededError):
    """The waiting list has no room for this request; leave another entry first."""

    code = "waitlist_full"


class WaitlistStateError(ConflictError):
    """The entry is no longer on the waiting list."""

    code = "waitlist_state"


class EntryState(StrEnum):
    """OFFERED: a quote is open. LEASED: a quote became a lease. LAPSED: its time, or its last offer, passed unused."""

    WAITING = "waiting"
    OFFERED = "offered"
    LEASED = "leased"
    LAPSED = "lapsed"
    LEFT = "left"

    @property
    def over(self) -> bool:
        """It is no longer on the list."""
        return self in (EntryState.LEASED, EntryState.LAPSED, EntryState.LEFT)


@dataclass(frozen=True, slots=True)
class NewEntry:
    """What a customer asks to wait for: `request`, at no more than `price_max_nano` per accelerator-hour, until `expires_at`.
    With `ssh_public_keys`, the first offer becomes a lease at once; without any, nothing is ever bought by itself."""

    request: QuoteRequest
    price_max_nano: int | None = None
    currency: str | None = None
    expires_at: datetime | None = None
    ssh_public_keys: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Entry:
    """A request on the waiting list. `since` is when its turn began to count: it is later than `created_at` if it let an offer
    lapse. `key_id` identifies the budgets of an automatic purchase."""

    id: str
    organization_id: str
    request: QuoteRequest
    state: EntryState
    created_at: datetime
    since: datetime
    expires_at: datetime
    price_max_nano: int | None = None
    currency: str | None = None
    ssh_public_keys: tuple[str, ...] = ()
    key_id: str = ""
    quote_id: str | None = None
    lease_id: str | None = None
    offers: int = 0
    reason: str = ""
    """Why it waits, or why it is over."""

    @property
    def buys(self) -> bool:
        """Whether an offer becomes a lease at once, as its organization asked."""
        return bool(self.ssh_public_keys)

    @property
    def limit(self) -> Money | None:
        """Its price limit, in the currency that its organization is quoted in."""
        if self.price_max_nano is None or self.currency is None:
            return None
        return Money(self.price_max_nano, self.currency)

    def as_dict(self) -> dict[str, Any]:
        request = self.request
        return {
            "id": self.id,
            "organization_id": self.organization_id,
            "state": self.state.value,
            "accelerators": request.accelerators,
            "class": request.class_name,
            "pool": request.pool,
            "generation": request.generation,
            "start": format_time(request.start) if request.start else None,
            "end": format_time(request.end) if request.end else None,
            "duration_s": request.duration_s,
            "finish_by": format_time(request.finish_by) if request.finish_by else None,
            "service_s": request.service_s,
            "max_price_per_accelerator_hour": None
            if self.price_max_nano is None
            else text_from_nano(self.price_max_nano),
            "currency": self.currency,
            "accepts": self.buys,
            "created_at": format_time(self.created_at),
            "expires_at": format_time(self.expires_at),
            "offers": self.offers,
            "quote_id": self.quote_id,
            "lease_id": self.lease_id,
            "reason": self.reason,
        }


def in_turn(entries: Iterable[Entry]) -> list[Entry]:
    """The order in which entries are served: every organization's first before anybody's second, and the longest waiting first
    among those. An open offer counts as the organization's first."""
    ranks: Counter[str] = Counter()
    waiting = []
    for entry in sorted(entries, key=lambda item: (item.state is not EntryState.OFFERED, item.since, item.id)):
        if entry.state is EntryState.WAITING:
            waiting.append((ranks[entry.organization_id], entry.since, entry.id, entry))
        ranks[entry.organization_id] += 1
    return [entry for *_, entry in sorted(waiting, key=lambda item: item[:3])]


def last_moment(request: QuoteRequest, now: datetime) -> datetime | None:
    """After which the request can't be met any more; None if it only has a length."""
    if request.finish_by is not None:
        return request.finish_by - timedelta(seconds=request.duration_s or WINDOW_S_MIN)
    if request.service_s is not None and request.end is not None:
        return request.end - timedelta(seconds=request.service_s)
    if request.start is not None:
        return max(request.start, now)
    return request.end - timedelta(seconds=WINDOW_S_MIN) if request.end is not None else None


def kept_until(wanted: NewEntry, limits: WaitlistLimits, now: datetime) -> datetime:
    """Until when an entry waits. Raises InvalidInputError for a moment in the past or too far ahead."""
    asked = wanted.expires_at
    if asked is not None and asked <= now:
        raise InvalidInputError(f"expires_at {format_time(asked)} is in the past", field="expires_at")
    if asked is not None and asked > now + timedelta(days=limits.days_max):
        raise InvalidInputError(
            f"a request waits at most {limits.days_max} days; choose an earlier expires_at", field="expires_at"
        )
    until = asked or now + timedelta(days=min(DEFAULT_DAYS, limits.days_max))
    last = last_moment(wanted.request, now)
    if last is not None and last <= now:
        raise InvalidInputError("this request must be met now, so it can't wait; give it a later start or end")
    return until if last is None else min(until, last)


def lapsed(entry: Entry, now: datetime) -> Entry:
    """The entry after an offer that nobody accepted: at the end of the line, or off the list."""
    if entry.offers >= OFFERS_MAX:
        return replace(entry, state=EntryState.LAPSED, reason=f"{OFFERS_MAX} offers were not accepted")
    return replace(entry, state=EntryState.WAITING, since=now, reason="the last offer was not accepted")


def request_of(stored: dict[str, Any]) -> QuoteRequest:
    """The request that `QuoteRequest.as_dict` wrote."""

    def moment(name: str) -> datetime | None:
        return parse_time(str(stored[name])) if stored.get(name) else None

    return QuoteRequest(
        accelerators=int(stored["accelerators"]),
        class_name=str(stored["class"]),
        end=moment("end"),
        start=moment("start"),
        pool=stored.get("pool"),
        generation=stored.get("generation"),
        duration_s=stored.get("duration_s"),
        on_failure=OnFailure(stored.get("on_failure", "shrink")),
        on_reclaim=OnReclaim(stored.get("on_reclaim", "end")),
        network=tuple(stored.get("network", ())),
        service_s=stored.get("service_s"),
        volumes=tuple(stored.get("volumes", ())),
        image=str(stored.get("image", "")),
        project=str(stored.get("project", "")),
        finish_by=moment("finish_by"),
        notice_s=stored.get("notice_s"),
    )


@dataclass(frozen=True, slots=True)
class UnmetDemand:
    """What waits for one generation or pool in one class: entries, their organizations, accelerators and accelerator-hours, and
    the lowest and highest price limit in a currency, if any."""

    wanted: str
    class_name: str
    entries: int
    organizations: int
    accelerators: int
    accelerator_hours: float
    oldest: datetime
    limits: tuple[tuple[str, int, int], ...] = ()

    @property
    def prices(self) -> list[tuple[Money, Money]]:
        """The lowest and highest price limit in each currency."""
        return [(Money(least, currency), Money(most, currency)) for currency, least, most in self.limits]

    def as_dict(self) -> dict[str, Any]:
        return {
            "wanted": self.wanted,
            "class": self.class_name,
            "entries": self.entries,
            "organizations": self.organizations,
            "accelerators": self.accelerators,
            "accelerator_hours": round(self.accelerator_hours, 2),
            "oldest": format_time(self.oldest),
            "price_limits": [
                {"currency": currency, "lowest": text_from_nano(least), "highest": text_from_nano(most)}
                for currency, least, most in self.limits
            ],
        }


def unmet(entries: Sequence[Entry], names: dict[str, str], now: datetime) -> list[UnmetDemand]:
    """What waits, by the generation or pool asked for (`names` are the pools' names by id) and class, the most first."""
    groups: dict[tuple[str, str], list[Entry]] = {}
    for entry in entries:
        request = entry.request
        wanted = request.generation or names.get(request.pool or "", request.pool or "")
        groups.setdefault((wanted, request.class_name), []).append(entry)
    found = [
        UnmetDemand(
            wanted,
            class_name,
            len(group),
            len({entry.organization_id for entry in group}),
            sum(entry.request.accelerators for entry in group),
            sum(entry.request.accelerators * _seconds(entry.request, now) for entry in group) / 3600,
            min(entry.created_at for entry in group),
            _limits(group),
        )
        for (wanted, class_name), group in groups.items()
    ]
    return sorted(found, key=lambda item: (-item.accelerators, item.wanted, item.class_name))


def _limits(group: Sequence[Entry]) -> tuple[tuple[str, int, int], ...]:
    told: dict[str, list[int]] = {}
    for entry in group:
        if entry.price_max_nano is not None and entry.currency is not None:
            told.setdefault(entry.currency, []).append(entry.price_max_nano)
    return tuple((currency, min(limits), max(limits)) for currency, limits in sorted(told.items()))


def _seconds(request: QuoteRequest, now: datetime) -> float:
    if request.service_s is not None:
        return request.service_s
    if request.duration_s is not None:
        return request.duration_s
    start = max(now, request.start or now)
    return max(0.0, (request.end - start).total_seconds()) if request.end is not None else 0.0
