"""Fixtures that every package's tests share: a clock that stands still and a database of one's own."""

from __future__ import annotations

import os
import shutil
import sqlite3
import sys
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from hypothesis import settings
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url
from tests.leases.slurm_cluster import SlurmCluster, missing

import sublet.store.tables  # noqa: F401  registers every table
from sublet.store import Store, schema
from sublet.store.metadata import metadata
from sublet.values.clock import SimulatedClock

# How long an example takes is the machine's affair. A change is judged by the same examples wherever it is tested; `make explore`
# looks for others.
settings.register_profile("sublet", deadline=None, print_blob=True, derandomize=True)
settings.register_profile("explore", deadline=None, print_blob=True)
settings.load_profile(os.environ.get("SUBLET_TEST_PROFILE", "sublet"))


@pytest.fixture(autouse=True)
def answers_fit() -> Iterator[None]:
    """Whatever a test asks the API: the answer is what its type says, no field more and none less."""
    if "sublet.api.http" not in sys.modules:
        yield
        return
    from tests.api import answers

    answers.compare_every_answer()
    answers.FAULTS.clear()
    yield
    assert answers.FAULTS == []


@pytest.fixture(scope="session", autouse=True)
def fresh_databases(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with one SQLite database as the migrations make it, and one as the tables are declared: every fresh one of a test
    is a copy, since making it takes longer than most tests. Tests of the store itself make theirs."""
    folder = tmp_path_factory.mktemp("fresh")
    declared = Store(f"sqlite:///{folder}/declared.db", SimulatedClock())
    metadata.create_all(declared.engine)
    declared.close()
    migrated, whole = folder / "migrated.db", schema._migrate_once

    def once(store: Store, known: list[str]) -> str | None:
        path = str(store.url.database) if store.is_sqlite else ""
        if not path or os.environ.get("PYTEST_CURRENT_TEST", "").startswith("tests/store/") or not _is_empty(path):
            return whole(store, known)
        if not migrated.exists():
            made = Store(f"sqlite:///{migrated}", SimulatedClock())
            while whole(made, known) is not None:
                continue
            made.close()
        with closing(sqlite3.connect(migrated)) as source, closing(sqlite3.connect(path)) as copy:
            source.backup(copy)
        return known[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(schema, "_migrate_once", once)
        yield folder


def _is_empty(path: str) -> bool:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)


@pytest.fixture
def clock() -> SimulatedClock:
    return SimulatedClock()


@contextmanager
def _sqlite(folder: Path, fresh: Path, clock: SimulatedClock) -> Iterator[Store]:
    shutil.copy(fresh / "declared.db", folder / "sublet.db")
    opened = Store(f"sqlite:///{folder}/sublet.db", clock)
    yield opened
    opened.close()


@pytest.fixture
def store(tmp_path: Path, fresh_databases: Path, clock: SimulatedClock) -> Iterator[Store]:
    """A fresh SQLite database."""
    with _sqlite(tmp_path, fresh_databases, clock) as opened:
        yield opened


@contextmanager
def _postgres_database() -> Iterator[str]:
    """The address of a fresh, empty database, dropped afterwards."""
    server = os.environ.get("SUBLET_TEST_POSTGRES")
    if not server:
        pytest.skip("SUBLET_TEST_POSTGRES names no server")
    name = f"t_{uuid.uuid4().hex[:16]}"
    admin = create_engine(make_url(server).set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    try:
        yield make_url(server).set(database=name).render_as_string(hide_password=False)
    finally:
        with admin.connect() as connection:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
        admin.dispose()


def _postgres(clock: SimulatedClock) -> Iterator[Store]:
    with _postgres_database() as url:
        opened = Store(url, clock)
        try:
            metadata.create_all(opened.engine)
            yield opened
        finally:
            opened.close()


@pytest.fixture
def postgres_url() -> Iterator[str]:
    """A fresh, empty database on the server that SUBLET_TEST_POSTGRES names."""
    with _postgres_database() as url:
        yield url


@pytest.fixture
def postgres_store(clock: SimulatedClock) -> Iterator[Store]:
    """A fresh PostgreSQL database on the server that SUBLET_TEST_POSTGRES names."""
    yield from _postgres(clock)


@pytest.fixture(scope="session")
def slurm_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlurmCluster]:
    """A real Slurm cluster of three nodes on this machine, for all tests of the session."""
    if reason := missing():
        pytest.skip(reason)
    # Short, since sockets lie below it.
    cluster = SlurmCluster(tmp_path_factory.mktemp("slurm"))
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.real)])
def any_store(
    request: pytest.FixtureRequest, tmp_path: Path, fresh_databases: Path, clock: SimulatedClock
) -> Iterator[Store]:
    """The same test on both databases."""
    if request.param == "postgres":
        yield from _postgres(clock)
        return
    with _sqlite(tmp_path, fresh_databases, clock) as opened:
        yield opened


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Leave the ids of what failed, one a line, in the file that SUBLET_TEST_FAILED names: CI tries a few of them again."""
    path = os.environ.get("SUBLET_TEST_FAILED")
    if path:
        told = [report.nodeid for kind in ("failed", "error") for report in terminalreporter.stats.get(kind, [])]
        bad = [name for name in told if "::" in name]  # not a worker that could not collect
        Path(path).write_text("".join(f"{name}\n" for name in dict.fromkeys(bad)))
