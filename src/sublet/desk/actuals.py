"""What really was earned: pure functions from plain records of usage, pools, contracts and forecasts.

The records are filled from the ledger, the leases and the fleet by `wiring`; nothing here reads a
database. Money comes in as whole billionths of a currency unit and is summed exactly; it becomes a float only in ratios.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta

from sublet.desk.counterparties import (
    Backlogs,
    Contract,
    RenewalStress,
    backlogs,
    expected_loss,
    hhi_floor,
    remaining_term,
    renewal_ladder,
)
from sublet.desk.statement import Statement
from sublet.desk.units import HOURS_PER_YEAR, Basis
from sublet.values.errors import InvalidInputError
from sublet.values.money import NANO
from sublet.values.windows import Window

CHANNELS = ("raw", "managed")
"""How capacity is sold: let as accelerators, or as answers of a model."""


@dataclass(frozen=True, slots=True)
class PoolRecord:
    """A pool of the fleet. `watts_it_w` is per accelerator at IT level; `offered_hours` is the surplus that could be sold."""

    pool: str
    generation: str
    accelerators: int
    watts_it_w: float
    offered_hours: float

    def __post_init__(self) -> None:
        if self.accelerators < 0 or self.offered_hours < 0:
            raise InvalidInputError(f"pool {self.pool!r}: accelerators and offered hours can't be negative")
        if not self.watts_it_w > 0:
            raise InvalidInputError(
                f"pool {self.pool!r}: watts per accelerator are {self.watts_it_w:g}; give them at IT level, above zero"
            )


@dataclass(frozen=True, slots=True)
class UsageRecord:
    """Usage of one customer in one pool and channel. `revenue_nano` is before tax, after discounts, before credits."""

    pool: str
    channel: str
    customer: str
    accelerator_hours: float
    revenue_nano: int


@dataclass(frozen=True, slots=True)
class CreditRecord:
    """What a customer was credited for a broken promise. `pool` is where the lease was; empty where that is not known."""

    pool: str
    nano: int


@dataclass(frozen=True, slots=True)
class OtherRecord:
    """Revenue that no pool and channel has: fees, commitments, energy, and usage whose pool is not known. `kind` says which."""

    kind: str
    customer: str
    nano: int


@dataclass(frozen=True, slots=True)
class ForecastRecord:
    """What the forecast said of a pool's surplus in a window, and what it turned out to be, in accelerators."""

    pool: str
    at: datetime
    low: float
    middle: float
    high: float
    actual: float


@dataclass(frozen=True, slots=True)
class Comparable:
    """Somebody else's price to hold one's own against."""

    name: str
    usd_per_watt_year: float
    basis: Basis
    source: str
    date: str


def commitment(id_: str, customer: str, value_nano: int, window: Window) -> Contract:
    """A lease as a contract. Contracts count days, so a window is widened to the whole days that it touches."""
    first = window.start.date()
    last = window.end.date() if window.end.time() == time(0) else window.end.date() + timedelta(days=1)
    return Contract(id_, customer, value_nano / NANO, first, last, source="leases")


MARKET_COMPARABLES = (
    Comparable(
        "xAI to Anthropic, 500 MW at USD 1.25 bn a month",
        30.0,
        Basis.UNKNOWN,
        "market commentary (Odaily, WallstreetCN)",
        "2026-07-02",
    ),
    Comparable(
        "IREN to Microsoft, 200 MW for five years",
        9.7,
        Basis.IT,
        "IREN announcement: USD 9.7 bn over five years, critical IT load",
        "2025-11",
    ),
)
"""A short-term price and a five-year one: the two ends between which a lease of spare capacity is usually judged."""


@dataclass(slots=True)
class Tally:
    """Revenue, credits for broken promises and accelerator-hours of one group."""

    revenue_nano: int = 0
    accelerator_hours: float = 0.0
    watt_hours: float = 0.0
    credits_nano: int = 0

    def add(self, usage: UsageRecord, watts_it_w: float) -> None:
        self.revenue_nano += usage.revenue_nano
        self.accelerator_hours += usage.accelerator_hours
        self.watt_hours += usage.accelerator_hours * watts_it_w

    @property
    def revenue(self) -> float:
        """In major units of the currency."""
        return self.revenue_nano / NANO

    @property
    def credits(self) -> float:
        """In major units of the currency."""
        return self.credits_nano / NANO

    @property
    def earned(self) -> float:
        """Revenue less credits, in major units of the currency."""
        return (self.revenue_nano - self.credits_nano) / NANO

    @property
    def per_accelerator_hour(self) -> float | None:
        """Realized price per accelerator-hour; None where nothing was used."""
        return self.revenue / self.accelerator_hours if self.accelerator_hours else None

    @property
    def per_watt_year(self) -> float | None:
        """Realized price per IT watt and year of use: revenue / (watt-hours / 8760). None where nothing was used."""
        return self.revenue * HOURS_PER_YEAR / self.watt_hours if self.watt_hours else None

    @property
    def earned_per_watt_year(self) -> float | None:
        """The same of what was earned."""
        return self.earned * HOURS_PER_YEAR / self.watt_hours if self.watt_hours else None


@dataclass(frozen=True, slots=True)
class Actuals:
    """The records of one window, grouped once. Build it with `gather`."""

    owner: str
    window: Window
    currency: str
    pools: Mapping[str, PoolRecord]
    by_pool_channel: Mapping[tuple[str, str], Tally]
    by_customer: Mapping[str, Tally]
    contracts: tuple[Contract, ...] = ()
    forecasts: tuple[ForecastRecord, ...] = ()
    comparables: tuple[Comparable, ...] = field(default=MARKET_COMPARABLES)
    usage_rows: int = 0
    elsewhere_nano: int = 0
    """Credits of which no pool is known."""
    others: Mapping[str, int] = field(default_factory=dict)
    """Revenue that no pool and channel has, by kind, in billionths."""
    statement: Statement | None = None

    @property
    def total(self) -> Tally:
        """Everything that was sold out of pools, and credited."""
        return _merged([*self.by_pool_channel.values(), Tally(credits_nano=self.elsewhere_nano)])

    def channel(self, channel: str) -> Tally:
        """Everything sold in one channel."""
        return _merged(tally for (_, name), tally in self.by_pool_channel.items() if name == channel)

    def pool(self, pool: str) -> Tally:
        """Everything sold out of one pool."""
        return _merged(tally for (name, _), tally in self.by_pool_channel.items() if name == pool)


def gather(
    owner: str,
    window: Window,
    pools: Iterable[PoolRecord],
    usage: Iterable[UsageRecord],
    *,
    currency: str = "USD",
    contracts: Iterable[Contract] = (),
    forecasts: Iterable[ForecastRecord] = (),
    comparables: Sequence[Comparable] = MARKET_COMPARABLES,
    credits: Iterable[CreditRecord] = (),
    others: Iterable[OtherRecord] = (),
    statement: Statement | None = None,
) -> Actuals:
    """Group usage by pool, channel and customer in one pass over `usage`, which may be a stream of any length.

    Raises InvalidInputError for usage of an unknown pool or channel, and for negative hours.
    """
    known = {record.pool: record for record in pools}
    grouped: defaultdict[tuple[str, str], Tally] = defaultdict(Tally)
    customers: defaultdict[str, Tally] = defaultdict(Tally)
    rows = 0
    for rows, record in enumerate(usage, start=1):
        pool = known.get(record.pool)
        if pool is None or record.channel not in CHANNELS or record.accelerator_hours < 0:
            _refuse(rows, record, known)
        else:
            grouped[record.pool, record.channel].add(record, pool.watts_it_w)
            customers[record.customer].add(record, pool.watts_it_w)
    elsewhere = 0
    for credit in credits:
        if credit.pool in known:
            grouped[credit.pool, "raw"].credits_nano += credit.nano
        else:
            elsewhere += credit.nano
    beside: defaultdict[str, int] = defaultdict(int)
    for other in others:
        beside[other.kind] += other.nano
        customers[other.customer].revenue_nano += other.nano
    return Actuals(
        owner, window, currency, known, dict(grouped), dict(customers), tuple(contracts), tuple(forecasts),
        tuple(comparables), rows, elsewhere, dict(beside), statement,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class WorthLine:
    """What was earned, per accelerator-hour and per IT watt and year, next to what others get. Prices are of the
    `revenue` of pools; `other` is what no pool has, as fees; `earned` is what the `credits` for broken promises leave of both."""

    currency: str
    revenue: float
    credits: float
    earned: float
    accelerator_hours: float
    per_accelerator_hour: float | None
    per_watt_year_it: float | None
    earned_per_watt_year_it: float | None
    comparables: tuple[Comparable, ...]
    other: float = 0.0

    @property
    def sentence(self) -> str:
        """One line for a terminal. Each comparable carries its source, its date and its basis."""
        if self.per_accelerator_hour is None or self.per_watt_year_it is None:
            given = (
                f" {_amount(self.credits)} {self.currency} were credited for broken promises." if self.credits else ""
            )
            besides = f" {_amount(self.other)} {self.currency} came from {_OTHER}." if self.other else ""
            return f"Nothing was sold in this window, so there is no realized price.{besides}{given}"
        others = "; ".join(
            f"{other.name}: {other.usd_per_watt_year:g} USD/W-yr, basis {other.basis} ({other.source}, {other.date})"
            for other in self.comparables
        )
        less = after = ""
        if self.credits or self.other:
            besides = f" and {_amount(self.other)} from {_OTHER}" if self.other else ""
            taken = f" less {_amount(self.credits)} credited for broken promises" if self.credits else ""
            less = f" ({_amount(self.revenue)} of revenue{besides}{taken})"
        if self.credits:
            after = f", {self.earned_per_watt_year_it:.4g} after the credits"
        return (
            f"Earned {_amount(self.earned)} {self.currency} on {_amount(self.accelerator_hours)} accelerator-hours{less}: "
            f"{self.per_accelerator_hour:.4g} {self.currency} per accelerator-hour, which is "
            f"{self.per_watt_year_it:.4g} {self.currency}/W-yr at IT level while in use{after}. For comparison: {others}."
        )


_OTHER = "fees, commitments, energy and usage of no known pool"


def _amount(number: float) -> str:
    """Two decimals, or as many as it takes to show four figures of something small."""
    return f"{number:,.2f}" if abs(number) >= 1 or number == 0 else f"{number:.4g}"


def worth(actuals: Actuals) -> WorthLine:
    """The line that the whole of Sublet leads to. Prices are over hours in use; `pool_lines` has them over offered hours too."""
    total, other = actuals.total, sum(actuals.others.values())
    return WorthLine(
        actuals.currency, total.revenue, total.credits, (total.revenue_nano + other - total.credits_nano) / NANO,
        total.accelerator_hours, total.per_accelerator_hour, total.per_watt_year, total.earned_per_watt_year,
        actuals.comparables[:2], other / NANO,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class PoolLine:
    """One pool and channel of the actuals page. `utilization` is of the pool's offered hours, over both channels."""

    pool: str
    generation: str
    channel: str
    revenue: float
    credits: float
    earned: float
    accelerator_hours: float
    per_accelerator_hour: float | None
    per_watt_year: float | None
    per_offered_watt_year: float | None
    utilization: float | None


def pool_lines(actuals: Actuals) -> list[PoolLine]:
    """Realized prices by pool and channel, and the share of offered surplus that was sold."""
    lines = []
    for (pool, channel), tally in sorted(actuals.by_pool_channel.items()):
        record = actuals.pools[pool]
        offered = record.offered_hours
        lines.append(
            PoolLine(
                pool,
                record.generation,
                channel,
                tally.revenue,
                tally.credits,
                tally.earned,
                tally.accelerator_hours,
                tally.per_accelerator_hour,
                tally.per_watt_year,
                tally.revenue * HOURS_PER_YEAR / (offered * record.watts_it_w) if offered else None,
                actuals.pool(pool).accelerator_hours / offered if offered else None,
            )
        )
    return lines


@dataclass(frozen=True, slots=True)
class Concentration:
    """Revenue by customer, the largest first, with the index over all of them: nobody is unknown in one's own ledger."""

    revenue: Mapping[str, float]
    shares: Mapping[str, float]
    hhi: float | None
    effective_customers: float | None


def concentration(actuals: Actuals) -> Concentration:
    """Concentration of the window's revenue. Customers whose revenue is not above zero are left out of the index."""
    revenue = {name: tally.revenue for name, tally in actuals.by_customer.items() if tally.revenue_nano > 0}
    ordered = dict(sorted(revenue.items(), key=lambda item: (-item[1], item[0])))
    total = sum(ordered.values())
    if not total:
        return Concentration({}, {}, None, None)
    index = float(hhi_floor(list(ordered.values()), total))
    return Concentration(ordered, {name: value / total for name, value in ordered.items()}, index, 1.0 / index)


@dataclass(frozen=True, slots=True)
class ContractBook:
    """What customers have committed to, as of a date."""

    backlogs: Backlogs
    remaining_years: float
    ladder: Mapping[int, Mapping[str, float]]
    stress: Mapping[int, float]


RENEWED_FROM = timedelta(days=30)
"""A shorter lease is not a contract that a customer renews: a day's rent times 365 is nobody's run-rate."""


def contract_book(actuals: Actuals, as_of: date, stress: RenewalStress) -> ContractBook:
    """Backlog, remaining term and renewal ladder of the real contracts, and the expected run-rate loss of those of 30 days or more."""
    open_contracts = [contract for contract in actuals.contracts if contract.last_day > as_of]
    renewed = [contract for contract in open_contracts if contract.last_day - contract.start >= RENEWED_FROM]
    last = max((contract.last_day.year for contract in renewed), default=as_of.year)
    return ContractBook(
        backlogs(open_contracts, as_of),
        remaining_term(open_contracts, as_of),
        renewal_ladder(open_contracts),
        expected_loss(renewed, stress, range(as_of.year, last + 2)) if renewed else {},
    )


VERDICTS = ("nothing sold", "sold in one channel only", "both the same", "managed earned more", "raw earned more")
"""How the two channels of a pool compare."""


@dataclass(frozen=True, slots=True)
class ChannelComparison:
    """Raw against managed in one pool, per accelerator-hour in use."""

    pool: str
    raw: float | None
    managed: float | None

    @property
    def verdict(self) -> str:
        """One of VERDICTS."""
        nothing, one, same, managed, raw = VERDICTS
        if self.raw is None or self.managed is None:
            return one if self.raw is not None or self.managed is not None else nothing
        if self.raw == self.managed:
            return same
        return managed if self.managed > self.raw else raw


def raw_against_managed(actuals: Actuals) -> list[ChannelComparison]:
    """Realized price per accelerator-hour by pool in the two channels."""
    empty = Tally()
    return [
        ChannelComparison(
            pool,
            actuals.by_pool_channel.get((pool, "raw"), empty).per_accelerator_hour,
            actuals.by_pool_channel.get((pool, "managed"), empty).per_accelerator_hour,
        )
        for pool in sorted(actuals.pools)
    ]


@dataclass(frozen=True, slots=True)
class ForecastScore:
    """How a pool's forecast did: mean signed error and mean absolute error in accelerators, share inside low..high."""

    pool: str
    windows: int
    bias: float
    absolute_error: float
    coverage: float


def forecast_scores(actuals: Actuals) -> list[ForecastScore]:
    """Forecast against actual by pool."""
    grouped: defaultdict[str, list[ForecastRecord]] = defaultdict(list)
    for record in actuals.forecasts:
        grouped[record.pool].append(record)
    scores = []
    for pool, records in sorted(grouped.items()):
        errors = [record.middle - record.actual for record in records]
        inside = sum(record.low <= record.actual <= record.high for record in records)
        count = len(records)
        scores.append(ForecastScore(pool, count, sum(errors) / count, sum(map(abs, errors)) / count, inside / count))
    return scores


def _merged(tallies: Iterable[Tally]) -> Tally:
    total = Tally()
    for tally in tallies:
        total.revenue_nano += tally.revenue_nano
        total.credits_nano += tally.credits_nano
        total.accelerator_hours += tally.accelerator_hours
        total.watt_hours += tally.watt_hours
    return total


def _refuse(row: int, record: UsageRecord, known: Mapping[str, PoolRecord]) -> None:
    if record.pool not in known:
        listed = ", ".join(sorted(known)) or "none"
        raise InvalidInputError(f"usage row {row}: pool {record.pool!r} is not among the pools given ({listed})")
    if record.channel not in CHANNELS:
        raise InvalidInputError(f"usage row {row}: channel {record.channel!r}; write raw or managed")
    raise InvalidInputError(f"usage row {row}: {record.accelerator_hours:g} accelerator-hours; hours can't be negative")
