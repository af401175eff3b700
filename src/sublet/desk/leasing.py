"""Lease it or keep it: what a block of capacity earns when it is leased, less what the owner's own displaced work was worth."""

from __future__ import annotations

from sublet.desk.formulas import formula
from sublet.desk.terms import Number


@formula("USD/W-yr", cost="USD/W-yr", displaced_share="share", worth="USD/W-yr", used="share")
def indifference_price(cost: Number, displaced_share: Number, worth: Number, used: Number = 1.0) -> Number:
    """The rent at which leasing and keeping come to the same: (c + d w) / u.

    `displaced_share` is the share of the leased hours that own work would have used, `worth` what a watt-year of that work is worth.
    """
    return (cost + displaced_share * worth) / used


@formula("USD m", power="MW", price="USD/W-yr", cost="USD/W-yr", displaced_share="share", worth="USD/W-yr", tax="rate", used="share",
         years="yr")  # fmt: skip
def lease_over_keeping(
    power: Number,
    price: Number,
    cost: Number,
    displaced_share: Number,
    worth: Number,
    tax: Number,
    used: Number = 1.0,
    years: Number = 1.0,
) -> Number:
    """What leasing brings over keeping, after tax: P (p u - c - d w) y (1-t)."""
    return (price * used - cost - displaced_share * worth) * (power * (years * (1.0 - tax)))


@formula("share", price="USD/W-yr", cost="USD/W-yr", worth="USD/W-yr", used="share")
def displaced_at_most(price: Number, cost: Number, worth: Number, used: Number = 1.0) -> Number:
    """The displaced share at which leasing and keeping come to the same: (p u - c) / w."""
    return (price * used - cost) / worth


@formula("USD bn", power="MW", displaced_share="share", capex="USD/W")
def replacement_capex(power: Number, displaced_share: Number, capex: Number) -> Number:
    """What it would cost to build for the displaced work instead of letting it wait: P d K. Zero if it waits."""
    return power * displaced_share * capex / 1000.0
