"""Drain hooks, for real: they run when notice is given, know how much time is left, and delay nothing."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.leases.machine import client_key, local_settings, tenant

from sublet.leases.backends.base import RunState
from sublet.leases.backends.local.backend import LocalBackend
from sublet.leases.backends.local.inside import drain

pytestmark = pytest.mark.real
FOLDER = "~/.config/sublet/drain.d"
SAVES = " && ".join(
    [
        f"mkdir -p {FOLDER}",
        f"cd {FOLDER}",
        r"""printf '#!/bin/sh\necho "$SUBLET_SECONDS_LEFT $SUBLET_DRAIN_REASON" > ~/saved\n' > 10-save""",
        r"printf '#!/nowhere\n' > 15-broken",
        r"printf '#!/bin/sh\necho hanging; sleep 600\n' > 20-hang",
        "echo no > 30-not-executable",
        "chmod +x 10-save 15-broken 20-hang",
    ]
)


def test_hooks_save_what_is_there_and_never_delay_the_give_back(tmp_path: Path) -> None:
    backend = LocalBackend(local_settings(tmp_path))
    lease = tenant(backend, tmp_path, client_key(tmp_path))
    assert lease.run(SAVES)[0] == 0
    reclaim_at = datetime.now(UTC) + timedelta(seconds=8)
    backend.notice(lease.lease_id, reclaim_at, "*** taken back ***")
    deadline = time.monotonic() + 6
    saved = ""
    while not saved and time.monotonic() < deadline:
        saved = lease.run("cat ~/saved 2>/dev/null")[1]
    seconds, reason = saved.split()
    assert 1 <= int(seconds) <= 8 and reason == "terminate"
    log = lease.run("cat ~/.local/state/sublet/drain.log")[1]
    assert "10-save: exited with 0" in log and "15-broken: could not be started" in log
    lease.wait(RunState.STOPPED)
    assert lease.seen.clean and lease.seen.reason == "reclaimed"
    assert datetime.now(UTC) - reclaim_at < timedelta(seconds=10)
    kept = backend.job_log(lease.lease_id, 0).text
    assert "10-save: exited with 0" in kept and "hanging" in kept and "20-hang: killed" in kept
    backend.forget(lease.lease_id)
    assert backend.job_log(lease.lease_id, 0).text == kept, "it outlives the lease"


def test_each_end_runs_the_hooks_once_and_one_that_is_withdrawn_runs_none(tmp_path: Path) -> None:
    backend = LocalBackend(local_settings(tmp_path))
    lease = tenant(backend, tmp_path, client_key(tmp_path), seconds=3600)
    try:
        count = (
            f"mkdir -p {FOLDER} && printf '#!/bin/sh\\necho x >> ~/runs\\n' > {FOLDER}/count && chmod +x {FOLDER}/count"
        )
        assert lease.run(count)[0] == 0
        at = datetime.now(UTC) + timedelta(seconds=1200)
        for moment in (at, at, at + timedelta(seconds=60)):
            backend.notice(lease.lease_id, moment, "*** taken back ***")
            assert lease.run("sleep 0.3")[0] == 0
        backend.withdraw_notice(lease.lease_id)
        assert lease.run("sleep 0.5; cat ~/runs")[1].split() == ["x", "x"]
    finally:
        assert lease.stop().clean


def test_hidden_and_too_many_files_are_no_hooks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(drain.HOOKS_MAX + 4):
        path = tmp_path / f"hook{number:02}"
        path.write_text("")
        path.chmod(0o755)
    (tmp_path / ".hidden").write_text("")
    monkeypatch.setattr(drain, "FOLDERS", (str(tmp_path), str(tmp_path / "missing")))
    assert drain.hooks() == [str(tmp_path / f"hook{number:02}") for number in range(drain.HOOKS_MAX)]


def test_what_is_kept_is_bounded_and_nobody_who_does_not_read_delays_it(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    log = (tmp_path / "log").open("wb", buffering=0)
    told = drain.Told(log)
    started = time.monotonic()
    told.write(b"x" * drain.KEPT_BYTES_MAX)
    told.write(b"beyond")
    told.say("said")
    assert time.monotonic() - started < 5
    assert capfd.readouterr().out == "x" * drain.KEPT_BYTES_MAX
    log.close()
    told.write(b"after the end")
    assert (tmp_path / "log").read_bytes().startswith(b"x" * drain.KEPT_BYTES_MAX + b"beyond")
