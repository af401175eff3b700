"""The running service as the commands see it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sublet.values.errors import ForbiddenError, InvalidInputError, NotFoundError

if TYPE_CHECKING:
    from sublet.client.clients import Client

USUAL_S = 60.0
LONG_S = 3_600.0
"""How long to wait for what takes long, such as reading the whole ledger."""


def connect(timeout_s: float = USUAL_S) -> Client:
    """The service that the environment or the current profile names; `timeout_s` is how long to wait for an answer. Raises
    InvalidInputError, NotFoundError."""
    # HTTP takes longer to load than a command's help should.
    from sublet.client.clients import Client
    from sublet.client.profiles import target

    found = target()
    return Client(found.url, found.key, timeout_s=timeout_s, ca_file=found.ca_file)


def pool_named(client: Client, pool: str) -> dict[str, Any]:
    """A pool of the list by its id or name. Raises NotFoundError."""
    pools: list[dict[str, Any]] = client.collected("fleet.list_pools")["pools"]
    for item in pools:
        if pool in (item["id"], item["name"]):
            return item
    raise NotFoundError(f"there is no pool {pool!r}; `sublet pool ls` lists them")


def organization_id(client: Client, name: str) -> str:
    """The id of an organization by id or name, as far as the key sees it. Raises NotFoundError."""
    if name.startswith("org_"):
        return name
    try:
        found = client.collected("accounts.list_organizations")["organizations"]
    except ForbiddenError as error:
        raise InvalidInputError(f"your key can't look up {name!r}; give the organization's id (org_…)") from error
    for item in found:
        if item["name"].casefold() == name.casefold():
            return str(item["id"])
    raise NotFoundError(f"there is no organization {name!r}; `sublet org ls` lists them")
