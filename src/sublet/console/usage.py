"""What an organization used: by day, model, key and project, down to the single request, and as CSV."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import Any
from urllib.parse import quote, urlencode
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse

from sublet.accounts.model import acting_for
from sublet.accounts.people.model import Session
from sublet.accounts.people.sessions import Sessions
from sublet.accounts.service import Accounts
from sublet.console.forms import Form
from sublet.console.frame import HEADERS, Pages
from sublet.console.page import Drawn, Screen, Visit
from sublet.console.pages import signed_in, visit_of
from sublet.ledger.exports import csv_parts
from sublet.ledger.service import Ledger
from sublet.ledger.usage import days
from sublet.ledger.usage.days import BY, ROWS_MAX, UsageRecord, Used, Wanted
from sublet.ledger.usage.meters import METERS
from sublet.store.paging import PageRequest
from sublet.values.errors import InvalidInputError, NotFoundError, SubletError
from sublet.values.money import Money, decimal_from_nano

PATH = "/usage"
PERMISSION = "usage:read"
DAYS_DEFAULT = 30
DAYS_MAX = 366
YEARS = (2000, 2999)
RECORDS_SHOWN = 50
RECORDS_OF_ONE_MAX = 500
FOUND_WITHIN = timedelta(days=31)
"""How far back a request is looked for whose day nobody named."""
FILTERS = ("item", "meter", "project", "key_id")
LABELS = {"day": "Day", "item": "Model or class", "meter": "Meter", "project": "Project", "key_id": "Key"}
_METERS: dict[str, tuple[str, int, int]] = {
    "accelerator.seconds": ("Accelerator-hours", 3_600, 2),
    "lease.fees": ("Fees", 1, 0),
    "storage.mib_hours": ("GiB-hours of storage", 1_024, 2),
    "tokens.input": ("Input tokens", 1, 0),
    "tokens.input_cached": ("Cached input tokens", 1, 0),
    "tokens.output": ("Output tokens", 1, 0),
    "tokens.reasoning": ("Reasoning tokens", 1, 0),
    "images": ("Number of images", 1, 0),
    "audio.seconds": ("Minutes of audio", 60, 2),
    "requests": ("Requests", 1, 0),
    "energy.wh": ("Kilowatt-hours", 1_000, 2),
}
"""How each meter is shown: its name, how many of its units make one, and decimals."""
CSV_COLUMNS = ("day", "item", "meter", "quantity", "unit", "project", "key", "key_name", "amount", "currency")


@dataclass(frozen=True, slots=True)
class Asked:
    """What the address asks for; `text` are its parts, for links."""

    wanted: Wanted
    by: str
    text: Mapping[str, str]

    def link(self, path: str = PATH, **changed: str) -> str:
        """The same page with other values; empty ones are left out."""
        return f"{path}?{urlencode({name: value for name, value in {**self.text, **changed}.items() if value})}"


@dataclass(frozen=True, slots=True)
class UsageRow:
    """A group of the table: its name, where it leads, how much of each meter, and what it cost before credits."""

    label: str
    link: str
    quantities: Mapping[str, str]
    amount: Money
    percent: float


@dataclass(frozen=True, slots=True)
class DayBar:
    """A bar of the chart; `left` and `height` are percentages."""

    day: str
    left: float
    width: float
    height: float
    amount: Money


class UsagePages:
    """The screens of usage. A key with a project sees that project alone."""

    def __init__(self, ledger: Ledger, accounts: Accounts) -> None:
        self._ledger = ledger
        self._store = ledger.store
        self._accounts = accounts

    def screens(self) -> tuple[Screen, ...]:
        """`/usage`, `/usage/records` and `/usage/records/{resource}`."""
        return (
            Screen(PATH, "Usage", PERMISSION, self._show, tenants=True),
            Screen(f"{PATH}/records", "", PERMISSION, self._show_records, tenants=True),
            Screen(f"{PATH}/records/{{resource}}", "", PERMISSION, self._show_record, tenants=True),
        )

    def _show(self, visit: Visit) -> Drawn:
        asked = asked_of(visit)
        currency = visit.session.organization.currency
        with self._store.read() as connection:
            behind = days.is_behind(connection)
            by_day = days.used_by(connection, asked.wanted, "day")
            grouped = by_day if asked.by == "day" else days.used_by(connection, asked.wanted, asked.by)
        names = self._key_names(visit, [item.of for item in grouped] if asked.by == "key_id" else [], asked)
        rows = rows_of(asked, grouped, names, currency)
        return Drawn(
            "usage.html",
            {
                "asked": asked,
                "by": [(name, LABELS[name]) for name in BY],
                "rows": rows,
                "cut": asked.by != "day" and len(grouped) >= ROWS_MAX,
                "meters": meters_of(grouped),
                "bars": bars_of(asked.wanted, by_day, currency),
                "total": Money(sum(item.nano for item in by_day), currency),
                "totals": totals_of(by_day),
                "filters": [
                    (LABELS[name], shown_value(name, value, names), asked.link(**{name: ""}))
                    for name in FILTERS
                    if (value := asked.text.get(name))
                ],
                "behind": behind,
                "timezone": visit.session.organization.timezone,
                "at": visit.at,
            },
        )

    def _show_records(self, visit: Visit) -> Drawn:
        asked = asked_of(visit)
        with self._store.read() as connection:
            page = days.records(
                connection,
                asked.wanted,
                visit.session.organization.timezone,
                PageRequest(RECORDS_SHOWN, visit.query.get("after")),
            )
        names = self._key_names(visit, [item.key_id for item in page.items], asked)
        return Drawn(
            "usage_records.html",
            {
                "asked": asked,
                "records": [(item, quantity_of(item.meter, item.steps), path_of(item)) for item in page.items],
                "next": asked.link(f"{PATH}/records", after=page.next) if page.next else "",
                "names": names,
                "meter_names": {name: label for name, (label, _, _) in _METERS.items()},
                "timezone": visit.session.organization.timezone,
                "zone": ZoneInfo(visit.session.organization.timezone),
            },
        )

    def _show_record(self, visit: Visit) -> Drawn:
        resource = visit.path["resource"]
        around = visit.query.get("day", "")
        zone = ZoneInfo(visit.session.organization.timezone)
        if around:
            start = datetime.combine(_day(around, "day"), datetime.min.time(), zone)
            since, until = start - timedelta(days=1), start + timedelta(days=2)
        else:
            since, until = visit.at - FOUND_WITHIN, visit.at + timedelta(days=1)
        with self._store.read() as connection:
            found = days.records_of(connection, visit.actor.organization_id, resource, since, until, RECORDS_OF_ONE_MAX)
        mine = acting_for(visit.actor)
        found = [item for item in found if not mine or item.project == mine]
        if not found:
            raise NotFoundError(
                f"no usage of {resource[:80]!r} was found in the last {FOUND_WITHIN.days} days; check the id, or open it from "
                "the list of its day"
            )
        currency = visit.session.organization.currency
        shown = [
            (item, quantity_of(item.meter, item.steps), [Money(nano, currency) for _, _, _, nano in item.lines])
            for item in found
        ]
        nano = sum(line[3] for item in found for line in item.lines)
        return Drawn(
            "usage_record.html",
            {
                "resource": resource,
                "records": shown,
                "first": found[0],
                "total": Money(nano, currency),
                "waiting": any(not item.lines for item in found),
                "names": self._key_names(visit, [item.key_id for item in found]),
                "meter_names": {name: label for name, (label, _, _) in _METERS.items()},
                "timezone": visit.session.organization.timezone,
                "zone": zone,
                "is_lease": resource.startswith("lse_"),
            },
        )

    def _key_names(self, visit: Visit, ids: Sequence[str], asked: Asked | None = None) -> dict[str, str]:
        wanted = [*ids, asked.text.get("key_id", "")] if asked else list(ids)
        return self._accounts.key_names(visit.actor.organization_id, [item for item in wanted if item])

    def csv(self, visit: Visit) -> Iterator[bytes]:
        """The rows of the days as CSV: nothing is grouped. Raises SubletError before the first part."""
        asked, currency = asked_of(visit), visit.session.organization.currency
        return csv_parts(CSV_COLUMNS, self._csv_rows(visit, asked.wanted, currency))

    def _csv_rows(self, visit: Visit, wanted: Wanted, currency: str) -> Iterator[Mapping[str, Any]]:
        day = wanted.since
        while day <= wanted.until:
            with self._store.read() as connection:
                found = days.rows_of_day(connection, wanted, day)
            names = self._key_names(visit, [row[3] for row in found])
            for item, meter, project, key_id, steps, nano in found:
                yield {
                    "day": day.isoformat(),
                    "item": item,
                    "meter": meter,
                    "quantity": METERS[meter].units(steps),
                    "unit": METERS[meter].unit,
                    "project": project,
                    "key": key_id,
                    "key_name": names.get(key_id, ""),
                    "amount": decimal_from_nano(nano),
                    "currency": currency,
                }
            day += timedelta(days=1)


def usage_router(sessions: Sessions, pages: Pages, usage: UsagePages) -> APIRouter:
    """GET /usage/export.csv, with the query of `/usage`."""
    routes = APIRouter(include_in_schema=False)

    @routes.get(f"{PATH}/export.csv")
    def export(request: Request) -> Response:
        def answer(session: Session) -> Response:
            visit = visit_of(request, session, Form(), usage._store.clock.now())
            try:
                visit = replace(visit, actor=session.actor.require(PERMISSION))
                rows = usage.csv(visit)
            except SubletError as error:
                return pages.problem(request, error)
            named = {"Content-Disposition": 'attachment; filename="usage.csv"'}
            return StreamingResponse(rows, media_type="text/csv; charset=utf-8", headers={**HEADERS, **named})

        return signed_in(request, sessions, answer)

    return routes


def asked_of(visit: Visit) -> Asked:
    """Raises InvalidInputError for a date that is none, and too long a span."""
    today = visit.at.astimezone(ZoneInfo(visit.session.organization.timezone)).date()
    text = {name: visit.query.get(name, "")[:200] for name in ("since", "until", "by", *FILTERS)}
    until = _day(text["until"], "the last day") if text["until"] else today
    since = _day(text["since"], "the first day") if text["since"] else until - timedelta(days=DAYS_DEFAULT - 1)
    if not since <= until or (until - since).days >= DAYS_MAX:
        raise InvalidInputError(f"choose a first day before the last one, at most {DAYS_MAX} days apart")
    mine = acting_for(visit.actor)
    if mine:
        text["project"] = mine
    by = text["by"] if text["by"] in BY else "day"
    wanted = Wanted(visit.actor.organization_id, since, until, *(text[name] for name in FILTERS))
    return Asked(wanted, by, {**text, "since": since.isoformat(), "until": until.isoformat(), "by": by})


def rows_of(asked: Asked, used: Sequence[Used], names: Mapping[str, str], currency: str) -> list[UsageRow]:
    """The table's rows: days newest first, all else by amount."""
    groups: dict[str, list[Used]] = {}
    for item in used:
        groups.setdefault(item.of, []).append(item)
    sums = {of: sum(item.nano for item in group) for of, group in groups.items()}
    most = max([*sums.values(), 1])
    newest_first = asked.by == "day"
    order = sorted(groups, reverse=True) if newest_first else sorted(groups, key=lambda of: (-sums[of], of))
    return [
        UsageRow(
            shown_value(asked.by, of, names),
            _narrowed(asked, of),
            {item.meter: quantity_of(item.meter, item.steps) for item in groups[of]},
            Money(sums[of], currency),
            max(0, sums[of]) * 1000 // most / 10,
        )
        for of in order
    ]


def _narrowed(asked: Asked, of: str) -> str:
    """A day leads to its requests; all else narrows the page, and shows the days."""
    if asked.by == "day":
        return asked.link(f"{PATH}/records", since=of, until=of)
    return asked.link(**{asked.by: of, "by": "day"}) if of else ""


def bars_of(wanted: Wanted, used: Sequence[Used], currency: str) -> list[DayBar]:
    """One bar for each day of the span, empty days too."""
    sums: dict[str, int] = {}
    for item in used:
        sums[item.of] = sums.get(item.of, 0) + item.nano
    many = (wanted.until - wanted.since).days + 1
    most = max([*sums.values(), 1])
    found = []
    for number in range(many):
        day = (wanted.since + timedelta(days=number)).isoformat()
        nano = sums.get(day, 0)
        height = max(0, nano) * 1000 // most / 10
        found.append(DayBar(day, round(100 * number / many, 3), round(100 / many, 3), height, Money(nano, currency)))
    return found


def totals_of(used: Sequence[Used]) -> list[tuple[str, str]]:
    """Each meter's name with all that was used of it."""
    sums: dict[str, int] = {}
    for item in used:
        sums[item.meter] = sums.get(item.meter, 0) + item.steps
    return [(_METERS[meter][0], quantity_of(meter, steps)) for meter, steps in sums.items()]


def meters_of(used: Sequence[Used]) -> list[tuple[str, str]]:
    """The meters of the table's columns, in the order in which they are known."""
    there = {item.meter for item in used}
    return [(meter, label) for meter, (label, _, _) in _METERS.items() if meter in there]


def quantity_of(meter: str, steps: int) -> str:
    """Steps of a meter as people read them."""
    _, units, decimals = _METERS[meter]
    return f"{METERS[meter].units(steps) / units:,.{decimals}f}"


def shown_value(name: str, value: str, names: Mapping[str, str]) -> str:
    """A group as people know it; empty for usage without one."""
    if name == "meter":
        return _METERS[value][0] if value in _METERS else value
    return names.get(value, value) if name == "key_id" else value


def path_of(record: UsageRecord) -> str:
    """The page of what a usage event is of."""
    if not record.resource:
        return ""
    return f"{PATH}/records/{quote(record.resource, safe='')}?day={record.at.date().isoformat()}"


def _day(text: str, what: str) -> date:
    try:
        found = date.fromisoformat(text[:10])
    except ValueError as error:
        raise InvalidInputError(f"{what} must be a date such as 2026-07-02") from error
    if not YEARS[0] <= found.year <= YEARS[1]:
        raise InvalidInputError(f"{what} must be in the years from {YEARS[0]} through {YEARS[1]}")
    return found
