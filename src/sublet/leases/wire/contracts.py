"""Wire types of quotes, leases, classes, quarantine and plans."""

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
    """A request for a quote. Name a pool or a generation. `start` is now by default. Give `end` or `duration_s`. `class` is one
    of `GET /v1/classes`; by default, the operator's default class.

    `network` lists the allow lists of the lease (`GET /v1/networks`); by default, none. `volumes` lists your volumes to attach,
    by id or name. `image` is the image to run on (`GET /v1/images`); by default, the programs of the machine.

    `on_failure` applies if an accelerator fails. `shrink` replaces it if an equal one is free, or else continues with fewer
    accelerators at a lower price. `replace` also replaces it, or else ends the lease with a credit. `end` always ends the lease.

    `on_reclaim` applies if the owner reclaims the accelerators. `end` ends the lease with a credit. `move` restarts it in another
    pool of the same generation with enough capacity, with its home directory and at the same price.

    `notice_s` is a notice longer than that of the class, up to its `longest_notice_s`. It raises the price by `longer_notice_ratio`
    for each further hour; the quote has the rule as `notice_rule`.

    With `finish_by`, a window of `duration_s` starts as soon after `start` as capacity allows, and ends by that time. In a class
    that is sold by a deadline, `service_s` is the seconds of service of each accelerator until `end`; leave out `start` and
    `duration_s`.
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
    notice_s: Annotated[Whole, Interval(ge=0, le=86_400)] | None = None


@body
class NewLease:
    """The quote to accept, and the public keys that may log in."""

    quote_id: Annotated[str, MaxLen(40), LINE]
    ssh_public_keys: Annotated[list[Annotated[str, MaxLen(16_384), LINES]], MinLen(1), MaxLen(AUTHORIZED_KEYS_MAX)]


@body
class NewSshKeys:
    """All public keys that may log in from now on."""

    ssh_public_keys: Annotated[list[Annotated[str, MaxLen(16_384), LINES]], MinLen(1), MaxLen(AUTHORIZED_KEYS_MAX)]


@body
class NewReclaim:
    """Capacity to reclaim for the owner, from `start` (now by default) until `end` or for `duration_s`. With `force`, firm
    leases can be broken."""

    pool: Annotated[str, MaxLen(60), LINE]
    accelerators: Annotated[Whole, Interval(ge=1, le=1_000_000)]
    start: Moment | None = None
    end: Moment | None = None
    duration_s: Duration | None = None
    reason: Reason
    force: Flag = False


@body
class Release:
    """The reason why an accelerator in quarantine is considered clean."""

    reason: Reason


@answer
class ClassOfService:
    """The terms of a class. `take_back` is `never`, `notice`, `at_once` or `pause`. The class with the lowest `strictness` is
    reclaimed first. `price_ratio` multiplies the pool's price. `credit_ratio` is the share of the undelivered rest that is
    credited when a lease is reclaimed. A lease that is reclaimed within `free_s` seconds is free. A tenant may ask for up to
    `longest_notice_s` of notice; each hour beyond `notice_s` adds `longer_notice_ratio` of the price."""

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
    longest_notice_s: int | None
    longer_notice_ratio: str


@answer
class ClassList:
    """The classes of service on sale, strictest first. `default` applies to quotes that name no class."""

    classes: list[ClassOfService]
    default: str


@answer
class VolumeOfLease:
    """A volume that is attached to a lease, at /volumes/NAME."""

    id: str
    name: str


@answer
class AllowList:
    """Hosts that a lease may reach. `open` is true if your organization may request this list in at least one class."""

    name: str
    hosts: list[str]
    open: bool


@answer
class AllowLists:
    """The allow lists that leases can use, by name."""

    networks: list[AllowList]


@answer
class Quote:
    """A price that is fixed until `expires_at`. The capacity is held until `held_until`. Amounts are exact decimals as text."""

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
    notice_rule: str


@answer
class QuoteList:
    """A page of quotes that can still be accepted, newest first."""

    quotes: list[Quote]
    next: str | None


@answer
class Ssh:
    """The SSH address, user name, and expected host key of a lease."""

    host: str
    port: int
    user: str
    host_key: str
    fingerprint: str


@answer
class SshKeys:
    """The public keys that may log in to a lease, as lines of an authorized_keys file."""

    lease_id: str
    ssh_public_keys: list[str]


@answer
class Lease:
    """Accelerators that an organization leases for a window.

    `reclaim_at` is when they are reclaimed, or null. `reclaim_origin` is `engine` if the cluster itself preempts the lease, and
    `turn` if a lease with a deadline makes room for others. `doors` lists every SSH address of a lease on several nodes. `fenced`
    says whether the cluster reserves the capacity: `asserted`, or broken with the reason, or null without a cluster.
    """

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
    """A lease with its public keys and every change of its state, oldest first."""

    ssh_public_keys: list[str]
    history: list[Transition]


@answer
class LeasePage:
    """A page of leases, newest first."""

    leases: list[Lease]
    next: str | None


@answer
class LeaseList:
    """The leases whose notice was withdrawn."""

    leases: list[Lease]


@answer
class QuarantinedUnit:
    """An accelerator that is not sold until everything that a lease left on it is proved gone."""

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
    """A step of a plan: its subject, the reason, and when it is due. `at` is null if it is due now."""

    kind: str
    subject: str
    reason: str
    at: Moment | None
    details: dict[str, Any]


@answer
class Plan:
    """The steps that are due, in order, and those that are pending until their time."""

    made_at: Moment
    steps: list[PlanStep]
    pending: list[PlanStep]
