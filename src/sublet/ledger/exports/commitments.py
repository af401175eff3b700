"""The Contract Commitment dataset (FOCUS 1.3 and later): what was committed, by whom, until when."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from sublet.ledger.exports.charges import Charges
from sublet.values.money import decimal_from_nano

OPEN_END = datetime(9999, 1, 1, tzinfo=UTC)
"""The end of a commitment that has none: the dataset allows no empty end."""


def commitment_rows(charges: Charges) -> Iterator[Mapping[str, Any]]:
    """One row for each commitment of the current price book and of rate cards."""
    with charges.store.read() as connection:
        book = charges.books.current(connection)
    owners = dict.fromkeys(book.committed()) if not charges.organization_id else [charges.organization_id]
    for entry in (entry for owner in owners for entry in book.commitments_of(owner)):
        yield {
            "BillingCurrency": entry.currency,
            "ContractCommitmentCategory": "Spend",
            "ContractCommitmentCost": decimal_from_nano(entry.minimum_nano),
            "ContractCommitmentDescription": entry.description,
            "ContractCommitmentId": entry.id,
            "ContractCommitmentPeriodStart": entry.valid_from,
            "ContractCommitmentPeriodEnd": entry.valid_until or OPEN_END,
            "ContractCommitmentQuantity": None,
            "ContractCommitmentType": "Term minimum" if entry.term_end else "Monthly minimum",
            "ContractCommitmentUnit": None,
            "ContractId": f"{entry.organization}/{entry.id}",
            "ContractPeriodStart": entry.valid_from,
            "ContractPeriodEnd": entry.valid_until or OPEN_END,
        }
