"""Wire types of pools, accelerators and nodes."""

from __future__ import annotations

from typing import Annotated

from annotated_types import MaxLen

from sublet.values.moments import Moment
from sublet.values.wire import LINE, Flag, answer, body

REASON_MAX = 500


@body
class UnitService:
    """Whether an accelerator is in service. If it is not, `reason` says why."""

    in_service: Flag
    reason: Annotated[str, MaxLen(REASON_MAX), LINE] = ""


@answer
class Pool:
    """Accelerators of one generation at one site. Watts and prices are exact decimals as text."""

    id: str
    name: str
    site: str
    generation: str
    backend: str
    accelerators: int
    in_service: int
    watts_per_accelerator: str
    watts_source: str
    price_per_accelerator_hour: str
    currency: str
    tenure: str
    nodes: list[str]
    online_at: Moment
    offline_at: Moment | None


@answer
class PoolList:
    """A page of pools, by name."""

    pools: list[Pool]
    next: str | None


@answer
class Unit:
    """An accelerator. If it is out of service, `out_reason` says why."""

    id: str
    device: str
    in_service: bool
    out_reason: str | None


@answer
class UnitList:
    """A page of the accelerators of a pool, in their order."""

    units: list[Unit]
    next: str | None


@answer
class Node:
    """A machine that serves this database. `state` is `reachable` or `unreachable`."""

    id: str
    name: str
    version: str
    state: str
    seen_at: Moment | None
    created_at: Moment
    pool_ids: list[str]


@answer
class NodeList:
    """A page of nodes, oldest first."""

    nodes: list[Node]
    next: str | None


@answer
class CalendarStep:
    """What is taken of a pool from `start` to `end`, in accelerators. `capacity` plus `excess` equals the sum of all other fields
    except `blocks` and `merged`.

    `claimed` and `reclaimed` belong to the owner, `sold` is by class and outside blocks, `held` is what open quotes hold.
    `blocks` is what is for sale in blocks, sold or not; `unsold_in_blocks` is what nobody holds of it. `excess` is by how much more is
    taken than exists. `merged` is how many steps this one stands for; its figures are those of the fullest.
    """

    start: Moment
    end: Moment
    capacity: int
    maintenance: int
    quarantined: int
    model_floors: int
    model_replicas: int
    claimed: int
    reclaimed: int
    blocks: int
    sold_from_blocks: int
    unsold_in_blocks: int
    sold: dict[str, int]
    held: int
    left: int
    excess: int
    merged: int


@answer
class PoolCalendar:
    """What is booked of a pool over future time. `merged` says whether a step stands for several.

    `deadline_accelerator_hours` are promised by a deadline and not yet delivered; they appear in `sold` only while they run.
    """

    pool_id: str
    pool: str
    start: Moment
    end: Moment
    classes: list[str]
    deadline_accelerator_hours: float
    merged: bool
    steps: list[CalendarStep]
