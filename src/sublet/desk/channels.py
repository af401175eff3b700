"""Raw against managed: what an installed accelerator-hour earns when it is let, and when it answers requests."""

from __future__ import annotations

from sublet.desk.formulas import formula
from sublet.desk.terms import Number

SECONDS_PER_HOUR = 3600.0


@formula("USD/Mtok", price_in="USD/Mtok", price_out="USD/Mtok", ratio="ratio")
def blended_price(price_in: Number, price_out: Number, ratio: Number) -> Number:
    """Price per million tokens, counted in and out, at `ratio` input tokens per output token: (q_in a + q_out)/(a+1)."""
    return (price_in * ratio + price_out) / (ratio + 1.0)


@formula("USD/GPU-h", price="USD/GPU-h", used="share")
def raw_revenue(price: Number, used: Number = 1.0) -> Number:
    """Revenue per installed accelerator-hour when let: P u. Take-or-pay has u = 1."""
    return price * used


@formula("USD/GPU-h", price="USD/Mtok", throughput="tok/s/GPU", utilization="utilization", extra="USD/GPU-h")
def managed_margin(price: Number, throughput: Number, utilization: Number, extra: Number = 0.0) -> Number:
    """Revenue per installed accelerator-hour as a service, less what the service costs extra (platform, sales, free tier).

    q x tok/s x 3600 u / 1e6 - x, with `throughput` counted in and out, like `price`.
    """
    return price * throughput * SECONDS_PER_HOUR * utilization / 1e6 - extra


@formula("tok/s/GPU", raw="USD/GPU-h", price="USD/Mtok", utilization="utilization", extra="USD/GPU-h")
def break_even_throughput(raw: Number, price: Number, utilization: Number, extra: Number = 0.0) -> Number:
    """Tokens per second and accelerator above which managed earns more than raw."""
    return (raw + extra) * 1e6 / (price * SECONDS_PER_HOUR * utilization)


@formula("USD/Mtok", raw="USD/GPU-h", throughput="tok/s/GPU", utilization="utilization", extra="USD/GPU-h")
def break_even_token_price(raw: Number, throughput: Number, utilization: Number, extra: Number = 0.0) -> Number:
    """Price per million tokens above which managed earns more than raw."""
    return (raw + extra) * 1e6 / (throughput * SECONDS_PER_HOUR * utilization)


@formula("utilization", raw="USD/GPU-h", price="USD/Mtok", throughput="tok/s/GPU", extra="USD/GPU-h")
def break_even_utilization(raw: Number, price: Number, throughput: Number, extra: Number = 0.0) -> Number:
    """Utilization above which managed earns more than raw; above 1 it never does."""
    return (raw + extra) * 1e6 / (price * throughput * SECONDS_PER_HOUR)


@formula("ratio", price="USD/Mtok", throughput="tok/s/GPU", utilization="utilization", raw="USD/GPU-h",
         extra="USD/GPU-h")  # fmt: skip
def managed_over_raw(
    price: Number, throughput: Number, utilization: Number, raw: Number, extra: Number = 0.0
) -> Number:
    """Managed margin over raw revenue, both per installed accelerator-hour; above 1 managed earns more."""
    return (price * throughput * SECONDS_PER_HOUR * utilization / 1e6 - extra) / raw


@formula("Mtok/W-yr", throughput="tok/s/GPU", utilization="utilization", watts="W/accelerator")
def tokens_per_watt_year(throughput: Number, utilization: Number, watts: Number) -> Number:
    """Million tokens per watt and year: tok/s x 3600 x 8760 u / W / 1e6."""
    return throughput * SECONDS_PER_HOUR * 8760.0 * utilization / watts / 1e6
