"""One request on its way through the gateway: what it needs, and its body as engines get it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec

from sublet.gateway.model import ModelRoute, Tokens
from sublet.gateway.refusals import InvalidRequestError
from sublet.gateway.requests.forcing import Forcing, FreeChoiceError, force
from sublet.gateway.requests.form import ChatRequest, CountRequest, EmbeddingRequest, Image, Role
from sublet.gateway.upstream.dialects import DIALECTS, EngineParameters
from sublet.gateway.upstream.openai_body import (
    CHAT,
    COUNT,
    EMBEDDING,
    ChatBody,
    EngineBody,
    GenerationBody,
    body_of,
    is_sent,
    parameters_of,
    with_more,
    written,
)

# The field that a capability is about, where the model as a whole is not.
_PARAMS = {
    "tools": "tools",
    "json_schema": "response_format",
    "images": "messages",
    "audio": "messages",
    "files": "messages",
    "suffix": "suffix",
    "reasoning": "reasoning_effort",
    "verbosity": "verbosity",
}


class Counts(Protocol):
    """Tokens so far: prompt, those of it that were cached, and answer."""

    @property
    def input(self) -> int: ...

    @property
    def input_cached(self) -> int: ...

    @property
    def output(self) -> int: ...


NOTHING = Tokens()


@dataclass(slots=True)
class Call:
    """One request to a model. `needs` are the capabilities without which it can't be answered as asked, `parameters` the
    fields that only some engines know, `asked` those that only some models know, `told` what the answer says besides.
    `prompts` is how many a legacy completion has; `running` says that the engine which is asked counts in every chunk.
    `continues`: the answer goes on from an assistant's turn. `more` is what the surface itself has to remember. `check` sets `forcing`
    where a schema has to make the model call a tool. `counts` are those of the answer under way, for surfaces that tell them."""

    kind: str
    model: str
    body: EngineBody
    stream: bool = False
    include_usage: bool = False
    needs: tuple[str, ...] = ()
    parameters: EngineParameters | None = None
    asked: dict[str, str] = field(default_factory=dict)
    told: dict[str, str] = field(default_factory=dict)
    running: bool = False
    prompts: int = 1
    continues: bool = False
    more: Any = None
    forcing: Forcing | None = None
    counts: Counts = NOTHING

    def check(self, route: ModelRoute) -> None:
        """Raises InvalidRequestError where the model or its engine can't answer this as asked."""
        for need in self.needs:
            if need not in route.capabilities:
                if need == "tools" and self._force(route):
                    continue
                raise InvalidRequestError(
                    f"{route.name} can't do {need}; GET /v1/models shows what each model can",
                    param=_PARAMS.get(need, "model"),
                )
        if self.continues:
            self._continue(route)
        if self.parameters is not None:
            known = DIALECTS[route.dialect].parameters
            for name, value in msgspec.structs.asdict(self.parameters).items():
                if is_sent(value) and name not in known:
                    raise InvalidRequestError(
                        f"Unrecognized request argument supplied: {name}; the engine of {route.name} does not know it",
                        param=name,
                    )

    def _force(self, route: ModelRoute) -> bool:
        """Ask a model without tools for a forced call by a schema, or without tools where none is wanted; whether that is possible."""
        if "json_schema" not in route.capabilities or not isinstance(self.body, ChatBody):
            return False
        try:
            self.forcing = force(self.body)
        except FreeChoiceError as error:
            raise InvalidRequestError(
                f"{route.name} can't do tools by its own choice; force one with tool_choice, or use another model: "
                "GET /v1/models shows what each can",
                param="tools",
            ) from error
        return True

    def _continue(self, route: ModelRoute) -> None:
        """Have the engine go on from the assistant's turn; llama.cpp does by itself."""
        dialect = DIALECTS[route.dialect]
        if "continue_final_message" in dialect.parameters:
            self.parameters = self.parameters or EngineParameters()
            self.parameters.continue_final_message = True
            if "add_generation_prompt" in dialect.parameters:
                self.parameters.add_generation_prompt = False
        elif not dialect.continues:
            raise InvalidRequestError(
                f"The engine of {route.name} can't go on from an assistant's turn; end with one of the user",
                param="messages",
            )

    @property
    def output_tokens_max(self) -> int | None:
        """Tokens that one answer may have at most; None where the request does not say."""
        return self.body.max_tokens

    def bound_output(self, tokens_max: int) -> None:
        """Let an answer have so many tokens at most."""
        self.body.max_tokens = tokens_max

    @property
    def choices(self) -> int:
        """Answers asked for."""
        return (self.body.n or 1) * self.prompts if isinstance(self.body, GenerationBody) else 1

    def for_engine(self, route: ModelRoute) -> bytes:
        """The request's body as the engine of `route` gets it, under its own name of the model."""
        dialect = DIALECTS[route.dialect]
        stream = self.stream or (route.stream_only and self.kind != EMBEDDING)
        if stream:
            self.running = dialect.running_usage
        self.body.model = route.engine_model
        body = written(self.body, dialect, stream=stream)
        if self.parameters is None and not self.asked:
            return body
        return with_more(body, dialect, route.capabilities, self.parameters, self.asked)

    @classmethod
    def of(cls, asked: ChatRequest | CountRequest | EmbeddingRequest) -> Call:
        """A request in the gateway's own form. Raises InvalidRequestError."""
        request = asked.chat if isinstance(asked, CountRequest) else asked
        if isinstance(request, EmbeddingRequest):
            return cls(EMBEDDING, request.model, body_of(request), needs=(EMBEDDING,))
        needs = [CHAT]
        if any(isinstance(part, Image) for turn in request.turns for part in turn.parts):
            needs.append("images")
        if request.tools:
            needs.append("tools")
        if request.schema is not None or request.json:
            needs.append("json_schema")
        words = {"reasoning_effort": request.effort, "verbosity": request.verbosity}
        return cls(
            COUNT if isinstance(asked, CountRequest) else CHAT,
            request.model,
            body_of(request),
            stream=request.stream,
            include_usage=True,
            needs=tuple(needs),
            parameters=parameters_of(request),
            asked={name: word for name, word in words.items() if word},
            continues=request.turns[-1].role is Role.ASSISTANT and not request.turns[-1].uses,
        )
