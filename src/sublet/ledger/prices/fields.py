"""The fields of an entry in a price book, read one by one; a complaint names the place and the field."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from typing import Any

from sublet.ledger.prices.tiers import Tier
from sublet.values.clock import as_utc, format_time, parse_time
from sublet.values.errors import InvalidInputError
from sublet.values.money import NANO, currency_digits
from sublet.values.text import refuse_unsafe

TIERS_MAX = 100
CATCH_UP, FROM_OPEN = "catch_up", "from_open"
"""What becomes of closed months that a new fee or commitment reaches into."""
CHANGEABLE = ("until", "backdated")
"""Fields of a published entry that may change."""
AMOUNT_MAX = Decimal(10) ** 12
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")
_TIER_FIELDS = frozenset(("up_to", "amount", "flat"))


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
        if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 19:
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
            raise self.fail(field, f"is not a time with an offset ({error})") from error

    def validity(self) -> tuple[datetime, datetime | None]:
        """From when until when. One that ends as it begins never holds: it was withdrawn before its time."""
        start, end = self.moment("from", required=True), self.moment("until", required=False)
        assert start is not None
        if end is not None and end < start:
            raise self.fail("until", f"must not be before from ({format_time(start)})")
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

    def nano(self, field: str) -> Fraction:
        """An amount in nano-units, exact."""
        return Fraction(self.decimal(field)) * NANO

    def tiers(self, steps_per_unit: int, per: int) -> tuple[Tier, ...]:
        """The tiers of the entry, each for `per` units of `steps_per_unit` steps."""
        raw = self.get("tiers")
        if not isinstance(raw, list) or not 0 < len(raw) <= TIERS_MAX:
            raise self.fail("tiers", f"must be a list of 1 to {TIERS_MAX} tables")
        tiers: list[Tier] = []
        start = 0
        for number, entry in enumerate(raw, 1):
            tier = Fields(entry, f"{self.where}, tier {number}", _TIER_FIELDS)
            fee = Fraction(tier.decimal("flat", default="0")) * NANO
            tiers.append(Tier(start, tier.nano("amount") / (per * steps_per_unit), fee))
            last = number == len(raw)
            if tier.has("up_to") == last:
                raise tier.fail(
                    "up_to", "must be left out of the last tier" if last else "is missing: only the last is open"
                )
            if not last:
                end = tier.whole("up_to", None, 1) * steps_per_unit
                if end <= start:
                    raise tier.fail("up_to", "must be above the tier before")
                start = end
        return tuple(tiers)


def _no_time(value: Any) -> datetime:
    raise ValueError(f"{value!r} is not a time; use the form 2026-07-02T14:00:00Z")


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return format_time(value)
    if isinstance(value, Mapping):
        return sorted((key, _plain(inner)) for key, inner in value.items())
    return [_plain(inner) for inner in value] if isinstance(value, list) else value
