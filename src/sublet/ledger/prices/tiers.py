"""Tiers of a price, as they are read and before they are brought to one scale."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True, slots=True)
class Tier:
    """Units after `start` (steps, cumulative) cost `unit` each; entering the tier costs `fee` once. In nano-units."""

    start: int
    unit: Fraction
    fee: Fraction = Fraction(0)
