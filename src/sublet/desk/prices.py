"""Prices of capacity in every form that deals are quoted in, and the check of a printed price against its own deal."""

from __future__ import annotations

from dataclasses import dataclass

from sublet.desk.errors import BasisError
from sublet.desk.formulas import formula
from sublet.desk.intervals import Interval
from sublet.desk.terms import Number
from sublet.desk.units import HOURS_PER_YEAR, Basis
from sublet.values.errors import InvalidInputError


@formula("USD/W-yr", payment="USD m/month", power="MW")
def price_of_payment(payment: Number, power: Number) -> Number:
    """Price per watt and year of a monthly `payment` for `power`: twelve payments over the watts."""
    return payment * 12.0 / power


@formula("USD/W-yr", value="USD m", years="yr", power="MW")
def price_of_contract(value: Number, years: Number, power: Number) -> Number:
    """Price per watt and year of a contract's total `value` over its term; growth inside the term is averaged out."""
    return value / (years * power)


@formula("USD/GPU-h", price="USD/W-yr", watts="W/accelerator")
def per_accelerator_hour(price: Number, watts: Number) -> Number:
    """Price per accelerator-hour; `price` and `watts` must be counted at the same point of the power chain."""
    return price * watts / HOURS_PER_YEAR


@formula("USD/W-yr", price="USD/GPU-h", watts="W/accelerator")
def per_watt_year(price: Number, watts: Number) -> Number:
    """Price per watt and year of an hourly price, at the basis of `watts`."""
    return price * HOURS_PER_YEAR / watts


@formula("USD/kW-month", price="USD/W-yr")
def per_kilowatt_month(price: Number) -> Number:
    """Price per kilowatt and month, the form in which colocation is quoted."""
    return price * 1000.0 / 12.0


@formula("USD/W-yr, IT", price="USD/W-yr, facility", pue="ratio")
def at_it_level(price: Number, pue: Number) -> Number:
    """A facility-level price per watt seen at IT level: p_IT = p_facility x PUE, as fewer watts carry the same payment."""
    return price * pue


@formula("MW, facility", power="MW, IT", pue="ratio")
def at_facility_level(power: Number, pue: Number) -> Number:
    """IT power seen at the facility's meter: IT x PUE."""
    return power * pue


@formula("USD/GPU-h", payment="USD/month", accelerators="accelerators")
def hourly_price_of_payment(payment: Number, accelerators: Number) -> Number:
    """Price per accelerator-hour of a monthly payment for a number of accelerators; a month has 730 h."""
    return payment / (accelerators * 730.0)


@formula("accelerators", power="MW", watts="W/accelerator")
def accelerators_in(power: Number, watts: Number) -> Number:
    """How many accelerators a block of power runs, both at the same basis."""
    return power * 1e6 / watts


@dataclass(frozen=True, slots=True)
class WattPrice:
    """A price in USD/W-yr with what it is a price of.

    USD bn/GW-yr and USD m/MW-yr are the same number, so they need no method of their own.
    """

    usd_per_watt_year: float
    basis: Basis
    term_months: float | None = None
    cancellable: bool | None = None
    includes: tuple[str, ...] = ()

    def at_it_level(self, pue_low: float, pue_high: float) -> Interval:
        """The price per IT watt: a point for a known basis, a range where the basis is unknown.

        An unknown basis may be IT already (the price as it is) or facility (the price times the PUE). A utility-level
        price carries transmission losses as well and is treated as facility.
        """
        if not 1.0 <= pue_low <= pue_high:
            raise InvalidInputError(
                f"PUE runs from {pue_low:g} to {pue_high:g}; write a range that starts at 1 or above"
            )
        price = self.usd_per_watt_year
        if self.basis is Basis.IT:
            return Interval(price, price)
        if self.basis is Basis.UNKNOWN:
            return Interval(price, price * pue_high)
        return Interval(price * pue_low, price * pue_high)

    def per_accelerator_hour(self, watts_per_accelerator_w: float, basis: Basis) -> float:
        """USD per accelerator-hour. Raises BasisError unless the watts are counted where the price counts them."""
        if self.basis != basis:
            raise BasisError(
                f"basis differs: the price is per watt at {self.basis} level, the accelerator's watts are at {basis} "
                "level; give the watts at the price's basis, or bring the price to IT level first"
            )
        return float(per_accelerator_hour(self.usd_per_watt_year, watts_per_accelerator_w))
