"""Quotes, leases and reclaims as they cross the API."""

from __future__ import annotations

from typing import Annotated, Literal

from annotated_types import Interval, MaxLen, MinLen

from sublet.values.moments import Moment
from sublet.values.wire import LINE, LINES, Flag, Whole, body

ACCELERATORS_PER_LEASE_MAX = 4096
AUTHORIZED_KEYS_MAX = 32
WINDOW_S_MAX = 90 * 24 * 3600

Duration = Annotated[Whole, Interval(ge=1, le=WINDOW_S_MAX)]
Reason = Annotated[str, MinLen(1), MaxLen(500), LINES]


@body
class NewQuote:
    """What a customer asks for: a pool or a generation; `start` (now if left out); `end` or `duration_s`.

    `on_failure` says what becomes of the lease when an accelerator fails and no equal one is free: `shrink` goes on with
    fewer at a lower price, `replace` ends it with credit; `end` ends it even where an equal one is free.
    """

    accelerators: Annotated[Whole, Interval(ge=1, le=ACCELERATORS_PER_LEASE_MAX)] = 1
    class_: Annotated[str, MaxLen(16), LINE] = "notice"
    pool: Annotated[str, MaxLen(60), LINE] | None = None
    generation: Annotated[str, MaxLen(40), LINE] | None = None
    start: Moment | None = None
    end: Moment | None = None
    duration_s: Duration | None = None
    on_failure: Literal["shrink", "replace", "end"] = "shrink"


@body
class NewLease:
    """A quote to accept, and the public keys that may log in."""

    quote_id: Annotated[str, MaxLen(40), LINE]
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
