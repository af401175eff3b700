"""What crosses the API: the base of every request body, and the kinds of field that bodies are made of.

Wire types are plain frozen dataclasses. The server reads them through pydantic, a client may read them through msgspec; this
module imports neither, so that a program that only talks to the API starts fast.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any, TypeVar, dataclass_transform

from annotated_types import Interval

from sublet.values.errors import InvalidInputError
from sublet.values.text import refuse_unsafe

T = TypeVar("T")

AMOUNT = re.compile(r"^-?[0-9]{1,30}(\.[0-9]{1,30})?$")
AMOUNT_MAX = 62


def wire_name(name: str) -> str:
    """A field's name in JSON: a trailing underscore, as in `class_`, only keeps Python's keywords apart."""
    return name.rstrip("_")


@dataclass_transform(frozen_default=True, kw_only_default=True)
def body(kind: type[T]) -> type[T]:
    """Makes a class the type of a request body: frozen, and with no field but its own.

    A field that nobody reads would be another order than the one that was meant, so an unknown one is refused by name, with
    the nearest known one.
    """
    name_of = kind.__name__

    def schema(cls: Any, source: Any, handler: Any) -> Any:
        from pydantic_core import core_schema

        known = [wire_name(name) for name in cls.__dataclass_fields__]
        return core_schema.no_info_before_validator_function(lambda value: _known(value, known), handler(source))

    kind.__pydantic_config__ = {"extra": "forbid", "alias_generator": wire_name, "title": name_of}  # type: ignore[attr-defined]
    kind.__get_pydantic_core_schema__ = classmethod(schema)  # type: ignore[attr-defined]
    kind.__is_request_body__ = True  # type: ignore[attr-defined]
    return dataclass(frozen=True, slots=True, kw_only=True)(kind)


@dataclass_transform(frozen_default=True, kw_only_default=True)
def answer(kind: type[T]) -> type[T]:
    """Makes a class the type of an answer: frozen. Readers pass over fields that they don't know, for answers may grow."""
    kind.__pydantic_config__ = {"alias_generator": wire_name, "title": kind.__name__}  # type: ignore[attr-defined]
    kind.__is_answer__ = True  # type: ignore[attr-defined]
    return dataclass(frozen=True, slots=True, kw_only=True)(kind)


class AnswerTypeError(TypeError):
    """A document doesn't have the fields of the answer that it should become: a defect of the service. The values are not in the
    message, because an answer may hold a secret."""


def as_answer(kind: type[T], document: Mapping[str, Any]) -> T:
    """The answer of type `kind` that a domain's document describes, by the names that its fields have in JSON. Raises
    AnswerTypeError if a field is missing, unknown, or of another type."""
    from pydantic import ValidationError

    try:
        made: T = _adapter(kind).validate_python(document, extra="forbid", by_alias=True)
    except ValidationError as error:
        faults = error.errors(include_url=False, include_context=False, include_input=False)
        told = [f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in faults[:5]]
        raise AnswerTypeError(f"{kind.__name__}: {'; '.join(told)}") from None
    return made


def json_of(made: object) -> bytes:
    """An answer as JSON. Not checked again: only its type vouches for it."""
    written: bytes = _adapter(type(made)).dump_json(made, by_alias=True)
    return written


def is_answer(kind: object) -> bool:
    """Whether `kind` was made by `answer`."""
    return isinstance(kind, type) and getattr(kind, "__is_answer__", False)


_adapters: dict[object, Any] = {}


def _adapter(kind: Any) -> Any:
    """Made once per process and type, when it is first needed: making all of them takes 0.2 s."""
    if kind not in _adapters:
        from pydantic import TypeAdapter

        _adapters[kind] = TypeAdapter(kind)
    return _adapters[kind]


def is_body(kind: object) -> bool:
    """Whether `kind` was made by `body`."""
    return isinstance(kind, type) and getattr(kind, "__is_request_body__", False)


def _known(value: object, known: list[str]) -> object:
    if isinstance(value, dict):
        for name in value:
            if name not in known:
                raise _unknown(str(name), known)
    return value


def _unknown(name: str, known: list[str]) -> Exception:
    from pydantic_core import PydanticCustomError

    return PydanticCustomError(
        "unknown_field", "{sentence}", {"sentence": unknown_name(name, known), "name": name[:80]}
    )


def unknown_name(name: str, known: list[str]) -> str:
    """The end of a sentence about a name that nobody knows: the nearest known one, or all of them."""
    near = difflib.get_close_matches(name, known, n=1)
    if near:
        return f"there is no such field; did you mean {near[0]}?"
    return f"there is no such field; there are {', '.join(known)}" if known else "there is no such field"


class _Strict:
    """Marks numbers and switches that must be such: no "1" for 1, no 1 for true."""

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        return _inner(handler(source), strict=True)


class _Finite:
    """Marks numbers that must be numbers, neither infinite nor NaN."""

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        return _inner(handler(source), strict=True, allow_inf_nan=False)


class _Amount:
    """Marks decimals that are read from text or from a number, never from true or from what is not finite."""

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        from pydantic_core import core_schema

        return core_schema.no_info_before_validator_function(_amount, handler(source))

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> dict[str, Any]:
        return {"anyOf": [{"type": "string", "pattern": AMOUNT.pattern, "maxLength": AMOUNT_MAX}, {"type": "number"}]}


class Characters:
    """Marks text without characters that can't be seen or that change how others are shown, as `values.text` says; with
    `lines`, line breaks and tabs are fine."""

    def __init__(self, *, lines: bool = False) -> None:
        self._allowed = str.maketrans("\n\r\t", "   ") if lines else {}

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        from pydantic_core import core_schema

        return core_schema.no_info_after_validator_function(self._checked, handler(source))

    def _checked(self, text: str) -> str:
        try:
            refuse_unsafe(text.translate(self._allowed), "the text")
        except InvalidInputError as error:
            from pydantic_core import PydanticCustomError

            raise PydanticCustomError("text", "{sentence}", {"sentence": error.message}) from error
        return text


def _inner(schema: Any, **settings: Any) -> Any:
    """`schema` with settings on the schema of the value itself, which bounds may already wrap."""
    if "schema" in schema and schema["type"].startswith("function"):
        return {**schema, "schema": _inner(schema["schema"], **settings)}
    return {**schema, **settings}


def _amount(value: object) -> object:
    from pydantic_core import PydanticCustomError

    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
        raise PydanticCustomError("amount", 'this is not an amount; use the form "1.25"')
    if isinstance(value, str) and (len(value) > AMOUNT_MAX or not AMOUNT.fullmatch(value)):
        raise PydanticCustomError("amount", 'this is not an amount; use the form "1.25"')
    if is_negative_zero(value):
        raise PydanticCustomError("amount", 'negative zero is not allowed; use "0" or an amount')
    return value


def is_negative_zero(value: str | float | Decimal) -> bool:
    """Whether an amount is zero with a minus: a slip that would pass every check for amounts below zero."""
    amount = Decimal(value)
    return amount.is_zero() and amount.is_signed()


LINE = Characters()
LINES = Characters(lines=True)
Whole = Annotated[int, _Strict()]
"""An integer."""
Flag = Annotated[bool, _Strict()]
"""true or false."""
Number = Annotated[float, _Finite()]
"""A finite number."""
Amount = Annotated[Decimal, _Amount()]
"""An amount of money in major units, as text (exact) or as a number."""
Price = Annotated[Decimal, _Amount(), Interval(ge=0)]
"""The same, never below zero."""
