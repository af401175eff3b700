"""Who issues an invoice and who is billed, field by field, and how each stands on documents."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sublet.ledger.invoices.words import LANGUAGES
from sublet.values.countries import BANK_COUNTRIES, COUNTRIES, VAT_PREFIXES
from sublet.values.emails import checked_email
from sublet.values.errors import InvalidInputError
from sublet.values.vat_ids import is_vat_id

TEXT_MAX = 500
PARTY_FIELDS = "name address street postcode city country tax_number vat_id email iban bic".split()
"""What a document says of each party."""
_COUNTRY = re.compile(r"[A-Z]{2}")
_VAT_ID = re.compile(r"[A-Z]{2}[0-9A-Z+*.]{2,13}")
_IBAN = re.compile(r"[A-Z]{2}[0-9]{2}[0-9A-Z]{11,30}")
_BIC = re.compile(r"[A-Z]{6}[0-9A-Z]{2}([0-9A-Z]{3})?")


@dataclass(frozen=True, slots=True)
class Profile:
    """Who is billed: what stands on the invoice and what decides on taxes. `country` is ISO 3166-1 alpha-2; `address` is for what
    does not fit street, postcode, and city. `reference` is the customer's own, such as a purchase order."""

    legal_name: str = ""
    address: str = ""
    country: str = ""
    tax_number: str = ""
    email: str = ""
    payment_days: int = 30
    street: str = ""
    postcode: str = ""
    city: str = ""
    vat_id: str = ""
    iban: str = ""
    bic: str = ""
    reference: str = ""
    language: str = ""

    def __post_init__(self) -> None:
        if not 0 <= self.payment_days <= 365:
            raise InvalidInputError("payment_days must be from 0 to 365", field="payment_days")
        for name in ("legal_name", "address", "tax_number", "email", "street", "postcode", "city", "reference"):
            if len(getattr(self, name)) > TEXT_MAX:
                raise InvalidInputError(f"{name} must be at most {TEXT_MAX} characters", field=name)
        if self.language and self.language not in LANGUAGES:
            raise InvalidInputError(
                f"language {self.language!r} must be one of {', '.join(LANGUAGES)}", field="language"
            )
        check_ids(self.country, self.vat_id, self.iban, self.bic)


@dataclass(frozen=True, slots=True)
class Issuer:
    """Who sends the invoices, and the bank account on which they are paid."""

    name: str = "Sublet operator"
    address: str = ""
    tax_number: str = ""
    street: str = ""
    postcode: str = ""
    city: str = ""
    country: str = ""
    vat_id: str = ""
    email: str = ""
    iban: str = ""
    bic: str = ""

    def __post_init__(self) -> None:
        check_ids(self.country, self.vat_id, self.iban, self.bic)
        check_codes(self)


def checked_profile(profile: Profile) -> Profile:
    """A profile that is about to be kept. What older versions kept is read as it is. Raises InvalidInputError."""
    check_codes(profile)
    return profile


def check_codes(party: Profile | Issuer) -> None:
    """Raises InvalidInputError for a code of no country, a mistyped VAT ID, and for what can't be an e-mail address."""
    if party.country and party.country not in COUNTRIES:
        raise InvalidInputError(
            f"country {party.country!r} is not an ISO 3166-1 code of a country; write it like DE, or GB for the United Kingdom",
            field="country",
        )
    if party.vat_id and party.vat_id[:2] not in VAT_PREFIXES:
        raise InvalidInputError(
            f"VAT ID {party.vat_id!r} must begin with the code of its country; write it like DE123456788",
            field="vat_id",
        )
    if party.vat_id and not is_vat_id(party.vat_id):
        raise InvalidInputError(
            f"VAT ID {party.vat_id!r} has a wrong length or check digit; write it without spaces, like DE123456788",
            field="vat_id",
        )
    for name, code in (("iban", party.iban[:2]), ("bic", party.bic[4:6])):
        if code and code not in BANK_COUNTRIES:
            raise InvalidInputError(f"{name.upper()}: {code!r} is not the code of a country; check it", field=name)
    if party.email:
        checked_email(party.email)


def check_ids(country: str, vat_id: str, iban: str, bic: str) -> None:
    """Raises InvalidInputError for a code or number that is not what its field says. Written without spaces."""
    if country and not _COUNTRY.fullmatch(country):
        raise InvalidInputError(f"country {country!r} is not an ISO 3166-1 code; write it like DE", field="country")
    if vat_id and not _VAT_ID.fullmatch(vat_id):
        raise InvalidInputError(
            f"VAT ID {vat_id!r} must begin with its country and have no spaces; write it like DE123456788",
            field="vat_id",
        )
    if iban and not _is_iban(iban):
        raise InvalidInputError(
            f"IBAN {iban!r} has a wrong check digit or length; write it without spaces, like DE02120300000000202051",
            field="iban",
        )
    if bic and not _BIC.fullmatch(bic):
        raise InvalidInputError(f"BIC {bic!r} must have 8 or 11 characters, like BYLADEM1001", field="bic")


def _is_iban(text: str) -> bool:
    """ISO 13616: moved by four characters, letters as numbers from 10, it leaves 1 when divided by 97."""
    if not _IBAN.fullmatch(text):
        return False
    return int("".join(str(int(sign, 36)) for sign in text[4:] + text[:4])) % 97 == 1


def issuer_of_document(issuer: Issuer) -> dict[str, str]:
    """The issuer as documents say it."""
    return {name: getattr(issuer, name) for name in PARTY_FIELDS}


def customer_of_document(organization_id: str, name: str, profile: Profile) -> dict[str, str]:
    """The customer as documents say it."""
    found = {field: getattr(profile, field) for field in PARTY_FIELDS if field != "name"}
    return {
        "organization_id": organization_id,
        "name": profile.legal_name or name,
        **found,
        "reference": profile.reference,
        "language": profile.language,
    }


def with_all_fields(document: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Issuer and customer of a stored document, with the fields that older ones lack left empty."""
    blank = dict.fromkeys(PARTY_FIELDS, "")
    more = {"reference": "", "language": ""}
    return {"issuer": blank | document["issuer"], "customer": blank | more | document["customer"]}


def address_lines(party: Mapping[str, str]) -> list[str]:
    """An address line by line, without the name: as it was written, else street, and postcode with city, then the country."""
    town = " ".join(part for part in (party.get("postcode", ""), party.get("city", "")) if part)
    lines: Iterable[str] = (*party["address"].splitlines(), party.get("street", ""), town, party.get("country", ""))
    return [line for line in lines if line]
