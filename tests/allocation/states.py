"""States to decide on: a made-up pool with every kind of product, and random ones for property tests."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import strategies as st

from sublet.allocation.mix.model import Ceiling, Fit, Kind, Limit, ModelState, Offer, PoolState, State

AT = datetime(2026, 11, 2, 8, tzinfo=UTC)
STEPS = (1.0,) * 6
FIRM_1 = ("firm", 1.0)
FIRM_4 = ("firm", 4.0)


def flat(value: float, count: int = 6) -> tuple[float, ...]:
    return (float(value),) * count


def offers(
    firm_1: float = 4, firm_4: float = 3, spot: float = 2, deadline: float = 3, held: float = 5
) -> tuple[Offer, ...]:
    return (
        Offer(*FIRM_1, Kind.WINDOW, 1.5, flat(firm_1)),
        Offer(*FIRM_4, Kind.WINDOW, 1.3, flat(firm_4)),
        Offer("spot", 3.0, Kind.EVICTABLE, 0.7, flat(spot), held=held),
        Offer("deadline", 1.0, Kind.BACKLOG, 0.6, flat(deadline), held=held),
    )


def pool(name: str = "a100", idle: float = 40, rule_1: float = 20, rule_4: float = 10, **given: float) -> PoolState:
    ceilings = (
        Ceiling("1 h", (FIRM_1, FIRM_4), flat(rule_1)),
        Ceiling("4 h", (FIRM_4,), flat(rule_4)),
    )
    return PoolState(name, flat(idle), offers(**given), ceilings, energy=0.08)


def model(name: str = "mid", load: float = 10, value: float = 1.62) -> ModelState:
    """`load` in accelerators at full speed; `value` per accelerator-hour when full."""
    return ModelState(name, flat(load), value, flat(0.2))


def fit(model_name: str = "mid", pool_name: str = "a100", accelerators: int = 1, running: int = 0) -> Fit:
    return Fit(model_name, pool_name, accelerators, 1.0, running)


def state(
    *, limits: tuple[Limit, ...] = (), idle: float = 40, rule_1: float = 20, rule_4: float = 10, **given: float
) -> State:
    """One pool with every product, and two models: one of small replicas, one of large."""
    return State(
        AT,
        STEPS,
        (pool("a100", idle, rule_1, rule_4, **given),),
        (model("mid", 10), model("large", 8, 1.8)),
        (fit("mid", running=2), fit("large", accelerators=4)),
        limits,
    )


counts = st.integers(0, 60).map(float)
prices = st.integers(0, 300).map(lambda cents: cents / 100)


@st.composite
def states(draw: st.DrawFn) -> State:
    """Up to three pools and models with whole numbers, limits by hand included."""
    names = [f"pool-{number}" for number in range(draw(st.integers(1, 3)))]
    pools = []
    for name in names:
        drawn = pool(
            name, draw(counts), draw(counts), draw(counts), firm_1=draw(counts), firm_4=draw(counts), spot=draw(counts),
            deadline=draw(counts), held=draw(counts),
        )  # fmt: skip
        pools.append(drawn)
    models = [model(f"model-{number}", draw(counts), draw(prices)) for number in range(draw(st.integers(0, 3)))]
    fits = [
        Fit(each.name, name, draw(st.sampled_from([1, 2, 4, 8])), draw(st.sampled_from([0.25, 0.5, 1.0])), draw(st.integers(0, 4)))
        for each in models
        for name in names
        if draw(st.booleans())
    ]  # fmt: skip
    limits = tuple(
        Limit(each.name, draw(st.sampled_from([None, *names])), floor, floor + draw(st.integers(0, 5)))
        for each in models
        if draw(st.booleans())
        for floor in [draw(st.integers(0, 3))]
    )
    return State(AT, STEPS, tuple(pools), tuple(models), tuple(fits), limits)
