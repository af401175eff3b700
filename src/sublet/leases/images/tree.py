"""The file tree of an image, built in memory from the entries of its layers. Pure: nothing is unpacked, so no symbolic link of
an image is ever followed on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from sublet.leases.images.model import ImageRefusedError

NAME_BYTES_MAX, PATH_BYTES_MAX, DEPTH_MAX = 255, 4096, 200
LINKS_MAX = 40
"""Symbolic links followed for one name, as in the kernel."""
FOLDER, FILE, LINK = "folder", "file", "link"


@dataclass(slots=True)
class Node:
    """An entry. `layer` and `offset` locate the bytes of a file. `link` is the target of a symbolic link."""

    kind: str
    layer: int
    mode: int = 0o755
    mtime: int = 0
    size: int = 0
    offset: int = 0
    link: str = ""
    children: dict[str, Node] = field(default_factory=dict)


class Tree:
    """The root of an image. An entry of a later layer replaces an earlier one."""

    def __init__(self) -> None:
        self.root = Node(FOLDER, 0)

    def add(self, path: str, node: Node) -> None:
        """Put `node` at `path`. A folder keeps its entries. A parent that is a symbolic link is resolved within the image, as
        a program in the image would. Raises ImageRefusedError."""
        parts = parts_of(path)
        if not parts:
            return
        parent = self._folder(parts[:-1], node.layer, path)
        before = parent.children.get(parts[-1])
        if before is not None and before.kind == node.kind == FOLDER:
            before.mode, before.mtime, before.layer = node.mode, node.mtime, node.layer
            return
        parent.children[parts[-1]] = node

    def hide(self, path: str, layer: int) -> None:
        """Apply a whiteout of `layer`: remove what the layers below have at `path`."""
        parts = parts_of(path)
        parent = self._at(parts[:-1], layer, make=False) if parts else None
        if parent is not None and parent.children.get(parts[-1], Node(FILE, layer)).layer < layer:
            del parent.children[parts[-1]]

    def empty(self, path: str, layer: int) -> None:
        """Apply an opaque whiteout of `layer`: remove everything that the layers below have in the folder at `path`."""
        folder = self._at(parts_of(path), layer, make=False)
        if folder is not None:
            folder.children = {name: node for name, node in folder.children.items() if node.layer >= layer}

    def find(self, path: str) -> Node | None:
        """The entry at `path` within the image, with symbolic links resolved, or None."""
        return self._at(parts_of(path), 0, make=False, last=True)

    def mount_point(self, path: str, kind: str) -> None:
        """Ensure that `path` is a folder or a file, rather than a symbolic link, so that something can be mounted there."""
        parts = parts_of(path)
        node = self.root
        for depth, name in enumerate(parts):
            wanted = kind if depth == len(parts) - 1 else FOLDER
            found = node.children.get(name)
            if found is None or found.kind != wanted:
                found = node.children[name] = Node(wanted, 0, 0o755 if wanted == FOLDER else 0o644)
            node = found

    def walk(self) -> Iterator[tuple[str, Node]]:
        """Every entry except the root, parents first, by name."""
        pending = [("", self.root)]
        while pending:
            path, node = pending.pop()
            if path:
                yield path, node
            prefix = f"{path}/" if path else ""
            pending += [(prefix + name, node.children[name]) for name in sorted(node.children, reverse=True)]

    def _folder(self, parts: list[str], layer: int, path: str) -> Node:
        found = self._at(parts, layer, make=True)
        if found is None or found.kind != FOLDER:
            raise ImageRefusedError(f"{shown(path)} lies below something that is not a directory")
        return found

    def _at(self, parts: list[str], layer: int, *, make: bool, last: bool = True) -> Node | None:
        """The node that a program in the image would find. `make` creates missing folders."""
        trail = [self.root]
        pending = list(reversed(parts))
        links = 0
        while pending:
            name = pending.pop()
            if name == "..":
                trail = trail[:-1] or trail
                continue
            found = trail[-1].children.get(name)
            if found is None and make and trail[-1].kind == FOLDER:
                found = trail[-1].children[name] = Node(FOLDER, layer)
            if found is None or (pending and found.kind == FILE):
                return None
            if found.kind == LINK and (pending or last):
                links += 1
                if links > LINKS_MAX:
                    return None
                if found.link.startswith("/"):
                    trail = [self.root]
                pending += [part for part in reversed(found.link.split("/")) if part not in ("", ".")]
                if len(pending) > DEPTH_MAX * 2:
                    return None
                continue
            trail.append(found)
        return trail[-1]


def parts_of(path: str) -> list[str]:
    """The components of an entry's name, relative to the root of the image. Raises ImageRefusedError if the name could leave
    it."""
    if len(path) > PATH_BYTES_MAX or "\0" in path:
        raise ImageRefusedError(f"the name {shown(path)} is too long, or holds a NUL character")
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise ImageRefusedError(f"{shown(path)} has '..' in its name; an image holds no entry outside its root")
    if len(parts) > DEPTH_MAX or any(len(part.encode(errors="surrogateescape")) > NAME_BYTES_MAX for part in parts):
        raise ImageRefusedError(f"the name {shown(path)} is too deep or too long")
    return parts


def shown(path: str) -> str:
    """A name from an image for a message: short, printable, quoted."""
    return ascii(path[:120])
