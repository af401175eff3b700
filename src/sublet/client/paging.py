"""Every row of a list, page by page: the next page is asked for when the rows of the last one are used up."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from typing import Any

from sublet.client.operations import OPERATIONS
from sublet.values.errors import UnavailableError

ROWS_PER_PAGE = 200


def each(call: Callable[..., Any], operation_id: str, *arguments: str, query: Mapping[str, Any]) -> Iterator[Any]:
    """The rows of a list operation, which `call` carries out. Raises what `call` raises, when it comes to that page."""
    after: str | None = None
    while True:
        page = call(operation_id, *arguments, query={**query, "limit": ROWS_PER_PAGE, "after": after})
        yield from getattr(page, OPERATIONS[operation_id].items)
        after = following(after, page.next)
        if after is None:
            return


async def each_async(
    call: Callable[..., Awaitable[Any]], operation_id: str, *arguments: str, query: Mapping[str, Any]
) -> AsyncIterator[Any]:
    """The same for asyncio."""
    after: str | None = None
    while True:
        page = await call(operation_id, *arguments, query={**query, "limit": ROWS_PER_PAGE, "after": after})
        for row in getattr(page, OPERATIONS[operation_id].items):
            yield row
        after = following(after, page.next)
        if after is None:
            return


def following(after: str | None, told: str | None) -> str | None:
    """The cursor of the next page. Raises UnavailableError where it leads back to the same page, which would never end."""
    if told is not None and told == after:
        raise UnavailableError("the service returned the same page cursor twice; its version may not match this client")
    return told
