"""The one internal form of a request. Every surface parses into it; the engine gets it in OpenAI's dialect."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Raw

from sublet.gateway.model import ModelRoute
from sublet.gateway.refusals import InvalidRequestError
from sublet.gateway.upstream.dialects import ABSENT, DIALECTS, EngineParameters

CHAT = "chat"
COMPLETION = "completions"
EMBEDDING = "embeddings"

ENGINE_PATHS = {CHAT: b"/v1/chat/completions", COMPLETION: b"/v1/completions", EMBEDDING: b"/v1/embeddings"}

_NULL = b"null"
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
_INCLUDE_USAGE = Raw(b'{"include_usage":true}')
_RUNNING_USAGE = Raw(b'{"include_usage":true,"continuous_usage_stats":true}')
_encode = msgspec.json.Encoder().encode

PositiveInt = Annotated[int, Meta(ge=1, le=2**31 - 1)]
Penalty = Annotated[float, Meta(ge=-2, le=2)]
Stop = str | Annotated[list[str], Meta(max_length=16)]


class EngineBody(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True, kw_only=True):
    """What an engine is asked: the fields that every kind of call may have. Large values stay unread."""

    model: str
    stream: bool | None = None
    stream_options: Raw = ABSENT
    max_tokens: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None
    timings_per_token: bool | None = None


class GenerationBody(EngineBody, omit_defaults=True, forbid_unknown_fields=True, kw_only=True):
    """What steers the making of text, in a chat or without."""

    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    stop: Stop | None = None
    seed: int | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    logit_bias: Raw = ABSENT
    n: Annotated[int, Meta(ge=1, le=128)] | None = None


class ChatBody(GenerationBody, omit_defaults=True, forbid_unknown_fields=True, kw_only=True):
    """A chat."""

    messages: Raw = ABSENT
    max_tokens: PositiveInt | None = None
    max_completion_tokens: PositiveInt | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    response_format: Raw = ABSENT
    tools: Raw = ABSENT
    tool_choice: Raw = ABSENT
    parallel_tool_calls: bool | None = None


class CompletionBody(GenerationBody, omit_defaults=True, forbid_unknown_fields=True, kw_only=True):
    """A text to be continued."""

    prompt: Raw = ABSENT
    suffix: str | None = None
    echo: bool | None = None
    logprobs: Annotated[int, Meta(ge=0, le=5)] | None = None
    best_of: int | None = None


class EmbeddingBody(EngineBody, omit_defaults=True, forbid_unknown_fields=True, kw_only=True):
    """Texts to be embedded."""

    input: Raw = ABSENT
    encoding_format: str | None = None
    dimensions: PositiveInt | None = None


def present(value: Raw) -> bool:
    """Whether a field was sent and is not null."""
    # The length first: comparing would copy the whole of a long field.
    return len(value) > 0 and (len(value) != len(_NULL) or bytes(value) != _NULL)


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
                if _is_sent(value) and name not in known:
                    raise InvalidRequestError(
                        f"Unrecognized request argument supplied: {name}; the engine of {route.name} does not know it",
                        param=name,
                    )

    @property
    def choices(self) -> int:
        """Answers asked for."""
        return (self.body.n or 1) * self.prompts if isinstance(self.body, GenerationBody) else 1

    def for_engine(self, route: ModelRoute) -> bytes:
        """The request's body as the engine of `route` gets it: its own model name, usage always reported."""
        body = self.body
        body.model = route.engine_model
        if self.stream or (route.stream_only and self.kind != EMBEDDING):
            body.stream = True
            dialect = DIALECTS[route.dialect]
            self.running = dialect.running_usage
            body.stream_options = _RUNNING_USAGE if self.running else _INCLUDE_USAGE
            body.timings_per_token = True if dialect.timings else None
        else:
            body.stream = None
            body.stream_options = ABSENT
        if self.parameters is None and not self.asked:
            return _encode(body)
        return self._with_more(_encode(body), route)

    def _with_more(self, body: bytes, route: ModelRoute) -> bytes:
        more: dict[str, Any] = {
            name: value
            for name, value in self.asked.items()
            if (name if name == "verbosity" else "reasoning") in route.capabilities
        }
        if self.parameters is not None:
            renamed = DIALECTS[route.dialect].renamed
            for name, value in msgspec.structs.asdict(self.parameters).items():
                if _is_sent(value):
                    more.setdefault(renamed.get(name, name), value)
        return body if not more else body[:-1] + b"," + _encode(more)[1:]


def _is_sent(value: Any) -> bool:
    return present(value) if isinstance(value, Raw) else value is not None
