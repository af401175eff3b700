"""Google's schemas, which are a dialect of OpenAPI's, as JSON Schema.

Format: https://ai.google.dev/api/caching#Schema.
"""

from __future__ import annotations

from typing import Any

from sublet.gateway.refusals import InvalidRequestError

_DEPTH_MAX = 64
_TYPES = {"STRING", "NUMBER", "INTEGER", "BOOLEAN", "ARRAY", "OBJECT", "NULL"}
_COUNTS = ("minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties")
_KEPT = ("title", "description", "enum", "required", "default", "pattern", "minimum", "maximum", "additionalProperties")
_SNAKE = {
    "any_of": "anyOf",
    "min_items": "minItems",
    "max_items": "maxItems",
    "min_length": "minLength",
    "max_length": "maxLength",
    "min_properties": "minProperties",
    "max_properties": "maxProperties",
    "additional_properties": "additionalProperties",
    "property_ordering": "propertyOrdering",
}
_FORMATS = ("date-time", "date", "time", "uuid")


def json_schema_of(schema: dict[str, Any], depth: int = 0) -> dict[str, Any]:
    """The same as JSON Schema. What only describes is dropped (`example`, formats of numbers); properties keep the order of
    `propertyOrdering`, in which they are written. Raises InvalidRequestError."""
    if depth > _DEPTH_MAX:
        raise InvalidRequestError("responseSchema is nested too deeply; flatten it", param="responseSchema")
    asked = {_SNAKE.get(name, name): value for name, value in schema.items()}
    found: dict[str, Any] = {name: asked[name] for name in _KEPT if asked.get(name) is not None}
    for name in _COUNTS:
        if asked.get(name) is not None:
            found[name] = _count(name, asked[name])
    if asked.get("format") in _FORMATS:
        found["format"] = asked["format"]
    if (kind := _type(asked.get("type"))) is not None:
        found["type"] = [kind, "null"] if asked.get("nullable") else kind
    if isinstance(items := asked.get("items"), dict):
        found["items"] = json_schema_of(items, depth + 1)
    if isinstance(options := asked.get("anyOf"), list):
        found["anyOf"] = [json_schema_of(item, depth + 1) for item in options if isinstance(item, dict)]
    if isinstance(properties := asked.get("properties"), dict):
        found["properties"] = {
            name: json_schema_of(properties[name], depth + 1)
            for name in _ordered(properties, asked.get("propertyOrdering"))
            if isinstance(properties[name], dict)
        }
    return found


def _type(value: Any) -> str | None:
    if value is None or value == "TYPE_UNSPECIFIED":
        return None
    if not isinstance(value, str) or value.upper() not in _TYPES:
        raise InvalidRequestError(f"responseSchema: {str(value)[:80]!r} is not a type", param="responseSchema")
    return value.lower()


def _count(name: str, value: Any) -> int:
    """A number, which Google's JSON writes as a string."""
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidRequestError(f"responseSchema: {name} is not a number", param="responseSchema") from error


def _ordered(properties: dict[str, Any], order: Any) -> list[str]:
    first = [name for name in order if isinstance(name, str) and name in properties] if isinstance(order, list) else []
    return [*dict.fromkeys(first), *(name for name in properties if name not in first)]
