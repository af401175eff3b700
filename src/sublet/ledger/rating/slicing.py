"""Counters are cut where a credit begins or ends: usage that was counted across that moment is counted again from its lines."""

from __future__ import annotations

from bisect import bisect_right
from functools import partial

from sqlalchemy import Connection, select, text, update

from sublet.ledger import store as sql
from sublet.ledger.model import Party
from sublet.ledger.periods import month_of
from sublet.ledger.prices.booking import Books
from sublet.ledger.rating.chains import Chain
from sublet.ledger.rating.charging import LIST
from sublet.store.tables.ledger import counters
from sublet.values.clock import from_micros, to_micros


def start_after(start: int, cuts: list[int], at: int) -> int:
    """Where usage at `at` counts from: the last cut before it, at the earliest `start`."""
    index = bisect_right(cuts, at)
    return max(start, cuts[index - 1]) if index else start


def slice_again(connection: Connection, books: Books, party: Party, moment: int) -> None:
    """Cut every counter of an organization at `moment` (microseconds) that has usage before and after it."""
    period = month_of(from_micros(moment), party.timezone)
    columns = counters.c
    where = (columns.organization_id == party.id) & (columns.period_start == period.start)
    resolve = partial(books.resolve, connection, party)
    across: dict[str, Chain] = {}
    for row in connection.execute(select(counters).where(where)).all():
        chain = Chain.of(row.nano, row.list_nano, row.slices, resolve)
        if not row.rate_id.startswith(LIST) and any(part.start < moment <= part.last_at for part in chain.slices):
            across[row.rate_id] = Chain([], row.nano, row.list_nano)
    if not across:
        return
    cuts = sql.grant_moments(connection, [party.id]).get(party.id, [])
    statement = text(
        "SELECT l.book_version, l.rate_id, l.quantity, o.meter, o.dimensions, o.resource, o.at FROM ledger_transactions t "
        "JOIN ledger_lines l ON l.transaction_no = t.transaction_no JOIN ledger_events f ON f.seq = l.event_seq "
        "JOIN ledger_events o ON o.source = coalesce(f.corrects_source, f.source) "
        "AND o.event_id = coalesce(f.corrects_id, f.event_id) "
        "WHERE t.organization_id = :organization AND l.period_start = :start ORDER BY l.line_no"
    )
    given = {"organization": party.id, "start": to_micros(period.start)}
    for version, rate_id, quantity, meter, dimensions, resource, at in connection.execute(statement, given).all():
        book = books.version(connection, version)
        if resource:
            books.load_agreed(connection, [resource], {party.id: party})
        rate = books.rate(book, party, meter, dimensions, at, resource)
        if rate is None or rate.id != rate_id or rate.chain not in across:
            continue
        start, _ = books.placed(book, party, (meter, dimensions, resource), rate, at, period)
        across[rate.chain].add(start_after(start, cuts, at), rate, version, quantity, at)
    for name, chain in across.items():
        change = update(counters).where(where, columns.rate_id == name)
        connection.execute(change.values(slices=chain.as_json(), quantity=chain.steps))
