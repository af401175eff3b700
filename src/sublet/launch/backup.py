"""Back up a whole Sublet while it runs, and put it back: the database, the gateway's journals, and the homes of leases."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import sqlite3
import tarfile
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

from sublet import __version__
from sublet.config.data_dir import RESTORE_NAME, note_backup, running_system, unfinished_restore
from sublet.config.settings import Settings
from sublet.store import Store
from sublet.store.copying import copy_database
from sublet.values.clock import format_time
from sublet.values.errors import ConflictError, InvalidInputError, NotFoundError

DATABASE, FILES, MANIFEST = "database.db", "files.tar", "manifest.json"
FOLDERS = ("gateway", "leases")
_BLOCK = 1 << 20


class BackupDamagedError(InvalidInputError):
    """The backup is damaged: a file is missing or its hash differs; use another backup."""

    code = "backup_damaged"


class WouldOverwriteError(ConflictError):
    """Sublet data already exists at the target of the restore; choose another target, or pass --overwrite."""

    code = "would_overwrite"


def back_up(settings: Settings, target: Path, now: datetime, *, homes: bool = True) -> dict[str, Any]:
    """Write a backup into `target`, a new folder that only its owner can enter; returns its manifest. Works while Sublet runs.

    Journals are read before the database: usage that is shipped in between is in both, and counts once by its id. The
    backup is whole when the folder has its name. Raises WouldOverwriteError, NotFoundError where there is no database.
    """
    if target.exists():
        raise WouldOverwriteError(f"{target} already exists; choose a new folder")
    partial = target.with_name(f"{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(mode=0o700, parents=True)
    _write_files(settings.data_dir, partial / FILES, homes=homes)
    _write_database(settings, partial / DATABASE)
    manifest = {
        "sublet": __version__,
        "made_at": format_time(now),
        "homes": homes,
        "sha256": {name: _sha256(partial / name) for name in (FILES, DATABASE)},
    }
    _durable(partial / MANIFEST, json.dumps(manifest, indent=1).encode())
    partial.rename(target)
    with contextlib.suppress(OSError):  # the backup is complete anyway
        note_backup(settings.data_dir, now)
    return manifest


def checked_backup(source: Path) -> dict[str, Any]:
    """The manifest of a backup whose files are what they were. Raises BackupDamagedError, NotFoundError."""
    try:
        manifest: dict[str, Any] = json.loads((source / MANIFEST).read_bytes())
        hashes = dict(manifest["sha256"])
    except OSError as error:
        raise NotFoundError(f"{source} is not a backup ({error.strerror}); specify the folder of a backup") from error
    except (ValueError, KeyError, TypeError) as error:
        raise BackupDamagedError(f"{source / MANIFEST} is damaged") from error
    for name in (FILES, DATABASE):
        if not (source / name).is_file() or _sha256(source / name) != hashes.get(name):
            raise BackupDamagedError(f"{source / name} was changed after the backup; use another backup")
    with closing(sqlite3.connect(f"file:{source / DATABASE}?mode=ro", uri=True)) as database:
        if database.execute("PRAGMA integrity_check").fetchone()[0] != "ok":
            raise BackupDamagedError(f"{source / DATABASE} fails its integrity check")
    return manifest


def restore(settings: Settings, source: Path, now: datetime, *, overwrite: bool = False) -> dict[str, Any]:
    """Put a backup in place; what was there is moved aside and never deleted. Returns the manifest. A restore that was killed is
    repeated; until then Sublet does not start there. Raises ConflictError where Sublet runs, WouldOverwriteError,
    BackupDamagedError, NotFoundError; nothing has then changed."""
    manifest = checked_backup(source)
    if running_system(settings.data_dir) is not None:
        raise ConflictError("Sublet is running on this data directory; stop it with `sublet down --end-leases` first")
    begun = unfinished_restore(settings.data_dir)
    store = Store(settings.database_url)
    try:
        there = [settings.data_dir / name for name in FOLDERS if _any_in(settings.data_dir / name)]
        if store.is_sqlite and Path(str(store.url.database)).exists():
            there.insert(0, Path(str(store.url.database)))
        if there and not overwrite and begun is None:
            raise WouldOverwriteError(f"{there[0]} already exists; to move it aside, use --overwrite")
        if not store.is_sqlite:
            original = Store(f"sqlite:///{source / DATABASE}")
            try:
                copy_database(original, store)
            finally:
                original.close()
    finally:
        store.close()
    settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    marker = settings.data_dir / RESTORE_NAME
    if begun is None:
        begun = {"aside": f"replaced-{now:%Y%m%dT%H%M%S}", "moved": False}
        _replace(marker, begun)
    if not begun["moved"]:
        _move_aside(there, settings.data_dir / begun["aside"])
        _replace(marker, begun | {"moved": True})
    else:
        # What is there is what the restore that was killed had put there.
        _remove(there)
    with tarfile.open(source / FILES) as archive:
        archive.extractall(settings.data_dir, filter="tar")
    if store.is_sqlite:
        place = Path(str(store.url.database))
        fresh = place.with_name(f"{place.name}.restored")
        shutil.copyfile(source / DATABASE, fresh)
        fresh.chmod(0o600)
        _sync(fresh)
        fresh.replace(place)
    marker.unlink()
    return manifest


def _move_aside(there: list[Path], aside: Path) -> None:
    """What lies there, into a folder of its own; harmless when repeated after a kill."""
    for path in there:
        aside.mkdir(mode=0o700, exist_ok=True)
        for part in _parts(path):
            if part.exists():
                part.rename(aside / part.name)


def _remove(there: list[Path]) -> None:
    for path in there:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            for part in _parts(path):
                part.unlink(missing_ok=True)


def _parts(path: Path) -> list[Path]:
    """A folder, or a database with what SQLite keeps beside it; the database itself last, for it tells that they are there."""
    return [path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm"), path]


def _replace(path: Path, document: dict[str, Any]) -> None:
    """Write it so that either the old or the new content is there, whatever happens."""
    partial = path.with_name(f"{path.name}.partial")
    partial.unlink(missing_ok=True)
    _durable(partial, json.dumps(document).encode())
    partial.replace(path)


def _write_database(settings: Settings, target: Path) -> None:
    """One consistent state of the database as an SQLite file, whichever kind it is."""
    source = Store(settings.database_url)
    try:
        path = Path(str(source.url.database)) if source.is_sqlite else target.with_suffix(".copy")
        if not source.is_sqlite:
            copy = Store(f"sqlite:///{path}")
            try:
                copy_database(source, copy)
            finally:
                copy.close()
        elif not path.is_file():
            raise NotFoundError(f"there is no database at {path}; nothing was backed up")
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=60)) as database:
            database.execute("VACUUM INTO ?", (str(target),))
        if not source.is_sqlite:
            for part in ("", "-wal", "-shm"):
                path.with_name(path.name + part).unlink(missing_ok=True)
    finally:
        source.close()
    target.chmod(0o600)
    _sync(target)


def _write_files(data_dir: Path, target: Path, *, homes: bool) -> None:
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file, tarfile.open(fileobj=file, mode="w") as archive:
        for path in _paths(data_dir, homes=homes):
            try:
                member = archive.gettarinfo(path, str(path.relative_to(data_dir)))
            except OSError:
                continue  # gone since it was listed: shipped, or over
            if member is None:
                continue  # a socket
            if member.isreg():
                _add_file(archive, member, path)
            else:
                archive.addfile(member)
        file.flush()
    _sync(target)


def _add_file(archive: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    """A journal grows while it is read: what it had when it was opened is taken, no more and no less."""
    try:
        handle = path.open("rb")
    except OSError:
        return
    with handle:
        member.size = os.fstat(handle.fileno()).st_size
        archive.addfile(member, handle)


def _paths(data_dir: Path, *, homes: bool) -> Iterator[Path]:
    for name in FOLDERS if homes else FOLDERS[:1]:
        for folder, folders, names in os.walk(data_dir / name):
            folders.sort()
            yield Path(folder)
            for entry in sorted(names):
                yield Path(folder) / entry


def _any_in(folder: Path) -> bool:
    return folder.is_dir() and any(folder.iterdir())


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _durable(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
