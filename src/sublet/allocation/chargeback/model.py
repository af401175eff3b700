"""Hours of the past as charge-back keeps them, and what it needs of the rest of Sublet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from sqlalchemy import Connection

from sublet.allocation.chargeback.book import Book, Capacity, Span
from sublet.allocation.report.hours import HourWorth
from sublet.values.clock import EPOCH
from sublet.values.errors import InvalidInputError


@dataclass(frozen=True, slots=True)
class Observed:
    """An hour of a pool as it was: how many accelerators there were, what each did, and what an accelerator-hour costs and
    sells for, in billionths of `currency`."""

    pool_id: str
    pool: str
    currency: str
    capacity: Sequence[Capacity]
    spans: Sequence[Span]
    cost_nano: int
    market_nano: int


@dataclass(frozen=True, slots=True)
class BookedHour:
    """A stored hour of a pool. `displaced_nano` and `worth` are None where nobody can say."""

    hour: datetime
    pool_id: str
    currency: str
    book: Book
    cost_nano: int
    market_nano: int
    displaced_nano: int | None
    worth: HourWorth | None = None


class ObserveHours(Protocol):
    def __call__(
        self, connection: Connection, since: datetime, until: datetime, /
    ) -> Mapping[datetime, Sequence[Observed]]:
        """Every pool in each whole hour of `[since, until)`, from samples, claims, leases, replicas and outages."""
        ...


class OnSale(Protocol):
    def __call__(self, connection: Connection, /) -> Mapping[str, int]:
        """Accelerators of each pool, by id, that could be sold now and are not."""
        ...


class Waited(Protocol):
    def __call__(self, connection: Connection, since: datetime, until: datetime, /) -> Mapping[tuple[str, str], int]:
        """Accelerator-seconds that each team's work waited for tenants, by pool id and team, on the days of `[since, until)`."""
        ...


class AsCsv(Protocol):
    def __call__(self, columns: tuple[str, ...], rows: Iterator[Mapping[str, Any]], /) -> Iterator[bytes]:
        """Rows as CSV, in parts; no cell is taken for a formula."""
        ...


class Names(Protocol):
    def __call__(self) -> Mapping[str, str]:
        """Names by id."""
        ...


@dataclass(frozen=True, slots=True)
class ChargebackPorts:
    """The calls that charge-back runs with. `teams` are the names of internal teams; `focus_columns` are the columns of a FOCUS
    export."""

    observe: ObserveHours
    on_sale: OnSale
    waited: Waited
    teams: Names
    csv: AsCsv
    focus_columns: Sequence[str]


@dataclass(frozen=True, slots=True)
class Month:
    """A calendar month of UTC."""

    label: str
    start: datetime
    end: datetime

    @classmethod
    def labeled(cls, text: str, now: datetime) -> Month:
        """The month `2026-11`; the one of `now` for no text. Raises InvalidInputError."""
        label = text or f"{now:%Y-%m}"
        try:
            start = datetime.strptime(label, "%Y-%m").replace(tzinfo=UTC)
            if start < EPOCH:
                raise ValueError(label)
            end = start.replace(year=start.year + start.month // 12, month=start.month % 12 + 1)
        except ValueError:
            raise InvalidInputError(f"month {label[:20]!r} must be a year and a month, such as 2026-11") from None
        return cls(f"{start:%Y-%m}", start, end)
