"""Money paid in advance, booked as the API books it."""

from __future__ import annotations

from datetime import datetime

from sublet.ledger.credits.crediting import Credit
from sublet.ledger.service import Ledger


def prepay(
    ledger: Ledger, organization_id: str, nano: int, source_id: str, expires_at: datetime | None = None
) -> Credit:
    return ledger.store.write(
        lambda connection: ledger.credit(
            connection, organization_id, nano, "paid in advance", source_id, kind="prepaid", expires_at=expires_at
        )
    )
