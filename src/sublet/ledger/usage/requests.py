"""Usage of many small requests, taken at once: what they share is checked once, and all of them are taken or none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection

from sublet.ledger.model import USAGE
from sublet.ledger.usage.intake import (
    ID_LENGTH_MAX,
    Limits,
    Parties,
    Row,
    checked_text,
    dimensions_text,
    ensure_same,
    insert,
)
from sublet.ledger.usage.meters import METERS
from sublet.values.clock import from_micros
from sublet.values.errors import InvalidInputError, SubletError

CONTEXTS_MAX = 50_000
_HOLD = -1
"""Where a row names its hold."""


class RequestUsage(NamedTuple):
    """A quantity, in units of its meter, that one request used `at_us` microseconds after the epoch. As UsageEvent, whose `resource`
    is the request."""

    id: str
    organization_id: str
    key_id: str
    project: str
    meter: str
    quantity: int
    at_us: int
    request_id: str
    dimensions: tuple[tuple[str, str], ...]
    hold_id: str | None


class RequestsTaken(NamedTuple):
    """How many events were new, how many known, and how many of the new ones name each hold."""

    accepted: int
    duplicates: int
    holds: Counter[str]


class RequestIntake:
    """The way in for usage that a service of Sublet's own meters, request by request."""

    def __init__(self, parties: Parties) -> None:
        self._parties = parties
        self._contexts: dict[tuple[str, str, str, tuple[tuple[str, str], ...]], str] = {}

    def take(self, connection: Connection, source: str, usage: Iterable[RequestUsage], now: datetime) -> RequestsTaken:
        """Write all of `usage` in the caller's transaction. Twice the same counts once.

        Raises InvalidInputError naming the first that can't be taken; the caller's transaction is then to be rolled back.
        """
        limits = Limits(now)
        rows: dict[tuple[str, str], tuple[int, Row]] = {}
        duplicates = 0
        for index, item in enumerate(usage):
            try:
                row = self._row(connection, source, item, limits)
                earlier = rows.setdefault((source, item.id), (index, row))
                if earlier[0] != index:
                    ensure_same(earlier[1], row)
                    duplicates += 1
            except SubletError as error:
                raise _refused(item.id, error) from error
        new, known = insert(connection, rows)
        for _, row, stored in known:
            try:
                ensure_same(stored, row)
            except SubletError as error:
                raise _refused(row[1], error) from error
        old = {index for index, _, _ in known}
        holds = Counter(row[_HOLD] for index, row in rows.values() if row[_HOLD] and index not in old)
        return RequestsTaken(new, duplicates + len(known), holds)

    def _row(self, connection: Connection, source: str, item: RequestUsage, limits: Limits) -> Row:
        context = (item.organization_id, item.key_id, item.project, item.dimensions)
        dimensions = self._contexts.get(context)
        if dimensions is None:
            dimensions = self._learn(connection, source, item)
        if not limits.earliest_us <= item.at_us <= limits.latest_us:
            limits.check(from_micros(item.at_us))
        if not (0 < len(item.id) <= ID_LENGTH_MAX and item.id.isascii() and item.id.isprintable()):
            if not item.id:
                raise InvalidInputError("source and id must not be empty: together they identify the event")
            checked_text("id", item.id)
        meter = METERS.get(item.meter)
        if meter is None:
            raise InvalidInputError(f"meter {item.meter!r} is not known; use one of {', '.join(METERS)}")
        return (
            source,
            item.id,
            USAGE,
            item.organization_id,
            item.meter,
            meter.steps(item.quantity),
            item.at_us,
            limits.now,
            item.request_id,
            item.project,
            item.key_id,
            dimensions,
            None,
            None,
            item.hold_id,
        )

    def _learn(self, connection: Connection, source: str, item: RequestUsage) -> str:
        """Check what the requests of one key to one model share; returns their dimensions as they are stored."""
        self._parties.get(connection, item.organization_id)
        for name, value in (
            ("source", source),
            ("resource", item.request_id),
            ("project", item.project),
            ("key_id", item.key_id),
        ):
            checked_text(name, value)
        if len(self._contexts) >= CONTEXTS_MAX:
            self._contexts.clear()
        context = (item.organization_id, item.key_id, item.project, item.dimensions)
        found = self._contexts[context] = dimensions_text(dict(item.dimensions))
        return found


def _refused(identifier: str, error: SubletError) -> InvalidInputError:
    return InvalidInputError(f"the ledger refused usage event {identifier[:ID_LENGTH_MAX]}: {error.message}")
