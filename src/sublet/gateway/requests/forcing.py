"""A forced tool call of a model that has no tools: a schema makes it write the arguments, and its answer becomes the call.

What the engine writes is the arguments of the one tool that may be called; where there are several, an object of the `name` of one
and its `arguments`. Everything here is in the engines' own form, so that every surface sees a call as a model with tools makes it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from sublet.gateway.refusals import EngineFailedError, InvalidRequestError
from sublet.gateway.surfaces.stream_form import Identity, StreamForm
from sublet.gateway.upstream.dialects import ABSENT
from sublet.gateway.upstream.openai_body import ChatBody, fitting, present
from sublet.values.errors import SubletError

_OPENING = re.compile(r'\s*\{\s*"name"\s*:\s*("(?:[^"\\]|\\.)*")\s*,\s*"arguments"\s*:\s*')
_CLOSING = "} \t\r\n"
_FREE = {"type": "object"}
# Where schemas keep what they refer to.
_DEFINED = ("$defs", "definitions")
_encode = msgspec.json.Encoder().encode
_tree = msgspec.json.Decoder(dict[str, Any])


class _Function(msgspec.Struct):
    name: str
    parameters: dict[str, Any] | None = None


class _Tool(msgspec.Struct):
    function: _Function


class _Named(msgspec.Struct):
    name: str


class _Choice(msgspec.Struct):
    function: _Named


_tools = msgspec.json.Decoder(list[_Tool])
_choice = msgspec.json.Decoder(str | _Choice)


class FreeChoiceError(Exception):
    """The model is free to call a tool or not."""


class Forcing:
    """Which tools may be called, one of which has to be. `schemas` are those of their arguments, by name."""

    def __init__(self, schemas: Mapping[str, dict[str, Any]]) -> None:
        self.schemas = schemas

    @property
    def schema(self) -> dict[str, Any]:
        """What the engine's answer has to fit."""
        if len(self.schemas) == 1:
            return next(iter(self.schemas.values()))
        defined: dict[str, Any] = {}
        calls = [
            {
                "type": "object",
                "properties": {"name": {"const": name}, "arguments": _hoisted(schema, f"t{index}_", defined)},
                "required": ["name", "arguments"],
                "additionalProperties": False,
            }
            for index, (name, schema) in enumerate(self.schemas.items())
        ]
        return {"anyOf": calls, "$defs": defined} if defined else {"anyOf": calls}

    def reader(self, call_id: str) -> _Reader:
        """Reads one answer."""
        return _Reader(call_id, next(iter(self.schemas)) if len(self.schemas) == 1 else "")

    def answer(self, body: bytes, identity: Identity) -> bytes:
        """A whole answer of the engine with the call that it is. Raises EngineFailedError."""
        tree = _tree_of(body)
        for choice in _choices(tree):
            message = choice.get("message")
            if not isinstance(message, dict) or not isinstance(text := message.get("content"), str):
                continue
            index = choice.get("index", 0)
            reader = self.reader(_call_id(identity, index))
            finished = choice.get("finish_reason") == "stop"
            parts = [*reader.feed(text), *reader.finish(whole=finished)]
            if not reader.called:
                continue
            function = {"name": reader.name, "arguments": "".join(part["arguments"] for part in parts)}
            message["content"] = None
            message["tool_calls"] = [{"id": reader.call_id, "type": "function", "function": function}]
            if finished:
                choice["finish_reason"] = "tool_calls"
        return _encode(tree)


class ForcedStream:
    """The stream form of a surface, fed with the call that the engine's text is."""

    __slots__ = ("_forcing", "_identity", "_readers", "form")

    def __init__(self, form: StreamForm, forcing: Forcing, identity: Identity) -> None:
        self.form = form
        self._forcing = forcing
        self._identity = identity
        self._readers: dict[int, _Reader] = {}

    def event(self, payload: bytes) -> bytes:
        tree = _tree_of(payload)
        for choice in _choices(tree):
            index = choice.get("index", 0)
            reader = self._readers.get(index)
            if reader is None:
                reader = self._readers[index] = self._forcing.reader(_call_id(self._identity, index))
            delta = choice.get("delta")
            if not isinstance(delta, dict):
                delta = choice["delta"] = {}
            text = delta.get("content")
            parts = list(reader.feed(text)) if isinstance(text, str) else []
            if isinstance(text, str) and text:
                del delta["content"]
            reason = choice.get("finish_reason")
            if reason is not None:
                parts += reader.finish(whole=reason == "stop")
                if reader.called and reason == "stop":
                    choice["finish_reason"] = "tool_calls"
                elif not reader.called:
                    delta["content"] = reader.text
            if parts:
                delta["tool_calls"] = [reader.told(part) for part in parts]
        return self.form.event(_encode(tree))

    def end(self) -> bytes:
        return self.form.end()

    def failure(self, error: SubletError) -> bytes:
        return self.form.failure(error)

    def keep_alive(self) -> bytes:
        return self.form.keep_alive()


class _Reader:
    """Reads a call out of a text that comes in pieces: the arguments are passed on as they come."""

    def __init__(self, call_id: str, only: str) -> None:
        self.call_id = call_id
        self.name = only
        self.called = False
        self.text = ""
        """What is not passed on yet."""
        self._wrapped = not only

    def feed(self, text: str) -> list[dict[str, str]]:
        """Pieces of the arguments; the first one has the name as well."""
        if not text:
            return []
        text = self.text + text
        if self._wrapped and not self.called:
            found = _OPENING.match(text)
            if found is None:
                self.text = text
                return []
            self.name = msgspec.json.decode(found[1], type=str)
            text = text[found.end() :]
        # The last bracket closes the object around the arguments: it is passed on once something follows it.
        kept = len(text.rstrip(_CLOSING)) if self._wrapped else len(text)
        self.text = text[kept:]
        first = not self.called
        self.called = True
        return self._piece(text[:kept], first=first)

    def finish(self, *, whole: bool) -> list[dict[str, str]]:
        """What was kept back; `whole`: the engine came to the end of its answer."""
        if not self.called or not self._wrapped:
            return []
        rest = self.text.rstrip()
        self.text = ""
        return self._piece(rest[:-1] if whole else rest, first=False)

    def told(self, piece: dict[str, str]) -> dict[str, Any]:
        """A piece as engines tell it in a stream."""
        if "name" in piece:
            return {"index": 0, "id": self.call_id, "type": "function", "function": piece}
        return {"index": 0, "function": piece}

    def _piece(self, arguments: str, *, first: bool) -> list[dict[str, str]]:
        if first:
            return [{"name": self.name, "arguments": arguments}]
        return [{"arguments": arguments}] if arguments else []


def force(body: ChatBody) -> Forcing | None:
    """Make a request for tools one without: its answer is a call by force, or no tool is wanted (None).

    Raises FreeChoiceError where the model is free to choose, which one without tools can't; InvalidRequestError.
    """
    try:
        tools = _tools.decode(body.tools)
        choice = _choice.decode(body.tool_choice) if present(body.tool_choice) else "auto"
    except (msgspec.MsgspecError, RecursionError) as error:
        raise InvalidRequestError(f"Invalid value for tools: {str(error)[:200]}", param="tools") from error
    schemas = {tool.function.name: tool.function.parameters or _FREE for tool in tools}
    if isinstance(choice, _Choice):
        name = choice.function.name
        if name not in schemas:
            raise InvalidRequestError(f"tool_choice names {name[:80]!r}, which is not in tools", param="tool_choice")
        schemas = {name: schemas[name]}
    elif choice == "auto":
        raise FreeChoiceError
    elif choice not in ("required", "none"):
        raise InvalidRequestError(f"tool_choice can't be {choice[:80]!r}", param="tool_choice")
    body.tools = body.tool_choice = ABSENT
    body.parallel_tool_calls = None
    if choice == "none":
        return None
    found = Forcing(schemas)
    body.response_format = fitting(found.schema)
    return found


def _call_id(identity: Identity, index: Any) -> str:
    return f"call_{identity.request_id.removeprefix('req_')}" + (f"_{index}" if index else "")


def _hoisted(schema: dict[str, Any], prefix: str, defined: dict[str, Any]) -> Any:
    """The schema as a part of another, what it defines put into `defined` under names of its own."""

    def moved(node: Any) -> Any:
        if isinstance(node, dict):
            found = {name: moved(value) for name, value in node.items()}
            to = node.get("$ref")
            if isinstance(to, str):
                for place in _DEFINED:
                    found["$ref"] = re.sub(rf"^#/{re.escape(place)}/", f"#/$defs/{prefix}", found["$ref"])
            return found
        return [moved(value) for value in node] if isinstance(node, Sequence) and not isinstance(node, str) else node

    for place in _DEFINED:
        known = schema.get(place)
        if isinstance(known, dict):
            defined.update({prefix + name: moved(value) for name, value in known.items()})
    return moved({name: value for name, value in schema.items() if name not in _DEFINED})


def _tree_of(payload: bytes) -> dict[str, Any]:
    try:
        return _tree.decode(payload)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise EngineFailedError from error


def _choices(tree: dict[str, Any]) -> list[dict[str, Any]]:
    choices = tree.get("choices")
    return [choice for choice in choices if isinstance(choice, dict)] if isinstance(choices, list) else []
