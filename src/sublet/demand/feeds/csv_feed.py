"""Demand from a CSV file that something else keeps up to date, such as a job that asks the scheduler every minute."""

from __future__ import annotations

from pathlib import Path

from sublet.demand.feeds.csv_series import read_series
from sublet.demand.feeds.feed import FeedSite, FeedUnreachableError
from sublet.demand.model import Sample
from sublet.values.clock import from_micros, to_micros
from sublet.values.errors import InvalidInputError

SAMPLES_MAX = 10_000
"""Of one round: a longer file is made up over several."""


class CsvFeed:
    """Brings the rows of the file that are newer than the last sample, and not of the future."""

    def __init__(self, site: FeedSite, path: Path) -> None:
        self._site = site
        self._path = path

    def collect(self) -> int:
        """See Feed. Raises BadSeriesError naming the line."""
        if not self._path.is_file():
            raise FeedUnreachableError(
                f"{self._path}: the file does not exist; set the path of the CSV file that demand is written to"
            )
        series = read_series(self._path, self._site.pool_id)
        latest = self._site.demand.latest(self._site.pool_id)
        since_us = to_micros(latest.time) if latest is not None else -1
        now_us = to_micros(self._site.clock.now())
        fresh = [index for index, at in enumerate(series.times_us) if since_us < at <= now_us][:SAMPLES_MAX]
        samples = [
            Sample(from_micros(int(series.times_us[index])), float(series.capacity[index]), float(series.in_use[index]))
            for index in fresh
        ]
        return self._site.demand.record_samples(self._site.pool_id, samples).taken if samples else 0


def make(site: FeedSite) -> CsvFeed:
    """The feed of the file that the option `path` names."""
    if "path" not in site.options:
        raise InvalidInputError(
            "pools.feed.options.path: is missing; set the path of the CSV file that demand is written to"
        )
    return CsvFeed(site, Path(str(site.options["path"])))
