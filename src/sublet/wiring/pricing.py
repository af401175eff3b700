"""The built-in price book: what the settings say of pools and classes, as entries that history can rest on.

An entry that was published never changes: a new price in the settings ends the old entry and begins a new one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from sublet.config.settings import Settings
from sublet.fleet.model import Pool
from sublet.ledger.prices.book import BUILT_IN
from sublet.values.clock import format_time, parse_time
from sublet.values.money import decimal_from_nano

NAME = "from the settings"
SECONDS_PER_HOUR = 3600
TOKENS = 1_000_000
TOKEN_PRICES_USD = {
    "tokens.input": "0.05",
    "tokens.input_cached": "0.01",
    "tokens.output": "0.10",
    "tokens.reasoning": "0.10",
}
"""USD per million tokens of a model without a price of its own."""
BEGINNING = "2020-01-01T00:00:00Z"


def wanted(settings: Settings, pools: Iterable[Pool]) -> list[dict[str, Any]]:
    """The entries that correspond to the current settings, without validity."""
    entries = []
    classes = settings.service_classes
    for pool in pools:
        for service_class in classes.values():
            entries.append(
                {
                    "meter": "accelerator.seconds",
                    "match": {"pool": pool.name, "class": service_class.name},
                    "kind": "per_unit",
                    "currency": pool.currency,
                    "amount": format(decimal_from_nano(pool.price_nano) * service_class.price_ratio, "f"),
                    "per": SECONDS_PER_HOUR,
                    "description": f"{pool.generation} of {pool.name}, {service_class.name}",
                }
            )
    for meter, amount in TOKEN_PRICES_USD.items():
        entries.append(
            {
                "meter": meter,
                "kind": "per_unit",
                "currency": "USD",
                "amount": amount,
                "per": TOKENS,
                "description": f"{meter.removeprefix('tokens.').replace('_', ' ')} tokens",
            }
        )
    return entries


def lacks(content: Mapping[str, Any], entries: Iterable[Mapping[str, Any]]) -> bool:
    """Whether the book has never had a price for a subject of `entries`."""
    known = {_subject(entry) for entry in content.get("prices", ())}
    return any(_subject(entry) not in known for entry in entries)


def merged(before: Mapping[str, Any], entries: Iterable[Mapping[str, Any]], now: datetime) -> dict[str, Any]:
    """The content of the next book: `before` with what is no longer wanted ended, and what is new begun, at `now`.

    What the operator published is left alone, and what that prices for everybody gets no built-in price beside it.
    """
    prices: list[Mapping[str, Any]] = before.get("prices", [])
    own = [entry for entry in prices if not entry["id"].startswith(BUILT_IN)]
    priced = {(entry["meter"], entry["currency"]) for entry in own if _stands(entry, now)}
    fresh = {_subject(entry): dict(entry) for entry in entries if (entry["meter"], entry["currency"]) not in priced}
    kept: list[dict[str, Any]] = []
    first = not prices
    for old in prices:
        entry = dict(old)
        if entry["id"].startswith(BUILT_IN) and entry.get("until") is None:
            same = fresh.get(_subject(entry))
            if same is not None and _terms(same) == _terms(entry):
                del fresh[_subject(entry)]
            else:
                entry["until"] = format_time(now)
        kept.append(entry)
    for entry in fresh.values():
        start = BEGINNING if first else format_time(now)
        kept.append({**entry, "id": _id(entry, start), "from": start})
    return {**before, "name": before.get("name", "") if own else NAME, "prices": kept}


def _stands(entry: Mapping[str, Any], now: datetime) -> bool:
    """Whether a published price applies to everybody, now or later."""
    until = entry.get("until")
    return "meter" in entry and not entry.get("organization") and (until is None or parse_time(until) > now)


def _subject(entry: Mapping[str, Any]) -> str:
    """The subject of the entry's price."""
    match = entry.get("match") or {}
    return "/".join([entry["meter"], entry["currency"], *(f"{name}={match[name]}" for name in sorted(match))])


def _terms(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in entry.items() if name not in ("id", "from", "until")}


def _id(entry: Mapping[str, Any], start: str) -> str:
    text = f"{_subject(entry)}@{entry['amount']}@{start}"
    short = entry["meter"].replace(".", "-")
    kind = (entry.get("match") or {}).get("class", "")
    return BUILT_IN + "-".join(filter(None, [short, kind, hashlib.sha256(text.encode()).hexdigest()[:10]]))
