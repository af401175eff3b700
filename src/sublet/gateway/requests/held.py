"""A request that a hard budget or prepaid credit covers: the most that it may cost is held before it begins."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

import msgspec

from sublet.gateway.metering.journal import Record
from sublet.gateway.metering.records import closing, opening
from sublet.gateway.model import KeyGrant, ModelRoute
from sublet.gateway.refusals import BudgetUnreachableError, InsufficientQuotaError
from sublet.gateway.requests.allowances import Allows
from sublet.gateway.requests.call import OUTPUT, Call
from sublet.gateway.requests.deadlines import HOLDING, QUEUED
from sublet.gateway.requests.exchange import Exchange
from sublet.gateway.requests.form import EMBEDDING
from sublet.gateway.requests.host import Host
from sublet.values.clock import from_micros
from sublet.values.errors import SubletError

TEMPLATE_TOKENS_MAX = 1024
"""What a chat template adds to a prompt: its marks, a system prompt of its own."""
PLACING_S_MAX = 10.0
LEFT_OVER_S = 3600
"""A hold outlives the longest request by so much: for so long may a gateway that was killed stay away before what it had
under way is no longer held."""
HOLD_S_MAX = 86_000.0


@dataclass(frozen=True, slots=True)
class BudgetHold:
    """Hold the most that a request may cost: `input_max` tokens of prompt, cached or not, and `output_max` of answer."""

    request_id: str
    organization_id: str
    key_id: str
    project: str
    model: str
    input_max: int
    output_max: int
    at: datetime
    expires_at: datetime
    tier: str = ""


class Holds(Allows, Protocol):
    """Where holds are placed; the ledger's desk."""

    def place(self, wanted: BudgetHold) -> Future[None]:
        """Without waiting. The future raises LimitExceededError where a budget has not enough left, UnavailableError where
        it can't be known. Raises UnavailableError itself where too many wait already."""
        ...


def tokens_max(call: Call, body_bytes: int, model: ModelRoute) -> tuple[int, int]:
    """The most tokens of prompt and of answer that a request can use.

    A token is at least a byte of the request's text, and prompt and answer fit the model's context. Tools and images
    become more text than their bytes, so they may fill the context. Of embeddings each text has a context of its own.
    """
    context = model.context_tokens
    text = body_bytes + TEMPLATE_TOKENS_MAX
    if call.kind == EMBEDDING:
        return text, 0
    prompt = (
        context if "tools" in call.needs or "images" in call.needs else min(text * call.prompts, context * call.prompts)
    )
    return prompt, min(call.output_tokens_max or context, context) * call.answers


def bound_output(call: Call, output_max: int, model: ModelRoute) -> None:
    """Have the engine make no more tokens than are held: not every one stops at the end of its context by itself."""
    if call.kind != EMBEDDING and model.timings:
        call.output_tokens_max = output_max // call.answers


class HoldingHost(Host, Protocol):
    """A gateway that has holds placed."""

    @property
    def hold_over(self) -> Callable[[], None]: ...

    def place(self, exchange: HeldExchange, wanted: BudgetHold) -> None: ...


class HeldExchange(Exchange):
    """An exchange that begins with a hold.

    The journal knows of the hold before the database does, and its last record names it: whatever ends the request, a
    kill of the gateway among it, the hold is settled by the process that ships that record.
    """

    __slots__ = ("_owed", "_placing")
    gateway: HoldingHost

    def start(self) -> None:
        """Have the most that this may cost held, then go on as any other. Nothing is raised: a refusal is answered."""
        call, gateway = self.call, self.gateway
        self.held = self._placing = self._entry.opened = True
        self._owed: Record | None = None
        self.state = HOLDING
        gateway.live.add(self)
        gateway.journal.reserve(opening(self, None, -1))
        prompt, answer = tokens_max(call, self.body_bytes, self.model)
        bound_output(call, answer, self.model)
        gateway.place(self, budget_hold_of(self, prompt, answer))

    def placed(self, error: BaseException | None) -> None:
        """The hold stands, or `error` says why not."""
        self._placing = False
        # If the database did not answer, the hold may still exist.
        self.held = not (isinstance(error, SubletError) and error.status < 500)
        if self._owed is not None:
            # It ended meanwhile.
            record = msgspec.structs.replace(self._owed, held=self.held)
            self.gateway.journal.settle(record, lambda ok: self.gateway.hold_over(), keep=True)
        elif error is not None:
            self.fail(refusal_of(error, self.call))
        else:
            self.state = QUEUED
            try:
                super().start()
            except SubletError as refused:
                self.fail(refused)

    def tick(self, now: float) -> None:
        if self.state is HOLDING:
            if now - self.started_at > PLACING_S_MAX:
                self.fail(BudgetUnreachableError(retry_after_s=2.0))
            return
        super().tick(now)

    def _close(self, status: int, *, delivered: bool) -> None:
        if self._placing:
            self._owed = closing(self, None, status, self._error)
            self._finish(ok=True)
            return

        def closed(ok: bool) -> None:
            self._finish(ok)
            if not ok and not delivered:
                # Its client got nothing and its record was dropped; the hold must still be released.
                self.reply.forget()
                self.gateway.journal.settle(closing(self, None, 503, self._error), None, keep=True)
            self.gateway.hold_over()

        self._entry.settle(self, status, self._error, closed, keep=delivered)


def budget_hold_of(exchange: Exchange, input_max: int, output_max: int) -> BudgetHold:
    grant: KeyGrant = exchange.grant
    settings = exchange.settings
    at = from_micros(exchange.started_us)
    longest_s = exchange.queue_s_max + settings.answer_s_max + LEFT_OVER_S
    return BudgetHold(
        exchange.identity.request_id,
        grant.organization_id,
        grant.id,
        grant.project,
        exchange.model.name,
        input_max,
        output_max,
        at,
        at + timedelta(seconds=min(longest_s, HOLD_S_MAX)),
        exchange.tier,
    )


def refusal_of(error: BaseException, call: Call) -> SubletError:
    """What the client is told where its hold was not placed."""
    if isinstance(error, SubletError) and error.status == InsufficientQuotaError.status:
        more = {"retry_after_s": 1.0} if error.details.get("fits_later") else {}
        field = call.fields.get(OUTPUT)
        fewer = f"fewer tokens with {field}" if field else "fewer tokens"
        return InsufficientQuotaError(f"{error.message}. Ask for {fewer}, or have the budget raised", **more)
    return BudgetUnreachableError(retry_after_s=2.0)
