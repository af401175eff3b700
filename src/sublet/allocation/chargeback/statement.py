"""Monthly statements of internal teams, at cost, at market price, or at what their use displaced."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from sublet.allocation.chargeback.book import Book, Use, shares
from sublet.values.money import Money, currency_digits

CLAIM = "claim"
"""The product of internal seconds that a claim covered."""


class Basis(StrEnum):
    """What an internal hour is charged at."""

    COST = "cost"
    MARKET = "market"
    OPPORTUNITY = "opportunity"


@dataclass(frozen=True, slots=True)
class Hour:
    """One hour of a pool. `cost_nano` and `market_nano` are per accelerator-hour. `displaced_nano` is what the owner's whole internal
    use displaced: V(idle + internal) - V(idle), a difference of two solutions and never a shadow price, which would overstate it.
    `patience_s` are seconds that each team's work waited for tenants."""

    pool: str
    book: Book
    cost_nano: int
    market_nano: int
    displaced_nano: int | None
    patience_s: Mapping[str, int] = field(default_factory=dict)
    """`displaced_nano` is None where nobody could say: then the hour costs nothing at opportunity price, and is counted."""


@dataclass(slots=True)
class TeamLine:
    """A team's month, in accelerator-seconds; `charge` and `displaced` are in whole units of the currency's own digits.
    `claimed_used_s` is the part of `used_s` that a claim covered. `displaced` is what its use displaced, whatever the basis."""

    team: str
    used_s: int = 0
    claimed_used_s: int = 0
    claimed_idle_s: int = 0
    patience_s: int = 0
    nano: int = 0
    displaced_nano: int = 0
    charge: Money = field(default_factory=lambda: Money(0))
    displaced: Money = field(default_factory=lambda: Money(0))


@dataclass(frozen=True, slots=True)
class Statement:
    """The month of one owner: its book, one line a team, and their sums. `hours` are hours of pools; `unpriced` are those whose
    opportunity price nobody knows."""

    basis: Basis
    book: Book
    lines: tuple[TeamLine, ...]
    total: Money
    displaced: Money
    hours: int
    unpriced: int


def statement(hours: Sequence[Hour], basis: Basis, currency: str = "USD") -> Statement:
    """Charge the hours of a month.

    Used and claimed hours cost the same; at opportunity price only use is charged, by the same price for all teams of an hour.
    Parts of an hour's charge, and the cents of the month, are divided by largest remainder, so that teams add up to the total.
    """
    whole, lines = Book(), dict[str, TeamLine]()
    total_nano = displaced_nano = 0
    for hour in hours:
        hour.book.check()
        whole.add(hour.book)
        used, billed = {}, {}
        for team in sorted({*hour.book.teams, *hour.patience_s}):
            line = lines.setdefault(team, TeamLine(team))
            used[team], idle = hour.book.team(Use.INTERNAL, team), hour.book.team(Use.WITHHELD, team)
            line.used_s += used[team]
            line.claimed_used_s += hour.book.team(Use.INTERNAL, team, CLAIM)
            line.claimed_idle_s += idle
            line.patience_s += hour.patience_s.get(team, 0)
            billed[team] = used[team] if basis is Basis.OPPORTUNITY else used[team] + idle
        charged = _charged(hour, basis, sum(billed.values()))
        displaced = _charged(hour, Basis.OPPORTUNITY, sum(used.values()))
        for team, nano in shares(charged, billed).items():
            lines[team].nano += nano
        for team, nano in shares(displaced, used).items():
            lines[team].displaced_nano += nano
        total_nano += charged
        displaced_nano += displaced
    total, displaced_total = (Money(nano, currency).rounded() for nano in (total_nano, displaced_nano))
    step = 10 ** (9 - currency_digits(currency))
    charges = shares(total.nano // step, {name: line.nano for name, line in lines.items()})
    displaced_by = shares(displaced_total.nano // step, {name: line.displaced_nano for name, line in lines.items()})
    for team, line in lines.items():
        line.charge = Money(charges[team] * step, currency)
        line.displaced = Money(displaced_by[team] * step, currency)
    unpriced = sum(hour.displaced_nano is None for hour in hours)
    ordered = tuple(lines[name] for name in sorted(lines))
    return Statement(basis, whole, ordered, total, displaced_total, len(hours), unpriced)


def _charged(hour: Hour, basis: Basis, seconds: int) -> int:
    """What the teams of an hour pay together, in nano-units; work that no team is known for is charged to nobody."""
    if basis is Basis.OPPORTUNITY:
        internal = hour.book.of(Use.INTERNAL)
        return (hour.displaced_nano or 0) * seconds // internal if internal else 0
    rate = hour.cost_nano if basis is Basis.COST else hour.market_nano
    return rate * seconds // 3600
