"""The console's static files, each under a name that carries its content's hash, so that browsers may keep it for ever."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib import resources

_TYPES = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
_HASH_DIGITS = 12


@dataclass(frozen=True, slots=True)
class Asset:
    """One file. `path` is its address on the console."""

    path: str
    content: bytes
    media_type: str


class Assets:
    """The files of the package's `static` folder, read once; nothing else on the disk can be asked for."""

    def __init__(self) -> None:
        self._by_name: dict[str, Asset] = {}
        for file in resources.files("sublet.console").joinpath("static").iterdir():
            stem, dot, extension = file.name.rpartition(".")
            kind = _TYPES.get(dot + extension)
            if kind is None:
                continue
            content = file.read_bytes()
            digest = hashlib.sha256(content).hexdigest()[:_HASH_DIGITS]
            self._by_name[file.name] = Asset(f"/static/{stem}.{digest}.{extension}", content, kind)
        self._by_path = {asset.path: asset for asset in self._by_name.values()}

    def path(self, name: str) -> str:
        """The address of the file called `name`. Raises KeyError where the package has no such file."""
        return self._by_name[name].path

    def at(self, path: str) -> Asset | None:
        """The file at that address, None where the name or the hash is another."""
        return self._by_path.get(path)
