"""Figures of documents as people read them: grouped thousands, no needless zeros, nothing rounded."""

from __future__ import annotations

from typing import Any
from zoneinfo import ZoneInfo

from sublet.values.clock import parse_time
from sublet.values.money import currency_digits


def short(text: str) -> str:
    """A decimal string with thousands grouped and trailing zeros gone: 1234.500000000 is 1,234.5."""
    sign, whole, fraction = _parts(text)
    fraction = fraction.rstrip("0")
    return f"{sign}{_grouped(whole)}" + (f".{fraction}" if fraction else "")


def amount(text: str, currency: str) -> str:
    """The same with at least the currency's digits, so that amounts stand under one another: 1234.5 is 1,234.50."""
    sign, whole, fraction = _parts(text)
    fraction = fraction.rstrip("0").ljust(currency_digits(currency), "0")
    return f"{sign}{_grouped(whole)}" + (f".{fraction}" if fraction else "")


def money(text: str, currency: str) -> str:
    """An amount with its currency: 1234.5 is 1,234.50 USD."""
    return f"{amount(text, currency)} {currency}"


def day(document: dict[str, Any], name: str) -> str:
    """The day of a moment of a document, where the customer is: the month that ends there is over on it."""
    zone = ZoneInfo(document["period"]["timezone"])
    return parse_time(document[name]).astimezone(zone).date().isoformat()


def _parts(text: str) -> tuple[str, str, str]:
    sign = "-" if text.startswith("-") else ""
    whole, _, fraction = text.removeprefix("-").partition(".")
    return sign, whole, fraction


def _grouped(whole: str) -> str:
    return f"{int(whole or 0):,}"
