"""Wire types of demand samples, imports and claims."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Interval, MaxLen, MinLen

from sublet.values.moments import Moment
from sublet.values.wire import LINE, LINES, Number, Whole, answer, body

ACCELERATORS_MAX = 10_000_000
REASON_CHARACTERS_MAX = 500
PATIENCE_S_MAX = 86_400
CLAIM_S_MAX = 3660 * 24 * 3600
SAMPLES_PER_REQUEST_MAX = 10_000
JOBS_MAX = 20_000
TEAMS_MAX = 200

Accelerators = Annotated[Number, Interval(ge=0, le=ACCELERATORS_MAX)]


@body
class NewJob:
    """A job of the owner's batch system. A running job has a `start`. A waiting job needs all of its accelerators at once, not
    before `eligible`. `limit_s` is its time limit."""

    accelerators: Annotated[Whole, Interval(ge=1, le=ACCELERATORS_MAX)]
    start: Moment | None = None
    limit_s: Annotated[Whole, Interval(ge=1, le=CLAIM_S_MAX)] | None = None
    eligible: Moment | None = None


@body
class NewTeamUse:
    """What of a sample an internal team uses. `team` is the id of its organization."""

    team: Annotated[str, MinLen(1), MaxLen(40), LINE]
    in_use: Accelerators


@body
class NewSample:
    """An observation of a pool. `jobs`, if known, are the running and waiting jobs in the order in which they will start.
    `teams`, if known, are the accelerators in use by each internal team, by the id of its organization; charge-back reads them."""

    time: Moment
    capacity: Accelerators
    in_use: Accelerators
    pending: Accelerators = 0.0
    jobs: Annotated[list[NewJob], MaxLen(JOBS_MAX)] | None = None
    teams: Annotated[list[NewTeamUse], MaxLen(TEAMS_MAX)] | None = None


@body
class NewSamples:
    """Observations of a pool, in any order."""

    samples: Annotated[list[NewSample], MinLen(1), MaxLen(SAMPLES_PER_REQUEST_MAX)]


@body
class NewClaim:
    """Capacity that an internal team will need, from `start` (now by default) until `end` or for `duration_s`. It may wait
    `patience_s` seconds for it. With `replaces`, the claim takes the place of that claim of the same pool, in one step."""

    pool: Annotated[str, MinLen(1), MaxLen(60), LINE]
    accelerators: Annotated[Whole, Interval(ge=1, le=ACCELERATORS_MAX)]
    start: Moment | None = None
    end: Moment | None = None
    duration_s: Annotated[Whole, Interval(ge=1, le=CLAIM_S_MAX)] | None = None
    reason: Annotated[str, MaxLen(REASON_CHARACTERS_MAX), LINES] = ""
    patience_s: Annotated[Whole, Interval(ge=0, le=PATIENCE_S_MAX)] = 0
    replaces: Annotated[str, MaxLen(40), LINE] | None = None


@answer
class Claim:
    """Capacity that is claimed for the owner until the claim is withdrawn or over."""

    id: str
    pool_id: str
    accelerators: int
    start: Moment
    end: Moment
    reason: str
    created_at: Moment
    withdrawn_at: Moment | None
    patience_s: int
    team: str | None


@answer
class ClaimList:
    """A page of claims that are not over, oldest first."""

    claims: list[Claim]
    next: str | None


@answer
class SampleFindings:
    """Irregularities in samples. Every repair is counted here."""

    rows: int
    duplicates: int
    out_of_order: int
    gaps: int
    missing_slots: int
    capacity_changes: int
    above_capacity: int
    outages: int


@answer
class SamplesTaken:
    """How many samples were recorded, and how many expired because they were older than `kept_from`. `notes` are the findings
    in sentences."""

    pool_id: str
    taken: int
    expired: int
    kept_from: Moment | None
    findings: SampleFindings
    notes: list[str]


@answer
class DemandImport:
    """A file of `samples` rows that was imported as a pool's history. `undone_at` is when the import was undone, or null."""

    id: str
    pool_id: str
    source: str
    created_at: Moment
    first_at: Moment
    last_at: Moment
    samples: int
    undone_at: Moment | None


@answer
class DemandImportList:
    """The imports of a pool, newest first."""

    imports: list[DemandImport]
    next: str | None


@answer
class SampleAt:
    """A pool's capacity, and what its owner used and waited for at that time, in accelerators."""

    time: Moment
    capacity: float
    in_use: float
    pending: float


@answer
class SampleHistory:
    """A page of a pool's samples, newest first, `step_s` seconds apart except for gaps."""

    pool_id: str
    step_s: int
    findings: SampleFindings
    samples: list[SampleAt]
    next: str | None
