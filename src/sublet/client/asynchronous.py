"""The client for asyncio: the same core, another way to wait."""

from __future__ import annotations

import asyncio
from typing import Any

from sublet.client.async_calls import AsyncCalls
from sublet.client.clients import headers_for, unreachable
from sublet.client.core import Answer, NoAnswerError, Request, answer_of, pause_s, request_for
from sublet.client.operations import OPERATIONS
from sublet.client.transport import AsyncHttpx, AsyncTransport, checked_url


class AsyncClient(AsyncCalls):
    """`Client` for asyncio: `await client.fleet.list_pools()`. Calls may run beside each other."""

    def __init__(self, url: str, key: str, *, transport: AsyncTransport | None = None, ca_file: str = "") -> None:
        """`ca_file` has the certificates (PEM) of the authorities to trust instead of this machine's. Raises InvalidInputError for
        what can be no address, no key or no such file."""
        self.url = checked_url(url, "the address")
        headers = headers_for(key)
        self._transport = transport if transport is not None else AsyncHttpx(self.url, headers, ca_file=ca_file)
        super().__init__(self.call)

    async def call(self, operation_id: str, *arguments: str, **options: Any) -> Any:
        """Carry out an operation by its id, as `Client.call`."""
        operation = OPERATIONS[operation_id]
        return answer_of(operation, await self.ask(request_for(operation, arguments, **options)), self.url)

    async def tagged(self, operation_id: str, *arguments: str, **options: Any) -> tuple[Any, str]:
        """The answer with its ETag, as `Client.tagged`."""
        operation = OPERATIONS[operation_id]
        answer = await self.ask(request_for(operation, arguments, **options))
        return answer_of(operation, answer, self.url), answer.headers.get("etag", "")

    async def ask(self, request: Request) -> Answer:
        """The answer to a request, tried again where that is sound. Raises UnavailableError where none comes."""
        tried = 0
        while True:
            tried += 1
            outcome: Answer | NoAnswerError
            try:
                outcome = await self._transport.send(request)
            except NoAnswerError as error:
                outcome = error
            pause = pause_s(request, tried, outcome)
            if pause is not None:
                await asyncio.sleep(pause)
            elif isinstance(outcome, NoAnswerError):
                raise unreachable(self.url, outcome) from outcome
            else:
                return outcome

    async def close(self) -> None:
        """Close the connections."""
        await self._transport.close()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
