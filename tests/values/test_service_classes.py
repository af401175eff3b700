"""Classes of service: one type, one table, checked as a whole."""

from __future__ import annotations

from decimal import Decimal

import pytest
from tests.classes import a_class

from sublet.values.errors import InvalidInputError
from sublet.values.service_classes import (
    CLASSES_MAX,
    SHIPPED,
    ServiceClass,
    ServiceClasses,
    TakeBack,
    UnknownClassError,
)


def test_the_shipped_table_is_in_order_strictest_first() -> None:
    assert list(SHIPPED) == ["firm", "notice", "deadline", "spot"]
    assert [item.notice_s for item in SHIPPED.values()] == [None, 300, 120, 120]
    assert SHIPPED.strictest.name == "firm"
    assert SHIPPED.loosest == "spot"
    assert [item.reclaimable for item in SHIPPED.values()] == [False, True, True, True]
    assert all(item.sentence.endswith(".") for item in SHIPPED.values())


def test_a_class_tells_customers_what_they_may_know_of_it() -> None:
    told = ServiceClass("bronze", TakeBack.NOTICE, 60, 10, 150, price_ratio=Decimal("0.6")).as_dict()
    assert told == {
        "name": "bronze",
        "description": "Reclaimed after 60 seconds' notice.",
        "take_back": "notice",
        "notice_s": 60,
        "price_ratio": "0.6",
        "credit_ratio": "0",
        "free_s": 0,
        "give_back_ratio": "0",
        "give_back_free_s": 0,
        "longest_notice_s": 60,
        "longer_notice_ratio": "0",
        "strictness": 150,
    }
    assert ServiceClass("now", TakeBack.AT_ONCE, 0, 1000, 1).sentence == "Reclaimed without notice."
    assert ServiceClass("gold", TakeBack.NEVER, None, 1, 900).sentence == "Not reclaimed before its end."
    assert ServiceClass("late", TakeBack.PAUSE, 60, 1, 9).sentence == "Paused after 60 seconds' notice."


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"name": "Gold"}, "lowercase"),
        ({"name": ""}, "lowercase"),
        ({"name": "a" * 17}, "1 to 16"),
        ({"name": "model"}, "none of model"),
        ({"notice_s": None}, "required for classes"),
        ({"take_back": TakeBack.NEVER}, "required for classes"),
        ({"take_back": TakeBack.AT_ONCE}, 'take_back = "notice"'),
        ({"notice_s": -1}, "0 to 86400"),
        ({"notice_s": 86_401}, "0 to 86400"),
        ({"credit_ratio": Decimal("10.1")}, "credit_ratio"),
        ({"free_s": -1}, "free_s"),
    ],
)
def test_a_class_that_contradicts_itself_is_refused(arguments: dict[str, object], named: str) -> None:
    fields = {"name": "x", "take_back": TakeBack.NOTICE, "notice_s": 60, "broken_per_1000_max": 10, "strictness": 1}
    with pytest.raises(InvalidInputError, match=named):
        ServiceClass(**{**fields, **arguments})  # type: ignore[arg-type]


def test_the_table_is_checked_as_a_whole() -> None:
    firm, notice = a_class("firm", None, 1), a_class("notice", 300, 10)
    with pytest.raises(InvalidInputError, match="no class"):
        ServiceClasses([])
    with pytest.raises(InvalidInputError, match="there are two classes named notice"):
        ServiceClasses([notice, a_class("notice", 60, 10)])
    with pytest.raises(InvalidInputError, match="notice and bronze have the same strictness, 301"):
        ServiceClasses([notice, a_class("bronze", 60, 10, strictness=301)])
    with pytest.raises(InvalidInputError, match="may not break more"):
        ServiceClasses([firm, notice, a_class("bronze", 60, 9)])
    with pytest.raises(InvalidInputError, match="never taken back"):
        ServiceClasses([notice, a_class("gold", None, 10, strictness=7)])
    many = [a_class(f"c{number}", 60, 10, strictness=number) for number in range(1, CLASSES_MAX + 2)]
    with pytest.raises(InvalidInputError, match="the maximum is 8"):
        ServiceClasses(many)
    assert len(ServiceClasses(many[:-1])) == CLASSES_MAX


def test_only_what_is_on_sale_can_be_named() -> None:
    table = ServiceClasses([a_class("firm", None, 1), a_class("notice", 300, 10, sell=False)])
    assert table.named("firm").name == "firm"
    for name in ("notice", "nothing"):
        with pytest.raises(UnknownClassError, match=f"{name}.*use one of firm"):
            table.named(name)
    with pytest.raises(UnknownClassError, match="no class is on sale"):
        ServiceClasses([a_class("firm", None, 1, sell=False)]).named("firm")


def test_what_was_sold_in_a_class_that_is_gone_keeps_a_place_in_the_order() -> None:
    assert SHIPPED.place_of("notice", 5) == 200, "a known class has its own place, whatever the notice"
    assert SHIPPED.place_of("gold", None) == 300
    assert SHIPPED.place_of("silver", 3600) == 200
    assert SHIPPED.place_of("bronze", 150) == 100
    assert SHIPPED.place_of("dust", 0) == 100
