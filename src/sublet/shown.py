"""How values look to people: local times with their zone, amounts with the digits that matter, short ids, spans.

Machines get the same values whole, by `--json`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Context, Decimal, InvalidOperation
from typing import Any

TEXT, TIME, SECONDS, MONEY, PRICE, SHORT = "text", "time", "seconds", "money", "price", "short"
NOTHING = "–"
CENT = Decimal("0.01")
_ROUNDING = Context(prec=60, rounding=ROUND_HALF_EVEN)
_SHORT_CHARACTERS = 6
_MOMENT = re.compile(r"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table: its heading and what stands in it.

    `kind` is one of TEXT, TIME (to the minute), SECONDS (a time to the second), MONEY (an amount, rounded), PRICE (an exact
    price) and SHORT (an id that only identifies). `currency` is the key of the row's currency, which stands after the amount.
    """

    heading: str
    kind: str = TEXT
    currency: str = ""


Columns = dict[str, str | Column]
"""Columns by the keys of their rows; a bare heading is one of text."""


def time(heading: str) -> Column:
    """Times to the minute."""
    return Column(heading, TIME)


def seconds(heading: str) -> Column:
    """Times to the second, for what follows quickly on one another."""
    return Column(heading, SECONDS)


def money(heading: str, currency: str = "") -> Column:
    """Amounts, rounded to what matters."""
    return Column(heading, MONEY, currency)


def price(heading: str, currency: str = "") -> Column:
    """Prices, exact."""
    return Column(heading, PRICE, currency)


def short(heading: str) -> Column:
    """Ids that say what belongs together, and that nobody types."""
    return Column(heading, SHORT)


def local(value: Any) -> datetime | None:
    """A moment of the API, or one that is known, in the zone of the terminal; None for what is no moment."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return None
    if not isinstance(value, datetime):
        return None
    return (value if value.tzinfo else value.replace(tzinfo=UTC)).astimezone()


def time_text(value: Any, *, to_the_second: bool = False) -> str:
    """`2026-07-02 16:00 CEST`: a moment in the terminal's own zone. What is no moment is shown as it is."""
    moment = local(value)
    if moment is None:
        return NOTHING if value is None else str(value)
    return f"{clock_text(moment, to_the_second=to_the_second)} {zone_of(moment)}"


def with_local_times(text: str) -> str:
    """A sentence with its moments in the terminal's own zone, to the second where they are no whole minutes."""

    def told(found: re.Match[str]) -> str:
        moment = local(found[0])
        return time_text(moment or found[0], to_the_second=moment is not None and moment.second > 0)

    return _MOMENT.sub(told, text)


def clock_text(moment: datetime, *, to_the_second: bool = False) -> str:
    """The same without the zone."""
    return moment.strftime("%Y-%m-%d %H:%M:%S" if to_the_second else "%Y-%m-%d %H:%M")


def zone_of(moment: datetime) -> str:
    """The zone's short name, or its offset where it has no name of letters."""
    name = moment.tzname() or ""
    return name if name.isalpha() else moment.strftime("%z")


def money_text(value: Any) -> str:
    """An amount with two decimals; a small one with two digits that are not zero. `0.0035` and `12.40`, not `0.003512345`."""
    amount = _decimal(value)
    if amount is None:
        return NOTHING if value is None else str(value)
    if amount and abs(amount) < CENT:
        rounded = amount.quantize(Decimal(1).scaleb(amount.adjusted() - 1), context=_ROUNDING)
        return f"{rounded.normalize():f}"
    return f"{amount.quantize(CENT, context=_ROUNDING):f}"


def price_text(value: Any) -> str:
    """A price with all its digits, at least two decimals and no zero that says nothing: `1.10`, `0.00000025`."""
    amount = _decimal(value)
    if amount is None:
        return NOTHING if value is None else str(value)
    plain = f"{amount.normalize():f}"
    whole, _, rest = plain.partition(".")
    return f"{whole}.{rest.ljust(2, '0')}"


def cost_text(amount: Any, currency: str) -> str:
    """`12.40 EUR`."""
    return f"{money_text(amount)} {currency}"


def per_text(price_: Any, currency: str, per: int, unit: str) -> str:
    """`1.10 USD per hour` for a price of 3,600 seconds, `0.15 USD per 1,000,000 tokens`, `0.02 USD per request`."""
    size, name = per, unit.lower()
    if name == "seconds":
        size, name = next(
            ((per // length, word) for length, word in ((3600, "hours"), (60, "minutes")) if per % length == 0),
            (per, name),
        )
    what = name.removesuffix("s") if size == 1 else f"{size:,} {name}"
    return f"{price_text(price_)} {currency} per {what}"


def per_words(text: str) -> str:
    """The same of a price that a document states, such as `0.02 USD per 3600 Seconds less 5 %`; what is no such is as it is."""
    found = re.fullmatch(r"(\S+) ([A-Z]{3}) per (\d+) (\w+)(.*)", text)
    return per_text(found[1], found[2], int(found[3]), found[4]) + found[5] if found else text


def quantity_text(quantity: Any, unit: str) -> str:
    """`2.50 h` for 9,000 seconds, `28 s` for what is less than a tenth of an hour, `1,234 tokens`: a quantity as people count it."""
    amount = _decimal(quantity)
    if amount is None:
        return "" if quantity is None else f"{quantity} {unit}"
    if unit.lower() == "seconds":
        return (
            f"{money_text(amount / 3600)} h"
            if abs(amount) >= 360 or not amount
            else f"{money_text(amount).removesuffix('.00')} s"
        )
    name = unit.lower() if unit.istitle() else unit
    whole = amount == amount.to_integral_value()
    return f"{int(amount):,} {name}" if whole else f"{money_text(amount)} {name}"


def short_id(text: str) -> str:
    """The beginning of an id, enough to tell a few apart; what is no id is shown whole."""
    # Making ids, which is in the same module, loads what showing them doesn't need.
    from sublet.values.ids import is_id

    if not is_id(text):
        return text
    prefix, _, rest = text.partition("_")
    return f"{prefix}_{rest[:_SHORT_CHARACTERS]}…"


def span_text(seconds_: float) -> str:
    """How long something takes: `45 s`, `30 min`, `1 h 30 min`, `2 d`."""
    left, parts = round(seconds_), []
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")):
        if left >= size:
            parts.append(f"{left // size} {unit}")
            left %= size
    return " ".join(parts[:2]) or "0 s"


def history_text(seconds_: float) -> str:
    """How far a history reaches, in whole hours: `2 d 5 h`, `less than 1 h`."""
    return span_text(seconds_ // 3600 * 3600) if seconds_ >= 3600 else "less than 1 h"


def counted(number: int, one: str, many: str = "") -> str:
    """`1 accelerator`, `3 accelerators`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def _decimal(value: Any) -> Decimal | None:
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
        return None
    try:
        found = Decimal(str(value))
    except InvalidOperation:
        return None
    return found if found.is_finite() else None
