"""The `simulated` backend with its leases in a file: several control planes reach the same ones, as they would a cluster's."""

from __future__ import annotations

import fcntl
import threading
from pathlib import Path
from types import TracebackType
from typing import IO

from pydantic import TypeAdapter

from sublet.leases.backends.base import BackendFailedError
from sublet.leases.backends.simulated import Simulated, SimulatedBackend
from sublet.leases.backends.site import Site
from sublet.values.clock import Clock

_FILE = TypeAdapter(dict[str, Simulated])


class SharedSimulatedBackend(SimulatedBackend):
    """Every call reads the file, does its work, and writes the file again, while it holds the file's lock."""

    def __init__(self, clock: Clock, path: Path) -> None:
        super().__init__(clock)
        self._lock = _Held(self, path)

    def load(self, content: bytes) -> None:
        self._leases = _FILE.validate_json(content) if content else {}

    def dump(self) -> bytes:
        return _FILE.dump_json(self._leases)


def make(site: Site) -> SimulatedBackend:
    """Leases that hold nothing, to try Sublet without the machines: in memory, or in the file that the settings name."""
    stated = site.options.get("file")
    path = Path(str(stated)) if stated else site.settings.leasing.simulated_file
    return SimulatedBackend(site.clock) if path is None else SharedSimulatedBackend(site.clock, path)


class _Held:
    """The lock of a file, and what stands in it while it is held."""

    def __init__(self, backend: SharedSimulatedBackend, path: Path) -> None:
        self._backend = backend
        self._path = path
        self._threads = threading.Lock()
        self._file: IO[bytes] | None = None
        self._before = b""

    def __enter__(self) -> None:
        self._threads.acquire()
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._file = open(self._path.with_suffix(".lock"), "ab")
            fcntl.flock(self._file, fcntl.LOCK_EX)
            self._before = self._path.read_bytes() if self._path.exists() else b""
            self._backend.load(self._before)
        except (OSError, ValueError) as error:
            self._release()
            raise BackendFailedError(f"the simulated leases in {self._path} can't be read: {error}") from error

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            content = self._backend.dump()
            if content != self._before:
                fresh = self._path.with_suffix(".new")
                fresh.write_bytes(content)
                fresh.replace(self._path)
        except OSError as failed:
            raise BackendFailedError(f"the simulated leases can't be written to {self._path}: {failed}") from failed
        finally:
            self._release()

    def _release(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
        self._threads.release()
