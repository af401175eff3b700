"""Revenue by month: what was recognized, how deferred revenue moved, and what is not billed yet, from the postings alone.

Months are those to which the journal books. Of each customer, unbilled and deferred amounts are netted to a contract asset or a
contract liability (IFRS 15.105, ASC 606-10-45-1) in the report; the journal keeps both.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from fractions import Fraction
from typing import Any

from sqlalchemy import Connection, func, select

from sublet.ledger import store as sql
from sublet.ledger.model import ACCOUNTS, Party, amount_text
from sublet.ledger.periods import following, month_labeled, month_of
from sublet.store.tables.ledger import postings, transactions
from sublet.values.errors import InvalidInputError

MONTHS_MAX = 60
_SPLIT = 10**9
DEFERRED, UNBILLED = "deferred_revenue", "unbilled"
INCOME = tuple(name for name, meaning in ACCOUNTS.items() if meaning.startswith("income"))
EXPENSES = tuple(name for name, meaning in ACCOUNTS.items() if meaning.startswith("expense"))
_MOVES = {"credit": "received", "expiry": "expired", "return of a deposit": "returned", "credit note": "returned"}
"""What a kind of transaction does to money paid in advance; every other one uses it, or gives back what was used."""
MOVES = ("received", "used", "expired", "returned")

_Moved = tuple[datetime, str, str, int]
"""The month to which it was booked, the kind of transaction, the account, and nano-units."""


@dataclass(slots=True)
class Month:
    """The sums of one month in one currency, in nano-units. Income is positive, and so is what was given away."""

    earned: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    given: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    moved: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    deferred: int = 0
    """At the end of the month, as `unbilled` and the two below."""
    unbilled: int = 0
    assets: int = 0
    liabilities: int = 0
    breakage: int = 0
    """Expected to expire unused and not posted as expired yet, in proportion to what was used."""

    @property
    def opening(self) -> int:
        """Deferred at the start of the month."""
        return self.deferred - self.moved["received"] + sum(self.moved[name] for name in MOVES[1:])

    def as_dict(self, label: str, currency: str) -> dict[str, Any]:
        earned, given = sum(self.earned.values()), sum(self.given.values())
        moved = {name: amount_text(self.moved[name]) for name in MOVES}
        return {
            "period": label,
            "currency": currency,
            "earned": {name: amount_text(nano) for name, nano in sorted(self.earned.items()) if nano},
            "given": {name: amount_text(nano) for name, nano in sorted(self.given.items()) if nano},
            "net": amount_text(earned - given),
            "deferred": {"opening": amount_text(self.opening), **moved, "closing": amount_text(self.deferred)},
            "unbilled": amount_text(self.unbilled),
            "contract_assets": amount_text(self.assets),
            "contract_liabilities": amount_text(self.liabilities),
            "expected_breakage": amount_text(self.breakage),
        }


def revenue_by_month(
    connection: Connection,
    since: str,
    until: str,
    organization_ids: Iterable[str] | None = None,
    breakage_percent: Fraction = Fraction(0),
) -> list[dict[str, Any]]:
    """Months `since` to `until`, both inclusive, by month and currency; of these organizations, or of all. `breakage_percent` of
    prepaid money is expected to expire unused. Raises InvalidInputError."""
    labels = months_between(since, until)
    owners = sql.organizations_with_transactions(connection) if organization_ids is None else organization_ids
    found: dict[tuple[str, str], Month] = defaultdict(Month)
    for chunk in sql.chunks(sorted(owners)):
        moved = _moved(connection, chunk)
        for owner in chunk:
            party = sql.party(connection, owner)
            if party is not None:
                _add(found, party, labels, moved.get(owner, []), breakage_percent)
    return [found[key].as_dict(*key) for key in sorted(found)]


def months_between(since: str, until: str) -> list[str]:
    """The labels of months. Raises InvalidInputError for what is no month, an end before the start, or too many."""
    first, last = month_labeled(since, "UTC"), month_labeled(until, "UTC")
    found = [first.label]
    while first.start < last.start and len(found) <= MONTHS_MAX:
        first = following(first, "UTC")
        found.append(first.label)
    if last.start < first.start or len(found) > MONTHS_MAX:
        raise InvalidInputError(
            f"since must not be after until, and at most {MONTHS_MAX} months before it", field="since"
        )
    return found


def _moved(connection: Connection, owners: Iterable[str]) -> dict[str, list[_Moved]]:
    columns = transactions.c
    groups = (columns.organization_id, columns.period_start, columns.kind, postings.c.account)
    statement = (
        select(
            *groups,
            func.sum(postings.c.nano // _SPLIT).label("high"),
            func.sum(postings.c.nano % _SPLIT).label("low"),
        )
        .join(postings, postings.c.transaction_no == columns.transaction_no)
        .where(columns.organization_id.in_(list(owners)))
        .where(postings.c.account.in_((*INCOME, *EXPENSES, DEFERRED, UNBILLED)))
        .group_by(*groups)
    )
    found: dict[str, list[_Moved]] = defaultdict(list)
    for row in connection.execute(statement):
        nano = int(row.high) * _SPLIT + int(row.low)
        found[row.organization_id].append((row.period_start, row.kind, row.account, nano))
    return found


def _add(
    found: dict[tuple[str, str], Month], party: Party, labels: list[str], moved: list[_Moved], breakage: Fraction
) -> None:
    """One organization's postings into the sums of all; its balances at the end of each month are netted before that."""
    by_label = [(month_of(start, party.timezone).label, kind, account, nano) for start, kind, account, nano in moved]
    if not by_label:
        return
    for label in labels:
        month = found[label, party.currency]
        deferred = -sum(nano for at, _, account, nano in by_label if account == DEFERRED and at <= label)
        unbilled = sum(nano for at, _, account, nano in by_label if account == UNBILLED and at <= label)
        month.deferred += deferred
        month.unbilled += unbilled
        month.assets += max(0, unbilled - deferred)
        month.liabilities += max(0, deferred - unbilled)
        month.breakage += _expected([entry for entry in by_label if entry[0] <= label], breakage)
        for at, kind, account, nano in by_label:
            if at != label:
                continue
            if account in INCOME:
                month.earned[account] -= nano
            elif account in EXPENSES:
                month.given[account] += nano
            elif account == DEFERRED:
                move = _MOVES.get(kind, "used")
                month.moved[move] += -nano if move == "received" else nano


def _expected(moved: list[tuple[str, str, str, int]], percent: Fraction) -> int:
    """What of money paid in advance is expected to expire unused, in proportion to use (IFRS 15.B46, ASC 606-10-55-48), less what
    was posted as expired; rounded down to the nano-unit."""
    sums: dict[str, int] = defaultdict(int)
    for _, kind, account, nano in moved:
        if account == DEFERRED:
            sums[_MOVES.get(kind, "used")] += nano
    most = -sums["received"] * percent / 100
    return max(0, int(min(most, sums["used"] * percent / (100 - percent))) - sums["expired"])
