"""Usage as CSV: one row for each rated line, with the event behind it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from sublet.ledger.exports.charges import Charges
from sublet.ledger.rating.batches import period_of
from sublet.ledger.usage.meters import METERS
from sublet.values.clock import from_micros
from sublet.values.money import decimal_from_nano

USAGE_COLUMNS = (
    "time",
    "organization_id",
    "project",
    "key",
    "meter",
    "quantity",
    "unit",
    "resource",
    "dimensions",
    "kind",
    "rate",
    "amount",
    "list_amount",
    "currency",
    "booked_in",
    "source",
    "event",
    "line",
    "transaction",
)


def usage_rows(charges: Charges) -> Iterator[Mapping[str, Any]]:
    """Rated lines in their order."""
    for page in charges.pages():
        for line in page:
            party = charges.party(line.organization_id)
            booked = period_of(line.booked, party.timezone).label
            if not charges.span.has(booked):
                continue
            meter = METERS[line.meter]
            yield {
                "time": from_micros(line.at),
                "organization_id": line.organization_id,
                "project": line.project,
                "key": line.key_id,
                "meter": line.meter,
                "quantity": meter.units(line.quantity),
                "unit": meter.unit,
                "resource": line.resource,
                "dimensions": line.dimensions,
                "kind": line.kind,
                "rate": line.rate_id,
                "amount": decimal_from_nano(line.nano),
                "list_amount": decimal_from_nano(line.list_nano),
                "currency": party.currency,
                "booked_in": booked,
                "source": line.source,
                "event": line.event_id,
                "line": line.line_no,
                "transaction": line.transaction_no,
            }
