"""The made-up company: its issuer, taxes, prices and plans, and its customers. Everything is invented."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any

from sublet.ledger.invoices.parties import Issuer, Profile
from sublet.ledger.invoices.taxes import TaxBasis, TaxLine

CUSTOMERS_MAX = 40
SINCE = "2025-12-01T00:00:00Z"
ISSUER = Issuer(
    "Example Compute GmbH",
    street="Musterstraße 1",
    postcode="10115",
    city="Berlin",
    country="DE",
    tax_number="12/345/67890",
    vat_id="DE123456788",
    email="billing@compute.example",
    iban="DE02120300000000202051",
    bic="BYLADEM1001",
)
_NAMES = """
Alder Robotics|Birch Analytics|Cedar Health|Dogwood Games|Elm Weather|Fir Logistics|Ginkgo Bio|Hazel Media|Ivy Legal|Juniper Labs|
Kapok Studios|Larch Energy|Maple Search|Nutmeg Foods|Oak Insurance|Pine Maps|Quince Music|Rowan Security|Spruce Design|Teak Marine|
Umbra Vision|Vine Commerce|Willow Care|Xylem Sensors|Yew Archives|Zelkova Motors|Acacia Speech|Balsa Drones|Catalpa Climate|
Ebony Films|Fern Genomics|Gum Translation|Holly Travel|Ironwood Trading|Jasmine Schools|Kauri Mining|Linden Press|Myrtle Chemistry|
Olive Finance|Poplar Post
"""
# Currency, country, time zone, language, city, postcode, and VAT ID, in turn for each customer.
_PLACES = (
    ("USD", "US", "America/New_York", "en", "Boston", "02108", ""),
    ("EUR", "DE", "Europe/Berlin", "de", "Hamburg", "20095", "DE136695976"),
    ("USD", "US", "America/Los_Angeles", "en", "Portland", "97201", ""),
    ("JPY", "JP", "Asia/Tokyo", "ja", "Tokyo", "100-0001", ""),
    ("EUR", "FR", "Europe/Paris", "fr", "Lyon", "69001", "FR40303265045"),
)
CURRENCIES = {"USD": Fraction(1), "EUR": Fraction(9, 10), "JPY": Fraction(150)}
"""The company's price lists in units of one USD: not a rate of exchange."""


@dataclass(frozen=True, slots=True)
class Customer:
    """A customer by its number, with the terms that follow from it: see `month`."""

    number: int
    name: str
    currency: str
    timezone: str
    profile: Profile

    @property
    def role(self) -> int:
        """One of eight ways to buy."""
        return self.number % 8


def customers(count: int) -> list[Customer]:
    """The first `count` customers, in three currencies."""
    names = [name.strip() for name in _NAMES.replace("\n", "").split("|")]
    found = []
    for number, name in enumerate(names[:count]):
        currency, country, timezone, language, city, postcode, vat_id = _PLACES[number % len(_PLACES)]
        profile = Profile(
            f"{name} Ltd.",
            street=f"{number + 1} Example Street",
            postcode=postcode,
            city=city,
            country=country,
            vat_id=vat_id,
            email=f"invoices@{name.split()[0].lower()}.example",
            payment_days=14 if number % 3 else 30,
            reference=f"PO-{1000 + number}",
            language=language,
        )
        found.append(Customer(number, name, currency, timezone, profile))
    return found


class CompanyTaxes:
    """19 % in Germany, 10 % in Japan, reverse charge in the rest of Europe, none elsewhere. For the example only."""

    def lines(self, basis: TaxBasis) -> Sequence[TaxLine]:
        """The taxes on an invoice by the customer's country."""
        country = basis.profile.country
        if country == "DE":
            return (TaxLine.of("VAT", Fraction(19), basis.net),)
        if country == "JP":
            return (TaxLine.of("Consumption tax", Fraction(10), basis.net),)
        if country == "FR":
            return (TaxLine("VAT", Fraction(0), 0, "AE", "Reverse charge"),)
        return ()


def _amount(dollars: str, currency: str) -> str:
    found = Fraction(dollars) * CURRENCIES[currency]
    return format((Decimal(found.numerator) / found.denominator).normalize(), "f")


def prices() -> dict[str, Any]:
    """The price book, in each currency."""
    found: list[dict[str, Any]] = []
    for currency in CURRENCIES:
        common = {"currency": currency, "from": SINCE}
        entry: dict[str, Any]
        for name, price in (("firm", "3.20"), ("notice", "2.49"), ("spot", "1.10")):
            match = {"generation": "h100", "class": name}
            entry = {"id": f"h100-{name}-{currency}", "description": f"H100, {name}", "match": match}
            entry |= {"meter": "accelerator.seconds", "kind": "per_unit", "amount": _amount(price, currency)}
            found.append(entry | common | {"per": 3600})
        for meter, price in (("tokens.input", "0.15"), ("tokens.input_cached", "0.02")):
            entry = {
                "id": f"{meter}-{currency}",
                "meter": meter,
                "kind": "per_unit",
                "amount": _amount(price, currency),
            }
            found.append(entry | common | {"per": 1_000_000})
        tiers = [{"up_to": 100_000_000, "amount": _amount("0.60", currency)}, {"amount": _amount("0.50", currency)}]
        entry = {"id": f"tokens.output-{currency}", "meter": "tokens.output", "kind": "graduated", "tiers": tiers}
        found.append(entry | common | {"per": 1_000_000})
        entry = {"id": f"energy-{currency}", "meter": "energy.wh", "kind": "per_unit", "per": 1_000_000}
        found.append(entry | common | {"amount": _amount("90", currency)})
    return {"name": "Example Compute", "prices": found}


def plans() -> list[dict[str, Any]]:
    """A small and a large plan in each currency."""
    found = []
    for currency in CURRENCIES:
        for name, price, included in (("team", "100", 10_000_000), ("business", "400", 80_000_000)):
            output: dict[str, Any] = {
                "meter": "tokens.output",
                "included": included,
                "kind": "per_unit",
                "per": 1_000_000,
            }
            plan: dict[str, Any] = {"id": f"{name}-{currency.lower()}", "name": name.capitalize(), "currency": currency}
            plan |= {"every": "month", "begins": "calendar", "amount": _amount(price, currency)}
            plan |= {"seat_amount": _amount("20", currency)}
            found.append(plan | {"usage": [output | {"amount": _amount("0.55", currency)}]})
    return found


def card(customer: Customer, owner: str) -> dict[str, Any]:
    """What was negotiated with a customer of the role 1: a discount, support, and a monthly minimum."""
    common = {"organization": owner, "currency": customer.currency, "from": SINCE}
    support = {"id": f"support-{owner}", "kind": "flat", "description": "Support", **common}
    minimum = {"id": f"minimum-{owner}", "description": "Monthly minimum", **common}
    start = {"New_York": "2025-12-01T05:00:00Z", "Los_Angeles": "2025-12-01T08:00:00Z", "Tokyo": "2025-11-30T15:00:00Z"}
    minimum["from"] = start.get(customer.timezone.partition("/")[2], "2025-11-30T23:00:00Z")
    discount = {"id": f"volume-{owner}", "organization": owner, "description": "Volume discount", "percent": "10"}
    return {
        "prices": [support | {"amount": _amount("250", customer.currency)}],
        "discounts": [discount | {"from": SINCE}],
        "commitments": [minimum | {"minimum": _amount("6000", customer.currency)}],
    }
