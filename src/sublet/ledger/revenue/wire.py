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


@answer
class RevenueShare:
    """Revenue of one group in one month and currency, less what was given away. What is not asked for, or not known, such as the
    pool of a fee, is empty."""

    period: str
    currency: str
    organization_id: str
    organization: str
    product: str
    """`leases`, `models`, `energy`, or an account of the chart of accounts without `revenue.`."""
    pool: str
    model: str
    amount: str


@answer
class RevenueTotal:
    """The sum of all groups in one month and currency, compared with the journal; `difference` must be 0."""

    total: str
    journal: str
    difference: str


@answer
class RevenueBreakdown:
    """A page of revenue by customer, product, pool or model; the totals are those of all pages."""

    revenue: list[RevenueShare]
    totals: dict[str, RevenueTotal]
    """By month and currency, such as `2026-01 USD`."""
    next: str | None
