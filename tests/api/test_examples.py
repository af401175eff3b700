"""The examples of the document are bodies that the API takes and answers as their types say; `tools/examples.py` writes them."""

from __future__ import annotations

import json
from typing import Any

from pydantic import TypeAdapter
from tests.api.answers import same
from tests.api.conftest import Service

from sublet.api.contract import EXAMPLES

RENEW = "run `python tools/examples.py`"
WITHOUT = {
    "GET /health": "it says whether it works",
    "GET /v1/shadow": "it takes weeks of history",
}


def test_every_body_and_every_answer_has_an_example_that_fits(service: Service) -> None:
    shown = json.loads(EXAMPLES.read_text(encoding="utf-8"))
    lacking = {f"{method} {path}" for method, path in service.answers} - {
        name for name in shown if "answer" in shown[name]
    }
    assert len(lacking - set(WITHOUT)) < 0.2 * len(service.answers), f"{sorted(lacking)}: {RENEW}"
    bodies = 0
    for route in service.routes():
        for method in route.methods or ():
            example = shown.get(f"{method} {route.path}", {})
            for field in route.dependant.body_params:
                if f"{method} {route.path}" in lacking:
                    continue
                assert "body" in example, f"{method} {route.path} has no example of a body; {RENEW}"
                kind: Any = field.field_info.annotation
                TypeAdapter(kind).validate_json(json.dumps(example["body"]))
                bodies += 1
            if (method, route.path) in service.answers and "answer" in example:
                same(service.answers[(method, route.path)], example["answer"], f"{method} {route.path}; {RENEW}")
    assert bodies > 30


def test_the_document_shows_them_and_no_secret(service: Service) -> None:
    paths = service.api.openapi()["paths"]
    told = [
        operation["operationId"]
        for operations in paths.values()
        for operation in operations.values()
        if "example" in str(operation["responses"].get("200", operation["responses"].get("201", "")))
        and "example" not in operation.get("requestBody", {}).get("content", {}).get("application/json", {"example": 1})
    ]
    assert told == []
    lease = paths["/v1/leases"]["post"]["responses"]["201"]["content"]["application/json"]["example"]
    assert lease["id"].startswith("lse_0000")
    assert not any(secret in EXAMPLES.read_text() for secret in service.keys.values())
