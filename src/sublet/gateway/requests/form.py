"""A request in the gateway's own form: what is asked of a model, in nobody's dialect.

A surface reads its vendor's request and writes one of these; what an engine is sent is made of it in upstream/writer.py. OpenAI's
own surface is the one that has a shorter way, since engines speak what it reads: it passes large fields on unread (`Unread`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

TURNS_MAX = 4096

CHAT = "chat"
COMPLETION = "completions"
EMBEDDING = "embeddings"
COUNT = "count"
"""Counting the tokens of a chat: nothing is generated, and nothing is billed."""
FLEX = "flex"
"""The tier that waits while anybody of the usual one waits, and has a price of its own."""
BATCH = "batch"
"""The tier of what batches ask: it waits while anybody waits, leaves some slots free, and has a price of its own."""
RESERVED = "reserved"
"""How a request of the usual tier was served whose organization has reserved slots."""
NAMED = "tool:"
"""Opens a `tool_choice` that names a tool."""


class Role(StrEnum):
    """Who speaks a turn."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


@dataclass(frozen=True, slots=True)
class Text:
    """A piece of text."""

    text: str


@dataclass(frozen=True, slots=True)
class Image:
    """A picture, by its `https:` or `data:` URL."""

    url: str


@dataclass(frozen=True, slots=True)
class ToolUse:
    """The model asks for a tool; `arguments` is JSON."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of a conversation. `uses` are the tools that an assistant asked for; a turn of a TOOL answers the use `answers`."""

    role: Role
    parts: tuple[Text | Image, ...] = ()
    uses: tuple[ToolUse, ...] = ()
    answers: str = ""


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the model may ask for; `schema` is the JSON Schema of its arguments. `strict` where it has to be kept to
    the letter, None where the vendor's client does not say."""

    name: str
    description: str
    schema: Mapping[str, Any]
    strict: bool | None = None


@dataclass(frozen=True, slots=True)
class Sampling:
    """How an answer is drawn. None: the engine's own. `top_k` is one that not every engine knows."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    presence_penalty: float | None = None
    frequency_penalty: float | None = None


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A conversation to be continued; where its last turn is the assistant's, the answer goes on from there.

    `tool_choice` is auto, none, required, or `tool:` and the name of one; empty: the engine's own. `parallel` says whether the
    model may ask for several tools at once. `schema` is the JSON Schema that the answer has to fit, `json` that it has to be a JSON
    object of any form; `answers` is how many are wanted. `effort` and `verbosity` are words for models that know them and have no
    effect on others. `tier` is FLEX or, for the usual one, empty. `top_logprobs`: the likelihood of each token is wanted, beside so
    many others.
    """

    model: str
    turns: tuple[Turn, ...]
    output_tokens_max: int | None = None
    sampling: Sampling = Sampling()
    tools: tuple[Tool, ...] = ()
    tool_choice: str = ""
    parallel: bool | None = None
    schema: Mapping[str, Any] | None = None
    json: bool = False
    answers: int = 1
    stream: bool = False
    effort: str = ""
    verbosity: str = ""
    top_logprobs: int | None = None
    tier: str = ""


@dataclass(frozen=True, slots=True)
class CountRequest:
    """A conversation whose tokens are to be counted, and that is not to be continued."""

    chat: ChatRequest


@dataclass(frozen=True, slots=True)
class EmbeddingRequest:
    """Texts to be embedded."""

    model: str
    texts: tuple[str, ...]
    dimensions: int | None = None


class Unread(Protocol):
    """A request that came in the dialect of engines and is passed on as it came; the gateway asks it what it has to know."""

    def beginning(self, size: int) -> bytes:
        """The first bytes of the prompt, as they came; none of what has no prompt."""
        ...

    def prompt_estimate(self) -> int:
        """The estimate for the prompt, as metering/estimate.py has it."""
        ...

    def prompt_tokens_min(self, token_bytes_max: int) -> int:
        """As many tokens as the prompt has at least where none has more than `token_bytes_max` bytes."""
        ...

    def tools(self) -> tuple[dict[str, dict[str, Any]], str]:
        """The schemas of the tools' arguments by the tools' names, and the choice among them as in ChatRequest. Raises
        InvalidRequestError."""
        ...

    def fit(self, schema: Mapping[str, Any] | None) -> None:
        """Ask for no tool, and for an answer that fits `schema` where there is one."""
        ...
