"""What a number is made of: families, the total that a share is a share of, and income that comes once.

A lineage survives every operation. Multiplying a figure by a number, taking it through a formula or dividing it out
again doesn't change what was measured, so it doesn't change what the figure may be added to.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from sublet.desk.errors import FamilyError
from sublet.desk.units import Unit

_SHARE_OF = re.compile(r"^(?:share|%|x) of (.+)$")
_MULTIPLES = ("x", "multiple")
_VALUATION = "valuation."
DEAL = "price of deal "
"""The family of a deal's price starts with this; deals differ in size, term and what is included."""


@dataclass(frozen=True, slots=True)
class Lineage:
    """`families` of everything used; `capacities`, those of them that are families of power; `whole`, a share's total.

    `comes_once` marks the income of one year's lease, which a valuation multiple must not be put on.
    """

    families: frozenset[str] = frozenset()
    capacities: frozenset[str] = frozenset()
    whole: str = ""
    comes_once: bool = False

    @property
    def family(self) -> str:
        """The one family, or nothing where there is none or more than one."""
        return next(iter(self.families)) if len(self.families) == 1 else ""

    def joined(self, other: Lineage) -> Lineage:
        """Made of both; the total of a share is kept if only one of them has one."""
        whole = self.whole if not other.whole or self.whole == other.whole else other.whole if not self.whole else ""
        once = self.comes_once or other.comes_once
        return Lineage(self.families | other.families, self.capacities | other.capacities, whole, once)


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
        is_money = bool(dict(unit.dimensions).get("USD"))
        is_multiple = multiple.label in _MULTIPLES or (
            multiple.is_number and any(name.startswith(_VALUATION) for name in other.families)
        )
        if lineage.comes_once and is_money and is_multiple:
            raise FamilyError(
                f"{names[0]} times {names[1]} puts a multiple on the income of a lease that ends; value it with "
                "bridge_value(), which discounts it with a renewal probability",
                field="multiple",
            )
    return left.joined(right)


def of_quotient(left: Lineage, right: Lineage, unit: Unit, below: str) -> Lineage:
    """The lineage of a quotient; where it is a plain number, it is a share of what stands `below`."""
    found = left.joined(right)
    return replace(found, whole=below) if unit.is_number and below else found


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
