"""Every kind of event: importing this module imports each domain's own."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase

import sublet.demand.events
import sublet.fleet.events
import sublet.leases.events
import sublet.leases.images.events
import sublet.ledger.events
import sublet.models.events
import sublet.notifications.events  # noqa: F401
from sublet.store.events import KINDS, EventKind
from sublet.values.errors import InvalidInputError

PATTERNS_MAX = 50
PATTERN_CHARS_MAX = 60


def all_kinds() -> list[EventKind]:
    """By name."""
    return [KINDS[name] for name in sorted(KINDS)]


def kind_named(name: str) -> EventKind | None:
    """None for a kind that this version does not know."""
    return KINDS.get(name)


def checked_patterns(patterns: Sequence[str], *, operator: bool) -> tuple[str, ...]:
    """`patterns`, each of which selects a kind that may be told: a kind's name, `lease.*`, or `*`. An organization is told of
    its own events alone. Raises InvalidInputError."""
    names = [kind.name for kind in all_kinds() if operator or kind.audience == "organization"]
    if not patterns or len(patterns) > PATTERNS_MAX:
        raise InvalidInputError(f"specify 1 to {PATTERNS_MAX} kinds of events; `*` means all")
    for pattern in patterns:
        if any(selects(pattern, name) for name in names):
            continue
        near = get_close_matches(pattern, names, n=1, cutoff=0.5)
        hint = f"; did you mean {near[0]}?" if near else "; `sublet notifications kinds` lists them"
        raise InvalidInputError(f"there is no kind of event {pattern[:PATTERN_CHARS_MAX]!r}{hint}")
    return tuple(dict.fromkeys(patterns))


def selects(pattern: str, name: str) -> bool:
    """Whether `pattern` stands for the kind `name`. A `*` at its end stands for anything."""
    if len(pattern) > PATTERN_CHARS_MAX or any(sign in pattern for sign in "?[]") or "*" in pattern[:-1]:
        return False
    return fnmatchcase(name, pattern)


def selected(patterns: Sequence[str], name: str) -> bool:
    """Whether one of `patterns` stands for the kind `name`."""
    return any(selects(pattern, name) for pattern in patterns)
