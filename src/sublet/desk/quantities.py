"""Quantities as readers in New York, Taipei and Shanghai expect them: $525 billion, 5,250億美元, 5250亿美元.

Three significant digits, as in running text; tables have more. Words for large numbers follow each market: 兆 is 10^12 in
Taipei, where power is in MW and GW, and mega in Shanghai, where money is in 万亿.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date
from decimal import ROUND_HALF_UP, Decimal

from sublet.desk.sheet import Value
from sublet.desk.units import Unit, parse_unit
from sublet.values.errors import SubletError

DIGITS = 3
Writer = Callable[[float, str], str]

_SCALES = {
    "en": ((Decimal(10) ** 12, " trillion"), (Decimal(10) ** 9, " billion"), (Decimal(10) ** 6, " million"), (Decimal(1), "")),
    "zh-Hant": ((Decimal(10) ** 12, "兆"), (Decimal(10) ** 8, "億"), (Decimal(10) ** 4, "萬"), (Decimal(1), "")),
    "zh-Hans": ((Decimal(10) ** 12, "万亿"), (Decimal(10) ** 8, "亿"), (Decimal(10) ** 4, "万"), (Decimal(1), "")),
}  # fmt: skip
_EXACT_FROM = 4
"""A number below 10,000 keeps all its digits before the point."""


def quantity(value: Value, language: str) -> str:
    """A value in running text, with its unit; what is no number is given as it stands."""
    return written(value.number, value.unit, language) if value.is_number else str(value.content)


def written(number: float, unit: str, language: str) -> str:
    """A number of `unit` in running text. A unit that has no words of its own stands behind the number as it is."""
    if unit.startswith("%"):
        return _percent(number / 100, language)
    parsed = parse_unit(unit)
    if parsed.is_number:
        return _plain(number, unit, language)
    for kind in _KINDS:
        size = _converted(number, parsed, kind)
        if size is not None and kind.fits(unit):
            return kind.write(size, language)
    label = unit.partition(",")[0]
    return f"{figure(number, language)} {label}"


def figure(number: float, language: str, digits: int = DIGITS) -> str:
    """The digits alone: commas between thousands, which newspapers in Shanghai do not set."""
    rounded = _significant(Decimal(repr(number)), digits)
    whole, _, rest = f"{rounded.normalize():f}".partition(".")
    if language != "zh-Hans":
        sign = "-" if whole.startswith("-") else ""
        whole = f"{sign}{int(whole.removeprefix('-')):,}"
    return f"{whole}.{rest}" if rest else whole


def large(number: float, language: str) -> str:
    """A number in the language's words for large ones: 525 billion, 5,250億, 5250亿."""
    size = abs(Decimal(repr(number)))
    scales = _SCALES[language]
    place = next((place for place, (scale, _) in enumerate(scales) if size >= scale), len(scales) - 1)
    shown = _significant(size / scales[place][0], DIGITS)
    if place and shown * scales[place][0] >= scales[place - 1][0]:
        place -= 1
        shown = _significant(size / scales[place][0], DIGITS)
    return f"{'-' if number < 0 else ''}{figure(float(shown), language)}{scales[place][1]}"


def money(dollars: float, language: str) -> str:
    """US dollars: $1.25 billion, 12.5億美元, 12.5亿美元."""
    words = large(dollars, language)
    if language == "en":
        return f"-${words[1:]}" if words.startswith("-") else f"${words}"
    return f"{words}美元"


def points(fraction: float, language: str) -> str:
    """A difference of two shares: 7 percentage points, 7個百分點, 7个百分点. Its sign is the sentence's to say."""
    number = figure(abs(fraction) * 100, language)
    return number + {"en": " percentage points", "zh-Hant": "個百分點", "zh-Hans": "个百分点"}[language]


def day(at: date, language: str) -> str:
    """July 2, 2026; 2026年7月2日."""
    return f"{at:%B} {at.day}, {at.year}" if language == "en" else f"{at.year}年{at.month}月{at.day}日"


def period(text: str, language: str) -> str:
    """A period as it is written in a case (2026-09, 2026Q3, 2027H2, FY2027Q1); other words are given as they stand."""
    fiscal = re.fullmatch(r"FY(\d{4})(?:Q([1-4]))?", text)
    if fiscal is not None:
        return _fiscal(fiscal[1], fiscal[2], language)
    found = re.fullmatch(r"(\d{4})(?:-(\d\d)|Q([1-4])|H([12]))?", text)
    if found is None:
        return text
    year, month, quarter, half = found.groups()
    if month:
        return f"{date(int(year), int(month), 1):%B %Y}" if language == "en" else f"{year}年{int(month)}月"
    if quarter:
        words = {
            "en": f"the {_ORDINALS[int(quarter)]} quarter of {year}",
            "zh-Hant": f"{year}年第{'一二三四'[int(quarter) - 1]}季",
            "zh-Hans": f"{year}年{'一二三四'[int(quarter) - 1]}季度",
        }
        return words[language]
    if half:
        return (
            f"the {_ORDINALS[int(half)]} half of {year}" if language == "en" else f"{year}年{'上下'[int(half) - 1]}半年"
        )
    return year if language == "en" else f"{year}年"


def _fiscal(year: str, quarter: str | None, language: str) -> str:
    """fiscal 2027, 2027會計年度, 2027财年; and its quarters."""
    if not quarter:
        return {"en": f"fiscal {year}", "zh-Hant": f"{year}會計年度", "zh-Hans": f"{year}财年"}[language]
    place = "一二三四"[int(quarter) - 1]
    return {
        "en": f"the {_ORDINALS[int(quarter)]} quarter of fiscal {year}",
        "zh-Hant": f"{year}會計年度第{place}季",
        "zh-Hans": f"{year}财年{place}季度",
    }[language]


_ORDINALS = {1: "first", 2: "second", 3: "third", 4: "fourth"}


@dataclass(frozen=True, slots=True)
class _Kind:
    """A kind of quantity: what it is converted to, how a unit of it is recognized beyond its dimensions, and how it is written."""

    unit: str
    write: Writer
    fits: Callable[[str], bool] = lambda label: True


def _per(english: str, taipei: str, shanghai: str) -> Writer:
    """Money per something: the price before it in English, behind it in Chinese."""

    def write(number: float, language: str) -> str:
        words = money(number, language)
        if language == "en":
            return f"{words} {english}"
        per = {"zh-Hant": taipei, "zh-Hans": shanghai}[language]
        return (
            f"{per} {words}" if per[-1].isascii() else f"{per}{words}"
        )  # a digit right behind a Latin unit is read as part of it

    return write


def _count(english: str, taipei: str, shanghai: str) -> Writer:
    return lambda number, language: (
        large(number, language) + {"en": english, "zh-Hant": taipei, "zh-Hans": shanghai}[language]
    )


def _duration(english: str, taipei: str, shanghai: str) -> Writer:
    return lambda number, language: (
        figure(number, language) + {"en": english, "zh-Hant": taipei, "zh-Hans": shanghai}[language]
    )


def _power(megawatts: float, language: str) -> str:
    if abs(megawatts) >= 1000:
        return figure(megawatts / 1000, language) + {"en": " GW", "zh-Hant": "GW", "zh-Hans": "吉瓦"}[language]
    return figure(megawatts, language) + {"en": " MW", "zh-Hant": "MW", "zh-Hans": "兆瓦"}[language]


def _throughput(tokens: float, language: str) -> str:
    number = large(tokens, language)
    return {
        "en": f"{number} tokens a second per GPU",
        "zh-Hant": f"每GPU每秒{number}個token",
        "zh-Hans": f"每卡每秒{number}个token",
    }[language]


def _draw(watts: float, language: str) -> str:
    number = figure(watts, language)
    return {
        "en": f"{number} W per accelerator",
        "zh-Hant": f"每顆加速器{number}瓦",
        "zh-Hans": f"每张加速卡{number}瓦",
    }[language]


_KINDS = (
    _Kind("USD/share", _per("a share", "每股", "每股")),
    _Kind(
        "USD bn/GW-yr",
        lambda number, language: _per("per GW a year", "每GW每年", "每吉瓦每年")(number * 1e9, language),
        lambda label: "GW" in label and "Wh" not in label,
    ),
    _Kind("USD/MWh", _per("per MWh", "每MWh", "每兆瓦时"), lambda label: "Wh" in label),
    _Kind("USD/W-yr", _per("per watt a year", "每瓦每年", "每瓦每年")),
    _Kind(
        "USD bn/GW",
        lambda number, language: _per("per GW", "每GW", "每吉瓦")(number * 1e9, language),
        lambda label: "GW" in label,
    ),
    _Kind("USD/W", _per("per watt", "每瓦", "每瓦")),
    _Kind("USD/GPU-h", _per("per GPU-hour", "每GPU小時", "每卡时")),
    _Kind("USD/Mtok", _per("per million tokens", "每百萬token", "每百万token")),
    _Kind("USD/yr", _per("a year", "每年", "每年"), lambda label: label.endswith(("yr", "year"))),
    _Kind("USD/month", _per("a month", "每月", "每月")),
    _Kind("USD", money),
    _Kind("MW", _power),
    _Kind("W per accelerator", _draw),
    _Kind("tok/s/GPU", _throughput),
    _Kind("bn shares", lambda number, language: _count(" shares", "股", "股")(number * 1e9, language)),
    _Kind("months", _duration(" months", "個月", "个月"), lambda label: label.startswith("month")),
    _Kind("years", _duration(" years", "年", "年"), lambda label: label.startswith("y")),
    _Kind("accelerators", _count(" accelerators", "顆加速器", "张加速卡")),
)
"""Kinds by their dimensions, the one that is written in a special unit before the common one."""


def _converted(number: float, unit: Unit, kind: _Kind) -> float | None:
    try:
        return number * float(replace(unit, basis=None).factor_to(replace(parse_unit(kind.unit), basis=None)))
    except SubletError:
        return None


def _plain(number: float, unit: str, language: str) -> str:
    if unit == "rate" or unit.startswith(("share", "prob", "utilization")):
        return _percent(number, language)
    return f"{figure(number, language)}x" if unit.startswith("x") else figure(number, language)


def _percent(fraction: float, language: str) -> str:
    return f"{figure(fraction * 100, language)}%"


def _significant(number: Decimal, digits: int) -> Decimal:
    if number == 0:
        return Decimal(0)
    step = Decimal(1).scaleb(max(number.adjusted() - digits + 1, -12))
    whole = number.adjusted() < _EXACT_FROM
    return number.quantize(min(step, Decimal(1)) if whole else step, ROUND_HALF_UP)
