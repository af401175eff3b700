"""What this gateway holds of a limit: an allowance of a minute, or slots. For the event loop's thread."""

from __future__ import annotations

import math

from sublet.gateway.limits.orders import INPUT, OUTPUT, REQUESTS, SLOTS, Want, WantSlots
from sublet.gateway.model import SharedLimit
from sublet.gateway.refusals import RateLimitError

DRY_S = 0.2
"""For so long a limit that had nothing left is not asked again."""
IDLE_S = 0.5
"""After so long without a request an allowance is given back."""
AHEAD_S = 1.0
"""An allowance is for the requests of so many seconds, as many as there were lately."""

_WORDS = {REQUESTS: "requests", INPUT: "input tokens", OUTPUT: "output tokens"}


class Share:
    """The part of a limit that is here: `free` is what requests may take now, `left` what the database had beside it when it was
    last asked."""

    __slots__ = (
        "_asked",
        "_since",
        "_used_before",
        "active",
        "dry_until",
        "free",
        "kind",
        "left",
        "limit",
        "mark",
        "most",
        "used_at",
    )

    def __init__(self, limit: SharedLimit, kind: str, most: int) -> None:
        self.kind = kind
        self.active = False
        self.mark = 0
        """Below so much that is free it is time to ask for more."""
        self.limit = limit
        self.most = most
        self.free = 0
        self.left = most
        self.dry_until = self.used_at = 0.0
        self._asked = self._used_before = 0
        self._since = 0.0

    def note(self, amount: int, now: float) -> None:
        """So much is asked for."""
        if now - self._since >= 1:
            self._used_before = self._asked if now - self._since < 2 else 0
            self._since, self._asked = now, 0
            self.mark = self.target // 2 if self.left > 0 else 0
        self._asked += amount
        self.used_at = now

    @property
    def target(self) -> int:
        """What is worth having ahead of requests."""
        return int(max(self._asked, self._used_before) * AHEAD_S)

    @property
    def lacking(self) -> int:
        """What is worth having beside what is free, where that is much: all shares are topped up by one order."""
        target = self.target
        return target - self.free if self.left > 0 and 4 * self.free < 3 * target else 0

    def granted(self, amount: int, left: int, wanted: int, now: float) -> None:
        self.free += amount
        self.left = left
        self.mark = self.target // 2 if left > 0 else 0
        if amount < wanted:
            self.dry_until = now + DRY_S


class Window(Share):
    """An allowance of one minute."""

    __slots__ = ("booked", "minute", "owed")

    def __init__(self, limit: SharedLimit, kind: str, most: int) -> None:
        super().__init__(limit, kind, most)
        self.minute = 0
        self.owed = self.booked = 0

    @property
    def due(self) -> int:
        """What is to be counted of the debt in this minute: no more than the limit in any."""
        return max(0, min(self.owed, self.most - self.booked))

    def turn(self, minute: int) -> None:
        """Be of `minute` from now on; what is left of another one is gone with it."""
        if minute != self.minute:
            self.minute = minute
            self.free = self.booked = 0
            self.left = self.most
            self.dry_until = 0.0

    @property
    def busy(self) -> bool:
        return bool(self.free or self.owed)

    def settle(self, taken: int, used: int, minute: int) -> None:
        """A request that took so much in `minute` used `used`."""
        if minute == self.minute:
            self.free += taken - used
            if self.free < 0:
                self.owed -= self.free
                self.free = 0
        elif used > taken:
            self.owed += used - taken
        if self.owed and self.free:
            paid = min(self.owed, self.free)
            self.owed -= paid
            self.free -= paid

    def want(self, least: int, target: int, back: int = 0) -> Want:
        """An order for it; what goes `back` is not here any more."""
        self.free -= back
        return Want(self.limit.id, self.kind, self.most, least, target, back, self.due)

    def paid(self, owed: int, minute: int) -> None:
        """So much of the debt is counted."""
        self.owed -= owed
        if minute == self.minute:
            self.booked += owed

    def refusal(self, now_us: int) -> RateLimitError:
        wait_s = 60 - now_us / 1e6 % 60
        what = _WORDS[self.kind]
        verb = "start" if self.kind == REQUESTS else "use"
        error = RateLimitError(
            f"{self.limit.whose} may {verb} {self.most:,} {what} a minute{_of(self.limit)}; try again in {wait_s:.1f} s",
            retry_after_s=wait_s,
        )
        if self.kind == REQUESTS:
            error.standing = self.most, 0, math.ceil(wait_s)
        return error


class Slots(Share):
    """Requests that may be under way here at once: `free` more than the `in_use` that are."""

    __slots__ = ("_least_free", "_measured_at", "in_use", "spare")

    def __init__(self, limit: SharedLimit, most: int) -> None:
        super().__init__(limit, SLOTS, most)
        self.in_use = self.spare = self._least_free = 0
        """`spare`: as many as no request needed lately, while the database had none left for other gateways."""
        self._measured_at = 0.0

    def take(self) -> None:
        """One request begins."""
        self.free -= 1
        self.in_use += 1
        self._least_free = min(self._least_free, self.free)

    def give(self) -> None:
        """One request ended."""
        self.free += 1
        self.in_use -= 1

    def measure(self, now: float) -> None:
        """Note from time to time what nobody needed since the last time."""
        if now - self._measured_at > IDLE_S:
            self.spare = min(self._least_free, self.free) if self.left == 0 else 0
            self._least_free, self._measured_at = self.free, now

    @property
    def busy(self) -> bool:
        return bool(self.free or self.in_use)

    def want(self, least: int, target: int, back: int = 0) -> WantSlots:
        """An order for it; what goes `back` is not here any more."""
        self.free -= back
        self.spare, self._least_free = 0, min(self._least_free, self.free)
        return WantSlots(self.limit.id, self.most, self.free + self.in_use, least, target)

    def refusal(self, now_us: int) -> RateLimitError:
        return RateLimitError(
            f"{self.limit.whose} may have {self.most:,} requests under way{_of(self.limit)}; try again when one has ended",
            retry_after_s=1.0,
        )


def _of(limit: SharedLimit) -> str:
    return f" for {limit.model}" if limit.model and limit.whose != "this model" else ""
