"""What was really earned: prices, concentration, contracts and forecasts out of plain records."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sublet.desk.actuals import (
    Actuals,
    CreditRecord,
    ForecastRecord,
    OtherRecord,
    PoolRecord,
    UsageRecord,
    commitment,
    concentration,
    contract_book,
    forecast_scores,
    gather,
    pool_lines,
    raw_against_managed,
    worth,
)
from sublet.desk.counterparties import Contract, RenewalStress
from sublet.desk.statement import Statement
from sublet.values.errors import InvalidInputError
from sublet.values.windows import Window

WINDOW = Window(datetime(2026, 6, 1, tzinfo=UTC), datetime(2026, 7, 1, tzinfo=UTC))
NANO = 10**9
H100 = PoolRecord("h100", "H100", 100, 1275.0, 10_000.0)


def test_worth_gives_price_per_hour_and_per_it_watt_year_with_two_sourced_comparables() -> None:
    actuals = gather("lab", WINDOW, [H100], [UsageRecord("h100", "raw", "acme", 1000.0, 2500 * NANO)])

    line = worth(actuals)

    assert line.per_accelerator_hour == pytest.approx(2.5, rel=1e-12)
    assert line.per_watt_year_it == pytest.approx(2.5 * 8760 / 1275, rel=1e-12)
    assert len(line.comparables) == 2
    assert all(other.source and other.date for other in line.comparables)
    assert "2.5 USD per accelerator-hour" in line.sentence
    assert "2026-07-02" in line.sentence


def test_credits_for_broken_promises_lower_what_was_earned_and_not_the_price() -> None:
    usage = [
        UsageRecord("h100", "raw", "acme", 1000.0, 2500 * NANO + 1),
        UsageRecord("h100", "managed", "b", 1.0, 0),
    ]
    owed = [CreditRecord("h100", 400 * NANO + 3), CreditRecord("", 100 * NANO)]
    actuals = gather("lab", WINDOW, [H100], usage, credits=owed)

    line = worth(actuals)

    assert actuals.total.credits_nano == 500 * NANO + 3
    assert (line.revenue, line.credits, line.earned) == pytest.approx((2500, 500, 2000), rel=1e-9)
    assert line.per_accelerator_hour == pytest.approx(2500 / 1001)
    assert line.earned_per_watt_year_it == pytest.approx(2000 * 8760 / (1001 * 1275))
    assert "Earned 2,000.00 USD" in line.sentence
    assert "(2,500.00 of revenue less 500.00 credited for broken promises)" in line.sentence
    assert f"{line.earned_per_watt_year_it:.4g} after the credits" in line.sentence
    raw = {row.channel: row for row in pool_lines(actuals)}["raw"]
    assert (raw.revenue, raw.credits, raw.earned) == pytest.approx((2500, 400, 2100), rel=1e-9)
    assert {row.channel: row for row in pool_lines(actuals)}["managed"].credits == 0.0


def test_revenue_that_no_pool_has_is_earned_and_changes_no_price() -> None:
    usage = [UsageRecord("h100", "raw", "acme", 1000.0, 2500 * NANO)]
    others = [OtherRecord("fees", "acme", 50 * NANO), OtherRecord("energy", "b", 3 * NANO + 1)]
    actuals = gather("lab", WINDOW, [H100], usage, others=others, credits=[CreditRecord("h100", 3 * NANO)])

    line = worth(actuals)

    assert (line.revenue, line.other, line.earned) == pytest.approx((2500, 53, 2550), rel=1e-9)
    assert line.per_accelerator_hour == 2.5
    assert (
        "(2,500.00 of revenue and 53.00 from fees, commitments, energy and usage of no known pool less" in line.sentence
    )
    assert actuals.others == {"fees": 50 * NANO, "energy": 3 * NANO + 1}
    assert concentration(actuals).revenue == {"acme": 2550.0, "b": 3.000000001}
    alone = worth(gather("lab", WINDOW, [H100], [], others=others))
    assert "53.00 USD came from fees" in alone.sentence and alone.earned == 53.000000001


def test_a_statement_says_by_how_much_the_journal_differs_and_why() -> None:
    parts = {"leases": 10 * NANO, "fees": 2, "penalties": -3}
    same = Statement("EUR", parts, 10 * NANO - 1)
    assert (same.total_nano, same.revenue_nano, same.unexplained_nano) == (10 * NANO - 1, 10 * NANO + 2, 0)
    assert same.sentence == "The total is what the journal has, to the billionth."
    moved = Statement("EUR", parts, 7 * NANO - 1, {"used in this period, booked in another one": -3 * NANO}, 2)
    assert moved.unexplained_nano == 0
    assert moved.sentence == (
        "The journal differs by -3.000000000 EUR, for the reasons above and no others. "
        "2 usage events that wait to be priced are in neither."
    )
    broken = Statement("EUR", parts, 10 * NANO)
    assert broken.unexplained_nano == 1
    assert "of which 0.000000001 can't be explained: run `sublet ledger prove`" in broken.sentence
    assert broken.as_dict()["unexplained"] == "0.000000001"


def test_credits_alone_are_told_too() -> None:
    line = worth(gather("lab", WINDOW, [H100], [], credits=[CreditRecord("h100", NANO // 2)]))

    assert line.earned == -0.5
    assert line.sentence.endswith("there is no realized price. 0.5 USD were credited for broken promises.")


def test_without_credits_nothing_is_said_of_them() -> None:
    line = worth(gather("lab", WINDOW, [H100], [UsageRecord("h100", "raw", "acme", 1.0, NANO)]))

    assert line.earned == line.revenue == 1.0
    assert "credit" not in line.sentence


def test_worth_of_nothing_says_so_instead_of_dividing_by_zero() -> None:
    line = worth(gather("lab", WINDOW, [H100], []))

    assert line.per_accelerator_hour is None
    assert line.sentence == "Nothing was sold in this window, so there is no realized price."


def test_price_per_watt_year_over_two_pools_weighs_by_watt_hours() -> None:
    small = PoolRecord("a100", "A100", 10, 812.5, 100.0)
    usage = [
        UsageRecord("h100", "raw", "acme", 10.0, 30 * NANO),
        UsageRecord("a100", "managed", "acme", 20.0, 20 * NANO),
    ]

    line = worth(gather("lab", WINDOW, [H100, small], usage))

    assert line.per_watt_year_it == pytest.approx(50 * 8760 / (10 * 1275 + 20 * 812.5), rel=1e-12)


def test_pool_lines_show_utilization_of_offered_hours_and_both_channels() -> None:
    usage = [
        UsageRecord("h100", "raw", "acme", 3000.0, 6000 * NANO),
        UsageRecord("h100", "managed", "b", 1000.0, 4000 * NANO),
    ]

    lines = {line.channel: line for line in pool_lines(gather("lab", WINDOW, [H100], usage))}

    assert lines["raw"].utilization == lines["managed"].utilization == pytest.approx(0.4)
    assert lines["raw"].per_accelerator_hour == pytest.approx(2.0)
    assert lines["managed"].per_offered_watt_year == pytest.approx(4000 * 8760 / (10_000 * 1275))


def test_a_pool_that_offered_nothing_has_no_utilization() -> None:
    idle = PoolRecord("h100", "H100", 100, 1275.0, 0.0)

    line = pool_lines(gather("lab", WINDOW, [idle], [UsageRecord("h100", "raw", "acme", 1.0, NANO)]))[0]

    assert line.utilization is None
    assert line.per_offered_watt_year is None


def test_raw_against_managed_by_pool() -> None:
    usage = [UsageRecord("h100", "raw", "acme", 10.0, 20 * NANO), UsageRecord("h100", "managed", "b", 10.0, 30 * NANO)]

    row = raw_against_managed(gather("lab", WINDOW, [H100], usage))[0]

    assert (row.raw, row.managed, row.verdict) == (pytest.approx(2.0), pytest.approx(3.0), "managed earned more")


@pytest.mark.parametrize(
    ("record", "part"),
    [
        (UsageRecord("b200", "raw", "acme", 1.0, 1), "pool 'b200'"),
        (UsageRecord("h100", "spot", "acme", 1.0, 1), "write raw or managed"),
        (UsageRecord("h100", "raw", "acme", -1.0, 1), "hours can't be negative"),
    ],
)
def test_bad_usage_is_refused_with_its_row(record: UsageRecord, part: str) -> None:
    good = UsageRecord("h100", "raw", "acme", 1.0, 1)

    with pytest.raises(InvalidInputError, match="usage row 2") as refused:
        gather("lab", WINDOW, [H100], [good, record])

    assert part in refused.value.message


def test_watts_of_zero_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="IT level, above zero"):
        PoolRecord("h100", "H100", 1, 0.0, 1.0)


@given(st.lists(st.integers(min_value=1, max_value=10**15), min_size=1, max_size=20))
def test_concentration_shares_sum_to_one_and_the_index_lies_between_its_limits(revenues: list[int]) -> None:
    usage = [UsageRecord("h100", "raw", f"c{n}", 1.0, revenue) for n, revenue in enumerate(revenues)]

    found = concentration(gather("lab", WINDOW, [H100], usage))

    assert sum(found.shares.values()) == pytest.approx(1.0)
    assert found.hhi is not None
    assert 1 / len(revenues) - 1e-9 <= found.hhi <= 1 + 1e-9
    assert found.effective_customers == pytest.approx(1 / found.hhi)


@given(st.lists(st.integers(min_value=-(10**18), max_value=10**18), max_size=30))
def test_revenue_is_summed_exactly_in_nano_units(revenues: list[int]) -> None:
    usage = [UsageRecord("h100", "raw", "acme", 1.0, revenue) for revenue in revenues]

    assert gather("lab", WINDOW, [H100], usage).total.revenue_nano == sum(revenues)


def test_a_lease_of_hours_is_no_contract_that_is_renewed() -> None:
    """A lease of 1.60 USD for a day was told as a yearly loss of 210 USD."""
    hours = Window(datetime(2026, 7, 1, tzinfo=UTC), datetime(2026, 7, 1, 8, tzinfo=UTC))
    month = Window(datetime(2026, 7, 1, tzinfo=UTC), datetime(2026, 7, 31, tzinfo=UTC))
    for window, years in ((hours, []), (month, [2026, 2027])):
        actuals = gather("lab", WINDOW, [H100], [], contracts=[commitment("a", "acme", 1600 * NANO // 1000, window)])
        book = contract_book(actuals, date(2026, 6, 30), RenewalStress(renew=0.8, reprice=0.8))
        assert list(book.stress) == years and book.backlogs.signing == pytest.approx(1.6)
    assert book.stress[2027] < 1.6 * 12.2 * 0.37


def test_contract_book_leaves_out_what_has_ended_and_loses_nothing_before_an_end() -> None:
    contracts = [
        Contract("old", "acme", 5.0, date(2024, 1, 1), date(2026, 1, 1)),
        Contract("new", "acme", 20.0, date(2026, 1, 1), date(2028, 1, 1), is_competitor=True),
    ]
    actuals = gather("lab", WINDOW, [H100], [], contracts=contracts)

    book = contract_book(actuals, date(2027, 1, 1), RenewalStress(renew=0.5, reprice=0.8, renew_competitor=0.0))

    assert book.backlogs.signing == 20.0
    assert book.backlogs.remaining == pytest.approx(10.0)
    assert book.backlogs.performance_obligation is None
    assert book.ladder == {2028: {"acme": 20.0}}
    assert book.stress[2027] == 0.0
    assert book.stress[2029] == pytest.approx(10.0)
    assert book.remaining_years == pytest.approx(1.0)


def test_forecast_scores_tell_bias_error_and_coverage() -> None:
    moment = datetime(2026, 6, 1, tzinfo=UTC)
    forecasts = [
        ForecastRecord("h100", moment, 1, 5, 9, 7),
        ForecastRecord("h100", moment, 1, 5, 9, 1),
        ForecastRecord("h100", moment, 4, 5, 6, 9),
    ]

    score = forecast_scores(gather("lab", WINDOW, [H100], [], forecasts=forecasts))[0]

    assert (score.windows, score.bias, score.absolute_error) == (3, pytest.approx(-2 / 3), pytest.approx(10 / 3))
    assert score.coverage == pytest.approx(2 / 3)


def test_gather_takes_a_stream() -> None:
    stream = (UsageRecord("h100", "raw", f"c{n % 7}", 0.5, 10**9) for n in range(1000))

    actuals: Actuals = gather("lab", WINDOW, [H100], stream)

    assert actuals.usage_rows == 1000
    assert actuals.total.revenue == 1000.0


def test_a_lease_of_hours_is_a_contract_of_the_days_that_it_touches() -> None:
    start = datetime(2026, 6, 3, 22, tzinfo=UTC)

    found = commitment("lse_1", "acme", 3 * NANO, Window.starting(start, 4 * 3600))

    assert (found.value, found.start, found.last_day) == (3.0, date(2026, 6, 3), date(2026, 6, 5))
    assert commitment("lse_2", "acme", NANO, Window.starting(start, 2 * 3600)).last_day == date(2026, 6, 4)
