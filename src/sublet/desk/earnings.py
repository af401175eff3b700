"""From megawatts let to earnings per share: the bridge, its grids, break-evens and the bounds of what one cell tells."""

from __future__ import annotations

from sublet.desk.formulas import formula
from sublet.desk.terms import Number
from sublet.desk.units import HOURS_PER_YEAR


@formula(
    "USD/share", power="MW", price="USD/W-yr", cost="USD/W-yr", tax="rate", shares="bn shares", used="share",
    capex="USD/W", life="yr", years="yr",
)  # fmt: skip
def eps_increment(
    power: Number,
    price: Number,
    cost: Number,
    tax: Number,
    shares: Number,
    used: Number = 1.0,
    capex: Number = 0.0,
    life: Number = 1.0,
    years: Number = 1.0,
) -> Number:
    """What letting `power` for `years` of a fiscal year adds to EPS: P (p u - c - K/L) y (1-t) / (1000 N).

    `cost` is what the lease adds to cash cost (power, support); `capex` over `life` is straight-line depreciation and
    zero in the sunk reading. The megawatts are capped by what is idle; the formula does not know that.
    """
    return (price * used - cost - capex / life) * (power * (years * (1.0 - tax) / (1000.0 * shares)))


@formula("USD m", power="MW", price="USD/W-yr", cost="USD/W-yr", tax="rate", used="share", capex="USD/W", life="yr",
         years="yr")  # fmt: skip
def net_contribution(
    power: Number,
    price: Number,
    cost: Number,
    tax: Number,
    used: Number = 1.0,
    capex: Number = 0.0,
    life: Number = 1.0,
    years: Number = 1.0,
) -> Number:
    """The same bridge for an owner without shares: after-tax money, P (p u - c - K/L) y (1-t)."""
    return (price * used - cost - capex / life) * (power * (years * (1.0 - tax)))


@formula("USD bn", power="MW", price="USD/W-yr", used="share", years="yr")
def lease_revenue(power: Number, price: Number, used: Number = 1.0, years: Number = 1.0) -> Number:
    """Revenue of the lease before any cost: P p u y."""
    return power * price * used * years / 1000.0


@formula("USD/W-yr", power_price="USD/MWh", pue="ratio", load="share")
def power_cost(power_price: Number, pue: Number, load: Number = 1.0) -> Number:
    """Electricity per IT watt and year: 8760 h x USD/MWh x PUE x load."""
    return HOURS_PER_YEAR * 1e-6 * power_price * pue * load


@formula("USD/W-yr", increment="USD/share", power="MW", price="USD/W-yr", tax="rate", shares="bn shares")
def calibrated_cost(increment: Number, power: Number, price: Number, tax: Number, shares: Number) -> Number:
    """The cost per watt that makes the bridge give a published increment: p - EPS 1000 N / (P (1-t)).

    It is the largest cost that is consistent with the published cell; one cell can't tell cost from tax and shares.
    """
    return price - increment * 1000.0 * shares / (power * (1.0 - tax))


@formula("USD/share", increment="USD/share", power="MW", price="USD/W-yr", at_power="MW", at_price="USD/W-yr")
def proportional_eps(increment: Number, power: Number, price: Number, at_power: Number, at_price: Number) -> Number:
    """The published cell scaled with megawatts and price, as if the margin were the same at every price."""
    return increment * (at_power / power) * (at_price / price)


@formula("share", increment="USD/share", shares="bn shares", revenue="USD bn")
def net_margin(increment: Number, shares: Number, revenue: Number) -> Number:
    """Net income over revenue that a published increment implies at a share count."""
    return increment * shares / revenue


@formula("bn shares", increment="USD/share", tax="rate", revenue="USD bn")
def shares_at_most(increment: Number, tax: Number, revenue: Number) -> Number:
    """The share count can't exceed this, whatever the cost: (1-t) revenue / EPS."""
    return (1.0 - tax) * revenue / increment


@formula("USD/W-yr, IT", power_price="USD/MWh", pue="ratio", load="share")
def power_cost_per_it_watt(power_price: Number, pue: Number, load: Number = 1.0) -> Number:
    """The same as power_cost(), with the basis that it is counted at: add it to costs that state IT watts too."""
    return HOURS_PER_YEAR * 1e-6 * power_price * pue * load


@formula("USD/W-yr", cost="USD/W-yr", capex="USD/W", life="yr", used="share")
def break_even_price(cost: Number, capex: Number = 0.0, life: Number = 1.0, used: Number = 1.0) -> Number:
    """The price at which the lease adds nothing: (c + K/L) / u; with `capex` 0 it is the sunk reading."""
    return (cost + capex / life) / used


@formula("x", price="USD/W-yr", cost="USD/W-yr")
def price_elasticity(price: Number, cost: Number) -> Number:
    """Per cent of EPS per per cent of price, p / (p - c); 1 under a constant margin."""
    return price / (price - cost)


@formula("MW", gap="USD/share", slope="USD/share per MW")
def power_to_close(gap: Number, slope: Number) -> Number:
    """Megawatts that close an EPS gap. Label it cross-bank where gap and slope come from different banks."""
    return gap / slope


@formula("USD/W-yr", price="USD/W-yr", cost="USD/W-yr", ratio="ratio")
def price_of_slope(price: Number, cost: Number, ratio: Number) -> Number:
    """The price at which the affine bridge gives `ratio` of what it gives at `price`: c + ratio (p - c)."""
    return cost + ratio * (price - cost)


@formula("USD/share", increment="USD/share", price="USD/W-yr", at_price="USD/W-yr", cost="USD/W-yr")
def through_published_cell(increment: Number, price: Number, at_price: Number, cost: Number) -> Number:
    """EPS at another price for a cost that is consistent with the published cell: EPS (p' - c) / (p - c).

    One cell can't identify the cost: c = 0 is the constant-margin grid, the largest possible c the other edge.
    """
    return increment * (at_price - cost) / (price - cost)


@formula("USD/share per MW", result="USD/share", power="MW")
def slope_of_power(result: Number, power: Number) -> Number:
    """EPS per megawatt at the price of `result`."""
    return result / power


@formula("USD/share per USD/W", increment="USD/share", price="USD/W-yr")
def slope_of_price(increment: Number, price: Number) -> Number:
    """EPS per USD/W of a one-year term under a constant margin: EPS / p."""
    return increment / price


@formula("USD/share per USD/W", power="MW", tax="rate", shares="bn shares")
def slope_of_price_at_cost(power: Number, tax: Number, shares: Number) -> Number:
    """EPS per USD/W of a one-year term at a constant cost: P (1-t) / (1000 N)."""
    return power * (1.0 - tax) / (1000.0 * shares)
