"""Who the revenue hangs on: shares, concentration as a range, four kinds of backlog, the renewal ladder and its stress."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from sublet.desk.errors import ContractError
from sublet.desk.terms import Number, Term
from sublet.values.errors import InvalidInputError


def years_between(start: date, end: date) -> float:
    """Whole years from anniversary to anniversary, and the days after the last as a part of the year that they are in.

    Five years are 5.0 however many leap days lie in them. An anniversary of February 29 is March 1 in other years.
    """
    whole = end.year - start.year
    if _anniversary(start, whole) > end:
        whole -= 1
    last, following = _anniversary(start, whole), _anniversary(start, whole + 1)
    return whole + (end - last).days / (following - last).days


def _anniversary(start: date, years: int) -> date:
    try:
        return start.replace(year=start.year + years)
    except ValueError:
        return date(start.year + years, 3, 1)


@dataclass(frozen=True, slots=True)
class Contract:
    """What a customer has committed to. `value` is the signing value in one currency; the window is [start, end).

    `is_competitor` says that the customer could sell the same thing itself; `recognized` is revenue booked so far;
    `performance_obligation` is RPO where the seller reports it, and is never guessed from the other three.
    """

    id: str
    customer: str
    value: float
    start: date
    end: date | None
    is_competitor: bool = False
    recognized: float | None = None
    performance_obligation: float | None = None
    source: str = ""

    def __post_init__(self) -> None:
        if self.end is None:
            raise ContractError(
                f"contract {self.id!r} has no end; write `end = YYYY-MM-DD`, assumed if need be", field="end"
            )
        if self.end <= self.start:
            raise ContractError(
                f"contract {self.id!r} ends on {self.end} but starts on {self.start}; write an end after the start",
                field="end",
            )
        if not self.value > 0:
            raise ContractError(f"contract {self.id!r} has value {self.value:g}; write the signing value, above zero")

    @property
    def last_day(self) -> date:
        """The end, which a valid contract always has."""
        assert self.end is not None
        return self.end

    @property
    def years(self) -> float:
        """The whole term in years, by exact days."""
        return years_between(self.start, self.last_day)

    def share_left(self, as_of: date) -> float:
        """The part of the term that lies after `as_of`."""
        whole = (self.last_day - self.start).days
        return min(1.0, max(0.0, (self.last_day - max(as_of, self.start)).days / whole))

    def remaining(self, as_of: date) -> float:
        """Signing value less what was recognized; straight line over the term where that isn't reported."""
        if self.recognized is not None:
            return max(0.0, self.value - self.recognized)
        return self.value * self.share_left(as_of)


@dataclass(frozen=True, slots=True)
class Backlogs:
    """Four fields that are often taken for one another. None where nobody reported it."""

    signing: float
    remaining: float
    revenue_backlog: float | None
    performance_obligation: float | None


def backlogs(contracts: Sequence[Contract], as_of: date, reported: float | None = None) -> Backlogs:
    """The four backlogs of `contracts`; `reported` is the company's own revenue backlog. RPO needs every contract's."""
    obligations = [contract.performance_obligation for contract in contracts]
    known = [value for value in obligations if value is not None]
    return Backlogs(
        signing=math.fsum(contract.value for contract in contracts),
        remaining=math.fsum(contract.remaining(as_of) for contract in contracts),
        revenue_backlog=reported,
        performance_obligation=math.fsum(known) if contracts and len(known) == len(contracts) else None,
    )


def by_customer(contracts: Iterable[Contract]) -> dict[str, float]:
    """Signing value by customer, the largest first."""
    totals: dict[str, float] = defaultdict(float)
    for contract in contracts:
        totals[contract.customer] += contract.value
    return dict(sorted(totals.items(), key=lambda item: (-item[1], item[0])))


def shares(values: Mapping[str, float], backlog: float) -> dict[str, float]:
    """Each customer's share of `backlog`. Raises InvalidInputError where the known values exceed it."""
    if not backlog > 0:
        raise InvalidInputError(f"backlog is {backlog:g}; write the backlog as a number above zero", field="backlog")
    if math.fsum(values.values()) > backlog * (1 + 1e-12):
        raise InvalidInputError(
            f"the customers' values sum to {math.fsum(values.values()):g}, more than the backlog of {backlog:g}; "
            "one of them is signing value and the other what remains: use the same kind for both"
        )
    return {name: value / backlog for name, value in values.items()}


def hhi_floor(values: Sequence[Number], backlog: Number) -> Number:
    """Herfindahl-Hirschman index (sum of squared shares) when everybody unknown is atomized."""
    return _sum_of_squares(values) / backlog**2


def hhi_ceiling(values: Sequence[Number], backlog: Number, block: Number | None = None) -> Number:
    """The index when the unknown rest sits in the fewest blocks, none larger than `block` (default: one block).

    The number of full blocks is fixed by the numbers given; the formula traced for them holds near these numbers.
    """
    rest = backlog - _sum(values)
    if block is None:
        return hhi_floor(values, backlog) + (rest / backlog) ** 2
    whole = int(_plain(rest) / _plain(block) + 1e-12)
    left = rest - whole * block
    return hhi_floor(values, backlog) + (whole * block**2 + left**2) / backlog**2


def effective_customers(hhi: Number) -> Number:
    """How many customers of equal size would give the same index."""
    return 1.0 / hhi


def remaining_term(contracts: Sequence[Contract], as_of: date) -> float:
    """Weighted average remaining term in years: sum of value x years left over sum of value (WART)."""
    total = math.fsum(contract.value for contract in contracts)
    if total <= 0:
        return 0.0
    years = [
        contract.value * years_between(as_of, contract.last_day) for contract in contracts if contract.last_day > as_of
    ]
    return math.fsum(years) / total


def renewal_ladder(contracts: Iterable[Contract]) -> dict[int, dict[str, float]]:
    """Signing value by the year in which it ends, and by customer: {2031: {"Meta": 14.2}}."""
    ladder: dict[int, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for contract in contracts:
        ladder[contract.last_day.year][contract.customer] += contract.value
    return {year: dict(ladder[year]) for year in sorted(ladder)}


REPRICE_MAX = 1000


@dataclass(frozen=True, slots=True)
class RenewalStress:
    """What happens at renewal: the share that renews, and the price it renews at as a share of the old one."""

    renew: float
    reprice: float
    renew_competitor: float | None = None

    def __post_init__(self) -> None:
        for name in ("renew", "renew_competitor"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise InvalidInputError(f"{name} is {value:g}; write a share between 0 and 1", field=name)
        if not 0 <= self.reprice <= REPRICE_MAX:
            raise InvalidInputError(
                f"reprice is {self.reprice:g}; write the new price over the old, as 0.8, at most {REPRICE_MAX}",
                field="reprice",
            )

    def kept(self, contract: Contract) -> float:
        """The share of a contract's run-rate that is left after its end."""
        renew = self.renew
        if contract.is_competitor and self.renew_competitor is not None:
            renew = self.renew_competitor
        return renew * self.reprice


def expected_loss(contracts: Iterable[Contract], stress: RenewalStress, years: Iterable[int]) -> dict[int, float]:
    """Expected loss of yearly run-rate by calendar year: sum of a (exposed days / days) (1 - renew x reprice).

    Nothing is lost before a contract's end.
    """
    listed = list(contracts)
    losses: dict[int, float] = {}
    for year in years:
        first, after = date(year, 1, 1), date(year + 1, 1, 1)
        days = (after - first).days
        terms = []
        for contract in listed:
            exposed = max(0, (after - max(first, contract.last_day)).days)
            terms.append(contract.value / contract.years * (exposed / days) * (1.0 - stress.kept(contract)))
        losses[year] = math.fsum(terms)
    return losses


def _sum(values: Sequence[Number]) -> Number:
    total: Number = 0.0
    for value in values:
        total = total + value
    return total


def _sum_of_squares(values: Sequence[Number]) -> Number:
    return _sum([value**2 for value in values])


def _plain(value: Number) -> float:
    return float(value.value if isinstance(value, Term) else value)
