"""Reads the job file of Alibaba's public spot-GPU trace (2026) into series of demand, one per GPU model.

Columns: `job_name, organization, gpu_model, cpu_request, gpu_request, worker_num, submit_time, duration, job_type`,
times in seconds from the trace's start; job types `HP` (the owner's own) and `Spot` (sold, so no demand).
"""

from __future__ import annotations

import csv
from collections.abc import Iterable
from datetime import datetime, timedelta

from sublet.demand.feeds.slurm import Job, series_of_jobs
from sublet.demand.model import ACCELERATORS_MAX, HOUR_S, Series
from sublet.values.errors import InvalidInputError

COLUMNS = ("job_name", "gpu_model", "gpu_request", "worker_num", "submit_time", "duration", "job_type")
ROWS_MAX = 20_000_000
SECONDS_MAX = 50 * 366 * 86_400
"""Longer than any cluster has run."""


class BadJobFileError(InvalidInputError):
    """This is not the job file of the Alibaba trace; the message names the line and the column."""

    code = "bad_job_file"


def read_jobs(lines: Iterable[str], start: datetime) -> dict[str, list[Job]]:
    """The owner's own jobs (`HP`) by GPU model; `start` is the moment that the trace calls 0. Raises BadJobFileError."""
    rows = csv.DictReader(lines)
    missing = [name for name in COLUMNS if name not in (rows.fieldnames or ())]
    if missing:
        raise BadJobFileError(
            f"line 1 is missing {', '.join(missing)}; the file must have the columns {', '.join(COLUMNS)}"
        )
    found: dict[str, list[Job]] = {}
    for line, row in enumerate(rows, start=2):
        if line > ROWS_MAX:
            raise BadJobFileError(f"more than {ROWS_MAX} rows; split the file")
        if None in row.values():
            raise BadJobFileError(f"line {line} has too few cells; it must have one for each column of line 1")
        if row["job_type"] not in ("HP", "Spot"):
            raise BadJobFileError(f"line {line}: job_type is {row['job_type']!r}; it must be HP or Spot")
        if row["job_type"] == "Spot":
            continue
        gpus = _number(row, "gpu_request", line, ACCELERATORS_MAX) * _number(row, "worker_num", line, ACCELERATORS_MAX)
        if gpus <= 0:
            continue
        submitted = start + timedelta(seconds=_number(row, "submit_time", line, SECONDS_MAX))
        end = submitted + timedelta(seconds=_number(row, "duration", line, SECONDS_MAX))
        # A part of a GPU keeps the whole of it from being sold.
        job = Job(row["job_name"], row["gpu_model"], int(-(-gpus // 1)), submitted, submitted, end)
        found.setdefault(row["gpu_model"], []).append(job)
    return found


def series_of_model(jobs: Iterable[Job], model: str, capacity: float, step_s: int = HOUR_S) -> Series:
    """Demand of one GPU model by slots, from its first submission to its last end. Jobs start when submitted."""
    known = list(jobs)
    if not known:
        raise InvalidInputError(f"the file has no jobs with GPU model {model!r}; choose another model")
    first = min(job.submitted_at for job in known).replace(minute=0, second=0, microsecond=0)
    last = max(job.end for job in known if job.end is not None)
    slots = max(1, -(-int((last - first).total_seconds()) // step_s))
    return series_of_jobs(known, model, capacity, first, first + timedelta(seconds=slots * step_s), step_s)


def _number(row: dict[str, str], column: str, line: int, most: float) -> float:
    try:
        value = float(row[column])
    except (TypeError, ValueError) as error:
        raise BadJobFileError(f"line {line}: {column} is {row[column]!r}; it must be a number") from error
    if not 0 <= value <= most:
        raise BadJobFileError(f"line {line}: {column} is {row[column]!r}; it must be a number from 0 to {most:,.0f}")
    return value
