"""The real system for a story: `sublet up` on a directory of its own, and what must be gone afterwards."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url
from tests.scenarios.up import started

from sublet.story.demo import write_settings
from sublet.story.stage import Stage, UpProcess
from sublet.wiring.system import local_backend


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "s"


@pytest.fixture
def theatre(folder: Path) -> Iterator[UpProcess]:
    """`sublet up`, started; ended whatever happens, its leases reaped."""
    with started(write_settings(folder)) as up:
        yield up


@pytest.fixture
def stage(theatre: UpProcess) -> Iterator[Stage]:
    said: list[str] = []
    made = Stage(theatre, said.append)
    made.facts["said"] = said
    yield made
    made.close()


@pytest.fixture
def remains(folder: Path) -> Callable[[], list[str]]:
    """Processes, mounts and control groups that still belong to the directory."""

    def look() -> list[str]:
        found = [f"mount {line}" for line in Path("/proc/mounts").read_text().splitlines() if str(folder) in line]
        for process in Path("/proc").iterdir():
            if not process.name.isdigit() or int(process.name) == os.getpid():
                continue
            try:
                words = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                environment = (process / "environ").read_bytes().decode(errors="replace")
            except OSError:
                continue
            if str(folder) in words or f"SUBLET_DATA_DIR={folder}" in environment:
                found.append(f"process {process.name}: {words}")
        return found

    return look


@pytest.fixture
def on_postgres(folder: Path) -> Iterator[UpProcess]:
    """`sublet up` on a database of its own on the server that SUBLET_TEST_POSTGRES names."""
    server = os.environ.get("SUBLET_TEST_POSTGRES")
    if not server:
        pytest.skip("SUBLET_TEST_POSTGRES names no server")
    name = f"story_{uuid.uuid4().hex[:12]}"
    admin = create_engine(make_url(server).set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    config = write_settings(folder)
    url = make_url(server).set(database=name).render_as_string(hide_password=False)
    config.write_text(config.read_text() + f'\n[database]\nurl = "{url}"\n')
    up = UpProcess(config)
    try:
        up.start()
        yield up
    finally:
        for pid in up.pids().values():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 9)
        local_backend(up.settings).reap(frozenset())
        with admin.connect() as connection:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
        admin.dispose()
