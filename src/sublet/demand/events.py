"""Events of demand in the outbox."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sublet.store.events import declare


@dataclass(frozen=True, slots=True)
class FeedSilent:
    """A pool whose own demand has been unknown since `last_sample_at`. Nothing of it is sold meanwhile."""

    pool: str
    name: str
    last_sample_at: datetime


FEED_SILENT = declare(
    "feed.silent", FeedSilent, "A pool's demand is no longer measured.", subject="pool", audience="operator"
)
