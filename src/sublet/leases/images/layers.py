"""Reads an image: a tar of a root file system, an OCI layout in a tar, or the output of `docker save`.

OCI image layout and layer format: https://github.com/opencontainers/image-spec (image-layout.md, layer.md), version 1.1.
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import json
import lzma
import os
import shutil
import subprocess
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from sublet.leases.images.model import ImageLimits, ImageRefusedError
from sublet.leases.images.tree import FILE, FOLDER, LINK, Node, Tree, shown

PART = 1 << 20
DOCUMENT_BYTES_MAX = 4 << 20
LAYERS_MAX = 256
RATIO_FREE_BYTES = 64 << 20
"""So much may come out of little: the ratio is looked at beyond it."""
_INDEXES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
_PADDING = bytes(1536)
_DAMAGED = (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile, UnicodeError, OverflowError)


@dataclass(frozen=True, slots=True)
class Config:
    """The configuration of an image, and the digest of its manifest. Empty for a plain tar."""

    manifest: str = ""
    architecture: str = ""
    environment: tuple[tuple[str, str], ...] = ()


class Spool:
    """Uncompressed copies of layers in the working directory, and how many more bytes may be written."""

    def __init__(self, limits: ImageLimits, source_bytes: int, progress: Callable[[int], None]) -> None:
        self.left = limits.unpacked_bytes_max * 2 + PART
        self.ratio_bytes = max(RATIO_FREE_BYTES, source_bytes * limits.ratio_max)
        self.layers: list[IO[bytes]] = []
        self._progress = progress
        self._total = 0

    def add(self, source: IO[bytes]) -> None:
        """Add a layer, compressed or not. Raises ImageRefusedError."""
        if len(self.layers) >= LAYERS_MAX:
            raise ImageRefusedError(f"the image has more than {LAYERS_MAX} layers")
        path = Path(f"layer{len(self.layers)}")
        file = path.open("x+b")
        # It needs no name and is gone with this process.
        path.unlink()
        self.layers.append(file)
        try:
            with _plain(source) as plain:
                while part := plain.read(PART):
                    self._take(len(part))
                    file.write(part)
        except _DAMAGED as error:
            raise ImageRefusedError(f"a layer is damaged or cut short ({str(error)[:100]})") from error
        # Some writers leave out the zeros at the end.
        file.write(_PADDING)
        file.seek(0)

    def close(self) -> None:
        for layer in self.layers:
            layer.close()

    def _take(self, count: int) -> None:
        self._total += count
        if self._total > self.left:
            raise ImageRefusedError("the image is larger than allowed when uncompressed")
        if self._total > self.ratio_bytes:
            raise ImageRefusedError("the image expands to far more than its size, as only an attack does")
        if self._total % (64 * PART) < count:
            free = os.statvfs(".")
            if free.f_bavail * free.f_frsize < free.f_blocks * free.f_frsize // 20:
                raise ImageRefusedError("the disk of this Sublet has no room to import the image; ask the operator")
        self._progress(self._total)


def read_image(path: Path, spool: Spool) -> Config:
    """Put the layers of the image at `path` into `spool`, lowest first. Raises ImageRefusedError."""
    with path.open("rb") as file:
        compressed = file.read(6)[:2] in (b"\x1f\x8b", b"BZ", b"\xfd7", b"\x28\xb5")
        file.seek(0)
        if not compressed:
            told = _read_archive(file, spool)
            if told is None:
                file.seek(0)
                spool.add(file)
            return told or Config()
        spool.add(file)
    whole = spool.layers.pop()
    told = _read_archive(whole, spool)
    if told is not None:
        whole.close()
        return told
    whole.seek(0)
    spool.layers.append(whole)
    return Config()


def _read_archive(file: IO[bytes], spool: Spool) -> Config | None:
    """The layers of an OCI layout or a docker archive, or None for a tar that is itself a root file system."""
    try:
        with tarfile.open(fileobj=file, mode="r:") as outer:
            names = _documents(outer)
            if "index.json" in names:
                return _read_oci(outer, names, spool)
            return _read_docker(outer, names, spool) if names else None
    except _DAMAGED as error:
        raise ImageRefusedError(f"the file is damaged or no image ({str(error)[:100]})") from error


def merge(spool: Spool, limits: ImageLimits) -> tuple[Tree, int, int]:
    """The tree of all layers, the number of its entries, and the bytes of its files. Raises ImageRefusedError."""
    tree, entries = Tree(), 0
    for number, layer in enumerate(spool.layers):
        found: list[tuple[str, Node]] = []
        own: dict[str, Node] = {}
        try:
            for member in _members(layer):
                entries += 1
                if entries > limits.files_max:
                    raise ImageRefusedError(f"the image has more than {limits.files_max} files")
                _take(member, number, tree, found, own)
        except _DAMAGED as error:
            raise ImageRefusedError(f"a layer is damaged or no tar ({str(error)[:100]})") from error
        for path, node in found:
            tree.add(path, node)
    size = made = 0
    for _, node in tree.walk():
        size, made = size + node.size, made + 1
    # A single entry can name many directories that nothing else mentions.
    if made > limits.files_max:
        raise ImageRefusedError(f"the image has more than {limits.files_max} files and directories")
    if size > limits.unpacked_bytes_max:
        raise ImageRefusedError(
            f"the files of the image have {size >> 20} MiB; {limits.unpacked_bytes_max >> 20} MiB are allowed"
        )
    if not tree.root.children:
        raise ImageRefusedError("there is nothing in the image")
    return tree, entries, size


def write_tar(tree: Tree, spool: Spool, out: IO[bytes], progress: Callable[[int], None]) -> None:
    """Write the tree as a tar of files, directories and symbolic links that belong to root, without setuid and setgid bits."""
    written = 0
    with tarfile.open(fileobj=out, mode="w|", format=tarfile.GNU_FORMAT, errors="surrogateescape") as tar:
        for path, node in tree.walk():
            entry = tarfile.TarInfo(path)
            entry.mtime = min(max(node.mtime, 0), (1 << 32) - 1)
            if node.kind == FOLDER:
                entry.type, entry.mode = tarfile.DIRTYPE, node.mode & 0o1777 | 0o700
                tar.addfile(entry)
            elif node.kind == LINK:
                entry.type, entry.linkname, entry.mode = tarfile.SYMTYPE, node.link, 0o777
                tar.addfile(entry)
            else:
                entry.size, entry.mode = node.size, node.mode & 0o777
                source = spool.layers[node.layer] if node.size else None
                if source is not None:
                    source.seek(node.offset)
                tar.addfile(entry, source)
                written += node.size
                progress(written)


def _members(layer: IO[bytes]) -> Iterator[tarfile.TarInfo]:
    with tarfile.open(fileobj=layer, mode="r:", errors="surrogateescape") as tar:
        while (member := tar.next()) is not None:
            # Otherwise, the tar file keeps every member in memory.
            tar.members = []  # type: ignore[attr-defined]
            yield member


def _take(
    member: tarfile.TarInfo, number: int, tree: Tree, found: list[tuple[str, Node]], own: dict[str, Node]
) -> None:
    """Add one entry of layer `number`. Whiteouts apply to the layers below at once. Raises ImageRefusedError."""
    name = "/".join(part for part in member.name.split("/") if part not in ("", "."))
    folder, _, base = name.rpartition("/")
    if base == ".wh..wh..opq":
        tree.empty(folder, number)
        return
    if base.startswith(".wh."):
        if number:
            tree.hide(f"{folder}/{base[4:]}", number)
        return
    if member.issparse():
        raise ImageRefusedError(f"{shown(name)} is stored sparsely; make the tar without --sparse")
    mode, mtime = member.mode, int(member.mtime)
    if member.isdir():
        node = Node(FOLDER, number, mode, mtime)
    elif member.isreg():
        node = Node(FILE, number, mode, mtime, member.size, member.offset_data)
    elif member.issym():
        if not member.linkname or len(member.linkname) > 4095:
            raise ImageRefusedError(f"the symbolic link {shown(name)} points nowhere")
        node = Node(LINK, number, mode, mtime, link=member.linkname)
    elif member.islnk():
        node = _linked(member.linkname, name, own, tree)
    else:
        # A device or a pipe: a sandbox has its own /dev and can't use another.
        return
    own[name] = node
    found.append((name, node))


def _linked(target: str, name: str, own: dict[str, Node], tree: Tree) -> Node:
    """Resolve a hard link, which has the same bytes under another name. It points to an entry of its own layer or of one
    below."""
    wanted = "/".join(part for part in target.split("/") if part not in ("", "."))
    node = own.get(wanted) or (tree.find(wanted) if ".." not in wanted.split("/") else None)
    if node is None or node.kind == FOLDER:
        raise ImageRefusedError(f"the hard link {shown(name)} points to {shown(target)}, which is no file of the image")
    return Node(node.kind, node.layer, node.mode, node.mtime, node.size, node.offset, node.link)


@contextmanager
def _plain(source: IO[bytes]) -> Iterator[IO[bytes]]:
    """The uncompressed bytes of `source`: gzip, bzip2 and xz in this process, zstd by its program."""
    start = source.read(6)
    source.seek(-len(start), os.SEEK_CUR)
    if start[:2] == b"\x1f\x8b":
        with gzip.GzipFile(fileobj=source) as zipped:
            yield cast(IO[bytes], zipped)
    elif start[:3] == b"BZh":
        with bz2.BZ2File(source) as bzipped:
            yield bzipped
    elif start == b"\xfd7zXZ\x00":
        with lzma.LZMAFile(source) as xzipped:
            yield xzipped
    elif start[:4] == b"\x28\xb5\x2f\xfd":
        with _unzstd(source) as plain:
            yield plain
    else:
        yield source


@contextmanager
def _unzstd(source: IO[bytes]) -> Iterator[IO[bytes]]:
    program = shutil.which("zstd")
    if program is None:
        raise ImageRefusedError("the image is compressed with zstd, which this machine lacks; send it with gzip")
    # A member of a tar has no file descriptor, so it is copied first; compressed, it is small.
    path = Path("layer.zst")
    with path.open("x+b") as copy:
        path.unlink()
        shutil.copyfileobj(source, copy, PART)
        copy.seek(0)
        with subprocess.Popen([program, "-dcq"], stdin=copy, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as run:
            assert run.stdout is not None
            try:
                yield run.stdout
                if run.wait() != 0:
                    raise ImageRefusedError("a layer compressed with zstd is damaged or cut short")
            finally:
                run.kill()


def _documents(outer: tarfile.TarFile) -> dict[str, tarfile.TarInfo]:
    """The files of an OCI layout or a docker archive by name; empty for a tar whose first entries are a root file system."""
    found: dict[str, tarfile.TarInfo] = {}
    for member in outer:
        name = member.name.removeprefix("./")
        if member.isreg() or member.issym() or member.islnk():
            found[name] = member
        if len(found) > LAYERS_MAX * 8:
            break
    return found if {"oci-layout", "index.json"} <= set(found) or "manifest.json" in found else {}


def _read_oci(outer: tarfile.TarFile, names: dict[str, tarfile.TarInfo], spool: Spool) -> Config:
    index = _json(_file(outer, names, "index.json").read(DOCUMENT_BYTES_MAX))
    manifests = _list(index, "manifests")
    if len(manifests) != 1:
        named = ", ".join(sorted(str(_name_of(item)) for item in manifests))[:200]
        raise ImageRefusedError(f"the layout has {len(manifests)} images ({named}); export the one that you want")
    found, depth = manifests[0], 0
    while found.get("mediaType") in _INDEXES and depth < 4:
        choices = _list(_json(_blob(outer, names, str(found.get("digest")))), "manifests")
        own = [item for item in choices if _fits(item.get("platform"))]
        if not own:
            raise ImageRefusedError(f"the layout has no image for {machine()}")
        found, depth = own[0], depth + 1
    manifest = _json(_blob(outer, names, str(found.get("digest"))))
    config = manifest.get("config")
    digest = str(config.get("digest")) if isinstance(config, dict) else ""
    told = _config(_json(_blob(outer, names, digest)), str(found.get("digest")))
    for layer in _list(manifest, "layers"):
        name = _blob_name(str(layer.get("digest")))
        with _Checked(_file(outer, names, name), name.rpartition("/")[2]) as file:
            spool.add(file)
            file.finish()
    return told


def _read_docker(outer: tarfile.TarFile, names: dict[str, tarfile.TarInfo], spool: Spool) -> Config:
    manifests = _parsed(_file(outer, names, "manifest.json").read(DOCUMENT_BYTES_MAX))
    if not isinstance(manifests, list) or len(manifests) != 1 or not isinstance(manifests[0], dict):
        raise ImageRefusedError("the archive has not exactly one image; save the one that you want")
    raw = _file(outer, names, str(manifests[0].get("Config"))).read(DOCUMENT_BYTES_MAX)
    told = _config(_json(raw), "sha256:" + hashlib.sha256(raw).hexdigest())
    layers = manifests[0].get("Layers")
    for name in layers if isinstance(layers, list) else ():
        spool.add(_file(outer, names, str(name)))
    return told


class _Checked:
    """A blob that is read as a stream, with the digest of what was read."""

    def __init__(self, file: IO[bytes], digest: str) -> None:
        self._file, self._digest = file, digest

    def __enter__(self) -> Any:
        whole = hashlib.sha256()
        while part := self._file.read(PART):
            whole.update(part)
        if whole.hexdigest() != self._digest:
            raise ImageRefusedError(f"the blob {self._digest[:12]} is damaged: its bytes have another digest")
        self._file.seek(0)
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def read(self, size: int = -1) -> bytes:
        return self._file.read(size)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def finish(self) -> None:
        """Close the copy."""
        self._file.close()


def machine() -> str:
    """This machine's architecture by its OCI name."""
    name = os.uname().machine
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(name, name)


def _fits(platform: Any) -> bool:
    return isinstance(platform, dict) and platform.get("architecture") == machine() and platform.get("os") == "linux"


def _config(told: dict[str, Any], manifest: str) -> Config:
    architecture = str(told.get("architecture") or "")
    if architecture and architecture != machine():
        raise ImageRefusedError(f"the image is for {architecture[:20]}, and this machine is {machine()}")
    inner = told.get("config")
    lines = inner.get("Env") if isinstance(inner, dict) else None
    pairs = [str(line).partition("=") for line in (lines if isinstance(lines, list) else ())]
    return Config(manifest, architecture, tuple((name, value) for name, _, value in pairs))


def _name_of(item: dict[str, Any]) -> str:
    notes = item.get("annotations")
    return str(notes.get("org.opencontainers.image.ref.name", "unnamed")) if isinstance(notes, dict) else "unnamed"


def _blob_name(digest: str) -> str:
    kind, _, text = digest.partition(":")
    if kind != "sha256" or len(text) != 64 or set(text) - set("0123456789abcdef"):
        raise ImageRefusedError(f"{shown(digest)} is not a SHA-256 digest")
    return f"blobs/sha256/{text}"


def _blob(outer: tarfile.TarFile, names: dict[str, tarfile.TarInfo], digest: str) -> bytes:
    name = _blob_name(digest)
    content = _file(outer, names, name).read(DOCUMENT_BYTES_MAX)
    if hashlib.sha256(content).hexdigest() != name.rpartition("/")[2]:
        raise ImageRefusedError(f"the blob {digest[:20]} is damaged: its bytes have another digest")
    return content


def _file(outer: tarfile.TarFile, names: dict[str, tarfile.TarInfo], name: str) -> IO[bytes]:
    member = names.get(name)
    file = outer.extractfile(member) if member is not None and member.isreg() else None
    if file is None:
        raise ImageRefusedError(f"{shown(name)} is missing in the archive")
    return file


def _parsed(content: bytes) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ImageRefusedError("a document of the image is not JSON") from error


def _json(content: bytes) -> dict[str, Any]:
    found = _parsed(content)
    if not isinstance(found, dict):
        raise ImageRefusedError("a document of the layout is not an object")
    return found


def _list(found: dict[str, Any], name: str) -> list[dict[str, Any]]:
    items = found.get(name)
    if not isinstance(items, list) or len(items) > LAYERS_MAX or not all(isinstance(item, dict) for item in items):
        raise ImageRefusedError(f"{name} of the layout is missing or too long")
    return items
