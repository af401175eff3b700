"""Whether a prompt can fit a model's context: what surely can't is refused before an engine is asked."""

from __future__ import annotations

from sublet.gateway.metering.estimate import prompt_tokens_min
from sublet.gateway.model import ModelRoute
from sublet.gateway.refusals import ContextLengthError
from sublet.gateway.requests.call import PROMPT, Call

TOKEN_BYTES_MAX = 16
"""Text of which each token had more bytes on average is none that anybody writes: tokenizers make one for four to five bytes of
English, and for a run of spaces of 16 at most but in a few vocabularies."""


def check_context(call: Call, body_bytes: int, model: ModelRoute) -> None:
    """Raises ContextLengthError where the prompt alone is more than the model's context, by a count that is at or below any
    tokenizer's. A request that passes may still be too long; then the engine refuses it."""
    context = model.context_tokens
    # Token ids take two bytes each at least.
    if not model.context_known or body_bytes < 2 * context:
        return
    least = prompt_tokens_min(call, TOKEN_BYTES_MAX)
    if least > context:
        raise ContextLengthError(
            f"This model's maximum context length is {context} tokens, and the prompt has at least {least}; shorten it",
            param=call.fields.get(PROMPT),
        )
