"""Credit limits: unpaid + not invoiced + held never passes the limit through a reservation, whatever is paid, invoiced or rated
meanwhile."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from fractions import Fraction

import pytest
from tests.ledger.payer import Account

from sublet.ledger.budgets.holds import announce
from sublet.ledger.budgets.model import HoldRequest, Settlement
from sublet.ledger.budgets.standing import standings
from sublet.ledger.model import UsageEvent
from sublet.ledger.service import new_budget
from sublet.store import outbox
from sublet.values.errors import ConflictError, InvalidInputError
from sublet.values.money import NANO

Open = Callable[..., Account]
EXPOSED = ("receivable", "unbilled", "deferred_revenue", "credits", "customer_balance")


def hold(payer: Account, name: str, amount: int) -> HoldRequest:
    return HoldRequest(f"hld_{name}", payer.owner, amount * NANO, payer.clock.now() + timedelta(hours=20))


def refused(payer: Account, name: str, amount: int) -> bool:
    [outcome] = payer.ledger.reserve([hold(payer, name, amount)])
    return outcome.error is not None


def test_what_is_unpaid_not_invoiced_and_held_counts_together_and_paying_frees_it(account: Open) -> None:
    payer = account(20)
    payer.ledger.create_budget(new_budget(payer.owner, 100 * NANO, kind="credit"))
    payer.on(11)
    payer.use(10, "50")
    assert not refused(payer, "a", 30) and refused(payer, "b", 21)
    document = payer.close()
    assert document["due"] == "60.000000000"
    [state] = payer.ledger.budgets(payer.owner)
    assert (state.spent_nano, state.held_nano) == (60 * NANO, 30 * NANO)
    [outcome] = payer.ledger.reserve([hold(payer, "c", 11)])
    assert outcome.error is not None and not isinstance(outcome.error, ConflictError)
    said = "the credit limit of the organization has 10.000000000 EUR left (30.000000000 is held for work under way)"
    assert said in str(outcome.error) and str(outcome.error).endswith("; pay open invoices, or ask for a higher limit")
    payer.pay(document, "60")
    assert not refused(payer, "d", 70) and refused(payer, "e", 1)
    payer.sound()


def test_prepaid_money_and_credits_lower_what_is_owed(account: Open) -> None:
    payer = account()
    payer.ledger.create_budget(new_budget(payer.owner, 10 * NANO, kind="credit"))
    payer.give("promotion", 5, None, paid=False)
    payer.on(11)
    payer.use(10, "15")
    assert refused(payer, "a", 1)
    payer.give("paid", 5, None, paid=True)
    assert [state.free_nano for state in payer.ledger.budgets(payer.owner) if state.budget.credit] == [5 * NANO]
    payer.sound()


@pytest.mark.parametrize("fields", [{"hard": False}, {"scope": "project", "scope_id": "x"}])
def test_a_credit_limit_is_hard_and_for_the_whole_organization(account: Open, fields: dict[str, object]) -> None:
    payer = account()
    with pytest.raises(InvalidInputError, match="a credit limit is hard, for the whole organization, and never resets"):
        new_budget(payer.owner, NANO, kind="credit", **fields)
    with pytest.raises(InvalidInputError, match="'prepaid' must be one of budget, credit"):
        new_budget(payer.owner, NANO, kind="prepaid")


def test_the_list_of_all_budgets_and_alerts_go_by_what_is_owed(account: Open) -> None:
    payer = account()
    payer.ledger.create_budget(new_budget(payer.owner, 100 * NANO, kind="credit", thresholds=(80,)))

    def told() -> list[str]:
        outbox.number(payer.ledger.store)
        with payer.ledger.store.read() as connection:
            found = outbox.read_after(connection, 0)
        return [event.payload["spent"] for event in found if event.kind == "budget.threshold_reached"]

    payer.on(11)
    payer.use(10, "85")
    payer.use(10, "1", "more")
    assert told() == ["85.000000000"]
    payer.pay(payer.close(), "86")
    payer.use_at(payer.clock.now(), "60", "low")
    assert told() == ["85.000000000"]
    payer.use_at(payer.clock.now(), "30", "high")
    assert told() == ["85.000000000", "90.000000000"]
    with payer.ledger.store.read() as connection:
        [item] = standings(connection, payer.clock.now()).items
    assert item.state.spent_nano == 90 * NANO


@pytest.mark.parametrize("seed", range(8))
def test_no_reservation_ever_passes_the_limit(account: Open, seed: int) -> None:
    """A naive second count: the journal's balances and the open holds, after every step of a random life."""
    payer, chance = account(19), random.Random(seed)
    payer.ledger.create_budget(new_budget(payer.owner, 200 * NANO, kind="credit"))
    payer.clock.set(datetime(2026, 1, 2, tzinfo=UTC))
    held: dict[str, int] = {}
    for number in range(40):
        payer.clock.advance(3600 * chance.randint(1, 8))
        what = chance.choice(("hold", "hold", "use", "free", "bill", "pay"))
        owed = sum(payer.balance(account) for account in EXPOSED)
        if what == "hold":
            amount = chance.randint(1, 60)
            fits = owed + sum(held.values()) + amount <= 200
            assert refused(payer, f"{number}", amount) is not fits, (seed, number)
            if fits:
                held[f"hld_{number}"] = amount
        elif held and what in ("use", "free"):
            name, amount = held.popitem()
            used = chance.randint(0, amount) if what == "use" else 0
            if used:
                event = UsageEvent("t", name, payer.owner, "requests", used * 100, payer.clock.now(), hold_id=name)
                payer.ledger.store.write(lambda connection, name=name: announce(connection, name, 1))
                assert payer.ledger.take_now([event]).accepted == 1
                payer.ledger.rate()
                payer.ledger.store.write(
                    lambda connection, name=name: payer.ledger.spending.finish(connection, name, payer.clock.now())
                )
            else:
                payer.ledger.settle([Settlement(name, 0)])
        elif what == "bill":
            payer.ledger.bill(payer.owner, payer.clock.now().strftime("%Y-%m"))
        elif what == "pay":
            for entry in payer.ledger.invoices(payer.owner):
                if entry["status"] == "final" and Fraction(entry["due"]) > 0:
                    payer.pay(entry, entry["due"], f"bank {number}")
                    break
        [state] = payer.ledger.budgets(payer.owner)
        assert Fraction(state.spent_nano, NANO) == sum(payer.balance(account) for account in EXPOSED)
        assert Fraction(state.held_nano, NANO) == sum(held.values()), (seed, number)
    payer.sound()
