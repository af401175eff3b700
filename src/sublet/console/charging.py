"""Charge-back: what internal teams used in a month, and what they are charged."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode

from fastapi import APIRouter, Request
from fastapi.responses import Response, StreamingResponse

from sublet.accounts.model import Actor
from sublet.accounts.people.model import Session
from sublet.accounts.people.sessions import Sessions
from sublet.allocation.chargeback.service import Chargeback, Wanted
from sublet.console.frame import HEADERS, Pages
from sublet.console.page import Drawn, Screen, Visit
from sublet.console.pages import signed_in
from sublet.values.errors import SubletError

PATH, PERMISSION = "/chargeback", "chargeback:read"
BASES = (("cost", "cost"), ("market", "market price"), ("opportunity", "what use displaced"))
STATES = (
    ("internal", "Used by the owner"),
    ("external", "Sold"),
    ("starting", "Starting"),
    ("draining", "Draining"),
    ("withheld", "Withheld from sale"),
    ("unsold", "On sale, unsold"),
    ("unavailable", "Out of service"),
)
"""All accelerator-hours of a month, in the order of the bar."""
MONTHS = 13
TEXT_MAX = 20


class Charging:
    """The screen of charge-back: every team for the owner, its own line for a team."""

    def __init__(self, chargeback: Chargeback, now: Callable[[], datetime]) -> None:
        self.chargeback = chargeback
        self._now = now

    def screen(self) -> Screen:
        return Screen(PATH, "Charge-back", PERMISSION, self._show)

    def _show(self, visit: Visit) -> Drawn:
        wanted = wanted_of(visit.actor, visit.query.get("month", ""), visit.query.get("basis", ""))
        found = self.chargeback.statements(wanted)
        links = {
            form: f"{PATH}/export.csv?" + urlencode({"month": found["month"], "basis": found["basis"], "format": form})
            for form in ("csv", "focus")
        }
        return Drawn(
            "chargeback.html",
            {
                "found": found,
                "shown": [_shown(item) for item in found["statements"]],
                "links": links,
                "bases": BASES,
                "months": _months(self._now()),
                "whole": not wanted.team,
            },
        )


def wanted_of(actor: Actor, month: str, basis: str) -> Wanted:
    """What a person may see of it."""
    return Wanted(month[:TEXT_MAX], basis[:TEXT_MAX], "" if actor.everywhere else actor.organization_id)


def _shown(item: dict[str, Any]) -> dict[str, Any]:
    """A statement with the parts of its bar, in percent of all accelerator-hours."""
    states, parts, left = item["accelerators"], [], 0.0
    if states is not None and states["total_s"]:
        for name, label in STATES:
            share = 100 * states[f"{name}_s"] / states["total_s"]
            parts.append({"name": name, "label": label, "seconds": states[f"{name}_s"], "left": left, "share": share})
            left += share
    amounts = {name: _grouped(item[name]) for name in ("total", "displaced")}
    teams = [
        {**team, "charge": _grouped(team["charge"]), "displaced": _grouped(team["displaced"])} for team in item["teams"]
    ]
    return {**item, **amounts, "teams": teams, "parts": parts}


def _grouped(amount: str | None) -> str | None:
    """An amount with its thousands apart."""
    return f"{Decimal(amount):,}" if amount is not None else None


def _months(now: datetime) -> list[str]:
    """The last months, the current one first."""
    found, at = [], now.astimezone(UTC)
    for _ in range(MONTHS):
        found.append(f"{at:%Y-%m}")
        at = at.replace(day=1) - timedelta(days=1)
    return found


def chargeback_router(sessions: Sessions, pages: Pages, chargeback: Chargeback) -> APIRouter:
    """GET /chargeback/export.csv, with the query of the page."""
    routes = APIRouter(include_in_schema=False)

    @routes.get(f"{PATH}/export.csv")
    def export(request: Request) -> Response:
        def answer(session: Session) -> Response:
            query = request.query_params
            try:
                actor = session.actor.require(PERMISSION)
                wanted = wanted_of(actor, query.get("month", ""), query.get("basis", ""))
                rows = chargeback.export(wanted, query.get("format", "csv"))
            except SubletError as error:
                return pages.problem(request, error)
            named = {"Content-Disposition": f'attachment; filename="chargeback-{wanted.month or "now"}.csv"'}
            return StreamingResponse(rows, media_type="text/csv; charset=utf-8", headers={**HEADERS, **named})

        return signed_in(request, sessions, answer)

    return routes
