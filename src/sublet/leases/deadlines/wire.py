"""Wire types of service by a deadline."""

from __future__ import annotations

from sublet.values.moments import Moment
from sublet.values.wire import answer


@answer
class QuotedDeadline:
    """`service_s` seconds of service before the quote's end, starting at `latest_start` at the latest. `likely` is the share
    of forecast paths on which everything that is promised is delivered in time."""

    service_s: int
    latest_start: Moment
    likely: float | None


@answer
class LeaseDeadline:
    """The progress of a lease with a deadline: `delivered_s` of `service_s` seconds are metered. Service must resume by
    `latest_start`. The lease has been running or waiting since `since`, and has been paused `pauses` times."""

    service_s: int
    delivered_s: int
    latest_start: Moment
    pauses: int
    since: Moment | None
