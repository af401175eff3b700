"""What a feed is: it brings what is known elsewhere of a pool's demand, one round at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from sublet.demand.service import Demand
from sublet.values.clock import Clock
from sublet.values.errors import UnavailableError


class FeedUnreachableError(UnavailableError):
    """The source of a pool's demand does not answer; check its address, and that it is running."""

    code = "feed_unreachable"


class Feed(Protocol):
    """One pool's demand as something else measures it."""

    def collect(self) -> int:
        """Take what is new since the last sample, oldest first, and return how many samples that was.

        The latest sample in the books says where to go on: a feed keeps nothing of its own. One call takes a bounded number. A time
        without a value stays a gap. Raises FeedUnreachableError where the source does not answer, another SubletError where its
        answer can't be used; what is in the books then stays as it is.
        """
        ...


@dataclass(frozen=True, slots=True)
class FeedSite:
    """What a feed is made from: the books, the pool, and the options of its own section.

    `step_s` is how far apart samples should lie. `held` tells the devices that tenants hold now: their use is not the owner's.
    """

    demand: Demand
    pool_id: str
    accelerators: int
    clock: Clock
    step_s: int
    options: Mapping[str, Any]
    held: Callable[[], Sequence[str]] = lambda: ()


@dataclass(frozen=True, slots=True)
class FeedKind:
    """A kind of feed. `make` raises InvalidInputError for options that it can't use. `options` are the keys that it knows;
    `address` is the one that names the source, which is not asked again in a round in which it did not answer."""

    name: str
    make: Callable[[FeedSite], Feed]
    options: frozenset[str]
    address: str = "url"
