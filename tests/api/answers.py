"""Compares answers with the types that the contract gives them: each one that the API gives in any test."""

from __future__ import annotations

import dataclasses
import json
import types
from functools import cache
from typing import Any, Union, get_args, get_origin, get_type_hints

from fastapi.routing import APIRoute
from pydantic import TypeAdapter, ValidationError
from starlette.types import Message, Scope

from sublet.accounts.answers import answer_type
from sublet.api.http import _Answer
from sublet.values.wire import wire_name

FAULTS: list[str] = []
"""What did not fit, since somebody last looked."""
ANSWERED: set[tuple[str, str]] = set()
"""The operations whose answers were compared."""


def same(kind: Any, value: Any, where: str) -> None:
    """`value`, as JSON has it, is a `kind`: nothing is missing, nothing else is there, and nothing is of another type."""
    try:
        _adapter(kind).validate_json(json.dumps(value), strict=True)
    except ValidationError as error:
        raise AssertionError(f"{where}: {error}") from error
    _no_more(kind, value, where)


def compare_every_answer() -> None:
    """From now on each successful JSON answer is compared, and what does not fit stands in FAULTS."""
    if _Answer.pass_on is not _compared:
        _Answer.pass_on = _compared  # type: ignore[method-assign]


_passed_on = _Answer.pass_on


async def _compared(self: _Answer, scope: Scope, message: Message) -> None:
    seen = self.__dict__.setdefault("seen", bytearray())
    if message["type"] == "http.response.start":
        headers = {name.lower(): value for name, value in message.get("headers", [])}
        self.__dict__["told"] = message["status"] < 300 and headers.get(b"content-type") == b"application/json"
    elif self.__dict__.get("told") and "route" in scope:
        seen += message.get("body", b"")
        if not message.get("more_body", False):
            _look(scope["method"], scope["route"], bytes(seen))
    await _passed_on(self, scope, message)


def _look(method: str, route: APIRoute, body: bytes) -> None:
    kind, path = answer_type(route.endpoint), route.path
    if kind is None or not body:
        return
    ANSWERED.add((method, path))
    try:
        same(kind, json.loads(body), f"{method} {path}")
    except AssertionError as error:
        FAULTS.append(str(error))


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


@cache
def _fields(kind: Any) -> dict[str, Any]:
    hints = get_type_hints(kind)
    return {wire_name(item.name): hints[item.name] for item in dataclasses.fields(kind)}


def _no_more(kind: Any, value: Any, where: str) -> None:
    origin, inside = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        for choice in inside:
            if value is not None and (dataclasses.is_dataclass(choice) or get_origin(choice) in (list, dict)):
                _no_more(choice, value, where)
    elif origin is list:
        for number, item in enumerate(value):
            _no_more(inside[0], item, f"{where}[{number}]")
    elif origin is dict:
        for name, item in value.items():
            _no_more(inside[1], item, f"{where}.{name}")
    elif isinstance(kind, type) and dataclasses.is_dataclass(kind):
        known = _fields(kind)
        assert set(value) <= set(known), f"{where} has {sorted(set(value) - set(known))}, which {kind} lacks"
        for name, item in value.items():
            _no_more(known[name], item, f"{where}.{name}")
