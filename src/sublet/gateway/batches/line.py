"""One line of a batch: asked until it has an answer or an error that stays, and written down once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol

from sqlalchemy.exc import IntegrityError

from sublet.gateway.batches.exchange import Outcome, ask
from sublet.gateway.batches.model import ENDPOINTS, Batch, answered, line_of, wait_before_retry
from sublet.gateway.model import KeyGrant
from sublet.gateway.refusals import InvalidApiKeyError
from sublet.gateway.requests.exchange import Exchange
from sublet.gateway.service import Gateway
from sublet.values.errors import SubletError


class KeyGoneError(Exception):
    """The key that made the batch is no longer valid."""


class Desk(Protocol):
    """Where lines are written down."""

    def answered(self, batch: Batch, number: int, content: str, outcome: Outcome) -> Future[None]:
        """With the bill, in one transaction. The future raises LostBatchError, IntegrityError where the line is there already, and
        what the database raises."""
        ...

    async def failed(self, batch: Batch, number: int, content: str) -> None:
        """Raises as `answered`."""
        ...


@dataclass(slots=True)
class LineJob:
    """Carries one line through; see `run`."""

    gateway: Gateway
    desk: Desk
    batch: Batch
    number: int
    text: str
    grant_of: Callable[[], KeyGrant | None]
    custom_id: str = ""
    _asked: asyncio.Future[SubletError | None] | None = None
    _saving: Future[None] | None = None
    _request_id: str = ""

    async def run(self) -> None:
        """Return once the line is written down. Raises LostBatchError, KeyGoneError, and what the database raises. When it is
        canceled, its request ends."""
        line, _ = line_of(self.text, self.batch.endpoint)
        self.custom_id = line.custom_id
        body = bytes(line.body)
        failures = 0
        while True:
            error = await self._ask(body)
            if error is None:
                return
            if isinstance(error, InvalidApiKeyError):
                raise KeyGoneError
            failures += error.code not in ("queue_timeout", "no_replica")
            wait_s = wait_before_retry(error, failures)
            if wait_s is None:
                await self._write_failure(error)
                return
            await asyncio.sleep(wait_s)

    async def _ask(self, body: bytes) -> SubletError | None:
        grant = self.grant_of()
        if grant is None:
            raise KeyGoneError
        surface, kind = ENDPOINTS[self.batch.endpoint]
        self._asked = asyncio.get_running_loop().create_future()
        self._saving = None
        exchange: Exchange | None = None
        try:
            exchange = ask(self.gateway, self, surface, kind, grant, body)
            return await self._asked or self._unsaved()
        except SubletError as error:
            return error
        except asyncio.CancelledError:
            if exchange is not None:
                exchange.client_gone()
            raise

    def _unsaved(self) -> SubletError | None:
        """Nothing, where the answer was written down by whomever. Raises what kept it from that."""
        error = self._saving.exception() if self._saving is not None else None
        if error is None or isinstance(error, IntegrityError):
            return None
        raise error

    async def _write_failure(self, error: SubletError) -> None:
        surface, _ = ENDPOINTS[self.batch.endpoint]
        content = answered(
            self.batch.id,
            self.number,
            self.custom_id,
            surface.status(error),
            self._request_id or self.gateway.next_request_id()[1],
            surface.refusal(error),
        )
        try:
            await self.desk.failed(self.batch, self.number, content)
        except IntegrityError:
            return

    # As batches.exchange.LineClient

    def save(self, outcome: Outcome) -> Future[None]:
        content = answered(self.batch.id, self.number, self.custom_id, 200, outcome.request_id, outcome.body)
        self._saving = self.desk.answered(self.batch, self.number, content, outcome)
        return self._saving

    def over(self, error: SubletError | None, request_id: str) -> None:
        self._request_id = request_id
        if self._asked is not None and not self._asked.done():
            unsaved = self._saving is not None and self._saving.exception() is not None
            self._asked.set_result(None if unsaved else error)
