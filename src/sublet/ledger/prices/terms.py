"""What a price book holds: prices, fees, discounts and commitments, read from TOML or JSON and checked field by field."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction
from typing import Any

from sublet.ledger.periods import MONTH, YEAR
from sublet.ledger.prices.fields import Fields
from sublet.ledger.prices.forms import FORMS
from sublet.ledger.prices.forms.form import Form, SharedBy
from sublet.ledger.prices.tariffs import Tariff
from sublet.ledger.usage.meters import METERS, Meter, meter_named
from sublet.values.money import NANO, POSTING_NANO_MAX

_COMMON = "id organization description meter match kind currency amount per free from until term_end every anchor backdated".split()
_DISCOUNT_FIELDS = frozenset("id organization description meter product percent from until".split())
_COMMITMENT_FIELDS = frozenset(
    "id organization description product currency minimum overage_percent fees_count from until term_end backdated".split()
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
    term_end: datetime | None = None
    """If set, `nano` is for the whole time up to then, each month its local days of it."""
    every: str = ""
    """If set, `nano` is for each MONTH or YEAR counted from `anchor`, and each calendar month is charged its part of them."""
    anchor: datetime | None = None


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
    term_end: datetime | None = None
    """If set, the minimum is for the whole time up to then: usage draws it down, and what is left is charged when it ends."""

    @staticmethod
    def adjustment(used_nano: int, minimum_nano: int, overage: Fraction) -> int:
        """What is added to `used_nano` so that the period costs what was committed."""
        if used_nano <= minimum_nano:
            return minimum_nano - used_nano
        beyond = used_nano - minimum_nano
        return beyond * overage.numerator // overage.denominator - beyond


def read_price(raw: Any, where: str) -> Price | Fee:
    """One `[[prices]]` entry. Raises InvalidInputError that names the entry and the field."""
    fields = Fields(raw, where, frozenset(_COMMON).union(*(form.fields for form in FORMS.values())))
    kind = fields.text("kind")
    if kind not in FORMS:
        raise fields.fail("kind", f"{kind!r} must be one of {', '.join(FORMS)}")
    form = FORMS[kind]
    start, end = fields.validity()
    identifier, organization = fields.identifier(), fields.text("organization", "")
    description = fields.text("description", "") or identifier
    if not fields.has("meter"):
        if form.shared_by is not SharedBy.TIME or not organization:
            raise fields.fail("meter", "is missing; it is optional only for a flat price of one organization")
        nano, term = _fee_nano(fields), _term(fields)
        currency, content, backdated = fields.currency(), fields.content(), fields.backdated()
        fixed = (identifier, organization, description, currency, nano, start, end or term, content, backdated, term)
        return Fee(*fixed, *_rhythm(fields, start))
    for name in ("every", "anchor"):
        if fields.has(name):
            raise fields.fail(name, "is only for fees")
    if fields.has("term_end"):
        raise fields.fail("term_end", "is only for fees and commitments")
    if fields.has("backdated"):
        raise fields.fail("backdated", "is only for fees and commitments; usage keeps the price that it was rated at")
    meter = _meter(fields)
    per, tariff = _tariff(fields, form, meter)
    if tariff.dearest_unit() * meter.quantity_max * meter.steps_per_unit > POSTING_NANO_MAX:
        raise fields.fail(
            "amount",
            f"is too high: an event of {meter.quantity_max} {meter.unit} would exceed 9.2 billion {fields.currency()}; "
            "if the price is for many units, say how many: per = 1_000_000",
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


def _term(fields: Fields) -> datetime | None:
    """Until when the amount of a fee or commitment is for, where it is for a whole term."""
    term = fields.moment("term_end", required=False)
    if term is None:
        return None
    start, end = fields.validity()
    if term <= start or (end is not None and end > term):
        raise fields.fail("term_end", "must be after from, and until can't be after it")
    return term


def _rhythm(fields: Fields, start: datetime) -> tuple[str, datetime | None]:
    """The length of a fee's own periods and the moment from which they are counted; by default, the months of the calendar."""
    if not fields.has("every"):
        if fields.has("anchor"):
            raise fields.fail("anchor", "requires every")
        return "", None
    every = fields.text("every")
    if every not in (MONTH, YEAR):
        raise fields.fail("every", f"{every!r} must be {MONTH} or {YEAR}")
    if fields.has("term_end"):
        raise fields.fail("every", "and term_end exclude each other; a term has one amount")
    anchor = fields.moment("anchor", required=False) or start
    if anchor > start:
        raise fields.fail("anchor", "must not be after from")
    return every, anchor


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
            raise fields.fail(
                "match", f"{name!r} is not a dimension of {meter.name}; use {', '.join(meter.dimensions)}"
            )
        if not isinstance(value, str) or not 0 < len(value) <= 200:
            raise fields.fail("match", f"{name} must be a string")
    return tuple(sorted(raw.items()))


def _tariff(fields: Fields, form: Form, meter: Meter) -> tuple[int, Tariff]:
    free = fields.whole("free", 0, 0) * meter.steps_per_unit
    terms = form.read(fields, meter)
    return terms.per, Tariff.build(form.name, terms.tiers, package=terms.package, free=free)


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
        raise fields.fail("organization", "is missing; a commitment applies to one organization")
    minimum = fields.decimal("minimum") * NANO
    if minimum != int(minimum) or minimum > POSTING_NANO_MAX:
        raise fields.fail("minimum", "may have at most nine decimals and be at most 9 billion")
    overage = fields.decimal("overage_percent", default="100")
    if overage > 1000:
        raise fields.fail("overage_percent", "must be at most 1000")
    start, end = fields.validity()
    identifier = fields.identifier()
    if fields.flag("fees_count") and fields.has("product"):
        raise fields.fail("fees_count", "requires a commitment for all products; omit product")
    term = _term(fields)
    if term is not None and fields.flag("fees_count"):
        raise fields.fail("fees_count", "is for monthly commitments; omit it with term_end")
    return Commitment(
        identifier,
        organization,
        fields.text("description", "") or identifier,
        _product(fields),
        fields.currency(),
        int(minimum),
        Fraction(overage) / 100,
        start,
        end or term,
        fields.content(),
        fields.flag("fees_count"),
        fields.backdated(),
        term,
    )
