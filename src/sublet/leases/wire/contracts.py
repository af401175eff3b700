"""Quotes and leases, and what the owner does with them, as they cross the API."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from annotated_types import Interval, MaxLen, MinLen

from sublet.leases.changes.wire import GiveBackRule, HandingBack, PriceStep
from sublet.leases.deadlines.wire import LeaseDeadline, QuotedDeadline
from sublet.leases.images.wire import ImageOfLease
from sublet.leases.reclaim.wire import MoveMade, MoveOfLease
from sublet.values.moments import Moment
from sublet.values.wire import LINE, LINES, Flag, Whole, answer, body

ACCELERATORS_PER_LEASE_MAX = 4096
AUTHORIZED_KEYS_MAX = 32
WINDOW_S_MAX = 3 * 366 * 24 * 3600

Duration = Annotated[Whole, Interval(ge=1, le=WINDOW_S_MAX)]
Reason = Annotated[str, MinLen(1), MaxLen(500), LINES]


@body
class NewQuote:
    """What a customer asks for: a pool or a generation; `start` (now if left out); `end` or `duration_s`. `class`: one of
    `GET /v1/classes`, the operator's default if left out.

    `network` names the allow lists whose hosts the lease may reach (`GET /v1/networks`), none if left out; `volumes` those of your
    volumes that it is to have, by id or name; `image` the one to run on (`GET /v1/images`), this machine's programs if left out.

    `on_failure` says what becomes of the lease when an accelerator fails and no equal one is free: `shrink` goes on with
    fewer at a lower price, `replace` ends it with credit; `end` ends it even where an equal one is free.
    `on_reclaim` says what becomes of it when the owner needs the accelerators: `end` ends it with credit; `move` lets it go on in
    another pool of its generation that has room, with its home directory, at the same price, after a restart.
    With `finish_by`, the window of `duration_s` starts as early after `start` as it can be sold, and is over by then.
    For a class that is sold by a deadline: `service_s` seconds of service of each accelerator by `end`; no `start`, `duration_s`.
    """

    accelerators: Annotated[Whole, Interval(ge=1, le=ACCELERATORS_PER_LEASE_MAX)] = 1
    class_: Annotated[str, MinLen(1), MaxLen(16), LINE] | None = None
    pool: Annotated[str, MaxLen(60), LINE] | None = None
    generation: Annotated[str, MaxLen(40), LINE] | None = None
    start: Moment | None = None
    end: Moment | None = None
    duration_s: Duration | None = None
    finish_by: Moment | None = None
    on_failure: Literal["shrink", "replace", "end"] = "shrink"
    on_reclaim: Literal["end", "move"] = "end"
    network: Annotated[list[Annotated[str, MaxLen(40), LINE]], MaxLen(16)] | None = None
    service_s: Annotated[Whole, Interval(ge=60, le=7 * 24 * 3600)] | None = None
    volumes: Annotated[list[Annotated[str, MaxLen(60), LINE]], MaxLen(8)] | None = None
    image: Annotated[str, MinLen(1), MaxLen(60), LINE] | None = None


@body
class NewLease:
    """A quote to accept, and the public keys that may log in."""

    quote_id: Annotated[str, MaxLen(40), LINE]
    ssh_public_keys: Annotated[list[Annotated[str, MaxLen(16_384), LINES]], MinLen(1), MaxLen(AUTHORIZED_KEYS_MAX)]


@body
class NewSshKeys:
    """The public keys that may log in from now on, all of them."""

    ssh_public_keys: Annotated[list[Annotated[str, MaxLen(16_384), LINES]], MinLen(1), MaxLen(AUTHORIZED_KEYS_MAX)]


@body
class NewReclaim:
    """What the owner takes back: `start` (now if left out); `end` or `duration_s`; `force` breaks firm leases too."""

    pool: Annotated[str, MaxLen(60), LINE]
    accelerators: Annotated[Whole, Interval(ge=1, le=1_000_000)]
    start: Moment | None = None
    end: Moment | None = None
    duration_s: Duration | None = None
    reason: Reason
    force: Flag = False


@body
class Release:
    """Why an accelerator in quarantine is clean."""

    reason: Reason


@answer
class ClassOfService:
    """The terms of a class. `take_back` is never, notice, at_once or pause; the class with the lowest `strictness` is reclaimed
    first. `price_ratio` multiplies the pool's price; `credit_ratio` is the credit at reclaim as a share of the undelivered
    rest, and a lease reclaimed within `free_s` seconds costs nothing."""

    name: str
    description: str
    take_back: str
    notice_s: int | None
    price_ratio: str
    credit_ratio: str
    free_s: int
    strictness: int
    give_back_free_s: int
    give_back_ratio: str


@answer
class ClassList:
    """The classes of service on sale, the strictest first; `default` is that of a quote that names none."""

    classes: list[ClassOfService]
    default: str


@answer
class VolumeOfLease:
    """A volume that a lease has, as the directory /volumes/NAME."""

    id: str
    name: str


@answer
class AllowList:
    """Hosts that a lease may reach; `open` says whether one of yours may ask for it, in one class at least."""

    name: str
    hosts: list[str]
    open: bool


@answer
class AllowLists:
    """The allow lists that a lease can be given, by name."""

    networks: list[AllowList]


@answer
class Quote:
    """A fixed price until `expires_at`; until `held_until` the capacity is held too. Amounts are exact decimals as text."""

    id: str
    pool_id: str
    class_: str
    notice_s: int | None
    accelerators: int
    start: Moment
    end: Moment
    price_per_accelerator_hour: str
    total: str
    currency: str
    credit_ratio: str
    on_failure: str
    on_reclaim: str
    block_id: str | None
    sold_from: str
    network: list[str]
    deadline: QuotedDeadline | None
    volumes: list[VolumeOfLease]
    image: ImageOfLease | None
    held_until: Moment | None
    expires_at: Moment
    give_back: GiveBackRule


@answer
class QuoteList:
    """A page of quotes that can still be accepted, the newest first."""

    quotes: list[Quote]
    next: str | None


@answer
class Ssh:
    """Where and as whom to log in, and the host key to expect."""

    host: str
    port: int
    user: str
    host_key: str
    fingerprint: str


@answer
class SshKeys:
    """The public keys that may log in to a lease, each a line as in authorized_keys."""

    lease_id: str
    ssh_public_keys: list[str]


@answer
class Lease:
    """Accelerators that an organization holds for a window. `reclaim_at` is when they are taken back, if they are;
    `reclaim_origin` is `engine` where the cluster does so by itself, and `turn` where a lease with a deadline makes room for
    others. `doors` are all SSH doors of a lease over several nodes;
    `fenced` says whether the cluster keeps its capacity: asserted, or broken and why; null where there is no cluster."""

    id: str
    organization_id: str
    pool_id: str
    quote_id: str
    state: str
    class_: str
    notice_s: int | None
    accelerators: int
    devices: list[str]
    start: Moment
    end: Moment
    reclaim_at: Moment | None
    reclaim_reason: str | None
    reclaim_origin: str | None
    price_per_accelerator_hour: str
    currency: str
    credit: str
    accelerator_seconds: int
    metered_until: Moment | None
    created_at: Moment
    active_at: Moment | None
    ended_at: Moment | None
    end_reason: str | None
    ssh: Ssh | None
    doors: list[Ssh]
    fenced: str | None
    guarantees: dict[str, Any]
    last_error: str | None
    on_failure: str
    on_reclaim: str
    move: MoveOfLease | None
    moves: list[MoveMade]
    shrunk_by: int
    block_id: str | None
    network: list[str]
    volumes: list[VolumeOfLease]
    image: ImageOfLease | None
    traffic: dict[str, int]
    deadline: LeaseDeadline | None
    name: str
    labels: dict[str, str]
    give_back: GiveBackRule
    handing_back: HandingBack | None
    handed_back: int
    price_steps: list[PriceStep]
    fees: str


@answer
class Transition:
    """A change of state: when, by whom, and why."""

    from_: str | None
    to: str
    at: Moment
    actor: str
    reason: str


@answer
class LeaseDetail(Lease):
    """A lease with who may log in and every change of its state, the oldest first."""

    ssh_public_keys: list[str]
    history: list[Transition]


@answer
class LeasePage:
    """A page of leases, the newest first."""

    leases: list[Lease]
    next: str | None


@answer
class LeaseList:
    """The leases whose notice was withdrawn."""

    leases: list[Lease]


@answer
class QuarantinedUnit:
    """An accelerator that is out of sale until what a lease left on it is proved gone."""

    id: str
    pool_id: str
    lease_id: str | None
    reason: str


@answer
class Quarantine:
    """A page of the accelerators in quarantine, by id."""

    accelerators: list[QuarantinedUnit]
    next: str | None


@answer
class PlanStep:
    """One thing to do: to what, why, and from when (null: now)."""

    kind: str
    subject: str
    reason: str
    at: Moment | None
    details: dict[str, Any]


@answer
class Plan:
    """What is done next, in order, and what waits for its time."""

    made_at: Moment
    steps: list[PlanStep]
    pending: list[PlanStep]
