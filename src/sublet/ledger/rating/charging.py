"""Charges: changes of quantity with their rate and month, what they move their counters by, and the lines and entries
that they become."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from sublet.ledger.model import USAGE, Entry, Party, postings_of
from sublet.ledger.periods import Period
from sublet.ledger.prices.book import Rate
from sublet.ledger.rating.chains import SLICES_MAX, Chain, Key, Span
from sublet.ledger.store import EventRow, LineRow
from sublet.ledger.usage.meters import METERS
from sublet.values.clock import to_micros
from sublet.values.money import POSTING_NANO_MAX

LIST = "list:"
"""How the names of counters begin that count for the list price alone."""


@dataclass(frozen=True, slots=True)
class Charge:
    """A change of quantity to be rated: by which rate of which book version, in which period, and because of which event.

    It counts from `start` (microseconds) on; `spans` are the rates of the whole month where they are more than one.
    """

    event: EventRow
    kind: str
    party: Party
    rate: Rate
    period: Period
    steps: int
    origin: EventRow
    """The usage itself: `event`, or what `event` corrects."""
    version: int
    start: int
    spans: tuple[Span, ...] = ()
    reverses: int | None = None
    rerated: bool = False

    @property
    def keys(self) -> list[Key]:
        """The counter of its prices, and that of its list price where it counts apart."""
        return keys_of(self.party.id, self.rate, to_micros(self.period.start))


@dataclass(slots=True)
class Group:
    """Lines that become one transaction."""

    party: Party
    booked: Period
    used: Period
    kind: str
    charges: list[tuple[Charge, int, int]] = field(default_factory=list)


def lines_digest(lines: Sequence[LineRow], events: Sequence[EventRow]) -> str:
    """SHA-256 over rated lines and the events behind them: what ties raw usage into the hash chain."""
    digest = hashlib.sha256()
    for line, event in zip(lines, events, strict=True):
        digest.update(line_digest_part(line, event))
    return digest.hexdigest()


def line_digest_part(line: LineRow, event: EventRow) -> bytes:
    """One rated line and its event, in the form that is hashed."""
    return (
        f"{line.line_no}\x1f{event.source}\x1f{event.event_id}\x1f{event.meter}\x1f{event.quantity}\x1f{event.at}\x1f"
        f"{line.kind}\x1f{line.rate_id}\x1f{line.book_version}\x1f{line.period_start}\x1f{line.quantity}\x1f"
        f"{line.nano}\x1f{line.list_nano}\x1f{line.reverses}\n"
    ).encode()


def waves(corrections: Sequence[EventRow]) -> list[list[EventRow]]:
    """Corrections in rounds, so that no round corrects the same event twice."""
    rounds: list[list[EventRow]] = []
    seen: dict[tuple[str | None, str | None], int] = defaultdict(int)
    for row in corrections:
        key = (row.corrects_source, row.corrects_id)
        if seen[key] == len(rounds):
            rounds.append([])
        rounds[seen[key]].append(row)
        seen[key] += 1
    return rounds


def units(charges: Sequence[Charge]) -> Iterator[list[Charge]]:
    """Charges that stand or fall together: a reversal and what replaces it."""
    unit: list[Charge] = []
    for charge in charges:
        if unit and unit[-1].reverses is None:
            yield unit
            unit = []
        unit.append(charge)
    if unit:
        yield unit


def keys_of(organization_id: str, rate: Rate, period_start: int) -> list[Key]:
    """The counter of a rate in a month, and that of its list price where it counts apart."""
    found = [(organization_id, rate.chain, period_start)]
    if rate.list_chain:
        found.append((organization_id, f"{LIST}{rate.chain}:{rate.list_chain}", period_start))
    return found


def advance(charge: Charge, known: dict[Key, Chain]) -> tuple[int, int] | None:
    """Move the counters of a charge on; what it costs, and would by the list. None, with nothing moved, beyond the limits."""
    rate = charge.rate
    found = [known[key] for key in charge.keys]
    for chain in found:
        chain.add(charge.start, rate, charge.version, charge.steps, charge.origin.at)
        assert chain.steps >= 0, f"the counter {rate.chain} of {charge.party.id} would fall to {chain.steps}"
    after, list_after = found[0].value(charge.spans), found[-1].list_value(charge.spans, rate.list_chain)
    nano, list_nano = after - found[0].nano, list_after - found[-1].list_nano
    if max(abs(nano), abs(list_nano)) > POSTING_NANO_MAX or len(found[0].slices) > SLICES_MAX:
        for chain in found:
            chain.add(charge.start, rate, charge.version, -charge.steps, charge.origin.at)
        return None
    found[0].nano, found[-1].list_nano = after, list_after
    return nano, list_nano


def group_kind(charge: Charge, booked: Period) -> str:
    if booked.start != charge.period.start:
        return "adjustment"
    if charge.kind == USAGE:
        return "usage"
    return "rerating" if charge.rerated else "correction"


def line_of(line_no: int, transaction_no: int, charge: Charge, nano: int, list_nano: int) -> LineRow:
    return LineRow(
        line_no,
        transaction_no,
        charge.event.seq,
        charge.kind,
        charge.party.id,
        charge.rate.id,
        charge.rate.list_id,
        charge.version,
        to_micros(charge.period.start),
        charge.steps,
        nano,
        list_nano,
        charge.reverses,
    )


def entry_of(group: Group, rows: Sequence[LineRow], events: Sequence[EventRow]) -> Entry:
    amounts: dict[str, int] = defaultdict(int)
    for charge, nano, _ in group.charges:
        amounts["unbilled"] += nano
        amounts[f"revenue.{METERS[charge.event.meter].product}"] -= nano
    memo = f"{group.kind} of {group.used.label}"
    return Entry(
        group.party.id,
        group.party.currency,
        group.kind,
        f"lines {rows[0].line_no}-{rows[-1].line_no}",
        group.booked.start,
        memo,
        postings_of(amounts),
        None,
        lines_digest(rows, events),
    )
