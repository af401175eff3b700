"""Hours of service by a deadline as they cross the API."""

from __future__ import annotations

from sublet.values.moments import Moment
from sublet.values.wire import answer


@answer
class QuotedDeadline:
    """`service_s` seconds of service by the quote's end. It begins at `latest_start` at the latest; on the share `likely` of the
    paths that the forecast calls possible all that is promised ends in time."""

    service_s: int
    latest_start: Moment
    likely: float | None


@answer
class LeaseDeadline:
    """`delivered_s` of `service_s` seconds are metered; the rest has to run from `latest_start` on at the latest. The lease runs, or
    waits, `since` then, and was paused `pauses` times."""

    service_s: int
    delivered_s: int
    latest_start: Moment
    pauses: int
    since: Moment | None
