"""A forced tool call of a model that has no tools: a schema makes it write the arguments, and its answer becomes the call.

What the engine writes is the arguments of the one tool that may be called; where there are several, an object of the `name` of one
and its `arguments`. upstream/forced_calls.py puts the call into the engine's answer, so that every surface sees it as a model
with tools makes it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import msgspec

from sublet.gateway.requests.form import NAMED, ChatRequest, Unread

_OPENING = re.compile(r'\s*\{\s*"name"\s*:\s*("(?:[^"\\]|\\.)*")\s*,\s*"arguments"\s*:\s*')
_CLOSING = "} \t\r\n"
_FREE = {"type": "object"}
# Where schemas keep what they refer to.
_DEFINED = ("$defs", "definitions")


class FreeChoiceError(Exception):
    """The model is free to call a tool or not."""


class UnknownToolError(Exception):
    """The tool that has to be called is none of those that there are."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


class Piece(NamedTuple):
    """A piece of a call's arguments; the first one of a call has the tool's name as well."""

    arguments: str
    name: str | None = None


class Forcing:
    """Which tools may be called, one of which has to be. `schemas` are those of their arguments, by name."""

    def __init__(self, schemas: Mapping[str, Mapping[str, Any]]) -> None:
        self.schemas = schemas

    @property
    def schema(self) -> Mapping[str, Any]:
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

    def reader(self) -> CallReader:
        """Reads one answer."""
        return CallReader(next(iter(self.schemas)) if len(self.schemas) == 1 else "")


class CallReader:
    """Reads a call out of a text that comes in pieces: the arguments are passed on as they come."""

    def __init__(self, only: str) -> None:
        self.name = only
        self.called = False
        self.text = ""
        """What is not passed on yet."""
        self._wrapped = not only

    def feed(self, text: str) -> list[Piece]:
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

    def finish(self, *, whole: bool) -> list[Piece]:
        """What was kept back; `whole`: the engine came to the end of its answer."""
        if not self.called or not self._wrapped:
            return []
        rest = self.text.rstrip()
        self.text = ""
        return self._piece(rest[:-1] if whole else rest, first=False)

    def _piece(self, arguments: str, *, first: bool) -> list[Piece]:
        if first:
            return [Piece(arguments, self.name)]
        return [Piece(arguments)] if arguments else []


def force(asked: ChatRequest | Unread) -> tuple[ChatRequest | Unread, Forcing | None]:
    """A request for tools as one without: its answer is a call by force, or no tool is wanted (None).

    Raises FreeChoiceError where the model is free to choose, which one without tools can't; UnknownToolError; InvalidRequestError.
    """
    if isinstance(asked, ChatRequest):
        found: dict[str, Mapping[str, Any]] = {tool.name: tool.schema or _FREE for tool in asked.tools}
        choice = asked.tool_choice
    else:
        schemas, choice = asked.tools()
        found = {name: schema or _FREE for name, schema in schemas.items()}
    if choice.startswith(NAMED):
        name = choice.removeprefix(NAMED)
        if name not in found:
            raise UnknownToolError(name)
        found = {name: found[name]}
    elif choice not in ("required", "none"):
        raise FreeChoiceError
    forcing = None if choice == "none" else Forcing(found)
    schema = None if forcing is None else forcing.schema
    if isinstance(asked, ChatRequest):
        without = replace(asked, tools=(), tool_choice="", parallel=None)
        return without if schema is None else replace(without, schema=schema, json=False), forcing
    asked.fit(schema)
    return asked, forcing


def _hoisted(schema: Mapping[str, Any], prefix: str, defined: dict[str, Any]) -> Any:
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
