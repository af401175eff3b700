"""Verdicts as dated questions: evidence in decibans with four weights, faded by age, capped by group, held by gates, and scored.

A weight is a likelihood ratio that somebody judged: only four are allowed, so that nobody fine-tunes an answer. An old statement
fades, a source that speaks of itself counts half, an assumption of the case counts nothing, and a group of evidence moves the odds
by a limited amount. A deciban is ten times the decimal logarithm of a likelihood ratio (I. J. Good, Probability and the Weighing of
Evidence, 1950).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from enum import StrEnum

from sublet.values.errors import InvalidInputError

WEIGHTS: Mapping[str, float] = {"weak": 1.25, "fair": 2.0, "strong": 4.0, "decisive": 10.0}
"""Likelihood ratios by the word that a case uses: 1.0, 3.0, 6.0 and 10.0 decibans."""
CREDIBILITY: Mapping[str, float] = {
    "published": 1.0, "external": 1.0, "reported": 0.5, "self-reported": 0.5, "modeled": 0.5, "assumption": 0.0,
}  # fmt: skip
"""The share of its weight that a statement keeps, by where it is from."""
HALF_LIFE_DAYS: Mapping[str, int] = {"price": 90, "utilization": 90, "guidance": 120, "demand": 120, "owner": 180}
"""How fast evidence fades, by its group: a price is old news sooner than an owner's plan."""
GROUP_CAP_DB = 8.0
"""A group moves the odds by at most so many decibans: five articles on one fact are one fact."""
SHOWN_FROM, NOT_SHOWN_TO = 0.8, 0.2
"""From this probability a verdict may be "shown", up to that one it is "not shown"; between them it is open."""
CALIBRATION_MIN = 30
"""Below so many settled questions there is no chart of calibration: five bins would hold a handful each."""
BINS = 5


class Word(StrEnum):
    """What the evidence comes to."""

    SHOWN = "shown"
    NOT_SHOWN = "not shown"
    OPEN = "open"


@dataclass(frozen=True, slots=True)
class Evidence:
    """A dated statement that speaks for (`direction` 1) or against (-1) a verdict; with weight `none` it is only listed."""

    id: str
    text: str
    group: str
    observed_on: date
    status: str
    direction: int
    weight: str

    def __post_init__(self) -> None:
        for what, known in (("group", HALF_LIFE_DAYS), ("status", CREDIBILITY), ("weight", {**WEIGHTS, "none": 1.0})):
            if getattr(self, what) not in known:
                raise InvalidInputError(
                    f"evidence {self.id!r}: {what} {getattr(self, what)!r} is not known; use one of {', '.join(known)}"
                )
        if self.direction not in (1, -1):
            raise InvalidInputError(f"evidence {self.id!r}: it speaks for or against; write one of the two")

    def decibans(self, as_of: date) -> float:
        """What it moves the odds by on a day; 0 before it was observed."""
        age = (as_of - self.observed_on).days
        if age < 0 or self.weight == "none":
            return 0.0
        full = 10 * math.log10(WEIGHTS[self.weight]) * CREDIBILITY[self.status]
        return self.direction * full * math.exp2(-age / HALF_LIFE_DAYS[self.group])


@dataclass(frozen=True, slots=True)
class Question:
    """A verdict that can be settled: what is asked, by when, the prior, and the groups that must all speak for it."""

    id: str
    text: str
    settles_on: date
    prior: float
    gates: tuple[str, ...]
    evidence: tuple[Evidence, ...]

    def __post_init__(self) -> None:
        if not 0 < self.prior < 1:
            raise InvalidInputError(
                f"verdict {self.id!r}: the prior is {self.prior:g}; write a probability above 0 and below 1"
            )
        unknown = [group for group in self.gates if group not in HALF_LIFE_DAYS]
        if unknown:
            raise InvalidInputError(
                f"verdict {self.id!r}: gate {unknown[0]!r} is no group; use {', '.join(HALF_LIFE_DAYS)}"
            )
        ids = [item.id for item in self.evidence]
        if len(set(ids)) < len(ids):
            twice = next(id_ for id_ in ids if ids.count(id_) > 1)
            raise InvalidInputError(f"verdict {self.id!r}: evidence {twice!r} is there twice; count it once")


@dataclass(frozen=True, slots=True)
class Judgment:
    """A question as of a day. `moved` and `without` are by evidence: decibans, and the probability if it were not there."""

    question: Question
    as_of: date
    probability: float
    word: Word
    moved: Mapping[str, float]
    without: Mapping[str, float]
    closed_gates: tuple[str, ...]


def judge(question: Question, as_of: date) -> Judgment:
    """The odds after all evidence known on a day, and what they would be without each piece of it."""
    probability, groups = _odds(question.prior, question.evidence, as_of)
    closed = tuple(group for group in question.gates if groups.get(group, 0.0) <= 0)
    word = Word.OPEN
    if probability >= SHOWN_FROM and not closed:
        word = Word.SHOWN
    elif probability <= NOT_SHOWN_TO:
        word = Word.NOT_SHOWN
    known = [item for item in question.evidence if item.observed_on <= as_of]
    moved = {item.id: item.decibans(as_of) for item in known}
    without = {
        item.id: _odds(question.prior, [other for other in question.evidence if other is not item], as_of)[0]
        for item in known
    }
    return Judgment(question, as_of, probability, word, moved, without, closed)


def _odds(prior: float, evidence: Sequence[Evidence], as_of: date) -> tuple[float, dict[str, float]]:
    groups: dict[str, float] = {}
    for item in evidence:
        groups[item.group] = groups.get(item.group, 0.0) + item.decibans(as_of)
    total = 10 * math.log10(prior / (1 - prior)) + sum(
        max(-GROUP_CAP_DB, min(GROUP_CAP_DB, moved)) for moved in groups.values()
    )
    return 1 / (1 + 10 ** (-total / 10)), groups


@dataclass(frozen=True, slots=True)
class Settled:
    """A question of the past with its answer."""

    id: str
    text: str
    asked_on: date
    probability: float
    settled_on: date
    came_true: bool

    def __post_init__(self) -> None:
        if not 0 <= self.probability <= 1:
            raise InvalidInputError(
                f"settled {self.id!r}: probability is {self.probability:g}; write a fraction from 0 to 1"
            )
        if self.settled_on <= self.asked_on:
            raise InvalidInputError(
                f"settled {self.id!r}: it was settled on {self.settled_on}, before it was asked; check the dates"
            )


@dataclass(frozen=True, slots=True)
class Bin:
    """Questions that were given about the same probability: the mean said, and the share that came true with its 95 % interval."""

    questions: int
    said: float
    came_true: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Score:
    """How good past verdicts were. `brier` is 0 at best; `skill` is over always saying the base rate, None where all came out alike.

    Brier = reliability - resolution + uncertainty up to the spread within bins (A. H. Murphy, 1973).
    """

    questions: int
    brier: float
    reliability: float
    resolution: float
    uncertainty: float
    skill: float | None
    bins: tuple[Bin, ...]


def score(settled: Sequence[Settled]) -> Score | None:
    """The Brier score of settled questions and its parts; None where there are none."""
    if not settled:
        return None
    count = len(settled)
    base = sum(item.came_true for item in settled) / count
    grouped: dict[int, list[Settled]] = {}
    for item in settled:
        grouped.setdefault(min(int(item.probability * BINS), BINS - 1), []).append(item)
    bins = tuple(_bin(grouped[key]) for key in sorted(grouped))
    brier = sum((item.probability - item.came_true) ** 2 for item in settled) / count
    reliability = sum(one.questions * (one.said - one.came_true) ** 2 for one in bins) / count
    resolution = sum(one.questions * (one.came_true - base) ** 2 for one in bins) / count
    uncertainty = base * (1 - base)
    return Score(
        count, brier, reliability, resolution, uncertainty, 1 - brier / uncertainty if uncertainty else None, bins
    )


def _bin(items: Sequence[Settled]) -> Bin:
    """Wilson's interval (E. B. Wilson, 1927), which stays inside 0 to 1 for few questions."""
    count, z = len(items), 1.96
    share = sum(item.came_true for item in items) / count
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return Bin(count, sum(item.probability for item in items) / count, share, middle - half, middle + half)
