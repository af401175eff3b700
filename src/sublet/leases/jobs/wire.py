"""Jobs as they cross the API."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Interval, MaxLen, MinLen

from sublet.values.moments import Moment
from sublet.values.wire import LINE, LINES, Price, Whole, answer, body

_DURATION_S_MAX = 3 * 366 * 24 * 3600


@body
class JobRequest:
    """A command on a lease, quoted and accepted in one step. What describes the lease is as in a quote;
    `max_price_per_accelerator_hour` refuses it where it would cost more.

    `command` is a program and its arguments; it runs in the home directory, with volumes at /volumes/NAME. An exit other than 0 is
    tried again up to `retries` times. `grace_s` before the lease is paused or over, the command gets SIGTERM. `array` makes one job
    for each index, all or none, which each finds in SUBLET_ARRAY_INDEX. `ssh_public_keys` may log in while it runs; nobody if
    left out.
    """

    command: Annotated[list[Annotated[str, MaxLen(32_768)]], MinLen(1), MaxLen(256)]
    name: Annotated[str, MaxLen(80), LINE] = ""
    environment: Annotated[dict[Annotated[str, MaxLen(64)], Annotated[str, MaxLen(16_384)]], MaxLen(256)] | None = None
    retries: Annotated[Whole, Interval(ge=0, le=10)] = 0
    grace_s: Annotated[Whole, Interval(ge=0, le=300)] = 30
    array: Annotated[list[Annotated[Whole, Interval(ge=0, le=1_000_000)]], MinLen(1), MaxLen(64)] | None = None
    max_price_per_accelerator_hour: Price | None = None
    accelerators: Annotated[Whole, Interval(ge=1, le=4096)] = 1
    class_: Annotated[str, MinLen(1), MaxLen(16), LINE] | None = None
    pool: Annotated[str, MaxLen(60), LINE] | None = None
    generation: Annotated[str, MaxLen(40), LINE] | None = None
    start: Moment | None = None
    end: Moment | None = None
    duration_s: Annotated[Whole, Interval(ge=1, le=_DURATION_S_MAX)] | None = None
    service_s: Annotated[Whole, Interval(ge=60, le=7 * 24 * 3600)] | None = None
    network: Annotated[list[Annotated[str, MaxLen(40), LINE]], MaxLen(16)] | None = None
    volumes: Annotated[list[Annotated[str, MaxLen(60), LINE]], MaxLen(8)] | None = None
    image: Annotated[str, MinLen(1), MaxLen(60), LINE] | None = None
    ssh_public_keys: Annotated[list[Annotated[str, MaxLen(16_384), LINES]], MaxLen(32)] | None = None


@answer
class JobExit:
    """An attempt that ended by itself; 128 + N for signal N."""

    attempt: int
    code: int
    at: Moment


@answer
class Job:
    """A command that a lease runs. `state`: waiting, starting, running, paused; succeeded, failed, canceled; or stopped, if the lease
    was over before the command ended (`end_reason` says why)."""

    id: str
    organization_id: str
    lease_id: str
    name: str
    command: list[str]
    state: str
    exit_code: int | None
    exits: list[JobExit]
    retries: int
    grace_s: int
    array_id: str | None
    array_index: int | None
    pool_id: str
    class_: str
    accelerators: int
    end: Moment
    end_reason: str | None
    pauses: int
    accelerator_seconds: int
    created_at: Moment
    done_at: Moment | None


@answer
class SubmittedJobs:
    """The jobs that one request is about; `array_id` names them together."""

    jobs: list[Job]
    array_id: str | None


@answer
class JobPage:
    """A page of jobs, the newest first."""

    jobs: list[Job]
    next: str | None


@answer
class JobLog:
    """A part of what a job has printed. It begins at `offset`, later than asked for where the oldest part is no longer kept; ask again
    with `next`. `complete`: nothing more will come."""

    text: str
    offset: int
    next: int
    complete: bool
