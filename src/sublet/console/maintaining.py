"""Where the operator plans maintenance: whom a window would end, and for what credit, is shown first; then it is planned."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sublet.console.moments import moment_of
from sublet.console.page import Act, Drawn, Go, Screen, Visit
from sublet.leases.maintenance.service import MaintenancePlanned, MaintenanceRequest, MaintenanceWindows
from sublet.leases.reclaim.victims import Victim
from sublet.store.paging import PageRequest
from sublet.values.clock import parse_time
from sublet.values.errors import InvalidInputError
from sublet.values.money import Money

MAINTENANCE = "/maintenance"
SHOWN_MAX = 100
ACCELERATORS_MAX = 1_000_000

Stated = Callable[[str | None], list[dict[str, Any]]]
"""What the settings state, of the pool of that id or name or of all."""


class Maintaining:
    """The screen of maintenance."""

    def __init__(
        self, windows: MaintenanceWindows, stated: Stated, pools: Callable[[], Mapping[str, tuple[str, int]]]
    ) -> None:
        """`pools` are the names and the accelerators of pools, by id; one without accelerators only has a name."""
        self._windows = windows
        self._stated = stated
        self._pools = pools

    def screens(self) -> tuple[Screen, ...]:
        """`/maintenance`, for the operator."""
        write = "fleet:write"
        acts = {
            "plan": Act(write, self._plan),
            "add": Act(write, self._add, once=MaintenancePlanned),
            "cancel": Act(write, self._cancel),
        }
        shown = Screen(
            MAINTENANCE, "Maintenance", "fleet:read", lambda visit: self._drawn(visit, None), acts, everywhere=True
        )
        return (shown,)

    def _drawn(self, visit: Visit, planned: MaintenancePlanned | None) -> Drawn:
        pools = self._pools()
        page = self._windows.page(None, PageRequest(SHOWN_MAX, visit.query.get("after")))
        stated = [
            item | {"start": parse_time(item["start"]), "end": parse_time(item["end"])} for item in self._stated(None)
        ]
        return Drawn(
            "maintenance.html",
            {
                "page": page,
                "names": {pool_id: name for pool_id, (name, _) in pools.items()},
                "pools": sorted(pool for pool in pools.values() if pool[1]),
                "stated": stated,
                "plan": planned.plan if planned else None,
                "victims": [
                    (item, Money(item.credit_nano, item.lease.currency))
                    for item in (planned.plan.takes.victims if planned else ())
                    if isinstance(item, Victim)
                ],
                "credits": [Money(nano, currency) for currency, nano in sorted(planned.plan.credits.items())]
                if planned
                else [],
                "fields": visit.form.fields,
                "may_write": bool(visit.actor.may("fleet:write")),
                "at": visit.at,
            },
        )

    def _plan(self, visit: Visit) -> Drawn:
        return self._drawn(visit, self._windows.preview(self._request(visit), _who(visit)))

    def _add(self, visit: Visit) -> Go:
        self._windows.add(self._request(visit), _who(visit))
        return Go(MAINTENANCE)

    def _cancel(self, visit: Visit) -> Go:
        self._windows.cancel(visit.form.text("window")[:40], _who(visit))
        return Go(MAINTENANCE)

    def _request(self, visit: Visit) -> MaintenanceRequest:
        """Raises InvalidInputError, ForbiddenError where firm leases are to be broken without the permission."""
        form = visit.form
        count = form.number("accelerators", "accelerators") if form.text("accelerators").strip() else 0
        if not 0 <= count <= ACCELERATORS_MAX:
            raise InvalidInputError(f"accelerators must be a whole number from 1 to {ACCELERATORS_MAX}")
        force = form.text("force") == "yes"
        if force:
            visit.actor.require("firm:write")
        start = form.text("start").strip()
        reason = form.text("reason").strip() or "maintenance"
        return MaintenanceRequest(
            form.text("pool")[:80],
            moment_of(form.text("end")),
            count,
            moment_of(start) if start else None,
            reason,
            force,
        )


def _who(visit: Visit) -> str:
    return f"operator {visit.actor.id}"
