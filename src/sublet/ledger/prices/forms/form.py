"""What a form of price is: how its entry in a price book is read, and what a quantity then costs.

All numbers of a tariff are whole, over one scale: `units` and `fees` by tier, `starts` in steps of the meter. A form computes with
them exactly, in integers; it knows nothing of meters, times or customers.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from sublet.ledger.prices.fields import Fields
from sublet.ledger.prices.tiers import Tier
from sublet.ledger.usage.meters import Meter


@dataclass(frozen=True, slots=True)
class Terms:
    """What an entry says: a price for `per` units of the meter, in tiers; a package has `package` steps."""

    per: int
    tiers: tuple[Tier, ...]
    package: int = 1


class SharedBy(StrEnum):
    """How the usage of a month is divided where its price changes within it."""

    ORDER = "order"
    """Each quantity costs what it adds to those before it."""
    QUANTITY = "quantity"
    """Each quantity has its share of what the whole month's costs."""
    TIME = "time"
    """The price is owed for its time, whatever the quantity."""


class TariffNumbers(Protocol):
    """The whole numbers of a tariff, over one scale: what a form computes with."""

    @property
    def scale(self) -> int: ...

    @property
    def starts(self) -> tuple[int, ...]: ...

    @property
    def units(self) -> tuple[int, ...]: ...

    @property
    def fees(self) -> tuple[int, ...]: ...

    @property
    def package(self) -> int: ...


class Form(Protocol):
    """One form of price."""

    name: str
    fields: frozenset[str]
    """The fields of an entry that only this form has, besides `amount` and `per`."""
    shared_by: SharedBy

    def read(self, fields: Fields, meter: Meter) -> Terms:
        """What the entry says. Raises InvalidInputError that names the field."""
        ...

    def scaled(self, tariff: TariffNumbers, used: int) -> int:
        """`tariff.scale` times the cost of `used` steps, which is at least 1 and without the free ones."""
        ...

    def unit(self, tariff: TariffNumbers) -> int | None:
        """`tariff.scale` times the price of every step, where all cost the same; else None."""
        ...

    def once(self, tariff: TariffNumbers) -> int:
        """`tariff.scale` times the most that further steps can cost besides `dearest_unit` each, whatever was used before."""
        ...
