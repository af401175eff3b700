"""Lines of a batch that fail share their transactions, and none of them is lost with one that fails."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from sublet.gateway.batches.failing import FailedLines, Line


class Database:
    """Takes lines, one transaction at a time; `fails` says how many of these fail first."""

    def __init__(self, fails: int = 0) -> None:
        self.fails = fails
        self.written: list[list[Line]] = []

    async def write(self, some: Sequence[Line]) -> None:
        await asyncio.sleep(0)
        if self.fails:
            self.fails -= 1
            raise OSError("away")
        self.written.append(list(some))


def test_what_comes_meanwhile_shares_the_next_transaction() -> None:
    async def all_fail() -> Database:
        database = Database()
        lines = FailedLines(database.write)
        await asyncio.gather(*(lines.put(number, "no") for number in range(32)))
        await lines.put(32, "no")
        return database

    written = asyncio.run(all_fail()).written
    assert [number for some in written for number, _ in some] == list(range(33))
    assert len(written) <= 3


def test_each_line_is_told_of_a_failure_or_written() -> None:
    async def some_fail() -> tuple[Database, list[BaseException | None]]:
        database = Database(fails=2)
        lines = FailedLines(database.write)
        return database, await asyncio.gather(*(lines.put(number, "no") for number in range(5)), return_exceptions=True)

    database, told = asyncio.run(some_fail())
    assert [type(error) for error in told[:2]] == [OSError, OSError] and told[2:] == [None] * 3
    assert sorted(number for some in database.written for number, _ in some) == list(range(5))


def test_a_line_whose_request_ends_keeps_nobody_waiting() -> None:
    async def one_ends() -> Database:
        database = Database()
        lines = FailedLines(database.write)
        tasks = [asyncio.create_task(lines.put(number, "no")) for number in range(3)]
        await asyncio.sleep(0)
        tasks[0].cancel()
        with pytest.raises(asyncio.CancelledError):
            await tasks[0]
        await asyncio.gather(*tasks[1:])
        return database

    assert sorted(number for some in asyncio.run(one_ends()).written for number, _ in some) == [0, 1, 2]
