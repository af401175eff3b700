"""Every field of Bedrock's requests, and what becomes of it here. The checks are in bedrock_request.py, bedrock_invoke.py, and
bedrock_llama.py."""

from __future__ import annotations

from sublet.gateway.surfaces.fields import HONORED, IGNORED, REFUSED, Field, tables

_HINT = "a hint; the engine caches prefixes without it, and `usage` reports cached tokens"

FIELDS: dict[str, tuple[Field, ...]] = {
    "Converse": (
        Field("modelId", HONORED, "in the path: a model that is served here"),
        Field("messages", HONORED, "see below"),
        Field("system", HONORED, "texts, which are joined with a blank line; `cachePoint`"),
        Field("inferenceConfig", HONORED, "`maxTokens`, `temperature` (0 to 1), `topP`, `stopSequences` (at most 16)"),
        Field("toolConfig", HONORED, "`toolSpec` and `toolChoice`; `systemTool` is refused"),
        Field(
            "additionalModelRequestFields", HONORED, "`top_k`, for engines that support it; others are refused by name"
        ),
        Field("requestMetadata", IGNORED, "describes the caller and has no effect on the answer, as at Amazon"),
        Field("performanceConfig", HONORED, "`standard`"),
        Field("serviceTier", HONORED, "`default` and [`flex`](gateway.md#tiers); others are refused"),
        Field("guardrailConfig", REFUSED),
        Field("promptVariables", REFUSED, "prompts are not stored"),
        Field("additionalModelResponseFieldPaths", REFUSED),
        Field("outputConfig", REFUSED),
        Field("projectIdentifier", REFUSED, "a key belongs to one organization and project"),
    ),
    "Blocks": (
        Field("text", HONORED),
        Field("image", HONORED, "by its bytes, for models with the capability `images`"),
        Field("toolUse", HONORED),
        Field("toolResult", HONORED, 'text, JSON and images; with the status `error` the text begins with "Error: "'),
        Field("reasoningContent", HONORED, "accepted in earlier turns; the model does not see it"),
        Field("cachePoint", HONORED, _HINT),
        Field("document", REFUSED, "send its text"),
        Field("video", REFUSED),
        Field("audio", REFUSED),
        Field("guardContent", REFUSED),
        Field("citationsContent", REFUSED),
        Field("searchResult", REFUSED),
        Field("toolAddition", REFUSED),
        Field("toolRemoval", REFUSED),
    ),
    "InvokeModel": (
        Field("modelId", HONORED, "in the path: a deployed model, by its name or ARN"),
        Field("body", HONORED, "in one of the formats below, for any model"),
        Field("contentType", IGNORED, "bodies are JSON"),
        Field("accept", IGNORED, "answers are JSON"),
        Field("serviceTier", HONORED, "`default` and [`flex`](gateway.md#tiers); others are refused"),
        Field("performanceConfigLatency", IGNORED, "every answer has the standard latency"),
        Field("requestMetadata", IGNORED, "describes the caller and has no effect on the answer, as at Amazon"),
        Field("trace", IGNORED, "there is no guardrail to trace"),
        Field("guardrailIdentifier", REFUSED),
        Field("guardrailVersion", REFUSED),
        Field("projectIdentifier", REFUSED, "a key belongs to one organization and project"),
    ),
    "Anthropic bodies": (
        Field(
            "anthropic_version",
            HONORED,
            "`bedrock-2023-05-31` or another date; it identifies this format",
        ),
        Field("anthropic_beta", IGNORED, "a field of a beta is refused by its own name unless it is supported"),
        Field(
            "messages",
            HONORED,
            "and all other fields of [Messages](anthropic.md#messages), except `model` and `stream`",
        ),
    ),
    "OpenAI bodies": (
        Field(
            "messages",
            HONORED,
            "and all other fields of [chat completions](openai-fields.md), except `model` and `stream`",
        ),
    ),
    "Meta Llama bodies": (
        Field("prompt", HONORED, "the text with the model's own template; it identifies this format"),
        Field("max_gen_len", HONORED, "1 to 8192, by default 512"),
        Field("temperature", HONORED, "0 to 1"),
        Field("top_p", HONORED, "0 to 1"),
        Field("images", REFUSED),
    ),
}


def table() -> str:
    """The fields, for the manual."""
    return tables(FIELDS)
