"""Tokens of texts that no engine counted: an estimate by a stated rule, marked as such on the bill.

The rule: a token for every four bytes of text in UTF-8, rounded up; of an answer at least one for each chunk that carried
text, since no chunk has less; of a chat four more for each message, for what its template adds. English has a token for 4 to
5 bytes, other languages and code have more tokens for the same bytes, so the estimate is at or below the truth for all but
plain English prose. Token ids are counted as they are. Images and sounds are not counted.
"""

from __future__ import annotations

from sublet.gateway.requests.call import Call
from sublet.gateway.requests.form import ChatRequest, EmbeddingRequest, Text, Tool, Turn

BYTES_PER_TOKEN = 4
MESSAGE_TOKENS = 4


def text_tokens(bytes_of_text: int) -> int:
    """The estimate for so many bytes of text."""
    return -(-bytes_of_text // BYTES_PER_TOKEN)


def chat_tokens(text_bytes: int, tool_bytes: int, turns: int) -> int:
    """The estimate for the prompt of a chat of so many turns, with so many bytes of text and of tools."""
    return text_tokens(text_bytes) + text_tokens(tool_bytes) + MESSAGE_TOKENS * turns


def prompt_tokens(call: Call) -> int:
    """The estimate for what a request asks an engine to read."""
    asked = call.asked
    if isinstance(asked, ChatRequest):
        tools = sum(map(_tool_bytes, asked.tools))
        return chat_tokens(sum(map(_turn_bytes, asked.turns)), tools, len(asked.turns))
    if isinstance(asked, EmbeddingRequest):
        return sum(text_tokens(utf8_bytes(text)) for text in asked.texts)
    return asked.prompt_estimate()


def prompt_tokens_min(call: Call, token_bytes_max: int) -> int:
    """As many tokens as the prompt has at least where none has more than `token_bytes_max` bytes; of embeddings, and of several
    prompts, the longest one. Not the template, tools, images or sounds."""
    asked = call.asked
    if isinstance(asked, ChatRequest):
        return -(-sum(map(_turn_bytes, asked.turns)) // token_bytes_max)
    if isinstance(asked, EmbeddingRequest):
        return max((-(-utf8_bytes(text) // token_bytes_max) for text in asked.texts), default=0)
    return asked.prompt_tokens_min(token_bytes_max)


def answer_tokens(call: Call, text_bytes: int) -> int:
    """The estimate for a whole answer with so many bytes of content, reasoning and arguments of tool calls, of every choice. The
    prompt in an answer that echoes it is none of it."""
    if not call.echoes:
        return text_tokens(text_bytes)
    return 0 if call.output_tokens_max == 0 else max(0, text_tokens(text_bytes) - prompt_tokens(call))


def utf8_bytes(text: str) -> int:
    """The bytes of a text; a half of a surrogate pair counts as one."""
    return len(text) if text.isascii() else len(text.encode(errors="replace"))


def _turn_bytes(turn: Turn) -> int:
    found = sum(utf8_bytes(part.text) for part in turn.parts if isinstance(part, Text))
    return found + sum(utf8_bytes(use.name) + utf8_bytes(use.arguments) for use in turn.uses)


def _tool_bytes(tool: Tool) -> int:
    return utf8_bytes(tool.name) + utf8_bytes(tool.description) + utf8_bytes(str(tool.schema))
