"""What the operator is told of engines that fail: log lines, counters, and the trouble of each replica for `sublet models ls`."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import structlog

from sublet.gateway.model import Times
from sublet.gateway.refusals import EngineError
from sublet.gateway.requests.admission import ReplicaState

log = structlog.get_logger(__name__)

LOG_S = 1.0
"""Seconds between two lines of one replica; what fails meanwhile is counted in the next one."""


@dataclass(slots=True)
class _Entry:
    model: str
    since_us: int
    failures: int = 0
    untold: int = 0
    told_at: float = -1e9
    kind: str = ""
    status: int = 0
    said: str = ""
    request: str = ""


@dataclass(frozen=True, slots=True)
class Trouble:
    """A replica that has failed since it last answered: how often, and how the last time."""

    replica_id: str
    model: str
    since_us: int
    failures: int
    kind: str
    status: int
    said: str


class EngineWatch:
    """For the event loop's thread; `troubles` may be called by another."""

    def __init__(self, times: Times) -> None:
        self._times = times
        self._entries: dict[str, _Entry] = {}
        self.errors: Counter[tuple[str, str, str]] = Counter()
        """By model, replica and kind."""

    def failed(self, replica: ReplicaState, model: str, request: str, error: EngineError) -> None:
        """A request failed by the replica's fault."""
        now = self._times.monotonic()
        replica.health.failed(error, now)
        self.errors[model, replica.route.id, error.kind] += 1
        entry = self._entries.get(replica.route.id)
        if entry is None:
            entry = self._entries[replica.route.id] = _Entry(model, self._times.now_us())
        entry.failures += 1
        entry.untold += 1
        entry.kind, entry.status, entry.said, entry.request = error.kind, error.engine_status, error.said, request
        self._tell(replica.route.id, entry, now)

    def answered(self, replica: ReplicaState) -> None:
        """The replica answers again."""
        replica.health.succeeded()
        entry = self._entries.pop(replica.route.id, None)
        if entry is not None:
            log.info("engine answers again", replica=replica.route.id, model=entry.model, failures=entry.failures)

    def tick(self, now: float, known: set[str]) -> None:
        """Tell what was not told yet, and forget replicas that are gone. `known` are the ids of those that there are."""
        for replica_id, entry in list(self._entries.items()):
            if entry.untold:
                self._tell(replica_id, entry, now)
            if replica_id not in known:
                del self._entries[replica_id]
        for key in [key for key in self.errors if key[1] not in known]:
            del self.errors[key]

    def troubles(self) -> list[Trouble]:
        """The replicas that fail now."""
        return [
            Trouble(replica_id, entry.model, entry.since_us, entry.failures, entry.kind, entry.status, entry.said)
            for replica_id, entry in list(self._entries.items())
        ]

    def _tell(self, replica_id: str, entry: _Entry, now: float) -> None:
        if now - entry.told_at < LOG_S:
            return
        log.warning(
            "engine failed",
            replica=replica_id,
            model=entry.model,
            kind=entry.kind,
            status=entry.status,
            said=entry.said,
            request=entry.request,
            failures=entry.untold,
            failures_in_a_row=entry.failures,
        )
        entry.told_at = now
        entry.untold = 0
