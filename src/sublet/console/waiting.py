"""The waiting list: what an organization waits for, and for the operator the demand that nobody has met."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal, InvalidOperation

from sublet.accounts.model import acting_for
from sublet.console.forms import whole
from sublet.console.page import Act, Drawn, Go, Screen, Visit
from sublet.leases.quotes.admission import QuoteRequest
from sublet.leases.service import Leases
from sublet.leases.waitlist.model import Entry, NewEntry
from sublet.store.paging import PageRequest
from sublet.values.errors import InvalidInputError
from sublet.values.money import nano_from_decimal

WAITLIST, UNMET = "/waitlist", "/unmet-demand"
SHOWN_MAX = 100
HOURS_MAX = 26_352


class Waiting:
    """The screens of the waiting list: `/waitlist` for tenants, `/unmet-demand` for the operator."""

    def __init__(self, leases: Leases, pool_names: Callable[[], Mapping[str, str]], usual: Callable[[], Sequence[str]]):
        """`usual` gives the names of the pools that can be asked for, in the order in which they are offered."""
        self._leases, self._pool_names, self._usual = leases, pool_names, usual

    def screens(self) -> tuple[Screen, ...]:
        read, write = "leases:read", "leases:write"
        acts = {"join": Act(write, self._join, once=Entry), "leave": Act(write, self._leave)}
        return (
            Screen(WAITLIST, "Waiting list", read, self._show, acts, tenants=True),
            Screen(UNMET, "Unmet demand", "demand:read", self._show_unmet, everywhere=True),
        )

    def _show(self, visit: Visit) -> Drawn:
        page = self._leases.waitlist.page(visit.actor.organization_id, PageRequest(SHOWN_MAX, visit.query.get("after")))
        fields = visit.form.fields or visit.query
        return Drawn(
            "waitlist.html",
            {
                "page": page,
                "pools": self._pool_names(),
                "names": self._usual(),
                "classes": [item.name for item in self._leases.classes.on_sale if item.by_window],
                "class_default": self._leases.class_default,
                "may_write": bool(visit.actor.may("leases:write")),
                "fields": fields,
                "at": visit.at,
                "refresh_s": 10,
            },
        )

    def _show_unmet(self, visit: Visit) -> Drawn:
        return Drawn("unmet.html", {"unmet": self._leases.waitlist.unmet(), "at": visit.at, "refresh_s": 10})

    def _join(self, visit: Visit) -> Go:
        form = visit.form
        if form.text("consent") != "yes":
            raise InvalidInputError("select the checkbox to let the operator keep and see this request")
        keys = [line.strip() for line in form.text("ssh_key").splitlines() if line.strip()]
        if form.text("buy") == "yes" and not keys:
            raise InvalidInputError("paste a public SSH key: a lease that is bought by itself needs one")
        request = QuoteRequest(
            whole(form.text("accelerators"), "accelerators", 4_096),
            form.text("class")[:16],
            pool=form.text("pool")[:60],
            duration_s=3_600 * whole(form.text("hours"), "hours", HOURS_MAX),
        )
        wanted = NewEntry(
            request,
            _price(form.text("max_price")),
            ssh_public_keys=tuple(keys) if form.text("buy") == "yes" else (),
        )
        actor = visit.actor
        self._leases.waitlist.join(actor.organization_id, wanted, actor.key_id, acting_for(actor))
        return Go(WAITLIST)

    def _leave(self, visit: Visit) -> Go:
        actor = visit.actor
        self._leases.waitlist.leave(visit.form.text("entry")[:40], actor.organization_id, acting_for(actor))
        return Go(WAITLIST)


def _price(text: str) -> int | None:
    """A price limit as it was typed, in nano-units; None if there is none. Raises InvalidInputError."""
    if not text.strip():
        return None
    try:
        amount = Decimal(text.strip())
    except InvalidOperation as error:
        raise InvalidInputError("write the price limit as a number, such as 1.50") from error
    if not amount.is_finite() or not 0 < amount < 1_000_000:
        raise InvalidInputError("the price limit must be above 0 and below 1,000,000")
    return nano_from_decimal(amount)
