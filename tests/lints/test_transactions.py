"""The rule about second connections finds those that the source shows, and lets be who passes the first one on."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.docs.manual import tool

transactions = tool("transactions")

FLEET = """
class Fleet:
    def __init__(self, store: Store) -> None:
        self._store = store

    def pool(self, name, connection: Connection | None = None):
        if connection is None:
            with self._store.read() as reading:
                return self.pool(name, reading)
        return name
"""


def _breaches(tmp_path: Path, **sources: str) -> list[str]:
    for name, source in sources.items():
        (tmp_path / f"{name}.py").write_text(source)
    return list(transactions.Sources(transactions.modules_of(tmp_path, tmp_path)).breaches())


HOUSE = """
class House:
    def __init__(self, store: Store, fleet: Fleet) -> None:
        self.store = store
        self.fleet = fleet

    def name(self):
        return self.{call}

    def count(self, connection: Connection):
        return self.{call}
"""


@pytest.mark.parametrize("call", ["fleet.pool('a')", "store.read()", "store.write(print)", "name()"])
def test_who_was_given_a_connection_takes_no_second_one(tmp_path: Path, call: str) -> None:
    made = HOUSE.replace("return self.{call}", "return self.fleet.pool('a')", 1).format(call=call)
    (found,) = _breaches(tmp_path, fleet=FLEET, house=made)
    assert found.startswith("house.py:11") and "second connection" in found


def test_what_is_given_to_write_is_inside_one(tmp_path: Path) -> None:
    source = """
def total(store):
    with store.read() as connection:
        return connection

def change(store):
    def write(connection: Connection):
        return total(store)

    store.write(write)
    store.write(lambda connection: total(store))
"""
    assert [line.split(":")[1] for line in _breaches(tmp_path, change=source)] == ["8", "11"]


def test_a_read_inside_a_read_is_found(tmp_path: Path) -> None:
    source = "def f(store):\n    with store.read() as one:\n        with store.read() as two:\n            return two\n"
    (found,) = _breaches(tmp_path, f=source)
    assert found.startswith("f.py:3")


def test_nothing_is_told_while_a_read_is_open(tmp_path: Path) -> None:
    source = "def f(store):\n    with store.read() as one:\n        yield one\n"
    (found,) = _breaches(tmp_path, f=source)
    assert "give the connection back" in found


def test_passing_the_connection_on_is_fine(tmp_path: Path) -> None:
    made = HOUSE.format(call="fleet.pool('a', connection)")
    assert _breaches(tmp_path, fleet=FLEET, house=made) == []
