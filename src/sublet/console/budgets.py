"""Budgets as bars: what is spent, what is held, what is left, and the thresholds on the way."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

from sublet.console.figures import money, per_cent
from sublet.console.model import ROWS_MAX, BudgetsQuery, BudgetsView, BudgetView, Told
from sublet.console.page import Page

WARN_PERCENT = 80
_PERIODS = {"day": "per day", "month": "per month", "ever": "in total"}

REFRESH_S = 10


@dataclass(frozen=True, slots=True)
class Tick:
    """A threshold on the bar, at a percentage of its width."""

    at: float
    reached: bool


@dataclass(frozen=True, slots=True)
class BudgetRow:
    """What the template draws of one budget. The bar's parts are percentages of its width; its whole is the limit, or what is
    used where that is more, and then `limit_at` says where on it the limit stands."""

    view: BudgetView
    terms: str
    spent: float
    held: float
    limit_at: float | None
    ticks: tuple[Tick, ...]
    percent: str
    tone: str
    word: str
    words: str
    rest: str
    told: str
    trouble: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class BudgetsPage:
    """The rows, and the addresses of the pages before and after; None where there is none."""

    rows: tuple[BudgetRow, ...]
    earlier: str | None
    later: str | None
    by_use: str
    by_organization: str


def budgets_page(gather: Callable[[BudgetsQuery], BudgetsView]) -> Page:
    """Every budget as a bar, the most used first."""

    def drawn(query: Mapping[str, str]) -> Mapping[str, object]:
        view = gather(BudgetsQuery.of(*(query.get(name, "") for name in ("find", "order", "offset"))))
        return {"view": view, "page": draw_budgets(view)}

    return Page("/budgets", "Budgets", "budgets.html", REFRESH_S, drawn, "budgets:read")


def draw_budgets(view: BudgetsView) -> BudgetsPage:
    """The page of `view`."""
    after = view.query.offset + len(view.rows)
    return BudgetsPage(
        tuple(draw_budget(item) for item in view.rows),
        _address(view, max(0, view.query.offset - ROWS_MAX)) if view.query.offset else None,
        _address(view, after) if after < view.many else None,
        _address(view, 0, order="use"),
        _address(view, 0, order="organization"),
    )


def draw_budget(view: BudgetView) -> BudgetRow:
    """One budget's bar and words."""
    limit, spent, held = view.limit.nano, max(0, view.spent.nano), max(0, view.held.nano)
    whole = max(limit, spent + held, 1)
    tone, word = _state(view)
    return BudgetRow(
        view=view,
        terms="prepaid"
        if view.prepaid
        else "credit limit"
        if view.credit
        else f"{'hard' if view.hard else 'soft'}, {_PERIODS.get(view.period, view.period)}",
        spent=_part(spent, whole),
        held=_part(held, whole),
        limit_at=_part(limit, whole) if 0 < limit < whole else None,
        ticks=tuple(
            Tick(_part(limit * percent, 100 * whole), spent * 100 >= limit * percent)
            for percent in view.thresholds
            if 0 < limit * percent < 100 * whole and percent != 100
        ),
        percent=per_cent(view.used.nano, limit),
        tone=tone,
        word=word,
        words=_words(view),
        rest=_rest(view),
        told=_told(view),
        trouble=_trouble(view),
    )


def _state(view: BudgetView) -> tuple[str, str]:
    if view.left.nano <= 0:
        return ("bad", "refuses work") if view.hard else ("busy", "limit reached")
    reached = max((item.percent for item in view.told), default=0)
    if view.used.nano * 100 >= view.limit.nano * WARN_PERCENT:
        return "busy", f"{reached} % reached" if reached >= WARN_PERCENT else "nearly used up"
    return ("quiet", f"{reached} % reached") if reached else ("good", "ok")


def _words(view: BudgetView) -> str:
    """The bar for those who hear it."""
    parts = [f"{money(view.spent)} {'owed' if view.credit else 'spent'}", f"{money(view.held)} held", _rest(view)]
    marks = ", ".join(f"{percent} %" for percent in view.thresholds)
    return f"{', '.join(parts)}." + (f" Alerts at {marks}." if marks else "")


def _rest(view: BudgetView) -> str:
    limit = f"{money(view.limit)} {view.limit.currency}"
    return (
        f"{money(view.left)} left of {limit}"
        if view.left.nano >= 0
        else f"{money(-view.left)} over the limit of {limit}"
    )


def _told(view: BudgetView) -> str:
    if not view.told:
        return ""
    return f"Alerts raised at {_marks(view.told)}" + ("." if view.channels else "; nobody is subscribed to them.")


def _trouble(view: BudgetView) -> tuple[tuple[str, str], ...]:
    """Each trouble once, with the thresholds that have it."""
    found: dict[str, list[Told]] = {}
    for item in view.told:
        if item.trouble:
            found.setdefault(item.trouble, []).append(item)
    return tuple((_marks(items), trouble) for trouble, items in found.items())


def _marks(told: Sequence[Told]) -> str:
    marks = [f"{item.percent}" for item in told]
    return f"{', '.join(marks[:-1])} and {marks[-1]} %" if len(marks) > 1 else f"{marks[0]} %"


def _part(part: int, whole: int) -> float:
    return min(1000 * part // whole, 1000) / 10


def _address(view: BudgetsView, offset: int, order: str = "") -> str:
    asked: Sequence[tuple[str, object]] = [
        ("find", view.query.find),
        ("order", order or view.query.order),
        ("offset", offset),
    ]
    query = urlencode([(name, value) for name, value in asked if value not in ("", 0, "use")])
    return f"/budgets?{query}" if query else "/budgets"
