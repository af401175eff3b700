"""What a tenant may read of what went wrong on the owner's machine."""

from __future__ import annotations

import re
from ipaddress import ip_address


def told_to_tenant(reason: str) -> str:
    """What went wrong, as its tenant may read it: without the host's paths, addresses, users and processes, and of a
    program's traceback the last line alone. The operator reads it as it is."""
    before, traced, after = reason.partition("Traceback (most recent call last)")
    if traced:
        reason = before + (after.strip().splitlines() or [""])[-1]
    for pattern, instead in _OF_THE_HOST:
        reason = pattern.sub(instead, reason)
    reason = _WITH_COLONS.sub(_unless_an_address, reason)
    return " ".join(reason.split())


def _unless_an_address(found: re.Match[str]) -> str:
    try:
        ip_address(found[1])
    except ValueError:
        return found[0]
    return "an address of the host"


_WITH_COLONS = re.compile(r"\[?(?<![\w:])([0-9a-fA-F:]*:[0-9a-fA-F]*:[0-9a-fA-F:]*)(?:\](?::\d+)?)?")
_OF_THE_HOST = (
    (re.compile(r"(?<![\w.])/[\w.@%+:~/-]*\w/?"), "a path of the host"),
    (re.compile(r"\b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?"), "an address of the host"),
    (re.compile(r"(?i)\b(uid|gid|user id|pid|process|port|ports)\b( from)?[ =]+\d+( to \d+)?"), r"\1 of the host"),
)
