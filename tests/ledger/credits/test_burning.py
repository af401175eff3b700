"""Burn-down against a second implementation: exact fractions, single events in the order of time, sharing nothing."""

from __future__ import annotations

import random
from collections import defaultdict
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from sublet.ledger.credits.burning import Grant, burn

MONTH = 0
grants_of = st.lists(
    st.tuples(st.booleans(), st.integers(1, 80), st.integers(1, 28), st.none() | st.integers(1, 15)), max_size=5
)
usage_of = st.lists(st.tuples(st.integers(1, 31), st.integers(1, 40)), max_size=8)


@given(grants=grants_of, usage=usage_of, percent=st.sampled_from([0, 7, 19]), seed=st.integers(0, 99))
def test_sums_between_boundaries_burn_as_single_events_do_in_any_order(
    grants: list[tuple[bool, int, int, int | None]], usage: list[tuple[int, int]], percent: int, seed: int
) -> None:
    given = [
        Grant(f"g{number}", nano * 10**9, day, None if lasts is None else day + lasts, day, paid, paid)
        for number, (paid, nano, day, lasts) in enumerate(grants)
    ]
    factor = 1 + Fraction(percent, 100)
    left = {grant.id: Fraction(grant.nano) for grant in given}
    used: dict[str, Fraction] = defaultdict(Fraction)
    for day, quantity in sorted(usage):
        net = Fraction(quantity * 10**9)
        live = [grant for grant in given if grant.starts <= day and (grant.ends is None or day < grant.ends)]
        for grant in sorted(live, key=lambda g: (g.ends is None, g.ends or 0, g.paid, g.starts, g.id)):
            rate = factor if grant.paid else Fraction(1)
            part = min(net * rate, left[grant.id])
            left[grant.id] -= part
            used[grant.id] += part
            net -= part / rate
    random.Random(seed).shuffle(usage)
    sums: dict[tuple[int, int], int] = defaultdict(int)
    for day, quantity in usage:
        sums[MONTH, day] += quantity * 10**9
    burnt = burn(given, sums, {MONTH: Fraction(percent)})
    for grant in given:
        assert abs(burnt.of(grant.id) - used[grant.id]) <= 20
        assert burnt.of(grant.id) + burnt.left[grant.id] == grant.nano


def test_w3_a_deposit_of_100_covers_net_and_tax() -> None:
    grant = Grant("m", 100 * 10**9, 0, None, 0, True, True)
    burnt = burn([grant], {(0, 5): 90 * 10**9}, {0: Fraction(19)})
    assert burnt.of("m") == 100 * 10**9
    assert burn([grant], {(0, 5): 8403 * 10**7}, {0: Fraction(19)}).left["m"] == 100 * 10**9 - 9999570000 * 10


def test_an_amount_below_zero_lowers_what_came_before_it() -> None:
    grant = Grant("m", 100, 0, 10, 0)
    assert burn([grant], {(0, 5): 60, (0, 20): -25}, {}).used == {("m", 0): 35}
    assert burn([grant], {(0, 5): 60, (0, 20): -70}, {}).used == {}
