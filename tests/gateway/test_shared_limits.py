"""Limits that gateways share: exact whatever gateways do and whichever is killed, and free again once nobody uses them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from sqlalchemy import create_engine
from sqlalchemy.pool import StaticPool

from sublet.gateway.limits.orders import Order, Outcome, Placed, carry_out
from sublet.gateway.limits.sharing import BEAT_S, LEASE_S, Claim, Limits
from sublet.gateway.model import KeyGrant, ModelRoute, SharedLimit, Snapshot
from sublet.gateway.refusals import LimitUnreachableError, RateLimitError
from sublet.gateway.requests.call import Call
from sublet.gateway.requests.form import ChatRequest, Role, Text, Turn
from sublet.store.metadata import metadata
from sublet.store.tables.gateway import gateway_runs, limit_slots, limit_windows
from sublet.values.errors import SubletError

ORGANIZATION = SharedLimit("lim_o", "this organization", "", 7, 90, 120, 4)
KEY = SharedLimit("lim_k", "this key", "", 5, None, 80, 3)
LIMITS = (ORGANIZATION, KEY)
MODEL = ModelRoute("toy", "toy", frozenset({"chat"}), 64, 0)
GRANTS = (
    KeyGrant("key_a", "org_a", limits=LIMITS),
    KeyGrant("key_b", "org_a", limits=(ORGANIZATION,)),
)


class Database:
    """The tables that gateways share, in memory."""

    def __init__(self) -> None:
        self.engine = create_engine("sqlite://", poolclass=StaticPool)
        metadata.create_all(self.engine, [gateway_runs, limit_slots, limit_windows])

    def carry_out(self, order: Order) -> Outcome:
        with self.engine.begin() as connection:
            return carry_out(connection, order)


@dataclass
class Clock:
    wall_us: int = 1_700_000_000_000_000
    mono: float = 1000.0


@dataclass(eq=False)
class Request:
    gateway: Gateway
    grant: KeyGrant
    claim: Claim | None = None
    started: bool = False
    minute: int = 0
    settled: tuple[int, int] | None = None
    gone: bool = False
    gone_unused: bool = False
    error: SubletError | None = None

    def cleared(self, error: SubletError | None) -> None:
        self.error = error
        if error is None:
            self.started = True

    def reserved(self, limit: SharedLimit, kind: str) -> int:
        assert self.claim is not None
        for share, amount in self.claim.parts:
            if share.limit.id == limit.id and getattr(share, "kind", "slots") == kind:
                return amount
        return 0


@dataclass(eq=False)
class Gateway:
    """As limits see it: it orders one thing at a time, and hears of it later, or never."""

    run: str
    clock: Clock
    database: Database
    pending: list[tuple[Order, Placed]] = field(default_factory=list)
    beat_at: float = 0.0

    def __post_init__(self) -> None:
        self.limits = Limits(self)
        self.limits.adopt(Snapshot({bytes([number]): grant for number, grant in enumerate(GRANTS)}, {"toy": MODEL}))

    def now_us(self) -> int:
        return self.clock.wall_us

    @property
    def monotonic(self) -> Callable[[], float]:
        return lambda: self.clock.mono

    def order(self, order: Order, placed: Placed) -> None:
        assert not self.pending, "one at a time"
        self.pending.append((order, placed))

    def deliver(self, how: str = "well") -> None:
        """Carry out what is ordered: `well`, `unheard` (done, and nobody hears of it), or `away` (not done)."""
        if self.pending:
            order, placed = self.pending.pop()
            outcome = self.database.carry_out(order) if how != "away" else None
            if outcome is not None:
                self.beat_at = self.clock.mono
            placed(outcome if how == "well" else None)

    def ask(self, grant: KeyGrant, size: int, answer: int | None) -> Request:
        request = Request(self, grant)
        chat = ChatRequest("toy", (Turn(Role.USER, (Text(size * "word"),)),), answer)
        try:
            request.claim = self.limits.claim(grant, MODEL, Call.of(chat), request.cleared)
        except SubletError as error:
            request.error = error
            return request
        assert request.claim is not None
        request.started = request.claim.granted
        return request


class Sharing(RuleBasedStateMachine):
    """Gateways that come, ask, hear of it or not, and are killed."""

    @initialize()
    def begin(self) -> None:
        self.database = Database()
        self.clock = Clock()
        self.gateways: list[Gateway] = []
        self.requests: list[Request] = []
        self.runs = 0

    def running(self, limit: SharedLimit) -> int:
        """Requests under way of gateways that nobody may have taken for lost."""
        return sum(
            request.started
            and request.settled is None
            and not request.gone
            and limit in request.grant.limits
            and self.clock.mono - request.gateway.beat_at < LEASE_S
            for request in self.requests
        )

    @precondition(lambda self: len(self.gateways) < 3)
    @rule()
    def start(self) -> None:
        self.runs += 1
        self.gateways.append(Gateway(f"run{self.runs}", self.clock, self.database))

    @precondition(lambda self: self.gateways)
    @rule(
        which=st.integers(0, 2),
        grant=st.sampled_from(GRANTS),
        count=st.integers(1, 4),
        size=st.integers(0, 30),
        answer=st.none() | st.integers(1, 64),
    )
    def ask(self, which: int, grant: KeyGrant, count: int, size: int, answer: int | None) -> None:
        gateway = self.gateways[which % len(self.gateways)]
        self.requests += [gateway.ask(grant, size, answer) for _ in range(count)]

    @precondition(lambda self: self.gateways)
    @rule(which=st.integers(0, 2), how=st.sampled_from(["well", "well", "well", "unheard", "away"]))
    def deliver(self, which: int, how: str) -> None:
        self.gateways[which % len(self.gateways)].deliver(how)

    @rule(which=st.integers(0, 99), prompt=st.integers(0, 40), answer=st.integers(0, 90), began=st.booleans())
    def finish(self, which: int, prompt: int, answer: int, began: bool) -> None:
        live = [
            item
            for item in self.requests
            if item.claim and item.settled is None and not item.gone and item.error is None
        ]
        if live:
            request = live[which % len(live)]
            assert request.claim is not None
            if began and request.started:
                request.claim.settle(prompt, answer)
                request.settled = prompt, answer
            else:
                request.claim.back()
                request.gone = request.gone_unused = True
                request.started = False

    @precondition(lambda self: self.gateways)
    @rule(which=st.integers(0, 2), done=st.booleans())
    def kill(self, which: int, done: bool) -> None:
        gateway = self.gateways.pop(which % len(self.gateways))
        if done and gateway.pending:
            self.database.carry_out(gateway.pending[0][0])
        for request in self.requests:
            if request.gateway is gateway and request.settled is None:
                # Its engine stops; what it took of the minute stays taken.
                request.settled = (10**9, 10**9) if request.started else None
                request.gone = True

    @rule(seconds=st.sampled_from([0.1, 0.6, 6.0, 20.0, 61.0]), back=st.sampled_from([0, 0, 0, 30]))
    def wait(self, seconds: float, back: int) -> None:
        self.clock.mono += seconds
        self.clock.wall_us += int(seconds * 1e6) - back * 1_000_000
        for gateway in self.gateways:
            gateway.limits.sweep()

    def teardown(self) -> None:
        if not hasattr(self, "database"):
            return
        for request in self.requests:
            if request.claim is not None and request.settled is None and not request.gone:
                request.claim.back()
        for _ in range(int(2 * LEASE_S / BEAT_S) + 4):
            for gateway in self.gateways:
                gateway.deliver()
            self.wait(BEAT_S + 0.1, 0)
        for gateway in self.gateways:
            gateway.limits.stop()
        last = Gateway("last", self.clock, self.database)
        # Once it has seen the others lost, and a minute of its own.
        for _ in range(int(LEASE_S / BEAT_S) + 4):
            request = last.ask(GRANTS[0], 0, 1)
            last.deliver()
            if request.started:
                assert request.claim is not None
                request.claim.back()
            last.deliver()
            self.clock.mono += BEAT_S + 0.1
            self.clock.wall_us += 5_100_000
            last.limits.sweep()
            last.deliver()
        self.clock.wall_us += 61_000_000
        got = []
        for _ in range(6):
            got.append(last.ask(GRANTS[0], 0, 1))
            last.deliver()
            if len(got) > 3 and got[-1].started:
                raise AssertionError("more at once than the key may have")
        assert [request.started for request in got] == [True, True, True, False, False, False]

    @invariant()
    def nothing_is_passed(self) -> None:
        if not hasattr(self, "database"):
            return
        for request in self.requests:
            if request.started and not request.minute:
                request.minute = request.claim.minute if request.claim else 0
        for limit in LIMITS:
            mine = [
                item for item in self.requests if item.minute and limit in item.grant.limits and not item.gone_unused
            ]
            assert self.running(limit) <= (limit.concurrency or 0)
            for minute in {item.minute for item in mine}:
                of_minute = [item for item in mine if item.minute == minute]
                assert len(of_minute) <= (limit.requests or 0)
                for kind, most, at in (("input", limit.input, 0), ("output", limit.output, 1)):
                    if most is not None:
                        charged = [
                            min(item.settled[at], item.reserved(limit, kind))
                            if item.settled is not None
                            else item.reserved(limit, kind)
                            for item in of_minute
                        ]
                        assert sum(charged) <= most


TestSharing = Sharing.TestCase
TestSharing.settings = settings(max_examples=25, stateful_step_count=40, deadline=None)


def pair() -> tuple[Gateway, Gateway]:
    clock, database = Clock(), Database()
    return Gateway("one", clock, database), Gateway("two", clock, database)


def test_two_gateways_pass_exactly_the_limit() -> None:
    one, two = pair()
    asked = [gateway.ask(GRANTS[1], 1, 8) for _ in range(64) for gateway in (one, two)]
    for _ in range(4):
        one.deliver()
        two.deliver()
    assert sum(request.started for request in asked) == 4, "so many at once"
    for request in asked:
        if request.started and request.claim is not None:
            request.claim.settle(1, 1)
    more = [gateway.ask(GRANTS[1], 1, 8) for _ in range(64) for gateway in (one, two)]
    for _ in range(4):
        one.deliver()
        two.deliver()
    assert sum(request.started for request in more) == 3, "so many a minute"
    refused = [request.error for request in more if not request.started]
    assert all(isinstance(error, RateLimitError) for error in refused)


def answered(gateway: Gateway, size: int, answer: int) -> Request:
    """A request of the key, once the database has answered."""
    request = gateway.ask(GRANTS[0], size, answer)
    gateway.deliver()
    return request


def pass_time(gateway: Gateway, seconds: float) -> None:
    """It goes on as it does with nothing to do."""
    while seconds > 0:
        step = min(seconds, BEAT_S + 0.1)
        gateway.clock.mono += step
        gateway.clock.wall_us += int(step * 1e6)
        seconds -= step
        gateway.limits.sweep()
        gateway.deliver()


def test_what_the_engine_counted_replaces_the_estimate() -> None:
    one, _ = pair()
    first = answered(one, 1, 64)
    assert first.started and first.claim is not None
    assert not answered(one, 1, 64).started, "80 tokens a minute, of which 64 are reserved"
    first.claim.settle(5, 4)
    pass_time(one, 1)
    second = answered(one, 1, 64)
    assert second.started and second.claim is not None
    second.claim.settle(5, 500)
    pass_time(one, 1)
    third = answered(one, 1, 8)
    assert isinstance(third.error, RateLimitError), "what was used beyond the estimate is counted first"
    assert 0 < third.error.details["retry_after_s"] <= 60
    pass_time(one, 60)
    assert isinstance(answered(one, 1, 8).error, RateLimitError), "a debt outlasts its minute"
    pass_time(one, 600)
    assert answered(one, 1, 8).started


def test_a_killed_gateways_slots_return_after_its_lease() -> None:
    one, two = pair()
    assert [answered(one, 0, 1).started for _ in range(3)] == [True, True, True]
    refused = two.ask(GRANTS[0], 0, 1)
    two.deliver()
    assert isinstance(refused.error, RateLimitError)
    for _ in range(int(LEASE_S / BEAT_S) + 2):
        two.clock.mono += BEAT_S + 0.1
        two.limits.sweep()
        two.deliver()
    two.clock.wall_us += 60_000_000
    found = two.ask(GRANTS[0], 0, 1)
    two.deliver()
    assert found.started


def test_a_gateway_that_cannot_beat_starts_nothing_that_others_may_count_on() -> None:
    one, _ = pair()
    held = one.ask(GRANTS[0], 0, 1)
    one.deliver()
    assert held.started and held.claim is not None
    held.claim.settle(1, 1)
    one.clock.mono += LEASE_S - 4
    late = one.ask(GRANTS[0], 0, 1)
    assert isinstance(late.error, LimitUnreachableError)
    one.deliver()
    again = one.ask(GRANTS[0], 0, 1)
    one.deliver()
    assert again.started


def test_a_limit_that_changes_holds_from_then_on() -> None:
    one, _ = pair()
    first = one.ask(GRANTS[0], 0, 1)
    one.deliver()
    assert first.started
    lower = replace(KEY, requests=1)
    one.limits.adopt(Snapshot({b"a": replace(GRANTS[0], limits=(ORGANIZATION, lower))}, {"toy": MODEL}))
    second = one.ask(replace(GRANTS[0], limits=(ORGANIZATION, lower)), 0, 1)
    one.deliver()
    assert isinstance(second.error, RateLimitError) and "1 requests a minute" in second.error.message


def test_the_database_away_refuses_and_comes_back() -> None:
    one, _ = pair()
    waiting: list[Any] = [one.ask(GRANTS[0], 0, 1) for _ in range(2)]
    one.deliver("away")
    assert all(isinstance(request.error, LimitUnreachableError) for request in waiting)
    later = one.ask(GRANTS[0], 0, 1)
    one.deliver()
    assert later.started


def test_a_gateway_gives_back_slots_that_its_requests_do_not_need_though_they_go_on() -> None:
    clock, database = Clock(), Database()
    at_once = SharedLimit("lim_c", "this key", "", None, None, None, 5)
    grant = KeyGrant("key_c", "org_a", limits=(at_once,))
    one, two = Gateway("one", clock, database), Gateway("two", clock, database)

    def round_of(counts: dict[str, int]) -> dict[str, int]:
        """So many requests of each gateway at once, which end before the next round; how many started."""
        asked = [gateway.ask(grant, 1, 1) for gateway in (one, two) for _ in range(counts[gateway.run])]
        for gateway in (one, two, one, two):
            gateway.deliver()
        started = {run: sum(item.started for item in asked if item.gateway.run == run) for run in counts}
        clock.mono += 0.4
        clock.wall_us += 400_000
        for request in asked:
            if request.started and request.claim is not None:
                request.claim.settle(1, 1)
        for gateway in (one, two):
            gateway.limits.sweep()
            gateway.deliver()
        return started

    assert round_of({"one": 4, "two": 1}) == {"one": 4, "two": 1}
    rounds = [round_of({"one": 3, "two": 3}) for _ in range(6)]
    assert [sum(each.values()) for each in rounds[-3:]] == [5, 5, 5], rounds
