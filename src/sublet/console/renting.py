"""Where a customer rents: offers now, a quote, and its leases, each with its next act."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from sublet.accounts.model import acting_for
from sublet.console.changing import ChangeShown, Changing
from sublet.console.forms import whole
from sublet.console.moments import moment_of, typed_moment
from sublet.console.page import Act, Drawn, Go, Screen, Visit
from sublet.leases.model import Lease, OnReclaim, Quote, QuoteExpiredError, told_to_tenant
from sublet.leases.quotes.admission import QuoteRequest
from sublet.leases.service import Leases
from sublet.store.paging import PageRequest
from sublet.surplus.deadlines.kinds import ORDER_HOURS_MAX
from sublet.values.errors import InvalidInputError, NotFoundError
from sublet.values.money import Money

OFFERS, LEASES = "/offers", "/leases"
HOURS_DEFAULT = 8
HOURS_MAX = 26_352
SERVICE_HOURS_DEFAULT = "1"
BY_DEFAULT = timedelta(hours=25)
"""A day, and what starts and pauses are allowed to cost."""
LEASES_SHOWN_MAX = 100
HISTORY_MAX = 50


@dataclass(frozen=True, slots=True)
class ClassOffer:
    """A class on a pool: what it promises, how many may be had now for the asked time, and its price per accelerator-hour, None
    where the price book has none."""

    name: str
    sentence: str
    count: int
    price: Money | None


@dataclass(frozen=True, slots=True)
class DeadlineOffer:
    """A class that is sold as hours by a deadline: its price, and of each kind of order how many accelerators it may be for
    now."""

    name: str
    sentence: str
    kinds: tuple[tuple[str, int], ...]
    price: Money | None


@dataclass(frozen=True, slots=True)
class PoolOffer:
    """A pool with what may be rented of it now."""

    name: str
    generation: str
    site: str
    classes: tuple[ClassOffer, ...]
    deadlines: tuple[DeadlineOffer, ...] = ()


Offering = Callable[[str, timedelta], list[PoolOffer]]
"""(organization's id, for how long) to what may be rented now, by pool."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """What a form asks to rent, as it was typed; `after` is the lease that it follows, `by` the deadline, in UTC, of hours that
    are sold by one."""

    pool: str
    class_name: str
    accelerators: str
    hours: str
    after: str
    by: str = ""
    may_move: bool = False

    @classmethod
    def of(cls, fields: Mapping[str, str]) -> Chosen:
        return cls(
            fields.get("pool", "")[:80],
            fields.get("class", "")[:40],
            fields.get("accelerators", "1")[:9] or "1",
            fields.get("hours", str(HOURS_DEFAULT))[:9] or str(HOURS_DEFAULT),
            fields.get("after", "")[:40],
            fields.get("by", "")[:40],
            fields.get("on_reclaim", "") == OnReclaim.MOVE.value,
        )

    def request(self, start: datetime | None) -> QuoteRequest:
        """Raises InvalidInputError."""
        accelerators = whole(self.accelerators, "accelerators", 4_096)
        if self.by:
            service_s = 3_600 * whole(self.hours, "hours", ORDER_HOURS_MAX)
            return QuoteRequest(accelerators, self.class_name, moment_of(self.by), pool=self.pool, service_s=service_s)
        return QuoteRequest(
            accelerators,
            self.class_name,
            start=start,
            pool=self.pool,
            duration_s=3_600 * whole(self.hours, "hours", HOURS_MAX),
            on_reclaim=OnReclaim.MOVE if self.may_move else OnReclaim.END,
        )


class Renting:
    """The screens of renting."""

    def __init__(self, leases: Leases, offering: Offering, pool_names: Callable[[], Mapping[str, str]]) -> None:
        self._leases = leases
        self._offering = offering
        self._pool_names = pool_names
        self._changing = Changing(leases)

    def screens(self) -> tuple[Screen, ...]:
        """`/offers`, `/quotes/{quote_id}`, `/leases` and `/leases/{lease_id}`."""
        read, write = "leases:read", "leases:write"
        again = Act(write, self._ask)
        return (
            Screen(OFFERS, "Offers", write, self._show_offers, {"quote": again}, tenants=True),
            Screen(
                "/quotes/{quote_id}", "", write, self._show_quote, {"accept": Act(write, self._accept), "quote": again}
            ),
            Screen(LEASES, "Leases", read, self._show_leases, tenants=True),
            Screen(
                f"{LEASES}/{{lease_id}}",
                "",
                read,
                lambda visit: self._drawn_lease(visit, None),
                {"end": Act(write, self._end), "plan": Act(write, self._plan), **self._changing.acts()},
            ),
        )

    # -- offers and quotes

    def _show_offers(self, visit: Visit) -> Drawn:
        chosen = Chosen.of(visit.form.fields or visit.query)
        try:
            hours = HOURS_DEFAULT if chosen.by else whole(chosen.hours, "hours", HOURS_MAX)
        except InvalidInputError:
            hours = HOURS_DEFAULT
        offers = self._offering(visit.actor.organization_id, timedelta(hours=hours))
        here = next((item for item in offers if item.name == chosen.pool), offers[0] if offers else None)
        followed = self._followed(visit, chosen)
        return Drawn(
            "offers.html",
            {
                "offers": offers,
                "pool": here,
                "chosen": chosen,
                "hours": hours,
                "wanted_class": chosen.class_name
                if not chosen.by and chosen.class_name
                else self._leases.class_default,
                "wanted_hours": hours if chosen.by else chosen.hours,
                "heads": [(item.name, "number") for item in here.classes] if here else [],
                "followed": followed,
                "by": chosen.by or typed_moment(visit.at + BY_DEFAULT),
                "service_hours": chosen.hours if chosen.by else SERVICE_HOURS_DEFAULT,
                "order_hours_max": ORDER_HOURS_MAX,
                "at": visit.at,
            },
        )

    def _ask(self, visit: Visit) -> Go:
        chosen = Chosen.of(visit.form.fields)
        followed = self._followed(visit, chosen)
        return Go(f"/quotes/{self._quoted(visit, chosen, followed).id}")

    def _quoted(self, visit: Visit, chosen: Chosen, followed: Lease | None) -> Quote:
        """The quote that a form asks for: the same one however often the form is sent, another one where it was changed."""
        request = chosen.request(followed.window.end if followed else None)
        asked = hashlib.sha256(f"{visit.session.id} {visit.form.once()} {request}".encode()).hexdigest()
        return self._leases.quote(visit.actor.organization_id, request, f"form {asked}")

    def _followed(self, visit: Visit, chosen: Chosen) -> Lease | None:
        if not chosen.after:
            return None
        lease = self._leases.lease(chosen.after, visit.actor.organization_id)
        return None if lease.state.terminal else lease

    def _show_quote(self, visit: Visit) -> Drawn:
        quote_id = visit.path["quote_id"]
        quotes = self._leases.open_quotes(visit.actor.organization_id)
        quote = next((item for item in quotes if item.id == quote_id), None)
        if quote is None:
            raise NotFoundError("this quote has expired or was already accepted; request a new one under Offers")
        return self._drawn_quote(visit, quote, "")

    def _drawn_quote(self, visit: Visit, quote: Quote, notice: str) -> Drawn:
        named = self._leases.classes.get(quote.class_name)
        return Drawn(
            "quote.html",
            {
                "quote": quote,
                "pool": self._pool_names().get(quote.pool_id, quote.pool_id),
                "sentence": named.sentence if named else "",
                "rate": Money(quote.price_nano, quote.currency),
                "total": Money(quote.total_nano, quote.currency),
                "hours": quote.billable_s / 3_600,
                "by": typed_moment(quote.window.end) if quote.service_s is not None else "",
                "latest_start": quote.window.end - timedelta(seconds=quote.billable_s),
                "key": self._last_key(visit),
                "notice": notice,
                "at": visit.at,
            },
        )

    def _accept(self, visit: Visit) -> Drawn | Go:
        keys = [line.strip() for line in visit.form.text("ssh_key").splitlines() if line.strip()]
        if not keys:
            raise InvalidInputError("paste your public SSH key, such as the content of ~/.ssh/id_ed25519.pub")
        try:
            lease = self._leases.accept(
                visit.actor.organization_id,
                visit.path["quote_id"],
                keys,
                None,
                key_id=visit.actor.key_id,
                project=visit.actor.project,
            )
        except QuoteExpiredError:
            chosen = Chosen.of(visit.form.fields)
            followed = self._followed(visit, chosen)
            return self._drawn_quote(visit, self._quoted(visit, chosen, followed), keys[0])
        return Go(f"{LEASES}/{lease.id}")

    def _last_key(self, visit: Visit) -> str:
        """The public key of the newest lease, so that nobody pastes it twice."""
        found = self._leases.lease_page(visit.actor.organization_id, PageRequest(1)).items
        return "\n".join(found[0].ssh_public_keys) if found else ""

    # -- leases

    def _show_leases(self, visit: Visit) -> Drawn:
        page = self._leases.lease_page(
            visit.actor.organization_id, PageRequest(LEASES_SHOWN_MAX, visit.query.get("after"))
        )
        return Drawn("my_leases.html", {"page": page, "pools": self._pool_names(), "at": visit.at})

    def _plan(self, visit: Visit) -> Drawn:
        return self._drawn_lease(visit, self._changing.preview(visit))

    def _drawn_lease(self, visit: Visit, planned: ChangeShown | None) -> Drawn:
        lease = self._leases.lease(visit.path["lease_id"], visit.actor.organization_id)
        named = self._leases.classes.get(lease.class_name)
        history = self._leases.history(lease.id)[-HISTORY_MAX:]
        hours = max(1, round(lease.window.seconds / 3_600))
        return Drawn(
            "lease.html",
            {
                "lease": lease,
                "pool": self._pool_names().get(lease.pool_id, lease.pool_id),
                "sentence": named.sentence if named else "",
                "rate": Money(lease.price_nano, lease.currency),
                "credit": Money(lease.credit_nano, lease.currency),
                "next_pool": self._pool_names().get(lease.move.pool_id, lease.move.pool_id) if lease.move else "",
                "seconds_left": ((lease.window.end if lease.move else lease.deadline) - visit.at).total_seconds(),
                "delivered_s": lease.billable_s - lease.left_s,
                "slack_s": max(0.0, lease.slack_s(visit.at)),
                "hours": hours,
                "planned": planned,
                "fields": visit.form.fields,
                "ending": self._changing.ending(lease),
                "until": typed_moment(lease.window.end),
                "history": [(item.after, item.at, told_to_tenant(item.reason or "")) for item in history],
                "may_write": bool(visit.actor.may("leases:write")),
                "at": visit.at,
                "refresh_s": 5,
            },
        )

    def _end(self, visit: Visit) -> Go:
        lease_id = visit.path["lease_id"]
        if visit.form.text("sure") != "yes":
            raise InvalidInputError("select the checkbox to confirm that all data on the lease will be deleted")
        self._leases.permit(lease_id, visit.actor.organization_id, acting_for(visit.actor))
        self._leases.end(lease_id, visit.actor.organization_id)
        return Go(f"{LEASES}/{lease_id}")
