"""What a batch system knows: the need of the coming hours by running and waiting jobs, kept by the hour."""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.surplus import series as made

from sublet.demand.feeds.slurm import BadSlurmOutputError, known_jobs, parse_squeue
from sublet.demand.jobs import FRESH_HOURS, JOBS_MAX, KNOWN_HOURS, Known, KnownJob, latest_known, need_ahead
from sublet.demand.service import Demand
from sublet.store import Store
from sublet.surplus.model import HOUR_S, PoolFacts
from sublet.surplus.rule import ladder as rule
from sublet.surplus.rule.memory import hours_of
from sublet.surplus.service import view_of
from sublet.values.clock import EPOCH, SimulatedClock
from sublet.values.errors import InvalidInputError
from sublet.values.service_classes import ServiceClass, TakeBack
from sublet.values.windows import Window

AT = EPOCH + timedelta(hours=500_000, minutes=20)
CAPACITY = 64


def running(accelerators: int, left_s: int | None) -> KnownJob:
    return KnownJob(accelerators, AT - timedelta(hours=1), None if left_s is None else left_s + HOUR_S)


def waiting(accelerators: int, limit_s: int | None = HOUR_S, eligible: datetime | None = None) -> KnownJob:
    return KnownJob(accelerators, None, limit_s, eligible)


def test_a_running_job_is_needed_until_its_limit_and_without_one_to_the_end() -> None:
    need = need_ahead([running(8, 3 * HOUR_S), running(2, None)], AT, CAPACITY)
    # 20 minutes past the hour, three hours end within the fourth hour from the present one.
    assert need[:6].tolist() == [10, 10, 10, 10, 2, 2]
    assert need[-1] == 2 and need.size == KNOWN_HOURS


def test_a_waiting_gang_is_counted_before_it_starts_until_the_latest_moment_at_which_it_is_over() -> None:
    jobs = [running(40, 10 * HOUR_S), waiting(48, 2 * HOUR_S)]
    need = need_ahead(jobs, AT, CAPACITY)
    # From now on, for the other may end at once; until two hours after the limit of the other.
    assert need[:10].tolist() == [64] * 10
    assert need[10:13].tolist() == [64, 48, 48]
    assert need[13] == 0


def test_a_gang_larger_than_the_pool_never_starts_and_keeps_nothing() -> None:
    assert not need_ahead([waiting(CAPACITY + 1)], AT, CAPACITY).any()


def test_a_job_that_may_not_begin_yet_is_needed_from_then_on() -> None:
    need = need_ahead([waiting(8, HOUR_S, AT + timedelta(hours=5))], AT, CAPACITY)
    assert need[:5].tolist() == [0] * 5 and need[5:7].tolist() == [8, 8] and need[7] == 0


def test_a_job_past_its_limit_holds_what_it_has_until_it_is_ended() -> None:
    assert need_ahead([KnownJob(8, AT - timedelta(hours=3), HOUR_S)], AT, CAPACITY)[:2].tolist() == [8, 0]


_JOBS = st.lists(
    st.builds(
        lambda size, limit, begun: running(size, limit) if begun else waiting(size, limit),
        st.integers(1, CAPACITY + 8),
        st.none() | st.integers(1, 40 * HOUR_S),
        st.booleans(),
    ),
    max_size=12,
)


@settings(max_examples=100, deadline=None)
@given(_JOBS, st.integers(1, CAPACITY))
def test_more_jobs_never_need_less_and_no_need_exceeds_the_pool(jobs: list[KnownJob], size: int) -> None:
    need = need_ahead(jobs, AT, CAPACITY)
    assert ((need >= 0) & (need <= CAPACITY)).all()
    more = need_ahead([*jobs, waiting(size)], AT, CAPACITY)
    assert (more >= need).all() and more[0] >= min(size, CAPACITY)
    told = Known(AT, need)
    assert np.array_equal(Known.of_steps(AT, told.as_steps()).need, need)


def test_what_was_told_too_long_ago_says_nothing() -> None:
    told = Known.of([running(8, None)], AT, CAPACITY)
    hour = 500_000
    assert told.from_hour(hour + FRESH_HOURS)[0] == 8
    assert told.from_hour(hour + FRESH_HOURS + 1).size == 0
    assert told.from_hour(hour - 1).size == 0
    assert latest_known([told], AT - timedelta(seconds=1), hour).size == 0


def test_bad_jobs_are_refused() -> None:
    for accelerators, limit_s in ((0, None), (1, 0)):
        with pytest.raises(InvalidInputError):
            KnownJob(accelerators, limit_s=limit_s)
    with pytest.raises(InvalidInputError, match="at most"):
        need_ahead([waiting(1)] * (JOBS_MAX + 1), AT, CAPACITY)


def test_of_an_hour_the_newest_stays_and_a_repeat_changes_nothing(store: Store, clock: SimulatedClock) -> None:
    demand, now = Demand(store), clock.now()
    demand.record_jobs("pool_a", now, CAPACITY, [KnownJob(8, now)])
    demand.record_jobs("pool_a", now - timedelta(seconds=30), CAPACITY, [KnownJob(3, now)])
    demand.record_jobs("pool_a", now, CAPACITY, [KnownJob(8, now)])
    found = demand.known_jobs("pool_a", now - timedelta(days=1), now)
    assert [item.need[0] for item in found if item.at == now] == [8]
    assert demand.known_jobs("pool_b", now - timedelta(days=1), now) == []
    with pytest.raises(InvalidInputError, match="future"):
        demand.record_jobs("pool_a", now + timedelta(hours=1), CAPACITY, [])


SERIES = made.series(10, seed=7, pool="known")
MOMENTS = [
    (at, SERIES.until(at), hours_of(SERIES.until(at), at))
    for at in (SERIES.end - timedelta(hours=h) for h in (0, 9, 17))
]
FIRM = ServiceClass("firm", TakeBack.NEVER, None, 50, 300, windows_s=(HOUR_S, 4 * HOUR_S))
SPOT = ServiceClass("spot", TakeBack.NOTICE, 120, 1000, 100, windows_s=(HOUR_S,))
POLICIES = {policy.name: policy for policy in (FIRM, SPOT)}


@settings(max_examples=25, deadline=None)
@given(_JOBS, st.sampled_from([1, 4]), st.integers(0, 2))
def test_knowing_jobs_never_sells_more_nor_into_what_they_need(
    jobs: list[KnownJob], window_hours: int, back: int
) -> None:
    at, history, hours = MOMENTS[back]
    moved = [KnownJob(job.accelerators, job.start and at - timedelta(hours=1), job.limit_s) for job in jobs]
    facts = PoolFacts("pool_a", "made", 100)
    told = Known.of(moved, at, 100)
    blind, knowing = (view_of(history, hours, facts, (), at, known) for known in ((), (told,)))
    window = Window.starting(at, window_hours * HOUR_S)
    counts = [rule.sellable(view, FIRM, window, (), POLICIES) for view in (blind, knowing)]
    assert counts[1].count <= counts[0].count
    assert counts[1].count <= 100 - told.need[:window_hours].max()
    assert counts[1].count + sum(item.count for item in counts[1].withheld) == 100
    # What is taken back when a job begins need not wait for it.
    spot = [rule.sellable(view, SPOT, Window.starting(at, HOUR_S), (), POLICIES).count for view in (blind, knowing)]
    assert spot[0] == spot[1]


def test_squeue_tells_limits_and_which_jobs_wait_for_room() -> None:
    lines = [
        "7|gpu|RUNNING|2026-03-01T00:00:00|2026-03-01T01:00:00|2026-03-01T09:00:00|gpu:4|2|6:30:00|nlp|None",
        "8|gpu|PENDING|2026-03-01T02:00:00|N/A|N/A|gpu:8|4|1-02:03:04|nlp|Resources",
        "9|gpu|PENDING|2026-03-01T02:00:00|N/A|N/A|gpu:8|1|UNLIMITED|nlp|Priority",
        "10|gpu|PENDING|2026-03-01T02:00:00|N/A|N/A|gpu:8|1|10:00|nlp|Dependency",
        "11|gpu|PENDING|2026-03-01T02:00:00|N/A|N/A|gpu:8|1|10:00|nlp|QOSMaxGRESPerUser",
    ]
    known = known_jobs(parse_squeue(lines))
    assert [(job.accelerators, job.limit_s) for job in known] == [(8, 8 * HOUR_S), (32, 93_784), (8, None)]
    with pytest.raises(BadSlurmOutputError, match="line 1: 'soon' is not a time limit"):
        parse_squeue(["8|gpu|PENDING|2026-03-01T02:00:00|N/A|N/A|gpu:8|4|soon|nlp|Resources"])
