"""What a price book holds: prices, fees, discounts and commitments, read from TOML or JSON and checked field by field."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from typing import Any

from sublet.ledger.prices.tariffs import Tariff, Tier
from sublet.ledger.usage.meters import METERS, Meter, meter_named
from sublet.values.clock import as_utc, format_time, parse_time
from sublet.values.errors import InvalidInputError
from sublet.values.money import NANO, POSTING_NANO_MAX, currency_digits
from sublet.values.text import refuse_unsafe

KINDS = ("flat", "per_unit", "graduated", "volume", "package")
TIERS_MAX = 100
CATCH_UP, FROM_OPEN = "catch_up", "from_open"
"""What becomes of closed months that a new fee or commitment reaches into."""
CHANGEABLE = ("until", "backdated")
"""Fields of a published entry that may change."""
AMOUNT_MAX = Decimal(10) ** 12
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")
_PRICE_FIELDS = frozenset(
    "id organization description meter match kind currency amount per tiers size free from until backdated".split()
)
_TIER_FIELDS = frozenset(("up_to", "amount", "flat"))
_DISCOUNT_FIELDS = frozenset("id organization description meter product percent from until".split())
_COMMITMENT_FIELDS = frozenset(
    "id organization description product currency minimum overage_percent fees_count from until backdated".split()
)


@dataclass(frozen=True, slots=True)
class Price:
    """One price of one meter, for everybody (`organization` empty) or for one organization, while it is valid."""

    id: str
    organization: str
    description: str
    meter: str
    match: tuple[tuple[str, str], ...]
    kind: str
    currency: str
    per: int
    tariff: Tariff
    valid_from: datetime
    valid_until: datetime | None
    content: str
    """Everything but `until`, canonical: what may never change under the same id."""

    def holds_at(self, at: datetime) -> bool:
        return self.valid_from <= at and (self.valid_until is None or at < self.valid_until)

    def matches(self, dimensions: Mapping[str, str]) -> bool:
        return all(dimensions.get(name) == value for name, value in self.match)


@dataclass(frozen=True, slots=True)
class Fee:
    """A fixed amount for each billing period, by the local days of it in which the fee is valid.

    `backdated` says what becomes of months that are closed when it is published: they are caught up, or left out.
    """

    id: str
    organization: str
    description: str
    currency: str
    nano: int
    valid_from: datetime
    valid_until: datetime | None
    content: str
    backdated: str = ""


@dataclass(frozen=True, slots=True)
class Discount:
    """`percent` off a meter's, a product's or all usage. Discounts do not add up: the greatest that applies is given."""

    id: str
    organization: str
    description: str
    meter: str
    product: str
    percent: Fraction
    valid_from: datetime
    valid_until: datetime | None
    content: str

    def applies(self, organization: str, meter: Meter, at: datetime) -> bool:
        return (
            self.organization in ("", organization)
            and self.meter in ("", meter.name)
            and self.product in ("", meter.product)
            and self.valid_from <= at
            and (self.valid_until is None or at < self.valid_until)
        )


@dataclass(frozen=True, slots=True)
class Commitment:
    """At least `minimum_nano` for each billing period; what is used beyond it costs `overage` times its price.

    Fees of the month count towards the minimum where `fees_count`. `backdated` is that of `Fee`.
    """

    id: str
    organization: str
    description: str
    product: str
    currency: str
    minimum_nano: int
    overage: Fraction
    valid_from: datetime
    valid_until: datetime | None
    content: str
    fees_count: bool = False
    backdated: str = ""

    @staticmethod
    def adjustment(used_nano: int, minimum_nano: int, overage: Fraction) -> int:
        """What is added to `used_nano` so that the period costs what was committed."""
        if used_nano <= minimum_nano:
            return minimum_nano - used_nano
        beyond = used_nano - minimum_nano
        return beyond * overage.numerator // overage.denominator - beyond


class Fields:
    """The fields of one entry, each taken once; complaints name the place and the field."""

    def __init__(self, raw: Any, where: str, known: frozenset[str]) -> None:
        if not isinstance(raw, Mapping):
            raise InvalidInputError(f"{where} is not a table")
        unknown = sorted(set(raw) - known)
        if unknown:
            raise InvalidInputError(f"{where}: {unknown[0]!r} is not a field; use {', '.join(sorted(known))}")
        self._raw = raw
        self.where = where

    def fail(self, field: str, advice: str) -> InvalidInputError:
        return InvalidInputError(f"{self.where}: {field} {advice}", field=field)

    def has(self, field: str) -> bool:
        return field in self._raw

    def text(self, field: str, default: str | None = None) -> str:
        value = self._raw.get(field, default)
        if not isinstance(value, str) or len(value) > 200:
            raise self.fail(field, "must be a string of at most 200 printable characters")
        refuse_unsafe(value, f"{self.where}: {field}")
        return value

    def identifier(self) -> str:
        value = self.text("id")
        if not _ID.fullmatch(value):
            raise self.fail("id", "must be 1 to 80 letters, digits, dots, dashes or underscores")
        return value

    def decimal(self, field: str, *, default: str | None = None) -> Decimal:
        """An amount, exact. A TOML or JSON float is refused: it is not the number that was written."""
        value = self._raw.get(field, default)
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise self.fail(field, f'must be a string such as "2.49", not {value!r}')
        try:
            amount = Decimal(value)
        except InvalidOperation as error:
            raise self.fail(field, f"{value!r} is not a number") from error
        if not amount.is_finite() or amount.is_signed() or amount > AMOUNT_MAX or amount.adjusted() < -30:
            raise self.fail(field, f"must be from 0 to {AMOUNT_MAX:f}, with at most 30 decimals")
        return amount

    def whole(self, field: str, default: int | None, least: int) -> int:
        value = self._raw.get(field, default)
        if isinstance(value, str) and value.isdigit() and len(value) < 19:
            value = int(value)
        if type(value) is not int or not least <= value < 10**18:
            raise self.fail(field, f"must be a whole number from {least}")
        return value

    def currency(self) -> str:
        value = self.text("currency")
        try:
            currency_digits(value)
        except InvalidInputError as error:
            raise self.fail("currency", f"{value!r} is not known; use an ISO 4217 code such as USD") from error
        return value

    def moment(self, field: str, *, required: bool) -> datetime | None:
        value = self._raw.get(field)
        if value is None and not required:
            return None
        try:
            if isinstance(value, datetime):
                return as_utc(value)
            return parse_time(value) if isinstance(value, str) else _no_time(value)
        except ValueError as error:
            raise self.fail(field, f"is no time with an offset ({error})") from error

    def validity(self) -> tuple[datetime, datetime | None]:
        start, end = self.moment("from", required=True), self.moment("until", required=False)
        assert start is not None
        if end is not None and end <= start:
            raise self.fail("until", f"must be after from ({format_time(start)})")
        return start, end

    def content(self) -> str:
        """The entry without what may be changed later, in one canonical form."""
        return repr(sorted((name, _plain(value)) for name, value in self._raw.items() if name not in CHANGEABLE))

    def backdated(self) -> str:
        value = self.text("backdated", "")
        if value not in ("", CATCH_UP, FROM_OPEN):
            raise self.fail("backdated", f'{value!r} must be "{CATCH_UP}" or "{FROM_OPEN}"')
        return value

    def flag(self, field: str) -> bool:
        value = self._raw.get(field, False)
        if not isinstance(value, bool):
            raise self.fail(field, f"must be true or false, not {value!r}")
        return value

    def get(self, field: str) -> Any:
        return self._raw.get(field)


def _no_time(value: Any) -> datetime:
    raise ValueError(f"{value!r} is not a time; write it like 2026-07-02T14:00:00Z")


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return format_time(value)
    if isinstance(value, Mapping):
        return sorted((key, _plain(inner)) for key, inner in value.items())
    return [_plain(inner) for inner in value] if isinstance(value, list) else value


def read_price(raw: Any, where: str) -> Price | Fee:
    """One `[[prices]]` entry. Raises InvalidInputError that names the entry and the field."""
    fields = Fields(raw, where, _PRICE_FIELDS)
    kind = fields.text("kind")
    if kind not in KINDS:
        raise fields.fail("kind", f"{kind!r} must be one of {', '.join(KINDS)}")
    start, end = fields.validity()
    identifier, organization = fields.identifier(), fields.text("organization", "")
    description = fields.text("description", "") or identifier
    if not fields.has("meter"):
        if kind != "flat" or not organization:
            raise fields.fail("meter", "is missing; only a flat price of one organization may go without")
        nano = _fee_nano(fields)
        currency, content, backdated = fields.currency(), fields.content(), fields.backdated()
        return Fee(identifier, organization, description, currency, nano, start, end, content, backdated)
    if fields.has("backdated"):
        raise fields.fail("backdated", "is for fees and commitments; usage keeps the price by which it was rated")
    meter = _meter(fields)
    per, tariff = _tariff(fields, kind, meter)
    if tariff.dearest_unit() * meter.quantity_max * meter.steps_per_unit > POSTING_NANO_MAX:
        raise fields.fail(
            "amount",
            f"is too dear: an event of {meter.quantity_max} {meter.unit} would pass 9.2 billion {fields.currency()}; "
            "if it is the price of many, say of how many: per = 1_000_000",
        )
    return Price(
        identifier,
        organization,
        description,
        meter.name,
        _match(fields, meter),
        kind,
        fields.currency(),
        per,
        tariff,
        start,
        end,
        fields.content(),
    )


def _fee_nano(fields: Fields) -> int:
    nano = fields.decimal("amount") * NANO
    if nano != int(nano):
        raise fields.fail("amount", "of a fee may have at most nine decimals")
    return int(nano)


def _meter(fields: Fields) -> Meter:
    name = fields.text("meter")
    if name not in METERS:
        raise fields.fail("meter", f"{name!r} is not known; use one of {', '.join(METERS)}")
    return meter_named(name)


def _match(fields: Fields, meter: Meter) -> tuple[tuple[str, str], ...]:
    raw = fields.get("match") or {}
    if not isinstance(raw, Mapping):
        raise fields.fail("match", 'must be a table such as { generation = "h100" }')
    for name, value in raw.items():
        if name not in meter.dimensions:
            raise fields.fail("match", f"{name!r} is no dimension of {meter.name}; use {', '.join(meter.dimensions)}")
        if not isinstance(value, str) or not 0 < len(value) <= 200:
            raise fields.fail("match", f"{name} must be a string")
    return tuple(sorted(raw.items()))


def _tariff(fields: Fields, kind: str, meter: Meter) -> tuple[int, Tariff]:
    per = fields.whole("per", 1, 1)
    free = fields.whole("free", 0, 0) * meter.steps_per_unit
    per_steps = per * meter.steps_per_unit
    if kind == "flat":
        return 1, Tariff.build("flat", (Tier(0, Fraction(0), _nano(fields.decimal("amount"))),), free=free)
    if kind == "per_unit":
        return per, Tariff.build("per_unit", (Tier(0, _nano(fields.decimal("amount")) / per_steps),), free=free)
    if kind == "package":
        size = fields.whole("size", None, 1) * meter.steps_per_unit
        return 1, Tariff.build("package", (Tier(0, _nano(fields.decimal("amount"))),), package=size, free=free)
    return per, Tariff.build(kind, _tiers(fields, meter, per_steps), free=free)


def _tiers(fields: Fields, meter: Meter, per_steps: int) -> tuple[Tier, ...]:
    raw = fields.get("tiers")
    if not isinstance(raw, list) or not 0 < len(raw) <= TIERS_MAX:
        raise fields.fail("tiers", f"must be a list of 1 to {TIERS_MAX} tables")
    tiers: list[Tier] = []
    start = 0
    for number, entry in enumerate(raw, 1):
        tier = Fields(entry, f"{fields.where}, tier {number}", _TIER_FIELDS)
        unit, fee = _nano(tier.decimal("amount")) / per_steps, _nano(tier.decimal("flat", default="0"))
        tiers.append(Tier(start, unit, fee))
        last = number == len(raw)
        if tier.has("up_to") == last:
            raise tier.fail(
                "up_to", "must be left out of the last tier" if last else "is missing: only the last is open"
            )
        if not last:
            end = tier.whole("up_to", None, 1) * meter.steps_per_unit
            if end <= start:
                raise tier.fail("up_to", "must be above the tier before")
            start = end
    return tuple(tiers)


def _nano(amount: Decimal) -> Fraction:
    return Fraction(amount) * NANO


def read_discount(raw: Any, where: str) -> Discount:
    """One `[[discounts]]` entry. Raises InvalidInputError."""
    fields = Fields(raw, where, _DISCOUNT_FIELDS)
    percent = fields.decimal("percent")
    if not 0 < percent <= 100:
        raise fields.fail("percent", "must be above 0 and at most 100")
    meter = fields.text("meter", "")
    if meter and meter not in METERS:
        raise fields.fail("meter", f"{meter!r} is not known; use one of {', '.join(METERS)}")
    start, end = fields.validity()
    identifier = fields.identifier()
    return Discount(
        identifier,
        fields.text("organization", ""),
        fields.text("description", "") or identifier,
        meter,
        _product(fields),
        Fraction(percent),
        start,
        end,
        fields.content(),
    )


def _product(fields: Fields) -> str:
    product = fields.text("product", "")
    known = sorted({meter.product for meter in METERS.values()})
    if product and product not in known:
        raise fields.fail("product", f"{product!r} is not known; use one of {', '.join(known)}")
    return product


def read_commitment(raw: Any, where: str) -> Commitment:
    """One `[[commitments]]` entry. Raises InvalidInputError."""
    fields = Fields(raw, where, _COMMITMENT_FIELDS)
    organization = fields.text("organization", "")
    if not organization:
        raise fields.fail("organization", "is missing; a commitment is somebody's")
    minimum = fields.decimal("minimum") * NANO
    if minimum != int(minimum) or minimum > POSTING_NANO_MAX:
        raise fields.fail("minimum", "may have at most nine decimals and be at most 9 billion")
    overage = fields.decimal("overage_percent", default="100")
    if overage > 1000:
        raise fields.fail("overage_percent", "must be at most 1000")
    start, end = fields.validity()
    identifier = fields.identifier()
    if fields.flag("fees_count") and fields.has("product"):
        raise fields.fail("fees_count", "needs a commitment of all products; leave product out")
    return Commitment(
        identifier,
        organization,
        fields.text("description", "") or identifier,
        _product(fields),
        fields.currency(),
        int(minimum),
        Fraction(overage) / 100,
        start,
        end,
        fields.content(),
        fields.flag("fees_count"),
        fields.backdated(),
    )
