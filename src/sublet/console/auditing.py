"""The audit log as a page: for a customer's admins what concerns their organization, for the operator and auditors everything."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode

from sublet.accounts.auditing import AuditLog
from sublet.accounts.people.service import People
from sublet.console.page import Act, Drawn, Screen, Visit
from sublet.store.audit import Verified, Wanted
from sublet.store.paging import PageRequest
from sublet.values.errors import InvalidInputError

PATH = "/audit"
SHOWN = 50
_FIELDS = ("who", "did", "to", "organization", "from", "until")
_FIELD_LENGTH_MAX = 80


def audit_screen(log: AuditLog, people: People) -> Screen:
    """`/audit`: who, what, to what, when, and for the operator whose; the chain verified on request."""

    def drawn(visit: Visit, verified: Verified | None = None) -> Drawn:
        asked = {name: visit.query.get(name, "")[:_FIELD_LENGTH_MAX].strip() for name in _FIELDS}
        own, everywhere = visit.session.organization, visit.actor.everywhere
        wanted = Wanted(
            asked["organization"] if everywhere else own.id,
            asked["who"],
            asked["did"],
            asked["to"],
            _day(asked["from"], "from"),
            _day(asked["until"], "until", after=True),
        )
        page = log.read(visit.actor, wanted, PageRequest(SHOWN, visit.query.get("after")))
        kept = {name: value for name, value in asked.items() if value}
        return Drawn(
            "audit.html",
            {
                "entries": page.items,
                "more": f"{PATH}?{urlencode({**kept, 'after': page.next})}" if page.next else "",
                "asked": asked,
                "everywhere": everywhere,
                "names": {
                    member.person.id: member.person.name
                    for member in people.member_page(own.id, PageRequest(200)).items
                },
                "verified": verified,
                "at": visit.at,
            },
        )

    def verify(visit: Visit) -> Drawn:
        return drawn(visit, log.verify(visit.actor))

    return Screen(PATH, "Audit log", "audit:read", drawn, {"verify": Act("audit:read", verify)})


def _day(text: str, what: str, *, after: bool = False) -> datetime | None:
    """The start of a day in UTC, or with `after` its end. Raises InvalidInputError."""
    if not text:
        return None
    try:
        day = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
        return day + timedelta(days=1) if after else day
    except (ValueError, OverflowError) as error:
        raise InvalidInputError(f"{what}: write a day such as 2026-12-01") from error
