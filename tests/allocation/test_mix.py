"""The mix: what it must never do, and cases that can be worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from tests.allocation.states import FIRM_1, FIRM_4, fit, flat, model, pool, state, states

from sublet.allocation.errors import UnusableStateError
from sublet.allocation.mix.decide import decide, worth
from sublet.allocation.mix.greedy import Deal
from sublet.allocation.mix.model import Fit, Kind, Limit, Mix, Offer, PoolState, State
from sublet.allocation.mix.program import Program, Solution, Solver

NAN = float("nan")


class Late(Solver):
    """A solver that is out of time, as HiGHS is: no partial result."""

    def solve(self, program: Program) -> Solution | None:
        self.last_error = "the solver ended with 'Time limit reached' after 5.0 s"
        return None


def check(asked: State, mix: Mix) -> None:
    """What holds of every mix."""
    for pool_state in asked.pools:
        held = sum(
            mix.replicas.get(item.pair, 0) * item.accelerators for item in asked.fits if item.pool == pool_state.name
        )
        sold = {key[1:]: count for key, count in mix.quotas.items() if key[0] == pool_state.name}
        assert held + sum(sold.values()) <= pool_state.idle[0] + 1e-6
        for ceiling in pool_state.ceilings:
            assert sum(sold.get(key, 0) for key in ceiling.offers) <= ceiling.counts[0] + 1e-6, ceiling
        for offer in pool_state.offers:
            count = sold.get((offer.class_name, offer.hours), 0)
            assert 0 <= count <= offer.demand[0] + (0 if offer.kind is Kind.WINDOW else offer.held) + 1e-6
    broken = {item.limit for item in mix.broken}
    for limit in asked.limits:
        count = sum(mix.replicas.get(item.pair, 0) for item in asked.fits if limit.covers(item))
        assert limit.cap is None or count <= limit.cap
        assert count >= limit.floor or limit in broken


@given(states())
@settings(max_examples=60)
def test_idle_capacity_the_rules_limits_and_caps_always_hold(asked: State) -> None:
    solver = Solver()
    mix = decide(asked, solver)
    assert mix.method == "program", mix.note
    check(asked, mix)
    check(asked, decide(asked, Late()))
    assert decide(asked, solver).replicas == mix.replicas == decide(asked).replicas
    assert decide(asked, solver).quotas == mix.quotas == decide(asked).quotas


@given(states())
@settings(max_examples=40)
def test_a_round_is_never_worth_much_less_than_the_fallback(asked: State) -> None:
    """The program looks ahead, so an hour of it may earn less than greed; over the horizon it must not."""
    limitless = replace(
        asked, limits=(), fits=tuple(replace(item, running=0, start_hours=0, drain_hours=0) for item in asked.fits)
    )
    limitless = replace(limitless, steps=(1.0,), pools=tuple(_first(item) for item in limitless.pools))
    limitless = replace(
        limitless, models=tuple(replace(item, load=item.load[:1], spread=item.spread[:1]) for item in limitless.models)
    )
    greedy = Deal(limitless, limitless.pools).run()
    program = decide(limitless)
    alone = worth(limitless, greedy.replicas, greedy.sales)
    assert program.value >= 0.9 * alone - 0.5


def _first(item: PoolState) -> PoolState:
    return replace(
        item,
        idle=item.idle[:1],
        offers=tuple(replace(offer, demand=offer.demand[:1]) for offer in item.offers),
        ceilings=tuple(replace(each, counts=each.counts[:1]) for each in item.ceilings),
    )


def test_the_marginal_replica_decides_and_not_the_full_one() -> None:
    """At 1.62 USD full a replica beats firm 1 h (1.50) only while it is nearly full: ten accelerators of load do not get ten
    more accelerators while anybody pays 1.50 for them."""
    asked = State(
        state().at,
        state().steps,
        (pool(idle=20, rule_1=20, firm_1=20, firm_4=0, spot=0, deadline=0, held=0),),
        (model("mid", 10),),
        (fit("mid", running=0),),
    )
    mix = decide(asked)
    assert 6 <= mix.replicas["mid", "a100"] <= 9
    assert mix.replicas["mid", "a100"] + mix.quotas["a100", *FIRM_1] == 20


def test_without_demand_nothing_runs_and_nothing_is_sold() -> None:
    quiet = state(firm_1=0, firm_4=0, spot=0, deadline=0, held=0)
    quiet = replace(quiet, models=tuple(replace(item, load=flat(0)) for item in quiet.models))
    mix = decide(quiet)
    assert set(mix.replicas.values()) == {0} and set(mix.quotas.values()) <= {0} and mix.value == 0
    assert [item.said("USD") for item in mix.moves] == ["2 replicas of mid drain on a100: +0.16 USD an hour"]


def test_an_hour_nobody_else_wants_goes_to_who_waits() -> None:
    mix = decide(state(idle=40, firm_1=0, firm_4=0, spot=0, deadline=30, held=30))
    used = sum(count for key, count in mix.quotas.items() if key[1] == "deadline")
    replicas = mix.replicas["mid", "a100"] + 4 * mix.replicas["large", "a100"]
    assert used + replicas + mix.quotas.get(("a100", "spot", 3.0), 0) == 40


def test_a_floor_by_hand_wins_over_better_paying_sales() -> None:
    limit = Limit("large", "a100", floor=3)
    without = decide(state(idle=16, firm_1=16, rule_1=16))
    mix = decide(state(idle=16, firm_1=16, rule_1=16, limits=(limit,)))
    assert without.replicas["large", "a100"] < 3
    assert mix.replicas["large", "a100"] == 3 and not mix.broken


def test_a_cap_by_hand_wins_over_better_paying_replicas() -> None:
    mix = decide(state(limits=(Limit("mid", None, cap=1),)))
    assert mix.replicas["mid", "a100"] == 1


def test_a_floor_that_can_not_hold_is_named_and_the_rest_is_still_decided() -> None:
    limit = Limit("large", "a100", floor=12)
    mix = decide(state(idle=40, limits=(limit,)))
    assert mix.replicas["large", "a100"] == 10
    (broken,) = mix.broken
    assert broken.limit == limit
    assert str(broken) == "floor 12 of large on a100 does not fit: 2 replicas more than idle accelerators allow"


def test_the_same_state_gives_the_same_mix_two_hundred_times() -> None:
    solver = Solver()
    first = decide(state(), solver)
    for _ in range(200):
        again = decide(state(), solver)
        assert (again.replicas, again.quotas, again.value) == (first.replicas, first.quotas, first.value)


def test_one_percent_of_noise_moves_almost_nothing() -> None:
    wide = state(idle=200, rule_1=80, rule_4=40, firm_1=10, firm_4=8, spot=8, deadline=20)
    wide = replace(wide, models=(model("mid", 70), model("large", 50, 1.8)))
    noisy = replace(wide, models=tuple(replace(item, load=tuple(x * 1.01 for x in item.load)) for item in wide.models))
    one, other = decide(wide), decide(noisy)
    size = {item.pair: item.accelerators for item in wide.fits}
    moved = sum(abs(one.replicas[pair] - other.replicas[pair]) * size[pair] for pair in one.replicas)
    assert moved <= 0.02 * 200


def test_what_has_no_figures_is_left_out_with_a_reason_and_its_replicas_stay() -> None:
    asked = state(idle=10, rule_1=10, firm_1=10)
    asked = replace(
        asked,
        models=(replace(asked.models[0], value=None), asked.models[1]),
        fits=(fit("mid", running=3), Fit("large", "a100", 4, None, 1)),
    )
    mix = decide(asked)
    assert {(item.what, item.why) for item in mix.left_out} == {
        ("model mid", "nobody stated what its tokens sell for"),
        ("mid on a100", "its model was left out"),
        ("large on a100", "its speed was not measured yet"),
    }
    assert not mix.replicas and sum(mix.quotas.values()) == 10 - 3 - 4


def test_replicas_that_stay_count_toward_a_floor_set_by_hand() -> None:
    unmeasured = replace(
        state(idle=40), fits=(Fit("large", "a100", 4, None, 1),), limits=(Limit("large", None, 1, 64),)
    )
    assert not decide(unmeasured).broken
    both = replace(unmeasured, fits=(*unmeasured.fits, fit("mid", running=0)), limits=(Limit("mid", None, 1, 64),))
    assert decide(both).replicas["mid", "a100"] >= 1 and not decide(both).broken


@pytest.mark.parametrize(
    ("price", "why"),
    [
        (None, "nobody stated a price"),
        (NAN, "its price is nan"),
        (-1.0, "its price is -1.0"),
        (1.0, "is below the 1.2"),
    ],
)
def test_an_offer_without_a_usable_price_is_left_out(price: float | None, why: str) -> None:
    asked = state()
    bad = replace(asked.pools[0].offers[0], price=price)
    asked = replace(asked, pools=(replace(asked.pools[0], offers=(bad,), cost=1.2 if price == 1.0 else 0.0),))
    mix = decide(asked)
    assert not mix.quotas and why in mix.left_out[0].why


def test_nan_never_reaches_the_solver() -> None:
    asked = state()
    for broken in (
        replace(asked, pools=(replace(asked.pools[0], idle=(NAN, *flat(1, 5))),)),
        replace(asked, models=tuple(replace(item, load=flat(NAN)) for item in asked.models)),
        replace(asked, fits=tuple(replace(item, speed=NAN) for item in asked.fits)),
    ):
        mix = decide(broken)
        assert mix.left_out and mix.value == mix.value
    limit = replace(asked.pools[0].ceilings[0], counts=flat(NAN))
    with pytest.raises(UnusableStateError, match="surplus rule's limit 1 h on a100"):
        decide(replace(asked, pools=(replace(asked.pools[0], ceilings=(limit,)),)))


def test_a_window_that_the_surplus_rule_does_not_limit_is_not_sold() -> None:
    asked = state()
    stray = Offer("firm", 24.0, Kind.WINDOW, 9.0, flat(50))
    mix = decide(replace(asked, pools=(replace(asked.pools[0], offers=(stray,)),)))
    assert not mix.quotas and mix.left_out[0].why == "the surplus rule states no limit for it"


def test_past_its_time_the_solver_has_no_plan_and_marginal_value_decides() -> None:
    mix = decide(state(), Late())
    assert mix.method == "greedy"
    assert mix.note == "the solver ended with 'Time limit reached' after 5.0 s; decided by marginal value instead"
    assert mix.value >= 0.95 * decide(state()).value
    real = decide(state(), Solver(time_limit_s=0.0))
    assert real.method in ("greedy", "program")


def test_a_pool_that_vanished_leaves_its_replicas_out() -> None:
    asked = state()
    mix = decide(replace(asked, pools=()))
    assert not mix.replicas and not mix.quotas
    assert {item.why for item in mix.left_out} == {"its pool is gone or was left out"}


def test_bids_rise_when_capacity_is_short_and_are_zero_when_it_is_not() -> None:
    short, plenty = decide(state(idle=4)), decide(state(idle=400))
    steps = state().steps
    assert short.bid("a100", 1, steps) > 1.0
    assert plenty.bid("a100", 1, steps) == plenty.bid("a100", 4, steps) == 0


def test_a_start_is_paid_off_over_hours() -> None:
    """Models that are worth a little more than spot do not start where a start takes as long as they would earn."""
    asked = state(idle=10, rule_1=0, firm_1=0, firm_4=0, spot=10, deadline=0, held=10)
    rich = model("mid", 10, 0.95)
    quick, slow = fit("mid"), replace(fit("mid"), start_hours=2.0)
    assert decide(replace(asked, models=(rich,), fits=(quick,))).replicas["mid", "a100"] > 0
    assert decide(replace(asked, models=(rich,), fits=(slow,))).replicas["mid", "a100"] == 0
    running = replace(slow, running=6)
    assert decide(replace(asked, models=(rich,), fits=(running,))).replicas["mid", "a100"] == 6


def test_the_solver_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    decide(state())
    assert capfd.readouterr().out == ""


def test_firm_sales_stay_within_the_longer_windows_limit_too() -> None:
    mix = decide(state(idle=60, rule_1=12, rule_4=5, firm_1=20, firm_4=20))
    assert mix.quotas["a100", *FIRM_4] <= 5
    assert mix.quotas["a100", *FIRM_1] + mix.quotas["a100", *FIRM_4] <= 12


def test_a_large_first_round_finds_the_same_worth_and_the_next_one_goes_on_from_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wide = replace(
        state(),
        pools=tuple(pool(f"pool-{number}", 10 + number) for number in range(12)),
        fits=tuple(fit(name, f"pool-{number}") for name in ("mid", "large") for number in range(12)),
    )
    usual = decide(wide)
    monkeypatch.setattr("sublet.allocation.mix.program.LARGE", 1)
    solver = Solver()
    first, second = decide(wide, solver), decide(wide, solver)
    assert first.method == second.method == "program"
    assert first.value == pytest.approx(usual.value, rel=1e-3)
    assert second.value == pytest.approx(first.value, rel=1e-3)
