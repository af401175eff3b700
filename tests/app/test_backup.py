"""A backup that is taken while Sublet works, put back elsewhere; a database moved to the other kind; and the drill of the manual."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select, text

from sublet.config.data_dir import unfinished_restore
from sublet.config.settings import Settings
from sublet.launch import backup
from sublet.launch.backup import BackupDamagedError, WouldOverwriteError, back_up, checked_backup, restore
from sublet.launch.supervisor import HalfRestoredError, refuse_half_restored
from sublet.leases.quotes.admission import QuoteRequest
from sublet.ledger.assembly import ledger_of
from sublet.simulation.world import SSH_KEY, World
from sublet.store import Store
from sublet.store.copying import PROGRESS, CopyDiffersError, TargetNotEmptyError, copy_database, measured
from sublet.store.metadata import metadata
from sublet.store.tables.ledger import events
from sublet.values.errors import ConflictError, NotFoundError

JOURNAL = b'{"id":"req_1"}\n'


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A customer's lease from quote to usage, and files such as the gateway and a lease leave; made once and closed."""
    made = World(tmp_path_factory.mktemp("template") / "data", accelerators=4)
    made.remember(7, 0.2, 0.02)
    acme = made.system.accounts.create_organization("Acme Ünïversity", "customer")
    quote = made.system.leases.quote(acme.id, QuoteRequest(1, "notice", duration_s=900, pool="simulated"))
    made.system.leases.accept(acme.id, quote.id, [SSH_KEY])
    made.pass_time(1200)
    for folder, name in (("gateway/run1", "0001.journal"), ("leases/lse_1/contents/home", "file")):
        (made.settings.data_dir / folder).mkdir(parents=True)
        (made.settings.data_dir / folder / name).write_bytes(JOURNAL)
    made.close()
    return made


@pytest.fixture
def world(template: World, tmp_path: Path) -> Iterator[World]:
    shutil.copytree(template.settings.data_dir, tmp_path / "data")
    made = reopened(template, moved(template.settings, tmp_path / "data"))
    yield made
    made.close()


def reopened(world: World, settings: Settings) -> World:
    """The same world on another data directory."""
    again = World.__new__(World)
    again.__dict__.update(world.__dict__, settings=settings, _system=None)
    again.crash()
    return again


def moved(settings: Settings, folder: Path, url: str = "") -> Settings:
    return settings.model_copy(
        update={"data_dir": folder, "database": settings.database.model_copy(update={"url": url})}
    )


def proved(url: str, settings: Settings) -> bool:
    store = Store(url)
    try:
        with store.read() as connection:
            assert connection.execute(select(func.count()).select_from(events)).scalar_one() > 10
        return ledger_of(store, settings.billing).prove().ok
    finally:
        store.close()


def rows_of(url: str) -> dict[str, int]:
    store = Store(url)
    try:
        with store.read() as connection:
            return measured(connection).rows
    finally:
        store.close()


def test_a_backup_taken_under_load_is_one_state_and_comes_back_elsewhere(world: World, tmp_path: Path) -> None:
    stop = threading.Event()

    def load() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            world.system.accounts.create_organization(f"load {number}", "customer")

    writer = threading.Thread(target=load)
    writer.start()
    try:
        manifest = back_up(world.settings, tmp_path / "backup", world.clock.now())
    finally:
        stop.set()
        writer.join()
    for path in (tmp_path / "backup").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    assert stat.S_IMODE((tmp_path / "backup").stat().st_mode) == 0o700
    assert checked_backup(tmp_path / "backup") == manifest
    new = moved(world.settings, tmp_path / "new")
    restore(new, tmp_path / "backup", world.clock.now())
    assert proved(new.database_url, new)
    assert (new.data_dir / "gateway/run1/0001.journal").read_bytes() == JOURNAL
    assert (new.data_dir / "leases/lse_1/contents/home/file").read_bytes() == JOURNAL
    again = reopened(world, new)
    again.pass_time(600)
    assert again.system.ledger.prove().ok, "it goes on from there"
    again.close()


def test_a_restore_overwrites_nothing_without_being_told_and_deletes_nothing(world: World, tmp_path: Path) -> None:
    back_up(world.settings, tmp_path / "backup", world.clock.now(), homes=False)
    before = rows_of(world.settings.database_url)
    with pytest.raises(WouldOverwriteError, match="--overwrite"):
        restore(world.settings, tmp_path / "backup", world.clock.now())
    with pytest.raises(WouldOverwriteError):
        back_up(world.settings, tmp_path / "backup", world.clock.now())
    assert rows_of(world.settings.database_url) == before
    world.system.accounts.create_organization("made after the backup", "customer")
    world.close()
    restore(world.settings, tmp_path / "backup", world.clock.now(), overwrite=True)
    assert rows_of(world.settings.database_url) == before
    [aside] = world.settings.data_dir.glob("replaced-*")
    assert rows_of(f"sqlite:///{aside}/sublet.db")["organizations"] == before["organizations"] + 1
    assert (aside / "leases/lse_1/contents/home/file").is_file()


@pytest.mark.parametrize("name", ["database.db", "files.tar", "manifest.json"])
def test_a_damaged_backup_is_refused_before_anything_changes(world: World, tmp_path: Path, name: str) -> None:
    back_up(world.settings, tmp_path / "backup", world.clock.now())
    path = tmp_path / "backup" / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(BackupDamagedError):
        restore(moved(world.settings, tmp_path / "new"), tmp_path / "backup", world.clock.now())
    assert not (tmp_path / "new" / "sublet.db").exists()
    path.unlink()
    with pytest.raises((BackupDamagedError, NotFoundError)):
        checked_backup(tmp_path / "backup")


def test_nothing_is_restored_under_a_running_system(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    back_up(world.settings, tmp_path / "backup", world.clock.now())
    monkeypatch.setattr("sublet.launch.backup.running_system", lambda folder: {"pid": 1})
    with pytest.raises(ConflictError, match="stop it"):
        restore(world.settings, tmp_path / "backup", world.clock.now(), overwrite=True)


def test_a_backup_that_was_cut_short_has_no_name(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch, pytest.raises(OSError, match="killed"):
        patch.setattr("sublet.launch.backup._write_database", lambda *words: (_ for _ in ()).throw(OSError("killed")))
        back_up(world.settings, tmp_path / "backup", world.clock.now())
    assert not (tmp_path / "backup").exists()
    back_up(world.settings, tmp_path / "backup", world.clock.now())
    assert not (tmp_path / "backup.partial").exists()


class KilledError(BaseException):
    """The process is gone."""


def dies_at(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Let the process be killed as it begins the step: each write, move and copy is one."""
    left = [step]
    for owner, name in (
        (Path, "rename"), (Path, "replace"), (Path, "unlink"), (Path, "mkdir"), (shutil, "copyfile"), (shutil, "rmtree"),
        (tarfile.TarFile, "extract"), (tarfile.TarFile, "addfile"), (os, "fsync"), (backup, "_sha256"),
    ):  # fmt: skip
        real = getattr(owner, name)

        def counted(*words: Any, _real: Any = real, **more: Any) -> Any:
            left[0] -= 1
            if left[0] < 0:
                raise KilledError
            return _real(*words, **more)

        monkeypatch.setattr(owner, name, counted)


def test_a_backup_that_is_killed_at_any_step_leaves_nothing_that_restore_accepts(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, steps, whole = tmp_path / "backup", 0, 0
    while True:
        with monkeypatch.context() as patch:
            dies_at(patch, steps)
            try:
                back_up(world.settings, target, world.clock.now())
                break
            except KilledError:
                steps += 1
        if target.exists():
            # Killed as it noted that there is a backup now: it is whole.
            checked_backup(target)
            break
        for half in (target, tmp_path / "backup.partial"):
            new = moved(world.settings, tmp_path / f"new{steps}")
            try:
                restore(new, half, world.clock.now())
            except (NotFoundError, BackupDamagedError):
                assert not new.data_dir.exists()
            else:
                # Killed before it got its name: nothing of it is missing.
                assert rows_of(new.database_url) == rows_of(world.settings.database_url)
                assert (new.data_dir / "gateway/run1/0001.journal").read_bytes() == JOURNAL
                whole += 1
    assert steps > 8 and whole <= 2
    assert checked_backup(target)["homes"]


def test_a_restore_that_is_killed_at_any_step_is_repeated_and_nothing_starts_meanwhile(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    back_up(world.settings, tmp_path / "backup", world.clock.now())
    before, data, now = rows_of(world.settings.database_url), world.settings.data_dir, world.clock.now()
    world.system.accounts.create_organization("made after the backup", "customer")
    world.close()
    shutil.copytree(data, tmp_path / "original")
    steps = 0
    while True:
        shutil.rmtree(data)
        shutil.copytree(tmp_path / "original", data)
        with monkeypatch.context() as patch:
            dies_at(patch, steps)
            try:
                restore(world.settings, tmp_path / "backup", now, overwrite=True)
            except KilledError:
                killed = True
            else:
                killed = False
        if killed:
            steps += 1
            if unfinished_restore(data) is not None:
                with pytest.raises(HalfRestoredError):
                    refuse_half_restored(data)
            else:
                assert rows_of(world.settings.database_url)["organizations"] in (
                    before["organizations"], before["organizations"] + 1,
                )  # fmt: skip
            restore(world.settings, tmp_path / "backup", now.replace(second=30), overwrite=True)
        refuse_half_restored(data)
        assert rows_of(world.settings.database_url) == before
        kept = [
            rows_of(f"sqlite:///{path}/sublet.db")["organizations"]
            for path in data.glob("replaced-*")
            if (path / "sublet.db").exists()
        ]
        assert before["organizations"] + 1 in kept, "what was there before is kept"
        assert (data / "gateway/run1/0001.journal").read_bytes() == JOURNAL
        if not killed:
            break
    assert steps > 8


def test_sqlite_moves_to_postgres_and_its_backup_comes_back_there(
    world: World, tmp_path: Path, postgres_url: str
) -> None:
    source, target = Store(world.settings.database_url), Store(postgres_url)
    copied = copy_database(source, target)
    with source.read() as reading, target.read() as copy:
        assert measured(reading) == measured(copy) == copied
        assert copied.rows["ledger_events"] > 10
    proofs = [ledger_of(store, world.settings.billing).prove().as_dict() for store in (source, target)]
    assert proofs[0] == proofs[1] and proofs[0]["ok"]
    with pytest.raises(TargetNotEmptyError):
        copy_database(source, target)
    serial = target.write(
        lambda connection: connection.execute(text("SELECT nextval('ledger_events_seq_seq')")).scalar_one()
    )
    with target.read() as connection:
        assert serial > connection.execute(select(func.max(events.c.seq))).scalar_one(), (
            "the next event has a number of its own"
        )
    on_postgres = moved(world.settings, world.settings.data_dir, postgres_url)
    back_up(on_postgres, tmp_path / "backup", world.clock.now())
    back = moved(world.settings, tmp_path / "back")
    restore(back, tmp_path / "backup", world.clock.now())
    assert rows_of(back.database_url) == copied.rows and proved(back.database_url, back)
    source.close()
    target.close()


@pytest.mark.parametrize("after", [0, 1, 20])
def test_a_copy_that_is_killed_goes_on_where_it_was(
    world: World, tmp_path: Path, after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sublet.store import copying

    source, target = Store(world.settings.database_url), Store(f"sqlite:///{tmp_path}/copy.db")
    whole = copying._copy_table
    tables: list[str] = []

    def dies(reading: Any, writing: Any, table: Any) -> None:
        if len(tables) == after:
            raise KeyboardInterrupt
        tables.append(table)
        whole(reading, writing, table)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(copying, "_copy_table", dies)
        copy_database(source, target)
    tables.clear()
    monkeypatch.setattr(copying, "_copy_table", lambda *words: (tables.append(words[2]), whole(*words))[1])
    copied = copy_database(source, target)
    assert len(tables) == len(metadata.sorted_tables) - after, "what was complete is not copied again"
    with source.read() as reading:
        assert measured(reading) == copied
    other = World(tmp_path / "other")
    elsewhere = Store(f"sqlite:///{tmp_path}/second.db")
    tables.clear()
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(copying, "_copy_table", dies)
        copy_database(source, elsewhere)
    with pytest.raises(TargetNotEmptyError, match="copy of another database"):
        copy_database(other.system.store, elsewhere)
    for store in (source, target, elsewhere):
        store.close()
    other.close()


def test_a_source_that_changed_meanwhile_is_found_out(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sublet.store import copying

    source, target = Store(world.settings.database_url), Store(f"sqlite:///{tmp_path}/copy.db")
    whole = copying._copy_table

    def loses(reading: Any, writing: Any, table: Any) -> None:
        if getattr(table, "name", "") != "units":
            whole(reading, writing, table)

    monkeypatch.setattr(copying, "_copy_table", loses)
    with pytest.raises(CopyDiffersError, match="units"):
        copy_database(source, target)
    with target.read() as connection:
        assert connection.execute(text(f"SELECT count(*) FROM {PROGRESS}")).scalar_one() > 1
    source.close()
    target.close()


def test_the_drill_of_the_manual(world: World, tmp_path: Path) -> None:
    """The commands of docs/operations.md, as they stand there."""
    manual = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
    drill = manual.split("<!-- drill -->")[1].split("```")[1].removeprefix("sh\n")
    world.close()
    environment = {
        **os.environ,
        "SUBLET_DATA_DIR": str(world.settings.data_dir),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    script = drill.replace("/backups", str(tmp_path / "backups")).replace("/tmp/drill", str(tmp_path / "drill"))
    done = subprocess.run(
        ["bash", "-euc", script],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "the books are proved" in done.stdout
    manifests = list((tmp_path / "backups").glob("*/manifest.json"))
    assert len(manifests) == 1 and json.loads(manifests[0].read_text())["homes"] is True
