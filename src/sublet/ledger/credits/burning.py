"""Which credit pays for which usage: a pure function of grants and usage, each by its own time.

Usage is summed between the moments at which a grant starts or ends, and burnt in the order of time: what expires first, then
given before paid, then what was granted first. When usage arrived, when it was invoiced and whether an invoice was voided
make no difference. Credit that was given lowers the net amount; a deposit pays net and tax together.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from math import ceil, floor

Moment = tuple[int, int]
"""The start of a month, and a moment within it, in microseconds."""


BY_LINE, BY_AMOUNT = "by_line", "by_amount"
"""What a credit note takes off a month: of named lines, before every credit, so that these are free again; of an amount of
money, after what was given and before what was paid."""


@dataclass(frozen=True, slots=True)
class Grant:
    """Credit of `nano` for usage from `starts` on and before `ends`, in microseconds; `gross` where it pays the tax too, and
    `noted` (BY_LINE or BY_AMOUNT) where a credit note took it off."""

    id: str
    nano: int
    starts: int
    ends: int | None
    granted: int
    paid: bool = False
    gross: bool = False
    noted: str = ""

    @property
    def order(self) -> tuple[bool, int, bool, int, str]:
        return self.ends is None, self.ends or 0, self.paid, self.granted, self.id

    def covers(self, at: int) -> bool:
        return self.starts <= at and (self.ends is None or at < self.ends)


@dataclass(slots=True)
class Burnt:
    """What was used of each grant in each month, in its own money, and what is left of it."""

    used: dict[tuple[str, int], int] = field(default_factory=lambda: defaultdict(int))
    left: dict[str, int] = field(default_factory=dict)

    def of(self, grant_id: str) -> int:
        """What was used of a grant in all months."""
        return sum(nano for (name, _), nano in self.used.items() if name == grant_id)


def burn(grants: Iterable[Grant], usage: Mapping[Moment, int], percents: Mapping[int, Fraction]) -> Burnt:
    """Burn net `usage` (nano-units) from `grants`; `percents` is the tax of each month, by its start."""
    ordered = sorted(grants, key=lambda grant: grant.order)
    burnt = Burnt(left={grant.id: grant.nano for grant in ordered})
    paid: dict[int, int] = defaultdict(int)
    for (month, at), due in sorted(_positive(usage).items(), key=lambda item: (item[0][1], item[0][0])):
        factor = 1 + percents.get(month, Fraction(0)) / 100
        net = due
        for grant in _in_turn([grant for grant in ordered if grant.covers(at)]):
            if not net:
                break
            left = burnt.left[grant.id]
            if not left:
                continue
            if not grant.gross:
                part = covered = min(net, left)
            else:
                part, covered = _gross(paid[month], net, left, factor)
                paid[month] += covered
            burnt.left[grant.id] -= part
            burnt.used[grant.id, month] += part
            net -= covered
    return burnt


def _in_turn(live: list[Grant]) -> list[Grant]:
    """Grants in the order in which they burn at one moment."""
    noted = [grant for grant in live if grant.noted]
    if not noted:
        return live
    rest = [grant for grant in live if not grant.noted]
    paid = next((place for place, grant in enumerate(rest) if grant.paid), len(rest))
    by_line = [grant for grant in noted if grant.noted == BY_LINE]
    by_amount = [grant for grant in noted if grant.noted == BY_AMOUNT]
    return [*by_line, *rest[:paid], *by_amount, *rest[paid:]]


def _gross(paid: int, net: int, left: int, factor: Fraction) -> tuple[int, int]:
    """What a deposit gives for `net` with its tax, and the net that it covers. Telescoped over the month's net that deposits
    paid before, so that parts lose nothing against the whole."""
    before = floor(paid * factor)
    need = floor((paid + net) * factor) - before
    if need <= left:
        return need, net
    # The most net whose gross, rounded down, stays within what is left.
    most = ceil((before + left + 1) / factor) - 1 - paid
    return left, max(0, min(net, most))


def _positive(usage: Mapping[Moment, int]) -> dict[Moment, int]:
    """Usage without amounts below zero: these lower what came before them in their month."""
    found: dict[Moment, int] = {}
    months: dict[int, list[int]] = defaultdict(list)
    for month, at in sorted(usage):
        months[month].append(at)
    for month, moments in months.items():
        short = 0
        for at in reversed(moments):
            nano = usage[month, at] + short
            short = min(0, nano)
            if nano > 0:
                found[month, at] = nano
    return found
