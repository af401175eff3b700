"""Run the tenant's drain hooks once for an end: a child of PID 1, which may fail, hang or be killed without any effect on it.

    drain.py END_EPOCH_S REASON

What the hooks print goes to a log in the home directory and, up to KEPT_BYTES_MAX, to standard output, where it outlives the lease.

Hooks are the executable files of /etc/sublet/drain.d and ~/.config/sublet/drain.d, in the order of their names, one after another.
Standard library only.
"""

from __future__ import annotations

import contextlib
import io
import os
import select
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

FOLDERS = ("/etc/sublet/drain.d", "/home/tenant/.config/sublet/drain.d")
HOOKS_MAX = 16
LOG = "/home/tenant/.local/state/sublet/drain.log"
LOG_BYTES_MAX = 1 << 20
KEPT_BYTES_MAX = 64 << 10
"""Of one end, what is kept after the lease."""
PART_BYTES = 4096
"""A pipe that has any room has room for so much."""
SEND_S = 1.0
OUTPUT_S = 0.5
"""For the last of a hook's output to arrive after the hook has ended."""
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
        told = Told(log)
        for path in found:
            left_s = end_s - time.time() - KEEP_S
            if left_s <= 0:
                told.say(f"{path}: not run, because no time was left")
                continue
            told.say(f"{path}: started, {left_s:.0f} s left ({reason})")
            told.say(f"{path}: {_run(path, end_s, reason, left_s, told)}")


class Told:
    """Where the hooks' output goes: the log, and what is kept after the lease."""

    def __init__(self, log: io.FileIO) -> None:
        self._log, self._left = log, KEPT_BYTES_MAX
        self._lock = threading.Lock()

    def say(self, text: str) -> None:
        self.write(f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} {text}\n".encode())

    def write(self, content: bytes) -> None:
        """Never waits long: the hooks have little time, and nobody may be reading."""
        with self._lock:
            with contextlib.suppress(OSError, ValueError):
                self._log.write(content)
            kept = content[: self._left]
            self._left -= len(kept)
            for start in range(0, len(kept), PART_BYTES):
                with contextlib.suppress(OSError):
                    _, ready, _ = select.select([], [1], [], SEND_S)
                    if ready:
                        os.write(1, kept[start : start + PART_BYTES])

    def copy(self, reading: int) -> None:
        """Everything that comes from a descriptor, which is closed at its end."""
        with contextlib.suppress(OSError):
            while part := os.read(reading, PART_BYTES):
                self.write(part)
        os.close(reading)


def hooks() -> list[str]:
    """The executable files of both folders, the operator's or the image's before the tenant's own."""
    found: list[str] = []
    for folder in FOLDERS:
        with contextlib.suppress(OSError):
            names = sorted(os.listdir(folder))  # noqa: PTH208
            paths = [f"{folder}/{name}" for name in names if not name.startswith(".")]
            found += [path for path in paths if os.path.isfile(path) and os.access(path, os.X_OK)]  # noqa: PTH113
    return found[:HOOKS_MAX]


def _run(path: str, end_s: float, reason: str, left_s: float, told: Told) -> str:
    """How a hook ended. Its whole process group is killed when its time is over."""
    # Where a relocated interpreter finds its own library: not for what a tenant runs.
    plain = {name: value for name, value in os.environ.items() if name != "LD_LIBRARY_PATH"}
    environment = {
        **plain,
        "SUBLET_ENDS_AT": datetime.fromtimestamp(end_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "SUBLET_SECONDS_LEFT": str(int(left_s)),
        "SUBLET_DRAIN_REASON": reason,
    }
    reading, writing = os.pipe()
    copying = threading.Thread(target=told.copy, args=(reading,), daemon=True)
    copying.start()
    try:
        process = subprocess.Popen(
            [path], env=environment, cwd="/home/tenant", stdin=subprocess.DEVNULL, stdout=writing, stderr=writing,
            start_new_session=True,
        )  # fmt: skip
    except OSError as error:
        return f"could not be started: {error.strerror}"
    finally:
        os.close(writing)
    try:
        return f"exited with {process.wait(left_s)}"
    except subprocess.TimeoutExpired:
        with contextlib.suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return "killed, because its time was over"
    finally:
        # A process that the hook left behind may keep the pipe open; the next hook does not wait for it.
        copying.join(OUTPUT_S)


if __name__ == "__main__":
    main(float(sys.argv[1]), sys.argv[2])
