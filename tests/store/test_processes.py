"""Several processes on one SQLite file: nobody loses a write that was acknowledged, not even to SIGKILL."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from sqlalchemy import text
from tests.store.notes import WAIT_S, numbers, with_notes

from sublet.store import Store

WRITER = """
import sys
from sqlalchemy import text
from sublet.store import Store
store = Store(sys.argv[1])
first, count = int(sys.argv[2]), int(sys.argv[3])
for number in range(first, first + count):
    store.write(lambda connection: connection.execute(text("INSERT INTO notes VALUES (:id, 'x')"), {"id": number}))
    print(number, flush=True)
store.close()
"""

MIGRATOR = """
import sys
from sublet.store import Store
from sublet.store.schema import migrate
store = Store(sys.argv[1])
sys.stdin.read(1)
migrate(store)
store.close()
"""


def _start(program: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_killed_process_loses_nothing_that_was_acknowledged_and_stops_nobody(store: Store) -> None:
    with_notes(store)
    url = str(store.url)
    writers = [_start(WRITER, url, str(first), "150") for first in (0, 1000)]
    victim = _start(WRITER, url, "5000", "100000")
    assert victim.stdout is not None
    acknowledged = [int(victim.stdout.readline()) for _ in range(30)]
    victim.send_signal(signal.SIGKILL)
    acknowledged += [int(line) for line in victim.communicate(timeout=WAIT_S)[0].splitlines() if line.strip()]
    for writer in writers:
        _, complaints = writer.communicate(timeout=WAIT_S)
        assert writer.returncode == 0, complaints
    found = numbers(store)
    assert set(acknowledged) <= set(found)
    assert [number for number in found if number < 5000] == [*range(150), *range(1000, 1150)]
    assert len([number for number in found if number >= 5000]) - len(acknowledged) in (0, 1), "one may be in flight"
    with store.read() as connection:
        assert connection.execute(text("PRAGMA integrity_check")).scalar_one() == "ok"


def test_several_processes_may_bring_up_a_fresh_database_at_once(tmp_path: Path) -> None:
    starters = [_start(MIGRATOR, f"sqlite:///{tmp_path}/new/sublet.db") for _ in range(4)]
    for starter in starters:
        assert starter.stdin is not None
        starter.stdin.write("x")
        starter.stdin.flush()
    for starter in starters:
        _, complaints = starter.communicate(timeout=WAIT_S)
        assert starter.returncode == 0, complaints
