"""Books every hour of every pool once it is over, and makes the monthly statements of internal teams from them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import structlog

from sublet.allocation.chargeback import store as sql
from sublet.allocation.chargeback.book import Book, Capacity, Use, book
from sublet.allocation.chargeback.displaced import RAW, displaced
from sublet.allocation.chargeback.focus import focus_rows
from sublet.allocation.chargeback.model import BookedHour, ChargebackPorts, Month, Observed
from sublet.allocation.chargeback.statement import Basis, Hour, Statement, TeamLine, statement
from sublet.allocation.errors import UnusableStateError
from sublet.allocation.mix.model import State
from sublet.allocation.mix.program import Solver
from sublet.allocation.report.hours import HourWorth, worth_of
from sublet.store import Store
from sublet.values.clock import format_time
from sublet.values.errors import InvalidInputError
from sublet.values.money import Money, currency_digits

log = structlog.get_logger(__name__)

HOUR = timedelta(hours=1)
HOUR_S = 3600
SETTLED = timedelta(minutes=10)
"""After this, what happened in an hour is known: samples come late."""
HOURS_PER_ROUND_MAX = 48
PRICED = timedelta(hours=3)
"""How long ago an hour may be over for today's demand and prices to say what its use displaced."""
ON_SALE_FOR = timedelta(minutes=20)
"""How long a note of what was on sale stands without another one: two rounds."""
KEPT = timedelta(days=800)
CSV_COLUMNS = (
    "month", "basis", "currency", "team_id", "team", "used_hours", "claimed_and_used_hours", "claimed_and_idle_hours",
    "patience_hours", "charge", "displaced",
)  # fmt: skip
FORMATS = ("csv", "focus")


@dataclass(frozen=True, slots=True)
class Known:
    """What values an hour: the state of a round, the names of its pools by id, and what better prices would add in an hour, by
    pool name."""

    state: State
    names: Mapping[str, str]
    priced_low: Callable[[], Mapping[str, float]] = dict


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which statement: a month (`2026-11`, or empty for the current one), a basis (or empty for the owner's choice), and the only
    team that the reader may see (empty: all of them)."""

    month: str = ""
    basis: str = ""
    team: str = ""


class Chargeback:
    """Charge-back on one database. Hours are booked by one control plane at a time; anybody reads statements."""

    def __init__(self, store: Store, ports: ChargebackPorts, basis: str = "cost", solver_s: float = 5.0) -> None:
        self._store, self._ports, self._basis = store, ports, basis
        self._solver = Solver(solver_s)

    # -- books

    def tick(self, known: Known) -> int:
        """Note what is on sale now, and book the hours that are over. Safe to repeat. Returns how many hours were booked."""
        now = self._store.clock.now()
        with self._store.read() as connection:
            counts = dict(self._ports.on_sale(connection))
            last = sql.last_hour(connection)
        end = _hour(now - SETTLED)
        begin = max(last + HOUR, end - HOUR * HOURS_PER_ROUND_MAX) if last else end - HOUR
        made = []
        if begin < end:
            with self._store.read() as connection:
                seen = self._ports.observe(connection, begin, end)
                noted = sql.on_sale_between(connection, begin - ON_SALE_FOR, end)
            made = [(hour, self._booked(hour, seen[hour], noted, known)) for hour in sorted(seen)]

        def write(connection: Any) -> None:
            self._store.lock(connection, "allocation")
            sql.note_on_sale(connection, now, counts)
            for hour, rows in made:
                sql.save_books(connection, hour, rows)
            sql.forget_before(connection, now - timedelta(days=4), now - KEPT)

        self._store.write(write)
        return len(made)

    def _booked(
        self,
        hour: datetime,
        pools: Sequence[Observed],
        noted: Mapping[str, Sequence[tuple[datetime, int]]],
        known: Known,
    ) -> list[BookedHour]:
        books = {
            item.pool_id: book(item.capacity, item.spans, on_sale_in(hour, noted.get(item.pool_id, ())))
            for item in pools
        }
        gained: dict[str, int | None] = {}
        worth: dict[str, HourWorth | None] = {}
        if known.state.pools and self._store.clock.now() - hour < PRICED + HOUR:
            by_name = {known.names[pool_id]: found for pool_id, found in books.items() if pool_id in known.names}
            try:
                by_pool = displaced(known.state, by_name, self._solver)
                by_worth = {name: worth_of(known.state, name, by_name, self._solver) for name in by_name}
            except UnusableStateError as error:
                log.warning("hour_not_valued", hour=format_time(hour), reason=str(error))
            else:
                gained = {pool_id: by_pool.get(name) for pool_id, name in known.names.items()}
                low = known.priced_low()
                worth = {
                    pool_id: replace(found, priced_low=low.get(name, 0.0))
                    for pool_id, name in known.names.items()
                    if (found := by_worth.get(name)) is not None
                }
        return [
            BookedHour(
                hour,
                item.pool_id,
                item.currency,
                books[item.pool_id],
                item.cost_nano,
                item.market_nano,
                gained.get(item.pool_id),
                worth.get(item.pool_id),
            )
            for item in pools
        ]

    # -- statements

    def statements(self, wanted: Wanted) -> dict[str, Any]:
        """The document of a month: one statement for each currency. Raises InvalidInputError."""
        month, basis, found = self._found(wanted)
        return {
            "month": month.label,
            "start": format_time(month.start),
            "end": format_time(month.end),
            "basis": basis.value,
            "statements": [self._as_dict(currency, item, wanted.team) for currency, item in found.items()],
        }

    def export(self, wanted: Wanted, form: str) -> Iterator[bytes]:
        """The statement as CSV: a row for each team (`csv`), or FOCUS rows with the team as the sub-account (`focus`). Raises
        InvalidInputError before the first part."""
        if form not in FORMATS:
            raise InvalidInputError(f"format {form[:20]!r} must be one of {', '.join(FORMATS)}")
        month, basis, found = self._found(wanted)
        names = self._ports.teams()
        if form == "focus":
            shown = {currency: self._lines(item, wanted.team) for currency, item in found.items()}
            return self._ports.csv(
                tuple(self._ports.focus_columns), focus_rows(month, basis, shown, names, self._ports.focus_columns)
            )
        rows = (
            {
                "month": month.label,
                "basis": basis.value,
                "currency": currency,
                "team_id": line.team,
                "team": names.get(line.team, line.team),
                "used_hours": hours_text(line.used_s),
                "claimed_and_used_hours": hours_text(line.claimed_used_s),
                "claimed_and_idle_hours": hours_text(line.claimed_idle_s),
                "patience_hours": hours_text(line.patience_s),
                "charge": amount_text(line.charge),
                "displaced": amount_text(line.displaced),
            }
            for currency, item in found.items()
            for line in self._lines(item, wanted.team)
        )
        return self._ports.csv(CSV_COLUMNS, rows)

    def _found(self, wanted: Wanted) -> tuple[Month, Basis, dict[str, Statement]]:
        month = Month.labeled(wanted.month, self._store.clock.now())
        try:
            basis = Basis(wanted.basis or self._basis)
        except ValueError:
            raise InvalidInputError(f"basis {wanted.basis[:20]!r} must be one of {', '.join(Basis)}") from None
        hours: dict[str, list[Hour]] = defaultdict(list)
        with self._store.read() as connection:
            waited: dict[str, dict[str, int]] = defaultdict(dict)
            for (pool_id, team), seconds in self._ports.waited(connection, month.start, month.end).items():
                if team:
                    waited[pool_id][team] = seconds
            for row in sql.books_between(connection, month.start, month.end):
                patience = waited.pop(row.pool_id, {})
                hours[row.currency].append(
                    Hour(row.pool_id, row.book, row.cost_nano, row.market_nano, row.displaced_nano, patience)
                )
        return month, basis, {name: statement(rows, basis, name) for name, rows in sorted(hours.items())}

    def _lines(self, found: Statement, team: str) -> list[TeamLine]:
        names = self._ports.teams()
        shown = [line for line in found.lines if team in ("", line.team)]
        return sorted(shown, key=lambda line: (names.get(line.team, ""), line.team))

    def _as_dict(self, currency: str, found: Statement, team: str) -> dict[str, Any]:
        names = self._ports.teams()
        return {
            "currency": currency,
            "total": amount_text(found.total) if not team else None,
            "displaced": amount_text(found.displaced) if not team else None,
            "pool_hours": found.hours,
            "pool_hours_without_opportunity_price": found.unpriced,
            "accelerators": _accelerators(found.book) if not team else None,
            "teams": [
                {
                    "team": line.team,
                    "name": names.get(line.team, line.team),
                    "used_s": line.used_s,
                    "claimed_used_s": line.claimed_used_s,
                    "claimed_idle_s": line.claimed_idle_s,
                    "patience_s": line.patience_s,
                    "charge": amount_text(line.charge),
                    "displaced": amount_text(line.displaced),
                }
                for line in self._lines(found, team)
            ],
        }


def _accelerators(found: Book) -> dict[str, int]:
    """Accelerator-seconds by state: the states add up to the total."""
    blocks = sum(count for (_, _, product), count in found.seconds.items() if product.startswith(RAW[1]))
    teams = sum(found.team(Use.INTERNAL, team) for team in found.teams)
    claimed = sum(found.team(Use.WITHHELD, team) for team in found.teams)
    return {
        **{f"{use.value}_s": found.of(use) for use in Use},
        "total_s": found.capacity_s,
        "internal_without_team_s": found.of(Use.INTERNAL) - teams,
        "withheld_for_claims_s": claimed,
        "blocks_s": blocks,
        "waiting_s": found.excess_s,
    }


def on_sale_in(hour: datetime, noted: Sequence[tuple[datetime, int]]) -> list[Capacity]:
    """What was on sale within the hour: a note stands until the next one, at most ON_SALE_FOR."""
    found, end_of_hour = [], hour + HOUR
    for place, (at, count) in enumerate(noted):
        following = noted[place + 1][0] if place + 1 < len(noted) else end_of_hour
        start, end = max(at, hour), min(following, at + ON_SALE_FOR, end_of_hour)
        first, last = int(start.timestamp()), int(end.timestamp())
        if first < last:
            found.append(Capacity(first, last, count))
    return found


def amount_text(money: Money) -> str:
    """An amount in whole units of the currency's own digits."""
    return f"{money.amount:.{currency_digits(money.currency)}f}"


def hours_text(seconds: int) -> str:
    """Hours with the digits that a second needs."""
    return f"{seconds / HOUR_S:.4f}"


def _hour(moment: datetime) -> datetime:
    return moment.replace(minute=0, second=0, microsecond=0)
