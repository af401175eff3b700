"""Jobs on a simulated pool: sold and accepted in one step, run to their end, and billed to the second in which that came."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.leases.world import CUSTOMER, KEY, PRICE_NANO, World

from sublet.leases.jobs.model import ARRAY_MAX, Job, JobState, NewJob, PriceLimitError, Submitted
from sublet.leases.model import Lease, LeaseState, NoCapacityError
from sublet.leases.quotes.request import QuoteRequest
from sublet.store.paging import PageRequest
from sublet.values.errors import InvalidInputError, NotFoundError, UnavailableError


def wanted(world: World, seconds: int = 600, **more: Any) -> NewJob:
    request = QuoteRequest(1, "spot", duration_s=seconds, pool=world.pool.name)
    return NewJob(("train", "--epochs", "3"), request, **more)


def by_deadline(world: World, hours: float = 1, by_hours: float = 8, **more: Any) -> NewJob:
    return NewJob(("train",), world.order_request(hours, by_hours), **more)


def submit(world: World, new: NewJob) -> tuple[Job, Lease]:
    (made,) = world.leases.jobs.submit(CUSTOMER, new).jobs
    return made


def state(world: World, job: Job) -> JobState:
    found, lease = world.leases.jobs.job(job.id, CUSTOMER)
    return found.state_with(lease)


def test_a_job_runs_and_its_end_is_the_end_of_its_lease_and_of_its_bill(world: World) -> None:
    job, lease = submit(world, wanted(world, environment={"A": "b"}, name="night"))
    assert state(world, job) is JobState.WAITING
    world.run(3)
    assert state(world, job) is JobState.RUNNING
    told = world.backend._leases[lease.id].order.job
    assert told is not None and told.command == ("train", "--epochs", "3")
    assert told.environment["A"] == "b" and told.environment["SUBLET_JOB_ID"] == job.id
    world.run(60)
    world.backend.exit_job(lease.id, 3)
    world.run(5)
    found, over = world.leases.jobs.job(job.id)
    assert (found.state_with(over), found.exits[-1].code) == (JobState.FAILED, 3)
    assert over.state is LeaseState.ENDED and over.end_reason == "job_done"
    assert 55 <= world.billed_s(lease) <= 65 and not world.credits
    assert lease.id not in world.backend.observe_all()


def test_a_job_that_is_done_before_anyone_looked_is_billed_and_not_called_a_failed_start(world: World) -> None:
    for new in (wanted(world), by_deadline(world)):
        job, lease = submit(world, new)
        world.run(1)
        world.clock.advance(1)
        assert world.backend.observe(lease.id).state.live
        world.backend.exit_job(lease.id, 0)
        world.run(6)
        found, over = world.leases.jobs.job(job.id)
        assert found.state_with(over) is JobState.SUCCEEDED and over.state is LeaseState.ENDED
        assert over.end_reason == "job_done" and not world.credits


def test_hours_by_a_deadline_are_paused_and_go_on_and_an_early_end_is_not_late(world: World) -> None:
    job, lease = submit(world, by_deadline(world))
    world.run(5)
    assert state(world, job) is JobState.RUNNING
    world.leases._reclaims.turns.ask(lease.id, world.clock.now(), "test", "somebody")
    world.run(2)
    assert state(world, job) is JobState.PAUSED
    world.run(300, 5)
    assert state(world, job) is JobState.RUNNING and world.leases.jobs.job(job.id)[1].pauses == 1
    world.backend.exit_job(lease.id, 0)
    world.run(5)
    assert state(world, job) is JobState.SUCCEEDED and not world.credits
    assert world.billed_s(lease) < 3600


def test_attempts_are_kept_as_they_come(world: World) -> None:
    job, lease = submit(world, wanted(world, retries=1))
    world.run(3)
    world.backend.exit_job(lease.id, 1)
    world.run(2)
    found, _ = world.leases.jobs.job(job.id)
    assert [item.code for item in found.exits] == [1] and state(world, job) is JobState.RUNNING
    world.backend.exit_job(lease.id, 0)
    world.run(5)
    found, _ = world.leases.jobs.job(job.id)
    assert [item.code for item in found.exits] == [1, 0] and state(world, job) is JobState.SUCCEEDED


def test_a_window_that_is_over_before_the_command_is_no_result(world: World) -> None:
    job, _ = submit(world, wanted(world, 60))
    world.run(80)
    found, lease = world.leases.jobs.job(job.id)
    assert found.state_with(lease) is JobState.STOPPED and lease.end_reason == "window_over" and not found.exits


def test_the_exit_is_kept_whatever_the_control_plane_lived_to_do(world: World) -> None:
    job, lease = submit(world, wanted(world))
    world.run(3)
    world.backend.exit_job(lease.id, 7)
    world.restart()
    world.leases.jobs.tend(world.backend.observe_all(), world.clock.now())
    world.restart()
    world.run(5)
    found, over = world.leases.jobs.job(job.id)
    assert [item.code for item in found.exits] == [7] and over.end_reason == "job_done"
    before = len(world.emitted)
    world.run(5)
    assert len(world.emitted) == before


def test_an_array_is_all_or_nothing(world: World) -> None:
    made = world.leases.jobs.submit(CUSTOMER, wanted(world, indexes=(0, 1, 2))).jobs
    assert [job.array_index for job, _ in made] == [0, 1, 2] and len({job.array_id for job, _ in made}) == 1
    world.run(3)
    orders = [world.backend._leases[lease.id].order.job for _, lease in made]
    assert [order.environment["SUBLET_ARRAY_INDEX"] for order in orders if order] == ["0", "1", "2"]
    with pytest.raises(NoCapacityError):
        world.leases.jobs.submit(CUSTOMER, wanted(world, indexes=(3, 4)))
    assert len(world.leases.jobs.page(CUSTOMER, PageRequest()).items) == 3 == len(world.leases.leases(CUSTOMER))
    array = made[0][0].array_id
    assert array is not None
    world.leases.jobs.cancel(array, CUSTOMER, "customer")
    world.run(5)
    assert {state(world, job) for job, _ in made} == {JobState.CANCELED}
    assert not [lease for lease in world.leases.leases(CUSTOMER) if not lease.state.terminal]


def test_a_price_above_the_limit_sells_nothing(world: World) -> None:
    with pytest.raises(PriceLimitError, match=r"above your limit of 1\.9"):
        world.leases.jobs.submit(CUSTOMER, wanted(world, price_max_nano=1_900_000_000))
    assert not world.leases.leases() and not world.leases.open_quotes(CUSTOMER)
    assert submit(world, wanted(world, price_max_nano=PRICE_NANO))[1].price_nano == PRICE_NANO


def test_a_canceled_job_ends_even_where_the_cancel_was_cut_short(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    job, lease = submit(world, wanted(world))
    world.run(3)
    monkeypatch.setattr(world.leases.jobs, "_release", lambda lease_id, actor: None)
    world.leases.jobs.cancel(job.id, CUSTOMER, "customer")
    assert world.lease(lease).state is LeaseState.ACTIVE and state(world, job) is JobState.CANCELED
    world.restart()
    world.run(5)
    assert world.lease(lease).end_reason == "released"
    world.leases.jobs.cancel(job.id, CUSTOMER, "customer")


def test_nobody_sees_anothers_job(world: World) -> None:
    job, _ = submit(world, wanted(world, ssh_public_keys=(KEY,)))
    jobs = world.leases.jobs
    for call in (
        lambda: jobs.job(job.id, "org_b"),
        lambda: jobs.log(job.id, 0, "org_b"),
        lambda: jobs.cancel(job.id, "org_b", "b"),
    ):
        with pytest.raises(NotFoundError):
            call()
    assert jobs.page("org_b", PageRequest()).items == []


def test_what_it_printed_is_read_in_parts_until_it_is_over(world: World) -> None:
    job, lease = submit(world, wanted(world))
    world.run(3)
    world.backend.print_in_job(lease.id, "one é")
    part, complete = world.leases.jobs.log(job.id, 0, CUSTOMER)
    assert (part.text, complete) == ("one é", False)
    world.backend.exit_job(lease.id, 0)
    world.leases.tick()
    assert world.leases.jobs.log(job.id, part.next, CUSTOMER)[1]
    world.leases.jobs._backends = {}
    with pytest.raises(UnavailableError):
        world.leases.jobs.log(job.id, 0, CUSTOMER)


@pytest.mark.parametrize(
    "changes",
    [
        {"command": ()}, {"command": ("",)}, {"command": ("a\0",)}, {"command": ("a\ud800",)}, {"command": ("a" * 40_000,)},
        {"command": ("a",) * 300}, {"environment": {"SUBLET_X": "1"}}, {"environment": {"A=B": "1"}}, {"environment": {"A": "\0"}},
        {"environment": {"A": "b" * 20_000}}, {"retries": 11}, {"retries": -1}, {"grace_s": 301}, {"indexes": (1, 1)},
        {"indexes": tuple(range(ARRAY_MAX + 1))}, {"name": "a\nb"}, {"ssh_public_keys": ("nonsense",)},
    ],
)  # fmt: skip
def test_what_can_not_run_is_refused_before_anything_is_sold(world: World, changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError):
        world.leases.jobs.submit(CUSTOMER, replace(wanted(world), **changes))
    assert not world.leases.leases()


def test_a_pool_whose_backend_runs_no_jobs_is_not_sold_for_one(world: World) -> None:
    ports = replace(world.leases._ports, features=lambda backend: frozenset({"network"}))
    world.leases._admission._ports = ports
    with pytest.raises(InvalidInputError, match="does not support jobs"):
        world.leases.jobs.submit(CUSTOMER, wanted(world))


def test_what_is_submitted_answers_as_one(world: World) -> None:
    made = world.leases.jobs.submit(CUSTOMER, wanted(world))
    assert isinstance(made, Submitted) and made.as_dict()["array_id"] is None
