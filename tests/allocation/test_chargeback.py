"""Charge-back: every accelerator in one state in every second, and teams that add up to the cent."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sublet.allocation.chargeback.book import Book, Capacity, Span, Use, book, shares
from sublet.allocation.chargeback.model import Month
from sublet.allocation.chargeback.statement import Basis, Hour, Statement, statement
from sublet.allocation.errors import UnusableStateError
from sublet.values.clock import EPOCH
from sublet.values.errors import InvalidInputError
from sublet.values.money import NANO

TEAMS = ("pretraining", "product", "research", "safety")
HOUR = 3600


@given(
    st.integers(0, 20),
    st.lists(
        st.builds(
            lambda use, start, length, count, team: Span(use, start, start + length, count, team),
            st.sampled_from([item for item in Use if item is not Use.UNSOLD]),
            st.integers(0, 3000), st.integers(0, 3000), st.integers(0, 30), st.sampled_from(TEAMS),
        ),
        max_size=12,
    ),
)  # fmt: skip
def test_whatever_is_stated_adds_up_to_all_accelerator_seconds(count: int, spans: list[Span]) -> None:
    found = book([Capacity(0, 1800, count), Capacity(1800, HOUR, count // 2)], spans)
    assert sum(found.seconds.values()) == found.capacity_s == 1800 * count + 1800 * (count // 2)
    assert found.excess_s + found.capacity_s - found.of(Use.UNSOLD) == sum(
        item.accelerators * (item.end_s - item.start_s) for item in spans
    )


def test_draining_inside_the_owners_hour_counts_once_and_a_queue_is_no_use() -> None:
    spans = [Span(Use.INTERNAL, 0, HOUR, 5, "product"), Span(Use.DRAINING, 0, 120, 2), Span(Use.EXTERNAL, 0, HOUR, 2)]
    found = book([Capacity(0, HOUR, 4)], spans)
    assert found.of(Use.INTERNAL) == 4 * HOUR and found.of(Use.DRAINING) == found.of(Use.EXTERNAL) == 0
    assert found.excess_s == HOUR + 2 * 120 + 2 * HOUR


def test_capacity_that_overlaps_is_refused() -> None:
    with pytest.raises(UnusableStateError):
        book([Capacity(0, 20, 1), Capacity(10, 30, 1)], [])
    with pytest.raises(UnusableStateError):
        book([Capacity(0, 20, 1)], [Span(Use.EXTERNAL, 10, 5, 1)])


@given(st.integers(-(10**15), 10**15), st.dictionaries(st.sampled_from("abcdefgh"), st.integers(0, 10**9)))
def test_shares_add_up_and_are_nearly_in_proportion(total: int, weights: dict[str, int]) -> None:
    found, whole = shares(total, weights), sum(weights.values())
    assert sum(found.values()) == (total if whole else 0)
    for name, weight in weights.items():
        assert whole == 0 or abs(found[name] * whole - total * weight) < whole


def month(seed: int) -> list[Hour]:
    """A made-up owner of 64 accelerators with four teams: use that wanders, claims that stay partly idle, leases, replicas that
    start and drain, repairs, and capacity that grows on the tenth day."""
    chance, hours = random.Random(seed), []
    for number in range(30 * 24):
        begin = number * HOUR
        size = 64 if number < 240 else 72
        spans = [Span(Use.UNAVAILABLE, begin, begin + chance.randrange(HOUR), chance.randrange(3))]
        for place, team in enumerate(TEAMS):
            spans.append(Span(Use.INTERNAL, begin, begin + HOUR, chance.randrange(3 + 5 * place), team))
            spans.append(Span(Use.WITHHELD, begin + 600, begin + HOUR, chance.randrange(3), team))
        spans.append(Span(Use.EXTERNAL, begin, begin + HOUR, chance.randrange(24), product="notice"))
        spans.append(Span(Use.STARTING, begin, begin + 180, 4, product="model"))
        spans.append(Span(Use.EXTERNAL, begin + 180, begin + HOUR, 4, product="model"))
        spans.append(Span(Use.DRAINING, begin, begin + 90, chance.randrange(4), product="model"))
        displaced = chance.randrange(60 * NANO)
        found = book([Capacity(begin, begin + HOUR, size)], spans)
        hours.append(Hour("h100", found, 1_111_111_111, 1_987_654_321, displaced, {"safety": chance.randrange(300)}))
    return hours


@pytest.mark.parametrize("basis", list(Basis))
def test_a_month_of_four_teams_adds_up_to_the_hour_and_the_cent(basis: Basis) -> None:
    hours = month(11)
    found: Statement = statement(hours, basis)
    assert sum(found.book.seconds.values()) == found.book.capacity_s == (240 * 64 + 480 * 72) * HOUR
    assert [line.team for line in found.lines] == list(TEAMS)
    assert sum(line.used_s for line in found.lines) == found.book.of(Use.INTERNAL)
    assert sum(line.claimed_idle_s for line in found.lines) == sum(
        count for (use, team, _), count in found.book.seconds.items() if use is Use.WITHHELD and team
    )
    assert sum(line.charge.nano for line in found.lines) == found.total.nano
    assert all(line.charge.nano % 10_000_000 == 0 and line.charge.nano > 0 for line in found.lines)
    assert found.lines[3].patience_s > 0 == found.lines[0].patience_s
    if basis is Basis.OPPORTUNITY:
        assert abs(found.total.nano - sum(hour.displaced_nano for hour in hours)) <= NANO // 100


def test_an_hour_that_could_not_be_sold_costs_nothing_at_opportunity_price() -> None:
    found = book([Capacity(0, HOUR, 4)], [Span(Use.INTERNAL, 0, HOUR, 4, "product")])
    assert statement([Hour("h100", found, NANO, NANO, 0)], Basis.OPPORTUNITY).total.nano == 0
    assert statement([Hour("h100", found, NANO, NANO, 0)], Basis.COST).total.nano == 4 * NANO


def test_work_of_no_known_team_is_charged_to_nobody() -> None:
    spans = [Span(Use.INTERNAL, 0, HOUR, 3), Span(Use.INTERNAL, 0, HOUR, 1, "product")]
    found = statement([Hour("h100", book([Capacity(0, HOUR, 4)], spans), NANO, NANO, 8 * NANO)], Basis.OPPORTUNITY)
    assert [(line.team, line.charge.nano) for line in found.lines] == [("product", 2 * NANO)]


def test_no_hours_no_charge() -> None:
    assert statement([], Basis.COST).lines == () and Book().teams == []


@pytest.mark.parametrize("label", ["0001-01", "1969-12", "2026-13", "9999-12", "2026-1x", "november"])
def test_what_is_no_month_is_refused_in_words(label: str) -> None:
    with pytest.raises(InvalidInputError, match="must be a year and a month, such as 2026-11"):
        Month.labeled(label, EPOCH)


def test_a_month_is_whole_in_utc() -> None:
    found = Month.labeled("2026-12", EPOCH)
    assert (found.label, found.start.isoformat()) == ("2026-12", "2026-12-01T00:00:00+00:00")
    assert found.end.isoformat() == "2027-01-01T00:00:00+00:00" and Month.labeled("", EPOCH).label == "1970-01"
