"""What a quantity costs: exact in whole numbers, for every form of price.

A tariff is a function F from a cumulative quantity (whole steps of a meter) to money. It is computed as an integer
over an integer scale, so a price of 0.01875 USD per million tokens loses nothing. What is posted for one event is
floor(F(after)) - floor(F(before)): the sum over any order of events is floor(F(total)), to the nano-unit.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from math import lcm

from sublet.ledger.prices.forms import FORMS
from sublet.ledger.prices.forms.form import SharedBy
from sublet.ledger.prices.tiers import Tier


@dataclass(frozen=True, slots=True)
class Tariff:
    """F: steps → nano-units, as `scaled(steps) / scale`."""

    kind: str
    scale: int
    starts: tuple[int, ...]
    units: tuple[int, ...]
    fees: tuple[int, ...]
    package: int = 1
    free: int = 0

    @classmethod
    def build(cls, kind: str, tiers: tuple[Tier, ...], *, package: int = 1, free: int = 0) -> Tariff:
        """Bring the tiers to one scale. `kind` names a form (prices/forms)."""
        scale = lcm(*(value.denominator for tier in tiers for value in (tier.unit, tier.fee)))
        return cls(
            kind,
            scale,
            tuple(tier.start for tier in tiers),
            tuple(int(tier.unit * scale) for tier in tiers),
            tuple(int(tier.fee * scale) for tier in tiers),
            package,
            free,
        )

    def scaled(self, steps: int) -> int:
        """`scale` times F(steps): an exact integer. `steps` is at least 0."""
        used = steps - self.free
        if used <= 0:
            return 0
        return FORMS[self.kind].scaled(self, used)

    def nano(self, steps: int) -> int:
        """floor(F(steps)): what stands in the books once `steps` were used."""
        return self.scaled(steps) // self.scale

    def exact(self, steps: int) -> Fraction:
        """F(steps) itself."""
        return Fraction(self.scaled(steps), self.scale)

    def unit_price(self) -> Fraction | None:
        """Nano-units per step where every unit costs the same, else None."""
        unit = FORMS[self.kind].unit(self)
        return Fraction(unit, self.scale) if unit is not None and not self.free else None

    @property
    def shared_by(self) -> SharedBy:
        """How a month's usage is divided where its price changes within it."""
        return FORMS[self.kind].shared_by

    def dearest_unit(self) -> Fraction:
        """The most that one further step can cost, fees and the rounding of packages left out."""
        return Fraction(max(self.units), self.scale * self.package)

    def ceiling(self) -> tuple[int, Fraction]:
        """(`once`, `unit`) in nano-units: whatever was used before, s further steps cost at most once + unit × s.

        A package may be begun by them; each tier may be entered; a volume price that gets dearer may reprice what came
        before, which at each tier's start is at most as much as that start.
        """
        return -(-FORMS[self.kind].once(self) // self.scale), self.dearest_unit()

    def with_free(self, steps: int) -> Tariff:
        """The same tariff with another free quantity."""
        return replace(self, free=steps)

    def discounted(self, percent: Fraction) -> Tariff:
        """The same tariff with `percent` (0 to 100) taken off."""
        factor = 1 - percent / 100
        return Tariff(
            self.kind,
            self.scale * factor.denominator,
            self.starts,
            tuple(unit * factor.numerator for unit in self.units),
            tuple(fee * factor.numerator for fee in self.fees),
            self.package,
            self.free,
        )
