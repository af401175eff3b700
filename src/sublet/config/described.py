"""Every setting with its default and its meaning, for the manual."""

from __future__ import annotations

import types
import typing
from pathlib import Path
from typing import Any

from pydantic import BaseModel, SecretStr


def setting_names(settings: type[BaseModel]) -> list[str]:
    """Every setting as `section.key`, in the order of the manual."""
    return [name for name, _, _ in describe(settings)]


def describe(settings: type[BaseModel]) -> list[tuple[str, str, str]]:
    """Every setting: its name, its default as TOML would write it, and what it means."""
    rows: list[tuple[str, str, str]] = []
    _walk(settings, "", settings.model_construct(), rows)
    return rows


def _walk(model: type[BaseModel], prefix: str, defaults: BaseModel | None, rows: list[tuple[str, str, str]]) -> None:
    for name, field in model.model_fields.items():
        inner = _section_of(field.annotation)
        value = getattr(defaults, name) if defaults is not None else field.get_default(call_default_factory=True)
        if inner is not None and isinstance(value, dict):
            for key, section in (value or {"NAME": None}).items():
                _walk(inner, f"{prefix}{name}.{key}.", section, rows)
            continue
        if inner is not None:
            many = typing.get_origin(field.annotation) is tuple
            _walk(inner, f"{prefix}{name}.", None if many else value, rows)
            continue
        rows.append(
            (f"{prefix}{name}", _as_toml(value, defaults is None and field.is_required()), field.description or "")
        )


def _section_of(annotation: Any) -> type[BaseModel] | None:
    options = (
        typing.get_args(annotation)
        if typing.get_origin(annotation) in (tuple, dict, types.UnionType)
        else (annotation,)
    )
    for option in options:
        if isinstance(option, type) and issubclass(option, BaseModel):
            return option
    return None


def _as_toml(value: Any, required: bool) -> str:
    if required:
        return "(required)"
    if value is None:
        return "(unset)"
    if isinstance(value, SecretStr):
        return '""'
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | Path):
        return f'"{value}"'
    if isinstance(value, tuple | list | frozenset):
        return f"[{', '.join(_as_toml(item, False) for item in value)}]"
    return str(value)
