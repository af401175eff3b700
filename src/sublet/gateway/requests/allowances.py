"""Parts of hard budgets that this gateway holds at once, for many requests of one key to one model, and spends from memory.

A key that asks often has an allowance: one hold in the database for the most that its next requests may cost. Each takes its
worst case from the allowance before it begins and gives back what it did not use; no request waits for the database, and the
sum of what is held never passes the limit, whatever becomes of this gateway. Where an allowance does not fit, or has not
enough left, requests are held one by one as those of a key that asks rarely.

An allowance serves requests for seconds only, so that prices, limits and periods change under none for longer. It takes no
more than an eighth of what is free: what one gateway keeps idle must not make another refuse.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple, Protocol

from sublet.gateway.metering.journal import ALLOWANCE, CLOSE, Record
from sublet.gateway.metering.meter import Meter
from sublet.gateway.model import KeyGrant, ModelRoute
from sublet.values.clock import from_micros

SERVES_S = 5.0
"""For how long an allowance serves requests."""
PERIOD_US = 15 * 60 * 1_000_000
"""Periods of budgets begin on a quarter of an hour, in every time zone; no allowance serves two of them."""
IDLE_S = 1.0
"""After so long without a request an allowance is given back."""
REQUESTS_MIN = 5
"""Requests in a second from which on a key gets allowances."""
REQUESTS_MAX = 4096
FIRST_TIMES = 64
"""An allowance is for so many requests at least, or for fewer where that does not fit."""
SHRINKS_BY = 4
SPARE = 8
KEPT_S = 4500
"""For so long what a gateway held stays held if it is killed and does not come back."""


@dataclass(frozen=True, slots=True)
class AllowanceRequest:
    """Hold `times` what a request of at most `input_max` and `output_max` tokens can cost at the dearest prices from `at` to
    `until`, if `spare` times as much is free."""

    id: str
    organization_id: str
    key_id: str
    project: str
    model: str
    input_max: int
    output_max: int
    times: int
    spare: int
    at: datetime
    until: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Granted:
    """What an allowance has, and the most that a request can cost: `fixed_nano`, and so much for each token."""

    nano: int
    fixed_nano: int
    input_nano: int
    output_nano: int


class Moment(NamedTuple):
    """Now: in microseconds since the epoch, as usage is dated, and in seconds of the monotonic clock."""

    us: int
    s: float


class Allows(Protocol):
    """Where allowances are placed."""

    def allow(self, wanted: AllowanceRequest) -> Future[Granted]:
        """Without waiting. The future raises LimitExceededError where a budget has not enough to spare, UnavailableError where
        it can't be known. Raises UnavailableError itself where too many wait already."""
        ...


class BudgetAllowance:
    """A hold that requests share. For the event loop's thread."""

    __slots__ = (
        "_close",
        "_granted",
        "budgets",
        "closing",
        "free_nano",
        "id",
        "in_flight",
        "since_us",
        "spent_nano",
        "until",
        "until_us",
        "used_at",
    )

    def __init__(
        self,
        identifier: str,
        granted: Granted,
        grant: KeyGrant,
        until_us: int,
        close: Callable[[BudgetAllowance], None],
    ) -> None:
        self.id = identifier
        self.budgets = grant.budgets
        self.since_us, self.until_us = 0, until_us
        self.until = self.used_at = 0.0
        self.free_nano = granted.nano
        self.spent_nano = self.in_flight = 0
        self.closing = False
        self._granted = granted
        self._close = close

    @property
    def low(self) -> bool:
        """Whether it is time for the next one."""
        return 2 * self.free_nano < self._granted.nano

    def take(self, input_max: int, output_max: int) -> int:
        """Reserve the most that a request can cost; what that is, 0 where not enough is left."""
        granted = self._granted
        most = granted.fixed_nano + granted.input_nano * input_max + granted.output_nano * output_max
        if most > self.free_nano:
            return 0
        self.free_nano -= most
        self.in_flight += 1
        return most

    def back(self, most: int, meter: Meter | None) -> None:
        """A request that took `most` is over, and `meter` is what it used; None where it never began."""
        used = 0
        if meter is not None and (meter.input or meter.output):
            granted = self._granted
            used = granted.fixed_nano + granted.input_nano * meter.input + granted.output_nano * meter.output
        self.free_nano += most - used
        self.spent_nano += used
        self.in_flight -= 1
        if self.closing and not self.in_flight:
            self._close(self)

    def retire(self) -> None:
        """Serve no more; once the last request is over, what is left is given back."""
        if not self.closing:
            self.closing = True
            if not self.in_flight:
                self._close(self)


class _Demand:
    """What a key asks of a model lately."""

    __slots__ = ("coming", "count", "current", "not_before", "rate", "since", "times_max")

    def __init__(self, now: float) -> None:
        self.current: BudgetAllowance | None = None
        self.coming = False
        self.not_before = 0.0
        self.since = now
        self.count = self.rate = 0
        self.times_max = REQUESTS_MAX

    def note(self, now: float) -> None:
        if now - self.since >= 1:
            self.rate = self.count if now - self.since < 2 else 0
            self.since, self.count = now, 0
        self.count += 1


class AllowanceHost(Protocol):
    """The gateway, as far as allowances need it."""

    def next_request_id(self) -> tuple[int, str]: ...

    def write_allowance(self, record: Record) -> None:
        """Have a line written, in order with those of requests."""
        ...

    def allow(self, wanted: AllowanceRequest, placed: Callable[[Granted | None], None]) -> None:
        """Have an allowance placed off the loop; `placed` is told in a later turn, None where it is not."""
        ...


class Allowances:
    """The allowances of this gateway, by key and model. For the event loop's thread."""

    def __init__(self, host: AllowanceHost) -> None:
        self._host = host
        self._demands: dict[tuple[str, str], _Demand] = {}
        self._stopped = False

    def take(
        self, grant: KeyGrant, model: ModelRoute, tokens: tuple[int, int], at: Moment
    ) -> tuple[BudgetAllowance, int] | None:
        """The allowance that a request of at most so many tokens of prompt and answer is served from, and what it took of it;
        None where it is to be held by itself."""
        now_us, now = at
        demand = self._demands.get((grant.id, model.name))
        if demand is None:
            demand = self._demands[grant.id, model.name] = _Demand(now)
        demand.note(now)
        current = demand.current
        if current is not None and (
            now >= current.until
            or not current.since_us <= now_us < current.until_us
            or current.budgets != grant.budgets
        ):
            demand.current = None
            current.retire()
            current = None
        most = current.take(*tokens) if current is not None else 0
        if current is None or not most or current.low:
            self._renew(demand, grant, model, tokens, at)
        if current is None or not most:
            return None
        current.used_at = now
        return current, most

    def sweep(self, now: float) -> None:
        """Give back what nobody uses."""
        for key, demand in list(self._demands.items()):
            current = demand.current
            if current is not None and (now >= current.until or now - current.used_at > IDLE_S):
                demand.current = None
                current.retire()
            if demand.current is None and not demand.coming and now - demand.since > 10 * IDLE_S:
                del self._demands[key]

    def stop(self) -> None:
        """Give everything back."""
        self._stopped = True
        for demand in self._demands.values():
            if demand.current is not None:
                demand.current.retire()
        self._demands.clear()

    def _renew(self, demand: _Demand, grant: KeyGrant, model: ModelRoute, tokens: tuple[int, int], at: Moment) -> None:
        now_us, now = at
        rate = max(demand.rate, demand.count)
        if demand.coming or self._stopped or now < demand.not_before or rate < REQUESTS_MIN:
            return
        demand.coming = True
        under_way = demand.current.in_flight if demand.current is not None else 0
        until_us = min(now_us + int(SERVES_S * 1e6), (now_us // PERIOD_US + 1) * PERIOD_US)
        wanted = AllowanceRequest(
            "alw_" + self._host.next_request_id()[1].removeprefix("req_"),
            grant.organization_id,
            grant.id,
            grant.project,
            model.name,
            *tokens,
            times=min(demand.times_max, max(FIRST_TIMES, 2 * (rate + under_way))),
            spare=SPARE,
            at=from_micros(now_us),
            until=from_micros(until_us),
            expires_at=from_micros(until_us) + timedelta(seconds=KEPT_S),
        )
        # The journal knows of the hold before the database does: a process that finds this line without its end releases the hold.
        self._host.write_allowance(self._record(ALLOWANCE, wanted.id, grant, model, now_us))

        def close(ended: BudgetAllowance) -> None:
            self._close(ended.id, grant, model, now_us, ended.spent_nano)

        def placed(granted: Granted | None) -> None:
            demand.coming = False
            if granted is None:
                demand.times_max = wanted.times // SHRINKS_BY
                if demand.times_max < REQUESTS_MIN:
                    demand.times_max = REQUESTS_MAX
                    demand.not_before = now + IDLE_S
                self._close(wanted.id, grant, model, now_us, 0)
                return
            demand.times_max = REQUESTS_MAX
            old, demand.current = demand.current, BudgetAllowance(wanted.id, granted, grant, until_us, close)
            demand.current.since_us = now_us
            demand.current.until, demand.current.used_at = now + SERVES_S, now
            if old is not None:
                old.retire()
            if self._stopped:
                demand.current.retire()

        self._host.allow(wanted, placed)

    def _close(self, identifier: str, grant: KeyGrant, model: ModelRoute, at_us: int, nano: int) -> None:
        record = self._record(CLOSE, identifier, grant, model, at_us)
        record.nano = nano
        self._host.write_allowance(record)

    def _record(self, kind: str, identifier: str, grant: KeyGrant, model: ModelRoute, at_us: int) -> Record:
        return Record(
            kind=kind,
            request=identifier,
            organization=grant.organization_id,
            key=grant.id,
            project=grant.project,
            model=model.name,
            started_us=at_us,
            ended_us=at_us,
        )
