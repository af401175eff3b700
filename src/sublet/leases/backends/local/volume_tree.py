"""Trees of files that a tenant wrote, read and written without following a single link.

Every step is taken from an open directory to a name in it, so neither a link in the volume nor a name in an archive can lead
out of the tree.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import stat
import tarfile
from collections.abc import Iterator
from typing import BinaryIO, cast

from sublet.leases.backends.volume import parts_of
from sublet.values.errors import ConflictError, InvalidInputError, NotFoundError, StorageFullError

ENTRIES_MAX = 1_000_000
LINKS_REMEMBERED_MAX = 100_000
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_PART_BYTES = 1 << 20
_LIBC = ctypes.CDLL(None, use_errno=True)
_RENAME_NOREPLACE, _RENAME_EXCHANGE = 1, 2
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
OUR_PREFIX = ".sublet-copy-"
"""Names of our own in a volume: they are never copied out, and what a crash left of them is removed."""


def descend(root: int, parts: tuple[str, ...], *, make: bool = False) -> int:
    """The directory below `root`, open. Raises NotFoundError, and InvalidInputError for a link or a file on the way."""
    current = os.dup(root)
    for position, part in enumerate(parts):
        shown = "/".join(parts[: position + 1])
        try:
            if make:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(part, 0o755, dir_fd=current)
            following = os.open(part, _DIRECTORY, dir_fd=current)
        except FileNotFoundError as error:
            raise NotFoundError(f"there is no {shown} in the volume") from error
        except OSError as error:
            if error.errno in (errno.ENOTDIR, errno.ELOOP):
                raise InvalidInputError(
                    f"{shown} in the volume is not a directory; links are not followed", field="path"
                ) from error
            raise
        finally:
            os.close(current)
        current = following
    return current


class Packer:
    """Writes one file or directory as a tar. `bytes_max` bounds what the files are long together, which sparse files would
    exceed without occupying it."""

    def __init__(self, out: BinaryIO, bytes_max: int) -> None:
        self._tar = tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT)  # noqa: SIM115  closed by `pack`
        self._left = bytes_max
        self._linked: dict[tuple[int, int], str] = {}

    def pack(self, root: int, parts: tuple[str, ...], name: str) -> None:
        """What is at `parts` below `root`, as `name`. Raises NotFoundError, InvalidInputError."""
        if not parts:
            self._directory(root, name, top=True)
        else:
            parent = descend(root, parts[:-1])
            try:
                self._entry(parent, parts[-1], name)
            except FileNotFoundError as error:
                raise NotFoundError(f"there is no {'/'.join(parts)} in the volume") from error
            finally:
                os.close(parent)
        self._tar.close()

    def _entry(self, folder: int, entry: str, name: str) -> None:
        try:
            self._any(folder, entry, name)
        except PermissionError as error:
            raise InvalidInputError(
                f"{name} can't be read, because its mode lets not even its owner; change that in a lease with chmod"
            ) from error

    def _any(self, folder: int, entry: str, name: str) -> None:
        found = os.stat(entry, dir_fd=folder, follow_symlinks=False)
        if stat.S_ISDIR(found.st_mode):
            inner = os.open(entry, _DIRECTORY, dir_fd=folder)
            try:
                self._directory(inner, name, top=False)
            finally:
                os.close(inner)
        elif stat.S_ISLNK(found.st_mode):
            told = _told(name, found)
            told.type, told.linkname = tarfile.SYMTYPE, os.readlink(entry, dir_fd=folder)
            self._tar.addfile(told)
        elif stat.S_ISREG(found.st_mode):
            self._file(folder, entry, name)

    def _directory(self, folder: int, name: str, *, top: bool) -> None:
        told = _told(name, os.fstat(folder))
        told.type = tarfile.DIRTYPE
        self._tar.addfile(told)
        for entry in sorted(os.listdir(folder)):
            if not (top and (entry == "lost+found" or entry.startswith(OUR_PREFIX))):
                self._entry(folder, entry, f"{name}/{entry}")

    def _file(self, folder: int, entry: str, name: str) -> None:
        opened = os.open(entry, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
        with os.fdopen(opened, "rb", buffering=0) as file:
            found = os.fstat(opened)
            told, inode = _told(name, found), (found.st_dev, found.st_ino)
            if found.st_nlink > 1 and inode in self._linked:
                told.type, told.linkname = tarfile.LNKTYPE, self._linked[inode]
                self._tar.addfile(told)
                return
            if found.st_nlink > 1 and len(self._linked) < LINKS_REMEMBERED_MAX:
                self._linked[inode] = name
            self._left -= found.st_size
            if self._left < 0:
                raise InvalidInputError(
                    f"{name} is sparse and {found.st_size} bytes long, more than can be copied out; pack it in a lease first"
                )
            told.size = found.st_size
            self._tar.addfile(told, cast("BinaryIO", file))


def _told(name: str, found: os.stat_result) -> tarfile.TarInfo:
    """Without the owner, whose number means nothing elsewhere, and without bits that give away rights."""
    told = tarfile.TarInfo(name)
    told.mode, told.mtime = stat.S_IMODE(found.st_mode) & 0o777, int(found.st_mtime)
    return told


def unpack(root: int, file: BinaryIO, staging: str) -> str:
    """The archive's files in the new directory `staging` below `root`. Returns the name of the one file or directory at its top.

    Raises InvalidInputError for whatever is no file, directory or link, and for names that lead elsewhere; StorageFullError.
    """
    remove(root, staging)
    os.mkdir(staging, 0o700, dir_fd=root)
    place = os.open(staging, _DIRECTORY, dir_fd=root)
    directories: list[tuple[tuple[str, ...], tarfile.TarInfo]] = []
    try:
        for member, parts in _members(file):
            if member.isdir():
                os.close(descend(place, parts, make=True))
                directories.append((parts, member))
            else:
                _write(file, place, member, parts)
        # Last and from the inside out: a directory that is not writable could take no file, and a file changes its time.
        for parts, member in sorted(directories, key=lambda item: len(item[0]), reverse=True):
            inner = descend(place, parts)
            os.fchmod(inner, member.mode & 0o777 | 0o700)
            os.utime(inner, (_time(member), _time(member)))
            os.close(inner)
        tops = os.listdir(place)  # noqa: PTH208  it takes no descriptor
    except tarfile.TarError as error:
        raise InvalidInputError(f"the copy is not a tar: {str(error)[:100]}") from error
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise StorageFullError("the volume has no room for the copy") from error
        raise
    finally:
        os.close(place)
    if len(tops) != 1:
        raise InvalidInputError(f"the tar must have one file or directory at its top, not {len(tops)}")
    return tops[0]


def _members(file: BinaryIO) -> Iterator[tuple[tarfile.TarInfo, tuple[str, ...]]]:
    count = 0
    with tarfile.open(fileobj=file, mode="r:") as tar:
        while (member := tar.next()) is not None:
            vars(tar)["members"] = []  # or it remembers every one
            count += 1
            if count > ENTRIES_MAX:
                raise InvalidInputError(f"the copy has more than {ENTRIES_MAX} files; copy it in parts")
            if member.name.startswith("/"):
                raise InvalidInputError(f"{member.name[:100]!r} in the tar is an absolute path")
            parts = parts_of(member.name)
            if not (member.isreg() or member.isdir() or member.issym() or member.islnk()):
                raise InvalidInputError(
                    f"{member.name[:100]!r} in the tar is a device or a pipe; a volume holds files, directories and links"
                )
            if parts or not member.isdir():
                yield member, parts
        file.seek(tar.offset)
        if file.read(tarfile.BLOCKSIZE) != tarfile.NUL * tarfile.BLOCKSIZE:
            raise InvalidInputError("the tar breaks off: it has no end")


def _write(file: BinaryIO, place: int, member: tarfile.TarInfo, parts: tuple[str, ...]) -> None:
    if not parts:
        raise InvalidInputError("a file in the tar has no name")
    parent = descend(place, parts[:-1], make=True)
    try:
        try:
            os.unlink(parts[-1], dir_fd=parent)
        except FileNotFoundError:
            pass
        except IsADirectoryError as error:
            raise InvalidInputError(f"{member.name[:100]!r} is in the tar as a file and as a directory") from error
        if member.issym():
            os.symlink(member.linkname, parts[-1], dir_fd=parent)
        elif member.islnk():
            _link(place, member, parent, parts[-1])
        else:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            opened = os.open(parts[-1], flags, 0o600, dir_fd=parent)
            with os.fdopen(opened, "wb", buffering=0) as target:
                _fill(file, member, target.fileno())
                os.fchmod(opened, member.mode & 0o777)
                os.utime(opened, (_time(member), _time(member)))
    finally:
        os.close(parent)


def _link(place: int, member: tarfile.TarInfo, parent: int, name: str) -> None:
    target = parts_of(member.linkname)
    folder = descend(place, target[:-1])
    try:
        os.link(target[-1], name, src_dir_fd=folder, dst_dir_fd=parent, follow_symlinks=False)
    except (FileNotFoundError, IndexError, PermissionError) as error:
        raise InvalidInputError(
            f"{member.name[:100]!r} is a link to {member.linkname[:100]!r}, which is not before it in the tar"
        ) from error
    finally:
        os.close(folder)


def _fill(file: BinaryIO, member: tarfile.TarInfo, target: int) -> None:
    if member.issparse():
        raise InvalidInputError(f"{member.name[:100]!r} is sparse in the tar; pack it without --sparse")
    before, left = file.tell(), member.size
    file.seek(member.offset_data)
    while left:
        part = file.read(min(_PART_BYTES, left))
        if not part:
            raise InvalidInputError(f"the tar breaks off within {member.name[:100]!r}")
        left -= len(part)
        while part:
            part = part[os.write(target, part) :]
    file.seek(before)


def _time(member: tarfile.TarInfo) -> float:
    """Within what every file system can keep."""
    return min(max(0.0, float(member.mtime)), float(1 << 31))


def place(root: int, staging: str, name: str, parts: tuple[str, ...], *, replace: bool) -> None:
    """Move `name` from `staging` to `parts`, in one step. Raises ConflictError where something is there and is not to be
    replaced."""
    source = os.open(staging, _DIRECTORY, dir_fd=root)
    folder = descend(root, parts[:-1], make=True)
    try:
        try:
            _rename(source, name, folder, parts[-1], _RENAME_NOREPLACE)
        except FileExistsError as error:
            if not replace:
                raise ConflictError(
                    f"there already is a {'/'.join(parts)} in the volume; choose another path, or replace it"
                ) from error
            _rename(source, name, folder, parts[-1], _RENAME_EXCHANGE)
        _LIBC.syncfs(root)
    finally:
        os.close(source)
        os.close(folder)


def exchange(folder: int, one: str, other: str) -> None:
    """Each is under the other's name afterward, and at no moment is either missing."""
    _rename(folder, one, folder, other, _RENAME_EXCHANGE)


def _rename(source: int, name: str, folder: int, target: str, flags: int) -> None:
    if _LIBC.renameat2(source, os.fsencode(name), folder, os.fsencode(target), flags) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def remove(folder: int, name: str) -> None:
    """Remove what `name` is in an open directory, with all that is in it; harmless where there is nothing."""
    try:
        os.unlink(name, dir_fd=folder)
        return
    except FileNotFoundError:
        return
    except OSError as error:
        if error.errno not in (errno.EISDIR, errno.EPERM):
            raise
    # What was found to be no link above can't become one: nobody else has the volume.
    os.chmod(name, 0o700, dir_fd=folder)
    inner = os.open(name, _DIRECTORY, dir_fd=folder)
    try:
        for entry in os.listdir(inner):  # noqa: PTH208  it takes no descriptor
            remove(inner, entry)
    finally:
        os.close(inner)
    os.rmdir(name, dir_fd=folder)


def remove_leftovers(root: int) -> None:
    """What a crash left of earlier copies."""
    for entry in os.listdir(root):
        if entry.startswith(OUR_PREFIX):
            remove(root, entry)


def flush(root: int) -> None:
    """Everything written below is durable after this."""
    _LIBC.syncfs(root)
