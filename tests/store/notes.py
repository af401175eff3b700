"""A table of the tests' own, and a writer that can be held up."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, text

from sublet.store import Store
from sublet.store.writer import Writer

WAIT_S = 60.0


def with_notes(store: Store) -> Store:
    with store.engine.begin() as connection:
        connection.execute(text("CREATE TABLE notes (id BIGINT PRIMARY KEY, word TEXT NOT NULL)"))
    return store


def note(number: int, word: str = "x") -> Callable[[Connection], int]:
    """A write that adds one row and returns its number."""

    def write(connection: Connection) -> int:
        connection.execute(text("INSERT INTO notes VALUES (:id, :word)"), {"id": number, "word": word})
        return number

    return write


def numbers(store: Store) -> list[int]:
    with store.read() as connection:
        return list(connection.execute(text("SELECT id FROM notes ORDER BY id")).scalars())


def spawn(call: Callable[[], Any]) -> Future[Any]:
    """`call` in a thread of its own."""
    done: Future[Any] = Future()

    def run() -> None:
        try:
            done.set_result(call())
        except BaseException as error:
            done.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return done


@contextmanager
def held(store: Store, waiting: int) -> Iterator[list[Future[Any]]]:
    """Hold SQLite's writer; on leaving, wait until `waiting` writes stand in its queue, then let them go as one batch."""
    writer = store._writer
    assert isinstance(writer, Writer)
    inside, go = threading.Event(), threading.Event()

    def block(connection: Connection) -> None:
        inside.set()
        assert go.wait(WAIT_S)

    blocker = spawn(lambda: store.write(block))
    assert inside.wait(WAIT_S)
    queued: list[Future[Any]] = []
    try:
        yield queued
        tick = threading.Event()
        for _ in range(int(WAIT_S / 0.005)):
            if writer._waiting.qsize() >= waiting:
                break
            tick.wait(0.005)
        assert writer._waiting.qsize() >= waiting
    finally:
        go.set()
        blocker.result(WAIT_S)
