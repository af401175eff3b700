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
    """A disk of an organization that outlives leases. `lease_id` is the lease that uses it."""

    id: str
    organization_id: str
    pool_id: str
    name: str
    size_mib: int
    state: str
    lease_id: str | None
    last_error: str | None
    created_at: Moment
    removed_at: Moment | None


@answer
class VolumePage:
    """A page of volumes, newest first."""

    volumes: list[Volume]
    next: str | None
