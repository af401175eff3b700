"""The outbox: an event is there if and only if its change is, readers miss none, and what is old goes."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from datetime import datetime, timedelta

import pytest
from sqlalchemy import Connection

from sublet.store import Store, outbox
from sublet.store.events import PAYLOAD_TEXT_MAX, EventKind, declare
from sublet.values.clock import SimulatedClock

RETENTION = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Moved:
    crate: str
    at: datetime
    weight_kg: int
    fragile: bool
    labels: tuple[str, ...] = ()
    note: str | None = None


MOVED = EventKind("test.moved", Moved, "A crate was moved.", "crate")
OPENED = EventKind("test.opened", Moved, "A crate was opened.", "crate", "operator")


def record(store: Store, *crates: str, kind: EventKind = MOVED, organization: str | None = "org_1") -> None:
    now = store.clock.now()

    def write(connection: Connection) -> None:
        for crate in crates:
            kind.record(connection, Moved(crate, now, 3, True, ("a",)), now, organization_id=organization)

    store.write(write)


def read(store: Store, position: int = 0, selection: outbox.Selection | None = None) -> list[tuple[int, str]]:
    with store.read() as connection:
        found = outbox.read_after(connection, position, selection=selection)
    return [(event.position, event.subject) for event in found]


def test_an_event_is_written_with_its_change_or_not_at_all(any_store: Store) -> None:
    def fails(connection: Connection) -> None:
        MOVED.record(
            connection, Moved("lost", any_store.clock.now(), 1, False), any_store.clock.now(), organization_id="o"
        )
        raise ValueError("the change is refused")

    with pytest.raises(ValueError, match="refused"):
        any_store.write(fails)
    record(any_store, "kept")
    assert outbox.number(any_store) == 1
    assert read(any_store) == [(1, "kept")]


def test_what_a_receiver_gets(any_store: Store) -> None:
    record(any_store, "c1")
    outbox.number(any_store)
    with any_store.read() as connection:
        [event] = outbox.read_after(connection, 0)
        assert outbox.by_ids(connection, [event.id, "oev_none"]) == {event.id: event}
    assert event.as_dict() == {
        "id": event.id,
        "type": "test.moved",
        "timestamp": "2026-01-05T00:00:00Z",
        "sequence": 1,
        "schema": 1,
        "organization": "org_1",
        "subject": "c1",
        "data": {
            "crate": "c1",
            "at": "2026-01-05T00:00:00Z",
            "weight_kg": 3,
            "fragile": True,
            "labels": ["a"],
            "note": None,
        },
    }


def test_an_event_with_a_key_is_recorded_once(any_store: Store) -> None:
    now = any_store.clock.now()

    def write(connection: Connection) -> str:
        return MOVED.record(connection, Moved("c", now, 1, False), now, organization_id="org_1", key=("c", "1"))

    assert any_store.write(write) == any_store.write(write)
    assert outbox.number(any_store) == 1


def test_numbers_follow_each_other_even_after_everything_is_deleted(any_store: Store, clock: SimulatedClock) -> None:
    record(any_store, "a", "b")
    assert (outbox.number(any_store), outbox.number(any_store)) == (2, 0)
    clock.advance(RETENTION.total_seconds() + 1)
    assert outbox.prune(any_store, clock.now(), RETENTION) == 2
    record(any_store, "c")
    outbox.number(any_store)
    assert read(any_store) == [(3, "c")]


def test_readers_choose(any_store: Store) -> None:
    record(any_store, "a")
    record(any_store, "b", organization="org_2")
    record(any_store, "a", kind=OPENED, organization=None)
    outbox.number(any_store)
    assert read(any_store, 1) == [(2, "b"), (3, "a")]
    assert read(any_store, 0, outbox.Selection(organization_id="org_1")) == [(1, "a")]
    assert read(any_store, 0, outbox.Selection(subject="a")) == [(1, "a"), (3, "a")]
    assert read(any_store, 0, outbox.Selection(kinds=["test.opened"])) == [(3, "a")]
    assert read(any_store, 0, outbox.Selection(kinds=[])) == []


@pytest.mark.real
def test_a_late_commit_is_not_missed(postgres_store: Store) -> None:
    """Two transactions: the first takes its place in the table, the second commits before it."""
    began, go = threading.Event(), threading.Event()

    def slow(connection: Connection) -> None:
        MOVED.record(
            connection,
            Moved("slow", postgres_store.clock.now(), 1, False),
            postgres_store.clock.now(),
            organization_id="o",
        )
        began.set()
        assert go.wait(20)

    thread = threading.Thread(target=postgres_store.write, args=(slow,))
    thread.start()
    assert began.wait(20)
    record(postgres_store, "fast")
    outbox.number(postgres_store)
    assert read(postgres_store) == [(1, "fast")]
    go.set()
    thread.join()
    outbox.number(postgres_store)
    assert read(postgres_store, 1) == [(2, "slow")]


@pytest.mark.real
def test_several_number_at_once(postgres_store: Store) -> None:
    record(postgres_store, *(str(number) for number in range(300)))
    threads = [threading.Thread(target=outbox.number, args=(postgres_store,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [position for position, _ in read(postgres_store)] == list(range(1, 301))


def test_what_nobody_has_read_is_kept_for_twice_as_long(any_store: Store, clock: SimulatedClock) -> None:
    record(any_store, "a", "b")
    outbox.number(any_store)
    any_store.write(lambda connection: outbox.advance(connection, "deliveries", 1))
    clock.advance(RETENTION.total_seconds() + 1)
    record(any_store, "c")
    assert outbox.prune(any_store, clock.now(), RETENTION) == 1
    outbox.number(any_store)
    assert read(any_store) == [(2, "b"), (3, "c")]
    clock.advance(RETENTION.total_seconds())
    assert outbox.prune(any_store, clock.now(), RETENTION) == 1
    assert read(any_store) == [(3, "c")]


def test_a_position_never_goes_back(any_store: Store) -> None:
    for position in (5, 3):
        any_store.write(lambda connection, to=position: outbox.advance(connection, "deliveries", to))
        with any_store.read() as connection:
            assert outbox.position_of(connection, "deliveries") == 5


def test_ages(any_store: Store, clock: SimulatedClock) -> None:
    any_store.write(lambda connection: outbox.advance(connection, "deliveries", 0))

    def ages() -> dict[str, float]:
        with any_store.read() as connection:
            found = outbox.ages(connection, clock.now())
        return {name: age.total_seconds() for name, age in found.items()}

    assert ages() == {"numbering": 0, "deliveries": 0}
    record(any_store, "a")
    clock.advance(7)
    assert ages() == {"numbering": 7, "deliveries": 7}
    outbox.number(any_store)
    clock.advance(3)
    assert ages() == {"numbering": 0, "deliveries": 10}
    any_store.write(lambda connection: outbox.advance(connection, "deliveries", 1))
    assert ages() == {"numbering": 0, "deliveries": 0}


def test_a_kind_refuses_what_is_not_its_own(store: Store) -> None:
    now = store.clock.now()
    crate = Moved("c", now, 1, False)
    with store.engine.begin() as connection:
        with pytest.raises(TypeError, match="takes a Moved, not a dict"):
            MOVED.record(connection, {"crate": "c"}, now, organization_id="o")
        with pytest.raises(ValueError, match="concerns the organization"):
            MOVED.record(connection, crate, now)
        with pytest.raises(ValueError, match="concerns the operator"):
            OPENED.record(connection, crate, now, organization_id="o")
    with pytest.raises(ValueError, match="has no field box"):
        declare("test.boxed", Moved, "A box.", subject="box")


def test_a_kind_states_its_schema_and_bounds_texts(any_store: Store) -> None:
    assert MOVED.fields() == {
        "crate": "string",
        "at": "time",
        "weight_kg": "integer",
        "fragile": "boolean",
        "labels": "array of string",
        "note": "string or null",
    }
    now = any_store.clock.now()
    long = Moved("c", now, 1, False, note="x" * 5_000)
    any_store.write(lambda connection: MOVED.record(connection, long, now, organization_id="o"))
    outbox.number(any_store)
    with any_store.read() as connection:
        [event] = outbox.read_after(connection, 0)
    assert len(event.payload["note"]) == PAYLOAD_TEXT_MAX
