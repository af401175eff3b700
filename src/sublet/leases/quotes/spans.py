"""The possible starts of a request that only states when it must be over."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from sqlalchemy import Connection

from sublet.leases.ports import LeasePorts
from sublet.leases.quotes import calendar
from sublet.leases.quotes.request import QuoteRequest
from sublet.values.windows import Window

STARTS_MAX = 48


def windows_of(
    connection: Connection, ports: LeasePorts, request: QuoteRequest, pool_ids: Sequence[str], now: datetime
) -> Iterator[Window]:
    """The windows in which a request could be met, earliest first. There is only one without `finish_by`.

    With it, the request may begin at its start, whenever a sold window of its pools ends, and at evenly spaced moments between.
    At most STARTS_MAX windows are tried.
    """
    if request.finish_by is None:
        yield request.window(now)
        return
    first, last, length = request.starts(now)
    moments = {first}
    for pool_id in pool_ids:
        gap = ports.timing_of(connection, pool_id)
        ends = calendar.ends_between(connection, pool_id, Window(first, last + timedelta(seconds=1)), now, STARTS_MAX)
        moments |= {end + timedelta(seconds=gap.clean_s + gap.prepare_s) for end in ends}
    step = max(60, -(-int((last - first).total_seconds()) // (STARTS_MAX // 2)) // 60 * 60)
    at = first
    while at < last:
        at += timedelta(seconds=step)
        moments.add(min(at, last))
    for start in sorted(moment for moment in moments if first <= moment <= last)[: 2 * STARTS_MAX]:
        yield Window.starting(start, length)
