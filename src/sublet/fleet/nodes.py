"""The nodes: the identity of this machine, the machines that serve the database, and their heartbeats."""

from __future__ import annotations

import fcntl
import os
import threading
from datetime import timedelta
from pathlib import Path
from typing import IO

import structlog
from sqlalchemy import Connection
from sqlalchemy.engine import make_url

from sublet import __version__
from sublet.fleet import node_store as sql
from sublet.fleet.node_model import Node
from sublet.store import Store, processes
from sublet.store.paging import Page, PageRequest
from sublet.store.processes import Process
from sublet.store.schema import newest_revision
from sublet.values.errors import ConflictError, NotFoundError, SubletError
from sublet.values.ids import is_id, new_id

log = structlog.get_logger(__name__)

NODE_FILE = "node"
BEAT_S = 5.0
KILLED_KEPT = timedelta(days=1)
"""For how long a process that ended without saying so is remembered."""


class ControlPlaneRunningError(ConflictError):
    """Another control plane is already running here; to run several, use PostgreSQL and separate data directories."""

    code = "control_plane_running"


class NodeReachableError(ConflictError):
    """The node still sends heartbeats; stop its control plane first."""

    code = "node_reachable"


def node_id_in(data_dir: Path) -> str | None:
    """The id of the node with this data directory, or None if it has never served."""
    try:
        found = (data_dir / NODE_FILE).read_text().strip()
    except OSError:
        return None
    return found if is_id(found) else None


def own_node_id(data_dir: Path) -> str:
    """The id of the node with this data directory, created if there is none yet. Raises OSError if it can't be written."""
    found = node_id_in(data_dir)
    if found is not None:
        return found
    data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    fresh = data_dir / f"{NODE_FILE}.{os.getpid()}.new"
    fresh.write_text(new_id("nod") + "\n")
    try:
        # Of two processes that begin together, one names the node.
        os.link(fresh, data_dir / NODE_FILE)
    except FileExistsError:
        if node_id_in(data_dir) is None:
            fresh.replace(data_dir / NODE_FILE)
    finally:
        fresh.unlink(missing_ok=True)
    found = node_id_in(data_dir)
    assert found is not None
    return found


def take_control(database_url: str, data_dir: Path) -> IO[str]:
    """Be the one control plane of this data directory, and on SQLite of the database, until the file is closed.

    Raises ControlPlaneRunningError.
    """
    url = make_url(database_url)
    if url.get_backend_name() == "sqlite":
        path = Path(f"{url.database}-control")
        why = (
            f"another control plane serves {url.database}, and SQLite has room for one; set database.url to PostgreSQL"
        )
    else:
        path = data_dir / "control.lock"
        why = f"another control plane serves {data_dir}; give each a data_dir of its own"
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    held = open(path, "a+")  # noqa: SIM115  held for the life of the process
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        held.close()
        raise ControlPlaneRunningError(why) from error
    return held


class Nodes:
    """The use cases of nodes."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def nodes(self) -> list[Node]:
        """Every node that ever served this database, by name."""
        with self._store.read() as connection:
            return sql.all_nodes(connection)

    def page(self, wanted: PageRequest) -> Page[Node]:
        """A page of nodes, oldest first."""
        with self._store.read() as connection:
            return sql.node_page(connection, wanted)

    def register(self, node_id: str, name: str, *, alone: bool = False) -> None:
        """Make the node known. With `alone`, as on SQLite, there can be no other: what an earlier directory stated is this
        one's now."""

        def write(connection: Connection) -> None:
            known = sql.all_nodes(connection)
            if alone:
                for other in known:
                    if other.id != node_id:
                        sql.delete_node(connection, other.id)
            if not any((node.id, node.name, node.version) == (node_id, name, __version__) for node in known):
                sql.save_node(connection, node_id, name, __version__, self._store.clock.now())

        self._store.write(write)

    def forget(self, id_or_name: str) -> Node:
        """A machine is gone for good: its pools go offline at the next round of a control plane that states none of them, or become
        those of the node that states them next. Raises NotFoundError, NodeReachableError."""
        now = self._store.clock.now()

        def write(connection: Connection) -> Node:
            known = sql.all_nodes(connection)
            found = next((node for node in known if id_or_name in (node.id, node.name)), None)
            if found is None:
                raise NotFoundError(f"there is no node {id_or_name!r}; `sublet node ls` lists them")
            if found.reachable(now):
                raise NodeReachableError(
                    f"node {found.name} ({found.id}) still sends heartbeats; stop its control plane first"
                )
            sql.delete_node(connection, found.id)
            return found

        return self._store.write(write)


class Presence:
    """Sends a heartbeat of a node's process every few seconds."""

    def __init__(self, store: Store, node_id: str, name: str, kind: str) -> None:
        now = store.clock.now()
        self._store = store
        self._name = name
        self._process = Process(new_id("prc"), node_id, kind, __version__, newest_revision(), os.getpid(), now, now)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="presence", daemon=True)

    def start(self) -> None:
        """Send a heartbeat, then continue in the background. Raises the errors of the database."""
        self.beat()
        self._thread.start()

    def beat(self) -> None:
        now = self._store.clock.now()
        mine = self._process

        def write(connection: Connection) -> None:
            sql.save_node(connection, mine.node_id, self._name, mine.version, now)
            processes.save_process(
                connection,
                Process(mine.id, mine.node_id, mine.kind, mine.version, mine.revision, mine.pid, mine.started_at, now),
            )
            if mine.kind == "control":
                sql.see_node(connection, mine.node_id, now)
                processes.delete_processes_before(connection, now - KILLED_KEPT)

        self._store.write(write)

    def stop(self) -> None:
        """End in order, so that nobody has to wait until the process counts as gone."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(BEAT_S)
        try:
            self._store.write(lambda connection: processes.delete_process(connection, self._process.id))
        except SubletError as error:
            log.warning("presence_not_ended", reason=error.message)

    def _run(self) -> None:
        while not self._stopped.wait(BEAT_S):
            try:
                self.beat()
            except Exception as error:
                log.warning("presence_not_told", reason=str(error)[:200])
