"""One request on its way through the gateway: what it needs, and its body as engines get it."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from sublet.gateway.model import ModelRoute
from sublet.gateway.refusals import InvalidRequestError
from sublet.gateway.requests.form import ChatRequest, EmbeddingRequest, Image
from sublet.gateway.upstream.dialects import DIALECTS, EngineParameters
from sublet.gateway.upstream.openai_body import (
    CHAT,
    EMBEDDING,
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


@dataclass(slots=True)
class Call:
    """One request to a model. `needs` are the capabilities without which it can't be answered as asked, `parameters` the
    fields that only some engines know, `asked` those that only some models know, `told` what the answer says besides.
    `prompts` is how many a legacy completion has; `running` says that the engine which is asked counts in every chunk."""

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

    def check(self, route: ModelRoute) -> None:
        """Raises InvalidRequestError where the model or its engine can't answer this as asked."""
        for need in self.needs:
            if need not in route.capabilities:
                raise InvalidRequestError(
                    f"{route.name} can't do {need}; GET /v1/models shows what each model can",
                    param=_PARAMS.get(need, "model"),
                )
        if self.parameters is not None:
            known = DIALECTS[route.dialect].parameters
            for name, value in msgspec.structs.asdict(self.parameters).items():
                if is_sent(value) and name not in known:
                    raise InvalidRequestError(
                        f"Unrecognized request argument supplied: {name}; the engine of {route.name} does not know it",
                        param=name,
                    )

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
    def of(cls, request: ChatRequest | EmbeddingRequest) -> Call:
        """A request in the gateway's own form. Raises InvalidRequestError."""
        if isinstance(request, EmbeddingRequest):
            return cls(EMBEDDING, request.model, body_of(request), needs=(EMBEDDING,))
        needs = [CHAT]
        if any(isinstance(part, Image) for turn in request.turns for part in turn.parts):
            needs.append("images")
        if request.tools:
            needs.append("tools")
        if request.schema is not None:
            needs.append("json_schema")
        return cls(
            CHAT,
            request.model,
            body_of(request),
            stream=request.stream,
            include_usage=True,
            needs=tuple(needs),
            parameters=parameters_of(request),
        )
