"""The places at an SSH door: strangers who wait never keep a customer out, and dead connections never keep a place."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sublet.leases.backends.local import door as doors
from sublet.leases.backends.local import gate as gates
from sublet.leases.backends.local.gate import Gate, Guest, source_of

WAIT_S = 20
HELLO = b"SSH-2.0-test\r\n"


class Time:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def gate(time: Time) -> Gate:
    return Gate(time, random.Random(7))


def come(gate: Gate, source: str = "192.0.2.1") -> Guest:
    guest, _ = gate.admit(source)
    assert guest is not None
    return guest


def test_idle_strangers_give_way_to_newcomers(gate: Gate, time: Time) -> None:
    for number in range(64):
        gate.admit(f"198.51.100.{number}")
        time.now += 0.01
    time.now += gates.NEW_S
    for _ in range(200):
        customer, victim = gate.admit("192.0.2.9")
        assert customer is not None and victim is not customer
        customer.heard_bytes = gates.SPOKEN_BYTES
        gate.accept(customer)
        gate.leave(customer)


def test_who_has_hung_up_goes_first(gate: Gate) -> None:
    gate.accept(come(gate, "192.0.2.9"))
    waiting = [come(gate, "192.0.2.9") for _ in range(gates.WAITING_MAX)]
    gone = waiting[:8]
    for guest in gone:
        guest.gone = True
    for _ in gone:
        customer, victim = gate.admit("192.0.2.9")
        assert customer is not None and victim in gone
    assert not set(gone) & set(gate._guests)


def test_one_source_takes_its_share_alone(gate: Gate, time: Time) -> None:
    for _ in range(500):
        gate.admit("198.51.100.1")
    waiting = [guest for guest in gate._guests if guest.source == "198.51.100.1"]
    assert len(waiting) <= gates.WAITING_PER_SOURCE_MAX < gates.WAITING_MAX


def test_a_source_that_logged_in_is_known_and_goes_last(gate: Gate, time: Time) -> None:
    gate.accept(come(gate, "192.0.2.9"))
    waiting = [come(gate, "192.0.2.9") for _ in range(8)]
    for number in range(300):
        guest, _ = gate.admit(f"198.51.100.{number % 250}")
        if guest is not None:
            guest.heard_bytes = gates.SPOKEN_BYTES
    assert all(guest in gate._guests for guest in waiting), "strangers who speak are dropped before it"


def test_who_shows_no_key_in_time_goes_and_who_says_nothing_goes_sooner(gate: Gate, time: Time) -> None:
    silent, speaking, inside = come(gate), come(gate), come(gate)
    speaking.heard_bytes = inside.heard_bytes = gates.SPOKEN_BYTES
    gate.accept(inside)
    time.now += gates.SILENT_S
    assert gate.overdue() == []
    time.now += 0.1
    assert gate.overdue() == [silent]
    gate.leave(silent)
    time.now += gates.LOGIN_GRACE_S
    assert gate.overdue() == [speaking]


def test_the_door_is_shut_only_when_newcomers_lose_their_places_and_nobody_is_in(gate: Gate, time: Time) -> None:
    assert not gate.was_shut()
    for _ in range(10):
        come(gate)
    assert not gate.was_shut()
    for _ in range(200):
        gate.admit("198.51.100.1")
    assert gate.was_shut() and not gate.was_shut(), "each second is judged by itself"
    gate.accept(next(iter(gate._guests)))
    for _ in range(200):
        gate.admit("198.51.100.1")
    assert not gate.was_shut(), "somebody is inside"


def test_idle_strangers_do_not_shut_it(gate: Gate, time: Time) -> None:
    for number in range(64):
        gate.admit(f"198.51.100.{number}")
    gate.was_shut()
    time.now += gates.NEW_S
    for _ in range(50):
        gate.leave(come(gate, "192.0.2.9"))
    assert not gate.was_shut(), "only the silent lost their places"


@given(
    st.lists(st.tuples(st.integers(0, 6), st.sampled_from(["come", "speak", "accept", "leave", "wait"])), max_size=200)
)
def test_no_limit_is_ever_passed(steps: list[tuple[int, str]]) -> None:
    time = Time()
    gate = Gate(time, random.Random(1))
    guests: list[Guest] = []
    for number, what in steps:
        if what == "come":
            for _ in range(10):
                guest, victim = gate.admit(f"192.0.2.{number}")
                assert victim is None or (victim not in gate._guests and not victim.inside)
                if guest is not None:
                    guests.append(guest)
        elif what == "wait":
            time.now += number
        elif guests:
            guest = guests[number % len(guests)]
            if what == "speak":
                guest.heard_bytes += 1000
            elif what == "accept":
                gate.accept(guest)
            else:
                gate.leave(guest)
        waiting = [guest for guest in gate._guests if not guest.inside]
        assert len(waiting) <= gates.WAITING_MAX and gate.inside <= gates.SESSIONS_MAX + gates.WAITING_MAX


def test_what_counts_as_one_source() -> None:
    assert source_of("192.0.2.1") == source_of("::ffff:192.0.2.1") == "192.0.2.1"
    assert source_of("2001:db8:1:2::1") == source_of("2001:db8:1:2:ffff::9%eth0") != source_of("2001:db8:1:3::1")
    assert source_of("") == ""


Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def opened(tmp_path: Path, serve: Serve) -> AsyncIterator[tuple[doors.Door, list[bytes]]]:
    """A door before a server that stands for the one in the sandbox; the names of the connections as that sees them."""
    names: list[bytes] = []

    async def named(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        names.append(bytes(writer.get_extra_info("peername"))[1:])
        with contextlib.suppress(OSError):
            await serve(reader, writer)
        writer.close()

    inner = await asyncio.start_unix_server(named, tmp_path / "inner", backlog=200)
    door = doors.Door(doors.listen("127.0.0.1", 20_000, 40_000, 0, str(tmp_path)), str(tmp_path / "inner"))
    await door.open()
    try:
        yield door, names
    finally:
        await door.close()
        inner.close()


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(HELLO)
    while said := await reader.read(1000):
        writer.write(said)
        await writer.drain()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not condition():
            await asyncio.sleep(0.01)


async def visit(door: doors.Door) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
    assert await asyncio.wait_for(reader.readexactly(len(HELLO)), WAIT_S) == HELLO
    return reader, writer


def run(work: Awaitable[Any]) -> None:
    async def timed() -> None:
        await asyncio.wait_for(work, 60)

    asyncio.run(timed())


def test_a_hundred_idle_connections_lock_nobody_out(tmp_path: Path) -> None:
    async def work() -> None:
        async with opened(tmp_path, echo) as (door, names):
            idle = [await asyncio.open_connection("127.0.0.1", door.port) for _ in range(100)]
            for _ in range(5):
                reader, writer = await visit(door)
                writer.write(b"x" * gates.SPOKEN_BYTES)
                assert await reader.readexactly(gates.SPOKEN_BYTES) == b"x" * gates.SPOKEN_BYTES
                door.hear(names[-1] + b"\n")
                assert door._gate.inside == 1
                writer.close()
                await until(lambda: door._gate.inside == 0)
            assert len(door._connections) <= gates.WAITING_MAX
            for _, writer in idle:
                writer.close()

    run(work())


def test_when_the_server_closes_the_pair_is_closed_though_the_client_says_nothing(tmp_path: Path) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(HELLO)
        await writer.drain()

    async def work() -> None:
        async with opened(tmp_path, refuse) as (door, _):
            reader, writer = await visit(door)
            assert await asyncio.wait_for(reader.read(), WAIT_S) == b""
            await until(lambda: not door._connections)
            writer.close()

    run(work())


def test_a_client_that_closes_its_half_ends_the_pair(tmp_path: Path) -> None:
    async def work() -> None:
        async with opened(tmp_path, echo) as (door, _):
            reader, writer = await visit(door)
            writer.write(b"last words")
            writer.write_eof()
            assert await asyncio.wait_for(reader.read(), WAIT_S) == b"last words"
            await until(lambda: not door._connections)

    run(work())


def test_a_client_that_does_not_read_ends_with_the_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doors, "LINGER_S", 0.05)

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"x" * (32 << 20))
        await writer.drain()

    async def work() -> None:
        async with opened(tmp_path, flood) as (door, _):
            client = socket.create_connection(("127.0.0.1", door.port))
            await until(lambda: len(door._connections) == 1)
            client.shutdown(socket.SHUT_WR)
            await until(lambda: not door._connections)
            client.close()

    run(work())


def test_who_waits_too_long_is_dropped_and_who_is_inside_stays(tmp_path: Path) -> None:
    async def work() -> None:
        async with opened(tmp_path, echo) as (door, names):
            time = Time()
            door._gate = Gate(time)
            inside, stranger = await visit(door), await visit(door)
            door.hear(names[0][:2])
            door.hear(names[0][2:] + b"\nnonsense\n")
            time.now += gates.LOGIN_GRACE_S + 1
            door.tend()
            with contextlib.suppress(ConnectionError):
                assert await asyncio.wait_for(stranger[0].read(), WAIT_S) == b""
            await until(lambda: len(door._connections) == 1)
            inside[1].write(b"here")
            assert await inside[0].readexactly(4) == b"here"

    run(work())


def test_dead_peers_are_asked_for(tmp_path: Path) -> None:
    async def work() -> None:
        async with opened(tmp_path, echo) as (door, _):
            _, writer = await visit(door)
            [server] = door._server.sockets if door._server else ()
            assert server.getsockname()[1] == door.port
            [task] = door._connections.values()
            local = task.get_coro().cr_frame.f_locals["writer"].get_extra_info("socket")  # type: ignore[union-attr]
            assert local.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            assert local.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == doors.DEAD_PEER_MS
            writer.close()

    run(work())
