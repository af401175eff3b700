"""Keeps the gateway's snapshot of keys and models young, on a thread of its own, and lives with the database away."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import structlog

from sublet.gateway.model import GatewaySettings, Snapshot
from sublet.gateway.ports import LoadSnapshot
from sublet.store import Store

log = structlog.get_logger(__name__)

# Nothing here may end the thread: without it, revoked keys would work for ever.
RETRY_S_MAX = 2.0


class SnapshotThread:
    """Loads a snapshot every `snapshot_interval_s` and hands it to `adopt` where it differs from the last one."""

    def __init__(
        self, store: Store, settings: GatewaySettings, load: LoadSnapshot, adopt: Callable[[Snapshot], None]
    ) -> None:
        self._store = store
        self._load = load
        self._interval_s = settings.snapshot_interval_s
        self._weights = settings.weights
        self._routes = settings.routes
        self._adopt = adopt
        self._last = Snapshot()
        self._stopped = threading.Event()
        self._loaded_at = time.monotonic()
        self._away = False
        self._thread = threading.Thread(target=self._loop, name="gateway-snapshot", daemon=True)

    def load(self) -> Snapshot:
        """The first snapshot, at once. Raises UnavailableError where the database can't be reached."""
        with self._store.read() as connection:
            self._last = self._load(connection, 1, self._weights, self._routes)
        self._loaded_at = time.monotonic()
        return self._last

    def prime(self, snapshot: Snapshot) -> None:
        """Begin from a snapshot that was loaded before."""
        self._last = snapshot

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5)

    @property
    def age_s(self) -> float:
        """Seconds since the database last answered."""
        return time.monotonic() - self._loaded_at

    def refresh(self) -> bool:
        """Load once; whether it worked. What is known stays valid where it did not."""
        try:
            with self._store.read() as connection:
                found = self._load(connection, self._last.version + 1, self._weights, self._routes)
        except Exception as error:
            if not self._away:
                log.warning(
                    "the database is away; the gateway goes on with the keys and models it knows",
                    error=str(error)[:300],
                )
            self._away = True
            return False
        if self._away:
            log.warning("the database is back")
            self._away = False
        self._loaded_at = time.monotonic()
        if found.keys != self._last.keys or found.models != self._last.models:
            self._last = found
            self._adopt(found)
        return True

    def _loop(self) -> None:
        while not self._stopped.wait(self._interval_s if not self._away else min(RETRY_S_MAX, self._interval_s * 2)):
            self.refresh()
