"""A customer's leases that are not over, as several commands look for them."""

from __future__ import annotations

import time as clock
from contextlib import nullcontext
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sublet.output import waiting
from sublet.values.errors import InvalidInputError, NotFoundError, UnavailableError

if TYPE_CHECKING:
    from sublet.client.clients import Client

READY_S_MAX = 120.0
POLL_S = 0.3
_SERVED = ("active", "degraded", "notice")
_OVER = ("ending", "ended", "canceled", "failed", "rejected")

LeaseId = Annotated[str, typer.Argument(help="Id of a lease.")]
OnlyLeaseId = Annotated[str | None, typer.Argument(help="Id of a lease; can be omitted if you have only one.")]
AnyLeaseId = Annotated[str | None, typer.Argument(help="Id of a lease; by default your newest one.")]


def running(remote: Client) -> list[dict[str, Any]]:
    """One's own leases that are not over, the newest first. Raises NotFoundError where there is none."""
    found = [
        item
        for item in remote.collected("leases.list_leases", query={"live": True})["leases"]
        if item["state"] != "ending"
    ]
    if not found:
        raise NotFoundError("you have no current leases; `sublet lease take` rents one")
    return found


def only(remote: Client, lease_id: str | None, what: str) -> str:
    """`lease_id`, or the only one that runs. Raises InvalidInputError where there are several to do `what` with."""
    if lease_id is not None:
        return checked_id(lease_id)
    found = running(remote)
    if len(found) > 1:
        raise InvalidInputError(
            f"you have {len(found)} leases; specify the one to {what}, as shown by `sublet lease ls`"
        )
    return str(found[0]["id"])


def wait_ready(remote: Client, lease_id: str, *, quiet: bool) -> dict[str, Any]:
    """The lease once one can log in. Raises UnavailableError where it fails or takes too long."""
    deadline = clock.monotonic() + READY_S_MAX
    with nullcontext() if quiet else waiting("the lease starts"):
        while True:
            lease = remote.get(f"/v1/leases/{lease_id}")
            if lease["state"] in _SERVED and lease["ssh"]:
                return lease
            if lease["state"] in _OVER:
                raise UnavailableError(
                    f"lease {lease_id} is {lease['state']}: {lease['last_error'] or lease['end_reason'] or 'no reason was given'}"
                )
            if clock.monotonic() > deadline:
                raise UnavailableError(f"lease {lease_id} is still {lease['state']}; check it with `sublet lease show`")
            clock.sleep(POLL_S)


def checked_id(lease_id: str) -> str:
    """`lease_id`, if it can be one. Raises InvalidInputError."""
    if not lease_id.startswith("lse_") or not lease_id.replace("_", "").isalnum():
        raise InvalidInputError(f"{lease_id!r} is not a lease id; `sublet lease ls` lists yours")
    return lease_id
