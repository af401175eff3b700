"""`/docs`: the OpenAPI document as one plain page. It fetches nothing and runs no script, so it works under any policy."""

from __future__ import annotations

from html import escape
from typing import Any

from fastapi import FastAPI
from fastapi.responses import HTMLResponse

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
}


def add_reference(api: FastAPI) -> None:
    """Adds GET /docs, for anybody: it says what /v1/openapi.json says."""

    @api.get("/docs", include_in_schema=False)
    def reference() -> HTMLResponse:
        return HTMLResponse(page(api.openapi()), headers=HEADERS)


def page(document: dict[str, Any]) -> str:
    """The document as HTML: every operation by its group, then every type."""
    groups: dict[str, list[str]] = {}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            group = (operation.get("tags") or ["system"])[0]
            groups.setdefault(group, []).append(_operation(method, path, operation))
    sections = [f"<h2>{escape(name)}</h2>{''.join(shown)}" for name, shown in groups.items()]
    types = [_type(name, schema) for name, schema in sorted(document["components"]["schemas"].items())]
    title = f"{escape(document['info']['title'])} API {escape(document['info']['version'])}"
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        '<meta name="viewport" content="width=device-width"></head>'
        f'<body><h1>{title}</h1><p>The same for programs: <a href="/v1/openapi.json">/v1/openapi.json</a></p>'
        f"{''.join(sections)}<h2>Types</h2>{''.join(types)}</body></html>"
    )


def _operation(method: str, path: str, operation: dict[str, Any]) -> str:
    permission = operation.get("x-permission")
    needs = f"<p>Permission: <code>{escape(permission)}</code></p>" if permission else "<p>No key needed.</p>"
    parameters = "".join(
        f"<li><code>{escape(item['name'])}</code> ({escape(item['in'])}) {escape(item.get('description', ''))}</li>"
        for item in operation.get("parameters", [])
    )
    body = _references(operation.get("requestBody", {}))
    answers = "".join(
        f"<li>{escape(status)}: {escape(answer.get('description', ''))} {_references(answer)}</li>"
        for status, answer in operation["responses"].items()
    )
    return (
        f"<details><summary><code>{escape(method.upper())} {escape(path)}</code> {escape(operation.get('summary', ''))}</summary>"
        f"<p>{escape(operation.get('description', ''))}</p>{needs}"
        f"{f'<p>Body: {body}</p>' if body else ''}<ul>{parameters}</ul><p>Answers</p><ul>{answers}</ul></details>"
    )


def _references(node: dict[str, Any]) -> str:
    names = [
        str(content["schema"]["$ref"]).rsplit("/", 1)[1]
        for content in node.get("content", {}).values()
        if "$ref" in content.get("schema", {})
    ]
    return ", ".join(f'<a href="#{escape(name)}">{escape(name)}</a>' for name in names)


def _type(name: str, schema: dict[str, Any]) -> str:
    required = set(schema.get("required", []))
    fields = "".join(
        f"<li><code>{escape(field)}</code>{' (required)' if field in required else ''}</li>"
        for field in schema.get("properties", {})
    )
    return f'<h3 id="{escape(name)}">{escape(name)}</h3><p>{escape(schema.get("description", ""))}</p><ul>{fields}</ul>'
