"""Units with a basis: what a number counts, per what, and at which point of the power chain it was measured."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from functools import lru_cache

from sublet.desk.errors import BasisError, UnitError, nearest

HOURS_PER_YEAR = 8760.0
"""Convention of the desk: 365 days; a month is a twelfth of it, 730 h."""


class Basis(StrEnum):
    """The point of the power chain at which watts are counted."""

    IT = "IT"
    FACILITY = "facility"
    UTILITY = "utility"
    UNKNOWN = "unknown"


Dimensions = tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Unit:
    """`label` as people write it, `scale` into base units (USD, W, h, shares, tokens, …), and a basis for power.

    Two labels that mean the same (USD/W-yr, USD bn/GW-yr, USD m/MW-yr) have the same scale and dimensions, so the
    identity of the three needs no conversion and can't be got wrong.
    """

    label: str
    scale: Fraction
    dimensions: Dimensions
    basis: Basis | None = None

    @property
    def is_number(self) -> bool:
        """True for ratios, shares and probabilities."""
        return not self.dimensions

    @property
    def is_per_watt(self) -> bool:
        """True for prices and costs per watt: how many times one is of another depends on the basis of both."""
        return dict(self.dimensions).get("W", 0) < 0 and bool(dict(self.dimensions).get("USD"))

    def times(self, other: Unit, power: int = 1) -> Unit:
        """The unit of a product (`power` 1) or a quotient (`power` -1). Raises BasisError for IT with facility watts."""
        found = dict(self.dimensions)
        for name, exponent in other.dimensions:
            found[name] = found.get(name, 0) + power * exponent
        dimensions = tuple(sorted((name, exponent) for name, exponent in found.items() if exponent))
        basis = _basis_of_product(*(unit for unit in (self, other) if dict(unit.dimensions).get("W")))
        if not dict(dimensions).get("W"):
            basis = None
        return Unit(_describe(dimensions), self.scale * other.scale**power, dimensions, basis)

    def factor_to(self, other: Unit) -> Fraction:
        """What a number in this unit is multiplied by to be in `other`.

        Raises UnitError, and BasisError where `other` states a basis that this one doesn't have.
        """
        if self.dimensions != other.dimensions:
            raise UnitError(
                f"{self.label!r} can't be turned into {other.label!r}: "
                f"one is {_describe(self.dimensions)}, the other {_describe(other.dimensions)}{_exchange(self, other)}"
            )
        if other.basis is not None:
            check_basis(self, other)
        return self.scale / other.scale


def _exchange(one: Unit, other: Unit) -> str:
    """What to do where two units differ in their currency alone."""
    mine, theirs = (dict(unit.dimensions) for unit in (one, other))
    foreign = [code for code in CURRENCIES if code in mine and code not in theirs]
    if len(foreign) != 1 or theirs.get("USD") != mine[foreign[0]]:
        return ""
    code = foreign[0]
    return f"; add [exchange_rates.{code}] and, in a formula, divide by fx.{code}"


def check_basis(left: Unit, right: Unit) -> None:
    """Raises BasisError where two bases differ. A basis that isn't stated is unknown, and differs from each known one."""
    one, other = (unit.basis or Basis.UNKNOWN for unit in (left, right))
    if one == other:
        return
    if Basis.UNKNOWN in (one, other):
        known = one if other == Basis.UNKNOWN else other
        raise BasisError(
            f"basis differs: {left.label!r} is {one}, {right.label!r} is {other}; find out whether the unknown one is "
            f"{known} and write it, as in {_stated(left, known)!r}, or use a range over both readings",
            field="basis",
        )
    raise BasisError(
        f"basis differs: {left.label!r} is at {one} level, {right.label!r} at {other} level; {_advice(left, one, other)}",
        field="basis",
    )


def _stated(unit: Unit, basis: Basis) -> str:
    return f"{unit.label.partition(',')[0].removesuffix(' ' + basis)}, {basis}"


def _advice(unit: Unit, one: Basis, other: Basis) -> str:
    """What to do about two bases: a price per watt converts the other way from a power."""
    if Basis.UTILITY in (one, other):
        return "a utility's figure carries transmission losses too, so no PUE converts it; find one at the same level"
    if dict(unit.dimensions).get("W", 0) < 0:
        return "multiply the facility's price by the PUE to get the price per IT watt: at_it_level(price=…, pue=…)"
    return "multiply the IT figure by the PUE to get the facility's: at_facility_level(power=…, pue=…)"


NUMBER = Unit("1", Fraction(1), ())
CURRENCIES = ("EUR", "GBP", "JPY", "CNY", "TWD", "KRW", "INR", "SGD", "CHF", "CAD", "AUD")
"""Currencies beside the US dollar."""

_ATOMS: dict[str, tuple[Fraction, Dimensions]] = {
    "USD": (Fraction(1), (("USD", 1),)),
    **{code: (Fraction(1), ((code, 1),)) for code in CURRENCIES},
    "W": (Fraction(1), (("W", 1),)),
    "Wh": (Fraction(1), (("W", 1), ("h", 1))),
    "s": (Fraction(1, 3600), (("h", 1),)),
    "min": (Fraction(1, 60), (("h", 1),)),
    "h": (Fraction(1), (("h", 1),)),
    "hr": (Fraction(1), (("h", 1),)),
    "day": (Fraction(24), (("h", 1),)),
    "month": (Fraction(730), (("h", 1),)),
    "quarter": (Fraction(2190), (("h", 1),)),
    "yr": (Fraction(8760), (("h", 1),)),
    "year": (Fraction(8760), (("h", 1),)),
    "tok": (Fraction(1), (("token", 1),)),
    "token": (Fraction(1), (("token", 1),)),
    "GPU": (Fraction(1), (("accelerator", 1),)),
    "accelerator": (Fraction(1), (("accelerator", 1),)),
    "customer": (Fraction(1), (("customer", 1),)),
    "character": (Fraction(1), (("character", 1),)),
    "signal": (Fraction(1), (("signal", 1),)),
    "diluted share": (Fraction(1), (("equity", 1),)),
    "equity share": (Fraction(1), (("equity", 1),)),
}
_PREFIXES = {"k": Fraction(1000), "M": Fraction(10**6), "G": Fraction(10**9), "T": Fraction(10**12)}
_PREFIXED = frozenset({"W", "Wh", "tok", "token"})
_WORDS = {
    "k": Fraction(1000),
    "m": Fraction(10**6),
    "mn": Fraction(10**6),
    "bn": Fraction(10**9),
    "tn": Fraction(10**12),
}
_RATIOS = frozenset(
    "1 rate share ratio prob x z 0..1 utilization utilisation percentile fraction multiple sigma".split()
)
_BASIS_WORDS = {
    "facility": Basis.FACILITY,
    "utility": Basis.UTILITY,
    "all-in": Basis.UTILITY,
    "footprint": Basis.FACILITY,
    "basis unknown": Basis.UNKNOWN,
    "self-operated IT": Basis.IT,
    "server or rack": Basis.IT,
    "IT": Basis.IT,
}
_BASES_WRITTEN = ("IT", "facility", "utility", "basis unknown", "all-in utility", "self-operated IT")


@lru_cache(maxsize=4096)
def parse_unit(text: str) -> Unit:
    """Read a unit as people write it: `USD/W-yr`, `USD bn/GW-yr`, `GW IT`, `W per accelerator, all-in utility`, `share of …`.

    Raises UnitError that names the part that isn't known and the nearest one that is.
    """
    label = text.strip()
    main, _, qualifier = label.partition(",")
    _check_qualifier(qualifier, text)
    basis = _basis_in(label)
    main = main.partition("(")[0].strip().removesuffix(" each")
    for word in ("IT", "footprint", "facility", "utility", "all-in"):
        main = main.removesuffix(f" {word}").strip()
    if _is_ratio(main):
        scale = Fraction(1, 100) if main.startswith(("%", "percentile")) else Fraction(1)
        return Unit(label, scale, ())
    unit = Unit(label, Fraction(1), ())
    for position, part in enumerate(_quotient_parts(main)):
        unit = unit.times(_parse_product(part, text, equity=position > 0), 1 if position in (0,) else -1)
    if " per " in main:
        unit = _parse_per(main, text)
    if "one-year term" in qualifier:
        unit = unit.times(parse_unit("yr"), -1)
    return Unit(label, unit.scale, unit.dimensions, basis if dict(unit.dimensions).get("W") else None)


def _parse_per(main: str, text: str) -> Unit:
    upper, _, lower = main.partition(" per ")
    above, below = parse_unit(upper), parse_unit(_spell_equity(lower))
    return Unit(text, above.scale / below.scale, above.times(below, -1).dimensions)


def _quotient_parts(main: str) -> list[str]:
    return [] if " per " in main else [part.strip() for part in main.split("/")]


def _parse_product(part: str, text: str, equity: bool) -> Unit:
    words = part.split()
    scale = Fraction(1)
    if words and words[0] in _WORDS:
        scale *= _WORDS[words.pop(0)]
    elif len(words) > 1 and words[-1] in _WORDS:
        scale *= _WORDS[words.pop()]
    name = " ".join(words)
    unit = Unit(text, scale, ())
    for atom in name.split("-") if name not in _ATOMS else [name]:
        unit = unit.times(_parse_atom(_spell_equity(atom) if equity or scale != 1 else atom, text))
    return unit


def _spell_equity(word: str) -> str:
    return "equity share" if word in ("share", "shares") else word


def _parse_atom(name: str, text: str) -> Unit:
    found = _ATOMS.get(name) or _ATOMS.get(name.removesuffix("s"))
    if found is None and name and name[0] in _PREFIXES and name[1:] in _PREFIXED:
        scale, dimensions = _ATOMS[name[1:]]
        found = (scale * _PREFIXES[name[0]], dimensions)
    if found is None:
        valid = [*_ATOMS, *_RATIOS, "kW", "MW", "GW", "kWh", "MWh", "GWh", "Mtok"]
        meant = _meant(name, valid)
        advice = f"did you mean {meant!r}?" if meant else nearest(name, valid)
        raise UnitError(f"unit {text!r}: {name!r} is not a unit that the desk knows; {advice}")
    return Unit(name, found[0], found[1])


_MEANT = {
    "$": "USD", "US$": "USD", "usd": "USD", "€": "EUR", "hour": "h", "hours": "h",
    "million shares": "m shares", "billion shares": "bn shares", "million": "m", "billion": "bn", "USDm": "USD m",
    "USDbn": "USD bn", "USD million": "USD m", "USD billion": "USD bn", "million USD": "USD m", "billion USD": "USD bn",
    "dollar": "USD", "dollars": "USD", "watt": "W", "watts": "W", "kilowatt": "kW", "kilowatts": "kW", "megawatt": "MW",
    "megawatts": "MW", "gigawatt": "GW", "gigawatts": "GW", "kilowatt-hour": "kWh", "megawatt-hour": "MWh", "percent": "%",
    "years": "yr", "months": "month", "days": "day", "gpu hour": "GPU-h", "GPU hour": "GPU-h", "GPU-hour": "GPU-h",
}  # fmt: skip


def _meant(name: str, valid: Sequence[str]) -> str | None:
    """The unit that people mean by another spelling, or by the wrong case."""
    if name in _MEANT:
        return _MEANT[name]
    return next((unit for unit in valid if unit.lower() == name.lower()), None)


def _is_ratio(main: str) -> bool:
    return main in _RATIOS or main.startswith(("%", "share of ", "x of ", "z ("))


def _basis_in(label: str) -> Basis | None:
    return next((basis for word, basis in _BASIS_WORDS.items() if re.search(rf"\b{word}\b", label)), None)


def _check_qualifier(qualifier: str, text: str) -> None:
    """What stands after the comma may be any words, but not a basis that is spelled wrongly: it would count as none."""
    for words in qualifier.split(","):
        said = words.strip()
        meant = difflib.get_close_matches(said, _BASES_WRITTEN, n=1, cutoff=0.75)
        if said and _basis_in(said) is None and meant:
            raise UnitError(f"unit {text!r}: {said!r} is no basis of power; did you mean {meant[0]!r}?")


def _basis_of_product(*units: Unit) -> Basis | None:
    """The basis that all factors which count watts share. Where one of them is unknown, so is the result's."""
    known = [unit for unit in units if unit.basis not in (None, Basis.UNKNOWN)]
    if len({unit.basis for unit in known}) > 1:
        check_basis(*known[:2])
    if Basis.UNKNOWN in {unit.basis for unit in units}:
        return Basis.UNKNOWN
    return known[0].basis if known and len(known) == len(units) else None


def shared_basis(units: Sequence[Unit]) -> Basis | None:
    """The basis of what is calculated from `units`. Raises BasisError where two of them are known and differ."""
    return _basis_of_product(*(unit for unit in units if dict(unit.dimensions).get("W")))


def _describe(dimensions: Dimensions) -> str:
    names = {"equity": "share", "token": "tok"}
    above = [_power(names.get(name, name), exponent) for name, exponent in dimensions if exponent > 0]
    below = [_power(names.get(name, name), -exponent) for name, exponent in dimensions if exponent < 0]
    if not above and not below:
        return "a plain number"
    return "-".join(above or ["1"]) + ("/" + "-".join(below) if below else "")


def _power(name: str, exponent: int) -> str:
    return name if exponent == 1 else f"{name}^{exponent}"
