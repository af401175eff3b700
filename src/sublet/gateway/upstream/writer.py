"""What an engine is sent, made of a request on its way out: here the gateway's own form becomes the engine's."""

from __future__ import annotations

import msgspec

from sublet.gateway.model import ModelRoute
from sublet.gateway.refusals import InvalidRequestError
from sublet.gateway.requests.call import PROMPT, Call
from sublet.gateway.requests.form import EMBEDDING, ChatRequest, EmbeddingRequest
from sublet.gateway.upstream.dialects import DIALECTS, Dialect, EngineParameters
from sublet.gateway.upstream.openai_body import body_of, is_sent, with_more, written
from sublet.gateway.upstream.openai_request import OpenAIRequest


def check(call: Call, route: ModelRoute) -> None:
    """Raises InvalidRequestError where the model or its engine can't answer this as asked."""
    call.check(route)
    asked = call.asked
    if isinstance(asked, OpenAIRequest) and asked.parameters is None:
        return
    dialect = DIALECTS[route.dialect]
    if call.continues and not (dialect.continues or "continue_final_message" in dialect.parameters):
        raise InvalidRequestError(
            f"The engine of {route.name} can't continue an assistant message; end with a user message",
            param=call.fields.get(PROMPT),
        )
    parameters = _parameters_of(call, dialect)
    if parameters is not None:
        for name, value in msgspec.structs.asdict(parameters).items():
            if is_sent(value) and name not in dialect.parameters:
                raise InvalidRequestError(
                    f"Unrecognized request argument supplied: {name}; the engine of {route.name} does not support it",
                    param=call.fields.get(name, name),
                )


def for_engine(call: Call, route: ModelRoute) -> bytes:
    """The request's body as the engine of `route` gets it, under its own name of the model."""
    dialect = DIALECTS[route.dialect]
    stream = call.stream or (route.stream_only and call.kind != EMBEDDING)
    if stream:
        call.running = dialect.running_usage
    asked = call.asked
    if isinstance(asked, OpenAIRequest):
        body, parameters, models = asked.body, asked.parameters, asked.models
    else:
        assert isinstance(asked, ChatRequest | EmbeddingRequest)
        body, parameters, models = body_of(asked), _parameters_of(call, dialect), _for_models(asked)
    body.model = route.engine_model
    body.max_tokens = call.output_tokens_max
    found = written(body, dialect, stream=stream)
    if parameters is None and not models:
        return found
    return with_more(found, dialect, route.capabilities, parameters, models or {})


def _parameters_of(call: Call, dialect: Dialect) -> EngineParameters | None:
    """What of a request only some engines know. llama.cpp goes on from an assistant's turn by itself; others have to be told."""
    asked = call.asked
    if isinstance(asked, OpenAIRequest):
        return asked.parameters
    if not isinstance(asked, ChatRequest) or (asked.sampling.top_k is None and not call.continues):
        return None
    found = EngineParameters(top_k=asked.sampling.top_k)
    if call.continues and "continue_final_message" in dialect.parameters:
        found.continue_final_message = True
        if "add_generation_prompt" in dialect.parameters:
            found.add_generation_prompt = False
    return found


def _for_models(asked: ChatRequest | EmbeddingRequest) -> dict[str, str]:
    """What of a request only some models know."""
    if not isinstance(asked, ChatRequest):
        return {}
    words = {"reasoning_effort": asked.effort, "verbosity": asked.verbosity}
    return {name: word for name, word in words.items() if word}
