"""`sublet ledger backlog`: what is contracted and not yet delivered."""

from __future__ import annotations

from sublet.client.remote import connect
from sublet.output import JsonFlag, print_json, print_rows
from sublet.shown import Columns, money


def backlog(as_json: JsonFlag = False) -> None:
    """Show what is contracted but not yet delivered, by month: current and future leases at their agreed prices."""
    found = connect().document("ledger.backlog")
    if as_json:
        print_json(found)
        return
    columns: Columns = {
        "month": "month",
        "amount": money("to be delivered"),
        "from_blocks": money("of it from blocks"),
        "currency": "",
        "accelerator_hours": "accelerator-hours",
        "leases": "leases",
    }
    print_rows(found["months"], columns, "everything contracted has been delivered")
