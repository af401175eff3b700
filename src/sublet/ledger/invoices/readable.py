"""An invoice as a person reads it: what each line is, in whole units of the currency, and what each project used.

Pure: it takes the document as the API has it, and gives the texts of the page, the PDF, and the e-invoice.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

from sublet.ledger.credits.kinds import CREDIT_NOTE
from sublet.ledger.invoices.words import Words, words_of
from sublet.values.clock import parse_time
from sublet.values.money import NANO, currency_digits, nano_from_decimal

_METERS = {
    "accelerator.seconds": ("accelerators", 3600, "accelerator-hours", "accelerator-hour"),
    "storage.mib_hours": ("storage", 1024, "GiB-h", "GiB-h"),
    "tokens.input": ("input tokens", 1, "tokens", "million tokens"),
    "tokens.input_cached": ("cached input tokens", 1, "tokens", "million tokens"),
    "tokens.output": ("output tokens", 1, "tokens", "million tokens"),
    "tokens.reasoning": ("reasoning tokens", 1, "tokens", "million tokens"),
    "images": ("images", 1, "images", "image"),
    "audio.seconds": ("audio", 3600, "hours", "hour"),
    "requests": ("requests", 1, "requests", "request"),
    "energy.wh": ("energy", 1000, "kWh", "kWh"),
}
"""What a meter counts, how many of its units make one that people count in, and that unit for quantities and for prices."""
_MILLION = 1_000_000
_UNTRANSLATED = frozenset({"GiB-h", "kWh"})


@dataclass(frozen=True, slots=True)
class ReadableLine:
    """A line as people read it; `cents` is its amount in the currency's smallest units, and `price` the price of `base` of its
    quantity, None where there is not one."""

    title: str
    quantity: str
    price: str
    cents: int
    line: Mapping[str, Any]
    counted: Fraction
    unit_price: Fraction | None
    base: int


@dataclass(frozen=True, slots=True)
class Readable:
    """A document, its lines in whole cents that sum to the net before credits, and each project's share."""

    document: Mapping[str, Any]
    words: Words
    lines: tuple[ReadableLine, ...]
    projects: tuple[tuple[str, int], ...]
    credits: tuple[tuple[str, int], ...]
    """Credits that lower the net, below zero, in the currency's smallest units."""
    digits: int

    def amount(self, cents: int) -> str:
        """Smallest units as an amount of the currency, without its name."""
        return self.words.number(cents_text(cents, self.digits))

    def money(self, text: str) -> str:
        """An amount of the document with its currency, in its digits and no more."""
        return f"{self.amount(to_cents(text, self.digits))} {self.document['currency']}"

    def day(self, name: str) -> str:
        """The day of a moment of the document, where the customer is."""
        return self.words.day(self._local(self.document[name]))

    def _local(self, moment: str) -> date:
        return parse_time(moment).astimezone(ZoneInfo(self.document["period"]["timezone"])).date()


def readable(document: Mapping[str, Any]) -> Readable:
    """`document` in its customer's language."""
    words = words_of(document["customer"].get("language", ""))
    digits = currency_digits(document["currency"])
    note = document.get("kind") == CREDIT_NOTE
    given = [(used["reason"] or words("Credit"), nano_from_decimal(used["amount"])) for used in document["credits"]]
    step = NANO // 10**digits
    taken = shared([nano for _, nano in given], round(Fraction(sum(nano for _, nano in given), step)), step)
    net = nano_from_decimal(document["net"]) // step
    exact = [nano_from_decimal(line["amount"]) for line in document["lines"]]
    # What a note says of credits lowers what it takes off.
    cents = shared(exact, net - sum(taken), step)
    details = {detail["line"]: detail for detail in document.get("details") or ()}
    zone = ZoneInfo(document["period"]["timezone"])
    lines = [
        _line(words, line, details.get(line["id"]), amount, zone, document["currency"])
        for line, amount in zip(document["lines"], cents, strict=True)
    ]
    return Readable(
        document,
        words,
        tuple(lines),
        () if note else _projects(details, lines, step),
        tuple((name, amount) for (name, _), amount in zip(given, taken, strict=True)),
        digits,
    )


def shared(exact: Sequence[int], total: int, step: int) -> list[int]:
    """`total` smallest units over exact amounts (nano-units) by the largest remainder, the first of equals first: each is within
    one unit of its amount rounded down where their sum rounds to the total."""
    found = [nano // step for nano in exact]
    left = total - sum(found)
    order = sorted(range(len(exact)), key=lambda place: (-(exact[place] % step), place))
    if left < 0:
        order.reverse()
    for turn in range(abs(left)):
        if order:
            found[order[turn % len(order)]] += 1 if left > 0 else -1
    return found


def to_cents(text: str, digits: int) -> int:
    """An amount in the currency's smallest units, rounded half to even where it is finer."""
    cents: int = round(Fraction(Decimal(text)) * 10**digits)
    return cents


def cents_text(cents: int, digits: int) -> str:
    """Smallest units as a plain decimal string."""
    sign, cents = ("-" if cents < 0 else ""), abs(cents)
    whole, rest = divmod(cents, 10**digits)
    return f"{sign}{whole}" + (f".{rest:0{digits}d}" if digits else "")


def decimal_text(value: Fraction, least: int = 0, most: int = 9) -> str:
    """A value with at most `most` decimals, half to even, and at least `least`."""
    scaled = round(value * 10**most)
    sign, scaled = ("-" if scaled < 0 else ""), abs(scaled)
    whole, rest = divmod(scaled, 10**most)
    fraction = f"{rest:0{most}d}".rstrip("0").ljust(least, "0")
    return f"{sign}{whole}" + (f".{fraction}" if fraction else "")


def _line(
    words: Words, line: Mapping[str, Any], detail: Mapping[str, Any] | None, cents: int, zone: ZoneInfo, currency: str
) -> ReadableLine:
    meter = _METERS.get(line["meter"])
    if meter is None:
        return ReadableLine(line["description"], "", "", cents, line, Fraction(1), None, 1)
    noun, size, unit, priced = meter
    counted = Fraction(Decimal(line["quantity"])) / size
    base = _MILLION if priced == "million tokens" else 1
    price, percent = _unit_price(line["unit_price"], size * base)
    shown = ""
    if price is not None:
        digits = currency_digits(currency)
        amount = f"{words.number(decimal_text(price, digits))} {currency}"
        shown = words("{price} per {unit}", price=amount, unit=_unit(words, priced))
    if percent:
        shown += f" {words('less {percent} %', percent=words.number(percent))}"
    least = 2 if size == 3600 else 0
    quantity = f"{words.number(decimal_text(counted, least))} {_unit(words, unit)}"
    title = _title(words, line, detail, noun, zone)
    if price is not None and percent:
        price = price * (100 - Fraction(percent)) / 100
    return ReadableLine(title, quantity, shown, cents, line, counted, price, base)


def _unit(words: Words, unit: str) -> str:
    return unit if unit in _UNTRANSLATED else words(unit)


def _unit_price(text: str, units: int) -> tuple[Fraction | None, str]:
    """The price of `units` of the meter, and the discount in percent, of a text like `0.15 USD per 1000000 Tokens less 10 %`."""
    words, _, less = text.partition(" less ")
    parts = words.split()
    if len(parts) < 5 or parts[2] != "per":
        return None, ""
    return Fraction(parts[0]) * units / int(parts[3]), less.removesuffix(" %")


def _title(words: Words, line: Mapping[str, Any], detail: Mapping[str, Any] | None, noun: str, zone: ZoneInfo) -> str:
    if detail is None:
        return str(line["description"])
    names = detail["names"]
    parts = []
    if line["meter"] == "accelerator.seconds":
        where = [*map(str.upper, names.get("generation", ())), *(names.get("site") or names.get("pool") or ())]
        parts = [" ".join(where) or words(noun), *names.get("class", ())]
        if detail["accelerators"] is not None:
            count = detail["accelerators"]
            parts.append(words("1 accelerator") if count == 1 else words("{count} accelerators", count=count))
        parts += detail["resources"]
    else:
        of = [*names.get("model", ()), *(() if "model" in names else names.get("pool", ()))]
        parts = [", ".join(of), *names.get("tier", ()), words(noun)] if of else [words(noun)]
    first, last = (parse_time(detail[name]).astimezone(zone).date() for name in ("first", "last"))
    if line["kind"] == "adjustment":
        parts.append(words("used in {month}, invoiced late", month=words.month(line["used"])))
    else:
        parts.append(words.days(first, last))
    return ", ".join(part for part in parts if part)


def _projects(
    details: Mapping[str, Mapping[str, Any]], lines: Sequence[ReadableLine], step: int
) -> tuple[tuple[str, int], ...]:
    """Each project's share of the lines in whole cents, which sum to the lines; the name is empty of no project."""
    sums: dict[str, int] = defaultdict(int)
    for line in lines:
        detail = details.get(line.line["id"])
        whole = nano_from_decimal(line.line["amount"])
        for share in detail["projects"] if detail else ():
            nano = nano_from_decimal(share["amount"])
            sums[share["project"]] += nano
            whole -= nano
        if whole:
            sums[""] += whole
    if not any(sums):
        return ()
    names = sorted(sums, key=lambda name: (not name, name))
    cents = shared([sums[name] for name in names], sum(line.cents for line in lines), step)
    return tuple(zip(names, cents, strict=True))
