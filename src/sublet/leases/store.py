"""The SQL of quotes, leases, accelerator states and the record of every change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, bindparam, delete, func, insert, literal_column, select, update

from sublet.fleet.inventory import pools, units
from sublet.leases.model import TERMINAL, Lease, LeaseState, Quote, Transition, UnitState, credit_id
from sublet.leases.plan.failures import FailedUnit
from sublet.leases.quotes.holds import ROLLING_S, Hold
from sublet.leases.rows import lease_of, quote_of
from sublet.store.changes import kept
from sublet.store.paging import Listing, Page, PageRequest
from sublet.store.tables.leases import fences, lease_transitions, leases, quotes, unit_states

LEASES = Listing("leases", (leases.c.created_at, leases.c.id), descending=True)
QUOTES = Listing("quotes", (quotes.c.created_at, quotes.c.id), descending=True)

_TAKEN = select(leases.c.quote_id).where(leases.c.quote_id == quotes.c.id).exists()
_IDS_MAX = 500
# Built once: to build a statement costs more than to execute it.
_QUOTE = select(quotes).where(quotes.c.id == bindparam("quote"), quotes.c.organization_id == bindparam("organization"))
_LEASE_OF_QUOTE = select(leases).where(leases.c.quote_id == bindparam("quote"))
_UNTAKEN = select(
    quotes.c.pool_id,
    quotes.c.accelerators,
    quotes.c.created_at,
    quotes.c.held_until,
    quotes.c.expires_at,
    quotes.c.is_offer,
).where(quotes.c.organization_id == bindparam("organization"), quotes.c.expires_at > bindparam("since"), ~_TAKEN)
_LAST_NUMBER = select(func.coalesce(func.max(lease_transitions.c.number), 0)).where(
    lease_transitions.c.subject_id == bindparam("subject")
)
_INSERT_QUOTE, _INSERT_LEASE, _INSERT_TRANSITION = insert(quotes), insert(leases), insert(lease_transitions)
_LIVE = [state.value for state in LeaseState if state not in TERMINAL]


def pool_named(connection: Connection, id_or_name: str) -> Row[Any] | None:
    """A row with id, name, generation, backend, currency, online_at and offline_at."""

    def read() -> Row[Any] | None:
        return connection.execute(
            select(pools).where((pools.c.id == id_or_name) | (pools.c.name == id_or_name))
        ).first()

    return kept(connection, ("pools",), ("leases.pool", id_or_name), read)


def pools_of(connection: Connection, generation: str | None = None) -> list[Row[Any]]:
    query = select(pools).order_by(pools.c.name)
    if generation is not None:
        query = query.where(pools.c.generation == generation)
    return list(connection.execute(query))


def capacity(connection: Connection, pool_id: str) -> int:
    """Accelerators of the pool that work."""

    def read() -> int:
        query = select(func.count()).select_from(units).where(units.c.pool_id == pool_id, units.c.in_service == 1)
        return int(connection.execute(query).scalar_one())

    return kept(connection, ("units",), ("leases.capacity", pool_id), read)


@dataclass(frozen=True, slots=True)
class FailedRow:
    """An accelerator that does not work, or that is in quarantine for what `lease_id` left on it."""

    unit: FailedUnit
    lease_id: str | None


def failed_units(connection: Connection, unit_ids: Sequence[str] | None = None) -> dict[str, FailedRow]:
    """Accelerators that are out of service or in quarantine, by id: all of them, or those among `unit_ids`."""
    # The literal lets both databases use the index of the few that are out.
    out = select(units.c.id, units.c.device, units.c.out_reason, units.c.out_at).where(
        units.c.in_service == literal_column("0")
    )
    unclean = select(units.c.id, units.c.device, unit_states.c.reason, unit_states.c.changed_at, unit_states.c.lease_id)
    unclean = unclean.join(units, units.c.id == unit_states.c.unit_id)
    unclean = unclean.where(unit_states.c.state == UnitState.QUARANTINED.value)
    if unit_ids is not None:
        out, unclean = out.where(units.c.id.in_(unit_ids)), unclean.where(units.c.id.in_(unit_ids))
    found = {
        row.id: FailedRow(FailedUnit(row.id, row.device, f"in quarantine: {row.reason}", row.changed_at), row.lease_id)
        for row in connection.execute(unclean)
    }
    for row in connection.execute(out):
        found[row.id] = FailedRow(
            FailedUnit(row.id, row.device, row.out_reason or "no reason was given", row.out_at), None
        )
    return found


def insert_quote(
    connection: Connection, quote: Quote, key: str | None, request: dict[str, Any], *, is_offer: bool = False
) -> None:
    values = {
        "id": quote.id,
        "organization_id": quote.organization_id,
        "pool_id": quote.pool_id,
        "class_name": quote.class_name,
        "notice_s": quote.notice_s,
        "credit_ratio": str(quote.credit_ratio),
        "free_s": quote.free_s,
        "accelerators": quote.accelerators,
        "start_at": quote.window.start,
        "end_at": quote.window.end,
        "price_nano": quote.price_nano,
        "currency": quote.currency,
        "created_at": quote.created_at,
        "expires_at": quote.expires_at,
        "held_until": quote.held_until or quote.created_at,
        "on_failure": quote.on_failure.value,
        "on_reclaim": quote.on_reclaim.value,
        "block_id": quote.block_id,
        "network": list(quote.network) or None,
        "service_s": quote.service_s,
        "likely": quote.likely,
        "volumes": [list(item) for item in quote.volumes] or None,
        "image": list(quote.image) if quote.image else None,
        "give_back": quote.give_back.kept(),
        "notice_rule": quote.notice_rule or None,
        "is_offer": int(is_offer),
        "idempotency_key": key,
        "request": request,
    }
    connection.execute(_INSERT_QUOTE, values)


def quote(connection: Connection, quote_id: str, organization_id: str) -> Quote | None:
    row = connection.execute(_QUOTE, {"quote": quote_id, "organization": organization_id}).first()
    return quote_of(row) if row else None


def quote_and_project(connection: Connection, quote_id: str, organization_id: str) -> tuple[Quote, str] | None:
    """The quote, and the project of the key that asked for it; empty for none."""
    row = connection.execute(_QUOTE, {"quote": quote_id, "organization": organization_id}).first()
    return (quote_of(row), str(row.request.get("project", ""))) if row else None


def quote_by_key(connection: Connection, organization_id: str, key: str) -> tuple[Quote, dict[str, Any]] | None:
    """The quote made under an idempotency key, and what was asked for then."""
    row = connection.execute(
        select(quotes).where(quotes.c.organization_id == organization_id, quotes.c.idempotency_key == key)
    ).first()
    return (quote_of(row), row.request) if row else None


def close_offers(connection: Connection, organization_id: str, now: datetime) -> None:
    """What an earlier refusal offered to the organization can't be accepted from now on."""
    connection.execute(
        update(quotes)
        .where(quotes.c.organization_id == organization_id, quotes.c.is_offer == 1, quotes.c.expires_at > now, ~_TAKEN)
        .values(expires_at=now)
    )


def count_open_quotes(connection: Connection, organization_id: str, now: datetime) -> int:
    """How many quotes of the organization can still be accepted, without the offers of its latest refusal."""
    untaken = _untaken(connection, organization_id, now)
    return sum(1 for row in untaken if row.expires_at > now and not row.is_offer)


def _untaken(connection: Connection, organization_id: str, now: datetime) -> Sequence[Row[Any]]:
    """What quotes of the organization that became no lease held in the last hour, or hold now: read once for each quote."""
    wanted = now - timedelta(seconds=ROLLING_S)

    def read() -> tuple[datetime, Sequence[Row[Any]]]:
        return wanted, list(connection.execute(_UNTAKEN, {"organization": organization_id, "since": wanted}))

    since, rows = kept(connection, ("quotes", "leases"), ("untaken", organization_id), read)
    return rows if since <= wanted else read()[1]


def open_quotes(connection: Connection, organization_id: str, now: datetime) -> list[Quote]:
    """Quotes of the organization that can still be accepted, the newest first; offers that came with a refusal are none that it
    asked for."""
    found = connection.execute(
        select(quotes).where(*_open(organization_id, now)).order_by(quotes.c.created_at.desc(), quotes.c.id)
    )
    return [quote_of(row) for row in found]


def quote_page(connection: Connection, organization_id: str, now: datetime, wanted: PageRequest) -> Page[Quote]:
    """A page of the same."""
    query = select(quotes).where(*_open(organization_id, now))
    return QUOTES.read(connection, query, wanted).map(quote_of)


def _open(organization_id: str, now: datetime) -> tuple[ColumnElement[bool], ...]:
    mine = quotes.c.organization_id == organization_id
    return (mine, quotes.c.expires_at > now, quotes.c.is_offer == 0, ~_TAKEN)


def idle_holds(connection: Connection, organization_id: str, pool_id: str, since: datetime) -> list[Hold]:
    """What quotes of the organization that became no lease held of the pool since then, or hold now."""
    found = []
    for row in _untaken(connection, organization_id, since + timedelta(seconds=ROLLING_S)):
        until = row.expires_at if row.held_until is None else row.held_until
        if row.pool_id == pool_id and row.expires_at > since and until > row.created_at:
            found.append(Hold(row.accelerators, row.created_at, until))
    return found


def close_quote(connection: Connection, quote: Quote, now: datetime) -> None:
    """It can't be accepted from now on and holds nothing; how long it held is kept."""
    held_until = min(quote.held_until or quote.created_at, now)
    connection.execute(update(quotes).where(quotes.c.id == quote.id).values(expires_at=now, held_until=held_until))


def expired_quotes(connection: Connection, since: datetime, now: datetime, limit: int) -> list[Quote]:
    """Quotes that expired in `[since, now)` and became no lease, the oldest first. One that was canceled expired when it was."""
    found = connection.execute(
        select(quotes)
        .where(quotes.c.expires_at >= since, quotes.c.expires_at < now, ~_TAKEN)
        .order_by(quotes.c.expires_at, quotes.c.id)
        .limit(limit)
    )
    return [quote_of(row) for row in found]


def delete_quotes_before(connection: Connection, moment: datetime, limit: int) -> int:
    """Forget quotes that expired before `moment` and became no lease."""
    stale = select(quotes.c.id).where(quotes.c.expires_at < moment, ~_TAKEN).limit(limit)
    return connection.execute(delete(quotes).where(quotes.c.id.in_(stale))).rowcount


def any_stale(connection: Connection, now: datetime) -> bool:
    """Some hold has expired and its rows are still there."""
    query = select(fences.c.holder_id).where(fences.c.expires_at.is_not(None), fences.c.expires_at <= now).limit(1)
    return connection.execute(query).first() is not None


def insert_lease(connection: Connection, lease: Lease, key: str | None) -> None:
    values = {
        "id": lease.id,
        "organization_id": lease.organization_id,
        "pool_id": lease.pool_id,
        "quote_id": lease.quote_id,
        "class_name": lease.class_name,
        "notice_s": lease.notice_s,
        "credit_ratio": str(lease.credit_ratio),
        "free_s": lease.free_s,
        "accelerators": lease.accelerators,
        "unit_ids": list(lease.unit_ids),
        "devices": list(lease.devices),
        "start_at": lease.window.start,
        "end_at": lease.window.end,
        "price_nano": lease.price_nano,
        "currency": lease.currency,
        "state": lease.state.value,
        "ssh_public_keys": list(lease.ssh_public_keys),
        "created_at": lease.created_at,
        "credit_nano": 0,
        "metered_s": 0,
        "on_failure": lease.on_failure.value,
        "on_reclaim": lease.on_reclaim.value,
        "block_id": lease.block_id,
        "network": list(lease.network) or None,
        "service_s": lease.service_s,
        "turned_at": lease.turned_at,
        "volumes": [list(item) for item in lease.volumes] or None,
        "image": list(lease.image) if lease.image else None,
        "image_id": lease.image[0] if lease.image else None,
        "give_back": lease.give_back.kept(),
        "idempotency_key": key,
    }
    connection.execute(_INSERT_LEASE, values)


def lease(connection: Connection, lease_id: str, organization_id: str | None = None) -> Lease | None:
    """The lease, of any organization or of the one given."""
    query = select(leases).where(leases.c.id == lease_id)
    if organization_id is not None:
        query = query.where(leases.c.organization_id == organization_id)
    row = connection.execute(query).first()
    return lease_of(row) if row else None


def leases_named(connection: Connection, lease_ids: Sequence[str]) -> dict[str, Lease]:
    """Leases by their ids."""
    if not lease_ids:
        return {}
    return {row.id: lease_of(row) for row in connection.execute(select(leases).where(leases.c.id.in_(lease_ids)))}


def lease_of_quote(connection: Connection, quote_id: str) -> Lease | None:
    row = connection.execute(_LEASE_OF_QUOTE, {"quote": quote_id}).first()
    return lease_of(row) if row else None


def lease_by_key(connection: Connection, organization_id: str, key: str) -> Lease | None:
    row = connection.execute(
        select(leases).where(leases.c.organization_id == organization_id, leases.c.idempotency_key == key)
    ).first()
    return lease_of(row) if row else None


def lease_page(
    connection: Connection, organization_id: str | None, wanted: PageRequest, *, live_only: bool
) -> Page[Lease]:
    """Newest first, of one organization where it is given."""
    query = select(leases)
    if organization_id is not None:
        query = query.where(leases.c.organization_id == organization_id)
    if live_only:
        query = query.where(leases.c.state.in_(_LIVE))
    return LEASES.read(connection, query, wanted).map(lease_of)


def live_leases(connection: Connection, pool_id: str | None = None, block_id: str | None = None) -> list[Lease]:
    query = select(leases).where(leases.c.state.in_(_LIVE)).order_by(leases.c.created_at, leases.c.id)
    if pool_id is not None:
        query = query.where(leases.c.pool_id == pool_id)
    if block_id is not None:
        query = query.where(leases.c.block_id == block_id)
    return [lease_of(row) for row in connection.execute(query)]


def ended_since(connection: Connection, pool_ids: Sequence[str], since: datetime, limit: int) -> list[Lease]:
    """Leases of the pools that ended since then, the newest first."""
    query = (
        select(leases)
        .where(leases.c.pool_id.in_(pool_ids), leases.c.ended_at >= since)
        .order_by(leases.c.ended_at.desc(), leases.c.id)
        .limit(limit)
    )
    return [lease_of(row) for row in connection.execute(query)]


def credited_pools(connection: Connection, since: datetime) -> dict[str, str]:
    """The pools of leases for which a credit may have been given since then, by the credit's id."""
    query = select(leases.c.id, leases.c.pool_id).where(
        leases.c.credit_nano > 0, leases.c.ended_at.is_(None) | (leases.c.ended_at >= since)
    )
    return {credit_id(row.id): row.pool_id for row in connection.execute(query)}


def over_since(connection: Connection, pool_id: str, since: datetime, limit: int) -> list[Row[Any]]:
    """Leases of the pool that were sold by the forecast and were over since then, the newest first: class_name, accelerators,
    start_at, end_at, active_at, ended_at, end_reason, state, reclaim_at, notice_s, and told_at, when notice was given."""
    told = (
        select(func.min(lease_transitions.c.at))
        .where(lease_transitions.c.subject_id == leases.c.id, lease_transitions.c.to_state == LeaseState.NOTICE.value)
        .where(leases.c.reclaim_at.is_not(None))
        .scalar_subquery()
    )
    names = "class_name accelerators shrunk_by handed_back start_at end_at active_at ended_at end_reason state service_s".split()
    query = (
        select(*(leases.c[name] for name in names), leases.c.reclaim_at, leases.c.notice_s, told.label("told_at"))
        .where(leases.c.pool_id == pool_id, leases.c.ended_at >= since, leases.c.block_id.is_(None))
        .order_by(leases.c.ended_at.desc(), leases.c.id)
        .limit(limit)
    )
    return list(connection.execute(query))


def deadlines_met(connection: Connection, since: datetime, now: datetime, grace: timedelta) -> tuple[int, int]:
    """Of the leases that were to be given back since then: how many were by then, and how many were not, `grace` included."""
    due = connection.execute(
        select(leases.c.reclaim_at, leases.c.ended_at).where(
            leases.c.reclaim_at >= since, leases.c.reclaim_at < now - grace, leases.c.active_at.is_not(None)
        )
    ).all()
    late = sum(row.ended_at is None or row.ended_at > row.reclaim_at + grace for row in due)
    return len(due) - late, late


def states_of(connection: Connection, lease_ids: Sequence[str]) -> dict[str, LeaseState]:
    found = connection.execute(select(leases.c.id, leases.c.state).where(leases.c.id.in_(lease_ids)))
    return {row.id: LeaseState(row.state) for row in found}


def accelerators_of(connection: Connection, lease_ids: Sequence[str]) -> dict[str, int]:
    """How many accelerators each lease has, of those that there are."""
    found: dict[str, int] = {}
    for place in range(0, len(lease_ids), _IDS_MAX):
        part = lease_ids[place : place + _IDS_MAX]
        rows = connection.execute(select(leases.c.id, leases.c.accelerators).where(leases.c.id.in_(part)))
        found |= {row.id: row.accelerators for row in rows}
    return found


def leases_elsewhere(connection: Connection, lease_ids: Sequence[str], pool_ids: frozenset[str]) -> frozenset[str]:
    """Which of the leases are of none of the pools; what is in no book is of none."""
    query = select(leases.c.id, leases.c.pool_id).where(leases.c.id.in_(lease_ids))
    return frozenset(row.id for row in connection.execute(query) if row.pool_id not in pool_ids)


def update_lease(connection: Connection, lease_id: str, **values: Any) -> None:
    connection.execute(update(leases).where(leases.c.id == lease_id).values(**values))


def advance_meter(
    connection: Connection, lease_id: str, expected: datetime | None, until: datetime, accelerator_s: int
) -> bool:
    """Move `metered_until` if it still is `expected`; False where somebody else has moved it."""
    same = leases.c.metered_until.is_(None) if expected is None else leases.c.metered_until == expected
    done = connection.execute(
        update(leases)
        .where(leases.c.id == lease_id, same)
        .values(metered_until=until, metered_s=leases.c.metered_s + accelerator_s)
    )
    return done.rowcount == 1


def record(
    connection: Connection, subject_id: str, before: str | None, after: str, at: datetime, actor: str, reason: str
) -> None:
    """Append a change of state to the subject's record."""
    number = connection.execute(_LAST_NUMBER, {"subject": subject_id}).scalar_one() + 1
    connection.execute(_INSERT_TRANSITION, _transition(subject_id, number, (before, after, actor, reason), at))


def record_first(
    connection: Connection, subject_id: str, changes: Sequence[tuple[str | None, str, str, str]], at: datetime
) -> None:
    """The first changes of a subject's state: each from which state to which, by whom, and why."""
    rows = [_transition(subject_id, number, change, at) for number, change in enumerate(changes, 1)]
    connection.execute(_INSERT_TRANSITION, rows)


def _transition(subject_id: str, number: int, change: tuple[str | None, str, str, str], at: datetime) -> dict[str, Any]:
    before, after, actor, reason = change
    return {
        "subject_id": subject_id,
        "number": number,
        "from_state": before,
        "to_state": after,
        "at": at,
        "actor": actor[:80],
        "reason": reason[:500],
    }


def transitions(connection: Connection, subject_id: str, limit: int) -> list[Transition]:
    query = (
        select(lease_transitions)
        .where(lease_transitions.c.subject_id == subject_id)
        .order_by(lease_transitions.c.number.desc())
        .limit(limit)
    )
    found = [
        Transition(row.subject_id, row.number, row.from_state, row.to_state, row.at, row.actor, row.reason)
        for row in connection.execute(query)
    ]
    return found[::-1]
