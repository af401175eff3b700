"""Run the tenant's drain hooks once for an end: a child of PID 1, which may fail, hang or be killed without any effect on it.

    drain.py END_EPOCH_S REASON

Hooks are the executable files of /etc/sublet/drain.d and ~/.config/sublet/drain.d, in the order of their names, one after another.
Standard library only.
"""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

FOLDERS = ("/etc/sublet/drain.d", "/home/tenant/.config/sublet/drain.d")
HOOKS_MAX = 16
LOG = "/home/tenant/.local/state/sublet/drain.log"
LOG_BYTES_MAX = 1 << 20
KEEP_S = 1.0
"""So long before the end a hook that still runs is killed, so that what it printed is complete."""


def main(end_s: float, reason: str) -> None:
    found = hooks()
    if not found:
        return
    with contextlib.suppress(OSError):
        Path(LOG).parent.mkdir(parents=True, exist_ok=True)
    try:
        fresh = not os.path.exists(LOG) or os.path.getsize(LOG) < LOG_BYTES_MAX  # noqa: PTH110, PTH202
        log = io.FileIO(LOG, "ab" if fresh else "wb")
    except OSError:
        log = io.FileIO(os.devnull, "wb")
    with log:
        for path in found:
            left_s = end_s - time.time() - KEEP_S
            if left_s <= 0:
                _say(log, f"{path}: not run, because no time was left")
                continue
            _say(log, f"{path}: started, {left_s:.0f} s left ({reason})")
            _say(log, f"{path}: {_run(path, end_s, reason, left_s, log)}")


def hooks() -> list[str]:
    """The executable files of both folders, the operator's or the image's before the tenant's own."""
    found: list[str] = []
    for folder in FOLDERS:
        with contextlib.suppress(OSError):
            names = sorted(os.listdir(folder))  # noqa: PTH208
            paths = [f"{folder}/{name}" for name in names if not name.startswith(".")]
            found += [path for path in paths if os.path.isfile(path) and os.access(path, os.X_OK)]  # noqa: PTH113
    return found[:HOOKS_MAX]


def _run(path: str, end_s: float, reason: str, left_s: float, log: io.FileIO) -> str:
    """How a hook ended. Its whole process group is killed when its time is over."""
    # Where a relocated interpreter finds its own library: not for what a tenant runs.
    plain = {name: value for name, value in os.environ.items() if name != "LD_LIBRARY_PATH"}
    environment = {
        **plain,
        "SUBLET_ENDS_AT": datetime.fromtimestamp(end_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "SUBLET_SECONDS_LEFT": str(int(left_s)),
        "SUBLET_DRAIN_REASON": reason,
    }
    try:
        process = subprocess.Popen(
            [path], env=environment, cwd="/home/tenant", stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            start_new_session=True,
        )  # fmt: skip
    except OSError as error:
        return f"could not be started: {error.strerror}"
    try:
        return f"exited with {process.wait(left_s)}"
    except subprocess.TimeoutExpired:
        with contextlib.suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return "killed, because its time was over"


def _say(log: io.FileIO, text: str) -> None:
    with contextlib.suppress(OSError):
        log.write(f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} {text}\n".encode())


if __name__ == "__main__":
    main(float(sys.argv[1]), sys.argv[2])
