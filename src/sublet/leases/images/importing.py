"""Runs one import at a time: the converter is a separate process that is polled without blocking."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import sublet
from sublet.leases.images.files import ImageFiles
from sublet.leases.images.model import ImageLimits

STRANGER_UID = 65_534
"""Whom the converter becomes: `nobody`."""
_SAID_BYTES_MAX = 1 << 20
_BROKEN = "the import broke off; remove the image and import it again"


class Import:
    """A running converter. `progress` is in percent. When it has ended, `result` or `refusal` is set."""

    def __init__(self, image_id: str, files: ImageFiles, sha256: str, limits: ImageLimits, *, unpack: bool) -> None:
        self.image_id, self.files = image_id, files
        self.progress = 0
        self.result: dict[str, Any] | None = None
        self.refusal = ""
        self._said = b""
        as_root = os.geteuid() == 0
        for name in ("image", "tree"):
            # Left over from an attempt that a crash interrupted.
            if (files.root / name).exists():
                ImageFiles(files.root / name).remove()
                (files.root / name).unlink(missing_ok=True)
        if as_root:
            os.chown(files.root, STRANGER_UID, STRANGER_UID)
            files.upload.chmod(0o644)
        source = str(Path(sublet.__file__).resolve().parent.parent)
        path = os.environ.get("PATH", "/usr/bin:/bin")
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "sublet.leases.images.convert"],
            env={"PYTHONPATH": source, "PATH": path},
            cwd=files.root,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        os.set_blocking(self._process.stdout.fileno(), False)
        order = {"limits": asdict(limits), "uid": STRANGER_UID if as_root else None, "tree": unpack, "sha256": sha256}
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        self._process.stdin.flush()

    def poll(self) -> bool:
        """Whether it has ended. Reads its output so far."""
        ended = self._process.poll() is not None
        assert self._process.stdout is not None
        while len(self._said) < _SAID_BYTES_MAX and (part := self._process.stdout.read(1 << 16)):
            self._said += part
        *lines, self._said = self._said.split(b"\n")
        for line in lines:
            self._hear(line)
        if ended and self.result is None and not self.refusal:
            self.refusal = _BROKEN
        if ended:
            self.close()
        return ended

    def close(self) -> None:
        """End it if it still runs."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def _hear(self, line: bytes) -> None:
        try:
            told = json.loads(line)
        except ValueError:
            return
        if not isinstance(told, dict):
            return
        if isinstance(percent := told.get("progress"), int):
            self.progress = max(self.progress, min(99, percent))
        if isinstance(told.get("image"), dict):
            self.result = told["image"]
        if "refused" in told:
            self.refusal = str(told["refused"])[:500]
