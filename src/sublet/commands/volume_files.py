"""`sublet volume cp` and the snapshots of volumes."""

from __future__ import annotations

import hashlib
import io
import itertools
import os
import shutil
import stat
import tarfile
import tempfile
import time as clock
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, TypeVar, cast

import typer

from sublet.client.remote import connect
from sublet.output import JsonFlag, print_json, print_rows, progress, say
from sublet.shown import Columns, time
from sublet.values.errors import ConflictError, InvalidInputError, UnavailableError
from sublet.values.ids import new_id

if TYPE_CHECKING:
    from sublet.client.clients import Client

PART_BYTES = 4 << 20
POLL_S = 0.3
WAIT_S = 30.0
T = TypeVar("T")
Name = Annotated[str, typer.Argument(help="Name or id of a volume, as shown by `sublet volume ls`.")]
SnapshotName = Annotated[str, typer.Argument(help="Name or id of a snapshot, as shown by `sublet volume snapshots`.")]

_COLUMNS: Columns = {
    "name": "snapshot",
    "state": "state",
    "mib": "MiB",
    "origin": "origin",
    "created_at": time("since"),
    "expires_at": time("kept until"),
    "id": "id",
}


def register(app: typer.Typer) -> None:
    """Add the commands to `sublet volume`."""
    for command in (cp, snapshot, snapshots, restore):
        app.command()(command)
    app.command("remove-snapshot")(remove_snapshot)


def cp(
    source: Annotated[str, typer.Argument(help="A file or directory here, or VOLUME:PATH.")],
    target: Annotated[
        str, typer.Argument(help="VOLUME:PATH, or a path here. A path that ends with / is a directory to copy into.")
    ],
    replace: Annotated[bool, typer.Option("--replace", help="Replace what is at the target.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Copy a file or directory into or out of a volume that no lease uses, all of it or nothing.

    If an upload is interrupted, the same command continues it.
    """
    there, here = _place(source), _place(target)
    if (there is None) == (here is None):
        raise InvalidInputError("one of the two must be VOLUME:PATH, and the other a path on this machine")
    remote = connect()
    if here is not None:
        found = _copy_in(remote, Path(source), here, replace)
    else:
        assert there is not None
        found = _copy_out(remote, there, target, replace)
    if as_json:
        print_json(found)
    else:
        say(f"copied to {found['path']}")


def snapshot(
    name: Name,
    called: Annotated[str, typer.Option("--name", help="What to call it; by default, its time.")] = "",
    wait: Annotated[bool, typer.Option(help="Wait until it is ready.")] = True,
    as_json: JsonFlag = False,
) -> None:
    """Keep a volume as it is now. A snapshot is billed like a volume of the size that it occupies."""
    remote = connect()
    body = {"name": called}
    made = _when_free(
        remote, name, lambda: remote.document("volumes.snapshot", name, body=body, idempotency_key=new_id("req"))
    )
    while wait and made["state"] == "making":
        clock.sleep(POLL_S)
        known = remote.collected("volumes.list_snapshots", name)["snapshots"]
        made = next((item for item in known if item["id"] == made["id"]), {**made, "state": "removed"})
    _shown([made], made, as_json)
    if wait and made["state"] != "ready":
        raise UnavailableError(f"the snapshot is {made['state']}: {made['last_error'] or 'no reason given'}")


def snapshots(name: Name, as_json: JsonFlag = False) -> None:
    """List a volume's snapshots. Those of origin `reclaim` were made when the owner took a lease back, and are free."""
    found = connect().collected("volumes.list_snapshots", name)
    _shown(found["snapshots"], found, as_json)


def restore(
    name: Name,
    snapshot: SnapshotName,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    wait: Annotated[bool, typer.Option(help="Wait until it is restored.")] = True,
    as_json: JsonFlag = False,
) -> None:
    """Make a volume what it was at a snapshot. What it holds now is lost."""
    if not yes:
        typer.confirm(f"Replace everything in {name} with snapshot {snapshot}?", abort=True, err=True)
    remote = connect()
    found = _when_free(
        remote, name, lambda: remote.document("volumes.restore", name, snapshot, idempotency_key=new_id("req"))
    )
    while wait and found["busy_with"] == "restoring":
        clock.sleep(POLL_S)
        found = remote.document("volumes.show", name)
    if as_json:
        print_json(found)
    elif found["last_error"]:
        raise UnavailableError(f"volume {name} could not be restored: {found['last_error']}")
    else:
        say(f"volume {found['name']} is {'being restored' if found['busy_with'] else 'restored'}")


def remove_snapshot(
    name: Name,
    snapshot: SnapshotName,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Delete a snapshot, and end its billing."""
    if not yes:
        typer.confirm(f"Delete snapshot {snapshot} of {name}?", abort=True, err=True)
    removed = connect().document("volumes.remove_snapshot", name, snapshot)
    _shown([removed], removed, as_json)


def _when_free(remote: Client, volume: str, act: Callable[[], T]) -> T:
    """Do something, after a wait of up to WAIT_S for what is about to release the volume: other work, or a lease that ends."""
    deadline = clock.monotonic() + WAIT_S
    while True:
        try:
            return act()
        except ConflictError as error:
            code, late = str(error.code), clock.monotonic() > deadline
            if late or not (code == "volume_busy" or (code == "volume_in_use" and _is_ending(remote, volume))):
                raise
        clock.sleep(POLL_S)


def _is_ending(remote: Client, volume: str) -> bool:
    lease_id = remote.document("volumes.show", volume)["lease_id"]
    return lease_id is None or remote.document("leases.show", lease_id)["state"] == "ending"


def _begun(remote: Client, volume: str, path: str) -> tuple[bytes, Iterator[bytes]]:
    parts = remote.bytes("volumes.copy_out", volume, query={"path": path or None})
    return next(parts, b""), parts


def _place(text: str) -> tuple[str, str] | None:
    """Volume and path of VOLUME:PATH; None for a path on this machine, as `scp` tells them apart."""
    volume, colon, path = text.partition(":")
    return (volume, path) if colon and volume and "/" not in volume and volume != "." else None


def _copy_in(remote: Client, source: Path, target: tuple[str, str], replace: bool) -> dict[str, Any]:
    volume, path = target
    name = source.resolve().name if source.name in ("", "..") else source.name
    if path in ("", "/") or path.endswith("/"):
        path = f"{path}{name}"
    with _packed(source, path.rstrip("/").rpartition("/")[2]) as (file, size, digest):
        body = {"path": path, "size_bytes": size, "sha256": digest, "replace": replace}
        copy = _when_free(
            remote, volume, lambda: remote.document("volumes.copy_in", volume, body=body, idempotency_key=new_id("req"))
        )
        with progress("uploading") as tell:
            while copy["state"] == "receiving":
                offset = copy["received_bytes"]
                file.seek(offset)
                copy = remote.document(
                    "volumes.upload",
                    volume,
                    copy["id"],
                    body=file.read(min(PART_BYTES, size - offset)),
                    query={"offset": offset},
                    content_type="application/octet-stream",
                )
                tell(copy["received_bytes"] / size)
    while copy["state"] == "unpacking":
        clock.sleep(POLL_S)
        copy = remote.document("volumes.show_copy", volume, copy["id"])
    if copy["state"] != "done":
        raise ConflictError(f"nothing was copied: {copy['last_error'] or 'no reason given'}")
    return {**copy, "path": f"{volume}:{copy['path']}"}


@contextmanager
def _packed(source: Path, name: str) -> Iterator[tuple[BinaryIO, int, str]]:
    """The tar to send, its size and its SHA-256. The same files make the same tar. Raises InvalidInputError."""

    def told(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        member.uid = member.gid = 0
        member.uname = member.gname = ""
        member.mtime = int(member.mtime)
        return member if member.isreg() or member.isdir() or member.issym() or member.islnk() else None

    with tempfile.TemporaryFile() as file:
        try:
            with progress("packing"), tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
                tar.add(source, name, filter=told)
        except OSError as error:
            raise InvalidInputError(f"{error.filename or source} can't be read ({error.strerror})") from error
        size = file.tell()
        file.seek(0)
        digest = hashlib.file_digest(cast("Any", file), "sha256").hexdigest()
        yield cast("BinaryIO", file), size, digest


def _copy_out(remote: Client, source: tuple[str, str], target: str, replace: bool) -> dict[str, Any]:
    """Next to the target first: what arrives only in part is removed."""
    volume, path = source
    place = Path(target)
    if target.endswith("/") or place.is_dir():
        name = path.rstrip("/").rpartition("/")[2] or volume
        place = place / name
    if os.path.lexists(place) and not replace:
        raise ConflictError(f"there already is a {place}; choose another path, or use --replace")
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".sublet-", dir=place.parent) as folder:
        first, parts = _when_free(remote, volume, lambda: _begun(remote, volume, path))
        reader = io.BufferedReader(_Received(itertools.chain([first], parts)), PART_BYTES)
        with tarfile.open(fileobj=reader, mode="r|") as tar:
            # It refuses what leads out of the folder, devices, and links to elsewhere.
            tar.extractall(folder, filter=_checked)  # noqa: S202
        # Only what was read to its end is whole.
        while reader.read(PART_BYTES):
            continue
        (made,) = Path(folder).iterdir()
        _put(made, place)
    return {"path": str(place)}


def _checked(member: tarfile.TarInfo, folder: str) -> tarfile.TarInfo | None:
    try:
        return tarfile.data_filter(member, folder)
    except tarfile.FilterError as error:
        if member.issym():
            say(f"left out {member.name}: a link to {member.linkname}, outside what is copied", err=True)
            return None
        raise InvalidInputError(f"the volume has {member.name!r}, which can't be copied safely: {error}") from error


def _put(made: Path, place: Path) -> None:
    if os.path.lexists(place):
        if stat.S_ISDIR(place.lstat().st_mode):
            old = made.with_name(f"{made.name}.old")
            place.rename(old)
            made.rename(place)
            shutil.rmtree(old, ignore_errors=True)
            return
        if made.is_dir():
            place.unlink()
    made.rename(place)


class _Received(io.RawIOBase):
    """The parts of a response as a file."""

    def __init__(self, parts: Iterator[bytes]) -> None:
        self._parts, self._left = parts, b""

    def readable(self) -> bool:
        return True

    def readinto(self, target: Any, /) -> int:
        while not self._left:
            part = next(self._parts, None)
            if part is None:
                return 0
            self._left = part
        count = min(len(target), len(self._left))
        target[:count], self._left = self._left[:count], self._left[count:]
        return count


def _shown(rows: list[dict[str, Any]], whole: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(whole)
        return
    told = [{**item, "mib": f"{item['bytes'] / (1 << 20):.1f}"} for item in rows]
    print_rows(told, _COLUMNS, "no snapshots; make one with `sublet volume snapshot NAME`")
