"""The process that works on a volume's files, killed at each step: the volume is whole before and after, and another try ends it."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
from tests.leases.backends.test_volume_files import Site, member, packed

import sublet
from sublet.leases.backends.base import BackendFailedError
from sublet.leases.backends.local.volume_workers import VolumeWorkers
from sublet.leases.backends.volume import VolumeWork, WorkKind, WorkResult, WorkState
from sublet.values.ids import new_id

pytestmark = pytest.mark.real
KILLS = 8
"""Steps at which it is killed, from the first to the last."""
KILLER = """
import os, signal, sys
from sublet.leases.backends.local import disk, volume_tree, volume_worker

STEPS = {"os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate", "os.link", "os.symlink", "os.chmod", "os.chown"}
WRITES = os.O_WRONLY | os.O_RDWR
left = int(sys.argv[1])
said = os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)

def step():
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)

def seen(event, arguments):
    if event in STEPS or (event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITES):
        step()

def around(function):
    def stepped(*arguments, **more):
        step()
        done = function(*arguments, **more)
        step()
        return done
    return stepped

for name in ("exchange", "flush", "place", "remove_leftovers", "unpack"):
    setattr(volume_tree, name, around(getattr(volume_tree, name)))
volume_worker._copy_image = around(volume_worker._copy_image)
sys.addaudithook(seen)
code = volume_worker.main()
os.write(said, str(-left).encode())
sys.exit(code)
"""
"""Kills itself at its step number N: each change of a file or directory by name is one, and so is each side of what is flushed,
copied or exchanged. One that is never killed tells how many steps there were."""


class Killing:
    """Workers that die at their step `at`; 0: at none."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, base: Path) -> None:
        self.at, self.base, self.said = 0, base, base / "steps"
        monkeypatch.setattr(VolumeWorkers, "_begin", self.begin)

    def begin(self, order: dict[str, Any]) -> subprocess.Popen[bytes]:
        source = str(Path(sublet.__file__).resolve().parent.parent)
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", KILLER, str(self.at), str(self.said)],
            env={"PYTHONPATH": source, "PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"},
            cwd="/", stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        assert process.stdin is not None
        process.stdin.write(json.dumps({**order, "base": str(self.base)}).encode() + b"\n")
        process.stdin.flush()
        return process

    @property
    def steps(self) -> int:
        """How many steps the last worker that was not killed took."""
        return int(self.said.read_text())


@pytest.fixture
def killing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Killing:
    return Killing(monkeypatch, tmp_path)


def tree(word: str) -> bytes:
    return packed(member("data/", kind=b"5", mode=0o750), *(member(f"data/{name}", word.encode()) for name in "abc"))


def contents(site: Site) -> dict[str, bytes]:
    content = b"".join(site.backend.volume_content(site.volume, "data"))
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        files = [item for item in tar if item.isfile()]
        return {item.name[-1]: (tar.extractfile(item) or io.BytesIO()).read() for item in files}


def whole(word: str) -> dict[str, bytes]:
    return {name: word.encode() for name in "abc"}


class Work:
    """Work of one kind on a volume that holds `old`, or for a restore `new`."""

    def __init__(self, site: Site, kind: WorkKind) -> None:
        self.site, self.kind, self.snapshot, self.copy = site, kind, new_id("snp"), new_id("cpy")
        assert site.put(tree("old"), "data", replace=True).state is WorkState.DONE
        self.before = self.after = "old"
        if kind is WorkKind.RESTORE:
            assert site.keep(WorkKind.SNAPSHOT, self.snapshot).state is WorkState.DONE
            assert site.put(tree("new"), "data", replace=True).state is WorkState.DONE
            self.before = "new"
        elif kind is WorkKind.UNPACK:
            self.after = "new"

    def do(self) -> WorkResult:
        site, content = self.site, tree("new")
        if self.kind is not WorkKind.UNPACK:
            return site.keep(self.kind, self.snapshot)
        if site.backend.receive_copy(site.volume, self.copy, 0, b"") == 0:
            site.backend.receive_copy(site.volume, self.copy, 0, content)
        digest = hashlib.sha256(content).hexdigest()
        return site.done(VolumeWork(self.kind, site.volume, self.copy, "data", digest, replace=True))

    def forget(self) -> None:
        self.site.backend.remove_copy(self.site.volume, self.copy)
        self.site.backend.remove_snapshot(self.site.volume, self.snapshot)


@pytest.mark.parametrize("kind", [WorkKind.UNPACK, WorkKind.SNAPSHOT, WorkKind.RESTORE])
def test_a_worker_that_is_killed_at_any_step_leaves_a_whole_volume(
    kind: WorkKind, killing: Killing, tmp_path: Path
) -> None:
    site = Site(tmp_path)
    work = Work(site, kind)
    assert work.do().state is WorkState.DONE
    steps = killing.steps
    assert steps >= 4
    work.forget()
    for at in sorted({1 + (steps - 1) * place // (KILLS - 1) for place in range(KILLS)}):
        killing.at = 0
        work = Work(site, kind)
        killing.at = at
        with pytest.raises(BackendFailedError):
            work.do()
        killing.at = 0
        assert contents(site) in (whole(work.before), whole(work.after)), f"step {at} of {steps} left parts"
        found = work.do()
        assert found.state is WorkState.DONE, f"step {at}: {found.error}"
        assert contents(site) == whole(work.after), f"step {at}"
        assert not list(site.files.root.glob("*.new"))
        work.forget()
