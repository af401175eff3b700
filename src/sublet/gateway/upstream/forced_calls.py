"""Puts the call that a schema forced (requests/forcing.py) into an engine's answer, whole or chunk by chunk."""

from __future__ import annotations

from typing import Any, Protocol, cast

import msgspec

from sublet.gateway.refusals import EngineFailedError
from sublet.gateway.requests.forcing import CallReader, Forcing, Piece
from sublet.gateway.surfaces.stream_form import Identity, StreamForm
from sublet.values.errors import SubletError

_encode = msgspec.json.Encoder().encode
_tree = msgspec.json.Decoder(dict[str, Any])


def with_calls(forcing: Forcing, body: bytes, identity: Identity) -> bytes:
    """A whole answer of the engine with the call that it is. Raises EngineFailedError."""
    tree = _tree_of(body)
    for choice in _choices(tree):
        message = choice.get("message")
        if not isinstance(message, dict) or not isinstance(text := message.get("content"), str):
            continue
        index = choice.get("index", 0)
        reader = forcing.reader()
        finished = choice.get("finish_reason") == "stop"
        parts = [*reader.feed(text), *reader.finish(whole=finished)]
        if not reader.called:
            continue
        function = {"name": reader.name, "arguments": "".join(part.arguments for part in parts)}
        message["content"] = None
        message["tool_calls"] = [{"id": _call_id(identity, index), "type": "function", "function": function}]
        if finished:
            choice["finish_reason"] = "tool_calls"
    return _encode(tree)


class _Keeping(Protocol):
    final: bytes


class ForcedStream:
    """The stream form of a surface, fed with the call that the engine's text is."""

    __slots__ = ("_forcing", "_identity", "_readers", "form")

    def __init__(self, form: StreamForm, forcing: Forcing, identity: Identity) -> None:
        self.form = form
        self._forcing = forcing
        self._identity = identity
        self._readers: dict[int, CallReader] = {}

    @property
    def final(self) -> bytes:
        """See requests.exchange.KeepingForm."""
        return cast(_Keeping, self.form).final

    def event(self, payload: bytes) -> bytes:
        tree = _tree_of(payload)
        for choice in _choices(tree):
            index = choice.get("index", 0)
            reader = self._readers.get(index)
            if reader is None:
                reader = self._readers[index] = self._forcing.reader()
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
                delta["tool_calls"] = [_piece(part, _call_id(self._identity, index)) for part in parts]
        return self.form.event(_encode(tree))

    def end(self) -> bytes:
        return self.form.end()

    def failure(self, error: SubletError) -> bytes:
        return self.form.failure(error)

    def keep_alive(self) -> bytes:
        return self.form.keep_alive()


def _piece(piece: Piece, call_id: str) -> dict[str, Any]:
    """A piece of a call as engines put it into a stream."""
    if piece.name is None:
        return {"index": 0, "function": {"arguments": piece.arguments}}
    function = {"name": piece.name, "arguments": piece.arguments}
    return {"index": 0, "id": call_id, "type": "function", "function": function}


def _call_id(identity: Identity, index: Any) -> str:
    return f"call_{identity.request_id.removeprefix('req_')}" + (f"_{index}" if index else "")


def _tree_of(payload: bytes) -> dict[str, Any]:
    try:
        return _tree.decode(payload)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise EngineFailedError from error


def _choices(tree: dict[str, Any]) -> list[dict[str, Any]]:
    choices = tree.get("choices")
    return [choice for choice in choices if isinstance(choice, dict)] if isinstance(choices, list) else []
