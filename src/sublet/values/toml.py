"""TOML, with one error for everything that can't be read."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from typing import Any


def toml_of(text: str, parse_float: Callable[[str], Any] = float) -> dict[str, Any]:
    """What a text holds. Raises ValueError, also for what is nested too deep and for numbers of thousands of digits."""
    try:
        return tomllib.loads(text, parse_float=parse_float)
    except RecursionError as error:
        raise ValueError("lists and tables are nested too deep") from error
