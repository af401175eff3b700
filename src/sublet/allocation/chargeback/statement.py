"""Monthly statements of internal teams, at cost, at market price, or at what their use displaced."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from sublet.allocation.chargeback.book import Book, Use, shares
from sublet.values.money import Money, currency_digits


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
    displaced_nano: int
    patience_s: Mapping[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class TeamLine:
    """A team's month, in accelerator-seconds; `charge` is in whole units of the currency's own digits."""

    team: str
    used_s: int = 0
    claimed_idle_s: int = 0
    patience_s: int = 0
    nano: int = 0
    charge: Money = field(default_factory=lambda: Money(0))


@dataclass(frozen=True, slots=True)
class Statement:
    """The month of one owner: its book, one line a team, and their sum."""

    basis: Basis
    book: Book
    lines: tuple[TeamLine, ...]
    total: Money


def statement(hours: Sequence[Hour], basis: Basis, currency: str = "USD") -> Statement:
    """Charge the hours of a month.

    Used and claimed hours cost the same; at opportunity price only use is charged, by the same price for all teams of an hour.
    Parts of an hour's charge, and the cents of the month, are divided by largest remainder, so that teams add up to the total.
    """
    whole, lines = Book(), dict[str, TeamLine]()
    total_nano = 0
    for hour in hours:
        hour.book.check()
        whole.add(hour.book)
        weights = {}
        for team in sorted({*hour.book.teams, *hour.patience_s}):
            line = lines.setdefault(team, TeamLine(team))
            used, idle = hour.book.team(Use.INTERNAL, team), hour.book.team(Use.WITHHELD, team)
            line.used_s += used
            line.claimed_idle_s += idle
            line.patience_s += hour.patience_s.get(team, 0)
            weights[team] = used if basis is Basis.OPPORTUNITY else used + idle
        charged = _charged(hour, basis, sum(weights.values()))
        for team, nano in shares(charged, weights).items():
            lines[team].nano += nano
        total_nano += charged
    total = Money(total_nano, currency).rounded()
    step = 10 ** (9 - currency_digits(currency))
    for team, count in shares(total.nano // step, {name: line.nano for name, line in lines.items()}).items():
        lines[team].charge = Money(count * step, currency)
    return Statement(basis, whole, tuple(lines[name] for name in sorted(lines)), total)


def _charged(hour: Hour, basis: Basis, seconds: int) -> int:
    """What the teams of an hour pay together, in nano-units; work that no team is known for is charged to nobody."""
    if basis is Basis.OPPORTUNITY:
        internal = hour.book.of(Use.INTERNAL)
        return hour.displaced_nano * seconds // internal if internal else 0
    rate = hour.cost_nano if basis is Basis.COST else hour.market_nano
    return rate * seconds // 3600
