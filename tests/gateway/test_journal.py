"""The journal and what is made of it after the gateway's end."""

from __future__ import annotations

import errno
import json
import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.gateway.harness import Running, ScriptedEngine, ask, post, until

from sublet.gateway.metering import board as boards
from sublet.gateway.metering.board import FILE, Board, tokens_at
from sublet.gateway.metering.board import opened as left_open
from sublet.gateway.metering.journal import ALLOWANCE, CLOSE, CROWD, GATHER_S, Journal, Record, line_of, lines, lock_run
from sublet.gateway.metering.meter import Meter
from sublet.gateway.metering.records import CLIENT_GONE, closing, context_of, settled_line
from sublet.gateway.metering.shipper import Shipper, close_open_requests, ship, usage_of
from sublet.gateway.model import KeyGrant, ModelRoute, ReplicaRoute, Tokens, UsageRecord, request_id
from sublet.gateway.refusals import EngineFailedError
from sublet.gateway.surfaces.surface import Identity
from sublet.values.errors import InvalidInputError


class Loop:
    """An event loop that turns only when told to."""

    def __init__(self) -> None:
        self.due: list[Callable[[], None]] = []

    def call_soon(self, call: Callable[[], None]) -> None:
        self.due.append(call)

    def turn(self) -> None:
        due, self.due = self.due, []
        for call in due:
            call()


class Opened:
    """A journal and the answers that it gave."""

    def __init__(self, folder: Path, *, wait_for_disk: bool = False, segment_bytes_max: int = 1 << 20) -> None:
        self.loop = Loop()
        self.durable: list[tuple[str, bool]] = []
        self.journal = Journal(
            folder,
            segment_bytes_max=segment_bytes_max,
            wait_for_disk=wait_for_disk,
            call_soon=self.loop.call_soon,
            call_soon_threadsafe=self.loop.call_soon,
        )

    def reserve(self, request: str, slot: int = -1, sequence: int = 0) -> None:
        self.journal.reserve(record("reserve", request, slot=slot, sequence=sequence))

    def settle(self, request: str, output: int = 3, keep: bool = True) -> None:
        self.journal.settle(
            record("settle", request, output=output), lambda ok: self.durable.append((request, ok)), keep=keep
        )

    def kinds(self) -> list[tuple[str, str]]:
        return [(found.kind, found.request) for path in segments(self.journal.folder) for found, _ in lines(path)]


def record(kind: str, request: str, **more: Any) -> Record:
    return Record(
        kind=kind, request=request, organization="org_1", key="key_1", model="m", started_us=10, ended_us=20, **more
    )


def segments(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.journal"))


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Opened]:
    made = Opened(tmp_path)
    yield made
    made.journal.close()


def test_records_are_written_once_a_turn_and_told_of_then(opened: Opened) -> None:
    opened.reserve("r1")
    opened.settle("r1")
    assert opened.kinds() == [] and opened.durable == []
    opened.loop.turn()
    assert opened.kinds() == [("reserve", "r1"), ("settle", "r1")]
    assert opened.durable == [("r1", True)]


def test_with_disk_durability_the_answer_comes_after_the_sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr("sublet.gateway.metering.journal.os.fdatasync", lambda descriptor: synced.append(descriptor))
    made = Opened(tmp_path, wait_for_disk=True)
    made.settle("r1")
    made.loop.turn()
    assert made.durable == []
    until(lambda: made.loop.due)
    assert synced
    made.loop.turn()
    assert made.durable == [("r1", True)]
    made.journal.close()


def test_a_disk_that_can_not_sync_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    made = Opened(tmp_path, wait_for_disk=True)
    monkeypatch.setattr("sublet.gateway.metering.journal.os.fdatasync", fail)
    made.settle("r1")
    made.loop.turn()
    until(lambda: made.loop.due)
    made.loop.turn()
    assert made.durable == [("r1", False)]
    monkeypatch.undo()
    made.journal.close()


@pytest.mark.parametrize("room", range(0, 399, 7))
def test_a_full_disk_keeps_what_was_delivered_and_drops_what_was_not(
    opened: Opened, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    real, left = os.write, room

    def write(descriptor: int, data: memoryview) -> int:
        nonlocal left
        if left <= 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        count = real(descriptor, data[:left])
        left -= count
        return count

    monkeypatch.setattr("sublet.gateway.metering.journal.os.write", write)
    opened.reserve("r0")
    opened.settle("delivered", keep=True)
    opened.settle("held back", keep=False)
    opened.loop.turn()
    assert opened.journal.failure is not None
    told = dict(opened.durable)
    assert set(told) == {"delivered", "held back"}
    monkeypatch.undo()
    opened.journal.retry()
    assert opened.journal.failure is None
    found = [request for kind, request in opened.kinds() if kind == "settle"]
    assert found.count("delivered") == 1
    assert ("held back" in found) == told["held back"]


def test_a_torn_last_line_is_nobodys(tmp_path: Path) -> None:
    whole = line_of(record("settle", "r1")) + line_of(record("settle", "r2"))
    path = tmp_path / "x"
    for cut in range(len(whole) + 1):
        path.write_bytes(whole[:cut])
        found = [item.request for item, _ in lines(path)]
        assert found == ["r1", "r2"][: whole[:cut].count(b"\n")]


def test_a_damaged_line_is_skipped(tmp_path: Path) -> None:
    path = tmp_path / "x"
    damaged = line_of(record("settle", "r2")).replace(b"org_1", b"org_2")
    path.write_bytes(line_of(record("settle", "r1")) + damaged + b"rubbish\n" + line_of(record("settle", "r3")))
    assert [item.request for item, _ in lines(path)] == ["r1", "r3"]


def test_a_new_segment_opens_with_the_open_requests(tmp_path: Path) -> None:
    made = Opened(tmp_path, segment_bytes_max=300)
    made.reserve("long")
    for number in range(5):
        made.reserve(f"r{number}")
        made.settle(f"r{number}")
        made.loop.turn()
        made.loop.turn()
    made.settle("long")
    made.loop.turn()
    made.journal.close()
    folder = made.journal.folder
    assert len(segments(folder)) > 2
    assert next(lines(segments(folder)[-1]))[0].request == "long"
    emitted: list[UsageRecord] = []
    ship(folder, emitted.extend)
    assert sorted(item.request_id for item in emitted) == ["long", "r0", "r1", "r2", "r3", "r4"]
    assert len(segments(folder)) == 1
    assert close_open_requests(folder) == 0


def test_the_board_remembers_what_was_given(tmp_path: Path) -> None:
    board = Board(tmp_path / FILE, slots=2)
    first, second = board.take(1), board.take(2)
    assert board.take(3) == -1 and board.open(3, 10, b"x") == -1
    board.put(first, 1, 10, 4, 7)
    board.put(-1, 3, 1, 1, 1)
    assert tokens_at(tmp_path, first, 1) == Tokens(10, 4, 7)
    assert tokens_at(tmp_path, second, 2) == Tokens()
    assert tokens_at(tmp_path, first, 9) == Tokens()
    assert tokens_at(tmp_path / "nowhere", first, 1) == Tokens()
    board.clear(first)
    assert board.take(4) == first
    board.close()


def test_the_board_of_version_0_1_is_read_as_it_was_written(tmp_path: Path) -> None:
    (tmp_path / "board").write_bytes(bytes(32) + struct.pack("<QIII", 5, 10, 4, 7).ljust(32, b"\0"))
    assert tokens_at(tmp_path, 1, 5) == Tokens(10, 4, 7)
    assert tokens_at(tmp_path, 0, 5) == tokens_at(tmp_path, 2, 5) == Tokens()


def test_a_context_that_does_not_fit_the_board_or_was_torn_opens_nothing(tmp_path: Path) -> None:
    board = Board(tmp_path / FILE, slots=2)
    assert board.open(1, 10, b"x" * (boards.CONTEXT_BYTES_MAX + 1)) == -1
    context = b"x" * boards.CONTEXT_BYTES_MAX
    slot = board.open(2, 10, context)
    assert [found.context for found in left_open(tmp_path)] == [context]
    at = slot * boards.SLOT_BYTES + boards.SLOT_BYTES - 1
    with (tmp_path / FILE).open("r+b") as file:
        file.seek(at)
        file.write(b"y")
    assert list(left_open(tmp_path)) == []
    board.close()


class Settled:
    """As much of a request that is over as its record needs."""

    def __init__(self, grant: KeyGrant, meter: Meter, *, queue_s: float, first_at: float) -> None:
        self.gateway = SimpleNamespace(now_us=lambda: 1_700_000_000_500_000, monotonic=lambda: 12.25)
        self.grant, self.queue_s, self.first_at = grant, queue_s, first_at
        self.identity = Identity("req_r00000001", "m", 1)
        self.model = ModelRoute("m", "m", frozenset(), 1, 1)
        self.reply = SimpleNamespace(meter=meter)
        self.hold = self.tier = ""
        self.sequence, self.started_us, self.started_at, self.held = 1, 1_700_000_000_000_000, 11.5, False


@settings(max_examples=60)
@given(st.data())
def test_the_short_way_to_a_settled_line_says_the_same(data: st.DataObject) -> None:
    grant = KeyGrant("key_1", "org_1", project=data.draw(st.text(max_size=20)))
    meter = Meter()
    meter.input, meter.output = data.draw(st.integers(0, 2**31)), data.draw(st.integers(0, 2**31))
    meter.input_cached = data.draw(st.integers(0, meter.input))
    meter.final, meter.running = data.draw(st.booleans()), data.draw(st.booleans())
    settled: Any = Settled(
        grant, meter, queue_s=data.draw(st.floats(0, 900)), first_at=data.draw(st.sampled_from([0, 12.0]))
    )
    replica = ReplicaRoute("rep_1", "http://x", 1, data.draw(st.sampled_from(["", "pool_1"])))
    settled.tier = data.draw(st.sampled_from(["", "flex"]))
    status, error = data.draw(
        st.sampled_from([(200, None), (CLIENT_GONE, None), (502, EngineFailedError()), (429, InvalidInputError("x"))])
    )
    line = settled_line(settled, context_of(grant, settled.model, replica, settled.tier), status, error)
    assert msgspec.json.decode(line, type=Record) == closing(settled, replica, status, error)


def test_a9_requests_that_the_board_alone_opened_are_settled_by_a_successor(tmp_path: Path) -> None:
    made = Opened(tmp_path)
    board, run = made.journal.board, made.journal.run
    context = b'"organization":"org_1","key":"key_1","model":"m","replica":"rep_1"'
    slots = [board.open(number, 10 + number, context) for number in range(1, 5)]
    board.put(slots[0], 1, 10, 4, 6)
    # Number 2 was settled and its line written; number 3 and its line were not yet.
    for number in (2, 3):
        line = b'{"kind":"settle","request":"%b",%b,"output":5}' % (request_id(run, number).encode(), context)
        made.journal.settle_opened(line, slots[number - 1], lambda ok: None, keep=True)
        if number == 2:
            made.loop.turn()
    board.put(slots[2], 3, 7, 0, 2)
    made.loop.due.clear()
    made.journal._buffer.clear()
    made.journal.close()
    folder = made.journal.folder
    assert close_open_requests(folder) == 3
    assert close_open_requests(folder) == 0
    emitted: list[UsageRecord] = []
    ship(folder, emitted.extend)
    found = {(item.request_id, item.meter): (item.quantity, item.incomplete) for item in emitted}
    assert found == {
        (request_id(run, 1), "tokens.input"): (6, True),
        (request_id(run, 1), "tokens.input_cached"): (4, True),
        (request_id(run, 1), "tokens.output"): (6, True),
        (request_id(run, 2), "tokens.output"): (5, False),
        (request_id(run, 3), "tokens.input"): (7, True),
        (request_id(run, 3), "tokens.output"): (2, True),
    }
    assert {item.organization_id for item in emitted} == {"org_1"}


def test_a9_an_allowance_that_was_left_open_is_closed_behind_all_that_names_it(tmp_path: Path) -> None:
    made = Opened(tmp_path)
    journal = made.journal
    for name in ("alw_1", "alw_2"):
        journal.reserve(record(ALLOWANCE, name))
    context = b'"organization":"org_1","key":"key_1","model":"m","replica":"rep_1","hold":"alw_1"'
    slot = journal.board.open(7, 10, context)
    journal.board.put(slot, 7, 5, 0, 2)
    journal.settle(record("settle", "r1", output=3, hold="alw_1"), None, keep=True)
    journal.settle(record(CLOSE, "alw_2", nano=12), None, keep=True)
    made.loop.turn()
    journal.close()
    assert close_open_requests(journal.folder) == 1
    assert close_open_requests(journal.folder) == 0
    emitted: list[UsageRecord] = []
    ship(journal.folder, emitted.extend)
    found = [(item.hold, item.closes, item.meter, item.quantity, item.nano) for item in emitted]
    assert found == [
        ("alw_1", False, "tokens.output", 3, 0),
        ("alw_2", True, "", 0, 12),
        ("alw_1", False, "tokens.input", 5, 0),
        ("alw_1", False, "tokens.output", 2, 0),
        ("alw_1", True, "", 0, -1),
    ]


def test_a9_a_line_that_could_not_be_written_keeps_its_request_on_the_board_if_it_delivered_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Opened(tmp_path)
    board = made.journal.board
    slots = [board.open(number, 10, b'"organization":"org_1"') for number in (1, 2)]

    def full(descriptor: int, data: memoryview) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("sublet.gateway.metering.journal.os.write", full)
        for slot, keep in zip(slots, (True, False), strict=True):
            made.journal.settle_opened(b'{"kind":"settle","request":"r"}', slot, lambda ok: None, keep=keep)
        made.loop.turn()
    assert [item.sequence for item in left_open(made.journal.folder)] == [1]
    made.journal.retry()
    assert list(left_open(made.journal.folder)) == []
    made.journal.close()


def test_if_many_wait_for_a_sync_the_next_one_gathers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gathered: list[float] = []
    monkeypatch.setattr("sublet.gateway.metering.journal.time", SimpleNamespace(sleep=gathered.append))
    made = Opened(tmp_path, wait_for_disk=True)
    for batch in (CROWD - 1, CROWD, 1, 1):
        for number in range(batch):
            made.settle(f"r{number}")
        made.loop.turn()
        until(lambda: made.loop.due)
        made.loop.turn()
    assert gathered == [GATHER_S]
    assert len(made.durable) == 2 * CROWD + 1 and all(ok for _, ok in made.durable)
    made.journal.close()


def test_a_run_is_held_by_one_process(opened: Opened) -> None:
    assert lock_run(opened.journal.folder) is None


def test_open_requests_of_an_ended_run_are_settled_for_what_they_were_given_and_only_once(tmp_path: Path) -> None:
    made = Opened(tmp_path)
    slot = made.journal.board.take(7)
    made.reserve("given", slot, 7)
    made.journal.board.put(slot, 7, 10, 4, 6)
    made.reserve("nothing", made.journal.board.take(8), 8)
    made.reserve("done")
    made.settle("done")
    made.loop.turn()
    made.journal.close()
    folder = made.journal.folder
    with segments(folder)[-1].open("ab") as file:
        # The process died while it wrote: all but the newline is there, and nobody was told.
        file.write(line_of(record("settle", "given", output=999))[:-1])
    assert close_open_requests(folder) == 2
    assert close_open_requests(folder) == 0
    emitted: list[UsageRecord] = []
    ship(folder, emitted.extend)
    found = {(item.request_id, item.meter): (item.quantity, item.incomplete) for item in emitted}
    assert found == {
        ("given", "tokens.input"): (6, True),
        ("given", "tokens.input_cached"): (4, True),
        ("given", "tokens.output"): (6, True),
        ("done", "tokens.output"): (3, False),
    }


def test_a8_a_lost_acknowledgement_emits_the_same_ids_again(tmp_path: Path) -> None:
    made = Opened(tmp_path)
    for number in range(3):
        made.settle(f"r{number}")
    made.loop.turn()
    made.journal.close()
    taken: list[str] = []

    def commit_then_fail(records: list[UsageRecord]) -> None:
        taken.extend(item.id for item in records)
        raise OSError("the answer was lost")

    with pytest.raises(OSError, match="lost"):
        ship(made.journal.folder, commit_then_fail)
    again: list[UsageRecord] = []
    ship(made.journal.folder, again.extend)
    assert [item.id for item in again] == taken and len(set(taken)) == 3
    assert ship(made.journal.folder, again.extend) == 0


def test_an_event_that_the_ledger_will_never_take_holds_up_no_other(tmp_path: Path) -> None:
    made = Opened(tmp_path)
    for number in range(3):
        made.settle(f"r{number}")
    made.loop.turn()
    made.journal.close()
    taken: list[str] = []

    def emit(records: list[UsageRecord]) -> None:
        if any(item.request_id == "r1" for item in records):
            raise InvalidInputError("too old")
        taken.extend(item.request_id for item in records)

    ship(made.journal.folder, emit)
    assert taken == ["r0", "r2"]
    assert [json.loads(line)["request_id"] for line in (tmp_path / "refused.jsonl").read_text().splitlines()] == ["r1"]
    assert ship(made.journal.folder, emit) == 0


def test_each_request_and_meter_has_an_id_of_its_own() -> None:
    ids = [
        item.id
        for request in ("a", "b")
        for item in usage_of(record("settle", request, input=5, input_cached=2, output=1))
    ]
    assert len(set(ids)) == 6


@settings(max_examples=50)
@given(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**6))
def test_a10_every_token_is_in_one_meter(fresh: int, cached: int, output: int) -> None:
    events = usage_of(record("settle", "r", input=fresh + cached, input_cached=cached, output=output))
    assert sum(item.quantity for item in events) == fresh + cached + output
    assert all(item.quantity > 0 for item in events)


def test_ended_runs_are_shipped_and_removed(tmp_path: Path) -> None:
    old = Opened(tmp_path)
    old.reserve("r1")
    old.loop.turn()
    old.settle("r2")
    old.loop.turn()
    old.journal.close()
    present = Opened(tmp_path)
    emitted: list[UsageRecord] = []
    shipper = Shipper(tmp_path, present.journal.run, emitted.extend)
    assert shipper.round() == 1 and shipper.round() == 0
    assert not old.journal.folder.exists()
    present.settle("r3")
    present.loop.turn()
    assert shipper.round() == 1
    assert [item.request_id for item in emitted] == ["r2", "r3"]
    present.journal.close()


def test_a_run_that_another_gateway_writes_is_left_alone(tmp_path: Path) -> None:
    other, present = Opened(tmp_path), Opened(tmp_path)
    other.reserve("open")
    other.settle("r1")
    other.loop.turn()
    assert Shipper(tmp_path, present.journal.run, lambda records: None).round() == 0
    assert other.journal.folder.exists()
    other.journal.close()
    present.journal.close()


def test_c21_a_settled_request_takes_little_room() -> None:
    assert (
        len(line_of(record("reserve", "req_" + "x" * 24)) + line_of(record("settle", "req_" + "x" * 24, input=1)))
        < 1000
    )


def test_a_full_disk_refuses_requests_until_there_is_room(
    gateway: Running, engine: ScriptedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int, data: memoryview) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("sublet.gateway.metering.journal.os.write", full)
        first = gateway.post(ask())
        assert (first.status, first.json["error"]["code"]) == (503, "journal_unwritable")
        stream = gateway.wire()
        stream.send(post(ask(stream=True), gateway.key))
        assert stream.answer().status == 503
        assert gateway.get("/health").status == 503
    until(lambda: gateway.get("/health").status == 200)
    assert gateway.post(ask()).status == 200
    until(lambda: gateway.tokens() == {"tokens.input": 5, "tokens.output": 3})
