"""Where taxes plug in: a calculator gets the net amount of an invoice and returns its tax lines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction
from importlib.metadata import entry_points
from typing import Protocol

from sublet.ledger.invoices.parties import Profile as Profile
from sublet.values.errors import InvalidInputError
from sublet.values.money import NANO, Money, currency_digits

ENTRY_POINTS = "sublet.taxes"


@dataclass(frozen=True, slots=True)
class TaxBasis:
    """What is taxed: the rounded net amount after credits."""

    organization_id: str
    profile: Profile
    net: Money
    issued_at: datetime


@dataclass(frozen=True, slots=True)
class TaxLine:
    """One tax: `percent` of the net amount, rounded to the currency's digits, half to even.

    `category` is the code of UNCL 5305 on e-invoices, such as AE for a reverse charge; empty: S, or Z of 0 percent. `reason` says
    why nothing is taxed."""

    name: str
    percent: Fraction
    nano: int
    category: str = ""
    reason: str = ""

    @classmethod
    def of(cls, name: str, percent: Fraction, net: Money) -> TaxLine:
        """The tax of `percent` on `net`."""
        step = NANO // 10 ** currency_digits(net.currency)
        return cls(name, percent, round(net.nano * percent / (100 * step)) * step)

    def check(self, net: Money) -> None:
        """Raises InvalidInputError where the amount is not the percentage of `net`."""
        due = TaxLine.of(self.name, self.percent, net).nano
        if self.percent < 0 or self.nano != due:
            raise InvalidInputError(
                f"tax {self.name!r} of {self.percent} % on {net} is {self.nano} nano-units and should be {due}; "
                "correct the calculator"
            )


class Taxes(Protocol):
    """A tax calculator: which percentages an invoice owes. What it said stands on the invoice, and the proof works out the
    amounts again from there, so another calculator may be set at any time."""

    def lines(self, basis: TaxBasis) -> Sequence[TaxLine]:
        """The taxes on `basis.net`, which is not negative."""
        ...


class NoTax:
    """No taxes."""

    def lines(self, basis: TaxBasis) -> Sequence[TaxLine]:
        return ()


class FlatTax:
    """One percentage for everybody, or for the organizations of one country."""

    def __init__(self, name: str, percent: Fraction, country: str = "") -> None:
        self._name, self._percent, self._country = name, percent, country

    def lines(self, basis: TaxBasis) -> Sequence[TaxLine]:
        if self._country and basis.profile.country != self._country:
            return ()
        return (TaxLine.of(self._name, self._percent, basis.net),)


def taxes_named(name: str) -> Taxes:
    """The calculator that a package registered under the entry point group `sublet.taxes`; empty: none.

    Raises InvalidInputError where no package offers it.
    """
    if not name:
        return NoTax()
    for point in entry_points(group=ENTRY_POINTS, name=name):
        made: Taxes = point.load()()
        return made
    raise InvalidInputError(f"no installed package offers taxes {name!r}; install one or leave the setting empty")
