"""The supervisor, with small real processes as its children: one per data directory, restarts, and an end to all of it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.ports import free_port

from sublet.config.data_dir import running_system
from sublet.config.settings import Settings
from sublet.launch import supervisor as module
from sublet.launch.supervisor import (
    BACKOFF_S,
    CALM_S,
    AlreadyRunningError,
    Child,
    PortTakenError,
    Supervisor,
    bind,
    check_disk,
)
from sublet.values.errors import StorageFullError, UnavailableError

WAIT_S = 60.0

OBEYS = "sys.stdin.buffer.read()"
IGNORES = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\nready()\nwhile True: signal.pause()"
DIES = "print('out of memory at last', file=sys.stderr); sys.exit(3)"
TALKS = "while True: sys.stderr.write('x' * 10_000); sys.stderr.flush(); time.sleep(0.002)"
LIVES_ON_PIPE = "from sublet.launch.supervisor import live_on_pipe\nlive_on_pipe()\nready()\nwhile True: signal.pause()"
ANSWERS = """
import http.server
class Hello(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(str(os.getpid()).encode())
    def log_message(self, *words): pass
server = http.server.HTTPServer(('127.0.0.1', 0), Hello, bind_and_activate=False)
server.socket = socket.socket(fileno=int(sys.argv[sys.argv.index('--fd') + 1]))
server.serve_forever()
"""

FRAME = """
import os, signal, socket, sys, time
signal.alarm(120)  # whatever becomes of the test, none of these outlives it for long
def ready():
    with open(sys.argv[1], 'a') as starts: starts.write(f'{os.getpid()}\\n')
"""


class FakeSystem(Supervisor):
    """A supervisor whose processes do what the test says; each notes its number in `NAME.starts` when it is ready."""

    programs: dict[str, str] = {}  # noqa: RUF012

    def command(self, name: str) -> list[str]:
        program = self.programs.get(name, OBEYS)
        if "ready()" not in program:
            program = f"ready()\n{program}"
        return [sys.executable, "-c", FRAME + program, str(self.settings.data_dir / f"{name}.starts"), "--supervised"]

    def starts(self, name: str) -> list[int]:
        path = self.settings.data_dir / f"{name}.starts"
        return [int(line) for line in path.read_text().split()] if path.exists() else []


def until(holds: Callable[[], Any], what: str = "it to happen") -> None:
    tick = threading.Event()
    deadline = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < deadline, f"waited {WAIT_S} s for {what}"
        tick.wait(0.01)


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def settings_in(folder: Path, **ports: int) -> Settings:
    return Settings(
        data_dir=folder,
        control={"port": ports.get("control", 0)},  # type: ignore[arg-type]
        gateway={"port": ports.get("gateway", 0)},  # type: ignore[arg-type]
    )


@pytest.fixture
def system(tmp_path: Path) -> Iterator[FakeSystem]:
    made = FakeSystem(settings_in(tmp_path / "data"))
    yield made
    made.end()


def started(system: FakeSystem, **programs: str) -> FakeSystem:
    system.programs = programs
    system.take()
    system.launch()
    until(lambda: all(system.starts(name) for name in module.PROCESSES), "the processes to start")
    return system


def test_it_starts_every_process_and_says_so_and_leaves_nothing(system: FakeSystem, tmp_path: Path) -> None:
    started(system)
    state = running_system(tmp_path / "data")
    assert state is not None
    assert (state["pid"], state["control"]) == (os.getpid(), system.address("control"))
    children = list(state["processes"].values())
    assert sorted(state["processes"]) == sorted(module.PROCESSES)
    assert all(alive(process) for process in children)
    system.end()
    assert not any(alive(process) for process in children)
    assert running_system(tmp_path / "data") is None
    assert not (tmp_path / "data" / "up.json").exists()


def test_a_second_one_on_the_directory_is_refused_and_says_who_is_there(system: FakeSystem, tmp_path: Path) -> None:
    started(system)
    second = FakeSystem(settings_in(tmp_path / "data"))
    with pytest.raises(AlreadyRunningError) as caught:
        second.take()
    for words in (str(tmp_path / "data"), f"process {os.getpid()}", system.address("control"), "SUBLET_DATA_DIR"):
        assert words in caught.value.message
    second.end()
    assert running_system(tmp_path / "data") is not None, "the refused one took nothing away"
    third = FakeSystem(settings_in(tmp_path / "elsewhere"))
    third.take()
    third.end()


def test_looking_whether_it_runs_does_not_keep_it_from_starting(system: FakeSystem, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            running_system(tmp_path / "data")

    looking = [threading.Thread(target=look) for _ in range(2)]
    for thread in looking:
        thread.start()
    try:
        for _ in range(20):
            system.take()
            system.end()
    finally:
        done.set()
        for thread in looking:
            thread.join()


def test_a_taken_port_is_named_with_its_holder_and_its_setting(tmp_path: Path) -> None:
    port = free_port()
    with socket.create_server(("127.0.0.1", port)):
        system = FakeSystem(settings_in(tmp_path / "data", gateway=port))
        with pytest.raises(PortTakenError) as caught:
            system.take()
    comm = Path("/proc/self/comm").read_text().strip()
    assert f"port {port} on 127.0.0.1 is in use by {comm} (process {os.getpid()})" in caught.value.message
    assert "set gateway.port" in caught.value.message
    assert running_system(tmp_path / "data") is None, "the lock was let go"
    system.take()
    system.end()


def test_an_address_that_is_not_this_machines_is_refused() -> None:
    with pytest.raises(PortTakenError, match=r"192\.0\.2\.1:8080 can't be bound .*set control\.port"):
        bind("192.0.2.1", 8080, "control.port")


def test_a_process_that_dies_comes_back_on_the_same_port(system: FakeSystem) -> None:
    started(system, control=ANSWERS)

    def ask() -> int:
        with urllib.request.urlopen(system.address("control"), timeout=WAIT_S) as answer:
            return int(answer.read())

    first = ask()
    os.kill(first, signal.SIGKILL)
    until(lambda: not alive(first))
    answer: list[int] = []
    asking = threading.Thread(target=lambda: answer.append(ask()))
    asking.start()  # nobody serves now: the caller waits in the socket's queue instead of being refused
    until(lambda: system.tend() or len(system.starts("control")) == 2, "the process to come back")
    asking.join(WAIT_S)
    assert answer == [system.starts("control")[1]]
    assert answer != [first]


class Moments:
    """A monotonic clock that the test moves; everything else of `time` is real."""

    def __init__(self) -> None:
        self.present = 1000.0

    def monotonic(self) -> float:
        return self.present

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)


def test_what_keeps_dying_is_started_ever_more_slowly(system: FakeSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    moments = Moments()
    monkeypatch.setattr(module, "time", moments)
    started(system, engines=DIES)
    child = system.children["engines"]
    for deaths in range(1, 8):
        assert child.process is not None
        child.process.wait(WAIT_S)
        system.tend()
        assert (child.process, child.failures) == (None, deaths)
        pause_s = BACKOFF_S[min(deaths, len(BACKOFF_S) - 1)]
        moments.present += pause_s - 0.01
        system.tend()
        assert child.process is None, "started before its pause was over"
        moments.present += 0.02
        system.tend()
    assert child.process is not None
    child.process.wait(WAIT_S)
    moments.present += CALM_S + 1
    system.tend()
    assert child.failures == 0, "a long life forgives"


def test_a_process_that_never_starts_is_reported_with_its_last_words(system: FakeSystem) -> None:
    started(system, engines=DIES)
    with pytest.raises(
        UnavailableError, match="engines did not start: it ended with exit code 3: out of memory at last"
    ):
        system.wait_ready(lambda name: name != "engines")


def ended(system: FakeSystem, name: str) -> str:
    """How the supervisor says that a process ended, once it knows."""
    child = system.children[name]
    until(lambda: system.tend() or child.end, f"the end of {name}")
    return child.end


def test_a_process_that_was_killed_is_said_to_be_and_nothing_else_is_quoted(system: FakeSystem) -> None:
    started(system, engines="print('an old story', file=sys.stderr, flush=True)\n" + OBEYS)
    until(lambda: system.last_words("engines") == "an old story")
    os.kill(system.starts("engines")[0], signal.SIGKILL)
    assert ended(system, "engines") == "was ended by signal 9 (SIGKILL)"


def test_the_words_of_a_process_belong_to_its_end_only_where_it_said_them_just_then(
    system: FakeSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    moments = Moments()
    monkeypatch.setattr(module, "time", moments)
    started(system, engines="print('an old story', file=sys.stderr, flush=True)\n" + OBEYS + "; sys.exit(4)")
    until(lambda: system.last_words("engines") == "an old story")
    system.tend()
    moments.present += module.WORDS_S_MAX + 0.1
    process = system.children["engines"].process
    assert process is not None and process.stdin is not None
    process.stdin.close()
    assert ended(system, "engines") == "ended with exit code 4"
    assert system.how_it_ended(Child("control", None), -signal.SIGRTMIN - 1).startswith("was ended by signal")


def test_what_a_process_says_as_it_aborts_is_quoted(system: FakeSystem) -> None:
    started(system, engines="print('terminate called', file=sys.stderr, flush=True); os.abort()")
    assert ended(system, "engines") == "was ended by signal 6 (SIGABRT): terminate called"


def test_waiting_for_readiness_ends_when_asked_to_stop(system: FakeSystem) -> None:
    started(system)
    asked: list[str] = []

    def never(name: str) -> bool:
        asked.append(name)
        system.stop()
        return False

    system.wait_ready(never)
    assert len(asked) == len(module.PROCESSES)


def test_a_disk_that_is_full_for_a_moment_does_not_end_the_others(
    system: FakeSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    started(system)
    victim = system.starts("engines")[0]
    monkeypatch.setattr("sublet.launch.supervisor.subprocess.Popen", _no_space)
    os.kill(victim, signal.SIGKILL)
    until(lambda: system.tend() or system.children["engines"].failures >= 2, "two failed starts")
    assert system.children["engines"].process is None
    assert alive(system.starts("control")[0])
    monkeypatch.undo()
    until(lambda: system.tend() or len(system.starts("engines")) == 2, "the process to come back")


def _no_space(*arguments: Any, **named: Any) -> Any:
    raise OSError(28, "No space left on device")


def test_what_ignores_the_polite_end_is_killed_within_the_time(
    system: FakeSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "STOP_S_MAX", 0.3)
    started(system, control=IGNORES, engines=IGNORES)
    children = [system.starts(name)[0] for name in module.PROCESSES]
    system.end()
    assert not any(alive(process) for process in children)


FINISHES = """
import threading
import sublet.launch.supervisor
asked = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: asked.set())
ready()
asked.wait()
engine = int(open(sys.argv[1].replace('gateway', 'engines')).read())
time.sleep(0.3)
os.kill(engine, 0)
open(sys.argv[1] + '.finished', 'w').close()
"""
GOES_AT_THE_SECOND_WORD = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\nready()\nwhile True: signal.pause()"


def test_answers_under_way_are_finished_before_the_engines_that_give_them_end(
    system: FakeSystem, tmp_path: Path
) -> None:
    started(system, gateway=FINISHES)
    system.end()
    assert (tmp_path / "data" / "gateway.starts.finished").exists()


def test_who_asks_twice_waits_for_no_answer(system: FakeSystem) -> None:
    assert system.settings.gateway.drain_s_max > 5
    started(system, gateway=GOES_AT_THE_SECOND_WORD)
    begun = time.monotonic()
    system.hurry()
    system.end()
    assert time.monotonic() - begun < 5


def test_the_stop_leaves_room_within_ten_seconds() -> None:
    assert module.STOP_S_MAX <= 5


def test_what_a_process_says_on_standard_error_is_bounded(
    system: FakeSystem, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(module, "STDERR_BYTES_MAX", 1_000_000)
    started(system, engines=TALKS)
    said = tmp_path / "data" / "logs" / "engines.stderr"
    for _ in range(3):
        until(lambda: said.stat().st_size > 1_000_000, "the file to fill")
        system.tend()
        assert said.stat().st_size < 1_000_000
    until(lambda: said.stat().st_size, "the process to go on")
    with open(said, "rb") as content:
        assert content.read(1) == b"x", "no hole is left at its beginning"


PARENT = """
import sys
from pathlib import Path
sys.path.insert(0, {root!r})
from tests.foundation.test_supervisor import LIVES_ON_PIPE, IGNORES, FakeSystem, settings_in, started
system = FakeSystem(settings_in(Path({folder!r}), control={port}))
started(system, control={control}, gateway=LIVES_ON_PIPE, engines=LIVES_ON_PIPE)
print("up", flush=True)
system.run()
"""


@pytest.mark.parametrize("control", ["LIVES_ON_PIPE", "IGNORES"])
def test_a_killed_supervisor_takes_its_processes_along_and_the_next_start_works_at_once(
    tmp_path: Path, control: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    folder = tmp_path / "data"
    program = textwrap.dedent(PARENT).format(root=str(Path.cwd()), folder=str(folder), port=port, control=control)
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    try:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "up\n"
        system = FakeSystem(settings_in(folder, control=port))
        children = [system.starts(name)[0] for name in module.PROCESSES]
        assert all(alive(process) for process in children)
        parent.kill()
        parent.wait(WAIT_S)
        if control == "IGNORES":
            monkeypatch.setattr(module, "ORPHANS_S_MAX", 0.5)
        system.take()
        system.end()
        until(lambda: not any(alive(process) for process in children), "the children to go")
    finally:
        parent.kill()
        parent.communicate()


def test_after_a_kill_a_port_may_be_let_go_late(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "up.json").write_text('{"processes": {"control": 4194304}}')
    system = FakeSystem(settings_in(tmp_path / "data", control=port))
    with socket.create_server(("127.0.0.1", port)) as held:
        monkeypatch.setattr("sublet.launch.supervisor.time.sleep", lambda _: held.close())
        system.take()
    system.end()


def test_another_programs_process_is_not_taken_for_an_orphan(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE) as stranger:
        (tmp_path / "up.json").write_text(f'{{"processes": {{"control": {stranger.pid}}}}}')
        module.end_orphans(tmp_path)
        assert stranger.poll() is None


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"processes": 5}', '{"processes": {"control": "x"}}'])
def test_a_damaged_state_file_is_no_obstacle(system: FakeSystem, tmp_path: Path, content: str) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "up.json").write_text(content)
    assert running_system(tmp_path / "data") is None
    system.take()


def test_a_disk_with_too_little_room_is_refused_before_anything_starts(
    system: FakeSystem, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(module, "FREE_BYTES_MIN", 10**18)
    with pytest.raises(StorageFullError, match=r"MiB free and Sublet needs .* MiB; free some space, or set data_dir"):
        check_disk(tmp_path)
    with pytest.raises(StorageFullError):
        system.take()
    assert running_system(tmp_path / "data") is None


def test_a_data_directory_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UnavailableError, match=r"data_dir .* can't be used .*; make it writable"):
        FakeSystem(settings_in(tmp_path / "file" / "data")).take()
