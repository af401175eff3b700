"""Archives that tests make: root file systems, OCI layouts, and hostile ones."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path

from sublet.leases.images.layers import machine

SHELL = [("bin/sh", b"#!shell\n", 0o755)]
Entry = tuple[str, bytes, int] | tarfile.TarInfo


def tar(entries: Sequence[Entry], mode: str = "w") -> bytes:
    """A tar of files, given as name, bytes and mode, and of other entries as they are."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as found:  # type: ignore[call-overload]
        for entry in entries:
            if isinstance(entry, tarfile.TarInfo):
                found.addfile(entry)
                continue
            name, content, bits = entry
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(content), bits
            found.addfile(info, io.BytesIO(content))
    return out.getvalue()


def special(name: str, kind: bytes, link: str = "") -> tarfile.TarInfo:
    """A link, a device or a directory."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = kind, link, 0o4755
    return info


def layout(layers: Sequence[bytes], environment: Sequence[str] = (), architecture: str = "", spoil: int = -1) -> bytes:
    """An OCI layout in a tar; the blob of layer `spoil` has other bytes than its digest says."""
    blobs: list[tuple[str, bytes]] = []

    def blob(content: bytes) -> dict[str, object]:
        digest = hashlib.sha256(content).hexdigest()
        blobs.append((digest, content))
        return {"digest": f"sha256:{digest}", "size": len(content), "mediaType": "application/octet-stream"}

    told = {"architecture": architecture or machine(), "os": "linux", "config": {"Env": list(environment)}}
    config = blob(json.dumps(told).encode())
    manifest = {"schemaVersion": 2, "config": config, "layers": [blob(layer) for layer in layers]}
    index = {"schemaVersion": 2, "manifests": [blob(json.dumps(manifest).encode())]}
    entries = [(f"blobs/sha256/{name}", content, 0o644) for name, content in blobs]
    if spoil >= 0:
        name, content, bits = entries[spoil + 1]
        entries[spoil + 1] = (name, content + b"x", bits)
    entries += [("oci-layout", b"{}", 0o644), ("index.json", json.dumps(index).encode(), 0o644)]
    return tar(entries)


def busybox() -> bytes:
    """A root file system that people can log in to: busybox, linked statically."""
    program = Path("/bin/busybox").read_bytes()
    names = ("sh", "ls", "cat", "id", "touch", "mount", "ps", "env", "echo", "sleep", "rm", "test", "stat")
    links = [special(f"bin/{name}", tarfile.SYMTYPE, "busybox") for name in names]
    return tar([("bin/busybox", program, 0o4755), *links, ("etc/brought", b"by the image\n", 0o644)], "w:gz")
