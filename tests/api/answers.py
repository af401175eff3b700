"""Compares an answer with the type that the contract gives it."""

from __future__ import annotations

import dataclasses
import types
from typing import Any, Union, get_args, get_origin, get_type_hints

from pydantic import TypeAdapter

from sublet.values.wire import wire_name


def same(kind: Any, value: Any, where: str) -> None:
    """`value` is a `kind`, and no object in it has a field that its type lacks."""
    TypeAdapter(kind).validate_python(value)
    _no_more(kind, value, where)


def _no_more(kind: Any, value: Any, where: str) -> None:
    origin, inside = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        for choice in inside:
            if value is not None and dataclasses.is_dataclass(choice):
                _no_more(choice, value, where)
    elif origin is list:
        for number, item in enumerate(value):
            _no_more(inside[0], item, f"{where}[{number}]")
    elif origin is dict:
        for name, item in value.items():
            _no_more(inside[1], item, f"{where}.{name}")
    elif dataclasses.is_dataclass(kind):
        hints = get_type_hints(kind)
        known = {wire_name(item.name): item for item in dataclasses.fields(kind)}
        assert set(value) <= set(known), f"{where} has {sorted(set(value) - set(known))}, which {kind} lacks"
        for name, item in value.items():
            _no_more(hints[known[name].name], item, f"{where}.{name}")
