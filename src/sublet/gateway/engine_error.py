"""What an engine's error means for the client."""

from __future__ import annotations

import re

import msgspec

from sublet.gateway.refusals import ContextLengthError, EngineFailedError, InvalidRequestError, NoReplicaError
from sublet.values.errors import SubletError

_SAID_MAX = 500
_PATHS = re.compile(r"(?:/[\w.@+-]+){2,}")


class _EngineSaid(msgspec.Struct):
    message: str = ""
    type: str = ""


class _EngineError(msgspec.Struct):
    error: _EngineSaid | str = ""


_engine_error = msgspec.json.Decoder(_EngineError)


def engine_error(status: int, body: bytes) -> SubletError:
    """What an engine's error means for the client. Its own words are shown only where the request was at fault."""
    try:
        said = _engine_error.decode(body).error
    except (msgspec.MsgspecError, RecursionError):
        said = ""
    message, kind = (said, "") if isinstance(said, str) else (said.message, said.type)
    message = _PATHS.sub("…", message)[:_SAID_MAX]
    if status in (400, 422, 413):
        if kind == "exceed_context_size_error" or ("context" in message and "tokens" in message):
            return ContextLengthError(f"The model's context is too short for this request: {message}", param="messages")
        return InvalidRequestError(f"The model can't answer this request: {message}")
    if status in (429, 503):
        return NoReplicaError("the engine is overloaded or still starting; try again in 2 s", retry_after_s=2.0)
    return EngineFailedError()
