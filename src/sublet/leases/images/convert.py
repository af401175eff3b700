"""Makes the squashfs of an image in a process of its own. It reads untrusted input, so it has little memory and time, and drops
root first.

python -m sublet.leases.images.convert < ORDER (a line, and then as long as the pipe is open)

It works in the current directory: it reads `upload` and writes `image`. ORDER is a JSON document with `sha256`, `limits`, `uid`
(the user to become, or null to stay the same) and `tree` (whether to unpack the image as well, for a machine that can't mount
it). It prints one JSON document per line: `{"progress": PERCENT}`, and at the end `{"image": ...}` or `{"refused": REASON}`.
"""

from __future__ import annotations

import hashlib
import json
import os
import resource
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from sublet.leases.images.layers import Spool, merge, read_image, write_tar
from sublet.leases.images.model import ImageLimits, ImageRefusedError, usable_environment
from sublet.leases.images.tree import FILE, FOLDER, Tree

SHELLS = ("/bin/bash", "/bin/sh")
FOLDERS = ("proc", "dev", "sys", "run", "tmp", "home/tenant", "volumes", "opt/sublet", "etc")
"""What a sandbox mounts on."""
FILES = ("etc/passwd", "etc/group", "etc/hosts", "etc/resolv.conf")
PROGRAM, UNPACKER = "sqfstar", "unsquashfs"
DATA_BYTES_MAX = 2 << 30
CPU_S_MAX = 3600
_SAID_EVERY_S = 0.5


class _Progress:
    """Prints the progress in percent, in two equal halves: reading and writing."""

    def __init__(self) -> None:
        self._said_at = 0.0

    def say(self, percent: float) -> None:
        now = time.monotonic()
        if now - self._said_at >= _SAID_EVERY_S:
            self._said_at = now
            tell(progress=min(99, int(percent)))


def tell(**document: Any) -> None:
    sys.stdout.write(json.dumps(document) + "\n")
    sys.stdout.flush()


def main() -> None:
    order = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    limits = ImageLimits(**order["limits"])
    try:
        _confine(order["uid"], limits)
        _check(str(order["sha256"]))
        told = _convert(limits, unpack=bool(order["tree"]))
        tell(image=told)
    except ImageRefusedError as error:
        tell(refused=error.message)
    except (MemoryError, RecursionError):
        tell(refused="the image takes more memory to read than any real one")


def _end_with_parent() -> None:
    """End with the control plane, which keeps the other end of the pipe open: its successor may already convert the same
    image."""
    sys.stdin.read()
    os._exit(1)


def _confine(uid: int | None, limits: ImageLimits) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S_MAX, CPU_S_MAX))
    resource.setrlimit(resource.RLIMIT_DATA, (DATA_BYTES_MAX, DATA_BYTES_MAX))
    # A layer with its headers is larger than its files.
    most = limits.unpacked_bytes_max * 2 + DATA_BYTES_MAX
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    os.nice(5)
    if uid is not None:
        # Before changing the uid: modules that Python still has to load may be unreadable for it.
        for name in ("encodings.idna", "bz2", "lzma", "zlib"):
            __import__(name)
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)


def _check(sha256: str) -> None:
    with open("upload", "rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
            raise ImageRefusedError("what arrived has another SHA-256 than was announced; import it again")


def _convert(limits: ImageLimits, *, unpack: bool) -> dict[str, Any]:
    program = shutil.which(PROGRAM)
    if program is None:
        raise ImageRefusedError("squashfs-tools is not installed on this machine")
    progress, source = _Progress(), Path("upload")
    size = source.stat().st_size
    spool = Spool(limits, size, lambda done: progress.say(50 * done / max(done, 3 * size)))
    config = read_image(source, spool)
    tree, entries, files_bytes = merge(spool, limits)
    shell = _shell(tree)
    for name in FOLDERS:
        tree.mount_point(name, FOLDER)
    for name in FILES:
        tree.mount_point(name, FILE)
    with subprocess.Popen(
        [
            program,
            "-quiet",
            "-no-progress",
            "-comp",
            "lz4",
            "-all-root",
            "-no-xattrs",
            "-root-mode",
            "0755",
            "-mem",
            "256M",
            "image",
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    ) as run:
        assert run.stdin is not None and run.stderr is not None
        try:
            write_tar(tree, spool, run.stdin, lambda done: progress.say(50 + 45 * done / max(1, files_bytes)))
            run.stdin.close()
        except BrokenPipeError:
            pass
        said = run.stderr.read(4096).decode(errors="replace")
        if run.wait() != 0:
            raise ImageRefusedError(f"the root file system could not be written ({_line(said)})")
    if unpack:
        _unpack()
    return {
        "bytes": Path("image").stat().st_size,
        "files": entries,
        "manifest": config.manifest,
        "shell": shell,
        "environment": usable_environment(config.environment),
    }


def _shell(tree: Tree) -> str:
    """The login shell. Raises ImageRefusedError if there is none."""
    for path in SHELLS:
        found = tree.find(path)
        if found is not None and found.kind == FILE and found.mode & 0o111:
            return path
    raise ImageRefusedError(
        "the image has no /bin/sh; a lease needs a shell to log in, so add one, such as the package busybox-static"
    )


def _unpack() -> None:
    program = shutil.which(UNPACKER)
    if program is None:
        raise ImageRefusedError("squashfs-tools is not installed on this machine")
    done = subprocess.run(
        [program, "-quiet", "-no-progress", "-no-xattrs", "-d", "tree", "image"],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise ImageRefusedError(f"the root file system could not be unpacked ({_line(done.stderr)})")


def _line(said: str) -> str:
    return " ".join(said.split())[:200] or "no reason given"


if __name__ == "__main__":
    main()
