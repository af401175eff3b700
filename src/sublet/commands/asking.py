"""What the options of a command ask to rent, as the API has it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sublet.commands.deadlines import body_of
from sublet.values.clock import as_utc, format_time, parse_time
from sublet.values.errors import InvalidInputError, NotFoundError

if TYPE_CHECKING:
    from sublet.client.clients import Client


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the options of `lease quote`, `lease take` and `waitlist join` ask for."""

    accelerators: int
    class_name: str | None
    minutes: int
    start: str | None
    pool: str | None
    generation: str | None
    on_failure: str
    network: tuple[str, ...]
    hours: float | None = None
    by: str | None = None
    volumes: tuple[str, ...] = ()
    finish_by: str | None = None
    image: str | None = None
    on_reclaim: str = "end"
    notice: float | None = None


def body_of_quote(remote: Client, wanted: Wanted) -> dict[str, Any]:
    """The body of `POST /v1/quotes`. Raises InvalidInputError, NotFoundError."""
    pool = wanted.pool
    if pool is None and wanted.generation is None and wanted.volumes:
        pool = remote.document("volumes.show", wanted.volumes[0])["pool_id"]
    elif pool is None and wanted.generation is None:
        pool = usual_pool(remote)
    body: dict[str, Any] = {"accelerators": wanted.accelerators, "on_failure": wanted.on_failure}
    if wanted.on_reclaim != "end":
        body["on_reclaim"] = wanted.on_reclaim
    body |= {"pool": pool} if wanted.generation is None else {"generation": wanted.generation}
    if wanted.network:
        body["network"] = [name for text in wanted.network for name in text.split(",")]
    if wanted.volumes:
        body["volumes"] = list(wanted.volumes)
    if wanted.image is not None:
        body["image"] = wanted.image
    if wanted.class_name is not None:
        body["class"] = wanted.class_name
    if wanted.hours is not None or wanted.by is not None:
        body |= body_of(remote, wanted.class_name, wanted.hours, wanted.by)
    else:
        body["duration_s"] = wanted.minutes * 60
    if wanted.notice is not None:
        body["notice_s"] = round(wanted.notice * 60)
    for option, text in (("start", wanted.start), ("finish_by", wanted.finish_by)):
        if text is not None:
            try:
                body[option] = format_time(as_utc(parse_time(text)))
            except ValueError as error:
                raise InvalidInputError(f"--{option.replace('_', '-')}: {error}") from error
    return body


def usual_pool(remote: Client) -> str:
    """The pool of a request that names none: the first whose leases can be logged in to, before one that is simulated."""
    pools = remote.collected("fleet.list_pools")["pools"]
    if not pools:
        raise NotFoundError("there are no pools yet")
    return str(min(pools, key=lambda item: item["backend"] == "simulated")["id"])


def pool_names(remote: Client) -> dict[str, str]:
    """The names of pools by their ids."""
    return {str(item["id"]): str(item["name"]) for item in remote.collected("fleet.list_pools")["pools"]}
