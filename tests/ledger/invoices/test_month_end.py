"""Months close by themselves: each once, oldest first, after the grace, whatever kills or repeats it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from sublet.ledger.invoices import month_end
from sublet.ledger.invoices.closing import PeriodOpenError
from sublet.ledger.invoices.month_end import close_due
from sublet.ledger.model import UsageEvent
from sublet.ledger.service import Ledger
from sublet.values.clock import SimulatedClock

Used = Callable[..., UsageEvent]
GRACE = timedelta(hours=48)


def at(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[arg-type]


def closed(ledger: Ledger) -> list[tuple[str, bool]]:
    return [(done.period.label, done.invoice is not None) for done in close_due(ledger, GRACE)]


def test_a_month_is_closed_when_late_usage_had_its_time(
    priced: Ledger, bolt: str, used: Used, clock: SimulatedClock
) -> None:
    clock.set(at(2026, 3, 20))
    priced.take_now([used(bolt, "a", 5_000_000, at=at(2026, 3, 19))])
    clock.set(at(2026, 4, 2, 23, 59))
    close_due(priced, GRACE)
    assert priced.invoices(bolt) == []
    late = used(bolt, "late", 5_000_000, at=at(2026, 3, 31))
    priced.take_now([late])
    clock.set(at(2026, 4, 3))
    assert ("2026-03", True) in closed(priced)
    (invoice,) = priced.invoices(bolt)
    assert sum(float(line["quantity"]) for line in invoice["lines"]) == 10_000_000, "the late event is in"
    assert closed(priced) == [], "once"


def test_each_closes_by_its_own_midnight(
    priced: Ledger, acme: str, bolt: str, used: Used, clock: SimulatedClock
) -> None:
    clock.set(at(2026, 3, 20))
    priced.take_now([used(acme, "a", at=at(2026, 3, 19)), used(bolt, "b", 1_000_000, at=at(2026, 3, 19))])
    close_due(priced, GRACE)
    # In Berlin, April begins two hours before it does in UTC.
    clock.set(at(2026, 4, 2, 22))
    assert closed(priced) == [("2026-03", True)]
    assert priced.invoices(bolt) == []
    clock.set(at(2026, 4, 3))
    close_due(priced, GRACE)
    assert len(priced.invoices(bolt)) == 1


def test_fees_without_any_usage_are_invoiced_from_the_beginning(
    priced: Ledger, acme: str, clock: SimulatedClock
) -> None:
    clock.set(at(2026, 4, 10))
    assert closed(priced) == [("2026-01", True), ("2026-02", True), ("2026-03", True)]
    assert [row["period"]["label"] for row in priced.invoices(acme)] == ["2026-03", "2026-02", "2026-01"]


def test_a_long_absence_is_made_up_for_in_rounds(
    priced: Ledger, acme: str, clock: SimulatedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(month_end, "MONTHS_MAX", 2)
    clock.set(at(2026, 6, 10))
    assert [label for label, _ in closed(priced)] == ["2026-01", "2026-02"]
    assert [label for label, _ in closed(priced)] == ["2026-03", "2026-04"]
    assert [label for label, _ in closed(priced)] == ["2026-05"]
    assert closed(priced) == []


def test_a_clock_that_steps_back_opens_and_closes_nothing(priced: Ledger, acme: str, clock: SimulatedClock) -> None:
    clock.set(at(2026, 3, 10))
    assert [label for label, _ in closed(priced)] == ["2026-01", "2026-02"]
    clock.set(at(2026, 2, 10))
    assert closed(priced) == []
    with pytest.raises(PeriodOpenError):
        priced.close(acme, "2026-02")
    clock.set(at(2026, 4, 10))
    assert [label for label, _ in closed(priced)] == ["2026-03"]
