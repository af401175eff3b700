"""What every backend can do for a lease: start it, watch it, warn its tenant, end it, and prove that nothing is left."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from sublet.leases.backends.image import ImageOrder
from sublet.leases.backends.job import JobExit, JobOrder
from sublet.values.clock import format_time
from sublet.values.errors import InvalidInputError, SubletError, UnavailableError
from sublet.values.text import cleaned_line

if TYPE_CHECKING:
    # Nothing of it is needed while a lease runs, and its shim is to stay small.
    from sublet.leases.backends.engine import Demand, Inventory, NodeHealth, ReserveOrder, Traits

AUTHORIZED_KEYS_MAX = 32
KEY_COMMENT_MAX = 120
DEVICES_PER_LEASE_MAX = 4096


class IsolationUnavailableError(UnavailableError):
    """This machine cannot isolate a tenant; `sublet doctor` shows what is missing and how to enable it."""

    code = "isolation_unavailable"


class SoftIsolationError(SubletError):
    """This machine can't cap a tenant's memory and processes, so it takes one tenant at a time; run Sublet as root or with
    delegated cgroups, or set leasing.allow_soft_isolation = true."""

    code = "soft_isolation"
    status = 409


class BackendFailedError(UnavailableError):
    """The backend could not carry out the request; the message has its reason, and the call can be retried."""

    code = "backend_failed"


class RunState(StrEnum):
    """Where a lease stands on its backend."""

    ABSENT = "absent"
    STARTING = "starting"
    RUNNING = "running"
    DEGRADED = "degraded"
    PAUSED = "paused"
    STOPPED = "stopped"
    FAILED = "failed"

    @property
    def live(self) -> bool:
        """Something may be running."""
        return self in (RunState.STARTING, RunState.RUNNING, RunState.DEGRADED)

    @property
    def over(self) -> bool:
        """Nothing runs and nothing will run again by itself."""
        return self in (RunState.ABSENT, RunState.STOPPED, RunState.FAILED)


@dataclass(frozen=True, slots=True)
class StartOrder:
    """What a backend needs to know to start a lease. Keyed by `lease_id`: the same order twice is one lease."""

    lease_id: str
    tenant: str
    devices: tuple[str, ...]
    authorized_keys: tuple[str, ...]
    ends_at: datetime
    class_name: str = "notice"
    reclaim_at: datetime | None = None
    egress: tuple[str, ...] = ()
    """What the sandbox may reach outside, as `values.egress.Rule` writes it; nothing where it is empty."""
    pausable: bool = False
    """At `reclaim_at` the lease is paused, as `pause` does, instead of ended: it comes back later."""
    volumes: tuple[tuple[str, str], ...] = ()
    """The organization's volumes that it has: ids and names. Each is the directory /volumes/NAME inside."""
    image: ImageOrder | None = None
    """The root file system that it runs on; this machine's own programs without one."""
    job: JobOrder | None = None
    """What it runs; nobody needs a key to log in then."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """`[start, end)` in which the tenant could use `accelerators` of the lease: the evidence that metering rests on.

    `open` says that the end still moves. Deliveries of one lease never overlap.
    """

    start: datetime
    end: datetime
    accelerators: int
    open: bool = False


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where the tenant logs in. `host_key` is a line for known_hosts, without the host."""

    host: str
    port: int
    user: str
    host_key: str
    fingerprint: str

    def as_dict(self) -> dict[str, Any]:
        return {
            "host": self.host,
            "port": self.port,
            "user": self.user,
            "host_key": self.host_key,
            "fingerprint": self.fingerprint,
        }


@dataclass(frozen=True, slots=True)
class Reservation:
    """What the engine keeps for a lease over `[start, end)`, on `places`, such as nodes. `broken` says why it would not hold."""

    start: datetime
    end: datetime
    accelerators: int
    places: tuple[str, ...] = ()
    broken: str | None = None


@dataclass(frozen=True, slots=True)
class Observation:
    """What a backend says of one lease at one moment.

    `clean` is True once it is proved that nothing of the tenant is left, False where that could not be proved, None
    while the question does not arise. `guarantees` maps a resource to {"level": hard|soft|none, "how": …}. `endpoints` are
    all doors of a lease that has several, `endpoint` among them; `devices` is where an engine that picks has put it. `taken_at`
    is when the engine takes the lease back by itself: Sublet adopts that, and can't withdraw it.
    """

    lease_id: str
    state: RunState
    endpoint: Endpoint | None = None
    guarantees: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    deliveries: tuple[Delivery, ...] = ()
    ends_at: datetime | None = None
    reclaim_at: datetime | None = None
    reason: str | None = None
    clean: bool | None = None
    error: str | None = None
    keys: str | None = None
    """`keys_digest` of the public keys that may log in; None where the backend can't tell."""
    endpoints: tuple[Endpoint, ...] = ()
    devices: tuple[str, ...] = ()
    reservation: Reservation | None = None
    taken_at: datetime | None = None
    traffic: Mapping[str, int] | None = None
    """What went out and came in over the lease's life: bytes_out, bytes_in, connections, refused; None without a way out."""
    exits: tuple[JobExit, ...] = ()
    """How the attempts of the lease's job have exited so far."""

    @property
    def delivered_until(self) -> datetime | None:
        """The last moment at which the tenant was served."""
        return self.deliveries[-1].end if self.deliveries else None

    def as_dict(self) -> dict[str, Any]:
        return {
            "lease_id": self.lease_id,
            "state": self.state.value,
            "endpoint": self.endpoint.as_dict() if self.endpoint else None,
            "guarantees": {name: dict(value) for name, value in self.guarantees.items()},
            "delivered": [
                {"start": format_time(item.start), "end": format_time(item.end), "accelerators": item.accelerators}
                for item in self.deliveries
            ],
            "ends_at": format_time(self.ends_at) if self.ends_at else None,
            "reclaim_at": format_time(self.reclaim_at) if self.reclaim_at else None,
            "reason": self.reason,
            "clean": self.clean,
            "error": self.error,
            "endpoints": [item.as_dict() for item in self.endpoints],
            "devices": list(self.devices),
            "reserved": list(self.reservation.places) if self.reservation else None,
            "taken_at": format_time(self.taken_at) if self.taken_at else None,
        }


class Backend(Protocol):
    """Everything is idempotent and keyed by lease id; every call may be repeated after a crash. Raises
    BackendFailedError where the outcome is not known, IsolationUnavailableError where it can never work here."""

    name: str

    @property
    def tenants_max(self) -> int | None:
        """How many organizations may hold leases here at the same time; None for no limit."""
        ...

    def served_max(self) -> int | None:
        """How many accelerators its leases may hold at the same time, where that is fewer than its pools have; None where it
        can serve them all."""
        ...

    @property
    def traits(self) -> Traits:
        """What this engine does of its own; constant for an instance."""
        ...

    def introduce(self, tenants: frozenset[str]) -> None:
        """These organizations hold quotes or leases here: make ready what each needs, such as an account. Called from time to
        time, never while one of them waits."""
        ...

    def reserve(self, order: ReserveOrder) -> Observation:
        """Keep capacity for a lease that was accepted, or find it kept; the same lease with other terms changes what is kept.
        Raises BackendFailedError where the engine can't; asked again each round."""
        ...

    def release(self, lease_id: str) -> None:
        """Drop what is kept for the lease; harmless where nothing is. What runs is not stopped."""
        ...

    def inventory(self) -> Inventory | None:
        """The nodes that the engine has, and their accelerators; None where the operator states them."""
        ...

    def health(self) -> tuple[NodeHealth, ...]:
        """Each node that the engine knows of, and whether it can take work; empty where the operator states that."""
        ...

    def demand(self) -> Demand | None:
        """What the owner's own work uses and waits for at this moment; None where it is measured elsewhere."""
        ...

    def start(self, order: StartOrder) -> Observation:
        """Make the lease run, or find it running. Returns at once; `observe` says when the tenant can log in.

        A paused lease comes back with its home and door key, on the order's devices, which may be others than before. One that
        runs takes the order's keys: who is logged in stays.
        """
        ...

    def observe(self, lease_id: str) -> Observation:
        """ABSENT for a lease that the backend does not know."""
        ...

    def observe_all(self) -> dict[str, Observation]:
        """Every lease that the backend knows, ended ones included until they are forgotten; one for which it only keeps capacity
        is ABSENT, with a `reservation`."""
        ...

    def notice(self, lease_id: str, reclaim_at: datetime, text: str, *, comes_back: bool | None = None) -> Observation:
        """Tell the tenant, and end the lease at `reclaim_at` whatever happens to the caller; pause one that is `pausable`.
        `comes_back` says whether it is from now on; None leaves that as it was started."""
        ...

    def withdraw_notice(self, lease_id: str) -> Observation:
        """The lease runs to its own end again, and the tenant is told."""
        ...

    def extend(self, lease_id: str, ends_at: datetime) -> Observation:
        """Move the lease's own end, in either direction."""
        ...

    def stop(self, lease_id: str, reason: str, grace_s: float = 2.0) -> Observation:
        """End it now and prove that nothing is left. STOPPED with `clean`; ABSENT if it was never known."""
        ...

    def pause(self, lease_id: str) -> Observation:
        """Stop what runs but keep the tenant's files and door key, so that `start` brings the same lease back."""
        ...

    def forget(self, lease_id: str) -> None:
        """Drop the record of a lease that is over and proved clean. Refused (InvalidInputError) otherwise."""
        ...

    def reap(self, known: frozenset[str]) -> list[Observation]:
        """End everything that belongs to no lease in `known`, and finish teardowns that a crash cut short."""
        ...


@runtime_checkable
class KeepsVolumes(Protocol):
    """A backend whose leases can have volumes. Every call may be repeated."""

    def make_volume(self, volume_id: str, size_mib: int) -> None:
        """Allocate every block of it. Raises StorageFullError where there is no room, BackendFailedError."""
        ...

    def remove_volume(self, volume_id: str) -> None:
        """Leave nothing of it. Raises BackendFailedError where a sandbox still has it."""
        ...


def checked_authorized_keys(keys: tuple[str, ...], *, least: int = 1) -> tuple[str, ...]:
    """Public keys fit for an authorized_keys file: one line each, no options. Raises InvalidInputError."""
    if not least <= len(keys) <= AUTHORIZED_KEYS_MAX:
        raise InvalidInputError(f"ssh_public_keys needs 1 to {AUTHORIZED_KEYS_MAX} keys, as in ~/.ssh/id_ed25519.pub")
    checked = []
    for position, key in enumerate(keys):
        parts = key.strip().split(None, 2)
        single = len(key) <= _KEY_LINE_MAX and len(key.strip().splitlines()) == 1 and "\0" not in key
        if not single or len(parts) < 2 or parts[0] not in _KEY_TYPES or not _is_blob(parts[0], parts[1]):
            raise InvalidInputError(
                f"ssh_public_keys[{position}] is not an OpenSSH public key; send a line like 'ssh-ed25519 AAAA… name'"
            )
        comment = cleaned_line(parts[2] if len(parts) == 3 else "", KEY_COMMENT_MAX)
        checked.append(" ".join(filter(None, [parts[0], parts[1], comment])))
    return tuple(checked)


def keys_digest(keys: Sequence[str]) -> str:
    """What names a list of public keys, for comparing what a backend has with what it should have."""
    return hashlib.sha256("".join(f"{key}\n" for key in keys).encode()).hexdigest()


_KEY_TYPES = frozenset(
    {
        "ssh-ed25519",
        "ssh-rsa",
        "ecdsa-sha2-nistp256",
        "ecdsa-sha2-nistp384",
        "ecdsa-sha2-nistp521",
        "sk-ssh-ed25519@openssh.com",
        "sk-ecdsa-sha2-nistp256@openssh.com",
    }
)
_KEY_BLOB_MAX = 8192
_KEY_LINE_MAX = 16_384


def _is_blob(kind: str, text: str) -> bool:
    import base64
    import binascii

    if len(text) > _KEY_BLOB_MAX:
        return False
    try:
        blob = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return False
    # RFC 4253: the blob starts with the length and the text of its own type.
    return blob[4 : 4 + len(kind)] == kind.encode() and int.from_bytes(blob[:4], "big") == len(kind)
