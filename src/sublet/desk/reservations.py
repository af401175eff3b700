"""What a number says of itself that doesn't stand on firm ground: a flagged number behind it, a basis read into it, unlike things."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sublet.desk.lineage import BASIS_OF_POWER, BASIS_OF_PRICE, KEPT_APART, UNLIKE_DEALS, Caveat
from sublet.desk.phrases import Phrases, slip_kind
from sublet.desk.sheet import Mark

DOUBTED: Mapping[str, str] = {
    "en": "as printed, though its own deal contradicts it: {kind}",
    "zh-Hant": "沿用原文數字，但與交易條件不符：{kind}",
    "zh-Hans": "沿用原文数字，但与交易条件不符：{kind}",
}
"""What a number says that rests on a flagged one by the case's choice."""

CORRECTED: Mapping[str, str] = {
    "en": "by the deal's own terms, the printed number being flagged: {kind}",
    "zh-Hant": "改採依交易條件計算的數字，原文疑有誤：{kind}",
    "zh-Hans": "改用按交易条件计算的数字，原文疑有误：{kind}",
}
"""What a number says that rests on the deal's own terms in place of a flagged one."""

CAVEATS: Phrases = {
    BASIS_OF_PRICE: {
        "en": "basis of the price not stated; read as {reading}",
        "zh-Hant": "未說明價格以何種用電計，此處{reading}",
        "zh-Hans": "价格口径未说明，此处按{reading}",
    },
    BASIS_OF_POWER: {
        "en": "basis of the power not stated; read as {reading}",
        "zh-Hant": "未說明容量以何種用電計，此處{reading}",
        "zh-Hans": "容量口径未说明，此处按{reading}",
    },
    UNLIKE_DEALS: {
        "en": "not comparable: deals of unlike size, term and inclusion",
        "zh-Hant": "不可直接比較：各交易的規模、期間與內含項目不同",
        "zh-Hans": "不可直接比较：各交易的规模、期限与所含项目不同",
    },
    KEPT_APART: {
        "en": "not comparable: the rows themselves say not to combine these figures",
        "zh-Hant": "不可直接比較：出處指明這些數字不宜併用",
        "zh-Hans": "不可直接比较：出处指明这些数字不宜并用",
    },
}
"""What a number says of a caveat, for readers; the names that it is about stand in JSON, the workbook and `explain`."""

READINGS: Phrases = {
    "IT": {"en": "IT watts", "zh-Hant": "以IT設備用電計", "zh-Hans": "IT负荷口径"},
    "facility": {"en": "facility watts", "zh-Hant": "以全機房用電計", "zh-Hans": "总用电口径"},
    "utility": {"en": "utility watts", "zh-Hant": "以電表端計", "zh-Hans": "市电侧口径"},
}
"""What a basis is called that a number was read at."""


def reservation(mark: Mark | Caveat, language: str) -> str:
    """A mark in a language."""
    if isinstance(mark, Caveat):
        reading = READINGS[mark.reading][language] if mark.reading else ""
        return CAVEATS[mark.kind][language].format(reading=reading)
    return (CORRECTED if mark.is_recomputed else DOUBTED)[language].format(kind=slip_kind(mark.kind, language))


def reservations(marks: Sequence[Mark | Caveat], language: str) -> list[str]:
    """The marks in a language, each once."""
    return list(dict.fromkeys(reservation(mark, language) for mark in marks))
