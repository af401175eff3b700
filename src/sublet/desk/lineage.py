"""What a number is made of: families, the total that a share is a share of, and income that comes once.

A lineage survives every operation. Multiplying a figure by a number, taking it through a formula or dividing it out
again doesn't change what was measured, so it doesn't change what the figure may be added to.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from sublet.desk.errors import FamilyError
from sublet.desk.units import Basis, Unit

_SHARE_OF = re.compile(r"^(?:share|%|x) of (.+)$")
_MULTIPLE = re.compile(r"^(?:x|multiple)(?: of .+)?$")
_YIELDS = ("rate",)
_VALUATION = "valuation."
DEAL = "price of deal "
"""The family of a deal's price starts with this; deals differ in size, term and what is included."""


@dataclass(frozen=True, slots=True, order=True)
class Caveat:
    """What a calculation took for granted, or what makes its result not comparable: each result that rests on it shows it.

    `kind` is one of CAVEATS, `about` the names that it is about, `reading` the basis that was taken for granted.
    """

    kind: str
    about: tuple[str, ...]
    reading: str = ""

    def __str__(self) -> str:
        return CAVEATS[self.kind].format(about=" and ".join(self.about), reading=self.reading)


BASIS_OF_PRICE, BASIS_OF_POWER, UNLIKE_DEALS, KEPT_APART = "basis of price", "basis of power", "deals", "rows"
CAVEATS: Mapping[str, str] = {
    BASIS_OF_PRICE: "basis of the price {about} not stated; read as {reading}",
    BASIS_OF_POWER: "basis of the power {about} not stated; read as {reading}",
    UNLIKE_DEALS: "not comparable: {about} are prices of deals of unlike size, term and inclusion",
    KEPT_APART: "not comparable: by its own row, {about} are not to be combined",
}
"""What a caveat says in JSON, in the workbook and in `explain`, with names; for readers, see phrases.CAVEATS."""


@dataclass(frozen=True, slots=True)
class Lineage:
    """`families` of everything used; `capacities`, those of them that are families of power; `whole`, a share's total.

    `comes_once` marks the income of one year's lease, which a valuation multiple must not be put on. `caveats` go along
    with every number that is made of this one.
    """

    families: frozenset[str] = frozenset()
    capacities: frozenset[str] = frozenset()
    whole: str = ""
    comes_once: bool = False
    caveats: frozenset[Caveat] = frozenset()

    @property
    def family(self) -> str:
        """The one family, or nothing where there is none or more than one."""
        return next(iter(self.families)) if len(self.families) == 1 else ""

    def joined(self, other: Lineage) -> Lineage:
        """Made of both; the total of a share is kept if only one of them has one."""
        whole = self.whole if not other.whole or self.whole == other.whole else other.whole if not self.whole else ""
        once = self.comes_once or other.comes_once
        caveats = self.caveats | other.caveats
        return Lineage(self.families | other.families, self.capacities | other.capacities, whole, once, caveats)

    @property
    def deals(self) -> frozenset[str]:
        """The families of deals' prices."""
        return frozenset(name for name in self.families if name.startswith(DEAL))

    def with_caveats(self, *found: Caveat | None) -> Lineage:
        """The same with more caveats; None stands for none."""
        more = frozenset(caveat for caveat in found if caveat is not None)
        return replace(self, caveats=self.caveats | more) if more - self.caveats else self


NOTHING = Lineage()


def of_given(family: str, unit: Unit) -> Lineage:
    """The lineage of a value that the case gives."""
    share = _SHARE_OF.match(unit.label.partition(",")[0])
    families = frozenset({family} if family and family != "text" else ())
    return Lineage(families, families if _is_power(unit) else frozenset(), share[1] if share else "")


def of_sum(left: Lineage, right: Lineage, unit: Unit, names: tuple[str, str]) -> Lineage:
    """The lineage of a sum, difference, minimum or maximum; `names` are what the two sides are called.

    Raises FamilyError for what may not be combined. Allowed are: power of one and the same family; other numbers where one
    side's families are among the other's; shares of one total.
    """
    if left.whole and right.whole and left.whole != right.whole and unit.is_number:
        raise FamilyError(
            f"{names[0]} is a share of {left.whole}, {names[1]} a share of {right.whole}; shares of two totals can't be "
            "added: bring both to one total first",
            field="whole",
        )
    mixes = len(left.capacities | right.capacities) > 1 and left.capacities != right.capacities
    if mixes or (_is_power(unit) and left.capacities != right.capacities):
        raise _differs(left.capacities or left.families, right.capacities or right.families, names)
    if not (left.families <= right.families or right.families <= left.families):
        raise _differs(left.families, right.families, names)
    return left.joined(right)


def of_product(left: Lineage, right: Lineage, units: tuple[Unit, Unit], names: tuple[str, str]) -> Lineage:
    """The lineage of a product. Raises FamilyError for a valuation multiple on income that comes once."""
    for lineage, unit, multiple, other in ((right, units[1], units[0], left), (left, units[0], units[1], right)):
        is_multiple = bool(_MULTIPLE.match(multiple.label)) or (
            multiple.is_number and any(name.startswith(_VALUATION) for name in other.families)
        )
        if lineage.comes_once and _is_money(unit) and is_multiple:
            raise _capitalized(f"{names[0]} times {names[1]} puts a multiple on")
    return left.joined(right).with_caveats(unlike_deals((left, right), names), *readings(units, names))


def of_quotient(left: Lineage, right: Lineage, units: tuple[Unit, Unit], names: tuple[str, str], below: str) -> Lineage:
    """The lineage of a quotient; where it is a plain number, it is a share of what stands `below`.

    Raises FamilyError for income that comes once over a yield, which is a multiple the other way round.
    """
    if left.comes_once and _is_money(units[0]) and units[1].label in _YIELDS:
        raise _capitalized(
            f"{names[0]} divided by the rate {names[1]} (if it is no yield, give it as a share) capitalizes"
        )
    found = left.joined(right).with_caveats(unlike_deals((left, right), names), *readings(units, names))
    if right.whole:
        # An increase over its share of a total gives the total, which doesn't end with the lease.
        found = replace(found, comes_once=right.comes_once)
    is_number = units[0].dimensions == units[1].dimensions
    return replace(found, whole=below) if is_number and below else found


def unlike_deals(sides: Sequence[Lineage], names: Sequence[str]) -> Caveat | None:
    """The caveat of a calculation with the prices of two deals; None where there are not two."""
    met = [(side.deals, name) for side, name in zip(sides, names, strict=True) if side.deals]
    if len({deals for deals, _ in met}) < 2:
        return None
    return Caveat(UNLIKE_DEALS, tuple(name.strip("'") for _, name in met))


def readings(units: Sequence[Unit], names: Sequence[str]) -> tuple[Caveat, ...]:
    """What is taken for granted where watts of a stated basis meet watts of one that isn't stated: that both are the same."""
    counted = [(unit, name) for unit, name in zip(units, names, strict=True) if dict(unit.dimensions).get("W")]
    known = next((unit.basis for unit, _ in counted if unit.basis not in (None, Basis.UNKNOWN)), None)
    if known is None:
        return ()
    return tuple(
        Caveat(BASIS_OF_PRICE if unit.is_per_watt else BASIS_OF_POWER, (name.strip("'"),), str(known))
        for unit, name in counted
        if unit.basis in (None, Basis.UNKNOWN)
    )


def _capitalized(what: str) -> FamilyError:
    return FamilyError(
        f"{what} the income of a lease that ends; value it with bridge_value(), which discounts it with a renewal probability",
        field="multiple",
    )


def _is_money(unit: Unit) -> bool:
    return bool(dict(unit.dimensions).get("USD"))


def _is_power(unit: Unit) -> bool:
    return unit.dimensions == (("W", 1),)


def _differs(left: frozenset[str], right: frozenset[str], names: tuple[str, str]) -> FamilyError:
    one, other = (", ".join(sorted(side)) or "of no stated family" for side in (left, right))
    if any(name.startswith(DEAL) for name in left) and any(name.startswith(DEAL) for name in right):
        return FamilyError(
            f"{names[0]} and {names[1]} are prices of two deals of unlike size, term and inclusion; show them side by side, "
            "or divide the deals' summed payments by their summed watt-years",
            field="family",
        )
    advice = "they measure different things, so show them side by side instead of combining them"
    if not left or not right:
        advice = 'write family = "…" where it is given, if it measures the same'
    return FamilyError(f"family differs: {names[0]} is {one}, {names[1]} is {other}; {advice}", field="family")
