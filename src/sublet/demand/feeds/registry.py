"""The kinds of feed. A new kind is one file beside this one, and one line here.

How to add one, and the suite that it has to pass: docs/add-a-feed.md.
"""

from __future__ import annotations

from sublet.demand.feeds import csv_feed, prometheus_feed
from sublet.demand.feeds.feed import Feed, FeedKind, FeedSite
from sublet.values.errors import InvalidInputError

KINDS: dict[str, FeedKind] = {
    kind.name: kind
    for kind in (
        FeedKind("prometheus", prometheus_feed.make, prometheus_feed.OPTIONS),
        FeedKind("csv", csv_feed.make, frozenset({"path"}), address="path"),
    )
}
"""By the name that the settings use."""


def kind_of(name: str) -> FeedKind:
    """The kind of that name. Raises InvalidInputError."""
    kind = KINDS.get(name)
    if kind is None:
        raise InvalidInputError(f"pools.feed.kind is {name!r}; write one of {', '.join(KINDS)}")
    return kind


def feed_of(name: str, site: FeedSite) -> Feed:
    """A feed of the kind `name`. Raises InvalidInputError."""
    kind = kind_of(name)
    for key in site.options:
        if key not in kind.options:
            known = ", ".join(sorted(kind.options))
            raise InvalidInputError(f"pools.feed.options.{key}: {kind.name} knows {known}")
    return kind.make(site)
