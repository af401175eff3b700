"""What is left to do before a month can be handed to accounting: checked from the books, at any time."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, func, select

from sublet.ledger import store as sql
from sublet.ledger.journal.double_entry import balances_of
from sublet.ledger.model import amount_text
from sublet.ledger.periods import month_labeled
from sublet.ledger.proof.health import lag_of
from sublet.ledger.store import organizations_with_transactions
from sublet.store.tables.ledger import proofs, waiting
from sublet.values.clock import to_micros

NAMED_MAX = 10


def checklist(connection: Connection, label: str, now: datetime) -> dict[str, Any]:
    """The steps of closing the month `label`, each done or not, and what is missing. Raises InvalidInputError for what is no month."""
    month = month_labeled(label, "UTC")
    lag = lag_of(connection, now)
    stuck = connection.execute(select(func.count()).select_from(waiting)).scalar_one()
    open_, running = _open(connection, label, now)
    proof = connection.execute(select(proofs).order_by(proofs.c.proved_at.desc()).limit(1)).first()
    uneven = _uneven(connection)
    proved = proof is not None and proof.ok and proof.proved_at >= month.end
    steps = [
        _step("month over", not running, _named(running, "for {} the month is not over")),
        _step("usage rated", not lag.unrated_events, f"{lag.unrated_events:,} events are not rated yet"),
        _step(
            "no usage waits", not stuck, f"{stuck:,} events wait for a price or an event; see `sublet ledger health`"
        ),
        _step("months closed", not open_, _named(open_, f"not closed: {{}}; `sublet ledger close-all {label}`")),
        _step("books balance", not uneven, _named(uneven, "accounts do not sum to zero: {}")),
        _step(
            "proved since", proved, "no clean proof since the month ended; `sublet ledger prove`, or wait for tonight"
        ),
    ]
    return {"period": label, "ready": all(step["done"] for step in steps), "steps": steps}


def _step(name: str, done: bool, missing: str) -> dict[str, Any]:
    return {"name": name, "done": done, "missing": "" if done else missing}


def _open(connection: Connection, label: str, now: datetime) -> tuple[list[str], list[str]]:
    """Organizations whose month is over and not closed, and those for which it is not over."""
    owners = organizations_with_transactions(connection)
    closed = sql.closed_periods(connection, owners)
    open_, running = [], []
    for owner in owners:
        party = sql.party(connection, owner)
        assert party is not None
        period = month_labeled(label, party.timezone)
        if now < period.end:
            running.append(party.name)
        elif (owner, to_micros(period.start)) not in closed:
            open_.append(party.name)
    return open_, running


def _uneven(connection: Connection) -> list[str]:
    """Organizations whose accounts do not sum to zero, with by how much."""
    found = []
    for owner in organizations_with_transactions(connection):
        off = sum(balances_of(connection, owner).values())
        if off:
            found.append(f"{owner} by {amount_text(off)}")
    return found


def _named(names: list[str], text: str) -> str:
    more = f" and {len(names) - NAMED_MAX} more" if len(names) > NAMED_MAX else ""
    return text.format(", ".join(names[:NAMED_MAX]) + more)
