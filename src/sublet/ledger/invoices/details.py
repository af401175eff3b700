"""What the lines of an invoice are for: when, which model or machines, and how much of it each project used.

Derived from the events when one invoice is read, not when it is made: rating a million events would else read each once more.
Events and rated lines never change, so what is derived stays the same.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, select, text

from sublet.ledger import store as sql
from sublet.ledger.invoices.lines import SPLIT, line_id
from sublet.ledger.model import Party, amount_text
from sublet.ledger.periods import month_of
from sublet.ledger.usage.meters import METERS
from sublet.store.tables.ledger import invoice_transactions
from sublet.values.clock import format_time, from_micros

NAMES_MAX = 20
"""Different values of one dimension, or resources, that a line names."""
PROJECTS_MAX = 200

AcceleratorsOf = Callable[[Connection, Sequence[str]], Mapping[str, int]]
"""How many accelerators each of these leases has."""


@dataclass(slots=True)
class _Found:
    meter: str
    first: int
    last: int
    names: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    resources: set[str] = field(default_factory=set)
    projects: dict[str, list[int]] = field(default_factory=lambda: defaultdict(lambda: [0, 0]))


def details_of(
    connection: Connection, party: Party, numbers: Sequence[int], accelerators_of: AcceleratorsOf
) -> list[dict[str, Any]]:
    """One entry for each line of usage of the transactions `numbers`."""
    found: dict[str, _Found] = {}
    for part in sql.chunks(list(numbers)):
        statement = text(
            "SELECT l.rate_id, l.period_start, t.kind, e.meter, e.project, e.dimensions, "
            "COALESCE(min(CASE WHEN e.kind = 'usage' THEN e.at END), min(e.at)), "
            "COALESCE(max(CASE WHEN e.kind = 'usage' THEN e.at END), max(e.at)), "
            f"sum(l.quantity / {SPLIT}), sum(l.quantity % {SPLIT}), sum(l.nano / {SPLIT}), sum(l.nano % {SPLIT}) "
            "FROM ledger_lines l JOIN ledger_transactions t ON t.transaction_no = l.transaction_no "
            "JOIN ledger_events e ON e.seq = l.event_seq "
            f"WHERE l.transaction_no IN ({', '.join(map(str, part))}) GROUP BY 1, 2, 3, 4, 5, 6"
        )
        for row in connection.execute(statement):
            _add(found, party, row)
    counts = accelerators_of(connection, sorted({name for entry in found.values() for name in entry.resources}))
    return [_as_dict(name, entry, counts) for name, entry in found.items()]


def numbers_of(connection: Connection, invoice_id: str) -> list[int]:
    """The transactions that stand on an invoice."""
    mapped = select(invoice_transactions.c.transaction_no).where(invoice_transactions.c.invoice_id == invoice_id)
    return sorted(connection.execute(mapped).scalars())


def _add(found: dict[str, _Found], party: Party, row: Any) -> None:
    rate_id, start, kind, meter, project, dimensions, first, last, *sums = row
    used = month_of(from_micros(start), party.timezone).label
    name = line_id("adjustment" if kind == "adjustment" else "usage", rate_id, used)
    entry = found.setdefault(name, _Found(meter, first, last))
    entry.first, entry.last = min(entry.first, first), max(entry.last, last)
    for dimension, value in json.loads(dimensions or "{}").items():
        if len(entry.names[dimension]) < NAMES_MAX:
            entry.names[dimension].add(value)
    if rate_id.startswith("agreed:"):
        entry.resources.add(rate_id.split(":", 2)[1])
    share = entry.projects[project if len(entry.projects) < PROJECTS_MAX or project in entry.projects else "…"]
    share[0] += int(sums[0]) * SPLIT + int(sums[1])
    share[1] += int(sums[2]) * SPLIT + int(sums[3])


def _as_dict(name: str, entry: _Found, counts: Mapping[str, int]) -> dict[str, Any]:
    meter = METERS[entry.meter]
    resources = sorted(entry.resources)
    return {
        "line": name,
        "first": format_time(from_micros(entry.first)),
        "last": format_time(from_micros(entry.last)),
        "names": {dimension: sorted(values) for dimension, values in sorted(entry.names.items())},
        "resources": resources,
        "accelerators": counts.get(resources[0]) if len(resources) == 1 else None,
        "projects": [
            {"project": project, "quantity": str(meter.units(steps)), "amount": amount_text(nano)}
            for project, (steps, nano) in sorted(entry.projects.items())
        ],
    }
