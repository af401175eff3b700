"""What every lease backend must do. The stage has the backend, its clock, and a way to let time pass on it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from typing import Any

from sublet.conformance.check import Checks, NonconformingError, expect, refuses
from sublet.leases.backends.base import Backend, BackendFailedError, Observation, RunState, StartOrder, keys_digest
from sublet.leases.backends.engine import ReserveOrder
from sublet.values.clock import Clock
from sublet.values.errors import InvalidInputError
from sublet.values.ids import new_id
from sublet.values.windows import Window

SSH_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIO60M/2O25imdiXUWHNEPX+zY9+15wAl3qvkRH7xFcm6 conformance"
OTHER_SSH_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPYw8zkjX8HYpkM+BDFDoHkdOI6fVbJ29k/0UmiMfMsu other"
SLACK_S = 3.0
RESERVE_SLACK = timedelta(seconds=61)
"""Engines count in seconds or whole minutes."""


@dataclass(frozen=True, slots=True)
class BackendStage:
    """A backend that knows no lease yet.

    `wait` lets a little time pass: it moves a simulated clock by 0.1 seconds, or sleeps for a moment. `crash` makes what runs
    of a lease die without a word to the backend. `reopen` gives the backend as a restarted control plane would have it.
    `devices` are two that leases can hold. `patience_s` is how long, by the wall clock, a change may take. `preempt` has the
    engine take a running lease back by itself, without a word from Sublet; None where no engine does that. `slack_s` is how
    late the backend may be with what it does by itself, and how far evidence may stand before the end. `start_s` is how long a
    start may take: leases that end by themselves are so much longer.
    """

    backend: Backend
    clock: Clock
    wait: Callable[[], object]
    crash: Callable[[str], None]
    reopen: Callable[[], Backend]
    devices: tuple[str, str] = ("cpu:0", "cpu:1")
    patience_s: float = 60.0
    preempt: Callable[[str], None] | None = None
    slack_s: float = SLACK_S
    start_s: float = 0.0

    def order(self, seconds: float = 60, **changes: Any) -> StartOrder:
        """An order for a lease of `seconds` from now."""
        end = self.clock.now() + timedelta(seconds=seconds)
        plain = StartOrder(new_id("lse"), "org_a", self.devices[:1], (SSH_KEY,), end)
        return replace(plain, **changes)

    def until(self, lease_id: str, what: str, wanted: Callable[[Observation], bool]) -> Observation:
        """Let time pass until the observation of the lease is `wanted`. Raises NonconformingError after `patience_s`."""
        deadline = time.monotonic() + self.patience_s
        while True:
            seen = self.backend.observe(lease_id)
            if wanted(seen):
                return seen
            if time.monotonic() > deadline:
                raise NonconformingError(f"after {self.patience_s:.0f} s the lease is not {what}: {seen.as_dict()}")
            self.wait()

    def in_state(self, lease_id: str, state: RunState) -> Observation:
        """The observation once the lease is in `state`."""
        return self.until(lease_id, state.value, lambda seen: seen.state is state)

    def running(self, seconds: float = 60, **changes: Any) -> StartOrder:
        """The order of a lease that runs."""
        order = self.order(seconds + self.start_s, **changes)
        self.backend.start(order)
        self.in_state(order.lease_id, RunState.RUNNING)
        return order


_check: Checks[BackendStage] = Checks()


@_check
def unknown_leases_are_absent(stage: BackendStage) -> None:
    """A lease that the backend does not know is ABSENT, whatever is asked of it; to forget it is harmless."""
    for name in ("observe", "withdraw_notice", "pause"):
        seen = getattr(stage.backend, name)("lse_unknown")
        expect(seen.state is RunState.ABSENT, f"{name} of an unknown lease says {seen.state}, not absent")
    seen = stage.backend.stop("lse_unknown", "x")
    expect(seen.state is RunState.ABSENT, f"stop of an unknown lease says {seen.state}, not absent")
    stage.backend.forget("lse_unknown")
    expect(stage.backend.observe_all() == {}, "observe_all lists leases that nobody started")


@_check
def limits_are_told(stage: BackendStage) -> None:
    """`tenants_max` and `served_max` are None or a count, and the name is there."""
    for name, value in (("tenants_max", stage.backend.tenants_max), ("served_max", stage.backend.served_max())):
        expect(
            value is None or (isinstance(value, int) and value >= 0), f"{name} is {value!r}, neither None nor a count"
        )
    expect(bool(stage.backend.name), "the backend has no name")


@_check
def starting_again_is_one_lease(stage: BackendStage) -> None:
    """The same order any number of times is one lease, with one door and one stretch of delivery."""
    order = stage.order()
    for _ in range(3):
        stage.backend.start(order)
    first = stage.in_state(order.lease_id, RunState.RUNNING)
    again = stage.backend.start(order)
    doors = {again.endpoint, stage.backend.observe(order.lease_id).endpoint}
    expect(doors == {first.endpoint}, "starting a running lease again moved its door")
    expect(list(stage.backend.observe_all()) == [order.lease_id], "starting a lease again made another one")
    expect(len(stage.backend.observe(order.lease_id).deliveries) == 1, "starting again began another delivery")


@_check
def a_running_lease_takes_other_keys(stage: BackendStage) -> None:
    """Started again with other keys, a running lease lets those in and stays as it is; what it says of its keys is true."""
    order = stage.running()
    before = stage.backend.observe(order.lease_id)
    expect(before.keys in (None, keys_digest(order.authorized_keys)), "it says that other keys may log in than ordered")
    other = replace(order, authorized_keys=(SSH_KEY, OTHER_SSH_KEY))
    stage.backend.start(other)
    wanted = keys_digest(other.authorized_keys)
    after = stage.until(
        order.lease_id, "open to the other keys", lambda seen: before.keys is None or seen.keys == wanted
    )
    expect(after.endpoint == before.endpoint, "other keys moved its door")
    expect(len(after.deliveries) == 1 and after.deliveries[0].open, "other keys interrupted it")


@_check
def a_running_lease_has_a_door_and_guarantees(stage: BackendStage) -> None:
    """A running lease says where its tenant logs in, how it is isolated, and when it ends."""
    order = stage.running()
    seen = stage.backend.observe(order.lease_id)
    expect(seen.endpoint is not None and seen.endpoint.port > 0, "a running lease has no endpoint")
    expect(seen.endpoint is None or seen.endpoint.fingerprint.startswith("SHA256:"), "the fingerprint is no SHA256:…")
    levels = {item.get("level") for item in seen.guarantees.values()}
    expect(levels and levels <= {"hard", "soft", "none"}, f"guarantees have levels {levels}; use hard, soft and none")
    expect(seen.ends_at == order.ends_at, f"it ends at {seen.ends_at}, ordered was {order.ends_at}")
    expect(
        seen.reclaim_at is None and seen.clean is None, "a lease nobody took back has reclaim_at, or is called clean"
    )
    expect(stage.backend.observe_all()[order.lease_id].state is RunState.RUNNING, "observe_all and observe disagree")


@_check
def delivery_is_evidence(stage: BackendStage) -> None:
    """What was delivered lies between the start and now, counts the order's devices, and grows while the tenant is served."""
    began = stage.clock.now()
    order = stage.running(devices=stage.devices)
    first = stage.until(
        order.lease_id, "delivering", lambda seen: seen.delivered_until is not None and _length(seen) > 0
    )
    expect(len(first.deliveries) == 1 and first.deliveries[0].open, "a running lease's last delivery must be open")
    expect(
        first.deliveries[0].accelerators == 2, f"two devices deliver {first.deliveries[0].accelerators} accelerators"
    )
    later = stage.until(order.lease_id, "delivering more", lambda seen: _length(seen) > _length(first))
    expect(later.deliveries[0].start == first.deliveries[0].start, "the start of a delivery moved")
    expect(began <= later.deliveries[0].start, "delivery begins before the order")
    expect(later.deliveries[0].end <= stage.clock.now(), "delivery ends in the future")


@_check
def it_ends_by_itself(stage: BackendStage) -> None:
    """At its end the lease is over, clean and without a door, though nobody calls; evidence stops there."""
    order = stage.running(3)
    seen = stage.in_state(order.lease_id, RunState.STOPPED)
    expect((seen.reason, seen.clean, seen.endpoint) == ("window_over", True, None), f"it ended as {seen.as_dict()}")
    end = seen.delivered_until
    expect(end is not None and end <= order.ends_at, f"delivered until {end}, after its end {order.ends_at}")
    early = order.ends_at - timedelta(seconds=stage.slack_s / 2)
    expect(end is None or end >= early, f"delivered until {end} only, of {order.ends_at}")
    expect(stage.clock.now() < order.ends_at + timedelta(seconds=stage.slack_s), "it ended late")
    expect(not any(item.open for item in seen.deliveries), "a lease that is over has an open delivery")


@_check
def notice_moves_the_end_and_can_be_withdrawn(stage: BackendStage) -> None:
    """Notice ends the lease at its deadline whatever happens to the caller; withdrawn, the lease runs to its own end."""
    order = stage.running()
    soon = stage.clock.now() + timedelta(seconds=30)
    for _ in range(2):
        stage.backend.notice(order.lease_id, soon, "reclaimed by the owner")
    seen = stage.until(order.lease_id, "under notice", lambda seen: seen.reclaim_at == soon)
    expect(seen.state is RunState.RUNNING, f"under notice it is {seen.state}; it runs until its deadline")
    stage.backend.withdraw_notice(order.lease_id)
    stage.until(order.lease_id, "free of notice", lambda seen: seen.reclaim_at is None)
    by = stage.clock.now() + timedelta(seconds=1)
    stage.backend.notice(order.lease_id, by, "now")
    seen = stage.in_state(order.lease_id, RunState.STOPPED)
    expect((seen.reason, seen.clean) == ("reclaimed", True), f"taken back, it is {seen.reason}, clean {seen.clean}")
    end = seen.delivered_until
    expect(end is not None and end <= by, f"delivered until {end}, after the deadline {by}")


@_check
def an_order_may_carry_a_deadline(stage: BackendStage) -> None:
    """A lease that is started under notice already ends at that deadline."""
    order = stage.order()
    order = replace(order, reclaim_at=stage.clock.now() + timedelta(seconds=30))
    stage.backend.start(order)
    seen = stage.in_state(order.lease_id, RunState.RUNNING)
    expect(
        seen.reclaim_at == order.reclaim_at, f"it was ordered with a deadline of {order.reclaim_at}: {seen.reclaim_at}"
    )


@_check
def extend_moves_the_end_in_either_direction(stage: BackendStage) -> None:
    """A later end keeps the lease running past the first one; one that has come ends it."""
    order = stage.running(2.5)
    stage.backend.extend(order.lease_id, order.ends_at + timedelta(seconds=60))
    after = order.ends_at + timedelta(seconds=1)
    seen = stage.until(order.lease_id, "past its first end", lambda seen: stage.clock.now() > after)
    expect(seen.state is RunState.RUNNING, f"extended, it is {seen.state} after its first end")
    asked = stage.clock.now()
    stage.backend.extend(order.lease_id, asked)
    seen = stage.in_state(order.lease_id, RunState.STOPPED)
    expect(stage.clock.now() < asked + timedelta(seconds=stage.slack_s), "an end that was moved to now came late")
    expect(seen.reason == "window_over", f"ended by a shorter window, its reason is {seen.reason!r}, not 'window_over'")


@_check
def stop_is_complete_and_may_be_repeated(stage: BackendStage) -> None:
    """Once `stop` returns nothing is left, which is proved; stopped again it is the same, and it never begins again."""
    order = stage.running()
    for _ in range(2):
        seen = stage.backend.stop(order.lease_id, "released")
        told = (seen.state, seen.reason, seen.clean)
        expect(told == (RunState.STOPPED, "released", True), f"after stop: {told}")
    before = seen.deliveries
    expect(not any(item.open for item in before), "a stopped lease has an open delivery")
    for _ in range(3):
        stage.wait()
    expect(stage.backend.observe(order.lease_id).deliveries == before, "what was delivered changed after the stop")
    expect(stage.backend.start(order).state is RunState.STOPPED, "what is over began again")


@_check
def stop_before_it_runs(stage: BackendStage) -> None:
    """A lease can be stopped while it starts."""
    order = stage.order()
    stage.backend.start(order)
    seen = stage.backend.stop(order.lease_id, "canceled")
    expect(seen.state.over and seen.clean, f"stopped at once after its start: {seen.state}, clean {seen.clean}")


@_check
def leases_are_apart(stage: BackendStage) -> None:
    """Stopping, warning or extending one lease leaves the others as they are."""
    one, other = stage.running(), stage.running(devices=stage.devices[1:])
    stage.backend.notice(one.lease_id, stage.clock.now() + timedelta(seconds=30), "one of them")
    stage.backend.stop(one.lease_id, "released")
    seen = stage.backend.observe(other.lease_id)
    expect(seen.state is RunState.RUNNING, f"stopping one lease made another {seen.state}")
    expect((seen.reclaim_at, seen.ends_at) == (None, other.ends_at), "the terms of one lease changed with another's")


@_check
def a_crash_is_seen_and_start_brings_the_same_lease_back(stage: BackendStage) -> None:
    """What died is PAUSED; `start` brings it back behind the same door, as a second stretch of delivery."""
    order = stage.running()
    before = stage.backend.observe(order.lease_id)
    stage.crash(order.lease_id)
    stage.in_state(order.lease_id, RunState.PAUSED)
    stage.backend.start(order)
    after = stage.in_state(order.lease_id, RunState.RUNNING)
    expect(after.endpoint == before.endpoint, "it came back behind another door or with another host key")
    expect(len(after.deliveries) == 2, f"it was served twice, and tells of {len(after.deliveries)} deliveries")
    first, second = after.deliveries[0], after.deliveries[-1]
    expect(first.end <= second.start and not first.open and second.open, "the two deliveries overlap or stay open")


@_check
def pause_keeps_the_lease_for_the_next_start(stage: BackendStage) -> None:
    """Paused, it delivers nothing; it comes back on the devices and terms of the next order, with its door."""
    order = stage.running()
    before = stage.backend.observe(order.lease_id)
    for _ in range(2):
        seen = stage.backend.pause(order.lease_id)
        expect(seen.state is RunState.PAUSED, f"after pause it is {seen.state}")
    expect(not any(item.open for item in seen.deliveries), "a paused lease has an open delivery")
    reclaim_at = stage.clock.now() + timedelta(seconds=40)
    stage.backend.start(replace(order, devices=stage.devices, reclaim_at=reclaim_at))
    after = stage.in_state(order.lease_id, RunState.RUNNING)
    expect(after.endpoint == before.endpoint, "it came back behind another door or with another host key")
    expect(after.reclaim_at == reclaim_at, "it came back without the deadline of the new order")
    counts = [item.accelerators for item in after.deliveries]
    expect(counts == [1, 2], f"it ran on one device and then on two, and tells of {counts}")


@_check
def leases_outlive_the_caller(stage: BackendStage) -> None:
    """A restarted control plane finds every lease, running as before."""
    order = stage.running()
    before = stage.backend.observe(order.lease_id)
    seen = stage.reopen().observe(order.lease_id)
    expect(seen.state is RunState.RUNNING, f"after a restart of the control plane the lease is {seen.state}")
    expect(seen.endpoint == before.endpoint, "after a restart of the control plane the door is another")
    expect(seen.deliveries[0].start == before.deliveries[0].start, "a restart of the control plane lost evidence")


@_check
def forget_takes_only_what_is_over_and_clean(stage: BackendStage) -> None:
    """A live lease can't be forgotten (InvalidInputError); one that is over and clean is gone."""
    order = stage.running()
    refuses(InvalidInputError, lambda: stage.backend.forget(order.lease_id), "a running lease was forgotten")
    stage.backend.stop(order.lease_id, "x")
    stage.backend.forget(order.lease_id)
    expect(stage.backend.observe(order.lease_id).state is RunState.ABSENT, "a forgotten lease is still there")
    expect(stage.backend.observe_all() == {}, "observe_all lists a forgotten lease")


@_check
def reap_ends_strangers_and_spares_what_is_known(stage: BackendStage) -> None:
    """What belongs to no known lease is ended, crashed or running; what is known goes on."""
    known, stranger = stage.running(), stage.running(devices=stage.devices[1:])
    stage.crash(stranger.lease_id)
    for _ in range(2):
        stage.backend.reap(frozenset({known.lease_id}))
    expect(
        list(stage.backend.observe_all()) == [known.lease_id], "reap left a stranger, or ended a lease that is known"
    )
    seen = stage.backend.observe(known.lease_id)
    expect(seen.state is RunState.RUNNING, f"reap made a known lease {seen.state}")


@_check
def capacity_is_kept_ahead_and_released(stage: BackendStage) -> None:
    """An engine that reserves keeps capacity for a lease that has not started, once, under the terms of the last order, and says
    so after a restart; released, it keeps nothing. Any other backend refuses (BackendFailedError)."""
    backend, start = stage.backend, stage.clock.now() + timedelta(hours=1)
    order = ReserveOrder(new_id("lse"), "org_a", 1, Window(start, start + timedelta(hours=1)))
    backend.release(order.lease_id)
    if not backend.traits.keeps(order.class_name):
        refuses(BackendFailedError, lambda: backend.reserve(order), "it reserves nothing, and took an order to")
        return
    for _ in range(2):
        backend.reserve(order)
    longer = replace(order, window=Window(start, start + timedelta(hours=2)))
    backend.reserve(longer)
    for seen in (backend.observe(order.lease_id), stage.reopen().observe_all().get(order.lease_id)):
        kept = seen.reservation if seen is not None else None
        expect(seen is not None and kept is not None, "what is kept for a lease that has not started is not seen")
        expect(seen is None or seen.state is RunState.ABSENT, "a lease that was only reserved is said to run")
        expect(kept is None or (kept.accelerators >= 1 and kept.broken is None), f"what is kept is broken: {kept}")
        late = kept is not None and abs(kept.end - longer.window.end) > RESERVE_SLACK
        expect(not late, f"it is kept until {kept and kept.end}, ordered was {longer.window.end}")
    for _ in range(2):
        backend.release(order.lease_id)
    expect(backend.observe_all() == {}, "what was released is still kept")


@_check
def a_lease_says_where_it_is(stage: BackendStage) -> None:
    """An engine that picks says where a running lease is, one device for each that was ordered; with several doors, the first
    is among them."""
    order = stage.running(devices=stage.devices)
    seen = stage.backend.observe(order.lease_id)
    picked = len(order.devices) if stage.backend.traits.picks_units else 0
    expect(len(set(seen.devices)) == picked, f"{len(order.devices)} devices were ordered, it is on {seen.devices}")
    expect(not seen.endpoints or seen.endpoint in seen.endpoints, "its endpoint is none of its endpoints")
    ports = {(item.host, item.port) for item in seen.endpoints}
    expect(len(ports) == len(seen.endpoints), "two of its doors are the same")


@_check
def what_the_engine_takes_back_is_told(stage: BackendStage) -> None:
    """A lease that the engine takes back by itself says when, is over by then, and is called reclaimed."""
    if stage.preempt is None:
        return
    order = stage.running(600, class_name="spot")
    stage.preempt(order.lease_id)
    seen = stage.until(order.lease_id, "taken back", lambda seen: seen.taken_at is not None)
    expect(seen.taken_at is not None and seen.taken_at < order.ends_at, f"taken back at {seen.taken_at}, after its end")
    seen = stage.until(order.lease_id, "over", lambda seen: seen.state.over and seen.state is not RunState.ABSENT)
    expect((seen.reason, seen.clean) == ("reclaimed", True), f"taken back by its engine, it is {seen.as_dict()}")
    expect(seen.taken_at is not None, "once it is over, it no longer says that its engine took it back")


@_check
def what_the_engine_has_is_told(stage: BackendStage) -> None:
    """Inventory, health and demand are there, or left to the operator; introductions may be repeated."""
    backend, now = stage.backend, stage.clock.now()
    for _ in range(2):
        backend.introduce(frozenset({"org_a"}))
    inventory, demand = backend.inventory(), backend.demand()
    if inventory is not None:
        names = [node.name for node in inventory.nodes]
        expect(len(set(names)) == len(names), "a node is listed twice")
        expect(inventory.accelerators > 0, "its nodes have no accelerators")
        known = {item.name for item in backend.health()}
        expect(set(names) <= known, f"nothing is said of the health of {sorted(set(names) - known)}")
    if demand is not None:
        expect(abs(demand.at - now) < timedelta(minutes=1), f"the demand is of {demand.at}, it is {now}")
        expect(demand.in_use >= 0 and demand.pending >= 0, "the demand is negative")
    expect(backend.traits.step >= 1, "leases come in steps of less than one accelerator")


@_check
def a_bad_order_leaves_nothing(stage: BackendStage) -> None:
    """An order without devices, without keys or with a key that is none is refused (InvalidInputError), and nothing remains."""
    for changes in ({"devices": ()}, {"authorized_keys": ()}, {"authorized_keys": ("x",)}):
        order = stage.order(**changes)
        refuses(InvalidInputError, partial(stage.backend.start, order), f"an order with {changes} was taken")
        seen = stage.backend.stop(order.lease_id, "x")
        expect(seen.state is RunState.ABSENT, f"a refused order left a lease that is {seen.state}")
    expect(stage.backend.observe_all() == {}, "refused orders left leases")


CHECKS = tuple(_check.all)
"""Every promise of `leases.backends.base.Backend`."""


def _length(seen: Observation) -> float:
    """Seconds of the last delivery; 0 where there is none."""
    return (seen.deliveries[-1].end - seen.deliveries[-1].start).total_seconds() if seen.deliveries else 0.0
