"""What every demand feed must do. The stage has books, a clock, and a source that can be filled, silenced and garbled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sublet.conformance.check import Checks, expect, refuses
from sublet.demand.feeds.feed import Feed, FeedSite, FeedUnreachableError
from sublet.demand.model import Sample
from sublet.values.clock import from_micros, to_micros
from sublet.values.errors import SubletError

ROUNDS_MAX = 100


@dataclass(frozen=True, slots=True)
class FeedStage:
    """`make` gives the feed of `site`, as a restarted control plane would have it. The books of the site's pool are empty.

    `publish` makes the source tell exactly these samples; `silence` makes it not answer, `garble` answer what is no demand,
    both until the next `publish`. `advance` lets seconds pass on the site's clock.
    """

    make: Callable[[FeedSite], Feed]
    site: FeedSite
    publish: Callable[[Sequence[Sample]], object]
    silence: Callable[[], object]
    garble: Callable[[], object]
    advance: Callable[[float], object]

    def samples(self, *steps: int) -> list[Sample]:
        """Samples so many steps before (negative) or after now, on whole steps of the clock."""
        step_us = self.site.step_s * 1_000_000
        base = to_micros(self.site.clock.now()) // step_us
        capacity = float(self.site.accelerators)
        return [
            Sample(from_micros((base + step) * step_us), capacity, round((7 * step) % (capacity + 1), 3))
            for step in steps
        ]

    def books(self) -> list[tuple[datetime, float, float]]:
        """What is in the books of the pool."""
        now = self.site.clock.now()
        found = self.site.demand.history(self.site.pool_id, now - timedelta(days=60), now + timedelta(days=60))
        return [
            (from_micros(int(at)), float(capacity), float(in_use))
            for at, capacity, in_use in zip(found.times_us, found.capacity, found.in_use, strict=True)
        ]

    def collect_all(self) -> int:
        """Rounds until one brings nothing; how many samples that was."""
        total = 0
        for _ in range(ROUNDS_MAX):
            taken = self.make(self.site).collect()
            if not taken:
                break
            total += taken
        return total


_check: Checks[FeedStage] = Checks()


@_check
def it_brings_what_is_there(stage: FeedStage) -> None:
    """Every sample of the source comes into the books with its time and both values, and `collect` says how many."""
    samples = stage.samples(*range(-12, 0))
    stage.publish(samples)
    taken = stage.collect_all()
    expect(stage.books() == _rows(samples), f"the source has {_rows(samples)}, the books {stage.books()}")
    expect(taken == len(samples), f"collect says {taken}, of {len(samples)}")


@_check
def what_is_known_is_not_taken_again(stage: FeedStage) -> None:
    """A round without anything new takes nothing, and a later one takes what is new alone, by a feed that kept nothing."""
    before = stage.samples(*range(-12, 0))
    stage.publish(before)
    stage.collect_all()
    expect(stage.make(stage.site).collect() == 0, "a second round took what was in the books already")
    stage.advance(5 * stage.site.step_s)
    after = [*before, *stage.samples(*range(-4, 0))]
    stage.publish(after)
    taken = stage.collect_all()
    expect(taken == 4, f"4 samples were new, and {taken} were taken")
    expect(stage.books() == _rows(after), "what was known changed, or what is new is missing")


@_check
def a_gap_stays_a_gap(stage: FeedStage) -> None:
    """For times without a value nothing is made up."""
    samples = stage.samples(-20, -19, -18, -5, -4, -1)
    stage.publish(samples)
    stage.collect_all()
    expect(
        stage.books() == _rows(samples), f"of {len(samples)} samples with a gap {len(stage.books())} are in the books"
    )


@_check
def a_long_history_is_made_up(stage: FeedStage) -> None:
    """A source with a long history is read to its end, over as many rounds as it takes, the oldest first."""
    samples = stage.samples(*range(-1500, 0))
    stage.publish(samples)
    stage.make(stage.site).collect()
    first = stage.books()
    expect(first and first == _rows(samples)[: len(first)], "the first round did not take the oldest")
    stage.collect_all()
    expect(len(stage.books()) == len(samples), f"of {len(samples)} samples {len(stage.books())} are in the books")


@_check
def nothing_comes_from_the_future(stage: FeedStage) -> None:
    """What the source says of times to come is left until they are there."""
    samples = stage.samples(-3, -2, -1, 30, 31)
    stage.publish(samples)
    stage.collect_all()
    expect(stage.books() == _rows(samples[:3]), "the books have samples of the future, or lack those of the past")


@_check
def silence_is_said_and_changes_nothing(stage: FeedStage) -> None:
    """A source that does not answer is a FeedUnreachableError; the books stay, and go on once it answers again."""
    samples = stage.samples(*range(-6, 0))
    stage.publish(samples)
    stage.collect_all()
    stage.advance(3 * stage.site.step_s)
    stage.silence()
    refuses(FeedUnreachableError, stage.make(stage.site).collect, "a silent source raised no FeedUnreachableError")
    expect(stage.books() == _rows(samples), "the books changed while the source was silent")
    stage.publish([*samples, *stage.samples(-2, -1)])
    expect(stage.collect_all() == 2, "it does not go on after the silence")


@_check
def nonsense_is_refused_and_changes_nothing(stage: FeedStage) -> None:
    """An answer that is no demand is refused with a sentence, and nothing of it comes into the books."""
    samples = stage.samples(*range(-6, 0))
    stage.publish(samples)
    stage.collect_all()
    stage.advance(3 * stage.site.step_s)
    stage.garble()
    refuses(SubletError, stage.make(stage.site).collect, "an answer that is no demand was taken")
    expect(stage.books() == _rows(samples), "the books changed by an answer that is no demand")


CHECKS = tuple(_check.all)
"""Every promise of `demand.feeds.feed.Feed`."""


def _rows(samples: Sequence[Sample]) -> list[tuple[datetime, float, float]]:
    return [(item.time, item.capacity, item.in_use) for item in samples]
