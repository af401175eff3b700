"""One request on its way through the gateway: what is asked, what it needs of a model, and what has become of it so far."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Protocol

from sublet.gateway.model import ModelRoute, Tokens
from sublet.gateway.refusals import InvalidRequestError
from sublet.gateway.requests.forcing import Forcing, FreeChoiceError, UnknownToolError, force
from sublet.gateway.requests.form import (
    CHAT,
    COUNT,
    EMBEDDING,
    TURNS_MAX,
    ChatRequest,
    CountRequest,
    EmbeddingRequest,
    Image,
    Role,
    Unread,
)


class Counts(Protocol):
    """Tokens so far: prompt, those of it that were cached, and answer."""

    @property
    def input(self) -> int: ...

    @property
    def input_cached(self) -> int: ...

    @property
    def output(self) -> int: ...


NOTHING = Tokens()
PROMPT = "prompt"
"""What `Call.fields` calls the field that has the prompt, beside those of capabilities."""
OUTPUT = "output"
"""What it calls the field that bounds an answer's tokens."""
CHOICE = "choice"
"""What it calls the field that says which tool has to be called."""


@dataclass(slots=True)
class Kept:
    """A request whose answer is to be kept. `items` are its own, `previous_id` names the answer that it goes on from, if any."""

    items: Any
    previous_id: str = ""


@dataclass(slots=True)
class Call:
    """One request to a model. `asked` is the request itself, of which an engine's body is made (upstream/writer.py).

    `output_tokens_max` are those that one answer may have, None where the request does not say; `answers` is how many are wanted in
    all, of `prompts`; `echoes`: they begin with the prompt. `needs` are the capabilities without which it can't be answered as asked,
    and `fields` what the vendor's clients call the field that a capability is about, for refusals. `told` is what the answer says
    besides. `running` says that the engine which is asked counts in every chunk. `continues`: the answer goes on from an assistant's
    turn. `tier` is form.FLEX or, for the usual one, empty. `more` is what the surface itself has to remember. `check` sets `forcing`
    where a schema has to make the model call a tool. `counts` are those of the answer under way, for surfaces that tell them.
    `served` is how it was served, where that is not its tier: form.RESERVED. `kept` is set where the answer is to be kept;
    `earlier_bytes` is the size of what was kept before and is a part of the prompt."""

    kind: str
    model: str
    asked: ChatRequest | EmbeddingRequest | Unread
    output_tokens_max: int | None = None
    answers: int = 1
    prompts: int = 1
    echoes: bool = False
    stream: bool = False
    include_usage: bool = False
    needs: tuple[str, ...] = ()
    fields: Mapping[str, str] = field(default_factory=dict)
    told: dict[str, str] = field(default_factory=dict)
    running: bool = False
    continues: bool = False
    tier: str = ""
    more: Any = None
    forcing: Forcing | None = None
    counts: Counts = NOTHING
    kept: Kept | None = None
    earlier_bytes: int = 0
    served: str = ""

    def check(self, route: ModelRoute) -> None:
        """Raises InvalidRequestError where the model can't answer this as asked."""
        for need in self.needs:
            if need not in route.capabilities:
                if need == "tools" and self._force(route):
                    continue
                raise InvalidRequestError(
                    f"{route.name} does not support {need}; GET /v1/models shows what each model can",
                    param=self.fields.get(need, "model"),
                )

    def _force(self, route: ModelRoute) -> bool:
        """Ask a model without tools for a forced call by a schema, or without tools where none is wanted; whether that is possible."""
        if "json_schema" not in route.capabilities or isinstance(self.asked, EmbeddingRequest):
            return False
        try:
            self.asked, self.forcing = force(self.asked)
        except FreeChoiceError as error:
            raise InvalidRequestError(
                f"{route.name} can't choose tools by itself; force a call of one, or use another model: "
                "GET /v1/models shows what each model can do",
                param=self.fields.get("tools"),
            ) from error
        except UnknownToolError as error:
            raise InvalidRequestError(
                f"The tool to call is {error.name[:80]!r}, which is not in tools", param=self.fields.get(CHOICE)
            ) from error
        return True

    @classmethod
    def of(
        cls, asked: ChatRequest | CountRequest | EmbeddingRequest, fields: Mapping[str, str] = MappingProxyType({})
    ) -> Call:
        """A request in the gateway's own form; `fields` as in Call. Raises InvalidRequestError."""
        request = asked.chat if isinstance(asked, CountRequest) else asked
        if isinstance(request, EmbeddingRequest):
            if not request.texts:
                raise InvalidRequestError("there is no text to embed", param=fields.get(PROMPT))
            return cls(EMBEDDING, request.model, request, needs=(EMBEDDING,), fields=fields)
        if not 1 <= len(request.turns) <= TURNS_MAX:
            raise InvalidRequestError(
                f"a conversation has 1 to {TURNS_MAX} turns, not {len(request.turns)}", param=fields.get(PROMPT)
            )
        needs = [CHAT]
        if any(isinstance(part, Image) for turn in request.turns for part in turn.parts):
            needs.append("images")
        if request.tools:
            needs.append("tools")
        if request.schema is not None or request.json:
            needs.append("json_schema")
        return cls(
            COUNT if isinstance(asked, CountRequest) else CHAT,
            request.model,
            request,
            output_tokens_max=request.output_tokens_max,
            answers=request.answers,
            stream=request.stream,
            include_usage=True,
            needs=tuple(needs),
            fields=fields,
            tier=request.tier,
            continues=request.turns[-1].role is Role.ASSISTANT and not request.turns[-1].uses,
        )
