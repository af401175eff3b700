"""Changes of a lease on its page: what each costs or saves is shown first, then it is carried out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from sublet.accounts.model import acting_for, checked_project
from sublet.console.moments import moment_of
from sublet.console.page import Act, Go, Visit
from sublet.leases.changes.model import ChangeRequest, LeaseChange
from sublet.leases.model import Lease, WrongStateError
from sublet.leases.service import Leases
from sublet.values.errors import ForbiddenError, InvalidInputError
from sublet.values.money import Money

LABEL_LINES_MAX = 40
_AMOUNT = re.compile(r"[0-9]{1,18}")


@dataclass(frozen=True, slots=True)
class ChangeShown:
    """A change before it is carried out, as its page shows it."""

    change: LeaseChange
    request: ChangeRequest

    @property
    def amounts(self) -> list[tuple[str, Money]]:
        """What it costs and saves, each that is not zero."""
        currency = self.change.before.currency
        told = (
            ("Costs at most", round(self.change.costs)),
            ("Saves", round(self.change.saves)),
            ("Fee", self.change.fee_nano),
        )
        return [(name, Money(nano, currency)) for name, nano in told if nano]


class Changing:
    """The acts of a lease's page, besides ending it."""

    def __init__(self, leases: Leases) -> None:
        self._leases = leases

    def acts(self) -> Mapping[str, Act]:
        """`change` and `name`; the preview draws the page, so it belongs to the page."""
        write = "leases:write"
        return {
            "change": Act(write, self._change, once=LeaseChange),
            "name": Act(write, self._name),
        }

    def preview(self, visit: Visit) -> ChangeShown:
        """What the form asks for, and what it comes to. Raises SubletError."""
        request, lease_id = self._request(visit), visit.path["lease_id"]
        self._permit(visit)
        return ChangeShown(self._leases.changes.preview(lease_id, request, visit.actor.organization_id), request)

    def ending(self, lease: Lease) -> str:
        """What giving it back now comes to, in one sentence; empty where it can't be given back."""
        if lease.state.terminal:
            return ""
        try:
            return self._leases.changes.preview_end(lease.id, lease.organization_id).sentence
        except (WrongStateError, InvalidInputError):
            return ""

    def _change(self, visit: Visit) -> Go:
        """At no higher price than the page before has shown."""
        lease_id = visit.path["lease_id"]
        self._permit(visit)
        self._leases.change(lease_id, self._request(visit), visit.actor.organization_id, visit.actor.key_id)
        return Go(f"/leases/{lease_id}")

    def _name(self, visit: Visit) -> Go:
        lease_id, form = visit.path["lease_id"], visit.form
        self._permit(visit)
        lines = [line.strip() for line in form.text("labels").splitlines() if line.strip()]
        if len(lines) > LABEL_LINES_MAX or any("=" not in line for line in lines):
            raise InvalidInputError("write one label to a line, as key=value")
        labels = [(key.strip(), value.strip()) for key, _, value in (line.partition("=") for line in lines)]
        self._leases.changes.name(lease_id, form.text("name"), labels, visit.actor.organization_id)
        return Go(f"/leases/{lease_id}")

    def _permit(self, visit: Visit) -> None:
        self._leases.permit(visit.path["lease_id"], visit.actor.organization_id, acting_for(visit.actor))

    def _request(self, visit: Visit) -> ChangeRequest:
        """Raises InvalidInputError, ForbiddenError."""
        form = visit.form
        kind = form.text("what")
        most = form.text("most_nano")
        if kind == "end":
            if most and not _AMOUNT.fullmatch(most):
                raise InvalidInputError("the price of the page before can't be read; open the lease again")
            return ChangeRequest(end=moment_of(form.text("end")), most_nano=int(most) if most else None)
        if kind == "accelerators":
            return ChangeRequest(accelerators=form.number("accelerators", "accelerators"))
        if kind == "project":
            project = checked_project(form.text("project"))
            if visit.actor.project and project != visit.actor.project:
                raise ForbiddenError(f"you act for project {visit.actor.project!r} and can move leases to no other")
            return ChangeRequest(project=project)
        raise InvalidInputError("choose what to change")
