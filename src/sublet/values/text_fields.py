"""A line of text as a field of what comes from outside: bodies and queries of the API, settings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from annotated_types import GroupedMetadata, MaxLen, MinLen
from pydantic import BeforeValidator, ValidationInfo
from pydantic_core import PydanticCustomError

from sublet.values.errors import InvalidInputError
from sublet.values.text import checked_line


@dataclass(frozen=True, slots=True)
class Line(GroupedMetadata):
    """Annotation of a `str` field: `name: Annotated[str, Line(120, 1)]`. The value is what `checked_line` returns; the lengths
    stand in the OpenAPI document."""

    max_chars: int
    min_chars: int = 0

    def __iter__(self) -> Iterator[object]:
        yield BeforeValidator(self._checked)
        yield MaxLen(self.max_chars)
        if self.min_chars:
            yield MinLen(self.min_chars)

    def _checked(self, value: object, info: ValidationInfo) -> object:
        if not isinstance(value, str):
            return value  # pydantic says what it should be
        try:
            return checked_line(value, str(info.field_name or "text"), self.max_chars, self.min_chars)
        except InvalidInputError as error:
            # Unlike a ValueError, this reaches whoever asks as the sentence alone.
            raise PydanticCustomError("text", "{sentence}", {"sentence": error.message}) from error
