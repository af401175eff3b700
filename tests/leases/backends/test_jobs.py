"""Jobs on this machine, for real: a command runs once to its end, whatever is killed, and what it printed is kept."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.leases.machine import kill, kill_shim, local_settings

from sublet.leases.backends.base import Observation, RunState, StartOrder
from sublet.leases.backends.job import JOB_DONE, JobOrder
from sublet.leases.backends.local import jobs
from sublet.leases.backends.local.backend import LocalBackend
from sublet.leases.backends.local.files import LeaseFiles
from sublet.leases.backends.local.jobs import JobFiles, JobLog
from sublet.values.ids import new_id

WAIT_S = 60
real = pytest.mark.real


def order(script: str, seconds: float = 300, **job: object) -> StartOrder:
    command = JobOrder(("bash", "-c", script), {"SUBLET_ARRAY_INDEX": "3"}, **job)  # type: ignore[arg-type]
    end = datetime.now(UTC) + timedelta(seconds=seconds)
    return StartOrder(new_id("lse"), "org_a", ("cpu:0",), (), end, job=command)


def until(backend: LocalBackend, lease_id: str, wanted: Callable[[Observation], bool]) -> Observation:
    deadline = time.monotonic() + WAIT_S
    while not wanted(seen := backend.observe(lease_id)):
        assert time.monotonic() < deadline, seen
        time.sleep(0.02)
    return seen


def again(backend: LocalBackend, wanted: StartOrder) -> None:
    """As the plan does: until it is no longer paused, for a shim that ends holds the lease a moment longer."""
    deadline = time.monotonic() + WAIT_S
    while backend.start(wanted).state is RunState.PAUSED:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def printed(backend: LocalBackend, lease_id: str, text: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while text not in backend.job_log(lease_id, 0).text:
        assert time.monotonic() < deadline, backend.observe(lease_id)
        time.sleep(0.02)


def over(seen: Observation) -> bool:
    return seen.state.over


@real
def test_a_command_runs_to_its_end_and_the_lease_with_it(tmp_path: Path) -> None:
    backend = LocalBackend(local_settings(tmp_path))
    wanted = order("echo out $SUBLET_ARRAY_INDEX $SUBLET_ATTEMPT; echo err >&2; echo kept > file; sleep 0.2; exit 7")
    backend.start(wanted)
    seen = until(backend, wanted.lease_id, over)
    assert (seen.state, seen.reason, seen.clean) == (RunState.STOPPED, JOB_DONE, True)
    assert [(item.attempt, item.code) for item in seen.exits] == [(1, 7)]
    assert seen.deliveries and backend.job_log(wanted.lease_id, 0).text == "out 3 1\nerr\n"
    backend.start(wanted)
    assert backend.observe(wanted.lease_id).exits == seen.exits
    backend.forget(wanted.lease_id)
    assert JobFiles(tmp_path, wanted.lease_id).exits() == seen.exits
    assert backend.job_log(wanted.lease_id, 4).text == "3 1\nerr\n"


@real
def test_a_command_that_fails_is_tried_again_as_often_as_asked(tmp_path: Path) -> None:
    backend = LocalBackend(local_settings(tmp_path))
    wanted = order("echo $SUBLET_ATTEMPT; test $SUBLET_ATTEMPT = 2 || kill -9 $$", retries=3)
    backend.start(wanted)
    seen = until(backend, wanted.lease_id, over)
    assert [(item.attempt, item.code) for item in seen.exits] == [(1, 137), (2, 0)]
    assert backend.job_log(wanted.lease_id, 0).text == "1\n2\n" and seen.reason == JOB_DONE


@real
def test_a_paused_command_hears_of_it_and_runs_again_in_its_home(tmp_path: Path) -> None:
    backend = LocalBackend(local_settings(tmp_path))
    script = "trap 'echo saved >> state; echo bye; exit 0' TERM; test -f state && exit 0; echo up; while :; do sleep 0.1; done"
    wanted = replace(order(script, grace_s=2), pausable=True, volumes=())
    backend.start(wanted)
    printed(backend, wanted.lease_id, "up")
    soon = datetime.now(UTC) + timedelta(seconds=2)
    backend.notice(wanted.lease_id, soon, "soon")
    seen = until(backend, wanted.lease_id, lambda seen: seen.state is RunState.PAUSED)
    assert seen.exits == () and backend.job_log(wanted.lease_id, 0).text.endswith("bye\n")
    again(backend, replace(wanted, devices=("cpu:1",)))
    seen = until(backend, wanted.lease_id, over)
    assert [item.code for item in seen.exits] == [0] and seen.reason == JOB_DONE


@real
def test_a_command_whose_window_is_over_has_no_result(tmp_path: Path) -> None:
    backend = LocalBackend(local_settings(tmp_path))
    wanted = order("trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.1; done", seconds=5, grace_s=4)
    backend.start(wanted)
    seen = until(backend, wanted.lease_id, over)
    assert seen.exits == () and seen.reason == "window_over"
    assert datetime.now(UTC) < wanted.ends_at, "it left when it had ended"
    assert backend.job_log(wanted.lease_id, 0).text.endswith("bye\n")


@real
def test_whatever_is_killed_a_finished_command_never_runs_again_and_another_does(tmp_path: Path) -> None:
    backend = LocalBackend(local_settings(tmp_path))
    wanted = order("echo run; test -f twice && exit 5; touch twice; sync; while :; do sleep 0.1; done")
    backend.start(wanted)
    printed(backend, wanted.lease_id, "run\n")
    kill_shim(tmp_path, wanted.lease_id)
    seen = until(backend, wanted.lease_id, lambda seen: seen.state is RunState.PAUSED)
    assert seen.exits == ()
    # The shim dies between the exit, which PID 1 wrote down, and what it would have said of it.
    record = JobFiles(tmp_path, wanted.lease_id)
    deadline = time.monotonic() + WAIT_S
    again(backend, wanted)
    state = LeaseFiles(tmp_path, wanted.lease_id).read_state()
    assert state is not None
    while not record.exits():
        assert time.monotonic() < deadline
    kill(state.pid) if Path(f"/proc/{state.pid}").exists() else None
    again(backend, wanted)
    seen = until(backend, wanted.lease_id, over)
    assert [item.code for item in seen.exits] == [5] and backend.job_log(wanted.lease_id, 0).text == "run\nrun\n"


@real
def test_a_command_that_is_not_there_exits_with_127_and_says_so(tmp_path: Path) -> None:
    backend = LocalBackend(local_settings(tmp_path))
    wanted = replace(order(""), job=JobOrder(("no-such-program",)))
    backend.start(wanted)
    seen = until(backend, wanted.lease_id, over)
    assert [item.code for item in seen.exits] == [127]
    assert "no-such-program: No such file" in backend.job_log(wanted.lease_id, 0).text


@real
def test_a_tenant_neither_reaches_the_record_nor_ends_more_than_its_own_lease(tmp_path: Path) -> None:
    backend = LocalBackend(local_settings(tmp_path))
    wanted = order("ls /proc/1/fd 2>&1; echo '1 0 5' > /proc/1/fd/9; kill -HUP 1; ls /proc/self/fd | wc -l; exit 3")
    backend.start(wanted)
    seen = until(backend, wanted.lease_id, over)
    text = backend.job_log(wanted.lease_id, 0).text
    assert [item.code for item in seen.exits] == [3] and "Permission denied" in text and text.endswith("4\n")


def test_only_whole_lines_of_the_record_are_exits(tmp_path: Path) -> None:
    files = JobFiles(tmp_path, "lse_a")
    assert files.exits() == ()
    files.root.mkdir(parents=True)
    (files.root / "record").write_bytes(b"1 3 5000000\nnonsense\n1 0 6000000\n2 0 7000000\n3 \xff")
    assert [(item.attempt, item.code) for item in files.exits()] == [(1, 3), (2, 0)]


def test_a_log_is_bounded_and_says_where_it_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "LOG_FILE_BYTES", 10)
    files = JobFiles(tmp_path, "lse_a")
    files.root.mkdir(parents=True)
    log = JobLog(files)
    for number in range(5):
        log.write(f"line {number}\n".encode())
    log = JobLog(files)
    log.write("é".encode())
    part = files.read_log(0)
    assert part.offset > 0 and len(files.log_files()) == jobs.LOG_FILES_MAX
    rest = files.read_log(part.next)
    assert (part.text + rest.text).endswith("line 4\né") and files.read_log(rest.next).text == ""
    assert files.read_log(rest.next - 2).text == "é" and files.read_log(10**9).text == ""


def test_old_records_go_and_those_of_live_leases_stay(tmp_path: Path) -> None:
    for name in ("lse_a", "lse_b"):
        (tmp_path / "jobs" / name).mkdir(parents=True)
    jobs.purge(tmp_path, 30, frozenset())
    assert (tmp_path / "jobs" / "lse_a").exists()
    jobs.purge(tmp_path, -1, frozenset({"lse_b"}))
    assert [entry.name for entry in (tmp_path / "jobs").iterdir()] == ["lse_b"]
