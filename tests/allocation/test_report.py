"""The worth of a past hour, and the causes of what a week did not earn."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from tests.allocation.states import fit, model, pool, state

from sublet.allocation.chargeback.book import Book, Capacity, Span, Use, book
from sublet.allocation.chargeback.displaced import displaced
from sublet.allocation.mix.program import Solver
from sublet.allocation.report.hours import HourWorth, worth_of
from sublet.allocation.report.weeks import CAUSES, Earnings, Week, week_of
from sublet.values.money import NANO

HOUR = 3600
AT = datetime(2026, 11, 4, 17, tzinfo=UTC)


def hour(internal: int = 20, mid: int = 10, lease: int = 6, on_sale: int = 4, size: int = 50) -> Book:
    """An hour of a pool of fifty: the owner, one model and leases; what is not on sale is withheld."""
    spans = [
        Span(Use.INTERNAL, 0, HOUR, internal),
        Span(Use.EXTERNAL, 0, HOUR, mid, product="model mid"),
        Span(Use.EXTERNAL, 0, HOUR, lease, product="lease firm"),
    ]
    return book([Capacity(0, HOUR, size)], spans, [Capacity(0, HOUR, on_sale)])


def test_each_step_of_hindsight_is_worth_no_more_than_the_one_before() -> None:
    found = worth_of(state(), "a100", {"a100": hour()}, Solver())
    assert found is not None and found.attainable > found.sellable >= found.standing > 0
    nothing_withheld = worth_of(state(), "a100", {"a100": hour(on_sale=14)}, Solver())
    assert nothing_withheld is not None
    assert nothing_withheld.attainable == pytest.approx(nothing_withheld.sellable)
    # Ten accelerators of a model that few call are better rented to others.
    idle_model = replace(state(), models=(model("mid", 0.1), model("large", 8, 1.8)))
    misjudged = worth_of(idle_model, "a100", {"a100": hour()}, Solver())
    assert misjudged is not None and misjudged.sellable - misjudged.standing > 5
    assert worth_of(state(), "elsewhere", {"elsewhere": hour()}, Solver()) is None


def test_a_models_load_is_divided_by_where_its_replicas_ran() -> None:
    two = replace(
        state(),
        pools=(pool("a100"), pool("b200")),
        models=(model("mid", 20, 3.0),),
        fits=(fit("mid", "a100"), fit("mid", "b200")),
    )
    here = worth_of(two, "a100", {"a100": hour(mid=10), "b200": hour(mid=0)}, Solver())
    both = worth_of(two, "a100", {"a100": hour(mid=10), "b200": hour(mid=10)}, Solver())
    assert here is not None and both is not None and here.attainable > both.attainable


def test_what_could_not_be_sold_displaces_nothing_and_use_displaces_less_than_its_last_hour_suggests() -> None:
    solver = Solver()
    unwanted = state(firm_1=0, firm_4=0, spot=0, deadline=0, held=0)
    unwanted = replace(unwanted, models=(model("mid", 0.0), model("large", 0.0)))
    assert displaced(unwanted, {"a100": hour()}, solver) == {"a100": 0}
    one, all_of_it = (displaced(state(), {"a100": hour(internal=count)}, solver)["a100"] for count in (1, 34))
    assert one is not None and all_of_it is not None and 0 < all_of_it < 34 * one
    assert displaced(state(), {"unknown": hour()}, solver) == {"unknown": None}
    assert displaced(state(), {"a100": hour(internal=0)}, solver) == {"a100": 0}
    assert one < 2 * NANO


def test_the_causes_of_a_week_add_up_to_what_was_not_earned() -> None:
    week = Week("pol_1", week_of(AT), "USD", 700.0, 0.05)
    week.add(hour(), HourWorth(60.0, 50.0, 44.0, 2.0))
    week.add(hour(), None)
    found = week.as_dict("a100", Earnings({"raw": 20.0, "managed": 40.0}, 3.0))
    assert found["hours"] == 2 and found["valued_hours"] == 1
    # Two hours of sixteen accelerators in use, at 0.05 of energy; the hour that nobody valued counts as the other one.
    assert found["realized"] == pytest.approx(60 - 3 - 2 * 16 * 0.05)
    assert found["attainable"] == pytest.approx(124.0)
    assert sum(found["lost"].values()) == pytest.approx(found["attainable"] - found["realized"], abs=1e-4)
    assert found["lost"] | {"unsold": 0} == {
        "withheld": 20.0, "load_misjudged": 12.0, "unsold": 0, "broken": 3.0, "priced_low": 4.0
    }  # fmt: skip
    assert tuple(found["lost"]) == CAUSES
    raw, managed = found["uses"]
    assert (raw["accelerator_hours"], managed["accelerator_hours"]) == (12.0, 20.0)
    assert managed["per_accelerator_hour"] == 2.0
    assert managed["per_watt_year"] == pytest.approx(2.0 * 8760 / 700, abs=1e-5)


def test_without_a_valued_hour_nobody_says_what_was_attainable() -> None:
    week = Week("pol_1", week_of(AT), "USD", 700.0, 0.0)
    week.add(hour(), None)
    found = week.as_dict("a100", Earnings())
    assert found["attainable"] is None and found["share"] is None and found["lost"] is None


def test_weeks_begin_on_monday() -> None:
    assert week_of(AT) == datetime(2026, 11, 2, tzinfo=UTC)
    assert week_of(AT + timedelta(days=5)) == datetime(2026, 11, 9, tzinfo=UTC)
