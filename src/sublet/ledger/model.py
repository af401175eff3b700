"""The nouns of the ledger: usage events, the chart of accounts, entries of the journal and their hash chain."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from sublet.values.clock import format_time
from sublet.values.errors import ConflictError, InvalidInputError
from sublet.values.money import POSTING_NANO_MAX, decimal_from_nano

GENESIS = "0" * 64
"""The hash before the first transaction."""

ACCOUNTS = {
    "receivable": "asset: invoiced and not yet paid",
    "unbilled": "asset: used and not yet invoiced",
    "cash": "asset: received from customers",
    "credits": "liability: credits that a customer may still use",
    "deferred_revenue": "liability: paid in advance and not yet used",
    "customer_balance": "liability: money owed back to a customer",
    "taxes_payable": "liability: taxes invoiced for the authorities",
    "revenue.leases": "income: raw capacity",
    "revenue.models": "income: the model API",
    "revenue.energy": "income: energy passed on",
    "revenue.fees": "income: fixed fees",
    "revenue.commitments": "income: what a commitment adds to usage",
    "breakage": "income: credits that expired unused",
    "rounding": "income: the difference that rounding an invoice makes",
    "penalties": "expense: credits for capacity taken back early",
    "promotions": "expense: credits given away",
    "adjustments": "expense: credits given in settlement of a dispute",
    "bad_debt": "expense: receivables written off",
}

USAGE, CORRECTION, CANCELLATION = "usage", "correction", "cancellation"
EVENT_KINDS = (USAGE, CORRECTION, CANCELLATION)


class EventConflictError(ConflictError):
    """The id of this event was already used for different content; both are shown. Send a correction with a new id."""

    code = "event_conflict"


class UnbalancedEntryError(InvalidInputError):
    """The postings of an entry do not sum to zero; nothing was written."""

    code = "unbalanced_entry"


@dataclass(frozen=True, slots=True)
class UsageEvent:
    """What was used, once: identity is (`source`, `id`), as in CloudEvents 1.0. `at` is when it was used.

    `quantity` counts units of the meter. A correction replaces the quantity of the event that `corrects` names; a
    cancellation makes it zero; the one with the latest `at` stands.
    """

    source: str
    id: str
    organization_id: str
    meter: str
    quantity: int | Decimal | str
    at: datetime
    resource: str = ""
    project: str = ""
    key_id: str = ""
    dimensions: Mapping[str, str] = field(default_factory=dict)
    kind: str = USAGE
    corrects: tuple[str, str] | None = None
    hold_id: str | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """An event that was not taken: its place in the batch, its identity, and why."""

    index: int
    source: str
    id: str
    code: str
    message: str
    details: Mapping[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        return {
            "index": self.index,
            "source": self.source,
            "id": self.id,
            "code": self.code,
            "message": self.message,
            "details": dict(self.details),
        }


@dataclass(frozen=True, slots=True)
class IntakeResult:
    """What became of a batch: every event was accepted, known already (a harmless repeat), or refused."""

    accepted: int
    duplicates: int
    refused: tuple[Refusal, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        return {
            "accepted": self.accepted,
            "duplicates": self.duplicates,
            "refused": [refusal.as_dict() for refusal in self.refused],
        }


@dataclass(frozen=True, slots=True)
class Posting:
    """`nano` on `account`: positive is debit, negative is credit."""

    account: str
    nano: int


@dataclass(frozen=True, slots=True)
class Entry:
    """A transaction to be posted. (`organization_id`, `kind`, `source_id`) is unique: posting it again is refused."""

    organization_id: str
    currency: str
    kind: str
    source_id: str
    period_start: datetime
    memo: str
    postings: tuple[Posting, ...]
    reverses: int | None = None
    lines_digest: str = ""

    def __post_init__(self) -> None:
        total = 0
        for posting in self.postings:
            if posting.account not in ACCOUNTS:
                raise InvalidInputError(f"account {posting.account!r} is not in the chart of accounts")
            if abs(posting.nano) > POSTING_NANO_MAX:
                raise InvalidInputError(f"a posting of {posting.nano} nano-units exceeds the maximum of one posting")
            total += posting.nano
        if total:
            raise UnbalancedEntryError(f"the postings of {self.kind} {self.source_id} sum to {total}, not to zero")


@dataclass(frozen=True, slots=True)
class Transaction:
    """An entry in the journal: numbered without gaps and chained to the one before by its hash."""

    number: int
    id: str
    entry: Entry
    booked_at: datetime
    previous_hash: str

    @property
    def hash(self) -> str:
        """SHA-256 over the previous hash and everything in this transaction."""
        entry = self.entry
        content = [
            self.number,
            self.id,
            entry.organization_id,
            entry.currency,
            entry.kind,
            entry.source_id,
            format_time(self.booked_at),
            format_time(entry.period_start),
            entry.memo,
            entry.reverses,
            entry.lines_digest,
            [[posting.account, posting.nano] for posting in entry.postings],
        ]
        body = self.previous_hash + json.dumps(content, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(body.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Party:
    """What the ledger needs to know of an organization."""

    id: str
    name: str
    currency: str
    timezone: str


def amount_text(nano: int) -> str:
    """An amount in major units as a decimal string with nine digits after the point: exact."""
    return format(decimal_from_nano(nano), "f")


def postings_of(amounts: Mapping[str, int]) -> tuple[Posting, ...]:
    """One posting per account, or several where an amount is more than one posting holds; zero amounts are left out."""
    found: list[Posting] = []
    for account in sorted(amounts):
        rest = amounts[account]
        while rest:
            part = max(-POSTING_NANO_MAX, min(POSTING_NANO_MAX, rest))
            found.append(Posting(account, part))
            rest -= part
    return tuple(found)


PRODUCT_ACCOUNTS = ("revenue.leases", "revenue.models", "revenue.energy", "revenue.fees", "revenue.commitments")
"""Where invoice lines are earned: the account of a product is named after it."""
