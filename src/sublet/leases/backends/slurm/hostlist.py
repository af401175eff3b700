"""Slurm's short form of node names, such as `h100-[01-04,07]`."""

from __future__ import annotations

import re

from sublet.leases.backends.base import BackendFailedError

NODES_MAX = 20_000
_BRACKET = re.compile(r"\[([0-9,-]+)\]")


def expand(text: str) -> tuple[str, ...]:
    """Every node of a list, in order. Raises BackendFailedError for one that names too many or can't be read."""
    found: list[str] = []
    for part in _split(text):
        found += _expand_part(part, NODES_MAX - len(found))
    return tuple(dict.fromkeys(found))


def _split(text: str) -> list[str]:
    """At the commas outside brackets."""
    parts, depth, begun = [], 0, 0
    for place, sign in enumerate(text):
        depth += (sign == "[") - (sign == "]")
        if sign == "," and depth == 0:
            parts.append(text[begun:place])
            begun = place + 1
    return [part for part in (*parts, text[begun:]) if part and part not in ("(null)", "None")]


def _expand_part(part: str, room: int) -> list[str]:
    names = [""]
    rest = part
    while bracket := _BRACKET.search(rest):
        numbers = _numbers(bracket[1], room)
        if len(names) * len(numbers) > room:
            raise BackendFailedError(f"a host list has more than {NODES_MAX} nodes")
        names = [name + rest[: bracket.start()] + number for name in names for number in numbers]
        rest = rest[bracket.end() :]
    if "[" in rest or len(names) > room:
        raise BackendFailedError(f"Slurm returned a host list that can't be parsed: {part[:80]!r}")
    return [name + rest for name in names]


def _numbers(text: str, room: int) -> list[str]:
    found: list[str] = []
    for span in text.split(","):
        first, _, last = span.partition("-")
        last = last or first
        if not first.isdigit() or not last.isdigit() or int(last) - int(first) >= room:
            raise BackendFailedError(f"Slurm returned a host list that can't be parsed: {text[:80]!r}")
        found += [str(number).zfill(len(first)) for number in range(int(first), int(last) + 1)]
    return found
