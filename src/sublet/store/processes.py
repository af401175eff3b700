"""The processes that serve a database now, each with the schema that it was made for."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, delete, insert, update

from sublet.store.tables.processes import processes


@dataclass(frozen=True, slots=True)
class Process:
    """A control plane, a gateway or an engine host that serves the database; `revision` is the schema it was made for."""

    id: str
    node_id: str
    kind: str
    version: str
    revision: str
    pid: int
    started_at: datetime
    seen_at: datetime


def save_process(connection: Connection, process: Process) -> None:
    """Say that the process serves. A former one of the same node and kind, of which there is one at a time, is forgotten."""
    done = connection.execute(update(processes).where(processes.c.id == process.id).values(seen_at=process.seen_at))
    if done.rowcount:
        return
    if process.kind == "control":
        connection.execute(
            delete(processes).where(processes.c.node_id == process.node_id, processes.c.kind == process.kind)
        )
    connection.execute(
        insert(processes).values(
            id=process.id,
            node_id=process.node_id,
            kind=process.kind,
            version=process.version,
            revision=process.revision,
            pid=process.pid,
            started_at=process.started_at,
            seen_at=process.seen_at,
        )
    )


def delete_process(connection: Connection, process_id: str) -> None:
    connection.execute(delete(processes).where(processes.c.id == process_id))


def delete_processes_before(connection: Connection, moment: datetime) -> None:
    connection.execute(delete(processes).where(processes.c.seen_at < moment))


def delete_processes_of(connection: Connection, node_id: str) -> None:
    connection.execute(delete(processes).where(processes.c.node_id == node_id))
