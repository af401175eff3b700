"""Two verdicts that are never one: does this owner have surplus, and does the industry have a glut?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sublet.desk.formulas import formula
from sublet.desk.terms import Number
from sublet.values.errors import InvalidInputError

GLUT_RUN_MIN = 2
"""Windows running in which capacity must exceed demand before it may be called a glut."""


@dataclass(frozen=True, slots=True)
class OwnerWindow:
    """One owner in one window: what lies idle and what it buys or leases in elsewhere, in MW."""

    window: str
    idle_mw: float
    bought_mw: float

    def __post_init__(self) -> None:
        if self.idle_mw < 0 or self.bought_mw < 0:
            raise InvalidInputError(
                f"window {self.window}: idle and bought megawatts can't be negative; write 0 for none"
            )


@dataclass(frozen=True, slots=True)
class IndustryWindow:
    """The whole industry in one window, in MW. Capacity and demand are of one family and basis."""

    window: str
    capacity_mw: float
    demand_mw: float

    def __post_init__(self) -> None:
        if not self.capacity_mw > 0:
            raise InvalidInputError(
                f"window {self.window}: capacity is {self.capacity_mw:g}; write a number above zero"
            )


@dataclass(frozen=True, slots=True)
class Verdicts:
    """What the evidence says, side by side."""

    owner_surplus: bool
    reallocation: bool
    net_mw: tuple[float, ...]
    slack: tuple[float, ...]
    longest_slack_run: int
    industry_glut: bool
    largest_share_of_industry: float

    @property
    def owner_sentence(self) -> str:
        if not self.owner_surplus:
            return "The owner has no surplus in any window."
        how = " and buys capacity in the same window: it reallocates" if self.reallocation else ""
        return f"The owner has surplus{how}; at most {self.largest_share_of_industry:.2%} of the industry's capacity."

    @property
    def industry_sentence(self) -> str:
        if self.industry_glut:
            return (
                f"The industry has a glut: {self.longest_slack_run} windows running with capacity above demand, "
                "contract prices falling and next-year capex guidance revised down."
            )
        return (
            f"No industry glut is shown: longest run of windows with capacity above demand is {self.longest_slack_run}."
        )


@formula("share", capacity="MW", demand="MW", target="share")
def slack(capacity: Number, demand: Number, target: Number) -> Number:
    """Spare part of the capacity that the industry wants to keep busy: 1 - demand / (capacity x target)."""
    return 1.0 - demand / (capacity * target)


def judge(
    owner: Sequence[OwnerWindow],
    industry: Sequence[IndustryWindow],
    *,
    target_utilization: float,
    contract_price_falling: bool,
    capex_guidance_cut: bool,
) -> Verdicts:
    """Both verdicts from the same windows.

    Surplus: idle > 0 in some window. Reallocation: idle and bought in the same one. Glut: slack in at least two windows
    running, and contract price falling, and guidance revised down; any one of them missing, and it is not shown.
    """
    if [row.window for row in owner] != [row.window for row in industry]:
        raise InvalidInputError(
            "owner and industry must cover the same windows in the same order; give both for each one"
        )
    if not 0 < target_utilization <= 1:
        raise InvalidInputError(f"target_utilization is {target_utilization:g}; write a fraction above 0, at most 1")
    spare = tuple(float(slack(row.capacity_mw, row.demand_mw, target_utilization)) for row in industry)
    run = longest_run([value > 0 for value in spare])
    largest = [mine.idle_mw / whole.capacity_mw for mine, whole in zip(owner, industry, strict=True)]
    return Verdicts(
        owner_surplus=any(row.idle_mw > 0 for row in owner),
        reallocation=any(row.idle_mw > 0 and row.bought_mw > 0 for row in owner),
        net_mw=tuple(row.idle_mw - row.bought_mw for row in owner),
        slack=spare,
        longest_slack_run=run,
        industry_glut=run >= GLUT_RUN_MIN and contract_price_falling and capex_guidance_cut,
        largest_share_of_industry=max(largest, default=0.0),
    )


def longest_run(flags: Sequence[bool]) -> int:
    """The length of the longest unbroken run of True."""
    longest = current = 0
    for flag in flags:
        current = current + 1 if flag else 0
        longest = max(longest, current)
    return longest
