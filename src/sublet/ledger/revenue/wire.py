"""Revenue reports as they cross the API. Amounts are exact decimals as text."""

from __future__ import annotations

from sublet.values.wire import answer


@answer
class DeferredRevenue:
    """How money paid in advance moved in a month."""

    opening: str
    received: str
    used: str
    expired: str
    returned: str
    closing: str


@answer
class RevenueMonth:
    """One month in one currency: income and what was given away by account, and what is deferred and unbilled at its end."""

    period: str
    currency: str
    earned: dict[str, str]
    given: dict[str, str]
    net: str
    deferred: DeferredRevenue
    unbilled: str
    contract_assets: str
    """Unbilled beyond what is deferred, customer by customer."""
    contract_liabilities: str
    """Deferred beyond what is unbilled, customer by customer."""
    expected_breakage: str
    """Recognizable in proportion to use, if a share of prepaid money is expected to expire unused."""


@answer
class Revenue:
    """Months in their order."""

    months: list[RevenueMonth]
