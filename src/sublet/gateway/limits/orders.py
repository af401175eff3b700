"""What a gateway asks of the database to share limits, and how it is carried out: in one transaction, exact for any number of them.

A limit per minute has one row for each minute, with what all gateways have taken together; a gateway takes some, and what it
does not use it gives back or lets pass with the minute. A limit of requests at once has a row for each gateway with the slots that
it may use. A run that does not beat any more is lost: its slots return, and what it took of a minute passes with it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from sqlalchemy import Connection, bindparam, delete, insert, select, tuple_, update
from sqlalchemy.dialects import postgresql, sqlite

from sublet.store import Store
from sublet.store.tables.gateway import gateway_runs, limit_slots, limit_windows

REQUESTS, INPUT, OUTPUT = KINDS = ("requests", "input", "output")
SLOTS = "concurrency"
SLOTS_MINUTE = 0
"""Stands for a limit's concurrency among its minutes."""
MINUTES_KEPT = 60
"""A clock that is set back by less finds what it took before."""
SPARE = 4
"""What is taken ahead of requests is at most such a part of what is free, for each gateway."""
KEYS_MAX = 400


class Want(NamedTuple):
    """Take `least` of what a limit of `most` allows in the order's minute, or what is left of it, and up to `target` ahead where much
    is left; first give `back`, and count `owed`, which was used beyond what had been taken."""

    limit_id: str
    kind: str
    most: int
    least: int = 0
    target: int = 0
    back: int = 0
    owed: int = 0


class WantSlots(NamedTuple):
    """Keep `hold` slots of a limit of `most` requests at once; take `least` more, and up to `target` ahead."""

    limit_id: str
    most: int
    hold: int
    least: int = 0
    target: int = 0


@dataclass(frozen=True, slots=True)
class Order:
    """One transaction of a run. `lost` are other runs with the last beat that was seen of them."""

    run: str
    minute: int
    windows: tuple[Want, ...] = ()
    slots: tuple[WantSlots, ...] = ()
    lost: tuple[tuple[str, int], ...] = ()
    prune: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was taken and what is left, in the order of the wants, and the beats of the other runs. `forgotten`: the run was taken for
    lost meanwhile, so nothing was taken and only the slots of this order are its own."""

    windows: tuple[tuple[int, int], ...] = ()
    slots: tuple[tuple[int, int], ...] = ()
    beats: tuple[tuple[str, int], ...] = ()
    forgotten: bool = False


class Desk(Protocol):
    """Carries out orders, one at a time."""

    def submit(self, order: Order) -> Future[Outcome]:
        """Without waiting. The future raises what the database raises."""
        ...

    def leave(self, run: str) -> None:
        """The run ends; everything that it holds returns."""
        ...


class StoreDesk:
    """Carries them out in a store, on a thread of its own."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._thread = ThreadPoolExecutor(1, "limit-desk")

    def submit(self, order: Order) -> Future[Outcome]:
        return self._thread.submit(self._store.write, lambda connection: carry_out(connection, order))

    def leave(self, run: str) -> None:
        self._thread.submit(self._store.write, lambda connection: leave(connection, run))
        self._thread.shutdown(wait=True)


def carry_out(connection: Connection, order: Order) -> Outcome:
    """See Order."""
    known = connection.execute(
        update(gateway_runs).where(gateway_runs.c.run == order.run).values(beat=gateway_runs.c.beat + 1)
    )
    forgotten = known.rowcount == 0 and any(want.hold for want in order.slots)
    if known.rowcount == 0:
        connection.execute(insert(gateway_runs).values(run=order.run, beat=1))
    keys = {(want.limit_id, order.minute) for want in order.windows}
    keys |= {(want.limit_id, SLOTS_MINUTE) for want in order.slots}
    rows = _locked(connection, sorted(keys))
    for run, beat in order.lost:
        if connection.execute(
            delete(gateway_runs).where(gateway_runs.c.run == run, gateway_runs.c.beat == beat)
        ).rowcount:
            connection.execute(delete(limit_slots).where(limit_slots.c.run == run))
    if order.prune:
        old = limit_windows.c.minute.between(SLOTS_MINUTE + 1, order.minute - MINUTES_KEPT)
        connection.execute(delete(limit_windows).where(old))
    others = connection.execute(select(gateway_runs.c.run, gateway_runs.c.beat).where(gateway_runs.c.run != order.run))
    beats = tuple((row.run, row.beat) for row in others)
    part = SPARE * (len(beats) + 1)
    windows = _take(connection, order, rows, part)
    slots = _take_slots(connection, order, part, forgotten=forgotten)
    return Outcome(windows, slots, beats, forgotten)


def leave(connection: Connection, run: str) -> None:
    """A run ends."""
    connection.execute(delete(limit_slots).where(limit_slots.c.run == run))
    connection.execute(delete(gateway_runs).where(gateway_runs.c.run == run))


def _take(
    connection: Connection, order: Order, rows: dict[tuple[str, int], dict[str, int]], part: int
) -> tuple[tuple[int, int], ...]:
    found = []
    for want in order.windows:
        row = rows[want.limit_id, order.minute]
        used = max(0, row[want.kind] - want.back) + want.owed
        granted, left = _granted(want.most - used, want.least, want.target, part)
        row[want.kind] = used + granted
        found.append((granted, left))
    changed = [
        {"of": limit_id, "at": minute, **row}
        for (limit_id, minute), row in sorted(rows.items())
        if minute != SLOTS_MINUTE
    ]
    if changed:
        columns = limit_windows.c
        statement = update(limit_windows).where(columns.limit_id == bindparam("of"), columns.minute == bindparam("at"))
        connection.execute(statement.values({name: bindparam(name) for name in KINDS}), changed)
    return tuple(found)


def _take_slots(connection: Connection, order: Order, part: int, *, forgotten: bool) -> tuple[tuple[int, int], ...]:
    if not order.slots:
        return ()
    held: dict[str, int] = {}
    columns = limit_slots.c
    for names in _parts([want.limit_id for want in order.slots]):
        for row in connection.execute(
            select(columns.limit_id, columns.slots).where(columns.limit_id.in_(names), columns.run != order.run)
        ):
            held[row.limit_id] = held.get(row.limit_id, 0) + row.slots
        connection.execute(delete(limit_slots).where(columns.limit_id.in_(names), columns.run == order.run))
    found = []
    mine = []
    for want in order.slots:
        free = want.most - held.get(want.limit_id, 0) - want.hold
        granted, left = _granted(free, 0 if forgotten else want.least, 0 if forgotten else want.target, part)
        if want.hold + granted:
            mine.append({"limit_id": want.limit_id, "run": order.run, "slots": want.hold + granted})
        found.append((granted, left))
    if mine:
        connection.execute(insert(limit_slots), mine)
    return tuple(found)


def _granted(free: int, least: int, target: int, part: int) -> tuple[int, int]:
    """What is taken of `free`, and what is left."""
    free = max(0, free)
    granted = min(least, free)
    granted += min(target, (free - granted) // part)
    return granted, free - granted


def _locked(connection: Connection, keys: Sequence[tuple[str, int]]) -> dict[tuple[str, int], dict[str, int]]:
    """The rows of `keys`, made where they are missing and held until the transaction ends, in one order everywhere."""
    columns = limit_windows.c
    rows: dict[tuple[str, int], dict[str, int]] = {}
    upsert = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
    for some in _parts(keys):
        new = [{"limit_id": of, "minute": minute, **dict.fromkeys(KINDS, 0)} for of, minute in some]
        connection.execute(upsert(limit_windows).on_conflict_do_nothing(), new)
        query = select(limit_windows).where(tuple_(columns.limit_id, columns.minute).in_(some))
        for row in connection.execute(query.order_by(columns.limit_id, columns.minute).with_for_update()):
            rows[row.limit_id, row.minute] = {name: getattr(row, name) for name in KINDS}
    return rows


def _parts(items: Sequence[Any]) -> list[list[Any]]:
    return [list(items[at : at + KEYS_MAX]) for at in range(0, len(items), KEYS_MAX)]


Placed = Callable[[Outcome | None], None]
"""Told what came of an order; None where that is not known."""
