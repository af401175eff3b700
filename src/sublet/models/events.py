"""Events of managed models in the outbox, all for the operator."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from sublet.models import store as sql
from sublet.models.model import Replica
from sublet.store.events import declare


@dataclass(frozen=True, slots=True)
class ReplicaLost:
    """A replica whose engine ended or did not start. `ready` replicas of its deployment still respond."""

    replica: str
    deployment: str
    model: str
    pool: str
    ready: int
    restarting: bool
    reason: str


REPLICA_LOST = declare(
    "model.replica_lost",
    ReplicaLost,
    "A replica's engine exited unexpectedly or did not start.",
    subject="deployment",
    audience="operator",
)
DEPLOYMENT_FAILED = declare(
    "model.deployment_failed",
    ReplicaLost,
    "A replica failed permanently, and no replica of its deployment responds.",
    subject="deployment",
    audience="operator",
)


def record_lost(connection: Connection, replica: Replica, reason: str, now: datetime, *, restarting: bool) -> None:
    """Record the event that `replica` no longer responds, after its state is stored."""
    live = sql.live_replicas(connection)
    ready = sum(item.deployment_id == replica.deployment_id and item.state == "ready" for item in live)
    fact = ReplicaLost(replica.id, replica.deployment_id, replica.model, replica.pool_id, ready, restarting, reason)
    REPLICA_LOST.record(connection, fact, now)
    if not restarting and not ready:
        DEPLOYMENT_FAILED.record(connection, fact, now)
