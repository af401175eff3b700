"""Every field of OpenAI's requests, and what becomes of it here: the table of the manual, and the checks behind it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import msgspec
from msgspec import Raw

from sublet.gateway.refusals import InvalidRequestError
from sublet.gateway.requests.form import CHAT, COMPLETION, EMBEDDING, FLEX
from sublet.gateway.surfaces.fields import HONORED, IGNORED, REFUSED, Field, tables

_CALLER = "describes the caller and has no effect on the answer, as at OpenAI"
_CACHE = "a hint; the engine caches prefixes without it, and `usage` reports cached tokens"
_SAMPLING = (
    Field("temperature", HONORED),
    Field("top_p", HONORED),
    Field("stop", HONORED, "at most 16 strings"),
    Field("seed", HONORED, "as far as the engine repeats itself"),
    Field("presence_penalty", HONORED),
    Field("frequency_penalty", HONORED),
    Field("logit_bias", HONORED, "at most 1,024 entries"),
)
_STREAM = (
    Field("stream", HONORED),
    Field("stream_options", HONORED, "`include_usage`; `include_obfuscation` is accepted without effect"),
)

FIELDS: dict[str, tuple[Field, ...]] = {
    CHAT: (
        Field("model", HONORED),
        Field("messages", HONORED, "at most 4,096; images, audio and files for models with that capability"),
        *_STREAM,
        Field("max_tokens", HONORED),
        Field("max_completion_tokens", HONORED, "the same as `max_tokens`"),
        *_SAMPLING,
        Field("n", HONORED, "at most 128"),
        Field("logprobs", HONORED),
        Field("top_logprobs", HONORED),
        Field("response_format", HONORED, "other than text for models with the capability `json_schema`"),
        Field("tools", HONORED, "for models with the capability `tools`, or [forced](anthropic.md#tools)"),
        Field("tool_choice", HONORED, "with `tools`"),
        Field("parallel_tool_calls", HONORED, "with `tools`"),
        Field("modalities", HONORED, 'only `["text"]`'),
        Field(
            "reasoning_effort",
            HONORED,
            "for models with the capability `reasoning`; `none` for all models; otherwise refused by name",
        ),
        Field(
            "verbosity",
            HONORED,
            "for models with the capability `verbosity`; `medium` for all models; otherwise refused by name",
        ),
        Field(
            "service_tier",
            HONORED,
            "`auto` and `default`, answered as `default`, and [`flex`](gateway.md#tiers); others are refused by name",
        ),
        Field("user", IGNORED, _CALLER),
        Field("safety_identifier", IGNORED, _CALLER),
        Field("metadata", IGNORED, "labels stored completions, and none are stored"),
        Field("store", IGNORED, "`false`; `true` is refused by name because completions are not stored"),
        Field("prompt_cache_key", IGNORED, _CACHE),
        Field("prompt_cache_retention", IGNORED, _CACHE),
        Field("prompt_cache_options", IGNORED, _CACHE),
        Field("audio", REFUSED),
        Field("prediction", REFUSED),
        Field("web_search_options", REFUSED),
        Field("moderation", REFUSED),
        Field("functions", REFUSED, "the old form of `tools`"),
        Field("function_call", REFUSED, "the old form of `tool_choice`"),
    ),
    COMPLETION: (
        Field("model", HONORED),
        Field("prompt", HONORED, "a string, token ids, or a list of either"),
        *_STREAM,
        Field("max_tokens", HONORED, "16 if it is left out, as at OpenAI; 0 with `echo`"),
        *_SAMPLING,
        Field("n", HONORED, "at most 128"),
        Field("best_of", HONORED, "only as many as `n`"),
        Field("logprobs", HONORED, "at most 5"),
        Field("echo", HONORED),
        Field("suffix", HONORED, "for models with the capability `suffix`; otherwise refused by name"),
        Field("user", IGNORED, _CALLER),
    ),
    EMBEDDING: (
        Field("model", HONORED),
        Field("input", HONORED),
        Field("encoding_format", HONORED),
        Field("dimensions", HONORED, "where the model can"),
        Field("user", IGNORED, _CALLER),
    ),
}

UNSUPPORTED = frozenset(item.name for item in FIELDS[CHAT] if item.fate == REFUSED)
NAMES = {kind: frozenset(item.name for item in items) for kind, items in FIELDS.items()}

_EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
_VERBOSITIES = ("low", "medium", "high")

FIELD_BYTES_MAX = 64 * 1024
"""Of a field that the gateway reads in full and no engine gets."""


class Described(NamedTuple):
    """What the fields of this module ask for: capabilities, fields for engines that have them, fields of the answer."""

    needs: tuple[str, ...]
    asked: dict[str, str]
    told: dict[str, str]
    tier: str = ""


def described(fields: Mapping[str, Raw]) -> Described:
    """Check the fields that do not go to every engine. Raises InvalidRequestError naming the field."""
    needs: list[str] = []
    asked: dict[str, str] = {}
    told: dict[str, str] = {}
    for name, raw in fields.items():
        if len(raw) > FIELD_BYTES_MAX:
            raise InvalidRequestError(f"{name} may have at most {FIELD_BYTES_MAX:,} bytes", param=name)
        try:
            value = msgspec.json.decode(raw)
        except (msgspec.MsgspecError, RecursionError) as error:
            raise InvalidRequestError(f"Invalid value for {name}: {error}", param=name) from error
        wrong = _CHECKS[name](value)
        if wrong:
            raise InvalidRequestError(f"Invalid value for {name}: {wrong}", param=name)
        if name == "service_tier":
            told[name] = FLEX if value == FLEX else "default"
        elif name in ("reasoning_effort", "verbosity"):
            asked[name] = value
            # What every model does anyway needs no capability.
            if value not in ("none", "medium") or (name, value) == ("reasoning_effort", "medium"):
                needs.append(name.removesuffix("_effort"))
    tier = FLEX if told.get("service_tier") == FLEX else ""
    return Described(tuple(needs), asked, told, tier)


def _string(value: Any) -> str:
    return "" if isinstance(value, str) and len(value) <= 4096 else "it is a string of at most 4,096 characters"


def _object(value: Any) -> str:
    return "" if isinstance(value, dict) else "it is an object"


def _one_of(words: tuple[str, ...]) -> Callable[[Any], str]:
    return lambda value: "" if value in words else f"it is one of {', '.join(words)}"


def _store(value: Any) -> str:
    if value is True:
        return "completions are not stored here; leave it out, or set it to false"
    return "" if value is False else "it is true or false"


def _tier(value: Any) -> str:
    return "" if value in ("auto", "default", FLEX) else "the tiers here are auto, default and flex"


def _modalities(value: Any) -> str:
    return "" if value == ["text"] else 'it must be ["text"]; other kinds are not supported'


_CHECKS: dict[str, Callable[[Any], str]] = {
    "user": _string,
    "safety_identifier": _string,
    "prompt_cache_key": _string,
    "prompt_cache_retention": _string,
    "prompt_cache_options": _object,
    "metadata": _object,
    "store": _store,
    "service_tier": _tier,
    "modalities": _modalities,
    "reasoning_effort": _one_of(_EFFORTS),
    "verbosity": _one_of(_VERBOSITIES),
}

DESCRIBED = frozenset(_CHECKS)


def table() -> str:
    """The fields of every route, for the manual."""
    titles = {CHAT: "Chat completions", COMPLETION: "Completions", EMBEDDING: "Embeddings"}
    return tables({titles[kind]: fields for kind, fields in FIELDS.items()})
