"""Wire types of jobs."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Interval, MaxLen, MinLen

from sublet.values.moments import Moment
from sublet.values.wire import LINE, LINES, Price, Whole, answer, body

_DURATION_S_MAX = 3 * 366 * 24 * 3600


@body
class JobRequest:
    """A command to run on a lease of its own, quoted and accepted in one step. The fields of the lease are those of a quote. If
    the price is above `max_price_per_accelerator_hour`, the job is refused.

    `command` is a program with its arguments. It runs in the home directory, with volumes at /volumes/NAME. If it exits with a
    status other than 0, it is retried up to `retries` times. It gets SIGTERM `grace_s` seconds before the lease is paused or
    ends.

    `array` makes a job for each index, all or none; each job finds its index in SUBLET_ARRAY_INDEX. `ssh_public_keys` may log in
    while the job runs; by default, nobody may.
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
    """An attempt that ended by itself. The code is 128 + N for signal N."""

    attempt: int
    code: int
    at: Moment


@answer
class Job:
    """A command that a lease runs. `state` is `waiting`, `starting`, `running`, `paused`, `succeeded`, `failed` or `canceled`,
    or `stopped` if the lease ended before the command did. `end_reason` says why."""

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
    """The jobs of one request. `array_id` identifies all jobs of an array."""

    jobs: list[Job]
    array_id: str | None


@answer
class JobPage:
    """A page of jobs, newest first."""

    jobs: list[Job]
    next: str | None


@answer
class JobLog:
    """A part of a job's output. `offset` is where it begins, which is later than requested if older output was dropped.
    Request the next part with `next`. If `complete` is true, there is no more output."""

    text: str
    offset: int
    next: int
    complete: bool
