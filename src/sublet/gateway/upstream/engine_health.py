"""How well a replica answers, judged by what customers ask of it: when it is left alone, and when it is tried again."""

from __future__ import annotations

from sublet.gateway.refusals import (
    EngineBusyError,
    EngineDownError,
    EngineError,
    EngineMisconfiguredError,
    EngineTimeoutError,
)
from sublet.values.errors import SubletError

COOL_S = 1.0
COOL_S_MAX = 60.0
TIMEOUTS_MAX = 2


class ReplicaHealth:
    """Failures in a row, and until when the replica cools down.

    A replica that can't be reached, refuses the operator's key or keeps silent is `shut`: it gets no request until it has
    cooled down, and then one, the probe, on whose outcome it opens or cools down for twice as long. One that fails single
    requests is only passed over while there is another: the requests may be at fault, and one customer's must not shut a
    model to all.
    """

    __slots__ = ("error", "failures", "probing", "shut", "until")

    def __init__(self) -> None:
        self.failures = 0
        self.until = 0.0
        self.shut = self.probing = False
        self.error: EngineError | None = None

    def cools(self, now: float) -> bool:
        """Whether others should be asked first."""
        return self.until > now

    def admits(self, now: float) -> bool:
        """Whether it may be asked at all."""
        return not self.shut or (self.until <= now and not self.probing)

    def failed(self, error: EngineError, now: float) -> None:
        """A request failed in a way that is the replica's fault."""
        self.failures += 1
        self.probing = False
        self.error = error
        wait_s = error.details.get("retry_after_s") if isinstance(error, EngineBusyError) else None
        if wait_s is not None:
            self.shut = True
            self.until = now + min(wait_s, COOL_S_MAX)
            return
        self.shut = (
            error.unreachable
            or isinstance(error, EngineMisconfiguredError)
            or (isinstance(error, EngineTimeoutError) and self.failures >= TIMEOUTS_MAX)
        )
        self.until = now + min(COOL_S * 2 ** min(self.failures - 1, 10), COOL_S_MAX)

    def succeeded(self) -> None:
        self.failures = 0
        self.until = 0.0
        self.shut = self.probing = False
        self.error = None

    def refusal(self, model: str, wait_s: float) -> SubletError:
        """What a request is told that finds every replica shut, `wait_s` seconds before the next probe."""
        wait_s = max(wait_s, COOL_S)
        error = self.error
        if isinstance(error, EngineBusyError):
            return EngineBusyError(
                f"The server of {model} takes no more requests now; try again in {wait_s:.0f} s", retry_after_s=wait_s
            )
        return EngineDownError(
            f"The server of {model} does not answer requests now; try again in {wait_s:.0f} s", retry_after_s=wait_s
        )
