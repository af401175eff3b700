"""Every field of Anthropic's requests, and what becomes of it here. The checks are in anthropic_request.py."""

from __future__ import annotations

from sublet.gateway.surfaces.fields import HONORED, IGNORED, REFUSED, Field, tables

_HINT = "a hint, as at Anthropic; the engine caches prefixes without it, and `usage` reports cached tokens"
_EFFORT = "for models with the capability `reasoning`; has no effect on others"

_COUNTED = (
    Field("model", HONORED),
    Field("messages", HONORED, "roles `user`, `assistant` and `system`; at most 4,096"),
    Field("system", HONORED, "a string or text blocks, which are joined with a blank line"),
    Field("tools", HONORED, "tools of your own; see [Tools](#tools)"),
    Field("tool_choice", HONORED, "with `tools`; `disable_parallel_tool_use` included"),
    Field("thinking", HONORED, f"{_EFFORT}; see [Thinking](#thinking)"),
    Field("output_config", HONORED, f"`effort` {_EFFORT}; `format` for models with the capability `json_schema`"),
    Field("output_format", HONORED, "the older name of `output_config.format`"),
    Field("cache_control", HONORED, _HINT),
    Field("context_management", HONORED, "the edit `clear_thinking_20251015`; others are refused by name"),
    Field("speed", HONORED, "`standard`; `fast` is refused"),
    Field("user_profile_id", REFUSED),
    Field("workspace_id", REFUSED, "a key belongs to one organization"),
    Field("mcp_servers", REFUSED),
)

FIELDS: dict[str, tuple[Field, ...]] = {
    "Messages": (
        *_COUNTED[:2],
        Field("max_tokens", HONORED, "1 and up"),
        *_COUNTED[2:],
        Field("stream", HONORED),
        Field("temperature", HONORED, "0 to 1"),
        Field("top_p", HONORED),
        Field("top_k", HONORED, "for engines that support it; otherwise refused by name"),
        Field(
            "stop_sequences",
            HONORED,
            "at most 16; `stop_reason` is `stop_sequence` if the engine reports the sequence, otherwise `end_turn`",
        ),
        Field("metadata", IGNORED, "describes the caller and has no effect on the answer, as at Anthropic"),
        Field(
            "service_tier",
            HONORED,
            "`auto` and `standard_only`; the answer says `standard`, or `priority` if it used [reserved](gateway.md#tiers) slots",
        ),
        Field("container", REFUSED),
        Field("inference_geo", REFUSED),
        Field("diagnostics", REFUSED),
        Field("billing_policy", REFUSED),
        Field("compaction", REFUSED),
        Field("fallback_credit_token", REFUSED),
        Field("fallbacks", REFUSED),
        Field("thread", REFUSED),
    ),
    "Token counts": _COUNTED,
    "Content blocks": (
        Field("text", HONORED, "`citations` of earlier answers are not shown to the model"),
        Field("image", HONORED, "`base64` and `url`, for models with the capability `images`"),
        Field("tool_use", HONORED),
        Field("tool_result", HONORED, 'text and images; with `is_error` the text begins with "Error: "'),
        Field("thinking", HONORED, "accepted in earlier turns; the model does not see it"),
        Field("redacted_thinking", HONORED, "the same"),
        Field("document", REFUSED, "send its text"),
        Field("search_result", REFUSED),
        Field("server_tool_use", REFUSED, "results of Anthropic's server tools, which are not available here"),
        Field("container_upload", REFUSED),
    ),
    "Fields of a tool": (
        Field("name", HONORED),
        Field("description", HONORED),
        Field("input_schema", HONORED),
        Field("strict", HONORED, "for engines that support it; a call forced by a schema is always strict"),
        Field("type", HONORED, "`custom`; tools that Anthropic defines or runs are refused by name"),
        Field("cache_control", HONORED, _HINT),
        Field("eager_input_streaming", IGNORED, "arguments are always streamed as the model generates them"),
        Field("allowed_callers", HONORED, '`["direct"]`'),
        Field("defer_loading", REFUSED, "other than `false`"),
        Field("input_examples", REFUSED, "put them into the description"),
    ),
}


def table() -> str:
    """The fields, for the manual."""
    return tables(FIELDS)
