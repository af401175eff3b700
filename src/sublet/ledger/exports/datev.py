"""The general ledger of one month as a posting batch of DATEV: format EXTF 700, category 21 (Buchungsstapel), version 13, as published
on developer.datev.de. It was not tried in the product.

DATEV posts an account against a contra account, and a month of the general ledger moves many: each account is posted against one
clearing account, which is even afterwards. Postings in another currency than the euro need a rate of exchange, which the ledger does
not have, so only euros are exported.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from sublet.ledger.exports.charges import Charges
from sublet.ledger.exports.general_ledger import monthly
from sublet.ledger.model import ACCOUNTS
from sublet.ledger.periods import month_labeled
from sublet.values.clock import as_utc
from sublet.values.errors import InvalidInputError
from sublet.values.money import NANO

DATEV = "gl-datev"
CURRENCY = "EUR"
TEXT_MAX = 60
_CENT = NANO // 100
COLUMNS = (
    "Umsatz (ohne Soll/Haben-Kz)",
    "Soll/Haben-Kennzeichen",
    "WKZ Umsatz",
    "Kurs",
    "Basis-Umsatz",
    "WKZ Basis-Umsatz",
    "Konto",
    "Gegenkonto (ohne BU-Schlüssel)",
    "BU-Schlüssel",
    "Belegdatum",
    "Belegfeld 1",
    "Belegfeld 2",
    "Skonto",
    "Buchungstext",
)


@dataclass(frozen=True, slots=True)
class Client:
    """Whose books these are at a tax consultant: both numbers, and the clearing account, whose length is that of all accounts."""

    consultant: int = 0
    number: int = 0
    clearing_account: str = ""

    @property
    def complete(self) -> bool:
        return bool(self.consultant and self.number and self.clearing_account)


def datev_text(charges: Charges, client: Client, now: datetime) -> Iterator[bytes]:
    """The posting batch of the one month that is asked for, by default the present one, in Windows-1252 with CRLF. Raises
    InvalidInputError before the first byte: for several months, missing settings, and an account without a number."""
    if not client.complete:
        raise InvalidInputError(
            "set billing.datev_consultant, billing.datev_client and billing.datev_clearing_account to export for DATEV"
        )
    label = charges.span.until or charges.span.since or f"{now:%Y-%m}"
    if charges.span.since not in ("", label):
        raise InvalidInputError("a DATEV batch has one month; ask for the same since and until", field="until")
    month = month_labeled(label, "UTC")
    last = as_utc(month.end).date().toordinal() - 1
    end = datetime.fromordinal(last)
    sums = next((sums for period, currency, sums in monthly(charges) if (period, currency) == (label, CURRENCY)), {})
    lines = [_header(client, end, now), ";".join(COLUMNS)]
    lines += [_row(charges, client, account, nano, end) for account, nano in sums.items()]
    return iter(["".join(f"{line}\r\n" for line in lines).encode("cp1252", "replace")])


def _header(client: Client, end: datetime, now: datetime) -> str:
    first = f"{end:%Y%m}01"
    fields = [
        '"EXTF"',
        "700",
        "21",
        '"Buchungsstapel"',
        "13",
        f"{now:%Y%m%d%H%M%S}000",
        "",
        '"RE"',
        '""',
        '""',
        str(client.consultant),
        str(client.number),
        f"{end:%Y}0101",
        str(len(client.clearing_account)),
        first,
        f"{end:%Y%m%d}",
        f'"Sublet {end:%Y-%m}"',
        '""',
        "1",
        "0",
        "0",
        f'"{CURRENCY}"',
    ]
    return ";".join([*fields, "", '""', "", "", '""', "", "", '""', '""'])


def _row(charges: Charges, client: Client, account: str, nano: int, end: datetime) -> str:
    code = charges.code(account)
    if not code.isascii() or not code.isdigit() or len(code) != len(client.clearing_account):
        raise InvalidInputError(
            f"account {account} has the code {code!r}; DATEV needs a number of {len(client.clearing_account)} digits, set it in "
            "billing.chart_of_accounts"
        )
    whole, cents = divmod(abs(nano) // _CENT, 100)
    text = ACCOUNTS[account].replace('"', "")[:TEXT_MAX]
    side = '"S"' if nano > 0 else '"H"'
    fields = [f"{whole},{cents:02d}", side, f'"{CURRENCY}"', "", "", "", code, client.clearing_account, ""]
    return ";".join([*fields, f"{end:%d%m}", f'"{end:%Y-%m}"', "", "", f'"{text}"'])
