"""The calendar in memory says what a list of all fences says, whatever happens to them."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, text
from tests.leases.world import KEY, World

from sublet.leases.quotes import calendar, memory
from sublet.leases.quotes.memory import PoolCalendar, Row
from sublet.store import Store
from sublet.surplus.rule.holding import Spans
from sublet.values.clock import SimulatedClock, from_micros
from sublet.values.errors import ConflictError
from sublet.values.service_classes import SHIPPED
from sublet.values.windows import Window
from sublet.wiring.booked import BookedCalendar

UNITS = 4
MOMENTS = st.integers(0, 40)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(0, UNITS - 1), MOMENTS, st.integers(1, 9), st.integers(0, 30)),
        st.tuples(st.just("remove"), st.integers(0, 30)),
        st.tuples(st.just("end"), st.integers(0, 30), st.integers(1, 20)),
    ),
    max_size=40,
)


def moment(at: int) -> datetime:
    return from_micros(at * 1_000_000)


def new(number: int, unit: int, start: int, length: int, expires: int) -> Row:
    """A fence with a gap of a second on both sides; one in three is a hold."""
    begin, end, before, after = (
        at * 1_000_000 for at in (start, start + length, max(0, start - 1), start + length + 1)
    )
    until = None if number % 3 else expires * 1_000_000
    name = ("spot", "firm")[number % 2]
    return Row(f"lse_{number}", f"unit_{unit}", name, None, begin, end, before, after, until)


@settings(max_examples=150, deadline=None)
@given(begin=STEPS, steps=STEPS, now=MOMENTS, start=MOMENTS, length=st.integers(1, 20))
def test_it_says_what_a_list_says(begin: list[Any], steps: list[Any], now: int, start: int, length: int) -> None:
    rows: dict[str, Row] = {}
    for number, step in enumerate(begin):
        if step[0] == "add":
            rows[f"lse_{number}"] = new(number, *step[1:])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory, "TAIL", 3)
        known = PoolCalendar(list(rows.values()))
        for number, step in enumerate(steps, 1000):
            ids = sorted(rows)
            if step[0] == "add":
                row = rows[f"lse_{number}"] = new(number, *step[1:])
                known.add([row])
            elif ids:
                row = rows[ids[step[1] % len(ids)]]
                which = (row.holder_id, row.unit_id, row.fence_start)
                if step[0] == "remove":
                    known.remove(which)
                    del rows[row.holder_id]
                else:
                    end = row.start + step[2] * 1_000_000
                    known.end(which, end, end + 1_000_000)
                    rows[row.holder_id] = replace(row, end=end, fence_end=end + 1_000_000)
    at, window = now * 1_000_000, Window(moment(start), moment(start + length))
    counted = [row for row in rows.values() if row.expires is None or row.expires > at]
    numbers = {f"unit_{unit}": known.number(f"unit_{unit}") for unit in range(UNITS)}
    busy = known.busy(window, moment(now))
    held = {
        row.unit_id
        for row in counted
        if row.fence_start < (start + length) * 1_000_000 and row.fence_end > start * 1_000_000
    }
    assert {unit_id for unit_id, number in numbers.items() if busy[number]} == held
    booked = sorted((row.class_name, row.start, row.end) for row in counted if row.end > at)
    found = sorted(
        (name, begins, ends) for many, name, begins, ends, _ in known.alike(moment(now)) for _ in range(many)
    )
    assert found == booked
    assert known.any(moment(now)) == bool(booked)
    assert known.expired(moment(now)) == any(row.expires is not None and row.expires <= at for row in rows.values())
    book = BookedCalendar(known, moment(now))
    for slots in (1, 5, 60):
        grid, slot_s = at - 500_000, 1
        told = Spans.of(list(book), SHIPPED, at).held(grid, slot_s, slots)
        spans = Spans.of_booked(book, SHIPPED, at, grid + slots * slot_s * 1_000_000)
        assert np.array_equal(spans.held(grid, slot_s, slots), told)


def test_a_write_that_fails_leaves_no_trace_in_it(store: Store, clock: SimulatedClock) -> None:
    world = World(store, clock, accelerators=3)
    lease = world.sell(count=2, seconds=3600)
    hour = Window.starting(clock.now(), 3600)

    def free(connection: Connection) -> int:
        return calendar.free_count(connection, world.pool.id, hour, clock.now())

    def half(connection: Connection) -> None:
        assert free(connection) == 1
        calendar.release(connection, lease.id)
        assert free(connection) == 3
        raise ConflictError("changed its mind")

    with pytest.raises(ConflictError):
        store.write(half)
    assert store.write(free) == 1
    quote = world.leases.quote("org_b", world.request())
    assert store.write(free) == 0
    clock.advance(61)
    assert store.write(free) == 1
    with pytest.raises(ConflictError):
        world.leases.accept("org_b", quote.id, [KEY])
    assert store.write(free) == 1


def test_what_others_write_is_seen(store: Store, clock: SimulatedClock) -> None:
    world = World(store, clock, accelerators=3)
    lease = world.sell(count=2, seconds=3600)
    hour = Window.starting(clock.now() + timedelta(minutes=1), 60)

    def free(connection: Connection) -> int:
        return calendar.free_count(connection, world.pool.id, hour, clock.now())

    assert store.write(free) == 1
    other = Store(store.url.render_as_string(hide_password=False), clock)
    other.write(lambda connection: calendar.release(connection, lease.id))
    other.close()
    assert store.write(free) == 3
    world.sell(count=2, seconds=3600)
    assert store.write(free) == 1
    store.write(lambda connection: connection.execute(text("DELETE FROM fences")) and None)
    assert store.write(free) == 3
