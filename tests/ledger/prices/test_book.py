"""The price book: what it refuses, which price holds, and what may change."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from sublet.ledger.budgets.ceilings import Most
from sublet.ledger.prices.book import PriceOverlapError, book_from_dict, book_from_toml, check
from sublet.ledger.service import Ledger
from sublet.values.clock import SimulatedClock
from sublet.values.errors import ConflictError, InvalidInputError

AT = datetime(2026, 1, 15, tzinfo=UTC)


def entry(identifier: str = "p", **fields: Any) -> dict[str, Any]:
    given = {
        "id": identifier,
        "meter": "accelerator.seconds",
        "kind": "per_unit",
        "currency": "USD",
        "amount": "1",
        "from": "2026-01-01T00:00:00Z",
    } | fields
    return {name: value for name, value in given.items() if value is not None}


def book(*prices: dict[str, Any], **sections: Any) -> Any:
    return book_from_dict({"prices": list(prices), **sections}, "test")


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"amount": 1.5}, "must be a string"),
        ({"amount": "-1"}, "from 0"),
        ({"amount": "-0"}, "from 0"),
        ({"amount": "NaN"}, "from 0"),
        ({"amount": "ten"}, "is not a number"),
        ({"amount": "1000000"}, "too high"),
        ({"currency": "ABC"}, "ISO 4217"),
        ({"meter": "watts"}, "not known"),
        ({"kind": "free"}, "must be one of"),
        ({"match": {"color": "red"}}, "is not a dimension"),
        ({"from": None}, "offset"),
        ({"from": "2026-01-01T00:00:00"}, "offset"),
        ({"until": "2025-12-31T00:00:00Z"}, "must not be before from"),
        ({"per": 0}, "whole number"),
        ({"per": "²"}, "whole number"),
        ({"id": "white space"}, "letters"),
        ({"surprise": 1}, "is not a field"),
        ({"kind": "package"}, "size"),
        ({"kind": "graduated", "tiers": []}, "tiers"),
        ({"kind": "volume", "tiers": [{"up_to": 5, "amount": "1"}]}, "left out of the last"),
        ({"kind": "volume", "tiers": [{"amount": "1"}, {"amount": "1"}]}, "is missing"),
        ({"kind": "flat", "meter": None}, "only for a flat price of one organization"),
    ],
)
def test_what_is_wrong_is_named(fields: dict[str, Any], named: str) -> None:
    with pytest.raises(InvalidInputError, match=named) as caught:
        book(entry(**fields))
    assert "[[prices]] 1" in caught.value.message


def test_toml_floats_and_broken_toml_are_refused() -> None:
    with pytest.raises(InvalidInputError, match=r'write it as the string "1\.5"'):
        book_from_toml("[[prices]]\nid = 'a'\namount = 1.5", "prices.toml")
    with pytest.raises(InvalidInputError, match=r"prices\.toml is not TOML"):
        book_from_toml("[[prices", "prices.toml")


def test_overlaps_are_refused_and_gaps_listed() -> None:
    with pytest.raises(PriceOverlapError, match="and b both price"):
        book(entry("a"), entry("b", **{"from": "2026-02-01T00:00:00Z"}))
    with pytest.raises(PriceOverlapError):
        book(entry("a", match={"generation": "h100"}), entry("b", match={"class": "spot"}))
    found = check(book(entry("a", until="2026-02-01T00:00:00Z"), entry("b", **{"from": "2026-03-01T00:00:00Z"})))
    assert "without a price from 2026-02-01T00:00:00Z to 2026-03-01T00:00:00Z" in found[0].message
    ends = check(book(entry("a", until="2026-02-01T00:00:00Z")))
    assert "nothing of the same match follows" in ends[0].message


def test_commitments_of_the_same_usage_may_not_overlap() -> None:
    one = {"organization": "org_a", "currency": "USD", "minimum": "5", "from": "2026-01-01T00:00:00Z"}
    with pytest.raises(PriceOverlapError, match="commit the same usage twice"):
        book(commitments=[{"id": "a", "product": "leases", **one}, {"id": "b", **one}])


def test_own_prices_come_first_then_the_narrower_match() -> None:
    found = book(
        entry("wide"),
        entry("narrow", match={"generation": "h100"}),
        entry("own", organization="org_a", amount="0.5"),
    )
    dimensions = {"generation": "h100"}

    def chosen(organization: str, at: datetime = AT) -> Any:
        return found.rate_for(organization, "USD", "accelerator.seconds", dimensions, at)

    assert chosen("org_b").id == "narrow"
    assert (chosen("org_a").id, chosen("org_a").list_price.id) == ("own", "narrow")
    assert chosen("org_a", datetime(2025, 12, 31, tzinfo=UTC)) is None
    assert found.rate_for("org_a", "EUR", "accelerator.seconds", dimensions, AT) is None


def test_the_greatest_discount_applies_alone() -> None:
    terms = {"from": "2026-01-01T00:00:00Z"}
    found = book(
        entry("a", amount="1", per=3600),
        discounts=[
            {"id": "ten", "percent": "10", **terms},
            {"id": "fifth", "percent": "20", "product": "leases", **terms},
        ],
    )
    rate = found.rate_for("org_a", "USD", "accelerator.seconds", {}, AT)
    assert rate is not None and rate.id == "a~fifth"
    assert rate.tariff.nano(3_600_000) == 800_000_000
    assert rate.list_price.tariff.nano(3_600_000) == 10**9


def test_published_entries_may_end_but_not_change_or_vanish(ledger: Ledger) -> None:
    assert ledger.publish_prices(book(entry("a"))) == 1
    assert ledger.publish_prices(book(entry("a"))) == 1
    with pytest.raises(ConflictError, match="a has changed"):
        ledger.publish_prices(book(entry("a", amount="2")))
    with pytest.raises(ConflictError, match="a is missing"):
        ledger.publish_prices(book(entry("b")))
    ended = entry("a", until="2026-02-01T00:00:00Z")
    assert ledger.publish_prices(book(ended, entry("b", **{"from": "2026-02-01T00:00:00Z"}))) == 2


def test_built_in_prices_give_way_to_a_book_of_the_operators_own(ledger: Ledger) -> None:
    tokens = {"meter": "tokens.input", "per": 1_000_000}
    early = {"from": "2020-01-01T00:00:00Z"}
    ledger.publish_prices(book(entry("settings-a", **early), entry("settings-b", **tokens, **early)))
    own = book(entry("own", meter="accelerator.seconds", **{"from": "2026-01-01T00:00:00Z"}))
    assert ledger.publish_prices(own) == 2
    assert ledger.publish_prices(own) == 2
    now = {price.id: price for price in ledger.prices().prices}
    assert (now["settings-a"].valid_until, now["settings-b"].valid_until) == (now["own"].valid_from, None)
    assert [price.meter for price in ledger.built_in_prices()] == ["tokens.input"]
    # A price that holds from the very beginning leaves nothing of the built-in one.
    whole = entry("whole", **tokens, **{"from": "2019-01-01T00:00:00Z"})
    assert ledger.publish_prices(book(entry("own", meter="accelerator.seconds"), whole)) == 3
    assert {price.id for price in ledger.prices().prices} == {"settings-a", "own", "whole"}


def test_the_prices_of_a_currency_of_small_units_fit() -> None:
    """What 20 USD a million tokens and 10 USD an accelerator-hour come to in rupiah and dong; a price of one token does not."""
    for currency, factor in (("IDR", 17_000), ("VND", 27_000), ("USD", 1)):
        book(
            entry("a", amount=str(20 * factor), meter="tokens.output", per=1_000_000, currency=currency),
            entry("b", amount=str(10 * factor), meter="accelerator.seconds", per=3600, currency=currency),
        )
    with pytest.raises(InvalidInputError, match="if the price is for many units, say how many: per"):
        book(entry("a", amount="2.49", meter="tokens.output"))


def test_terms_of_one_organization_must_be_able_to_hold(ledger: Ledger, acme: str) -> None:
    with pytest.raises(InvalidInputError, match="own: there is no organization 'acme'"):
        ledger.publish_prices(book(entry("own", organization="acme")))
    with pytest.raises(InvalidInputError, match="own: the price is in EUR, but acme is billed in USD"):
        ledger.publish_prices(book(entry("own", organization=acme, currency="EUR")))
    assert ledger.publish_prices(book(entry("own", organization=acme))) == 1


def test_an_agreed_price_stands_for_the_life_of_its_resource(priced: Ledger, acme: str) -> None:
    priced.store.write(lambda connection: priced.agree(connection, acme, "lse_1", 10**9))
    priced.store.write(lambda connection: priced.agree(connection, acme, "lse_1", 10**9))
    with pytest.raises(ConflictError, match="can't be changed"):
        priced.store.write(lambda connection: priced.agree(connection, acme, "lse_1", 2 * 10**9))


def test_the_most_that_usage_can_cost_is_at_least_what_it_costs(
    priced: Ledger, acme: str, clock: SimulatedClock
) -> None:
    def most(*usage: Most) -> int:
        with priced.store.read() as connection:
            return priced.spending.most(connection, priced.spending.book(connection), acme, usage, clock.now())

    tokens = '{"model":"m"}'
    assert most(Most(("tokens.output",), 1_000_000, tokens), Most(("tokens.input",), 1, tokens)) == 600_000_152
    assert most(Most(("tokens.input", "tokens.input_cached"), 1_000_000, tokens)) == 150_000_002
    assert most(Most(("images",), 0)) == 0
    # Eleven of packages of ten touch at most three packages.
    assert most(Most(("images",), 11)) <= Decimal("1.05") * 10**9 + 1
