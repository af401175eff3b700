"""A printed number beside the number that its own terms give: does it match, and if not, which slip explains it?"""

from __future__ import annotations

import math
import re
from collections.abc import Collection
from dataclasses import dataclass

from sublet.desk.units import Unit
from sublet.values.errors import InvalidInputError

MATCH, SMALL, DIFFER = "match", "small mismatch", "terms differ"
SMALL_MAX = 0.10
"""Up to so much apart, as a share, two numbers are a small mismatch; beyond it their terms differ."""

ABOUT_MIN = 0.05
"""After "about" a printed number leaves open at least this share of itself on either side."""

_BASIS_SUSPECTED = (1.05, 1.8)
"""PUEs: an IT figure beside a facility's. Too wide a band to be more than a suspicion."""

_FINE_DIGITS = 0.02
"""Two slips at once are told apart only where the printed digits are finer than this."""

_EXACT = 0.005
_SAME_FIT = 0.002

_FACTORS: tuple[tuple[str, float, str], ...] = (
    ("month for a year", 12.0, ""),
    ("quarter for a year", 4.0, ""),
    ("week for a year", 52.0, "time"),
    ("day for a year", 365.0, "time"),
    ("hour for a year", 8760.0, "time"),
    ("hour for a month", 730.0, "time"),
    ("day count 360/365", 365 / 360, "time"),
    ("leap day", 366 / 365, "time"),
    ("percent for a fraction", 100.0, "ratio"),
    ("basis points for percent", 100.0, "basis points"),
    ("bit for a byte", 8.0, "data"),
    ("kB for KiB", 1.024, "data"),
    ("MB for MiB", 1.024**2, "data"),
    ("GB for GiB", 1.024**3, "data"),
    ("TB for TiB", 1.024**4, "data"),
    ("億 read as billion", 10.0, "zh"),
    ("億 read as million", 100.0, "zh"),
    ("萬 dropped", 1e4, "zh"),
    ("兆 (10^12) read as mega or million", 1e6, "zh"),
    ("億 dropped", 1e8, "zh"),
    ("unit prefix (k, M, G; million, billion)", 1e3, ""),
    ("two unit prefixes", 1e6, ""),
    ("watt for gigawatt", 1e9, "power"),
    ("three unit prefixes", 1e9, ""),
    *((f"power of ten (10^{k})", 10.0**k, "") for k in (1, 2, 4, 5, 7, 8)),
)
"""What is slipped, by which factor, and in which kinds of number it can happen ("" for all)."""


@dataclass(frozen=True, slots=True)
class Slip:
    """A printed number next to the one of its own terms; `kind` is what explains the difference."""

    printed: float
    calculated: float
    kind: str

    @property
    def is_slip(self) -> bool:
        """A known slip explains the difference. A small mismatch and terms that differ are shown, but are no slips."""
        return self.kind not in (MATCH, SMALL, DIFFER)

    @property
    def factor(self) -> float:
        """The larger of the two over the smaller."""
        ratio = abs(self.printed / self.calculated) if self.printed and self.calculated else math.inf
        return max(ratio, 1 / ratio)

    @property
    def sentence(self) -> str:
        both = f"printed {self.printed:g}, the deal's own terms give {self.calculated:.4g}"
        if self.kind == MATCH:
            return f"printed {self.printed:g} agrees with the deal's own terms ({self.calculated:.4g}), to the printed digits"
        if self.kind == SMALL:
            return f"{both}: a small mismatch of {self.factor - 1:.1%}, more than the printed digits leave open"
        if self.kind == DIFFER:
            return f"{both}: no known slip explains a factor of {self.factor:.3g}, so the terms differ"
        return f"{both}: {self.kind}, a factor of {self.factor:.4g}"


def find_slip(
    printed: str | float, calculated: float, kinds: Collection[str] = (), *, about: bool = False, inputs: float = 0.0,
    rates: Collection[tuple[str, float]] = (),
) -> Slip:  # fmt: skip
    """Name the difference between a printed and a calculated number.

    `printed` is the number as printed, whose digits set the tolerance; `kinds` are the kinds of number it may be (money,
    power, time, ratio, data, zh for a Chinese source); `inputs` is the share that the inputs' own digits leave open;
    `rates` are named exchange rates. Raises InvalidInputError for text that is not a number.
    """
    text = f"{printed:.15g}" if isinstance(printed, float | int) else printed
    number = _number(text)
    if number == 0 or calculated == 0:
        return Slip(number, calculated, MATCH if number == calculated else DIFFER)
    if number * calculated < 0:
        return Slip(number, calculated, "sign")
    tolerance = math.log1p(half_width(text, about) + inputs) + 1e-9
    distance = math.log(abs(number / calculated))
    return Slip(number, calculated, _kind(abs(distance), tolerance, kinds, rates))


def half_width(printed: str, about: bool = False) -> float:
    """The share of a number that its printed digits leave open on either side: 30 is 29.5 to 30.5, zeros counted."""
    digits = re.sub(r"[^0-9.]", "", printed.partition("e")[0])
    value = abs(float(digits))
    share = 10.0 ** -len(digits.partition(".")[2]) / 2 / value if value else 0.0
    return max(share, ABOUT_MIN) if about else share


def kinds_of(unit: Unit, language: str = "") -> frozenset[str]:
    """The kinds of number that `unit` makes it, and of a Chinese source."""
    names = {"USD": "money", "EUR": "money", "W": "power", "h": "time"}
    found = {names[name] for name, _ in unit.dimensions if name in names}
    if unit.is_number:
        found.add("ratio")
    return frozenset(found | ({"zh"} if language.startswith("zh") else set()))


def _kind(distance: float, tolerance: float, kinds: Collection[str], rates: Collection[tuple[str, float]]) -> str:
    if distance <= tolerance:
        return MATCH
    possible = [item for item in _FACTORS if not item[2] or item[2] in kinds]
    if "money" in kinds:
        possible += [(f"currency {name}", rate, "money") for name, rate in rates]
    fits = []
    for name, factor, family in possible:
        size = abs(math.log(factor))
        off = abs(distance - size)
        if off <= tolerance + (_EXACT if size > SMALL_MAX else 0.0):
            fits.append((off, name, bool(family)))
    if fits:
        best = min(off for off, _, _ in fits)
        near = [(name, special) for off, name, special in fits if off <= best + _SAME_FIT]
        chosen = [name for name, special in near if special] or [name for name, _ in near]
        return " or ".join(sorted(chosen))
    for power in (1, 3, 6) if tolerance < _FINE_DIGITS else ():
        for factor in (12.0, 1 / 12):
            if abs(distance - abs(math.log(factor * 10.0**power))) <= tolerance + _EXACT:
                return f"month for a year and 10^{power}"
    if "power" in kinds and math.log(_BASIS_SUSPECTED[0]) <= distance <= math.log(_BASIS_SUSPECTED[1]):
        return "suspected basis (PUE)" if distance >= math.log1p(SMALL_MAX) else SMALL
    return SMALL if distance < math.log1p(SMALL_MAX) else DIFFER


def _number(text: str) -> float:
    try:
        return float(text.replace(",", ""))
    except ValueError:
        raise InvalidInputError(
            f"printed is {text!r}, which is no number; write it as it was printed, as 2.97"
        ) from None
