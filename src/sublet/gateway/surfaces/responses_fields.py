"""Every field of the Responses API's requests, and what becomes of it here. The checks are in responses_request.py."""

from __future__ import annotations

from sublet.gateway.surfaces.fields import HONORED, IGNORED, REFUSED, Field, tables

_CALLER = "describes the caller and has no effect on the answer, as at OpenAI; repeated in the response"
_CACHE = "a hint; the engine caches prefixes without it, and `usage` reports cached tokens"

FIELDS: dict[str, tuple[Field, ...]] = {
    "Responses": (
        Field("model", HONORED),
        Field("input", HONORED, "a string or items; see [Items](#items)"),
        Field("instructions", HONORED, "the first system message"),
        Field("max_output_tokens", HONORED),
        Field("stream", HONORED),
        Field("stream_options", HONORED, "`include_obfuscation` is accepted without effect"),
        Field("temperature", HONORED),
        Field("top_p", HONORED),
        Field("top_logprobs", HONORED),
        Field(
            "include",
            HONORED,
            "`message.output_text.logprobs`; reasoning is returned as it is, never encrypted; the others name results of tools that "
            "are not here",
        ),
        Field(
            "text",
            HONORED,
            "`format`: text, or for models with the capability `json_schema` json_schema and json_object; `verbosity`: `medium` for "
            "all, others for models with that capability",
        ),
        Field(
            "tools",
            HONORED,
            "functions of your own, for models with the capability `tools`, or [forced](anthropic.md#tools); built-in tools are "
            "refused by name",
        ),
        Field("tool_choice", HONORED, "auto, none, required, a function, `allowed_tools`"),
        Field("parallel_tool_calls", HONORED, "with `tools`"),
        Field(
            "reasoning",
            HONORED,
            "`effort`: `none` for all, others for models with the capability `reasoning`, else refused; `summary` has no effect: no "
            "summaries are made, and an item has the reasoning itself",
        ),
        Field("metadata", HONORED, "repeated in the response"),
        Field("truncation", HONORED, "`disabled`; `auto` is refused"),
        Field("service_tier", HONORED, "`auto` and `default`, answered as `default`, and [`flex`](gateway.md#tiers)"),
        Field("store", HONORED, "`true` [stores](#stored-responses) the response; left out, it is `false`"),
        Field("background", HONORED, "`true` makes the response [in the background](#background)"),
        Field("max_tool_calls", IGNORED, "limits built-in tools, and there are none"),
        Field("user", IGNORED, _CALLER),
        Field("safety_identifier", IGNORED, _CALLER),
        Field("prompt_cache_key", IGNORED, _CACHE),
        Field("prompt_cache_retention", IGNORED, _CACHE),
        Field("prompt_cache_options", IGNORED, _CACHE),
        Field("previous_response_id", HONORED, "a [stored](#stored-responses) response"),
        Field("conversation", REFUSED, "use `previous_response_id`, or send the earlier items in `input`"),
        Field("prompt", REFUSED, "prompts are not stored"),
        Field("moderation", REFUSED),
        Field("image", REFUSED),
        Field("context_management", REFUSED),
        Field("background_options", REFUSED),
        Field("access_programs", REFUSED),
    ),
    "Items": (
        Field(
            "message",
            HONORED,
            "`input_text`, `input_image` by URL (for models with the capability `images`), `output_text`, `refusal`; `developer` is "
            "as `system`",
        ),
        Field("function_call", HONORED),
        Field("function_call_output", HONORED, "a string, or texts"),
        Field("reasoning", HONORED, "accepted, and not shown to the model again"),
        Field("item_reference", REFUSED, "send the item, or use `previous_response_id`"),
        Field("input_file", REFUSED, "send its text"),
    ),
}


def table() -> str:
    """The fields, for the manual."""
    return tables(FIELDS)
