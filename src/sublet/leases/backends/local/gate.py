"""Who may wait at a lease's SSH door before showing a key: limits per source and in all, and who goes when they are reached.

The idea is OpenSSH's MaxStartups, random early drop; but the one who is dropped is chosen among those who wait, so that
connections that are held open without a word never keep anybody out.
"""

from __future__ import annotations

import ipaddress
import random
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

WAITING_MAX = 32
WAITING_EARLY = 16
EARLY_SHARE = 0.3
WAITING_PER_SOURCE_MAX = 24
"""Connections that have not shown a key. From WAITING_EARLY on one in EARLY_SHARE arrivals costs a waiting one its place,
more the more wait, and at WAITING_MAX each does."""
SESSIONS_MAX = 64
LOGIN_GRACE_S = 22.0
SILENT_S = 10.0
"""A client says who it is at once (RFC 4253, section 4.2): one that has not is dropped long before its grace is over."""
NEW_S = 2.0
SPOKEN_BYTES = 256
SOURCES_KNOWN_MAX = 64


@dataclass(eq=False, slots=True)
class Guest:
    """One connection. It is `inside` once the server in the sandbox has accepted its key, and `gone` once its client has hung up:
    what was said last may still be on its way."""

    source: str
    came: float
    heard_bytes: int = 0
    inside: bool = False
    gone: bool = False


class Gate:
    """The guests of one door. Not safe for threads: the event loop's alone."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, chance: random.Random | None = None) -> None:
        self._clock, self._chance = clock, chance or random.Random()
        self._guests: dict[Guest, None] = {}
        self._known: OrderedDict[str, None] = OrderedDict()
        self._came = self._dropped = 0

    @property
    def inside(self) -> int:
        return sum(guest.inside for guest in self._guests)

    def admit(self, address: str) -> tuple[Guest | None, Guest | None]:
        """The newcomer, None where it is turned away, and who must go for it."""
        if self.inside >= SESSIONS_MAX:
            return None, None
        guest = Guest(source_of(address), self._clock())
        self._came += 1
        victim = self._victim(guest)
        if victim is guest:
            self._dropped += 1
            return None, None
        self._guests[guest] = None
        if victim is not None:
            self._dropped += self._is_new(victim)
            self.leave(victim)
        return guest, victim

    def accept(self, guest: Guest) -> None:
        """Its key was right: it no longer waits, and its source is known from now on."""
        if guest in self._guests:
            guest.inside = True
            self._known[guest.source] = None
            self._known.move_to_end(guest.source)
            if len(self._known) > SOURCES_KNOWN_MAX:
                self._known.popitem(last=False)

    def leave(self, guest: Guest) -> None:
        self._guests.pop(guest, None)

    def overdue(self) -> list[Guest]:
        """Who has waited too long for a key, or said nothing for too long."""
        now = self._clock()
        return [
            guest
            for guest in self._guests
            if not guest.inside
            and (now - guest.came > LOGIN_GRACE_S or (now - guest.came > SILENT_S and not guest.heard_bytes))
        ]

    def was_shut(self) -> bool:
        """Since the last call more newcomers lost their place before they could log in than kept it, and nobody is inside:
        in that time nobody could count on getting in."""
        came, dropped = self._came, self._dropped
        self._came = self._dropped = 0
        return dropped * 2 > came and self.inside == 0

    def _victim(self, guest: Guest) -> Guest | None:
        waiting = [other for other in self._guests if not other.inside]
        if len(waiting) >= WAITING_MAX:
            return self._least(waiting, guest)
        if guest.source not in self._known:
            same = [other for other in waiting if other.source == guest.source]
            if len(same) >= WAITING_PER_SOURCE_MAX:
                return self._least(same, guest)
        if len(waiting) >= WAITING_EARLY and self._chance.random() < _early_share(len(waiting)):
            strangers = [other for other in waiting if other.source not in self._known]
            if strangers or guest.source not in self._known:
                return self._least(strangers, guest)
        return None

    def _least(self, waiting: Iterable[Guest], guest: Guest) -> Guest:
        """One at random of those who deserve their place least: who is gone, strangers who say nothing, strangers, known sources."""
        candidates = [*waiting, guest]
        ranks = {other: (not other.gone, other.source in self._known, self._speaks(other)) for other in candidates}
        lowest = min(ranks.values())
        return self._chance.choice([other for other in candidates if ranks[other] == lowest])

    def _speaks(self, guest: Guest) -> bool:
        return guest.heard_bytes >= SPOKEN_BYTES or self._is_new(guest)

    def _is_new(self, guest: Guest) -> bool:
        return self._clock() - guest.came < NEW_S


def _early_share(waiting: int) -> float:
    return EARLY_SHARE + (1 - EARLY_SHARE) * (waiting - WAITING_EARLY) / (WAITING_MAX - WAITING_EARLY)


def source_of(address: str) -> str:
    """What counts as one source: an IPv4 address, or the /64 that one customer of a network is given in IPv6."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((int(parsed), 64), strict=False).network_address)
    return str(parsed)
