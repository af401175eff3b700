"""The report's words in the reader's language: labels from the catalogs, the case's own words, names, numbers and units.

The two Chinese catalogs are written apart, each as its readers write; neither is converted from the other. What has no entry
stands in English, and is counted: a test asks that nothing is left over in the shipped cases.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from functools import cache
from importlib import resources

from sublet.desk.desk import Desk
from sublet.desk.phrases import STATUS_WORDS, VERDICT_WORDS
from sublet.desk.quantities import day, period, written
from sublet.desk.report.names import generated
from sublet.desk.reservations import reservations
from sublet.desk.sheet import Status, Value

_SLOT = re.compile(r"\{([a-z]+)\}")

AXIS_UNITS: Mapping[str, tuple[tuple[float, str], tuple[float, str], tuple[float, str]]] = {
    "USD bn": ((1, "USD bn"), (10, "億美元"), (10, "亿美元")),
    "USD m": ((1, "USD m"), (100, "萬美元"), (100, "万美元")),
    "USD": ((1, "USD"), (1, "美元"), (1, "美元")),
    "USD/share": ((1, "USD a share"), (1, "每股美元"), (1, "美元/股")),
    "USD/W-yr": ((1, "USD a watt a year"), (1, "每瓦每年美元"), (1, "美元/瓦·年")),
    "USD/W": ((1, "USD a watt"), (1, "每瓦美元"), (1, "美元/瓦")),
    "USD/GPU-h": ((1, "USD per GPU-hour"), (1, "每GPU小時美元"), (1, "美元/卡时")),
    "USD/MWh": ((1, "USD per MWh"), (1, "每MWh美元"), (1, "美元/兆瓦时")),
    "USD m/yr": ((1, "USD m a year"), (100, "每年萬美元"), (100, "万美元/年")),
    "USD bn/yr": ((1, "USD bn a year"), (10, "每年億美元"), (10, "亿美元/年")),
    "years": ((1, "years"), (1, "年"), (1, "年")),
    "yr": ((1, "years"), (1, "年"), (1, "年")),
    "MW": ((1, "MW"), (1, "MW"), (1, "兆瓦")),
    "GW": ((1, "GW"), (1, "GW"), (1, "吉瓦")),
    "z": ((1, "standard deviations"), (1, "標準差"), (1, "标准差")),
    "decibans": ((1, "decibans"), (1, "分貝（佐證權重）"), (1, "分贝（证据权重）")),
    "share": ((100, "%"), (100, "%"), (100, "%")),
}
"""Units at an axis: by which factor the number is multiplied and what stands at the axis, in each language."""

LANGUAGE_ORDER = ("en", "zh-Hant", "zh-Hans")


@cache
def catalog(language: str) -> Mapping[str, str]:
    """A language's labels by their English words; empty for English."""
    if language == "en":
        return {}
    found: dict[str, str] = {}
    folder = resources.files("sublet.desk.report")
    for part in ("labels", "sentences"):
        tables = tomllib.loads(folder.joinpath(f"{part}.{language}.toml").read_text(encoding="utf-8"))
        found.update(tables)
    return found


@dataclass(frozen=True, slots=True)
class Wording:
    """Everything that a section says goes through here. `missing` collects what has no words in the language."""

    desk: Desk | None
    language: str = "en"
    missing: set[str] = field(default_factory=set)

    def __call__(self, text: str, **slots: str) -> str:
        """A label or sentence of the report; `{slot}` is filled, other braces stay as they are."""
        words = catalog(self.language).get(text)
        if words is None:
            if self.language != "en":
                self.missing.add(text)
            words = text
        return _SLOT.sub(lambda found: slots.get(found[1], found[0]), words)

    def called(self, text: str) -> str:
        """One of the case's own titles, names or notes."""
        if self.language == "en" or self.desk is None or not text:
            return text
        own = self.desk.heading.words.get(self.language, {})
        if text in own:
            return own[text]
        inner = catalog(self.language).get(text)
        if inner is not None:
            return inner
        if " " in text.strip() and re.search(r"[a-z]{2}", text):
            self.missing.add(text)
        return text

    def name(self, name: str) -> str:
        """What people call a value of the case: its title, what the desk calls its like, or the id where it has neither."""
        desk = self.desk
        if desk is None:
            return name
        template, filled = desk.template(name)
        if template:
            return self.called(template).replace("*", filled) if filled else self.called(template)
        made = generated(name)
        if made is not None:
            return self(made[0], **{key: period(text, self.language) for key, text in made[1].items()})
        row = next((row for row in desk.statements if row.id == name), None)
        if row is not None:
            what = self.called(row.metric.replace("_", " "))
            subject = self.called(row.subject)
            return self("{a}: {b}", a=subject, b=what)
        own = self._own(name)
        return own or name

    def _own(self, name: str) -> str:
        """Values that are named after a deal, a customer or a signal of the case, and inputs that a note describes."""
        desk = self.desk
        assert desk is not None
        for deal in desk.comparables:
            if name.startswith(f"comp.{deal.id}."):
                return self("{a}: price", a=self.called(deal.title))
        if desk.customers is not None:
            for customer, value in desk.customers.values.items():
                if name == value:
                    return self("{a}: signing value", a=self.called(customer))
                if name == desk.customers.shares[customer]:
                    return self("{a}: share of backlog", a=self.called(customer))
        if desk.signals is not None:
            for signal in desk.signals.signals:
                if name == f"sig.post.{signal.short}_bear_rest_bull":
                    return self(
                        "probability if this alone turns bearish: {a}", a=self.signal(signal.names, signal.bear)
                    )
        for series in desk.timeline:
            calendar, stem = series.calendar.name, name[: name.rfind(".")]
            label = name[name.rfind(".") + 1 :]
            if stem == series.name and (name in series.names or name in dict(series.years).values()):
                return self("{a}, {b}", a=self.name(series.name), b=self.period(label))
            if (
                stem.startswith(f"{calendar}.")
                and label in ("days", "years")
                and stem[len(calendar) + 1 :] in series.calendar.labels
            ):
                told = self.period(stem[len(calendar) + 1 :])
                return self("days in {a}", a=told) if label == "days" else self("length of {a} in years", a=told)
        if name in desk.sheet and name in desk.inputs and desk.sheet[name].note:
            return self.called(desk.sheet[name].note)
        return ""

    def signal(self, names: Mapping[str, str], bear: str) -> str:
        """What a signal is called: its name in the language, or its bearish reading."""
        return names.get(self.language) or self.called(names.get("en") or bear)

    def number(self, number: float, unit: str) -> str:
        """A number with its unit as people write it, three digits."""
        return self._unit_words(written(number, unit, self.language), unit)

    def quantity(self, value: Value) -> str:
        """A value with its unit, and the reservation on it in words."""
        text = self.number(value.number, value.unit) if value.is_number else str(value.content)
        return self.reserved(text, value)

    def reserved(self, text: str, value: Value) -> str:
        """Words for a value, and the reservation on it behind them."""
        marks = "; ".join(reservations(value.marks, self.language))
        return f"{text} ({marks})" if marks and self.language == "en" else f"{text}（{marks}）" if marks else text

    def _unit_words(self, text: str, unit: str) -> str:
        label = unit.partition(",")[0]
        if self.language != "en" and text.endswith(f" {label}") and re.search("[A-Za-z]", label):
            return f"{text[: -len(label) - 1]}{self(label)}"
        return text

    def axis(self, unit: str) -> tuple[float, str]:
        """By which factor numbers of `unit` are drawn, and what stands at the axis."""
        label = unit.partition(",")[0]
        known = AXIS_UNITS.get(label) or AXIS_UNITS.get("z" if label.startswith("z ") else label)
        if known is None:
            return 1.0, label if self.language == "en" else self(label)
        factor, words = known[LANGUAGE_ORDER.index(self.language)]
        return float(factor), words

    def status(self, status: Status) -> str:
        """How far a number can be trusted, in words."""
        return STATUS_WORDS[str(status)][self.language]

    def day(self, at: date) -> str:
        """A date."""
        return day(at, self.language)

    def period(self, text: str) -> str:
        """A month, quarter, half or year, or the case's own words for another period."""
        found = period(text, self.language)
        return self.called(text) if found == text and self.language != "en" else found

    def verdict(self, word: str) -> str:
        """What the evidence comes to, in a word."""
        return VERDICT_WORDS[word][self.language]

    def together(self, *sentences: str) -> str:
        """Sentences one after the other: a space between English ones."""
        return (" " if self.language == "en" else "").join(sentences)

    def joined(self, parts: list[str]) -> str:
        """A list within a sentence."""
        return (", " if self.language == "en" else "、").join(parts)
