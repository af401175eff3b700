"""Reads Slurm's own words: `sacct` and `squeue` with `--parsable2`, into jobs, and jobs into a series of demand.

Formats: Slurm's manual pages of sacct and squeue, and "Trackable RESources" for `gres/gpu=`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np

from sublet.demand.jobs import KnownJob
from sublet.demand.model import ACCELERATORS_MAX, HOUR_S, SLOTS_MAX, Floats, Series, assemble
from sublet.values.clock import EPOCH, as_utc, format_time, to_micros, within_reach
from sublet.values.errors import InvalidInputError

SACCT_FIELDS = (
    "JobID",
    "Partition",
    "State",
    "Submit",
    "Start",
    "End",
    "AllocTRES",
    "ReqTRES",
    "TimelimitRaw",
    "Account",
)
SACCT_COMMAND = (
    "sacct", "--allusers", "--allocations", "--parsable2", "--format", ",".join(SACCT_FIELDS),
)  # fmt: skip
SQUEUE_FORMAT = "%i|%P|%T|%V|%S|%e|%b|%D|%L|%a|%r"
SQUEUE_COMMAND = ("squeue", "--noheader", "--states=PENDING,RUNNING", "-o", SQUEUE_FORMAT)
SQUEUE_CELLS = SQUEUE_FORMAT.count("|") + 1
LINES_MAX = 5_000_000
DIGITS_MAX = 20
WAITS_FOR_ROOM = {"Resources", "Priority", "None", ""}
"""Why a job waits that starts as soon as there is room for it. Others wait for another job, a time or a limit of their own."""
_UNKNOWN = {"", "Unknown", "None", "N/A", "NONE"}
_UNLIMITED = {"UNLIMITED", "NOT_SET", "INVALID", "Partition_Limit", *_UNKNOWN}
_DURATION = re.compile(r"(?:(\d{1,5})-)?(?:(\d{1,5}):)?(\d{1,5}):(\d{2})")
_GPUS = re.compile(r"(?:^|,)gres/gpu=(\d+)")
_GPUS_TYPED = re.compile(r"(?:^|,)gres/gpu:[^=,]+=(\d+)")
_GRES_PER_NODE = re.compile(r"gpu(?::[A-Za-z0-9_.-]+)?:(\d+)")


class BadSlurmOutputError(InvalidInputError):
    """This is not output of sacct or squeue with the options that Sublet uses; the message names the line."""

    code = "bad_slurm_output"


@dataclass(frozen=True, slots=True)
class Job:
    """A job of the owner's: `accelerators` from `start` to `end`; None where it has not come to that yet."""

    id: str
    partition: str
    accelerators: int
    submitted_at: datetime
    start: datetime | None
    end: datetime | None
    limit_s: int | None = None
    waits_for_room: bool = True


def parse_sacct(lines: Iterable[str], account_not: str = "sublet") -> list[Job]:
    """Jobs from `sacct --parsable2` with the header line of SACCT_FIELDS. Sublet's own account's jobs are left out.

    Times are taken as UTC: run sacct with TZ=UTC. A job that was cancelled before it began waited until then. Raises
    BadSlurmOutputError naming the line.
    """
    jobs: list[Job] = []
    places: dict[str, int] = {}
    for number, line in enumerate(lines, start=1):
        if number > LINES_MAX:
            raise BadSlurmOutputError(f"more than {LINES_MAX} lines; run sacct for a shorter time range")
        if not line.strip():
            continue
        cells = line.removeprefix("\ufeff").rstrip("\r\n").split("|")
        if not places:
            places = {name: cells.index(name) for name in SACCT_FIELDS if name in cells}
            if len(places) < len(SACCT_FIELDS):
                missing = [name for name in SACCT_FIELDS if name not in places]
                raise BadSlurmOutputError(
                    f"line {number} lacks {', '.join(missing)}; use --format={','.join(SACCT_FIELDS)}"
                )
            continue
        if len(cells) < len(places):
            raise BadSlurmOutputError(f"line {number} has {len(cells)} cells, not {len(places)}; use --parsable2")
        cell = {name: cells[place] for name, place in places.items()}
        if "." in cell["JobID"] or cell["Account"] == account_not:
            continue
        count = _possible(tres_gpus(cell["AllocTRES"]) or tres_gpus(cell["ReqTRES"]), number)
        submitted = _moment(cell["Submit"], number)
        if count == 0 or submitted is None:
            continue
        start, end = _moment(cell["Start"], number), _moment(cell["End"], number)
        jobs.append(Job(cell["JobID"], cell["Partition"], count, submitted, start, end))
    if not places:
        raise BadSlurmOutputError(f"the file is empty; print jobs with --format={','.join(SACCT_FIELDS)}")
    return jobs


def told_of(jobs: Sequence[Job], since: datetime, until: datetime) -> tuple[datetime, datetime]:
    """The whole hours of `[since, until)` of which the jobs that sacct printed tell everything.

    sacct leaves out what had ended before the time that it was asked for, so that nothing is known before the first end;
    and it knew nothing after the last moment that it printed. Raises InvalidInputError where no hour is left.
    """
    ends = [job.end for job in jobs if job.end is not None]
    moments = [moment for job in jobs for moment in (job.submitted_at, job.start, job.end) if moment is not None]
    if not ends:
        raise InvalidInputError(
            "no job with accelerators ended in this output, so it covers no full hour; print a longer time range"
        )
    hour = timedelta(hours=1)
    first = max(since, -(-(min(ends) - EPOCH) // hour) * hour + EPOCH)
    last = min(until, (max(moments) - EPOCH) // hour * hour + EPOCH)
    if first >= last:
        raise InvalidInputError(
            f"the output covers no full hour between {format_time(since)} and {format_time(until)}; print a longer time range"
        )
    return first, last


def parse_squeue(lines: Iterable[str], account_not: str = "sublet") -> list[Job]:
    """Jobs from `squeue` in SQUEUE_FORMAT: running ones with their start, pending ones with neither start nor end. Sublet's own
    account's jobs are left out. Times are taken as UTC: run squeue with TZ=UTC. Raises BadSlurmOutputError naming the line."""
    jobs: list[Job] = []
    for number, line in enumerate(lines, start=1):
        cells = line.rstrip("\n").split("|")
        if not line.strip():
            continue
        if len(cells) != SQUEUE_CELLS or number > LINES_MAX:
            raise BadSlurmOutputError(
                f"line {number} has {len(cells)} cells, not {SQUEUE_CELLS}; use -o '{SQUEUE_FORMAT}'"
            )
        per_node = _GRES_PER_NODE.search(cells[6])
        if per_node is None or cells[9] == account_not:
            continue
        submitted = _moment(cells[3], number)
        if submitted is None:
            raise BadSlurmOutputError(f"line {number}: {cells[3]!r} is not a submit time; use -o '{SQUEUE_FORMAT}'")
        # What waits may say a range of nodes: it may need the most of them.
        nodes = max((_count(digits) for digits in re.findall(r"\d+", cells[7])), default=1)
        count = _possible(_count(per_node.group(1)) * nodes, number)
        running = cells[2] == "RUNNING"
        start = _moment(cells[4], number) if running else None
        end = _moment(cells[5], number) if running else None
        waits = not running and cells[10] in WAITS_FOR_ROOM
        jobs.append(Job(cells[0], cells[1], count, submitted, start, end, _limit_s(cells[8], number), waits))
    return jobs


def known_jobs(jobs: Sequence[Job]) -> list[KnownJob]:
    """The jobs of `parse_squeue` that hold accelerators, and those that take them as soon as there is room, in their order."""
    known = []
    for job in jobs:
        if job.start is not None:
            limit_s = None if job.end is None else max(1, int((job.end - job.start).total_seconds()))
            known.append(KnownJob(job.accelerators, job.start, limit_s))
        elif job.waits_for_room and job.accelerators:
            known.append(KnownJob(job.accelerators, None, job.limit_s))
    return known


def tres_gpus(tres: str) -> int:
    """GPUs in a TRES string such as `cpu=8,gres/gpu=4,gres/gpu:a100=4`: the total, or the sum of the typed ones."""
    total = _GPUS.search(tres)
    return _count(total.group(1)) if total else sum(map(_count, _GPUS_TYPED.findall(tres)))


def _count(digits: str) -> int:
    """Their number, or one that is too many: what thousands of digits say is not worth reading, and Python refuses to."""
    return int(digits) if len(digits) <= DIGITS_MAX else ACCELERATORS_MAX + 1


def _possible(count: int, number: int) -> int:
    if count > ACCELERATORS_MAX:
        raise BadSlurmOutputError(f"line {number}: the job has more than {ACCELERATORS_MAX} GPUs; check their number")
    return count


def series_of_jobs(
    jobs: Sequence[Job], pool: str, capacity: float, since: datetime, until: datetime, step_s: int = HOUR_S
) -> Series:
    """Demand of the jobs by slots of `step_s` in `[since, until)`: the most that ran, and the most that waited, in each.

    A job that has not ended runs on; one that has not started waits from its submission, until it is cancelled if it was.
    """
    first, last = to_micros(as_utc(since)), to_micros(as_utc(until))
    step_us = step_s * 1_000_000
    count = (last - first) // step_us
    if count < 1:
        raise InvalidInputError(f"the time range is shorter than one slot of {step_s} s; use a longer one")
    if count > SLOTS_MAX:
        raise InvalidInputError(f"the jobs span {count} slots of {step_s} s; check their times (at most {SLOTS_MAX})")
    running = [(job.start, job.end, job.accelerators) for job in jobs if job.start is not None]
    waiting = [(job.submitted_at, job.start or job.end, job.accelerators) for job in jobs]
    in_use = _peaks(running, first, int(count), step_us)
    pending = _peaks(waiting, first, int(count), step_us)
    if max(in_use.max(), pending.max()) > ACCELERATORS_MAX:
        raise InvalidInputError(f"the jobs need more than {ACCELERATORS_MAX} accelerators at once; check their numbers")
    times = first + step_us * np.arange(count, dtype=np.int64)
    return assemble(pool, times, np.full(count, float(capacity)), in_use, pending)


def _peaks(spans: Sequence[tuple[datetime, datetime | None, int]], first: int, count: int, step_us: int) -> Floats:
    """The highest sum of the spans' counts in each slot; at one moment what ends goes before what begins."""
    last = first + count * step_us
    moments: list[int] = []
    changes: list[int] = []
    for start, end, accelerators in spans:
        begin = max(first, to_micros(start))
        stop = last if end is None else min(last, to_micros(end))
        if begin < stop:
            moments += [begin, stop]
            changes += [accelerators, -accelerators]
    if not moments:
        return np.zeros(count)
    at, which = np.unique(np.array(moments, dtype=np.int64), return_inverse=True)
    level = np.cumsum(np.bincount(which, weights=changes))
    slot_starts = first + step_us * np.arange(count, dtype=np.int64)
    before = np.searchsorted(at, slot_starts, side="right") - 1
    peaks = np.where(before >= 0, level[np.maximum(before, 0)], 0.0)
    inside = at < last
    np.maximum.at(peaks, (at[inside] - first) // step_us, level[inside])
    return peaks


def _limit_s(text: str, number: int) -> int | None:
    """Seconds of `days-hours:minutes:seconds` or a part of it; None where there is no limit."""
    if text in _UNLIMITED:
        return None
    found = _DURATION.fullmatch(text)
    if found is None:
        raise BadSlurmOutputError(f"line {number}: {text[:80]!r} is not a time limit; use -o '{SQUEUE_FORMAT}'")
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return max(1, ((days * 24 + hours) * 60 + minutes) * 60 + seconds)


def _moment(text: str, number: int) -> datetime | None:
    if text in _UNKNOWN:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise BadSlurmOutputError(
            f"line {number}: {text[:80]!r} is not a time; print times as 2026-07-02T14:00:00"
        ) from error
    try:
        return within_reach(moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment)
    except ValueError as error:
        raise BadSlurmOutputError(f"line {number}: {error}") from error
