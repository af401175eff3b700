"""Plans and the subscriptions to them: what a customer pays for each month or year, and what is included in it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Any

from sublet.ledger.periods import MONTH, YEAR, Period, anchored
from sublet.ledger.prices.fields import Fields
from sublet.ledger.prices.terms import Price, read_price
from sublet.values.clock import format_time, parse_time
from sublet.values.errors import ConflictError, InvalidInputError
from sublet.values.toml import toml_of

ANNIVERSARY, CALENDAR = "anniversary", "calendar"
"""Where periods begin: with the subscription, or with months and years of the calendar."""
PLAN_BYTES_MAX = 64 * 1024
USAGE_MAX = 50
ADD_ONS_MAX = 50
SEATS_MAX = 1_000_000
TRIAL_DAYS_MAX = 366
STATES_MAX = 200
_PLAN = frozenset("id name currency every begins amount seat_amount trial_days for_sale usage add_ons".split())
_ADD_ON = frozenset(("id", "name", "amount"))
_OF_SUBSCRIPTION = ("id", "organization", "currency", "from", "until", "free", "description")


@dataclass(frozen=True, slots=True)
class AddOn:
    """Something that can be added to a plan, at an amount for each period and piece."""

    id: str
    name: str
    amount: Decimal


@dataclass(frozen=True, slots=True)
class Plan:
    """One version of a plan. Amounts are for each period; `usage` has what is included in a month, and the price beyond it, as
    entries of a price book."""

    id: str
    version: int
    name: str
    currency: str
    every: str
    begins: str
    amount: Decimal
    seat_amount: Decimal | None
    trial_days: int
    for_sale: bool
    usage: tuple[Mapping[str, Any], ...]
    add_ons: tuple[AddOn, ...]
    content: Mapping[str, Any]

    @property
    def sha256(self) -> str:
        return hashlib.sha256(json.dumps(self.content, sort_keys=True, default=str).encode()).hexdigest()

    def add_on(self, identifier: str) -> AddOn:
        """Raises InvalidInputError for an add-on that the plan does not have."""
        for found in self.add_ons:
            if found.id == identifier:
                return found
        known = ", ".join(found.id for found in self.add_ons) or "none"
        raise InvalidInputError(f"plan {self.id} has no add-on {identifier!r}; it has {known}", field="add_ons")

    def as_dict(self) -> dict[str, Any]:
        """The plan as the API shows it."""
        return {
            "id": self.id,
            "version": self.version,
            "name": self.name,
            "currency": self.currency,
            "every": self.every,
            "begins": self.begins,
            "amount": str(self.amount),
            "seat_amount": None if self.seat_amount is None else str(self.seat_amount),
            "trial_days": self.trial_days,
            "for_sale": self.for_sale,
            "usage": [dict(entry) for entry in self.usage],
            "add_ons": [{"id": one.id, "name": one.name, "amount": str(one.amount)} for one in self.add_ons],
        }


def plan_from_toml(text: str, where: str) -> Plan:
    """Read a plan. Raises InvalidInputError that names the file, the entry and the field."""
    if len(text.encode()) > PLAN_BYTES_MAX:
        raise InvalidInputError(f"{where} is larger than {PLAN_BYTES_MAX} bytes")
    try:
        raw = toml_of(text, str)
    except ValueError as error:
        raise InvalidInputError(f"{where} is not TOML: {error}") from error
    return plan_from_dict(raw, where)


def plan_from_dict(raw: Mapping[str, Any], where: str, version: int = 0) -> Plan:
    """The same from parsed JSON or TOML."""
    fields = Fields(raw, where, _PLAN)
    every, begins = fields.text("every", MONTH), fields.text("begins", ANNIVERSARY)
    if every not in (MONTH, YEAR):
        raise fields.fail("every", f"{every!r} must be {MONTH} or {YEAR}")
    if begins not in (ANNIVERSARY, CALENDAR):
        raise fields.fail("begins", f"{begins!r} must be {ANNIVERSARY} or {CALENDAR}")
    trial_days = fields.whole("trial_days", 0, 0)
    if trial_days > TRIAL_DAYS_MAX:
        raise fields.fail("trial_days", f"must be at most {TRIAL_DAYS_MAX}")
    identifier = fields.identifier()
    return Plan(
        identifier,
        version,
        fields.text("name", "") or identifier,
        fields.currency(),
        every,
        begins,
        _amount(fields, "amount"),
        _amount(fields, "seat_amount") if fields.has("seat_amount") else None,
        trial_days,
        fields.flag("for_sale") if fields.has("for_sale") else True,
        tuple(_usage(entry, fields, number) for number, entry in enumerate(_tables(fields, "usage", USAGE_MAX), 1)),
        _add_ons(fields),
        json.loads(json.dumps(raw, default=str)),
    )


def _amount(fields: Fields, name: str) -> Decimal:
    amount = fields.decimal(name)
    if amount != round(amount, 9):
        raise fields.fail(name, "may have at most nine decimals")
    return amount


def _tables(fields: Fields, name: str, most: int) -> list[Any]:
    found = fields.get(name) or []
    if not isinstance(found, list) or len(found) > most:
        raise fields.fail(name, f"must be a list of at most {most} tables")
    return found


def _usage(raw: Any, plan: Fields, number: int) -> Mapping[str, Any]:
    """What is included of a meter, and its price beyond that: an entry of a price book without what the subscription adds."""
    where = f"{plan.where}: [[usage]] {number}"
    if not isinstance(raw, Mapping):
        raise InvalidInputError(f"{where} is not a table")
    for name in _OF_SUBSCRIPTION:
        if name in raw:
            hint = "; write included" if name == "free" else ""
            raise InvalidInputError(f"{where}: {name!r} is not a field of a plan's usage{hint}", field="usage")
    entry = price_entry(raw, "check", "any", plan.currency(), "any")
    if not isinstance(read_price(entry | {"from": "2000-01-01T00:00:00Z"}, where), Price):
        raise InvalidInputError(f"{where}: meter is missing", field="usage")
    return dict(raw)


def price_entry(
    usage: Mapping[str, Any], identifier: str, organization: str, currency: str, plan: str
) -> dict[str, Any]:
    """The entry of a rate card for what a plan says of a meter."""
    entry = {name: value for name, value in usage.items() if name != "included"}
    if "included" in usage:
        entry["free"] = usage["included"]
    entry |= {"id": identifier, "organization": organization, "currency": currency}
    return entry | {"description": f"{usage.get('meter', '')}, {plan}"[:200]}


def _add_ons(fields: Fields) -> tuple[AddOn, ...]:
    found: list[AddOn] = []
    for number, raw in enumerate(_tables(fields, "add_ons", ADD_ONS_MAX), 1):
        one = Fields(raw, f"{fields.where}: [[add_ons]] {number}", _ADD_ON)
        identifier = one.identifier()
        if len(identifier) > 30 or any(known.id == identifier for known in found):
            raise one.fail("id", f"{identifier!r} must be of at most 30 characters, and not used twice")
        found.append(AddOn(identifier, one.text("name", "") or identifier, _amount(one, "amount")))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Coupon:
    """A reduction: `percent` of all fixed amounts, or `amount` of each period's base amount, until a moment or for good. If it
    `covers_usage`, the percentage is taken off usage too."""

    name: str
    percent: Decimal = Decimal(0)
    amount: Decimal = Decimal(0)
    until: datetime | None = None
    covers_usage: bool = False

    def __post_init__(self) -> None:
        if bool(self.percent) == bool(self.amount):
            raise InvalidInputError("a coupon has either a percentage or an amount", field="coupon")
        if not 0 <= self.percent <= 100 or self.amount < 0:
            raise InvalidInputError("a coupon takes off 0 to 100 %, or a positive amount", field="coupon")
        if self.covers_usage and not self.percent:
            raise InvalidInputError("only a percentage can cover usage", field="coupon")

    def as_dict(self) -> dict[str, Any]:
        """The coupon as the API shows it."""
        until = None if self.until is None else format_time(self.until)
        return asdict(self) | {"percent": str(self.percent), "amount": str(self.amount), "until": until}

    @staticmethod
    def of(raw: Mapping[str, Any]) -> Coupon:
        """From what `as_dict` wrote."""
        until = parse_time(raw["until"]) if raw["until"] else None
        return Coupon(raw["name"], Decimal(raw["percent"]), Decimal(raw["amount"]), until, raw["covers_usage"])


@dataclass(frozen=True, slots=True)
class State:
    """What a customer is subscribed to from a moment on. A `withdrawn` one was scheduled, and never begins."""

    number: int
    at: datetime
    plan_id: str
    plan_version: int
    seats: int = 0
    add_ons: tuple[tuple[str, int], ...] = ()
    coupon: Coupon | None = None
    withdrawn: bool = False

    def as_dict(self) -> dict[str, Any]:
        """The state as it is stored and shown."""
        return {
            "number": self.number,
            "at": format_time(self.at),
            "plan_id": self.plan_id,
            "plan_version": self.plan_version,
            "seats": self.seats,
            "add_ons": [{"id": name, "quantity": quantity} for name, quantity in self.add_ons],
            "coupon": self.coupon.as_dict() if self.coupon else None,
            "withdrawn": self.withdrawn,
        }

    @staticmethod
    def of(raw: Mapping[str, Any]) -> State:
        """From what `as_dict` wrote."""
        add_ons = tuple((one["id"], one["quantity"]) for one in raw["add_ons"])
        coupon = Coupon.of(raw["coupon"]) if raw["coupon"] else None
        known = {name: raw[name] for name in ("number", "plan_id", "plan_version", "seats", "withdrawn")}
        return State(at=parse_time(raw["at"]), add_ons=add_ons, coupon=coupon, **known)


@dataclass(frozen=True, slots=True)
class Subscription:
    """One customer's subscription: its states in order, and the moment from which its periods are counted."""

    id: str
    organization_id: str
    started_at: datetime
    charged_from: datetime
    """Start of the charges: the end of the trial."""
    anchor: datetime
    ends_at: datetime | None
    created_at: datetime
    states: tuple[State, ...]

    @property
    def live(self) -> list[State]:
        """The states that were or will be, in order."""
        return [state for state in self.states if not state.withdrawn]

    def at(self, moment: datetime) -> State:
        """The state of a moment; before the start, the first one."""
        begun = [state for state in self.live if state.at <= moment]
        return begun[-1] if begun else self.live[0]

    def status(self, now: datetime) -> str:
        """`scheduled`, `trial`, `active`, `ending` or `ended`."""
        if self.ends_at is not None and self.ends_at <= now:
            return "ended"
        if now < self.started_at:
            return "scheduled"
        if self.ends_at is not None:
            return "ending"
        return "trial" if now < self.charged_from else "active"

    def period(self, plan: Plan, moment: datetime, timezone: str) -> Period:
        """The plan's period that `moment` falls into; before the charges begin, the first one."""
        moment = max(moment, self.anchor)
        return next(anchored(self.anchor, plan.every, moment, datetime.max.replace(tzinfo=moment.tzinfo), timezone))

    def changed(self, state: State, now: datetime) -> Subscription:
        """With `state` from its moment on, in place of what was scheduled for later. Raises ConflictError."""
        if self.ends_at is not None and self.ends_at <= max(state.at, now):
            raise ConflictError(f"subscription {self.id} ends at {format_time(self.ends_at)}; start a new one")
        begun = [known.at for known in self.live if known.at <= now]
        if state.at < max(begun, default=self.started_at):
            last = format_time(max(begun, default=self.started_at))
            raise ConflictError(f"subscription {self.id} changed at {last}; a change can't be before that")
        if len(self.states) >= STATES_MAX:
            raise ConflictError(f"a subscription changes at most {STATES_MAX} times; end it and start a new one")
        kept = tuple(replace(known, withdrawn=known.withdrawn or known.at > state.at) for known in self.states)
        return replace(self, states=(*kept, replace(state, number=len(self.states) + 1)))
