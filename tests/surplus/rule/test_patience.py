"""Who waits and for how long: the properties, on any course of need."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st

from sublet.demand.model import Claim
from sublet.surplus.model import PoolFacts
from sublet.surplus.rule.patience import (
    OWN,
    Begun,
    PatienceTerms,
    Waiting,
    find_waiting,
    room_for_tenants,
    with_patience_left,
)
from sublet.surplus.rule.view import View
from sublet.values.windows import Window

START = datetime(2026, 1, 5, 20, tzinfo=UTC)
TICK_S = 60
PATIENCE_S = 600
ACCELERATORS = 10


def view_at(now: datetime, claims: Sequence[Claim] = (), before: float = 0.0) -> View:
    facts = PoolFacts("p", "p", ACCELERATORS, patience_s=PATIENCE_S)
    return View(
        now,
        facts,
        in_use=0.0,
        working=float(ACCELERATORS),
        stale=False,
        sample_age_s=0.0,
        history_s=0.0,
        hours=cast(Any, None),
        fine=None,
        claims=tuple(claims),
        claims_met={},
        before={claim.id: before for claim in claims},
    )


class Owner:
    """What the running service writes down of waits, in memory."""

    def __init__(self, patience_s: int, times: int) -> None:
        self.terms = PatienceTerms(patience_s, times)
        self.begun: dict[str, Begun] = {}
        self.days: dict[tuple[int, str], float] = {}

    def look(self, now: datetime, held: int, need: float, claims: Sequence[Claim] = ()) -> tuple[Waiting, int]:
        """Who waits at that moment, and how many tenants would have to leave."""
        waited = {team: s for (day, team), s in self.days.items() if day == now.toordinal()}
        for item in self.begun.values():
            waited[item.team] = waited.get(item.team, 0.0) + item.uncounted_s(now)
        terms = replace(self.terms, begun=self.begun, waited_s=waited)
        view = view_at(now, claims)
        calm = max(0, int(ACCELERATORS - need))
        found = find_waiting(view, terms, held, need, float(ACCELERATORS), calm)
        own = 0.0 if found.own_left_s > 0 else need
        room = room_for_tenants(with_patience_left(view, terms), Window.starting(now, 1), own, float(ACCELERATORS))
        self._write(found, now)
        return found, max(0, held - room)

    def _write(self, found: Waiting, now: datetime) -> None:
        for item in self.begun.values():
            end = min(now, item.until)
            while item.accelerators and item.counted_until < end:
                midnight = item.counted_until.replace(hour=0, minute=0) + timedelta(days=1)
                stop = min(end, midnight)
                key = (item.counted_until.toordinal(), item.team)
                self.days[key] = self.days.get(key, 0.0) + (stop - item.counted_until).total_seconds()
                item = replace(item, counted_until=stop)
        kept = {item.claim_id: replace(item, counted_until=now, accelerators=0) for item, keep in found.over if keep}
        waits = {
            wait.claim_id: Begun("p", wait.claim_id, wait.team, wait.since, now, wait.until, wait.accelerators)
            for wait in found.waits
        }
        self.begun = {**kept, **waits}


@given(
    st.lists(st.tuples(st.integers(0, ACCELERATORS), st.integers(1, 15)), max_size=40),
    st.integers(1, 3),
    st.integers(1, ACCELERATORS),
)
def test_demand_takes_nothing_back_before_its_patience_or_that_of_the_day_is_spent(
    needs: list[tuple[int, int]], times: int, held: int
) -> None:
    owner, now = Owner(PATIENCE_S, times), START
    short_since: datetime | None = None
    for need, ticks in needs:
        for _ in range(ticks):
            over = max(0, held - (ACCELERATORS - need))
            short_since = (short_since or now) if over else None
            spent_s = owner.days.get((now.toordinal(), OWN), 0.0)
            waiting, evicted = owner.look(now, held, float(need))
            spent_s = max(spent_s, owner.days.get((now.toordinal(), OWN), 0.0))
            lasted_s = (now - short_since).total_seconds() if short_since else 0.0
            if evicted:
                assert evicted == over
                assert lasted_s >= PATIENCE_S or spent_s >= times * PATIENCE_S
            if over and not evicted:
                assert [wait.accelerators for wait in waiting.waits] == [over]
                assert waiting.waits[0].until <= waiting.waits[0].since + timedelta(seconds=PATIENCE_S)
            if not over:
                assert waiting.waits == ()
            now += timedelta(seconds=TICK_S)
    assert all(seconds <= times * PATIENCE_S for seconds in owner.days.values())


@given(
    st.integers(0, 3600),
    st.integers(0, 86_400),
    st.integers(1, ACCELERATORS),
    st.integers(0, ACCELERATORS),
    st.integers(1, ACCELERATORS),
    st.booleans(),
)
def test_a_claim_is_never_more_patient_than_it_says_nor_counted_twice(
    passed_s: int, patience_s: int, count: int, need: int, held: int, queued: bool
) -> None:
    window = Window.starting(START, 7200)
    claim = Claim("clm_1", "p", count, window, "", START, patience_s=patience_s, team="org_1")
    now = START + timedelta(seconds=passed_s)
    shows = min(ACCELERATORS, need + count) if queued else need
    view = view_at(now, [claim], before=float(need))
    rooms = [
        room_for_tenants(replace(view, claims=(item,)), Window.starting(now, 1), float(shows), float(ACCELERATORS))
        for item in (claim, replace(claim, patience_s=0))
    ]
    assert rooms[0] >= rooms[1] == max(0, ACCELERATORS - need - count)
    if passed_s >= patience_s:
        assert rooms[0] == rooms[1]
    found = find_waiting(view, PatienceTerms(0, 3), held, float(shows), float(ACCELERATORS), 0)
    assert sum(wait.accelerators for wait in found.waits) == max(0, held - rooms[1]) - max(0, held - rooms[0])


def test_what_a_claim_has_left_today_bounds_when_it_counts() -> None:
    claim = Claim("clm_1", "p", 4, Window.starting(START, 7200), "", START, patience_s=1200, team="org_1")
    tomorrow = replace(claim, window=Window.starting(START + timedelta(hours=8), 600))
    terms = PatienceTerms(0, 1, waited_s={"org_1": 900.0})
    first, second = with_patience_left(view_at(START, [claim, tomorrow]), terms).claims
    assert (first.patience_s, second.patience_s) == (300, 1200)
