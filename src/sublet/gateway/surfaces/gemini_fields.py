"""Every field of Gemini's requests, and what becomes of it here. The checks are in gemini_request.py."""

from __future__ import annotations

from sublet.gateway.surfaces.fields import HONORED, IGNORED, REFUSED, Field, tables

_EFFORT = "for models with the capability `reasoning`; has no effect on others"

FIELDS: dict[str, tuple[Field, ...]] = {
    "Content": (
        Field("contents", HONORED, "roles `user`, `model`, `function` and `system`"),
        Field("model", IGNORED, "the path names the model"),
        Field("systemInstruction", HONORED, "texts"),
        Field("tools", HONORED, "`functionDeclarations`; tools that Google runs are refused by name"),
        Field("toolConfig", HONORED, "`functionCallingConfig`: mode and `allowedFunctionNames`"),
        Field("generationConfig", HONORED, "see below"),
        Field(
            "safetySettings",
            HONORED,
            "accepted without effect: there is no filter, so nothing is blocked at any threshold",
        ),
        Field(
            "serviceTier",
            HONORED,
            "`standard` and [`flex`](gateway.md#tiers), answered in `usageMetadata.serviceTier`; others are refused",
        ),
        Field("labels", IGNORED, "describe the caller and have no effect on the answer, as at Google"),
        Field("store", HONORED, "`false`; nothing is stored"),
        Field("cachedContent", REFUSED, "the engine's prefix cache works by itself"),
    ),
    "Generation config": (
        Field("temperature", HONORED),
        Field("topP", HONORED),
        Field("topK", HONORED, "for engines that support it; otherwise refused by name"),
        Field("candidateCount", HONORED, "at most 8"),
        Field("maxOutputTokens", HONORED),
        Field("stopSequences", HONORED, "at most 16"),
        Field("seed", HONORED, "as far as the engine repeats itself"),
        Field("presencePenalty", HONORED),
        Field("frequencyPenalty", HONORED),
        Field("responseMimeType", HONORED, "`text/plain`, and `application/json` with the capability `json_schema`"),
        Field("responseSchema", HONORED, "as JSON Schema, in the order of `propertyOrdering`"),
        Field("responseJsonSchema", HONORED),
        Field("responseLogprobs", HONORED),
        Field("logprobs", HONORED, "at most 20"),
        Field(
            "thinkingConfig",
            HONORED,
            f"`thinkingLevel` and `thinkingBudget` set the effort {_EFFORT}; thoughts are returned with `includeThoughts`",
        ),
        Field("responseModalities", HONORED, '`["TEXT"]`'),
        Field("mediaResolution", REFUSED),
        Field("speechConfig", REFUSED),
        Field("audioTimestamp", REFUSED),
        Field("routingConfig", REFUSED),
        Field("modelSelectionConfig", REFUSED),
        Field("imageConfig", REFUSED),
        Field("enableEnhancedCivicAnswers", REFUSED),
        Field("enableAffectiveDialog", REFUSED),
        Field("responseFormat", REFUSED, "use `responseMimeType` and `responseJsonSchema`"),
        Field("translationConfig", REFUSED),
        Field("audioTranscriptionConfig", REFUSED),
    ),
    "Parts": (
        Field("text", HONORED),
        Field("inlineData", HONORED, "pictures, for models with the capability `images`"),
        Field("fileData", HONORED, "pictures by an `https:` URI"),
        Field("functionCall", HONORED),
        Field("functionResponse", HONORED, "its `response`; `parts` are refused"),
        Field("thought", HONORED, "thoughts of earlier turns are accepted; the model does not see them"),
        Field("thoughtSignature", IGNORED, "there are none here"),
        Field("partMetadata", IGNORED, "has no effect on the answer, as at Google"),
        Field("executableCode", REFUSED),
        Field("codeExecutionResult", REFUSED),
        Field("videoMetadata", REFUSED),
        Field("mediaResolution", REFUSED),
    ),
    "Functions": (
        Field("name", HONORED),
        Field("description", HONORED),
        Field("parameters", HONORED, "as JSON Schema"),
        Field("parametersJsonSchema", HONORED),
        Field("response", HONORED, "accepted without effect: engines have no such input"),
        Field("responseJsonSchema", HONORED, "the same"),
        Field("behavior", HONORED, "`BLOCKING`"),
    ),
    "Embeddings": (
        Field("content", HONORED, "texts"),
        Field("outputDimensionality", HONORED, "for models that support it; the same in all requests of a batch"),
        Field("taskType", HONORED, "accepted without effect: the text is embedded unchanged"),
        Field("title", HONORED, "the same"),
        Field("autoTruncate", HONORED, "`false`: a text that is too long is refused"),
    ),
}


def table() -> str:
    """The fields, for the manual."""
    return tables(FIELDS)
