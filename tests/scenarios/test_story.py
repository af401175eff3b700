"""The whole story against the real sandbox and the real model; then again while its processes are killed."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from sublet.leases.backends.local.files import LeaseFiles
from sublet.store import Store
from sublet.store.tables import leases as lease_tables
from sublet.store.tables import ledger as ledger_tables
from sublet.story.stage import Stage, UpProcess
from sublet.story.steps import STEPS
from sublet.values.errors import UnavailableError

pytestmark = [pytest.mark.real, pytest.mark.timeout(600)]

HOLD_S = 60
CLEARED_S_MAX = 30
VICTIMS = ("control", "gateway", "engines", "shim", "supervisor")


def test_the_story_as_it_is_told(stage: Stage, theatre: UpProcess, remains: Callable[[], list[str]]) -> None:
    seen = {name: step(stage) for name, step in STEPS.items()}
    pool = stage.facts["pool"]
    assert seen["own"]["accelerators"] == pool["accelerators"] > 0
    assert seen["need"]["imported_hours"] == 4 * 7 * 24
    # No history: nothing firm, and at most half of what is idle.
    assert seen["need"]["on_sale_without_history"]["firm"] == 0
    assert seen["need"]["on_sale_without_history"]["notice"] <= (pool["accelerators"] + 1) // 2
    assert sum(item["count"] for item in seen["spare"]["withheld"]) + _shortest_notice(stage) == pool["accelerators"]
    inside = " ".join(seen["sell_raw"]["seen_inside"])
    assert "user: tenant uid 1000" in inside
    assert "network: lo" in inside
    assert "root writable: no" in inside
    assert seen["sell_managed"]["tokens_output"] > 0
    assert seen["sell_managed"]["events"] > 2, "the answer was not streamed"
    assert seen["reclaim"]["ssh_refused"]
    assert seen["reclaim"]["notice_inside"]["reclaim_at"]
    assert seen["reclaim"]["terminal"], "the open terminal saw no notice"
    assert float(seen["reclaim"]["credit"]) > 0
    assert float(seen["earn"]["difference"]) == 0
    assert seen["worth"]["per_accelerator_hour"] > 0
    assert len(seen["worth"]["comparables"]) == 2
    assert all(item["source"] for item in seen["worth"]["comparables"])
    check_books(theatre, stage)
    assert theatre.stop() < 10
    assert remains() == []


def test_the_story_on_postgresql(on_postgres: UpProcess, remains: Callable[[], list[str]]) -> None:
    stage = Stage(on_postgres, print)
    try:
        seen = {name: step(stage) for name, step in STEPS.items()}
    finally:
        stage.close()
    assert float(seen["earn"]["difference"]) == 0
    check_books(on_postgres, stage)
    assert on_postgres.stop() < 10
    assert remains() == []


@pytest.mark.parametrize("victim", VICTIMS)
def test_the_story_survives_the_death_of(
    victim: str, stage: Stage, theatre: UpProcess, remains: Callable[[], list[str]]
) -> None:
    seed = int(os.environ.get("SUBLET_TEST_SEED", random.randrange(10**6)))
    print(f"SUBLET_TEST_SEED={seed}")
    chance = random.Random(seed)
    for name, step in STEPS.items():
        kill(theatre, victim)
        killer = threading.Thread(target=_later, args=(theatre, victim, chance.uniform(0, 2.5)))
        killer.start()
        try:
            step(stage)
        except UnavailableError as error:
            raise AssertionError(f"{name} did not survive the death of {victim} (seed {seed}): {error}") from error
        finally:
            killer.join()
    ensure_up(theatre)
    check_books(theatre, stage)
    assert theatre.stop() < 10
    assert remains() == []


def test_a_second_system_on_the_same_directory_says_what_is_in_the_way(theatre: UpProcess) -> None:
    with pytest.raises(UnavailableError, match=r"is already running on .* .process"):
        UpProcess(theatre.config).start()


def check_books(theatre: UpProcess, stage: Stage) -> None:
    """No lease lost or doubled, no usage lost or billed twice, the credit given once, every transaction balanced."""
    store = Store(theatre.settings.database_url)
    try:
        left = _without_holds(store)
        with store.read() as connection:
            leases = connection.execute(select(lease_tables.leases)).all()
            events = connection.execute(select(ledger_tables.events)).all()
            granted = connection.execute(select(ledger_tables.credit_grants)).all()
            lines = connection.execute(select(ledger_tables.lines)).all()
            postings = connection.execute(select(ledger_tables.postings)).all()
    finally:
        store.close()
    assert [row.state for row in leases] == ["ended"]
    assert leases[0].end_reason == "reclaimed"
    assert not left, f"an accelerator is still held: {left}"
    used = [row for row in events if row.meter == "accelerator.seconds"]
    assert sum(row.quantity for row in used) == leases[0].metered_s * 1000
    window = (leases[0].ended_at - leases[0].active_at).total_seconds()
    assert 0 < leases[0].metered_s <= window + 1
    assert max(Counter((row.source, row.event_id) for row in events).values()) == 1
    assert Counter(row.event_seq for row in lines) == Counter(row.seq for row in events), "rated other than once"
    assert len(granted) == 1
    sums: Counter[int] = Counter()
    for row in postings:
        sums[row.transaction_no] += row.nano
    assert not any(sums.values())
    assert stage.facts["invoice"]["total"]


def _without_holds(store: Store) -> list[Any]:
    """The fences that stand once what was quoted has been let go. A client that dies between quote and lease, or is cut off there,
    leaves a hold: it has an end, and the control plane removes it then without being asked."""
    deadline = time.monotonic() + HOLD_S + CLEARED_S_MAX
    while True:
        with store.read() as connection:
            fences = list(connection.execute(select(lease_tables.fences)).all())
        if all(row.expires_at is None for row in fences) or time.monotonic() > deadline:
            return fences
        time.sleep(0.2)


def kill(theatre: UpProcess, victim: str) -> None:
    """SIGKILL one process of the system, where it is there now; start the system again where that ended it."""
    pid = _pid_of(theatre, victim)
    if pid is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    if victim == "supervisor":
        if theatre.process is not None and theatre.process.pid == pid:
            # A killed process takes its time on a busy machine, and until then it looks as if it ran.
            theatre.process.wait(60)
        ensure_up(theatre)


def ensure_up(theatre: UpProcess) -> None:
    if theatre.process is None or theatre.process.poll() is not None or not theatre.pids():
        if theatre.process is not None:
            theatre.process.wait()
            assert theatre.process.stdout is not None
            theatre.process.stdout.close()
        deadline = time.monotonic() + 60
        while True:
            try:
                theatre.start()
                return
            except UnavailableError:
                # The children of the killed supervisor may need a moment to let go.
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)


def _later(theatre: UpProcess, victim: str, delay_s: float) -> None:
    time.sleep(delay_s)
    kill(theatre, victim)


def _pid_of(theatre: UpProcess, victim: str) -> int | None:
    if victim != "shim":
        return theatre.pids().get(victim)
    base = Path(theatre.settings.data_dir) / "leases"
    for folder in base.glob("lse_*"):
        files = LeaseFiles(base, folder.name)
        state = files.read_state()
        if state is not None and state.pid and files.held():
            return state.pid
    return None


def _shortest_notice(stage: Stage) -> int:
    rungs = [rung for rung in stage.facts["ladder"]["rungs"] if rung["class"] == "notice"]
    return int(rungs[-1]["count"])
