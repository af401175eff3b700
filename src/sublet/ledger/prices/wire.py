"""Rate cards as they cross the API."""

from __future__ import annotations

from typing import Any

from sublet.values.wire import answer


@answer
class RateCard:
    """What was agreed with one organization, by the form of a price book's entries (docs/ledger.md), and its version: 0 where nothing
    was."""

    organization_id: str
    version: int
    name: str
    prices: list[dict[str, Any]]
    discounts: list[dict[str, Any]]
    commitments: list[dict[str, Any]]
