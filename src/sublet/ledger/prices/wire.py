"""Wire types of rate cards."""

from __future__ import annotations

from typing import Any

from sublet.values.wire import answer


@answer
class RateCard:
    """The prices, discounts and commitments that were agreed with one organization, as in a price book (docs/ledger.md). The
    version is 0 if there are none."""

    organization_id: str
    version: int
    name: str
    prices: list[dict[str, Any]]
    discounts: list[dict[str, Any]]
    commitments: list[dict[str, Any]]
