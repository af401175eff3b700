"""One life of a sandbox: bubblewrap around the agent that is PID 1, started by fork and exec with nothing inherited."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import select
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from sublet.leases.backends.base import BackendFailedError
from sublet.leases.backends.local import disk, runtime, seccomp
from sublet.leases.backends.local.cgroups import UNIFIED, Caps, LeaseCgroup
from sublet.leases.backends.local.egress import proxy_environment
from sublet.leases.backends.local.files import LeaseFiles, Spec, process_started
from sublet.leases.backends.local.host import shell
from sublet.leases.backends.local.jobs import RunningJob
from sublet.leases.backends.local.procfiles import Groups, ProcFiles, binds
from sublet.leases.backends.local.stage import STAGE, Places, leave_machine, stage, unstaged
from sublet.leases.backends.local.volumes import VolumeFiles

START_TIMEOUT_S = 15.0
DETACH_TIMEOUT_S = 5.0
TENANT_ID = 1000
TMP_BYTES_MAX = 1 << 30
SESSION_PATH = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
_ERROR_BYTES_MAX = 4096
_LIBC = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNS, _MS_BIND, _MS_REC, _MS_PRIVATE, _MS_NOSUID, _MS_NODEV = 0x20000, 4096, 16384, 1 << 18, 2, 4
_PR_SET_PDEATHSIG = 1
_ETC = (
    "alternatives ld.so.cache ld.so.conf ld.so.conf.d ssl pki ca-certificates bash.bashrc nsswitch.conf terminfo "
    "profile.d ssh/moduli crypto-policies sublet/drain.d"
).split()


@dataclass(frozen=True, slots=True)
class _Ends:
    """Descriptors that the sandbox inherits: its system call filter, and where it writes its status, errors and reports."""

    filter: int
    status: int
    errors: int
    reports: int
    output: int = 0
    record: int = 0
    attempt: int = 0
    """Where drain hooks and the command of a job print; of a lease that runs a job, where PID 1 writes down how it exits, and which
    attempt that is."""


class Sandbox:
    """The running sandbox. `init_pid` is its PID 1 as the host sees it; `reports` yields who has logged in (init.py)."""

    def __init__(
        self,
        spec: Spec,
        files: LeaseFiles,
        listener: socket.socket,
        job: RunningJob | None = None,
        *,
        own_time: bool = False,
    ) -> None:
        self.spec, self.files, self.listener, self.own_time = spec, files, listener, own_time
        self.job, self.output = job, 0
        self.proc: ProcFiles | None = None
        self.cgroup = lease_cgroup(spec)
        self.guarantees: dict[str, dict[str, str]] = {}
        self.disk_allocated = False
        self.pid = self.init_pid = self.pidfd = self._errors = self.reports = 0
        self.init_started = ""

    def start(self, door: str) -> None:
        """Start with `door` (openssh or asyncssh) as the SSH server. Raises BackendFailedError with what went wrong."""
        held = self.cgroup.create(
            Caps(tuple(self.spec.cores), self.spec.cpu_quota, self.spec.memory_bytes, self.spec.processes_max)
        )
        own_disk = self.files.image.exists()
        if own_disk:
            self._ready_disk()
        self._ready_volumes()
        self.guarantees = _guarantees(self.spec, held, own_disk and self.disk_allocated)
        self.proc = ProcFiles(
            self.files.shown / "proc", self.spec.cores, self.spec.memory_bytes, self._groups(), own_time=self.own_time
        )
        self.proc.write()
        filter_fd = seccomp.program_fd(seccomp.program(deny_affinity="cpuset" not in held))
        status_read, status_write = os.pipe()
        errors_read, errors_write = os.pipe()
        reports_read, reports_write = os.pipe()
        ends = _Ends(filter_fd, status_write, errors_write, reports_write, *self._job_ends())
        parent = os.getpid()
        try:
            self.pid = os.fork()
            if self.pid == 0:
                self._child(door, held, ends, parent)
        finally:
            for descriptor in filter(
                None, (filter_fd, status_write, errors_write, reports_write, ends.output, ends.record)
            ):
                os.close(descriptor)
        os.set_blocking(errors_read, False)
        os.set_blocking(reports_read, False)
        self._errors, self.reports = errors_read, reports_read
        self.pidfd = os.pidfd_open(self.pid)
        try:
            self.init_pid = _child_pid(status_read)
        finally:
            os.close(status_read)
        if not self.init_pid:
            said = self.errors()
            self.kill()
            raise BackendFailedError(f"the sandbox did not start: {said or 'it printed nothing before the timeout'}")
        self.init_started = process_started(self.init_pid)

    def _job_ends(self) -> tuple[int, int, int]:
        self.output, output = os.pipe()
        os.set_blocking(self.output, False)
        if self.job is None:
            return output, 0, 0
        return output, self.job.files.open_record(), self.job.attempt

    def _groups(self) -> Groups:
        parents = self.cgroup.parents
        second = frozenset(name for name, parent in parents.items() if parent == parents.get(UNIFIED))
        return Groups({name: Path(parent) / self.cgroup.name for name, parent in parents.items()}, second)

    def _ready_volumes(self) -> None:
        """Each is there and nobody else's. Raises BackendFailedError."""
        for volume_id, name in self.spec.volumes:
            found = VolumeFiles.of(self.files.root.parent, volume_id)
            if not found.exists:
                raise BackendFailedError(f"volume {name} is not on this machine")
            self._wait_free(found.image, f"volume {name}")
            (self.files.volumes / volume_id).mkdir(mode=0o755, parents=True, exist_ok=True)

    def _wait_free(self, image: Path, what: str) -> None:
        """A sandbox that just died releases its disk a moment later; two devices on one image would destroy it."""
        deadline = time.monotonic() + DETACH_TIMEOUT_S
        while disk.loop_devices(image):
            if time.monotonic() >= deadline:
                raise BackendFailedError(f"{what} is still in use by an earlier run")
            time.sleep(0.01)

    def _ready_disk(self) -> None:
        """The image is nobody else's, sound, and has all its blocks. Raises BackendFailedError."""
        image = self.files.image
        self._wait_free(image, "the home's disk")
        try:
            disk.check_disk(image, disk.fsck_program())
        except (OSError, subprocess.SubprocessError) as error:
            raise BackendFailedError(f"the home can't be mounted: {error}") from error
        self.disk_allocated = disk.keep_allocated(image, self.spec.disk_bytes)

    @property
    def alive(self) -> bool:
        return bool(self.pidfd) and not select.select([self.pidfd], [], [], 0)[0]

    def verify(self) -> None:
        """Read from the kernel that PID 1 is as confined as promised. Raises BackendFailedError."""
        status = {}
        try:
            for line in Path(f"/proc/{self.init_pid}/status").read_text().splitlines():
                name, _, value = line.partition(":")
                status[name] = value.strip()
        except OSError as error:
            raise BackendFailedError(f"the sandbox ended while it started: {self.errors()}") from error
        cores = _cores_of(status.get("Cpus_allowed_list", ""))
        wrong = [
            text
            for text, good in (
                ("no system call filter", status.get("Seccomp") == "2"),
                ("new privileges possible", status.get("NoNewPrivs") == "1"),
                ("capabilities left", int(status.get("CapEff", "1"), 16) == int(status.get("CapBnd", "1"), 16) == 0),
                (f"runs on cores {sorted(cores)}", cores == set(self.spec.cores)),
                ("wrong host uid", status.get("Uid", "").split()[:1] == [str(self.spec.uid or os.geteuid())]),
            )
            if not good
        ]
        if wrong:
            raise BackendFailedError(
                f"the sandbox was stopped because its isolation is incomplete ({', '.join(wrong)})"
            )

    def errors(self) -> str:
        """What bubblewrap and PID 1 have said, the first lines."""
        try:
            return os.read(self._errors, _ERROR_BYTES_MAX).decode(errors="replace").strip() if self._errors else ""
        except BlockingIOError:
            return ""

    def signal_init(self, number: int) -> None:
        if self.alive and process_started(self.init_pid) == self.init_started:
            os.kill(self.init_pid, number)

    def kill(self) -> None:
        """End every process in it and wait until the kernel has. Idempotent."""
        if not self.pid:
            return
        init_fd = 0
        try:
            init_fd = os.pidfd_open(self.init_pid) if self.init_pid else 0
        except ProcessLookupError:
            init_fd = 0
        self.cgroup.kill()
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        if init_fd:
            select.select([init_fd], [], [], 10)
            os.close(init_fd)
            # It is ours to bury where we are its subreaper: bubblewrap, its parent, died first.
            with contextlib.suppress(ChildProcessError):
                os.waitpid(self.init_pid, os.WNOHANG)
        os.close(self.pidfd)
        for descriptor in filter(None, (self._errors, self.reports, self.output)):
            os.close(descriptor)
        self.pid = self.pidfd = self._errors = self.reports = self.output = 0

    def _child(self, door: str, held: set[str], ends: _Ends, parent: int) -> None:
        """After fork. Never returns."""
        try:
            null = os.open("/dev/null", os.O_RDWR)
            os.dup2(null, 0)
            os.dup2(null, 1)
            os.dup2(ends.errors, 2)
            signal.set_wakeup_fd(-1)
            signal.pthread_sigmask(signal.SIG_SETMASK, [])
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGPIPE, signal.SIGCHLD):
                signal.signal(number, signal.SIG_DFL)
            os.setsid()
            os.umask(0o022)
            os.chdir("/")
            listen_fd = self.listener.fileno()
            for descriptor in filter(
                None, (listen_fd, ends.filter, ends.status, ends.reports, ends.output, ends.record)
            ):
                os.set_inheritable(descriptor, True)
            if held:
                self.cgroup.join(os.getpid())
            os.sched_setaffinity(0, self.spec.cores)
            _limit(self.spec, held, own_disk=self.files.image.exists())
            if self.spec.uid is not None:
                leave_machine(own_time=self.own_time)
            places = stage(self.spec, self.files) if self.spec.uid is not None else unstaged(self.spec, self.files)
            argv = _arguments(self.spec, places, door, listen_fd, ends)
            if self.spec.uid is not None:
                os.setgroups([])
                os.setresgid(self.spec.uid, self.spec.uid, self.spec.uid)
                os.setresuid(self.spec.uid, self.spec.uid, self.spec.uid)
            # A change of uid clears the death signal, so it is set last; the shim may have died before.
            _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            if os.getppid() != parent:
                os._exit(127)
            os.execve(argv[0], argv, {})  # noqa: S606
        except BaseException as error:
            os.write(2, f"{type(error).__name__}: {error}".encode())
        finally:
            os._exit(127)


def lease_cgroup(spec: Spec) -> LeaseCgroup:
    return LeaseCgroup(f"sublet-{spec.instance}-{spec.lease_id}", spec.cgroup_parents)


def _guarantees(spec: Spec, held: set[str], own_disk: bool) -> dict[str, dict[str, str]]:
    def level(hard: bool, how: str, otherwise: str) -> dict[str, str]:
        return {"level": "hard" if hard else "soft", "how": how if hard else otherwise}

    shared = spec.cpu_quota is not None
    found = {
        "cpu": level(
            not shared or "cpu" in held,
            f"cores {spec.cores} by {'cpuset cgroup' if 'cpuset' in held else 'affinity, and no call that changes it'}"
            + (f", {spec.cpu_quota:g} cores of time by cpu cgroup" if shared else ""),
            f"cores {spec.cores} are shared with other leases and time on them is not divided",
        ),
        "memory": level("memory" in held, f"{spec.memory_bytes} bytes by memory cgroup", "data limit per process"),
        "processes": level(
            "pids" in held,
            f"{spec.processes_max} by pids cgroup",
            "limit shared by all leases of this host user",
        ),
        "disk": level(
            own_disk,
            f"{spec.disk_bytes} bytes, own file system, every block allocated",
            "size of one file; the total is not capped",
        ),
        "identity": level(
            spec.uid is not None,
            "own host uid",
            "shared host uid; the mount namespace is the only wall",
        ),
        "network": level(True, _network(spec), ""),
        "teardown": level(True, "PID namespace; death of its PID 1 ends every process", ""),
    }
    if spec.image:
        found["image"] = level(True, f"{spec.image['name']}, read-only, {spec.image['digest']}", "")
    if spec.device_nodes:
        found["gpu"] = level(True, "only the leased device files exist inside; GPU memory is not wiped by Sublet", "")
    return found


def _network(spec: Spec) -> str:
    own = "network namespace of its own with loopback alone"
    many = f"{len(spec.egress)} {'entries' if len(spec.egress) > 1 else 'entry'}"
    return f"{own}, and a proxy to the hosts of an allow list of {many}" if spec.egress else own


def _limit(spec: Spec, held: set[str], *, own_disk: bool) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    files_max = 65536 if most == resource.RLIM_INFINITY else min(65536, most)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, files_max), files_max))
    if "memory" not in held:
        resource.setrlimit(resource.RLIMIT_DATA, (spec.memory_bytes, spec.memory_bytes))
    if "pids" not in held:
        resource.setrlimit(resource.RLIMIT_NPROC, (spec.processes_max, spec.processes_max))
    if not own_disk:
        resource.setrlimit(resource.RLIMIT_FSIZE, (spec.disk_bytes, spec.disk_bytes))


def _arguments(spec: Spec, places: Places, door: str, listen_fd: int, ends: _Ends) -> list[str]:
    tmp_bytes = str(min(TMP_BYTES_MAX, max(1 << 20, spec.memory_bytes // 4)))
    argv = [places.bwrap, "--unshare-user", "--disable-userns", "--unshare-pid", "--unshare-ipc", "--unshare-uts",
            "--unshare-net", "--unshare-cgroup-try", "--hostname", spec.lease_id.replace("_", "-"),
            "--uid", str(TENANT_ID), "--gid", str(TENANT_ID), "--die-with-parent", "--as-pid-1", "--new-session",
            "--cap-drop", "ALL", "--clearenv",
            *_pairs("--setenv", {"PATH": SESSION_PATH, "HOME": "/home/tenant"}),
            *_pairs("--setenv", _started_with(spec)),
            *_pairs("--setenv", {"SUBLET_DRAIN": str(ends.output)} if ends.output else {}),
            *_pairs("--setenv", {"SUBLET_JOB": f"{ends.output} {ends.record} {ends.attempt}"} if ends.attempt else {})]  # fmt: skip
    if spec.python_libraries:
        argv += ["--setenv", "LD_LIBRARY_PATH", spec.python_libraries]
    argv += _image(spec, places) if spec.image else _system()
    for source, inside in places.binds:
        if door == "asyncssh" or not inside.startswith(runtime.PACKAGES_INSIDE):
            argv += ["--ro-bind", source, inside]
    for inside in spec.hidden:
        argv += ["--tmpfs", inside, "--remount-ro", inside]
    argv += ["--proc", "/proc", "--dev", "/dev", "--size", tmp_bytes, "--tmpfs", "/dev/shm"]  # noqa: S108
    for node in spec.device_nodes:
        argv += ["--dev-bind", node, node]
    for source, inside in binds(f"{places.shown}/proc", gpus=bool(spec.device_nodes)):
        argv += ["--ro-bind", source, inside]
    argv += ["--remount-ro", "/dev", "--size", tmp_bytes, "--tmpfs", STAGE, "--size", str(16 << 20), "--tmpfs", "/run",
             "--dir", "/run/sshd", "--ro-bind", f"{places.shown}/etc", "/run/sublet-etc",
             "--ro-bind", f"{places.shown}/notices", "/run/sublet",
             *(("--tmpfs", "/volumes") if spec.image and places.volumes else ()),
             *(word for inside, place in places.volumes for word in ("--bind", place, f"/volumes/{inside}")),
             "--bind", places.home, "/home/tenant", "--chdir", "/home/tenant", "--remount-ro", "/",
             *(_closed(places) if spec.image else ()),
             "--setenv", "SUBLET_REPORTS", str(ends.reports), "--seccomp", str(ends.filter), "--json-status-fd", str(ends.status),
             *_program(spec, spec.python), "-I", "-S", "/opt/sublet/init.py", str(listen_fd), door]  # fmt: skip
    if door == "openssh":
        return [*argv, *_program(spec, spec.sshd), "-i", "-e", "-f", "/run/sublet-etc/sshd_config"]
    return [*argv, *_program(spec, spec.python), "-I", "-S", "/opt/sublet/ssh_server.py", "/run/sublet-etc/authorized_keys",
            "/run/sublet-etc/host_key", shell_of(spec)]  # fmt: skip


def _program(spec: Spec, program: str) -> list[str]:
    """The words that start a program of this machine inside."""
    if not spec.image:
        return [program]
    return runtime.HostPrograms(spec.host_loader, spec.host_libraries, ()).command(program)


def shell_of(spec: Spec) -> str:
    """The path of the tenant's shell inside."""
    return str(spec.image["shell"]) if spec.image else shell()


def session_environment(spec: Spec) -> dict[str, str]:
    """What the tenant's sessions find in their environment."""
    gpus = ",".join(str(index) for index, _ in enumerate(item for item in spec.devices if item.startswith("nvidia:")))
    found = {"SUBLET_LEASE": spec.lease_id, "SUBLET_DEVICES": ",".join(spec.devices), "CUDA_VISIBLE_DEVICES": gpus}
    return image_environment(spec) | found | (proxy_environment() if spec.egress else {})


def image_environment(spec: Spec) -> dict[str, str]:
    """What the image's own configuration adds to a session."""
    return dict(spec.image.get("environment", {}))


def _started_with(spec: Spec) -> dict[str, str]:
    """PID 1 and the SSH server are this machine's programs: what steers a loader is for sessions alone."""
    return {name: value for name, value in session_environment(spec).items() if not name.startswith("LD_")}


def _closed(places: Places) -> list[str]:
    """What was made to mount on is not for writing."""
    made = ["/opt/sublet", "/volumes"] if places.volumes else ["/opt/sublet"]
    return [word for place in made for word in ("--remount-ro", place)]


def _image(spec: Spec, places: Places) -> list[str]:
    """The image as the root, with what PID 1 and the SSH server need of this machine below /opt/sublet."""
    argv = ["--ro-bind", places.image, "/", "--size", str(1 << 20), "--tmpfs", "/opt/sublet"]
    for source, inside in spec.host_binds:
        argv += ["--ro-bind", source, inside]
    for name in ("passwd", "group", "hosts", "resolv.conf"):
        argv += ["--ro-bind", f"{places.shown}/etc/{name}", f"/etc/{name}"]
    return argv


def _system() -> list[str]:
    argv = ["--ro-bind", "/usr", "/usr"]
    for name in ("bin", "sbin", "lib", "lib32", "lib64", "libx32"):
        path = Path("/", name)
        if path.is_symlink():
            argv += ["--symlink", str(path.readlink()), str(path)]
        elif path.is_dir():
            argv += ["--ro-bind", str(path), str(path)]
    if Path("/nix/store").is_dir():
        argv += ["--ro-bind", "/nix/store", "/nix/store"]
    for name in _ETC:
        if Path("/etc", name).exists():
            argv += ["--ro-bind", f"/etc/{name}", f"/etc/{name}"]
    for name in ("passwd", "group", "hosts", "resolv.conf"):
        argv += ["--symlink", f"/run/sublet-etc/{name}", f"/etc/{name}"]
    return argv


def _pairs(option: str, values: dict[str, str]) -> list[str]:
    return [word for name, value in values.items() for word in (option, name, value)]


def _child_pid(descriptor: int) -> int:
    """The PID of PID 1, from bubblewrap's JSON status; 0 where it ended or stayed silent."""
    deadline, text = time.monotonic() + START_TIMEOUT_S, b""
    while b"\n" not in text and time.monotonic() < deadline:
        if not select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))[0]:
            break
        chunk = os.read(descriptor, 4096)
        if not chunk:
            break
        text += chunk
    try:
        return int(json.loads(text.splitlines()[0])["child-pid"])
    except (IndexError, KeyError, ValueError):
        return 0


def _cores_of(text: str) -> set[int]:
    cores: set[int] = set()
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        cores.update(range(int(first), int(last or first) + 1))
    return cores
