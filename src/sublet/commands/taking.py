"""What `sublet lease take` leaves behind when it is interrupted, and how to be rid of it."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import typer

from sublet.output import say
from sublet.shown import cost_text, counted, time_text
from sublet.values.clock import parse_time
from sublet.values.errors import ConflictError, SubletError

if TYPE_CHECKING:
    from sublet.client.clients import Client

INTERRUPTED = 130
"""The exit status of a command that Ctrl-C ended, as shells have it."""


@dataclass(slots=True)
class Taking:
    """How far one `take` has come: the quote that it asked for or was given, and the lease that came of it."""

    remote: Client
    given: str | None = None
    made: dict[str, Any] | None = None
    lease: dict[str, Any] | None = None

    def leave(self) -> None:
        """Say what goes on, and offer to give it back. A quote that nobody has seen is canceled."""
        try:
            lease = self.lease or self._lease_of_quote()
            if lease is not None:
                self._leave_lease(lease)
        except SubletError as error:
            say(f"interrupted; the state is unknown ({error.message}): check with `sublet lease ls`", err=True)

    def _lease_of_quote(self) -> dict[str, Any] | None:
        """The lease that the service may have made while its answer was awaited."""
        quote_id = self.given or (self.made["id"] if self.made else None)
        if quote_id is None:
            say("interrupted; nothing was taken", err=True)
            return None
        for item in self.remote.collected("leases.list_leases", query={"live": True})["leases"]:
            if item["quote_id"] == quote_id:
                return dict(item)
        if self.given is not None:
            say(f"interrupted; nothing was taken, and quote {quote_id} is still open", err=True)
            return None
        try:
            self.remote.post(f"/v1/quotes/{quote_id}/cancel")
        except ConflictError:
            # Accepted between the look and the cancellation.
            return next(
                (
                    dict(item)
                    for item in self.remote.collected("leases.list_leases", query={"live": True})["leases"]
                    if item["quote_id"] == quote_id
                ),
                None,
            )
        say("interrupted; nothing was taken, and the quote is canceled", err=True)
        return None

    def _leave_lease(self, lease: dict[str, Any]) -> None:
        name, end = lease["id"], time_text(lease["end"])
        say(
            f"interrupted; lease {name} keeps running: {counted(lease['accelerators'], 'accelerator')} as {lease['class']} until "
            f"{end}, for at most {cost_text(_cost(lease), lease['currency'])}",
            err=True,
        )
        if _may_ask() and typer.confirm("End it now?", default=False, err=True):
            ended = self.remote.post(f"/v1/leases/{name}/end")
            say(f"{name} is {ended['state']}", err=True)
            return
        say(f"log in with: sublet lease ssh {name}", err=True)
        say(f"end it with: sublet lease end {name}", err=True)


def _cost(lease: dict[str, Any]) -> str:
    """What the whole window costs."""
    seconds = int((parse_time(lease["end"]) - parse_time(lease["start"])).total_seconds())
    return str(Decimal(lease["price_per_accelerator_hour"]) * lease["accelerators"] * seconds / 3600)


def _may_ask() -> bool:
    """Somebody sits at the terminal."""
    return sys.stdin.isatty()
