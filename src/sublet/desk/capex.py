"""Capital: what a permanent build adds to the path, depreciation by vintage, the price that earns it back, and when."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sublet.desk.formulas import formula
from sublet.desk.terms import Number, Term
from sublet.values.errors import InvalidInputError


@formula("ratio", rate="rate", life="yr")
def capital_recovery(rate: Number, life: Number) -> Number:
    """CRF(r, L) = r / (1 - (1+r)^-L): the level yearly payment per unit of capital that returns it with interest.

    At r = 0 the limit is 1/L, which the formula itself can't give; a rate of exactly zero is refused by division.
    """
    return rate / (1.0 - (1.0 + rate) ** (-life))


@formula("USD/W-yr", capex="USD/W", rate="rate", life="yr", cost="USD/W-yr")
def full_cost_price(capex: Number, rate: Number, life: Number, cost: Number) -> Number:
    """The price that pays for new capacity: K CRF(r, L) + c."""
    return capex * (rate / (1.0 - (1.0 + rate) ** (-life))) + cost


@formula("yr", capex="USD/W", price="USD/W-yr", cost="USD/W-yr")
def payback(capex: Number, price: Number, cost: Number) -> Number:
    """Years until the margin has returned the capital, undiscounted: K / (p - c)."""
    return capex / (price - cost)


@formula("USD bn", base="USD bn", addition="GW", capex="USD bn/GW")
def permanent_path(base: Number, addition: Number, capex: Number) -> Number:
    """A year's capex when capacity is built to be let: base + GW x K. Temporary leasing adds nothing to it."""
    return base + addition * capex


@formula("USD bn", base="USD bn", displaced="GW", capex="USD bn/GW")
def displaced_path(base: Number, displaced: Number, capex: Number) -> Number:
    """A year's capex when leased-in capacity replaces some that would have been built: base - GW x K."""
    return base - displaced * capex


@formula("USD/share", charge="USD bn", tax="rate", shares="bn shares")
def eps_of_charge(charge: Number, tax: Number, shares: Number) -> Number:
    """What a pre-tax charge costs in EPS: charge (1-t) / N."""
    return charge * (1.0 - tax) / shares


@formula("MW", charge="USD bn", price="USD/W-yr", cost="USD/W-yr")
def power_to_cover(charge: Number, price: Number, cost: Number) -> Number:
    """Megawatts let for a year whose margin covers a pre-tax charge."""
    return charge * 1000.0 / (price - cost)


@formula("USD/W", price="USD/W-yr", cost="USD/W-yr", rate="rate", renewal="prob", years="yr")
def bridge_value(price: Number, cost: Number, rate: Number, renewal: Number, years: Number) -> Number:
    """Present value per watt of a lease that renews each year with probability `renewal`, for at most `years`.

    The sum over k of (p - c) (q/(1+r))^k: what one year of income is worth when it is a bridge and not an annuity.
    """
    step = renewal / (1.0 + rate)
    return (price - cost) / (1.0 + rate) * (1.0 - step**years) / (1.0 - step)


def depreciation(path: Mapping[int, Number], life_years: Number, until: int) -> dict[int, dict[int, Number]]:
    """Straight-line depreciation by year and vintage, {year: {vintage: charge}}, with the half-year convention.

    A vintage bears half a year's charge in its first year, a full one after that, until the whole is written off.
    `path` is capex by year; the charge has its unit. Raises InvalidInputError for a life that is not above zero.
    """
    life = float(life_years.value if isinstance(life_years, Term) else life_years)
    if not life > 0:
        raise InvalidInputError(f"life is {life:g}; write the useful life in years, above zero", field="life")
    found: dict[int, dict[int, Number]] = {}
    for year in range(min(path), until + 1):
        charges: dict[int, Number] = {}
        for vintage, spent in path.items():
            weight = _year_weight(year - vintage, life)
            if weight > 0:
                charges[vintage] = spent / life_years * weight if weight != 1.0 else spent / life_years
        found[year] = charges
    return found


def _year_weight(age: int, life: float) -> float:
    """Which part of a full year's charge a vintage bears at `age` years."""
    if age < 0:
        return 0.0
    before = age - 0.5 if age else 0.0
    after = age + 0.5
    return max(0.0, min(after, life) - min(before, life))


def cut_path(path: Sequence[Number], cut: float) -> list[Number]:
    """The path with every year cut by the same fraction."""
    if not 0 <= cut < 1:
        raise InvalidInputError(f"cut is {cut:g}; write the cut as a fraction, 10 % as 0.1", field="cut")
    return [(1.0 - cut) * spent for spent in path]


def delayed_path(path: Sequence[Number], share: float) -> list[Number]:
    """The path with `share` of each year's capex moved into the next; the total keeps what falls behind the last year."""
    if not 0 <= share <= 1:
        raise InvalidInputError(f"delay is {share:g}; write the share that slips a year as a fraction", field="delay")
    moved: list[Number] = []
    previous: Number | None = None
    for spent in path:
        kept = spent * (1.0 - share)
        moved.append(kept if previous is None else kept + previous * share)
        previous = spent
    return moved
