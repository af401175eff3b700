"""What no transaction shows and the operator should hear of: loops that stand, silent nodes and feeds, old backups."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from sqlalchemy import Connection

from sublet.config.data_dir import last_backup
from sublet.control.loops import Loop
from sublet.demand.events import FEED_SILENT, FeedSilent
from sublet.fleet.events import (
    BACKUP_TOO_OLD,
    LOOP_STUCK,
    NODE_UNREACHABLE,
    BackupTooOld,
    LoopStuck,
    NodeUnreachable,
)
from sublet.fleet.nodes import Nodes
from sublet.leases.backends.registry import on_this_machine
from sublet.store import outbox
from sublet.values.clock import format_time
from sublet.wiring.system import Sublet

LOOP_GRACE_S = 30.0
LOOP_FAILURES = 5
FEED_SILENT_S = 300.0
FEED_STEPS = 10

Telling = Callable[[Connection], str]


class Watching:
    """Each thing is told once for as long as it lasts: an event's key says since when."""

    def __init__(self, system: Sublet, loops: Sequence[Loop]) -> None:
        self._system = system
        self._loops = loops

    def own_round(self) -> None:
        """Of this process and its machine: every control plane watches its own."""
        now = self._system.clock.now()
        found = [*self._stuck(now), *self._old_backup(now)]
        self._tell(found)

    def led_round(self) -> None:
        """Of everything: one control plane watches for all."""
        now = self._system.clock.now()
        self._tell([*self._silent_nodes(now), *self._silent_feeds(now)])
        self._system.leases.watching.round()
        self._system.ledger.tell_overdue()

    def _tell(self, found: Sequence[tuple[str, Telling]]) -> None:
        if not found:
            return
        with self._system.store.read() as connection:
            told = outbox.existing(connection, [event_id for event_id, _ in found])
        fresh = [tell for event_id, tell in found if event_id not in told]

        def write(connection: Connection) -> None:
            for tell in fresh:
                tell(connection)

        if fresh:
            self._system.store.write(write)

    def _stuck(self, now: datetime) -> list[tuple[str, Telling]]:
        found: list[tuple[str, Telling]] = []
        node = self._system.node_id() or ""
        for loop in self._loops:
            age_s = time.monotonic() - loop.ended_s
            stands = age_s > LOOP_GRACE_S + 3 * loop.interval_s
            if not stands and loop.failures_running < LOOP_FAILURES:
                continue
            since = now - timedelta(seconds=int(age_s)) if stands else loop.failing_since or now
            fact = LoopStuck(loop.name, node, since, loop.failures_running, loop.last_error or "")
            # The round that stands, or the first that failed, names the trouble: the clock's present does not.
            key = (node, loop.name, str(loop.rounds) if stands else format_time(since), format_time(loop.made_at))
            found.append((LOOP_STUCK.id_of(key), _telling(LOOP_STUCK.record, fact, now, key)))
        return found

    def _old_backup(self, now: datetime) -> list[tuple[str, Telling]]:
        hours = self._system.settings.notifications.backup_max_age_hours
        if not hours:
            return []
        made_at = last_backup(self._system.settings.data_dir)
        if made_at is not None and now - made_at <= timedelta(hours=hours):
            return []
        node = self._system.node_id() or ""
        key = (node, format_time(made_at) if made_at else "never")
        fact = BackupTooOld(node, made_at, hours)
        return [(BACKUP_TOO_OLD.id_of(key), _telling(BACKUP_TOO_OLD.record, fact, now, key))]

    def _silent_nodes(self, now: datetime) -> list[tuple[str, Telling]]:
        found: list[tuple[str, Telling]] = []
        for node in Nodes(self._system.store).nodes():
            if node.seen_at is None or node.reachable(now):
                continue
            key = (node.id, format_time(node.seen_at))
            fact = NodeUnreachable(node.id, node.name, node.seen_at)
            found.append((NODE_UNREACHABLE.id_of(key), _telling(NODE_UNREACHABLE.record, fact, now, key)))
        return found

    def _silent_feeds(self, now: datetime) -> list[tuple[str, Telling]]:
        """Pools whose demand is measured by a feed, or by their own node; what is only imported is no feed."""
        fed = {pool.name: pool.fed_by[1] for pool in self._system.settings.pools if pool.fed_by is not None}
        found: list[tuple[str, Telling]] = []
        for pool in self._system.fleet.pools():
            own = on_this_machine(self._system.settings, pool.backend)
            if pool.offline_at is not None or not (pool.name in fed or own):
                continue
            latest = self._system.demand.latest(pool.id)
            allowed_s = max(FEED_SILENT_S, FEED_STEPS * fed.get(pool.name, 0))
            if latest is None or (now - latest.time).total_seconds() <= allowed_s:
                continue
            key = (pool.id, format_time(latest.time))
            fact = FeedSilent(pool.id, pool.name, latest.time)
            found.append((FEED_SILENT.id_of(key), _telling(FEED_SILENT.record, fact, now, key)))
        return found


def _telling(record: Callable[..., str], fact: object, now: datetime, key: tuple[str, ...]) -> Telling:
    return lambda connection: record(connection, fact, now, key=key)
