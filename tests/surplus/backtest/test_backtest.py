"""The benchmark scores by its rules, and no policy of ours sees the future."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.surplus import series as made

from sublet.demand.feeds.csv_series import read_series
from sublet.demand.model import assemble
from sublet.surplus.backtest.backtest import backtest, makers, pieces, prepare
from sublet.surplus.backtest.baselines import BASELINES
from sublet.surplus.backtest.charts import timeline
from sublet.surplus.backtest.own import Sublet
from sublet.surplus.backtest.page import page
from sublet.surplus.backtest.scoring import (
    Book,
    Trace,
    bound,
    least_value_first,
    run,
    score,
    trace_of,
    youngest_first,
)
from sublet.values.errors import InvalidInputError


class Fixed:
    """Starts what it was told to."""

    def __init__(self, window: int, starts: dict[int, int]) -> None:
        self.windows: tuple[int, ...] = (window,)
        self._starts = starts
        self.seen: list[tuple[int, int, int]] = []

    def starts(self, t: int, book: Book) -> dict[int, int]:
        return {self.windows[0]: self._starts.get(t, 0)}

    def saw(self, t: int, finished: int, broken: int) -> None:
        self.seen.append((t, finished, broken))


def flat(in_use: list[float], capacity: float = 10) -> Trace:
    return Trace("flat", 0, np.full(len(in_use), capacity), np.array(in_use, dtype=np.float64), 0)


def test_windows_that_end_count_and_the_youngest_break() -> None:
    policy = Fixed(3, {0: 4, 1: 3})
    outcome = run(flat([0, 0, 5, 0, 0]), policy)
    tally = outcome.tallies[3]
    assert (tally.finished, tally.broken, tally.lost_hours) == (5, 2, 2)
    assert tally.honored_hours == 15
    assert tally.survival() == {1: 1.0, 2: 5 / 7, 3: 5 / 7}
    assert outcome.broken == [0, 0, 2, 0, 0]
    assert policy.seen == [(0, 0, 0), (1, 0, 0), (2, 0, 2), (3, 4, 0), (4, 1, 0)]


def test_where_every_promise_is_kept_internal_work_waits() -> None:
    outcome = run(flat([0, 0, 5, 0, 0]), Fixed(3, {0: 4, 1: 3}), keep=True)
    assert (outcome.tallies[3].finished, outcome.tallies[3].broken) == (7, 0)
    assert (outcome.displaced_hours, outcome.kept_hours) == (2.0, 21.0)


def test_a_window_that_cannot_end_is_not_started() -> None:
    assert run(flat([0, 0, 0]), Fixed(3, {1: 5})).tallies[3].finished == 0


@settings(max_examples=50)
@given(
    st.lists(st.integers(0, 12), min_size=1, max_size=9),
    st.integers(1, 4),
)
def test_the_bound_is_the_best_that_any_exact_schedule_gives(in_use: list[int], window: int) -> None:
    trace = flat([float(value) for value in in_use], 6)
    assert bound(trace, window) == _best(trace.idle.astype(int).tolist(), window)


def _best(idle: list[int], window: int) -> int:
    """By exchange the earliest start is never worse; tried here against every smaller start as well."""

    def search(t: int, left: tuple[int, ...]) -> int:
        if t + window > len(left):
            return 0
        most = max(0, min(left[t : t + window]))
        found = 0
        for start in range(most + 1) if len(left) <= 6 else (most,):
            rest = tuple(value - start if t <= i < t + window else value for i, value in enumerate(left))
            found = max(found, start * window + search(t + 1, rest))
        return found

    return search(0, tuple(idle))


@pytest.mark.parametrize("name", ["sublet", *BASELINES])
def test_truncating_the_future_changes_nothing_before(name: str) -> None:
    whole = made.trace(22)
    cut = 18 * 24 + 5
    make = makers(4, 0.01)[name]
    longer, shorter = run(whole, make(whole)), run(whole.until(cut), make(whole.until(cut)))
    # A window that can't end inside the shorter trace is not started there: the last three slots differ by rule.
    known = cut - whole.warmup - 3
    assert longer.sold[:known] == shorter.sold[:known]
    assert longer.broken[:known] == shorter.broken[:known]


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10_000), at=st.integers(15 * 24, 24 * 24), value=st.integers(0, 200))
def test_what_comes_later_never_changes_an_earlier_decision(seed: int, at: int, value: int) -> None:
    one = made.trace(25, seed=seed)
    changed = one.in_use.copy()
    changed[at:] = value
    other = Trace(one.name, one.first_hour, one.capacity, changed, one.warmup)
    first, second = Sublet(one, (4, 1)), Sublet(other, (4, 1))
    book = Book((4, 1))
    for t in range(at - 3, at + 1):
        assert first.starts(t, book) == second.starts(t, book)


def test_sublet_sells_within_the_capacity_and_beats_the_static_peak() -> None:
    trace = made.trace(35, seed=3)
    own, static = score(trace, makers(4, 0.01)["sublet"]), score(trace, makers(4, 0.01)["static_peak"])
    assert max(own.sold) <= 100
    assert own.tallies[4].honored_hours > static.tallies[4].honored_hours
    assert own.tallies[4].honored_hours <= bound(trace, 4)


def test_more_risk_sells_more_and_breaks_more() -> None:
    trace = made.trace(30, seed=5)
    tallies = [run(trace, Sublet(trace, (4,), risk)).tallies[4] for risk in (0.005, 0.02, 0.1)]
    sold = [tally.finished + tally.broken for tally in tallies]
    assert sold == sorted(sold)
    assert sold[0] < sold[-1]
    assert tallies[0].broken_per_1000 <= tallies[-1].broken_per_1000


def test_the_order_of_least_value_breaks_the_shortest_and_youngest() -> None:
    book = Book((24, 1))
    places = [(24, 23), (24, 2), (1, 0)]
    assert sorted(places, key=lambda item: least_value_first(book, *item))[0] == (1, 0)
    assert sorted(places[:2], key=lambda item: least_value_first(book, *item))[0] == (24, 23)
    assert sorted(places, key=lambda item: youngest_first(book, *item))[-1] == (24, 2)


def test_a_backtest_is_the_same_to_the_last_digit_and_makes_a_page() -> None:
    traces = [made.trace(17, seed=2), Trace("b", made.START_HOUR, *_arrays(16, 4), 14 * 24)]
    done: list[str] = []
    first = backtest(traces, (1, 4), advance=done.append)
    assert len(done) == pieces(2, 2)
    second = backtest(traces, (1, 4))
    assert json.dumps(first.as_dict()) == json.dumps(second.as_dict())
    found = first.as_dict()
    assert set(found["pooled"]) == {"sublet", *BASELINES}
    assert set(found["pooled"]["sublet"]["4h"]) >= {
        "share",
        "broken_per_1000",
        "displaced_share",
        "honored_hours",
        "bound_hours",
    }
    assert set(found["pools"]) == {"made", "b"}
    drawn = found["baseline_curves"]["4h"]
    assert set(drawn) == {*BASELINES} - {"sell_all"}
    stated = {point["quantile"]: point for point in drawn["rise_quantile"]}[0.95]
    assert stated["share"] == found["pooled"]["rise_quantile"]["4h"]["share"]
    assert not first.notes
    html = page(first, 0.01)
    assert html.count("<path d=") == len(BASELINES)
    assert html.count('<i style="background:') == len(BASELINES) + 1
    assert html.count("<svg") == 3
    assert "src=" not in html
    assert "http" not in html


def test_a_chart_never_shows_more_sold_than_there_is() -> None:
    hours = 1_000
    demand = np.where(np.arange(hours) % 2 == 0, 90.0, 10.0)
    trace = Trace("swing", 0, np.full(hours, 100.0), demand, 0)
    outcome = run(trace, Fixed(1, {t: int(100 - demand[t]) for t in range(hours)}))
    chart = timeline(trace, outcome)
    heights = {
        name: [float(point.split()[1]) for point in re.findall(r"[ML]([\d.]+ [\d.]+)", path)]
        for name, path in re.findall(r'class="(\w+)"[^>]*? d="([^"]+)"', chart)
    }
    assert min(heights["sold"]) >= min(heights["capacity"])
    assert len(set(heights["capacity"])) == 1


def test_a_window_that_fits_nowhere_is_told() -> None:
    assert backtest([made.trace(16)], (168,), curves=False).notes == [
        "no window of 168 h fits into the hours that are scored"
    ]


def _arrays(days: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    demand = made.daily(days, 50, seed)
    return np.full(demand.size, 50.0), demand


def test_a_series_too_short_or_too_torn_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="needs at least 336"):
        prepare(made.series(3))
    with pytest.raises(InvalidInputError, match="not longer than its warm-up"):
        prepare(made.series(20), warmup_days=20)
    whole = made.series(40)
    keep = np.arange(len(whole)) % 5 != 0
    keep[-1] = True
    torn = type(whole)(
        whole.pool, whole.times_us[keep], whole.capacity[keep], whole.in_use[keep], whole.pending[keep], whole.step_s
    )
    with pytest.raises(InvalidInputError, match="is missing 191 of 959 hours, 1 of them in a row from"):
        prepare(torn)
    with pytest.raises(InvalidInputError, match="a sample every 2 hours"):
        prepare(assemble("two", made.series(80).times_us[::2], *(np.ones(960) for _ in range(3))))
    trace, _ = prepare(whole)
    assert trace.warmup == 7 * 24


def test_a_gap_repeats_the_past_and_is_counted() -> None:
    whole = made.series(30)
    keep = np.ones(len(whole), dtype=bool)
    keep[300:303] = False
    torn = type(whole)(
        whole.pool, whole.times_us[keep], whole.capacity[keep], whole.in_use[keep], whole.pending[keep], whole.step_s
    )
    trace = trace_of(torn.slots(), 168)
    assert trace.bridged == 3
    assert (trace.in_use[300:303] == whole.in_use[299]).all()


TRACES = Path(os.environ.get("SUBLET_TRACES", Path(__file__).resolve().parents[3].parent / "shared" / "traces"))
# Share of the bound and broken per 1,000, pooled over the four traces, windows of 1, 4, 12 and 24 hours.
PUBLISHED = {
    "static_peak": ((0.178, 1.9), (0.188, 7.5), (0.226, 22), (0.289, 45)),
    "seasonal": ((0.459, 29), (0.391, 70), (0.341, 111), (0.320, 177)),
    "rise_quantile": ((0.716, 8.7), (0.503, 13.6), (0.345, 20), (0.387, 100)),
    "gaussian": ((0.741, 11), (0.589, 22), (0.451, 34), (0.530, 164)),
    "gaussian_feedback": ((0.828, 68), (0.636, 59), (0.517, 78), (0.607, 237)),
    "sell_all": ((0.942, 58), (0.957, 204), (0.964, 480), (0.968, 705)),
}


@pytest.mark.real
@pytest.mark.skipif(not (TRACES / "a100.csv").is_file(), reason="the traces are not beside the project")
def test_the_baselines_are_the_published_ones_to_three_digits() -> None:
    warmups = {"philly": 14, "earth": 7}
    traces = [
        trace_of(read_series(TRACES / f"{name}.csv").slots(), warmups.get(name, 28) * 24)
        for name in ("a100", "venus", "earth", "philly")
    ]
    for name, cells in PUBLISHED.items():
        for window, (share, broken) in zip((1, 4, 12, 24), cells, strict=True):
            outcomes = [run(trace, BASELINES[name](trace, window)).tallies[window] for trace in traces]
            hours = sum(bound(trace, window) for trace in traces)
            finished = sum(tally.finished for tally in outcomes)
            lost = sum(tally.broken for tally in outcomes)
            assert finished * window / hours == pytest.approx(share, abs=0.0006), (name, window)
            assert 1000 * lost / (finished + lost) == pytest.approx(broken, abs=0.5 if broken >= 10 else 0.05)


@pytest.mark.real
@pytest.mark.skipif(not (TRACES / "a100.csv").is_file(), reason="the traces are not beside the project")
@pytest.mark.parametrize("window", [1, 4, 12, 24])
def test_both_halves_of_the_traces_break_no_more_than_was_promised(window: int) -> None:
    warmups = {"philly": 14, "earth": 7}
    sums = [[0, 0], [0, 0]]
    for name in ("a100", "venus", "earth", "philly"):
        whole = trace_of(read_series(TRACES / f"{name}.csv").slots(), warmups.get(name, 28) * 24)
        first = whole.until(whole.warmup + (len(whole) - whole.warmup) // 2)
        second = Trace(name, whole.first_hour, whole.capacity, whole.in_use, len(first))
        for place, (part, known) in enumerate(((first, first), (second, whole))):
            tally = run(part, Sublet(known, (window,))).tallies[window]
            sums[place][0] += tally.broken
            sums[place][1] += tally.finished + tally.broken
    assert all(broken <= 0.010 * sold for broken, sold in sums)


@pytest.mark.real
@pytest.mark.skipif(not (TRACES / "a100.csv").is_file(), reason="the traces are not beside the project")
def test_the_ladder_sells_more_hours_than_windows_of_one_hour_alone_within_the_risk_of_each_class() -> None:
    windows = (1, 4, 12, 24)
    warmups = {"philly": 14, "earth": 7}
    honored = {(part, mix): 0 for part in range(3) for mix in ((1,), windows)}
    tallies = {(part, window): [0, 0] for part in range(3) for window in windows}
    for name in ("a100", "venus", "earth", "philly"):
        whole = trace_of(read_series(TRACES / f"{name}.csv").slots(), warmups.get(name, 28) * 24)
        first = whole.until(whole.warmup + (len(whole) - whole.warmup) // 2)
        second = Trace(name, whole.first_hour, whole.capacity, whole.in_use, len(first))
        for place, (part, known) in enumerate(((whole, whole), (first, first), (second, whole))):
            for mix in ((1,), windows):
                outcome = run(part, Sublet(known, mix), least_value_first)
                honored[place, mix] += sum(tally.honored_hours for tally in outcome.tallies.values())
                for window, tally in outcome.tallies.items():
                    if mix == windows:
                        tallies[place, window][0] += tally.broken
                        tallies[place, window][1] += tally.finished + tally.broken
    for place in range(3):
        assert honored[place, windows] > honored[place, (1,)]
        assert all(tallies[place, window][1] for window in windows)
    # What is promised holds over the whole; a half of it may come out above, as one-hour windows of the second do at 10.7.
    assert all(broken <= 0.010 * sold for (part, _), (broken, sold) in tallies.items() if part == 0)
    assert all(broken <= 0.012 * sold for broken, sold in tallies.values())
