"""Wire types of volumes."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Interval, MaxLen, MinLen

from sublet.values.moments import Moment
from sublet.values.wire import LINE, Whole, answer, body


@body
class NewVolume:
    """A volume of `size_mib` MiB on the machine of a pool. A lease mounts it at /volumes/NAME."""

    name: Annotated[str, MinLen(1), MaxLen(40), LINE]
    size_mib: Annotated[Whole, Interval(ge=16, le=16 << 20)]
    pool: Annotated[str, MinLen(1), MaxLen(60), LINE]


@answer
class Volume:
    """A disk of an organization that outlives leases. `lease_id` is the lease that uses it. `busy_with` says why no lease can
    have it just now: `copying`, `snapshotting` or `restoring`."""

    id: str
    organization_id: str
    pool_id: str
    name: str
    size_mib: int
    state: str
    lease_id: str | None
    busy_with: str | None
    last_error: str | None
    created_at: Moment
    removed_at: Moment | None


@answer
class VolumePage:
    """A page of volumes, newest first."""

    volumes: list[Volume]
    next: str | None


@body
class NewVolumeCopy:
    """A tar to upload, without compression, with one file or directory at its top, which becomes `path` of the volume. If
    something is there already, the copy fails, unless `replace` is true. `size_bytes` and `sha256` are those of the tar."""

    path: Annotated[str, MinLen(1), MaxLen(1000), LINE]
    size_bytes: Annotated[Whole, Interval(ge=1, le=1 << 50)]
    sha256: Annotated[str, MinLen(64), MaxLen(64), LINE]
    replace: bool = False


@answer
class VolumeCopy:
    """A copy into a volume. `state` is `receiving`, `unpacking`, `done` or `failed`. If it failed, the volume is unchanged. A
    copy is listed for a day after it ended."""

    id: str
    volume_id: str
    path: str
    replace: bool
    sha256: str
    size_bytes: int
    received_bytes: int
    state: str
    last_error: str | None
    created_at: Moment


@body
class NewSnapshot:
    """A snapshot of a volume. Without a name, it is called by its time."""

    name: Annotated[str, MaxLen(80), LINE] = ""


@answer
class Snapshot:
    """A volume as it was at `created_at`. `bytes` is what it occupies. A snapshot of origin `asked` is billed like a volume of
    that size; one of origin `reclaim` was made when the owner took back a lease, is free, and is removed at `expires_at`."""

    id: str
    volume_id: str
    name: str
    origin: str
    state: str
    bytes: int
    last_error: str | None
    created_at: Moment
    expires_at: Moment | None


@answer
class SnapshotPage:
    """A page of a volume's snapshots, newest first."""

    snapshots: list[Snapshot]
    next: str | None
