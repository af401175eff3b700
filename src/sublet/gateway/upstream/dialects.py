"""What engines know beyond OpenAI's API: request parameters of their own, and a running count of tokens in a stream."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated

import msgspec
from msgspec import Meta, Raw

ABSENT = Raw(b"")
"""A field that was not sent. (msgspec has no union of Raw and None.)"""

_Count = Annotated[int, Meta(ge=0, le=2**31 - 1)]
_Share = Annotated[float, Meta(ge=0, le=1)]
_Factor = Annotated[float, Meta(gt=0, le=100)]
_Words = Annotated[list[str], Meta(max_length=256)]
_TokenIds = Annotated[list[_Count], Meta(max_length=4096)]
_Text = Annotated[str, Meta(max_length=65_536)]


class EngineParameters(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True, kw_only=True):
    """Request fields that some engines know and OpenAI does not, each with the type that those engines take.

    Parameters that would reach past the request (scheduling priority, slots, templates, plug-ins, cache transfer) are left
    out on purpose: one tenant could take from another with them.
    """

    top_k: Annotated[int, Meta(ge=-1, le=2**31 - 1)] | None = None
    min_p: _Share | None = None
    typical_p: _Share | None = None
    repetition_penalty: _Factor | None = None
    repeat_penalty: _Factor | None = None
    repeat_last_n: Annotated[int, Meta(ge=-1, le=2**31 - 1)] | None = None
    length_penalty: float | None = None
    min_tokens: _Count | None = None
    stop_token_ids: _TokenIds | None = None
    stop_regex: _Text | _Words | None = None
    include_stop_str_in_output: bool | None = None
    no_stop_trim: bool | None = None
    ignore_eos: bool | None = None
    skip_special_tokens: bool | None = None
    spaces_between_special_tokens: bool | None = None
    add_special_tokens: bool | None = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    truncate_prompt_tokens: Annotated[int, Meta(ge=-1, le=2**31 - 1)] | None = None
    allowed_token_ids: _TokenIds | None = None
    bad_words: _Words | None = None
    prompt_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    return_token_ids: bool | None = None
    return_tokens_as_token_ids: bool | None = None
    include_reasoning: bool | None = None
    separate_reasoning: bool | None = None
    thinking_token_budget: _Count | None = None
    chat_template_kwargs: Raw = ABSENT
    mm_processor_kwargs: Raw = ABSENT
    documents: Raw = ABSENT
    structured_outputs: Raw = ABSENT
    structural_tag: Raw = ABSENT
    guided_json: Raw = ABSENT
    guided_regex: _Text | None = None
    guided_choice: _Words | None = None
    guided_grammar: _Text | None = None
    guided_whitespace_pattern: _Text | None = None
    regex: _Text | None = None
    ebnf: _Text | None = None


PARAMETERS = frozenset(EngineParameters.__struct_fields__)
READ_PARAMETERS = PARAMETERS - {
    found.name for found in msgspec.structs.fields(EngineParameters) if found.default is ABSENT
}
"""Those that are read and checked; the others are passed on as they are."""

_COMMON = {"top_k", "min_p", "ignore_eos", "repetition_penalty", "chat_template_kwargs"}
_VLLM = _COMMON | {
    "length_penalty",
    "min_tokens",
    "stop_token_ids",
    "include_stop_str_in_output",
    "skip_special_tokens",
    "spaces_between_special_tokens",
    "add_special_tokens",
    "add_generation_prompt",
    "continue_final_message",
    "truncate_prompt_tokens",
    "allowed_token_ids",
    "bad_words",
    "prompt_logprobs",
    "return_token_ids",
    "return_tokens_as_token_ids",
    "include_reasoning",
    "thinking_token_budget",
    "mm_processor_kwargs",
    "documents",
    "structured_outputs",
    "structural_tag",
    "guided_json",
    "guided_regex",
    "guided_choice",
    "guided_grammar",
    "guided_whitespace_pattern",
}
_SGLANG = _COMMON | {
    "min_tokens",
    "stop_token_ids",
    "stop_regex",
    "no_stop_trim",
    "skip_special_tokens",
    "spaces_between_special_tokens",
    "continue_final_message",
    "separate_reasoning",
    "regex",
    "ebnf",
    "structural_tag",
}
_LLAMACPP = _COMMON | {"typical_p", "repeat_penalty", "repeat_last_n"}


@dataclass(frozen=True, slots=True)
class Dialect:
    """How an engine speaks OpenAI's API. `parameters` are those of EngineParameters that it knows, `renamed` those that it
    knows by another name. `running_usage`: it counts in every chunk when asked by `stream_options.continuous_usage_stats`.
    `timings`: it counts in every chunk when asked by `timings_per_token`. `single`: it gives one answer per request, so that
    several, an echo and log probabilities of a completion are put together from several requests (see scripts.py); such a one
    also counts the tokens of a chat when asked. `continues`: it goes on from an assistant's turn without being told to."""

    name: str
    parameters: frozenset[str] = frozenset()
    renamed: Mapping[str, str] = field(default_factory=dict)
    running_usage: bool = False
    timings: bool = False
    single: bool = False
    continues: bool = False


DIALECTS = {
    dialect.name: dialect
    for dialect in (
        Dialect("openai"),
        Dialect("vllm", frozenset(_VLLM), running_usage=True),
        Dialect("sglang", frozenset(_SGLANG), running_usage=True),
        Dialect(
            "llamacpp",
            frozenset(_LLAMACPP),
            {"repetition_penalty": "repeat_penalty"},
            timings=True,
            single=True,
            continues=True,
        ),
    )
}
"""By the name that the catalog uses."""
