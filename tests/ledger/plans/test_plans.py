"""Subscriptions to plans, to the cent: proration by days, trials, coupons, seats, add-ons, and what is included."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from tests.ledger.payer import Account
from tests.ledger.test_notes_lives import killed

from sublet.ledger.invoices.taxes import NoTax
from sublet.ledger.plans.model import Coupon, plan_from_dict
from sublet.ledger.plans.service import Wanted
from sublet.ledger.prices.cards import card_from_dict
from sublet.ledger.service import Ledger
from sublet.store.paging import PageRequest
from sublet.values.errors import ConflictError, InvalidInputError, NotFoundError
from sublet.values.etags import Condition, PreconditionFailedError, tag_of

Open = Callable[..., Account]
TEAM: dict[str, Any] = {
    "id": "team",
    "name": "Team",
    "currency": "EUR",
    "begins": "calendar",
    "amount": "31",
    "seat_amount": "3.10",
    "usage": [{"meter": "requests", "kind": "per_unit", "amount": "0.02", "included": 3_100}],
    "add_ons": [{"id": "support", "name": "Support", "amount": "62"}],
}
PRO = TEAM | {"id": "pro", "name": "Pro", "amount": "62"}


def day(number: int, month: int = 1, year: int = 2026) -> datetime:
    return datetime(year, month, number, tzinfo=UTC)


def offer(payer: Account, *plans: dict[str, Any]) -> None:
    for plan in plans:
        payer.ledger.plans.publish(plan_from_dict(plan, "test"))


def subscribe(payer: Account, plan: str = "team", **wanted: Any) -> str:
    made = payer.ledger.plans.subscribe(payer.owner, Wanted(plan, **wanted))
    return str(made["id"])


def charged(document: dict[str, Any]) -> dict[str, Decimal]:
    """Fees by description."""
    found: dict[str, Decimal] = {}
    for line in document["lines"]:
        if line["kind"] == "fee":
            found[line["description"]] = found.get(line["description"], Decimal(0)) + Decimal(line["amount"])
    return {name.partition(", 2026")[0]: amount for name, amount in found.items()}


def test_an_upgrade_is_prorated_by_days_and_what_is_included_with_it(account: Open) -> None:
    payer = account()
    offer(payer, TEAM, PRO | {"usage": [TEAM["usage"][0] | {"included": 6_200}]})
    name = subscribe(payer, seats=2)
    payer.on(15)
    payer.use(10, "20")  # 2,000 requests of the payer's cent each
    shown = payer.ledger.plans.change(name, Wanted("pro", seats=4))
    assert (shown["plan_name"], shown["seats"], shown["status"]) == ("Pro", 4, "active")
    # Base 14 + 34, seats 14/31 x 6.20 + 17/31 x 12.40.
    assert Decimal(shown["this_month"]) == 14 + 34 + Decimal("2.80") + Decimal("6.80")
    assert Decimal(shown["next_month"]) == 62 + Decimal("12.40")
    payer.on(25)
    payer.use(20, "30")
    document = payer.close()
    fees = charged(document)
    assert sum(fees.values()) == Decimal("57.60")
    # 14/31 x 3,100 + 17/31 x 6,200 are included: 4,800 of 5,000.
    assert sum(Decimal(line["amount"]) for line in document["lines"] if line["kind"] == "usage") == 4
    payer.sound()


def test_what_was_used_before_an_upgrade_is_counted_again_at_once(account: Open) -> None:
    """30 requests by January 10 of a plan that includes 10; from the 16th on the plan includes 100, for 16 of 31 days."""
    payer = account()
    for name, included in (("small", 10), ("large", 100)):
        usage = {"meter": "requests", "kind": "per_unit", "amount": "1", "included": included}
        plan = {"id": name, "currency": "EUR", "begins": "calendar", "amount": "1", "usage": [usage]}
        payer.ledger.plans.publish(plan_from_dict(plan, "test"))
    made = payer.ledger.plans.subscribe(payer.owner, Wanted("small"))
    payer.on(11)
    payer.use(10, "0.30")
    assert payer.balance("revenue.models") == -20
    payer.on(16)
    before = payer.ledger.plans.change(made["id"], Wanted("large"), preview=True)
    assert before["plan_id"] == "large" and payer.balance("revenue.models") == -20
    payer.ledger.plans.change(made["id"], Wanted("large"))
    payer.ledger.rate()
    assert (10 * 15 + 100 * 16) / 31 > 30 and payer.balance("revenue.models") == 0
    posted = payer.accounts()
    payer.ledger.plans.change(made["id"], Wanted("large"))
    payer.ledger.rate()
    assert payer.accounts() == posted
    payer.sound()
    payer.cancel("10")
    assert payer.balance("revenue.models") == 0
    payer.sound()


@pytest.mark.parametrize("place", [1, 4, 9, 14, 19, 24])
def test_counting_again_is_not_lost_or_doubled_when_the_process_is_killed(account: Open, place: int) -> None:
    payer = account()
    offer(payer, TEAM, PRO | {"usage": [{**TEAM["usage"][0], "included": 31_000}]})
    made = subscribe(payer)
    payer.on(11)
    payer.use(10, "100")
    before = payer.balance("revenue.models")
    assert before == -(10_000 - 3_100) * Fraction(2, 100)
    payer.on(16)
    payer.ledger.plans.change(made, Wanted("pro"))
    killed(payer.ledger.store, place, payer.ledger.rate)
    payer.taxed(NoTax())
    payer.ledger.rate()
    after = payer.accounts()
    assert payer.balance("revenue.models") == 0
    payer.ledger.rate()
    assert payer.accounts() == after
    payer.sound()


def test_anniversary_periods_charge_each_month_its_days_of_them(account: Open) -> None:
    payer = account()
    offer(payer, TEAM | {"begins": "anniversary", "usage": []})
    payer.on(31)
    name = subscribe(payer)
    shown = payer.ledger.plans.subscription(name)
    # From January 31 to February 28, 28 days; from then to March 31, 31 days.
    assert shown["period_end"] == "2026-02-28T00:00:00Z"
    assert Fraction(shown["this_month"]) == Fraction(31 * 10**9 // 28, 10**9)
    document = payer.close()
    assert Decimal(document["net"]) == Decimal("1.11")
    payer.on(1, month=3)
    second = payer.ledger.close(payer.owner, "2026-02").invoice
    # The rest of the first period, and one day of the second.
    assert second is not None and Decimal(second["net"]) == Decimal("29.89") + 1
    assert payer.ledger.plans.subscription(name)["period_end"] == "2026-03-31T00:00:00Z"
    payer.sound()


def test_a_yearly_plan_is_earned_by_its_days(account: Open) -> None:
    payer = account()
    offer(payer, TEAM | {"every": "year", "begins": "anniversary", "amount": "12000", "usage": []})
    payer.on(1, month=3)
    subscribe(payer)
    months = [payer.ledger.plans.subscriptions(payer.owner, PageRequest()).items[0]["this_month"]]
    for month in (4, 5):
        payer.on(1, month=month)
        months += [payer.ledger.plans.subscriptions(payer.owner, PageRequest()).items[0]["this_month"]]
    # R1 of the facts: 1019.18, 986.30, 1019.18.
    assert [round(Decimal(amount), 2) for amount in months] == [
        Decimal("1019.18"),
        Decimal("986.30"),
        Decimal("1019.18"),
    ]


def test_a_trial_costs_nothing_and_includes_what_the_plan_does(account: Open) -> None:
    payer = account()
    offer(payer, TEAM | {"trial_days": 10})
    kept, left = subscribe(payer), None
    assert payer.ledger.plans.subscription(kept)["status"] == "trial"
    payer.on(5)
    payer.use(1, "31")
    payer.ledger.plans.change(kept, Wanted(seats=1))
    document = payer.close()
    # 21 of 31 days, for the base and a seat.
    assert charged(document) == {"Team": 21, "Team, 1 seats": Decimal("2.10")}
    assert sum(Decimal(line["amount"]) for line in document["lines"] if line["kind"] == "usage") == 0
    left = payer.ledger.plans.end(kept, None)
    assert (left["status"], left["ends_at"]) == ("ending", "2026-03-01T00:00:00Z")
    payer.sound()


def test_who_leaves_within_the_trial_pays_nothing(account: Open) -> None:
    payer = account()
    offer(payer, TEAM | {"trial_days": 10})
    name = subscribe(payer)
    payer.on(3)
    left = payer.ledger.plans.end(name, None)
    assert left["ends_at"] == "2026-01-11T00:00:00Z" and left["status"] == "ending"
    payer.on(25)
    payer.use(20, "11")
    document = payer.close()
    assert charged(document) == {}
    # 10 of 31 days include 1,000 requests of the month; after the end, the others cost what they cost everybody.
    assert Decimal(document["net"]) == 1
    with pytest.raises(ConflictError, match="ends at"):
        payer.ledger.plans.change(name, Wanted(seats=3))
    payer.sound()


def test_coupons_by_share_and_by_amount(account: Open) -> None:
    payer = account()
    offer(payer, TEAM | {"usage": []})
    share = Coupon("LAUNCH", percent=Decimal(20), until=day(15), covers_usage=True)
    name = subscribe(payer, coupon=share, add_ons=[("support", 2)])
    payer.on(20)
    payer.use(10, "100")
    payer.ledger.plans.change(name, Wanted(coupon=Coupon("SORRY", amount=Decimal(40)), add_ons=[]))
    payer.on(25)
    payer.use(21, "100")
    document = payer.close()
    fees = charged(document)
    assert fees["Team, LAUNCH: 20 % off"] == Decimal("11.20")
    assert fees["Team"] == 5
    assert "Team, SORRY: 40 EUR off" not in fees
    assert fees["Team, Support, 2 pieces, LAUNCH: 20 % off"] == Decimal("44.80")
    assert fees["Team, Support, 2 pieces"] == 20
    assert sum(Decimal(line["amount"]) for line in document["lines"] if line["kind"] == "usage") == 180
    payer.sound()


def test_a_scheduled_change_can_be_replaced_and_an_end_withdrawn(account: Open) -> None:
    payer = account()
    offer(payer, TEAM, PRO)
    name = subscribe(payer)
    plans = payer.ledger.plans
    plans.change(name, Wanted("pro", at=day(1, 2)))
    assert Decimal(plans.subscription(name)["next_month"]) == 62
    plans.change(name, Wanted(seats=1))
    shown = plans.subscription(name)
    assert [state["withdrawn"] for state in shown["changes"]] == [False, True, False]
    assert Decimal(shown["next_month"]) == 31 + Decimal("3.10")
    assert plans.end(name, None)["ends_at"] == "2026-02-01T00:00:00Z"
    assert Decimal(plans.subscription(name)["next_month"]) == 0
    assert plans.end(name, None, withdraw=True)["ends_at"] is None
    assert Decimal(plans.subscription(name)["next_month"]) == 31 + Decimal("3.10")
    assert payer.ledger.prices().card(payer.owner) is not None
    document = payer.close()
    assert charged(document) == {"Team": 31, "Team, 1 seats": Decimal("3.10")}
    payer.sound()


def test_a_preview_shows_the_same_and_keeps_nothing(account: Open) -> None:
    payer = account()
    offer(payer, TEAM, PRO)
    seen = payer.ledger.plans.subscribe(payer.owner, Wanted("team", seats=5), preview=True)
    assert Decimal(seen["this_month"]) == 31 + Decimal("15.50")
    assert payer.ledger.plans.subscriptions(payer.owner, PageRequest()).items == []
    assert payer.ledger.publishing.card_of(payer.owner).version == 0
    name = subscribe(payer)
    before = payer.ledger.publishing.card_of(payer.owner).version
    payer.ledger.plans.change(name, Wanted("pro"), preview=True)
    assert payer.ledger.publishing.card_of(payer.owner).version == before


def test_subscriptions_and_rate_cards_do_not_undo_each_other(account: Open) -> None:
    payer = account()
    offer(payer, TEAM)
    name = subscribe(payer)
    own = {
        "id": "own",
        "meter": "images",
        "kind": "per_unit",
        "currency": "EUR",
        "amount": "1",
        "from": "2026-01-01T00:00:00Z",
    }
    payer.ledger.publishing.card(payer.owner, card_from_dict({"prices": [own]}, payer.owner, "test"))
    card = payer.ledger.publishing.card_of(payer.owner)
    assert {entry["id"] for entry in card.content["prices"]} == {"own", f"{name}-1-base", f"{name}-1-team.1-u1"}
    payer.ledger.plans.change(name, Wanted(seats=2))
    card = payer.ledger.publishing.card_of(payer.owner)
    assert {"own", f"{name}-2-seats"} < {entry["id"] for entry in card.content["prices"]}
    changed = [entry | {"until": "2026-02-01T00:00:00Z"} for entry in card.content["prices"]]
    with pytest.raises(ConflictError, match=f"change the subscription {name} instead"):
        payer.ledger.publishing.card(payer.owner, card_from_dict({"prices": changed}, payer.owner, "test"))
    again = payer.ledger.publishing.card(payer.owner, card_from_dict(card.content, payer.owner, "test"))
    assert again == card.version


def test_what_a_plan_cannot_do_is_refused(account: Open) -> None:
    payer = account()
    offer(payer, TEAM, TEAM | {"id": "dollars", "currency": "USD"}, TEAM | {"id": "old", "for_sale": False})
    offer(payer, TEAM | {"id": "yearly", "every": "year"}, {"id": "plain", "currency": "EUR", "amount": "1"})
    plans = payer.ledger.plans
    with pytest.raises(NotFoundError, match="no plan"):
        subscribe(payer, "none")
    with pytest.raises(InvalidInputError, match="billed in EUR"):
        subscribe(payer, "dollars")
    with pytest.raises(ConflictError, match="not for sale"):
        subscribe(payer, "old")
    with pytest.raises(InvalidInputError, match="no add-on 'gold'; it has support"):
        subscribe(payer, add_ons=[("gold", 1)])
    with pytest.raises(InvalidInputError, match="no price for seats"):
        subscribe(payer, "plain", seats=1)
    with pytest.raises(InvalidInputError, match="from the start of the month"):
        subscribe(payer, at=day(31, 12, 2025))
    with pytest.raises(InvalidInputError, match="either a percentage or an amount"):
        Coupon("x")
    name = subscribe(payer)
    with pytest.raises(InvalidInputError, match="billed in other periods"):
        plans.change(name, Wanted("yearly"))
    seen = plans.subscription(name)
    tag = tag_of([seen["id"], seen["ends_at"], seen["changes"]])
    plans.change(name, Wanted(seats=1), Condition(frozenset({tag})))
    with pytest.raises(PreconditionFailedError):
        plans.change(name, Wanted(seats=2), Condition(frozenset({tag})))
    with pytest.raises(NotFoundError):
        plans.subscription(name, "org_of_another")


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ({"every": "week"}, "must be month or year"),
        ({"begins": "now"}, "must be anniversary or calendar"),
        ({"amount": "0.0000000001"}, "nine decimals"),
        ({"usage": [{"meter": "watts", "kind": "per_unit", "amount": "1"}]}, "is not known"),
        ({"usage": [{"kind": "flat", "amount": "1"}]}, "meter"),
        ({"usage": [{"meter": "requests", "kind": "per_unit", "amount": "1", "free": 1}]}, "write included"),
        ({"add_ons": [{"id": "a", "amount": "1"}, {"id": "a", "amount": "1"}]}, "not used twice"),
        ({"trial_days": 400}, "at most 366"),
        ({"color": "red"}, "is not a field"),
    ],
)
def test_a_plan_is_checked_field_by_field(field: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        plan_from_dict(TEAM | field, "test")


def test_a_new_version_leaves_subscriptions_alone(account: Open) -> None:
    payer = account()
    offer(payer, TEAM)
    name = subscribe(payer)
    assert payer.ledger.plans.publish(plan_from_dict(TEAM, "test"))["version"] == 1
    assert payer.ledger.plans.publish(plan_from_dict(TEAM | {"amount": "93"}, "test"))["version"] == 2
    payer.ledger = Ledger(payer.ledger.store)
    assert Decimal(payer.ledger.plans.subscription(name)["this_month"]) == 31
    assert [plan["version"] for plan in payer.ledger.plans.plans(PageRequest()).items] == [2]
