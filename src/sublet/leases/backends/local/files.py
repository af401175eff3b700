"""Where a lease lives on disk, and the two documents in it: the spec (what is wanted) and the state (what is)."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from sublet.values.errors import InvalidInputError

_LEASE_ID = re.compile(r"[a-z]{1,8}_[a-z0-9]{1,40}")
_DOCUMENT_BYTES_MAX = 4 << 20


@dataclass(slots=True)
class Spec:
    """What a shim is told. Times are microseconds since the epoch. `uid` is None where the tenant shares our own."""

    lease_id: str
    tenant: str
    class_name: str
    devices: list[str]
    cores: list[int]
    cpu_quota: float | None
    device_nodes: list[str]
    memory_bytes: int
    disk_bytes: int
    processes_max: int
    uid: int | None
    ends_at_us: int
    reclaim_at_us: int | None
    port_first: int
    port_last: int
    bind_host: str
    bwrap: str
    bwrap_binds: list[list[str]]
    python: str
    python_libraries: str
    python_binds: list[list[str]]
    hidden: list[str]
    instance: str
    home_keep_s: int
    doors: list[str]
    sshd: str
    cgroup_parents: dict[str, str]
    host_key: str
    fingerprint: str
    egress: list[str] = field(default_factory=list)
    """What the sandbox may reach outside; nothing where it is empty, as in the spec of an older version."""
    egress_permitted: list[str] = field(default_factory=list)
    egress_denied: list[str] = field(default_factory=list)
    pausable: bool = False
    volumes: list[list[str]] = field(default_factory=list)
    """Id and name of each."""
    image: dict[str, Any] = field(default_factory=dict)
    """The image that it runs on, as `image.ImageOrder`, with `file` and `tree`, where it is; empty for this machine's programs."""
    host_loader: str = ""
    host_libraries: str = ""
    host_binds: list[list[str]] = field(default_factory=list)
    """As `runtime.HostPrograms`, for a lease that runs on an image."""
    job: dict[str, Any] = field(default_factory=dict)
    """The command that the lease runs, as `job.JobOrder`; empty for a lease that is only logged in to."""


@dataclass(slots=True)
class Run:
    """One life of the sandbox: the tenant could log in during `[started_us, alive_us)`."""

    started_us: int
    alive_us: int
    closed: bool = False
    accelerators: int = 0
    """How many the sandbox ran on; 0 in the state of an older version, which knew no change."""


PROTOCOL = 2
"""What shim and control plane agree on, as a number: 1 is to stop, to change terms and to say how it is; 2 is to pause, too. A shim
lives as long as its lease, so a control plane talks to shims of every version before it. Raise it when a request is added."""
SINCE = {"pause": 2}
"""Requests that not every shim knows, with the protocol that brought them."""


@dataclass(slots=True)
class State:
    """What a shim says, replaced whole at least once a second while it lives. `protocol` is the shim's; the state of 0.1 has none,
    and is of protocol 1."""

    lease_id: str
    state: str
    ends_at_us: int
    reclaim_at_us: int | None = None
    pid: int = 0
    pid_started: str = ""
    init_pid: int = 0
    init_started: str = ""
    boot_id: str = ""
    port: int = 0
    runs: list[Run] = field(default_factory=list)
    guarantees: dict[str, dict[str, str]] = field(default_factory=dict)
    reason: str | None = None
    clean: bool | None = None
    error: str | None = None
    left: list[str] = field(default_factory=list)
    traffic: dict[str, Any] | None = None
    protocol: int = 1


class LeaseFiles:
    """The directory of one lease. `contents` is what belongs to the tenant's sandbox and goes at teardown; the spec, the
    state and the lock stay until the lease is forgotten, since metering and proof rest on them."""

    def __init__(self, base: Path, lease_id: str) -> None:
        """Raises InvalidInputError for an id that could name another place."""
        if not _LEASE_ID.fullmatch(lease_id):
            raise InvalidInputError(f"{lease_id!r} is not a lease id; it looks like lse_ and 24 letters and digits")
        self.lease_id = lease_id
        self.root = base / lease_id

    @property
    def contents(self) -> Path:
        return self.root / "contents"

    @property
    def home(self) -> Path:
        return self.contents / "home"

    @property
    def image(self) -> Path:
        return self.contents / "home.img"

    @property
    def volumes(self) -> Path:
        """Where the lease's volumes are mounted, in the sandbox's own mount namespace."""
        return self.contents / "volumes"

    @property
    def root_image(self) -> Path:
        """Where the image that the lease runs on is mounted, in the sandbox's own mount namespace."""
        return self.contents / "image"

    @property
    def etc(self) -> Path:
        return self.contents / "etc"

    @property
    def shown(self) -> Path:
        """What the tenant reads of Sublet; the shim's (`stage.Shown`)."""
        return self.contents / "shown"

    @property
    def notices(self) -> Path:
        return self.shown / "notices"

    @property
    def control(self) -> Path:
        return self.root / "control"

    @property
    def exists(self) -> bool:
        return (self.root / "spec.json").is_file()

    def create(self) -> None:
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)

    def read_spec(self) -> Spec | None:
        document = _read(self.root / "spec.json")
        return _typed(Spec, document) if document is not None else None

    def write_spec(self, spec: Spec) -> None:
        _replace(self.root / "spec.json", asdict(spec), durable=True)

    def read_state(self) -> State | None:
        """None where there is none, or a damaged one: then the kernel's state decides."""
        document = _read(self.root / "state.json")
        if document is None:
            return None
        state: State | None = _typed(State, document)
        if state is not None:
            state.runs = [run for item in document.get("runs", []) if (run := _typed(Run, item)) is not None]
        return state

    def write_state(self, state: State, *, durable: bool = False) -> None:
        _replace(self.root / "state.json", asdict(state), durable=durable)

    def remove(self) -> None:
        shutil.rmtree(self.root, ignore_errors=True)

    def lock(self) -> int | None:
        """Hold this lease for this process; None where another process holds it. The kernel releases it when the process dies."""
        descriptor = os.open(self.root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            return None
        return descriptor

    def lock_within(self, seconds: float) -> int | None:
        """As `lock`, but patient: a process that looks whether a shim lives holds the lock for a moment."""
        deadline = time.monotonic() + seconds
        while (descriptor := self.lock()) is None and time.monotonic() < deadline:
            time.sleep(0.02)
        return descriptor

    def held(self) -> bool:
        """A shim, or somebody who cleans up, is alive and holds this lease."""
        if not self.root.is_dir():
            return False
        descriptor = self.lock()
        if descriptor is None:
            return True
        os.close(descriptor)
        return False


@contextmanager
def short_path(path: Path) -> Iterator[str]:
    """A name for `path` that fits a unix socket address (108 bytes) wherever the directory is."""
    descriptor = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{path.name}"
    finally:
        os.close(descriptor)


def unix_listener(path: Path, backlog: int) -> socket.socket:
    """A listening unix socket that only our own uid (and root) can connect to."""
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with short_path(path) as name:
        listener.bind(name)
    path.chmod(0o600)
    listener.listen(backlog)
    listener.setblocking(False)
    return listener


def process_started(pid: int) -> str:
    """The kernel's start time of `pid` in clock ticks, empty where there is none: a pid and this name one process for ever."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            fields_after_name = file.read().rsplit(")", 1)[1].split()
    except (OSError, IndexError):
        return ""
    return "" if fields_after_name[0] in "ZX" else fields_after_name[19]


def boot_id() -> str:
    """Changes at each start of the machine: pids of another boot mean nothing."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _read(path: Path) -> dict[str, Any] | None:
    try:
        with open(path, "rb") as file:
            document = json.loads(file.read(_DOCUMENT_BYTES_MAX))
    except (OSError, ValueError):
        return None
    return document if isinstance(document, dict) else None


def _typed(kind: type[Any], document: dict[str, Any]) -> Any:
    known = {item.name for item in fields(kind)}
    try:
        return kind(**{name: value for name, value in document.items() if name in known})
    except TypeError:
        return None


def _replace(path: Path, document: dict[str, Any], *, durable: bool) -> None:
    temporary = path.with_name(path.name + ".new")
    try:
        with open(temporary, "w", encoding="utf-8") as file:
            json.dump(document, file)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        # On a full disk the half of a document would keep blocks that somebody needs.
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
