"""Wire types of revenue reports. Amounts are exact decimals as text."""

from __future__ import annotations

from sublet.values.wire import answer


@answer
class DeferredRevenue:
    """How deferred revenue (money received in advance) changed in a month."""

    opening: str
    received: str
    used: str
    expired: str
    returned: str
    closing: str


@answer
class RevenueMonth:
    """Revenue of one month in one currency: income and credits by account, and what is deferred and unbilled at its end."""

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
    """Revenue by month, in order."""

    months: list[RevenueMonth]
