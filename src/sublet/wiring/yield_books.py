"""What charge-back books: each hour of each pool, from samples, claims, leases, replicas, outages and maintenance."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

from sqlalchemy import Connection

from sublet.accounts import store as accounts_sql
from sublet.accounts.service import Accounts
from sublet.allocation.chargeback.book import Capacity as Count
from sublet.allocation.chargeback.book import Span, Use, shares
from sublet.allocation.chargeback.model import ChargebackPorts, Observed
from sublet.allocation.chargeback.statement import CLAIM
from sublet.config.settings import Settings
from sublet.demand import store as demand_sql
from sublet.demand.model import Claim
from sublet.fleet import store as fleet_sql
from sublet.fleet.model import Pool
from sublet.leases import market
from sublet.leases import unit_store as unit_sql
from sublet.leases.maintenance import store as maintenance_sql
from sublet.leases.reclaim import waits
from sublet.leases.states import LeaseState
from sublet.ledger.exports import csv_parts
from sublet.ledger.exports.columns import COLUMNS_1_2
from sublet.ledger.prices.book import PriceBook
from sublet.ledger.service import Ledger
from sublet.models import store as models_sql
from sublet.models.model import DRAIN_S, Replica
from sublet.store import Store
from sublet.values.clock import from_micros
from sublet.values.errors import InvalidInputError, SubletError
from sublet.values.money import NANO
from sublet.values.windows import Window
from sublet.wiring.capacity import Capacity
from sublet.wiring.owned import stated_of
from sublet.wiring.yield_facts import list_price

HOUR = timedelta(hours=1)
CLAIMS_MAX = 10_000
STEP_S_MIN = 300
"""A sample stands until the next one, for at least this long and at most twice the usual distance."""
USES = {LeaseState.PREPARING: Use.STARTING, LeaseState.ENDING: Use.DRAINING}
Part = tuple[datetime, datetime]


@dataclass(frozen=True, slots=True)
class Observer:
    """Reads past hours of every pool."""

    settings: Settings
    store: Store
    capacity: Capacity
    ledger: Ledger

    def __call__(
        self, connection: Connection, since: datetime, until: datetime
    ) -> Mapping[datetime, Sequence[Observed]]:
        pools = fleet_sql.all_pools(connection)
        book = self.ledger.books.current(connection)
        spans: dict[str, list[Span]] = {pool.id: [] for pool in pools}
        for pool_id, span in (
            *_leased(connection, since, until),
            *_served(connection, since, until),
            *_out(connection, since, until),
        ):
            if pool_id in spans:
                spans[pool_id].append(span)
        for pool in pools:
            spans[pool.id] += _used(connection, pool, since, until)
            for item in stated_of(pool).maintenance:
                count = item.accelerators or pool.accelerators
                spans[pool.id] += _span(Use.UNAVAILABLE, item.start, item.end, count, product="maintenance")
        found = {}
        hour = since
        while hour < until:
            found[hour] = [
                Observed(
                    pool.id,
                    pool.name,
                    pool.currency,
                    _there(pool, hour),
                    [part for span in spans[pool.id] for part in _cut(span, hour)],
                    self._cost(pool),
                    self._market(book, pool, hour),
                )
                for pool in pools
            ]
            hour += HOUR
        return found

    def _cost(self, pool: Pool) -> int:
        """What leased-in capacity costs, and the energy of an accelerator in use."""
        energy = self.settings.allocation.energy_price_per_kwh * pool.watts / 1000
        return stated_of(pool).cost_nano + int(energy * NANO)

    def _market(self, book: PriceBook, pool: Pool, hour: datetime) -> int:
        """The list price of the strictest class, or else what the settings say of the pool."""
        price = list_price(book, pool, self.capacity.classes.strictest.name, hour)
        return round(price * NANO) if price is not None else pool.price_nano


def _there(pool: Pool, hour: datetime) -> list[Count]:
    """How many accelerators there were in the hour; of a pool that came or went within it, only while it was there."""
    start = max(hour, pool.online_at)
    end = min(hour + HOUR, pool.offline_at or hour + HOUR)
    first, last = _seconds(start), _seconds(end)
    return [Count(first, last, pool.accelerators)] if first < last else []


def _seconds(moment: datetime) -> int:
    return int(moment.timestamp())


def _span(use: Use, start: datetime, end: datetime, count: int, team: str = "", product: str = "") -> Iterator[Span]:
    """In whole seconds; nothing for what lasted less, or held nothing."""
    if _seconds(start) < _seconds(end) and count > 0:
        yield Span(use, _seconds(start), _seconds(end), count, team, product)


def _cut(span: Span, hour: datetime) -> Iterator[Span]:
    start, end = max(span.start_s, _seconds(hour)), min(span.end_s, _seconds(hour + HOUR))
    if start < end:
        yield Span(span.use, start, end, span.accelerators, span.team, span.product)


def _leased(connection: Connection, since: datetime, until: datetime) -> Iterator[tuple[str, Span]]:
    for item in market.held_between(connection, since, until):
        name = f"{'block' if item.from_block else 'lease'} {item.class_name}"
        use = USES.get(item.state, Use.EXTERNAL)
        for span in _span(use, item.start, item.end, item.accelerators, product=name):
            yield item.pool_id, span


def _served(connection: Connection, since: datetime, until: datetime) -> Iterator[tuple[str, Span]]:
    """Replicas of models: starting until they are ready, draining from the order to drain until they have stopped."""
    for item in models_sql.replicas_between(connection, since, until):
        end = min(until, item.stopped_at or (until if item.live else item.sign_of_life()))
        ready = min(end, item.ready_at or end)
        drained = max(ready, min(end, _draining_since(item) or end))
        for use, start, stop in (
            (Use.STARTING, item.created_at, ready),
            (Use.EXTERNAL, ready, drained),
            (Use.DRAINING, drained, end),
        ):
            for span in _span(use, start, stop, item.accelerators, product=f"model {item.model}"):
                yield item.pool_id, span


def _draining_since(replica: Replica) -> datetime | None:
    return replica.drain_deadline - timedelta(seconds=DRAIN_S) if replica.drain_deadline is not None else None


def _out(connection: Connection, since: datetime, until: datetime) -> Iterator[tuple[str, Span]]:
    """Accelerators out of service, in quarantine now, or in maintenance."""
    for pool_id, outages in fleet_sql.outages_between(connection, since, until).items():
        for start, end in outages:
            for span in _span(Use.UNAVAILABLE, start, end, 1, product="out of service"):
                yield pool_id, span
    for row in unit_sql.quarantined(connection):
        for span in _span(Use.UNAVAILABLE, row.changed_at, until, 1, product="in quarantine"):
            yield row.pool_id, span
    for item in maintenance_sql.between(connection, since, until):
        end = min(item.window.end, item.canceled_at or item.window.end)
        for span in _span(Use.UNAVAILABLE, item.window.start, end, item.accelerators, product="maintenance"):
            yield item.pool_id, span


# -- the owner's own use


def _used(connection: Connection, pool: Pool, since: datetime, until: datetime) -> Iterator[Span]:
    """What the owner used and claimed, by team. Use that no team reported and no claim covers is of no known team. Adjacent parts
    that say the same become one span."""
    claims = demand_sql.claims_between(connection, pool.id, Window(since, until), False, CLAIMS_MAX)
    told: dict[datetime, dict[str, int]] = {}
    for row in demand_sql.team_use_between(connection, pool.id, since - HOUR, until):
        told.setdefault(row.at, {})[row.team] = round(row.in_use)
    open_spans: dict[tuple[Use, str, str], tuple[int, datetime, datetime]] = {}
    for (start, end), in_use, by_team in _parts(connection, pool, (since, until), claims, told):
        held = _shared(in_use, by_team, _claimed(claims, start))
        for key in [*open_spans]:
            count, first, last = open_spans[key]
            if last != start or held.get(key) != count:
                del open_spans[key]
                yield from _span(key[0], first, last, count, key[1], key[2])
        for key, count in held.items():
            first = open_spans[key][1] if key in open_spans else start
            open_spans[key] = count, first, end
    for key, (count, first, last) in open_spans.items():
        yield from _span(key[0], first, last, count, key[1], key[2])


def _parts(
    connection: Connection,
    pool: Pool,
    whole: Part,
    claims: Sequence[Claim],
    told: Mapping[datetime, Mapping[str, int]],
) -> Iterator[tuple[Part, int, Mapping[str, int] | None]]:
    """Stretches in which neither the last sample nor the claims change, with the accelerators in use; where nothing is known of
    the use, none."""
    since, until = whole
    series = demand_sql.samples_between(connection, pool.id, since - HOUR * 2, until)
    stands = timedelta(seconds=max(2 * series.step_s, STEP_S_MIN))
    at = [from_micros(int(each)) for each in series.times_us]
    ends = [min(each + stands, following) for each, following in zip(at, [*at[1:], until], strict=True)] if at else []
    edges = {since, until, *at, *ends, *(edge for claim in claims for edge in _window(claim))}
    place = 0
    for start, end in pairwise(sorted(edge for edge in edges if since <= edge <= until)):
        while place + 1 < len(at) and at[place + 1] <= start:
            place += 1
        known = bool(at) and at[place] <= start < ends[place]
        yield (start, end), round(float(series.in_use[place])) if known else 0, told.get(at[place]) if known else None


def _window(claim: Claim) -> Part:
    return claim.window.start, min(claim.window.end, claim.withdrawn_at or claim.window.end)


def _claimed(claims: Iterable[Claim], moment: datetime) -> dict[str, int]:
    found: dict[str, int] = {}
    for claim in claims:
        start, end = _window(claim)
        if start <= moment < end:
            found[claim.team] = found.get(claim.team, 0) + claim.count
    return found


def _shared(in_use: int, told: Mapping[str, int] | None, claimed: Mapping[str, int]) -> dict[tuple[Use, str, str], int]:
    """What is in use by team, and what is claimed and idle. Teams use what they reported; where none reported, claims are used
    first, in proportion."""
    used = dict(shares(min(in_use, sum(claimed.values())), claimed)) if told is None else {}
    left = in_use
    for team, count in sorted((told or {}).items()):
        used[team] = min(count, left)
        left -= used[team]
    found: dict[tuple[Use, str, str], int] = {}
    for team in {*used, *claimed}:
        covered = min(used.get(team, 0), claimed.get(team, 0))
        found[Use.INTERNAL, team, CLAIM] = covered
        found[Use.INTERNAL, team, ""] = used.get(team, 0) - covered
        found[Use.WITHHELD, team, CLAIM] = claimed.get(team, 0) - covered
    found[Use.INTERNAL, "", ""] = found.get((Use.INTERNAL, "", ""), 0) + in_use - sum(used.values())
    return {key: count for key, count in found.items() if count > 0}


# -- ports


def check_teams(connection: Connection, teams: Collection[str]) -> None:
    """Raises InvalidInputError for an id that no internal team has."""
    for team in sorted(teams):
        found = accounts_sql.organization_by(connection, id=team)
        if found is None or found.kind != "internal":
            raise InvalidInputError(f"{team!r} is not the id of an internal team; `sublet org list` shows them")


def on_sale(connection: Connection, capacity: Capacity, now: datetime) -> dict[str, int]:
    """What of each pool could still be sold for an hour, in the class that replicas rent."""
    found = {}
    for pool in fleet_sql.all_pools(connection):
        try:
            window = Window(now, now + HOUR)
            sold = capacity.surplus.sellable(pool.id, capacity.rented.name, window, connection=connection)
        except SubletError:
            continue
        found[pool.id] = sold.count
    return found


def _teams(accounts: Accounts) -> Callable[[], dict[str, str]]:
    return lambda: {item.id: item.name for item in accounts.organizations() if item.kind == "internal"}


def chargeback_ports(
    settings: Settings, store: Store, capacity: Capacity, ledger: Ledger, accounts: Accounts
) -> ChargebackPorts:
    """What charge-back runs with in the running system."""
    return ChargebackPorts(
        observe=Observer(settings, store, capacity, ledger),
        on_sale=lambda connection: on_sale(connection, capacity, store.clock.now()),
        waited=waits.waited_between,
        teams=_teams(accounts),
        csv=csv_parts,
        focus_columns=[name for name in COLUMNS_1_2 if not name.startswith("x_")],
    )
