"""The `local` backend: prepares a lease's directory, starts its shim, and talks to it afterwards."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import sublet
from sublet.leases.backends.base import (
    DEVICES_PER_LEASE_MAX,
    BackendFailedError,
    Observation,
    RunState,
    SoftIsolationError,
    StartOrder,
    checked_authorized_keys,
)
from sublet.leases.backends.image import ImageOrder
from sublet.leases.backends.job import LogPart
from sublet.leases.backends.local import archive, disk, jobs, runtime, sandbox, volumes
from sublet.leases.backends.local.cgroups import LeaseCgroup
from sublet.leases.backends.local.control import ask, kill_shim, wait_until
from sublet.leases.backends.local.devices import cores_and_share, device_nodes
from sublet.leases.backends.local.egress import EGRESS_LOGS, purge_logs
from sublet.leases.backends.local.etc import installed_keys, write_etc, write_host_key, write_keys
from sublet.leases.backends.local.files import LeaseFiles, Spec, State
from sublet.leases.backends.local.host import HostCapabilities, probe
from sublet.leases.backends.local.images import image_part
from sublet.leases.backends.local.observing import observation_of
from sublet.leases.backends.local.teardown import tear_down
from sublet.leases.backends.local.uids import LeaseUids
from sublet.leases.backends.local.volume_workers import LocalVolumes
from sublet.leases.backends.standalone import Standalone
from sublet.values.clock import to_micros
from sublet.values.errors import InvalidInputError, StorageFullError, SubletError

MIB = 1 << 20
STOP_TIMEOUT_S = 20.0
SPAWN_TIMEOUT_S = 10.0
ROOM_KEPT_S = 2.0


@dataclass(frozen=True, slots=True)
class LocalSettings:
    """What an operator may set. Sizes are per accelerator of a lease; `accelerators` is how many the pool sells here."""

    base: Path
    images: Path | None = None
    accelerators: int = 0
    bind_host: str = "127.0.0.1"
    public_host: str = ""
    port_first: int = 22_000
    port_last: int = 22_999
    memory_bytes: int = 512 * MIB
    disk_bytes: int = 1024 * MIB
    processes_max: int = 256
    home_keep_s: int = 0
    allow_soft_isolation: bool = False
    force_packaged_bwrap: bool = False
    force_asyncssh: bool = False
    egress_permitted: tuple[str, ...] = ()
    egress_denied: tuple[str, ...] = ()
    egress_log_days: int = 30
    job_log_days: int = 30

    def __post_init__(self) -> None:
        if not 1 <= self.port_first <= self.port_last <= 65_535:
            raise InvalidInputError(
                f"ssh.port_min {self.port_first} and ssh.port_max {self.port_last} are not a valid port range; use, for example, "
                "22000 and 22999"
            )
        for name, least in (("memory_bytes", 64 * MIB), ("disk_bytes", 16 * MIB), ("processes_max", 32)):
            if getattr(self, name) < least:
                raise InvalidInputError(f"leasing: {name} must be at least {least}, not {getattr(self, name)}")


class LocalBackend(LocalVolumes, Standalone):
    """Leases on this machine. Safe to use from several threads; several processes may share `settings.base`."""

    name = "local"

    def __init__(self, settings: LocalSettings, capabilities: HostCapabilities | None = None) -> None:
        self._settings = settings
        self._base = settings.base.resolve()
        self._capabilities = capabilities
        self._preparing = threading.Lock()
        self._measuring = threading.Lock()
        self._served_max = (-ROOM_KEPT_S, 0)
        LocalVolumes.__init__(self, self._base)
        self._instance = hashlib.sha256(os.fsencode(self._base)).hexdigest()[:8]

    @property
    def capabilities(self) -> HostCapabilities:
        """What this machine can do, found out once."""
        if self._capabilities is None:
            self._capabilities = probe(
                force_packaged_bwrap=self._settings.force_packaged_bwrap, force_asyncssh=self._settings.force_asyncssh
            )
        return self._capabilities

    @property
    def tenants_max(self) -> int | None:
        """1 where memory and processes can't be capped per lease, unless the operator allows soft isolation."""
        return None if self.capabilities.hard or self._settings.allow_soft_isolation else 1

    def served_max(self) -> int | None:
        """None where the disk has room for the homes of leases of all accelerators."""
        return self.disk_room() if self.without_room() else None

    def disk_room(self) -> int:
        """How many accelerators can be leased at the same time, as far as the disk has room for their homes. A measurement
        of the last ROOM_KEPT_S seconds."""
        with self._measuring:
            measured, served = self._served_max
            if time.monotonic() - measured > ROOM_KEPT_S:
                served = max(0, disk.lease_bytes_max(self._base)) // self._settings.disk_bytes
                self._served_max = (time.monotonic(), served)
            return served

    def without_room(self) -> int:
        """How many of this machine's accelerators the disk has no room for, were all leased at once."""
        return max(0, self._settings.accelerators - self.disk_room())

    def start(self, order: StartOrder) -> Observation:
        """Raises IsolationUnavailableError, SoftIsolationError, StorageFullError, InvalidInputError, BackendFailedError."""
        self.capabilities.require()
        files = LeaseFiles(self._base, order.lease_id)
        with self._preparing:
            spec = files.read_spec()
            state = files.read_state()
            if state is not None and state.state in ("stopped", "failed"):
                return self.observe(order.lease_id)
            if spec is None:
                self._refuse_second_tenant(order)
                spec = self._prepare_or_nothing(files, order)
            else:
                spec = self._again(files, spec, order)
        # Two shims of one lease may be started here; the one that does not get the lock ends at once.
        if not files.held():
            self._spawn(files)
        return self.observe(order.lease_id)

    def make_volume(self, volume_id: str, size_mib: int) -> None:
        """See `volumes.make`."""
        self._base.mkdir(mode=0o700, parents=True, exist_ok=True)
        volumes.make(self._base, volume_id, size_mib, _mkfs() if self.capabilities.loop_disks else None)

    def job_log(self, lease_id: str, offset: int) -> LogPart:
        """See `jobs.JobFiles.read_log`."""
        return jobs.JobFiles(self._base, LeaseFiles(self._base, lease_id).lease_id).read_log(offset)

    def observe(self, lease_id: str) -> Observation:
        files = LeaseFiles(self._base, lease_id)
        spec = files.read_spec()
        if spec is None:
            return Observation(lease_id, RunState.ABSENT)
        held = files.held()
        host = self._settings.public_host or spec.bind_host
        seen = replace(observation_of(spec, files.read_state(), held, host), keys=installed_keys(files))
        return replace(seen, exits=jobs.JobFiles(self._base, lease_id).exits()) if spec.job else seen

    def observe_all(self) -> dict[str, Observation]:
        found = {}
        for lease_id in self._lease_ids():
            observation = self.observe(lease_id)
            if observation.state is not RunState.ABSENT:
                found[lease_id] = observation
        return found

    def notice(self, lease_id: str, reclaim_at: datetime, text: str, *, comes_back: bool | None = None) -> Observation:
        return self._terms(lease_id, text, reclaim_at=reclaim_at, comes_back=comes_back)

    def withdraw_notice(self, lease_id: str) -> Observation:
        return self._terms(lease_id, "*** The notice is withdrawn: this lease goes on as before. ***", withdraw=True)

    def extend(self, lease_id: str, ends_at: datetime) -> Observation:
        return self._terms(lease_id, "", ends_at=ends_at)

    def stop(self, lease_id: str, reason: str, grace_s: float = 2.0) -> Observation:
        """A shim that does not obey is killed and its work done here."""
        files = LeaseFiles(self._base, lease_id)
        spec = files.read_spec()
        if files.held():
            try:
                ask(files, {"op": "stop", "reason": reason, "grace_s": grace_s})
                wait_until(lambda: not files.held(), STOP_TIMEOUT_S + grace_s)
            except BackendFailedError:
                pass
            if files.held():
                kill_shim(files)
        if spec is None:
            files.remove()
            return Observation(lease_id, RunState.ABSENT)
        self._finish(files, spec, reason)
        return self.observe(lease_id)

    def pause(self, lease_id: str) -> Observation:
        files = LeaseFiles(self._base, lease_id)
        if files.held():
            ask(files, {"op": "pause"})
            if not wait_until(lambda: not files.held(), STOP_TIMEOUT_S):
                kill_shim(files)
        return self.observe(lease_id)

    def forget(self, lease_id: str) -> None:
        files = LeaseFiles(self._base, lease_id)
        observation = self.observe(lease_id)
        if observation.state is RunState.ABSENT:
            return
        if not observation.state.over or not observation.clean:
            raise InvalidInputError(f"lease {lease_id} is {observation.state} and not proved clean; stop it first")
        spec = files.read_spec()
        files.remove()
        if spec is not None and spec.uid is not None:
            LeaseUids(self.capabilities.uid_first, self.capabilities.uids).release(spec.uid, files.root)

    def reap(self, known: frozenset[str]) -> list[Observation]:
        """Also removes this Sublet's control groups of leases whose directory is gone."""
        ended = []
        for lease_id in self._lease_ids():
            observation = self.observe(lease_id)
            unknown = lease_id not in known
            unproved = observation.state in (RunState.STOPPED, RunState.FAILED) and not observation.clean
            if unproved or (unknown and not (observation.state.over and observation.clean)):
                ended.append(self.stop(lease_id, "orphan", grace_s=0.0))
            if unknown and self.observe(lease_id).clean is not False:
                with contextlib.suppress(InvalidInputError):
                    self.forget(lease_id)
        self._reap_groups()
        archive.purge(self._base)
        purge_logs(self._base / EGRESS_LOGS, self._settings.egress_log_days)
        self._workers.purge()
        jobs.purge(self._base, self._settings.job_log_days, known)
        return ended

    def _prepare_or_nothing(self, files: LeaseFiles, order: StartOrder) -> Spec:
        """What was allocated for a lease that can't be prepared is given back at once. Raises StorageFullError."""
        try:
            return self._prepare(files, order)
        except (SubletError, OSError) as error:
            files.remove()
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise StorageFullError(
                    f"the disk that holds {self._base} is full; end a lease or free some space"
                ) from error
            raise

    def _prepare(self, files: LeaseFiles, order: StartOrder) -> Spec:
        """Make the directory; the spec is written last, so that what a crash leaves half-made is made again."""
        settings, able = self._settings, self.capabilities
        count = len(order.devices)
        if not 0 < count <= DEVICES_PER_LEASE_MAX:
            raise InvalidInputError(f"a lease needs 1 to {DEVICES_PER_LEASE_MAX} devices, not {count}")
        keys = _keys_of(order)
        cores, share = cores_and_share(order.devices, settings.accelerators)
        nodes = device_nodes(order.devices)
        self._base.mkdir(mode=0o700, parents=True, exist_ok=True)
        archive.purge(self._base)
        shutil.rmtree(files.contents, ignore_errors=True)
        files.create()
        for directory in (files.contents, files.home, files.etc):
            directory.mkdir(mode=0o755)
        uid = LeaseUids(able.uid_first, able.uids).claim(files.root) if able.as_root else None
        host_key, fingerprint = write_host_key(files)
        spec = Spec(
            lease_id=order.lease_id,
            tenant=order.tenant,
            class_name=order.class_name,
            devices=list(order.devices),
            cores=cores,
            cpu_quota=share,
            device_nodes=nodes,
            memory_bytes=settings.memory_bytes * count,
            disk_bytes=settings.disk_bytes * count,
            processes_max=settings.processes_max * count,
            uid=uid,
            ends_at_us=to_micros(order.ends_at),
            reclaim_at_us=to_micros(order.reclaim_at) if order.reclaim_at else None,
            pausable=order.pausable,
            instance=self._instance,
            host_key=host_key,
            fingerprint=fingerprint,
            egress=list(order.egress),
            volumes=[list(item) for item in order.volumes],
            job=asdict(order.job) if order.job is not None else {},
            **self._image_part(order.image),
            **self._host_part(),
        )
        write_etc(files, spec, keys)
        self._take_room(files, spec)
        return spec

    def _take_room(self, files: LeaseFiles, spec: Spec) -> None:
        """What the lease is promised is counted and allocated before it exists. Raises StorageFullError."""
        mkfs = _mkfs()
        with disk.counted(self._base):
            disk.require_room(self._base, spec.disk_bytes)
            if self.capabilities.loop_disks and mkfs:
                disk.make_disk(spec, files, mkfs)
            files.write_spec(spec)

    def _host_part(self) -> dict[str, Any]:
        """What of a spec may change between two runs of a lease: programs, paths, ports, and where groups are made."""
        settings, able, python = self._settings, self.capabilities, runtime.interpreter()
        assert able.bwrap is not None
        binds = [*python.binds, *runtime.inside_files(), *runtime.ssh_packages()]
        return {
            "port_first": settings.port_first,
            "port_last": settings.port_last,
            "bind_host": settings.bind_host,
            "bwrap": able.bwrap.path,
            "bwrap_binds": [list(pair) for pair in able.bwrap.binds],
            "python": python.executable,
            "python_libraries": python.library_path,
            "python_binds": [list(pair) for pair in binds],
            "hidden": list(python.hidden),
            "home_keep_s": settings.home_keep_s,
            "doors": list(able.doors),
            "sshd": able.sshd,
            "cgroup_parents": dict(able.cgroup_parents),
            "egress_permitted": list(settings.egress_permitted),
            "egress_denied": list(settings.egress_denied),
        }

    def _image_part(self, image: ImageOrder | None) -> dict[str, Any]:
        """What of a spec is for the image. Raises BackendFailedError where this machine does not have it."""
        return image_part(self._settings.images, image, mounts=self.capabilities.as_root) if image is not None else {}

    def _again(self, files: LeaseFiles, spec: Spec, order: StartOrder) -> Spec:
        """The same lease once more: its terms and its devices may have changed while nothing ran; its home, door and identity
        have not."""
        if spec.uid is not None:
            LeaseUids(self.capabilities.uid_first, self.capabilities.uids).claim(files.root, spec.uid)
        keys = _keys_of(order)
        write_keys(files, keys)
        if not files.held():
            if spec.cgroup_parents != dict(self.capabilities.cgroup_parents):
                group = sandbox.lease_cgroup(spec)
                group.kill()
                group.remove()
            reclaim_at_us = to_micros(order.reclaim_at) if order.reclaim_at else None
            if list(order.devices) != spec.devices:
                spec = self._on_other_devices(spec, order.devices)
            parts = self._image_part(order.image) | self._host_part()
            spec = replace(
                spec, egress=list(order.egress), reclaim_at_us=reclaim_at_us, pausable=order.pausable, **parts
            )
            spec.ends_at_us = to_micros(order.ends_at)
            # The door's policy is this version's, not the one that the lease began with.
            if files.etc.is_dir():
                write_etc(files, spec, keys)
            files.write_spec(spec)
        return spec

    def _on_other_devices(self, spec: Spec, devices: tuple[str, ...]) -> Spec:
        """What follows from the devices; the home keeps the size that it was made with."""
        count = len(devices)
        if not 0 < count <= DEVICES_PER_LEASE_MAX:
            raise InvalidInputError(f"a lease needs 1 to {DEVICES_PER_LEASE_MAX} devices, not {count}")
        cores, share = cores_and_share(devices, self._settings.accelerators)
        return replace(
            spec,
            devices=list(devices),
            cores=cores,
            cpu_quota=share,
            device_nodes=device_nodes(devices),
            memory_bytes=self._settings.memory_bytes * count,
            processes_max=self._settings.processes_max * count,
        )

    def _refuse_second_tenant(self, order: StartOrder) -> None:
        if self.tenants_max is None:
            return
        for lease_id in self._lease_ids():
            files = LeaseFiles(self._base, lease_id)
            spec, state = files.read_spec(), files.read_state()
            over = state is not None and state.state in ("stopped", "failed")
            if spec is not None and not over and spec.tenant != order.tenant:
                raise SoftIsolationError()

    def _spawn(self, files: LeaseFiles) -> None:
        source = str(Path(sublet.__file__).resolve().parent.parent)
        command = [sys.executable, "-S", "-P", "-m", "sublet.leases.backends.local.shim", str(files.root)]
        path = os.environ.get("PATH", "/usr/bin:/bin")
        try:
            done = subprocess.run(
                command,
                env={"PYTHONPATH": source, "PATH": path},
                cwd="/",
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                start_new_session=True,
                timeout=SPAWN_TIMEOUT_S,
                check=False,
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise BackendFailedError(f"the lease's shim did not start: {error}") from error
        if done.returncode != 0:
            raise BackendFailedError(f"the lease's shim did not start: {done.stderr.strip()[-400:]}")
        wait_until(files.held, SPAWN_TIMEOUT_S)

    def _terms(
        self,
        lease_id: str,
        text: str,
        *,
        ends_at: datetime | None = None,
        reclaim_at: datetime | None = None,
        withdraw: bool = False,
        comes_back: bool | None = None,
    ) -> Observation:
        """Change the end. The spec is written first: a shim that starts again reads it there."""
        files = LeaseFiles(self._base, lease_id)
        with self._preparing:
            spec = files.read_spec()
            if spec is None:
                return Observation(lease_id, RunState.ABSENT)
            before = asdict(spec)
            if ends_at is not None:
                spec.ends_at_us = to_micros(ends_at)
            if reclaim_at is not None or withdraw:
                spec.reclaim_at_us = to_micros(reclaim_at) if reclaim_at else None
            spec.pausable = spec.pausable if comes_back is None else comes_back
            if asdict(spec) != before:
                files.write_spec(spec)
        if files.held():
            state = files.read_state()
            known = state and (state.ends_at_us, state.reclaim_at_us) == (spec.ends_at_us, spec.reclaim_at_us)
            request = {"op": "terms", "ends_at_us": spec.ends_at_us, "reclaim_at_us": spec.reclaim_at_us}
            request["pausable"] = spec.pausable
            if not known:
                ask(files, {**request, "text": text})
        return self.observe(lease_id)

    def _finish(self, files: LeaseFiles, spec: Spec, reason: str) -> None:
        """Where no shim did it: tear down, prove, and say so in the state. Where one did: check its word once more."""
        lock = files.lock_within(1.0)
        if lock is None:
            raise BackendFailedError(
                f"lease {files.lease_id} has a process that does not end, so it is not proved clean"
            )
        try:
            state = files.read_state() or State(spec.lease_id, "starting", spec.ends_at_us, spec.reclaim_at_us)
            if state.state not in ("stopped", "failed") or not state.clean:
                state.reason = state.reason or reason
                state.state = state.state if state.state == "failed" else "stopped"
                for run in state.runs:
                    run.closed = True
                (files.root / "ssh.socket").unlink(missing_ok=True)
                state.left = tear_down(spec, files, state)
                state.clean = not state.left
                files.write_state(state, durable=True)
            if state.clean and spec.uid is not None:
                LeaseUids(self.capabilities.uid_first, self.capabilities.uids).release(spec.uid, files.root)
        finally:
            os.close(lock)

    def _lease_ids(self) -> list[str]:
        if not self._base.is_dir():
            return []
        return sorted(entry.name for entry in self._base.iterdir() if entry.is_dir() and entry.name.startswith("lse_"))

    def _reap_groups(self) -> None:
        prefix = f"sublet-{self._instance}-"
        parents = self.capabilities.cgroup_parents
        for parent in dict.fromkeys(parents.values()):
            for directory in Path(parent).glob(f"{prefix}*"):
                if not (self._base / directory.name.removeprefix(prefix) / "spec.json").exists():
                    group = LeaseCgroup(directory.name, parents)
                    group.kill()
                    group.remove()


def _keys_of(order: StartOrder) -> tuple[str, ...]:
    return checked_authorized_keys(order.authorized_keys, least=0 if order.job is not None else 1)


def _mkfs() -> str | None:
    return shutil.which("mkfs.ext4", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
