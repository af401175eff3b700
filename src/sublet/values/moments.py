"""The moment as a field of what comes from outside: bodies and queries of the API, settings."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from sublet.values.clock import parse_time, within_reach


def _moment(value: object) -> datetime:
    from pydantic_core import PydanticCustomError

    try:
        if isinstance(value, datetime):
            return within_reach(value)
        if isinstance(value, str):
            return parse_time(value)
    except ValueError as error:
        # Unlike a ValueError, this reaches the caller as the sentence alone.
        raise PydanticCustomError("moment", "{sentence}", {"sentence": str(error)}) from error
    raise PydanticCustomError("moment", "this is not a time; use the form 2026-07-02T14:00:00Z")


class _Moment:
    """Tells pydantic how to read a moment, without importing it: programs that only write bodies start faster."""

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        from pydantic_core import core_schema

        return core_schema.no_info_before_validator_function(_moment, handler(source))


Moment = Annotated[datetime, _Moment()]
"""RFC 3339 text with an offset, or an aware datetime; aware UTC, and so far from the ends of the calendar that adding to it
or taking off it is safe."""
