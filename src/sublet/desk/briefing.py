"""One page of text that a reader of such commentary would want; every sentence names the values that it rests on."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, replace

from sublet.desk.capacity import refusal
from sublet.desk.desk import PLACEHOLDER, Desk
from sublet.desk.phrases import (
    CANNOT,
    HEAD,
    METRICS,
    MISSING,
    PARTS,
    PROBLEM_PARTS,
    SENTENCES,
    STATUS_WORDS,
    VERDICT_WORDS,
    slip_kind,
)
from sublet.desk.quantities import day, figure, period, points, quantity, written
from sublet.desk.reservations import reservations
from sublet.desk.slips import MATCH

LINE_WIDTH = 100

NAMED_FIRST = ("signal", "surplus_no_glut", "surplus_shortage", "surplus_glut", "no_surplus", "no_surplus_shortage")
"""Sentences that begin with words of the case, which are not written for a beginning; a deal's title is a name and stays."""


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence, the part of the page that it belongs to, and the values that it rests on."""

    part: str
    text: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Briefing:
    """The page."""

    title: str
    head: str
    language: str
    sentences: tuple[Sentence, ...]

    def render(self) -> str:
        """Plain text with the names of the values in brackets after each sentence."""
        lines = [self.title, self.head]
        for part, words in {**PARTS, "missing": MISSING}.items():
            chosen = [sentence for sentence in self.sentences if sentence.part == part]
            if chosen:
                lines += ["", words[self.language]]
                for sentence in chosen:
                    names = f" [{', '.join(sentence.values)}]" if sentence.values else ""
                    lines += _wrapped(f"- {sentence.text}{names}", self.language)
        return "\n".join(lines)


def brief(desk: Desk, language: str) -> Briefing:
    """The briefing in `en`, `zh-Hant` or `zh-Hans`."""
    heading = desk.heading
    head = HEAD[language].format(
        owner=desk.called(heading.owner, language),
        as_of=day(heading.as_of, language),
        name=heading.name,
        version=heading.version,
        digest=desk.digest[:16],
    )
    writer = _Writer(desk, language)
    sentences = (*writer.numbers(), *writer.sources(), *writer.changes(), *writer.claims(), *writer.missing())
    return Briefing(desk.called(heading.title, language), head, language, sentences)


class _Writer:
    def __init__(self, desk: Desk, language: str) -> None:
        self._desk, self._sheet, self._language = desk, desk.sheet, language

    def claims(self) -> Iterator[Sentence]:
        for claim in self._desk.claims:
            if claim.language == self._language:
                yield Sentence(claim.part, *self._filled(claim.text))

    def missing(self) -> Iterator[Sentence]:
        for problem in self._desk.problems:
            part = PROBLEM_PARTS[problem.part][self._language]
            name = f"{part}: {self._called(self._desk.title(problem.name))}" if problem.name else part
            yield Sentence("missing", CANNOT[self._language].format(name=name, reason=problem.reason), ())

    def numbers(self) -> Iterator[Sentence]:
        yield from self._bridge()
        yield from self._decision()
        yield from self._deals()
        yield from self._capital()
        yield from self._channels()
        yield from self._customers()
        yield from self._verdicts()
        yield from self._surplus()

    def sources(self) -> Iterator[Sentence]:
        for deal in self._desk.comparables:
            if deal.slip is not None and deal.slip.kind != MATCH:
                unit = self._sheet[deal.printed].unit
                yield self._say(
                    "sources", "slip" if deal.slip.is_slip else "mismatch", {}, (deal.price,), title=self._called(deal.title),
                    printed=written(deal.slip.printed, unit, self._language),
                    calculated=written(deal.slip.calculated, unit, self._language),
                    factor=figure(deal.slip.factor, self._language), kind=slip_kind(deal.slip.kind, self._language),
                )  # fmt: skip
        rows = {row.id: row for row in self._desk.capacity}
        for names in self._desk.refused_sums:
            if len(names) == 2 and refusal([rows[name] for name in names]):
                first, second = names
                yield self._say(
                    "sources", "not_added", {"first": first, "second": second}, first_title=self._row(first),
                    second_title=self._row(second),
                )  # fmt: skip

    def changes(self) -> Iterator[Sentence]:
        bridge = self._desk.bridge
        if bridge is not None and bridge.tornado:
            bar = bridge.tornado[0]
            unit, moved = self._sheet[bridge.result].unit, self._sheet[bar.input].unit
            ends = {"low": bar.low, "high": bar.high}
            results = {"at_low": bar.at_low, "at_high": bar.at_high}
            yield self._say(
                "change", "tornado", {"result": bridge.result}, (bar.input,), input=self._called(self._desk.title(bar.input)),
                **{key: written(number, moved, self._language) for key, number in ends.items()},
                **{key: written(number, unit, self._language) for key, number in results.items()},
            )  # fmt: skip
        board = self._desk.signals
        if board is not None:
            yield self._say(
                "change", "odds", {"now": board.now, "bear": "sig.post.all_bear", "bull": "sig.post.all_bull"}
            )
            for signal in board.signals:
                title = signal.names.get(self._language) or signal.names.get("en") or signal.bear
                odds = {"odds": f"sig.post.{signal.short}_bear_rest_bull"}
                yield self._say("change", "signal", odds, title=title, due=day(signal.due, self._language))

    def _bridge(self) -> Iterator[Sentence]:
        bridge = self._desk.bridge
        if bridge is None:
            return
        named = {"power": bridge.power, "price": bridge.price, "cost": bridge.cost, "result": bridge.result}
        yield self._say("numbers", "bridge", named)
        if bridge.published is not None and bridge.envelope:
            low, high = bridge.envelope[0]
            low, high = sorted((low, high), key=lambda name: self._sheet[name].number)
            at = written(bridge.axis_price[0], "USD/W-yr", self._language)
            yield self._say("numbers", "one_cell", {"increment": bridge.published, "low": low, "high": high}, at=at)
        if len(bridge.break_evens) > 1:
            both = {"cash": bridge.break_evens[0][1], "full": bridge.break_evens[1][1]}
            yield self._say("numbers", "break_even", both)
        else:
            yield self._say("numbers", "break_even_cash", {"cash": bridge.break_evens[0][1]})

    def _decision(self) -> Iterator[Sentence]:
        found = self._desk.decision
        if found is not None:
            named = {
                "power": found.power,
                "price": found.indifference,
                "displaced": found.displaced,
                "worth": found.worth,
            }
            yield self._say("numbers", "decision", named)

    def _deals(self) -> Iterator[Sentence]:
        deals = sorted(
            (deal for deal in self._desk.comparables if deal.is_per_watt),
            key=lambda deal: self._sheet[deal.price].number,
        )
        if len(deals) > 1:
            ends = {"low": deals[0].price, "high": deals[-1].price}
            low, high = self._called(deals[0].title), self._called(deals[-1].title)
            yield self._say("numbers", "comparables", ends, low_title=low, high_title=high)

    def _capital(self) -> Iterator[Sentence]:
        capital = self._desk.capital
        if capital is None:
            return
        first, last = capital.years[0], capital.years[-1]
        yield self._say(
            "numbers", "capex", {"total": f"capex.sum_{first}_{last}"}, ("capex.temporary_leasing.delta_sum",),
            first=str(first), last=str(last),
        )  # fmt: skip
        deltas = [value.name for value in self._sheet if value.name.startswith("capex.permanent_")]
        if deltas:
            yield self._say("numbers", "permanent", {"change": deltas[-1]})

    def _channels(self) -> Iterator[Sentence]:
        if self._desk.channels is not None:
            channels = self._desk.channels
            raw = next(item for item in channels.raw if item.id == channels.frontier_raw)
            named = {"raw": raw.price, "throughput": raw.throughput}
            yield self._say("numbers", "channels", named, title=self._called(raw.title))

    def _customers(self) -> Iterator[Sentence]:
        found = self._desk.customers
        if found is None:
            return
        named = {"backlog": found.backlog, "low": "cp.hhi_floor", "high": "cp.hhi_ceiling_any"}
        if found.competitor_share:
            named["share"] = found.competitor_share
        key = "customers" if found.competitor_share else "concentration"
        yield self._say("numbers", key, named, seller=self._called(found.seller))

    def _verdicts(self) -> Iterator[Sentence]:
        for verdict in self._desk.verdicts:
            found = verdict.judgment
            named, told = {"probability": verdict.probability}, ""
            if verdict.strongest:
                told = next(item.text for item in found.question.evidence if item.id == verdict.strongest)
                named["without"] = dict(verdict.without)[verdict.strongest]
            yield self._say(
                "numbers", "verdict" if told else "verdict_bare", named, evidence=self._called(told),
                question=self._called(found.question.text), by=day(found.question.settles_on, self._language),
                word=VERDICT_WORDS[str(found.word)][self._language], prior=self._quantity(verdict.prior),
            )  # fmt: skip

    def _surplus(self) -> Iterator[Sentence]:
        if not self._desk.surplus:
            return
        example = self._desk.surplus[0]
        window = max(example.owner, key=lambda row: row.idle_mw).window
        slack = f"glut.{example.id}.slack.{window}"
        is_short = self._sheet[slack].number < 0
        key = ("no_surplus_shortage" if is_short else "no_surplus") if not example.verdicts.owner_surplus else ""
        if not key:
            key = "surplus_shortage" if is_short else "surplus_no_glut"
            key = "surplus_glut" if example.verdicts.industry_glut else key
        yield self._say(
            "numbers", key, {"idle": f"glut.{example.id}.idle_mw.{window}"}, (slack,),
            slack=written(abs(self._sheet[slack].number), "share", self._language),
            window=period(window, self._language), owner=self._called(self._desk.heading.owner),
        )  # fmt: skip

    def _called(self, text: str) -> str:
        return self._desk.called(text, self._language)

    def _row(self, name: str) -> str:
        """A row of the capacity ledger: whose it is, what it measures, and at which point of the power chain where that is known."""
        row = next(row for row in self._desk.capacity if row.id == name)
        statement = next(item for item in self._desk.statements if item.id == name)
        metric = METRICS.get(statement.metric, {}).get(self._language) or self._called(
            statement.metric.replace("_", " ")
        )
        owner = self._called(row.owner)
        return f"{owner}'s {metric}" if self._language == "en" else f"{owner}的{metric}"

    def _say(self, part: str, key: str, named: dict[str, str], more: tuple[str, ...] = (), **words: str) -> Sentence:
        numbers = {slot: self._quantity(name) for slot, name in named.items()}
        text = SENTENCES[key][self._language].format(**numbers, **words)
        values = (*named.values(), *more)
        starts = text[0].upper() + text[1:] if key in NAMED_FIRST else text
        return Sentence(part, self._with_status(starts, values), values)

    def _quantity(self, name: str, form: str = "") -> str:
        """The named number as people write it; `form` size leaves the sign to the sentence, points makes a share percentage points."""
        value = self._sheet[name]
        text = quantity(value, self._language)
        if form == "size":
            text = quantity(replace(value, content=abs(value.number)), self._language)
        elif form == "points":
            text = points(value.number / (100 if value.unit.startswith("%") else 1), self._language)
        kinds = reservations(value.marks, self._language)
        return text + "".join(f" ({words})" if self._language == "en" else f"（{words}）" for words in kinds)

    def _with_status(self, text: str, values: tuple[str, ...]) -> str:
        """The sentence with the status of its weakest number in words: an assumption isn't told as a fact."""
        found = {str(self._sheet[name].status) for name in values}
        word = next(words[self._language] for status, words in STATUS_WORDS.items() if status in found)
        bracketed = f" ({word})" if self._language == "en" else f"（{word}）"
        ends = text[-1] in ".。"
        return f"{text[:-1]}{bracketed}{text[-1]}" if ends else f"{text}{bracketed}"

    def _filled(self, text: str) -> tuple[str, tuple[str, ...]]:
        parts = [found.partition("|") for found in PLACEHOLDER.findall(text)]
        filled = PLACEHOLDER.sub(lambda found: self._quantity(*found[1].partition("|")[::2]), text)
        names = tuple(name for name, _, _ in parts)
        return self._with_status(filled, names), names


def _wrapped(text: str, language: str) -> list[str]:
    if language == "en":
        return textwrap.wrap(text, LINE_WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
    return [text]
